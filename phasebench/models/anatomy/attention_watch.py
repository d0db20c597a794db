"""Watching a model's attention without changing the model.

An attention function registered under a name of our own would silently lose masks, and corrupt models that
check the name. So the names ``sdpa`` and ``eager`` stay, and the functions behind them are wrapped while a
pass runs: the entry of ``sdpa``, and the function that each call passes as its eager one (a model file may
have several). The wrapping is process-wide.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from transformers import AttentionInterface

OutputHook = Callable[[Tensor], Tensor]
"""Called with the attention's output [B, N, H, E]; returns the output that the model continues with."""
Watcher = Callable[..., OutputHook | None]
"""Called as ``watcher(module, query, key, value, attention_mask, kwargs)`` before each attention."""
SDPA = "sdpa"
EAGER = "eager"
EAGER_FUNCTION = "eager_attention_forward"
Attention = Callable[..., Any]


def is_watchable(config: Any) -> bool:
    """Whether a configuration names no other attention than ``sdpa`` and ``eager``."""
    return getattr(config, "_attn_implementation", None) in (None, SDPA, EAGER)


@contextmanager
def watch_attention(watcher: Watcher) -> Iterator[None]:
    """Call ``watcher`` before every attention that runs through ``sdpa`` or ``eager``."""
    native, get_interface = AttentionInterface()[SDPA], AttentionInterface.get_interface

    def get_watched_interface(self: AttentionInterface, name: str | None, default: Attention) -> Attention:
        attention: Attention = get_interface(self, name, default)
        return _wrap(attention, watcher) if name in (None, EAGER) else attention

    AttentionInterface.register(SDPA, _wrap(native, watcher))
    AttentionInterface.get_interface = get_watched_interface
    try:
        yield
    finally:
        AttentionInterface.register(SDPA, native)
        AttentionInterface.get_interface = get_interface


def eager_attention(attention: nn.Module) -> Callable[..., tuple[Tensor, Tensor]]:
    """The ``eager_attention_forward`` of the file that defines ``attention``, or of its ``forward``."""
    kind = type(attention)
    in_file = getattr(sys.modules.get(kind.__module__), EAGER_FUNCTION, None)
    function: Callable[..., tuple[Tensor, Tensor]] = (
        in_file or inspect.unwrap(kind.forward).__globals__[EAGER_FUNCTION]
    )
    return function


def _wrap(native: Attention, watcher: Watcher) -> Attention:
    @functools.wraps(native)
    def attention(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **kwargs: Any
    ) -> Any:
        output_hook = watcher(module, query, key, value, attention_mask, kwargs)
        output, weights = native(module, query, key, value, attention_mask, **kwargs)
        return (output_hook(output) if output_hook else output), weights

    return attention

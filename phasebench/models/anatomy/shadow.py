"""Watching attention without changing a model: what ``sdpa`` and ``eager`` stand for is shadowed.

A registered name of our own would silently lose masks and corrupt models that check the name, so
the names stay and what they stand for is wrapped while a pass runs: the entry of ``sdpa``, and what
each call names as its eager function, which a file may have several of. The wrapping is process-wide.
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

After = Callable[[Tensor], Tensor]
"""Sees the attention's output [B, N, H, E] and gives what the model goes on with."""
Watcher = Callable[..., After | None]
"""Called as ``watcher(module, query, key, value, attention_mask, kwargs)`` before each attention."""
SHADOWED = "sdpa"
EAGER = "eager"
OF_FILE = "eager_attention_forward"
Attention = Callable[..., Any]


def reads(config: Any) -> bool:
    """Whether a configuration names no attention but those that are shadowed."""
    return getattr(config, "_attn_implementation", None) in (None, SHADOWED, EAGER)


@contextmanager
def shadowed_attention(watcher: Watcher) -> Iterator[None]:
    """Call ``watcher`` before every attention that runs through ``sdpa`` or ``eager``."""
    native, choose = AttentionInterface()[SHADOWED], AttentionInterface.get_interface

    def watched(self: AttentionInterface, name: str | None, default: Attention) -> Attention:
        chosen: Attention = choose(self, name, default)
        return _wrapped(chosen, watcher) if name in (None, EAGER) else chosen

    AttentionInterface.register(SHADOWED, _wrapped(native, watcher))
    AttentionInterface.get_interface = watched
    try:
        yield
    finally:
        AttentionInterface.register(SHADOWED, native)
        AttentionInterface.get_interface = choose


def own_eager(attention: nn.Module) -> Callable[..., tuple[Tensor, Tensor]]:
    """The ``eager_attention_forward`` of the file that defines ``attention``, or its ``forward``."""
    kind = type(attention)
    function = getattr(sys.modules.get(kind.__module__), OF_FILE, None)
    found: Callable[..., tuple[Tensor, Tensor]] = (
        function or inspect.unwrap(kind.forward).__globals__[OF_FILE]
    )
    return found


def _wrapped(native: Attention, watcher: Watcher) -> Attention:
    @functools.wraps(native)
    def attention(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **kwargs: Any
    ) -> Any:
        after = watcher(module, query, key, value, attention_mask, kwargs)
        output, weights = native(module, query, key, value, attention_mask, **kwargs)
        return (after(output) if after else output), weights

    return attention

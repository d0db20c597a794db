"""Watching attention without changing a model: the ``sdpa`` and ``eager`` entries are shadowed.

A registered name of our own would silently lose masks and corrupt models that check the name, so
the names stay and their entries are wrapped while a pass runs. The wrapping is process-wide.
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
EAGER = "eager_attention_forward"


def reads(config: Any) -> bool:
    """Whether a configuration names no attention but those that are shadowed."""
    return getattr(config, "_attn_implementation", None) in (None, SHADOWED, "eager")


@contextmanager
def shadowed_attention(watcher: Watcher) -> Iterator[None]:
    """Call ``watcher`` before every attention that runs through ``sdpa`` or ``eager``."""
    interface = AttentionInterface()
    native, own = interface[SHADOWED], AttentionInterface._global_mapping.get("eager")
    AttentionInterface.register(SHADOWED, _wrapped(native, watcher))
    AttentionInterface.register("eager", _wrapped(own, watcher) if own else _eager(watcher))
    try:
        yield
    finally:
        AttentionInterface.register(SHADOWED, native)
        # The class offers no way to take an entry out again, and without it each model file's own
        # eager function is the default.
        AttentionInterface._global_mapping.pop("eager", None)
        if own is not None:  # the caller's own
            AttentionInterface.register("eager", own)


def own_eager(attention: nn.Module) -> Callable[..., tuple[Tensor, Tensor]]:
    """The ``eager_attention_forward`` of the file that defines ``attention``, or its ``forward``."""
    kind = type(attention)
    function = getattr(sys.modules.get(kind.__module__), EAGER, None)
    found: Callable[..., tuple[Tensor, Tensor]] = function or inspect.unwrap(kind.forward).__globals__[EAGER]
    return found


def _wrapped(native: Callable[..., Any], watcher: Watcher) -> Callable[..., Any]:
    @functools.wraps(native)
    def attention(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **kwargs: Any
    ) -> Any:
        after = watcher(module, query, key, value, attention_mask, kwargs)
        output, weights = native(module, query, key, value, attention_mask, **kwargs)
        return (after(output) if after else output), weights

    return attention


def _eager(watcher: Watcher) -> Callable[..., Any]:
    def attention(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **kwargs: Any
    ) -> Any:
        native = own_eager(module)
        return _wrapped(native, watcher)(module, query, key, value, attention_mask, **kwargs)

    return attention

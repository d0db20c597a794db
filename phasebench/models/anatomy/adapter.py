"""The one adapter: where in a transformers model the layers, attentions, final norm and head are.

Nothing here knows a model's name. Parts are found by what transformers declares and by watching one
forward pass go by. What cannot be measured is said in ``Anatomy.unmeasured``.

Shapes: B batch, N positions, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from phasebench.errors import InputError
from phasebench.models.anatomy.parts import (
    encodes,
    find_layers,
    image_token_id,
    marks_images,
    name_of,
    output_head,
    sequence_model,
)
from phasebench.models.anatomy.shadow import reads, shadowed_attention
from phasebench.models.anatomy.trace import Site, Trace
from phasebench.models.devices import lacks_memory, no_room

Inputs = Mapping[str, Tensor]


@dataclass
class Anatomy:
    """The parts of one model that the pass reads.

    Attributes:
        layers: the language model's blocks.
        final_norm: what its states pass between the last block and the head; None if nothing.
        head: the output head; None where no lens is read.
        image_token: placeholder id of image positions; None where the inputs mark them.
        sites: its attention modules whose rows are read.
        vocabulary: how many entries have a logit; a head may be padded beyond.
        never: True for vocabulary entries [V] that the model always masks; None if none.
        unmeasured: 'similarity', 'attention' or 'lens' -> why not, or at which layers not.
    """

    model: Any
    layers: list[nn.Module]
    final_norm: nn.Module | None
    head: nn.Module | None
    image_token: int | None
    sites: dict[nn.Module, Site] = field(default_factory=dict)
    vocabulary: int = 0
    never: Tensor | None = None
    unmeasured: dict[str, str] = field(default_factory=dict)


def dissect(model: Any, inputs: Inputs) -> Anatomy:
    """Find the parts of ``model`` by one forward pass over ``inputs``.

    Raises:
        InputError: the model refuses its inputs, its attention is neither sdpa nor eager, the image is not
            part of the language model's sequence, no layers are found, or its states are not finite.
    """
    if not marks_images(model, inputs):
        raise InputError(f"{name_of(model)}: neither configuration nor inputs tell the image's positions")
    decoder, head = sequence_model(model), output_head(model)
    config: Any = getattr(decoder, "config", None)
    if not reads(config):
        raise InputError(
            f"{name_of(model)}: its attention runs as {config._attn_implementation!r}, which cannot be "
            "observed; call model.set_attn_implementation('sdpa') first"
        )
    layers = find_layers(decoder)
    real_BN = inputs.get("attention_mask")
    trace = Trace(layers, None if real_BN is None else real_BN.bool())
    with ExitStack() as stack:
        stack.callback(trace.remove)
        trace.watch(decoder, None if encodes(model) else head)
        stack.enter_context(shadowed_attention(trace.see_attention))
        try:
            logits = forward(model, inputs)
        except (RuntimeError, ValueError, IndexError, TypeError, MemoryError) as error:
            if lacks_memory(error):
                raise no_room(name_of(model), error) from error
            told = f"{name_of(model)} refuses its own processor's inputs (see --prompt): {error}"
            raise InputError(told) from error
    _refuse_absent_images(model, trace, inputs)
    if trace.broken is not None:
        raise InputError(f"{name_of(model)}, first images: {not_finite(model, layers, trace.broken)}")
    final_norm = nn.Sequential(*trace.tail) if len(trace.tail) > 1 else next(iter(trace.tail), None)
    anatomy = Anatomy(model, layers, final_norm, head, image_token_id(model), dict(trace.sites))
    anatomy.vocabulary, anatomy.never = logits.shape[-1], _never(logits)
    anatomy.unmeasured.update(_unmeasured(anatomy, trace))
    return anatomy


def forward(model: Any, inputs: Inputs, **options: Any) -> Tensor:
    """The logits [B, N, V] of one forward pass without a cache.

    Raises:
        InputError: the model gives none.
    """
    with torch.inference_mode():
        given = model(**inputs, **{**forward_options(model, inputs), **options})
    logits: Tensor | None = getattr(given, "logits", None)
    if logits is None:
        raise InputError(f"{type(model).__name__} gives no logits; give the whole model, not a part of it")
    return logits


def forward_options(model: Any, inputs: Inputs) -> dict[str, Any]:
    """Arguments besides the inputs: no cache, and a first token for the decoder of an encoder-decoder."""
    known = inspect.signature(model.forward).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    options: dict[str, Any] = {"use_cache": False} if "use_cache" in known or takes_any else {}
    if encodes(model) and "decoder_input_ids" not in inputs:
        config = model.config.get_text_config()
        starts = (getattr(config, name, None) for name in ("decoder_start_token_id", "bos_token_id"))
        start = next((token for token in starts if token is not None), 0)
        options["decoder_input_ids"] = torch.full_like(inputs["input_ids"][:, :1], start)
    return options


def _refuse_absent_images(model: Any, trace: Trace, inputs: Inputs) -> None:
    if trace.crosses:
        raise InputError(
            f"{name_of(model)}: its language model looks at the image through cross-attention; "
            "there are no visual tokens in its sequence to measure"
        )
    length = inputs["input_ids"].shape[1]
    if not trace.has(length):
        shapes = ", ".join(str(list(shape)) for shape in trace.shapes[:1])
        raise InputError(
            f"{name_of(model)}: its layers see states {shapes} for {length} input ids; "
            "the image's positions cannot be told"
        )


def not_finite(model: Any, layers: list[nn.Module], layer: int) -> str:
    """What is said of states that are NaN or infinite from ``layer`` on."""
    names = {module: name for name, module in model.named_modules()}
    where = names[layers[layer - 1]] if layer else "what enters the first block"
    return (
        f"states are not finite from layer {layer} ({where}) on; "
        "overflow of the dtype (--dtype float32), or a corrupt weight?"
    )


def _never(logits: Tensor) -> Tensor | None:
    """Vocabulary entries that are masked at every position."""
    masked_V = (logits <= torch.finfo(logits.dtype).min / 2).flatten(0, -2).all(0)
    return masked_V if bool(masked_V.any()) else None


def _unmeasured(anatomy: Anatomy, trace: Trace) -> dict[str, str]:
    """What the anatomy alone rules out."""
    found = {}
    if not trace.one_stream:
        why = f"its layers pass on several streams of states, {list(trace.shapes[0])}"
        found = {"similarity": why, "lens": why}
    elif encodes(anatomy.model):
        found["lens"] = "no readout of an encoder's states is defined"
    elif anatomy.head is None:
        found["lens"] = "no output head (get_output_embeddings() is None)"
    elif anatomy.final_norm is None:
        found["lens"] = "no norm is called between the last layer and the output head"
    return found

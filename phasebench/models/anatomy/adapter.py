"""The one adapter for all models: it finds the layers, attention modules, final norm and head of a model.

There is no code for particular models: the parts are found from what transformers declares and by watching
one forward pass. ``Anatomy.unmeasured`` lists what cannot be measured.

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

from phasebench.errors import InputError, RefusedError, one_line
from phasebench.models.anatomy.attention_watch import is_watchable, watch_attention
from phasebench.models.anatomy.parts import (
    architecture_name,
    coarsest,
    find_layers,
    has_image_positions,
    image_token_id,
    is_encoder_decoder,
    output_head,
    precision,
    sequence_model,
)
from phasebench.models.anatomy.trace import Site, Trace
from phasebench.models.memory import is_out_of_memory, out_of_memory_error

Inputs = Mapping[str, Tensor]


@dataclass
class Anatomy:
    """The parts of one model that the instrumented pass reads.

    Attributes:
        model: the whole model.
        layers: the language model's blocks.
        final_norm: the norm between the last block and the head; None if there is none.
        head: the output head; None if the model has none.
        image_token: the token id of image positions; None if the inputs mark them.
        dtype: the coarsest dtype that blocks compute in: that of their weights, or of an autocast.
        sites: attention modules whose rows are read -> their layers and output projections.
        vocabulary: the number of entries that have a logit; a head may be padded beyond them.
        masked_vocabulary: True for vocabulary entries [V] that the model always masks; None without any.
        unmeasured: 'similarity', 'attention' or 'lens' -> the reason why it is not measured, with the layers
            if it is missing only at some.
    """

    model: Any
    layers: list[nn.Module]
    final_norm: nn.Module | None
    head: nn.Module | None
    image_token: int | None
    dtype: torch.dtype
    sites: dict[nn.Module, Site] = field(default_factory=dict)
    vocabulary: int = 0
    masked_vocabulary: Tensor | None = None
    unmeasured: dict[str, str] = field(default_factory=dict)


def dissect(model: Any, inputs: Inputs) -> Anatomy:
    """Find the parts of ``model`` by one forward pass over ``inputs``.

    Raises:
        RefusedError: the model refuses its inputs.
        InputError: its attention is neither sdpa nor eager, the image is not
            part of the language model's sequence, no layers are found, or its states are not finite.
    """
    name = architecture_name(model)
    if not has_image_positions(model, inputs):
        raise InputError(f"{name}: neither the configuration nor the inputs give the image's positions")
    decoder, head = sequence_model(model), output_head(model)
    _check_attention(name, getattr(decoder, "config", None))
    layers = find_layers(decoder)
    real_BN = inputs.get("attention_mask")
    trace = Trace(layers, None if real_BN is None else real_BN.bool())
    with ExitStack() as stack:
        stack.callback(trace.remove)
        trace.watch(decoder, None if is_encoder_decoder(model) else head)
        stack.enter_context(watch_attention(trace.watch_attention_call))
        try:
            logits = forward(model, inputs)
        except (RuntimeError, ValueError, IndexError, TypeError, MemoryError) as error:
            if is_out_of_memory(error):
                raise out_of_memory_error(name, error) from error
            raise RefusedError(
                f"{name} refuses its own processor's inputs: {one_line(error)}", remedy="prompt"
            ) from error
    _check_image_positions(name, trace, inputs)
    if trace.first_broken is not None:
        message = non_finite_message(model, layers, trace.first_broken)
        raise InputError(f"{name}, first images: {message}", remedy="float32")
    final_norm = nn.Sequential(*trace.tail) if len(trace.tail) > 1 else next(iter(trace.tail), None)
    dtype = coarsest((precision(model), *trace.dtypes))
    anatomy = Anatomy(model, layers, final_norm, head, image_token_id(model), dtype, dict(trace.sites))
    anatomy.vocabulary, anatomy.masked_vocabulary = logits.shape[-1], _masked_entries(logits)
    anatomy.unmeasured.update(_unmeasured(anatomy, trace))
    return anatomy


def _check_attention(name: str, config: Any) -> None:
    if not is_watchable(config):
        raise InputError(
            f"{name}: its attention runs as {config._attn_implementation!r}, which cannot be observed; "
            "call model.set_attn_implementation('sdpa') first"
        )


def forward(model: Any, inputs: Inputs, **options: Any) -> Tensor:
    """The logits [B, N, V] of one forward pass without a cache.

    Raises:
        InputError: the model returns none.
    """
    with torch.no_grad():
        output = model(**inputs, **{**forward_options(model, inputs), **options})
    logits: Tensor | None = getattr(output, "logits", None)
    if logits is None:
        raise InputError(f"{type(model).__name__} gives no logits; give the whole model, not a part of it")
    return logits


def forward_options(model: Any, inputs: Inputs) -> dict[str, Any]:
    """Arguments besides the inputs: no cache, and a first token for the decoder of an encoder-decoder."""
    accepted = inspect.signature(model.forward).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in accepted.values())
    options: dict[str, Any] = {"use_cache": False} if "use_cache" in accepted or takes_any else {}
    if is_encoder_decoder(model) and "decoder_input_ids" not in inputs:
        config = model.config.get_text_config()
        starts = (getattr(config, name, None) for name in ("decoder_start_token_id", "bos_token_id"))
        start = next((token for token in starts if token is not None), 0)
        options["decoder_input_ids"] = torch.full_like(inputs["input_ids"][:, :1], start)
    return options


def _check_image_positions(name: str, trace: Trace, inputs: Inputs) -> None:
    """Check that the image is part of the language model's sequence."""
    if trace.has_cross_attention:
        raise InputError(
            f"{name}: its language model looks at the image through cross-attention; "
            "there are no visual tokens in its sequence to measure"
        )
    length = inputs["input_ids"].shape[1]
    if not trace.has_length(length):
        shapes = ", ".join(str(list(shape)) for shape in trace.shapes[:1])
        raise InputError(
            f"{name}: its layers see states {shapes} for {length} input ids; "
            "the image's positions are unknown"
        )


def non_finite_message(model: Any, layers: list[nn.Module], layer: int) -> str:
    """The message about states that are NaN or infinite from ``layer`` on (0: the first block's input)."""
    names = {module: name for name, module in model.named_modules()}
    where = names[layers[layer - 1]] if layer else "what enters the first block"
    return (
        f"states are not finite from layer {layer} ({where}) on; "
        "overflow of the dtype (float32 may help), or a corrupt weight"
    )


def _masked_entries(logits: Tensor) -> Tensor | None:
    """True for vocabulary entries [V] that are masked at every position; None if there are none."""
    masked_V = (logits <= torch.finfo(logits.dtype).min / 2).flatten(0, -2).all(0)
    return masked_V if bool(masked_V.any()) else None


def _unmeasured(anatomy: Anatomy, trace: Trace) -> dict[str, str]:
    """The parts that cannot be measured because of the model's structure -> the reasons."""
    if not trace.has_one_stream:
        reason = f"its layers pass on several streams of states, {list(trace.shapes[0])}"
        return {"similarity": reason, "lens": reason}
    if is_encoder_decoder(anatomy.model):
        return {"lens": "no readout of an encoder's states is defined"}
    if anatomy.head is None:
        return {"lens": "no output head (get_output_embeddings() is None)"}
    if anatomy.final_norm is None:
        return {"lens": "no norm is called between the last layer and the output head"}
    return {}

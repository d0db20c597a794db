"""The parts that transformers declares: the language model's layers, its head, the image token.

There is no code for particular models, and no function runs the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from phasebench.errors import InputError

PLACEHOLDERS = ("image_token_id", "image_token_index", "media_placeholder_token_id", "video_token_id")
IMAGE_MASK = "image_embeds_position_mask"
"""The input by which Kosmos' processors mark image positions, which have no token id of their own."""
PROJECTORS = (
    "multi_modal_projector", "language_projection", "connector", "aligner", "embed_vision",
    "image_to_text_projection", "multimodal_projector", "merger",
)  # fmt: skip
DEEPSTACK_PROJECTORS = ("deepstack_merger_list", "deepstack_mergers")
"""Projectors of the vision encoder's middle layers: their features are added to the first blocks' states."""


def sequence_model(model: Any) -> nn.Module:
    """The module whose layers carry the visual tokens, without a ForCausalLM around it.

    It is the decoder; for an encoder-decoder language model it is the encoder.

    Raises:
        InputError: the model does not say what its decoder is.
    """
    if not hasattr(model, "get_decoder"):
        raise InputError(
            f"{type(model).__name__} has no get_decoder(); of a wrapper, give the transformers model inside"
        )
    if is_encoder_decoder(model):
        return cast("nn.Module", model.get_encoder())
    decoder = model.get_decoder()
    while hasattr(decoder, "get_decoder") and decoder.get_decoder() is not decoder:
        decoder = decoder.get_decoder()
    return cast("nn.Module", decoder)


def is_encoder_decoder(model: Any) -> bool:
    """Whether the language model is an encoder-decoder."""
    config = model.config
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    return bool(getattr(config, "is_encoder_decoder", False) or getattr(text, "is_encoder_decoder", False))


def find_layers(decoder: nn.Module) -> list[nn.Module]:
    """The decoder's blocks in order: modules of the declared class, else the longest outer ModuleList.

    Raises:
        InputError: it has neither.
    """
    declared = getattr(decoder, "_can_record_outputs", None) or {}
    kind = declared.get("hidden_states")
    kind = getattr(kind, "target_class", kind)
    if isinstance(kind, type):
        layers = [module for module in decoder.modules() if isinstance(module, kind)]
    else:
        lists = [module for module in decoder.modules() if isinstance(module, nn.ModuleList)]
        inner = {
            module for outer in lists for module in outer.modules() if module is not outer
        }  # experts, say
        layers = list(max((candidate for candidate in lists if candidate not in inner), key=len, default=[]))
    if not layers:
        raise InputError(f"{architecture_name(decoder)}: no decoder layers found")
    return layers


def precision(model: Any) -> torch.dtype:
    """The dtype of the largest weight in the language model's first block; other weights may differ."""
    parameters = [p for p in find_layers(sequence_model(model))[0].parameters() if p.is_floating_point()]
    candidates = [p for p in parameters if has_compute_dtype(p)] or parameters
    dtype: torch.dtype = max(candidates, key=torch.Tensor.numel).dtype
    return dtype


def coarsest(dtypes: Iterable[torch.dtype]) -> torch.dtype:
    """The dtype with the largest rounding error among those in which products are computed."""
    computing = [dtype for dtype in dtypes if dtype.is_floating_point and dtype.itemsize > 1]
    return max(computing, key=lambda dtype: torch.finfo(dtype).eps)


def has_compute_dtype(weight: Tensor) -> bool:
    """Whether products are computed in a weight's dtype: 8 bits or fewer are only a storage format."""
    return weight.is_floating_point() and weight.dtype.itemsize > 1


def output_head(model: Any) -> nn.Module | None:
    """The map from states to logits: the model's own, or that of a model inside it."""
    for module in model.modules():
        if hasattr(module, "get_output_embeddings"):
            head = module.get_output_embeddings()
            if head is not None:
                return cast("nn.Module", head)
    return None


def image_token_id(model: Any) -> int | None:
    """The placeholder id that the configuration declares for image positions; None if it declares none."""
    for name in PLACEHOLDERS:
        value = getattr(model.config, name, None)
        if value is not None:
            return int(value)
    return None


def set_image_token(model: Any, token: int) -> None:
    """Declare the placeholder id of image positions, which a configuration left open."""
    for name in PLACEHOLDERS[:2]:
        if hasattr(model.config, name):
            setattr(model.config, name, token)


def has_image_positions(model: Any, inputs: Mapping[str, Tensor]) -> bool:
    """Whether the configuration or the inputs identify the image's positions in the sequence."""
    return image_token_id(model) is not None or inputs.get(IMAGE_MASK) is not None


def find_projector(model: Any) -> nn.Module:
    """The module that maps vision features into the language model's space; if several, a ModuleList.

    Raises:
        InputError: no submodule has a projector's name.
    """
    for ending in PROJECTORS:
        for name, module in model.named_modules():
            if name.rpartition(".")[2] == ending:
                deepstack = [
                    part for path, part in model.named_modules() if path.endswith(DEEPSTACK_PROJECTORS)
                ]
                return nn.ModuleList([module, *deepstack]) if deepstack else cast("nn.Module", module)
    raise InputError(f"{architecture_name(model)}: no projector found", remedy="controls")


def architecture_name(model: nn.Module) -> str:
    """The architecture's name in transformers."""
    return str(getattr(getattr(model, "config", None), "model_type", type(model).__name__))

"""MiniGPT-v2 (Chen et al. 2023): EVA ViT-g at 448 pixels, four patches to a token, Llama-2-7B-chat.

transformers has no such model. Here it is a LLaVA whose tower is BLIP-2's and whose projector is one
linear layer over four neighbouring patches. The official code: https://github.com/Vision-CAIR/MiniGPT-4,
``minigpt4/models/minigpt_v2.py``.

Shapes: B images, P patches, N tokens of an image (P / 4), E width of the vision model, D of the Llama,
R rank of the low-rank weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoModel,
    Blip2VisionConfig,
    Blip2VisionModel,
    LlavaConfig,
    LlavaForConditionalGeneration,
)
from transformers.models.llava.modeling_llava import LlavaModel, LlavaPreTrainedModel

from phasebench.models.converters import shared_parts as parts
from phasebench.models.converters.official_files import (
    Part,
    Piece,
    Shape,
    Source,
    pickle_source,
    shapes_on_meta,
)

PROMPT = "[INST] <Img><image></Img> [caption] Describe this image in detail. [/INST]"
NEIGHBOURS = 4
NORM_EPS = 1e-5
"""Of the norm after the vision model: torch's default, as in the official code. The blocks have 1e-6."""
IMAGE_SIZE = 448
LORA_RANK, LORA_ALPHA = 64, 16
LORA_TARGETS = ("self_attn.q_proj.weight", "self_attn.v_proj.weight")
LLAMA_NAMES = ((r"^model\.language_model\.", "model."),)


class MiniGPTv2Config(LlavaConfig):  # type: ignore[misc]
    """A LLaVA configuration whose vision model is BLIP-2's."""

    model_type = "minigpt_v2"


class FourPatchProjector(nn.Module):
    """The projector: four neighbouring patches of a row, side by side, through one linear layer."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.linear = nn.Linear(NEIGHBOURS * config.vision_config.hidden_size, config.text_config.hidden_size)

    def forward(self, patches_BPE: Tensor) -> Tensor:
        """Image tokens (B, N, D)."""
        B, P, E = patches_BPE.shape
        tokens_BND: Tensor = self.linear(patches_BPE.reshape(B, P // NEIGHBOURS, NEIGHBOURS * E))
        return tokens_BND


class MiniGPTv2Model(LlavaModel):  # type: ignore[misc]
    """LLaVA's model of image and text, with another vision encoder."""

    config_class = MiniGPTv2Config

    def __init__(self, config: Any) -> None:
        LlavaPreTrainedModel.__init__(self, config)  # LlavaModel's own would build another tower first
        self.vision_tower = Blip2VisionModel._from_config(config.vision_config)
        self.vision_tower.post_layernorm.eps = NORM_EPS
        self.multi_modal_projector = FourPatchProjector(config)
        self.language_model = AutoModel.from_config(config.text_config)
        self.post_init()

    get_image_features = parts.projected_image_features


class MiniGPTv2ForConditionalGeneration(LlavaForConditionalGeneration):  # type: ignore[misc]
    """The model with its head."""

    config_class = MiniGPTv2Config

    def __init__(self, config: Any) -> None:
        LlavaPreTrainedModel.__init__(self, config)
        self.model = MiniGPTv2Model(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        self.post_init()


def full_config(text_config: Any, image_token_id: int) -> Any:
    """The published model's configuration, with a Llama's configuration inside."""
    return MiniGPTv2Config(
        vision_config=Blip2VisionConfig(image_size=IMAGE_SIZE),
        text_config=text_config,
        image_token_index=image_token_id,
        image_seq_length=(IMAGE_SIZE // 14) ** 2 // NEIGHBOURS,
        vision_feature_layer=-1,
        token_grid=[IMAGE_SIZE // 14, IMAGE_SIZE // 14 // NEIGHBOURS],
        architectures=["MiniGPTv2ForConditionalGeneration"],
    )


def table(config: Any, entries: int, grid: int = parts.EVA_GRID, rank: int = LORA_RANK) -> list[Piece]:
    """Every tensor of the written model and its source; ``entries`` is the size of the Llama's vocabulary."""
    shapes = shapes_on_meta(MiniGPTv2ForConditionalGeneration, config)
    llama = {
        name: shape
        for name, shape in shapes.items()
        if name.startswith(("model.language_model.", "lm_head."))
    }
    pieces = list(parts.eva_pieces(shapes, "model.vision_tower.", grid))
    pieces += _untrained_norm(shapes)
    pieces += [_with_lora(piece, rank) for piece in parts.language_pieces(llama, LLAMA_NAMES, entries)]
    for kind in ("weight", "bias"):
        name = f"model.multi_modal_projector.linear.{kind}"
        pieces.append(Piece(name, shapes[name], [Part("checkpoint", f"llama_proj.{kind}", shapes[name])]))
    return pieces


def _untrained_norm(shapes: dict[str, Shape]) -> Iterator[Piece]:
    """The norm after the vision model, at its initial values: the official code freezes it untrained."""
    for kind, fill in (("weight", torch.ones), ("bias", torch.zeros)):
        name = f"model.vision_tower.post_layernorm.{kind}"
        yield Piece(name, shapes[name], (), partial(fill, shapes[name]))


def _with_lora(piece: Piece, rank: int) -> Piece:
    """The piece; if it has low-rank weights, with these merged in."""
    (base,) = piece.parts
    if not base.name.endswith(LORA_TARGETS):
        return piece
    stem = f"llama_model.base_model.model.{base.name.removesuffix('.weight')}"
    down = Part("checkpoint", f"{stem}.lora_A.weight", (rank, piece.shape[1]))
    up = Part("checkpoint", f"{stem}.lora_B.weight", (piece.shape[0], rank))
    return Piece(piece.name, piece.shape, [base, down, up], with_low_rank_update)


def with_low_rank_update(base_DD: Tensor, down_RD: Tensor, up_DR: Tensor) -> Tensor:
    """A weight with its low-rank update added, scaled by alpha / rank, in the base's precision."""
    return parts.low_rank_update(base_DD, down_RD, up_DR, scale=LORA_ALPHA / down_RD.shape[0])


def read_checkpoint(path: Path) -> Source:
    """MiniGPT-v2's checkpoint; later releases of peft put the adapter's name, ``default``, into names."""
    source = pickle_source(path, section="model", unused=r"llama_model\..*\.rotary_emb\.inv_freq")
    originals = {name.replace(".default.weight", ".weight"): name for name in source.shapes}
    shapes = {name: source.shapes[original] for name, original in originals.items()}
    return Source(path, shapes, lambda name: source.read(originals[name]), source.unused)


def convert(
    vit: Path,
    language_model: Path,
    checkpoint: Path,
    out: Path,
    *,
    size_config: Any = None,
    rank: int = LORA_RANK,
) -> Path:
    """Write MiniGPT-v2 as a standard folder.

    Args:
        vit: BLIP-2's ``eva_vit_g.pth``; its positions are interpolated to 448 pixels.
        language_model: a folder with Llama-2-7B-chat.
        checkpoint: MiniGPT-v2's, with its linear layer and low-rank weights.
        out: the folder to make.
        size_config: a configuration whose vision model has other sizes than the published one.
        rank: of the low-rank weights.

    Raises:
        InputError: a file is missing or is not the expected one; the message names it.
    """
    text = parts.language_config(language_model, "llama")
    entries = text.vocab_size
    tokenizer = parts.image_tokenizer(language_model, **parts.LLAMA_SPACES)
    config = full_config(text, parts.add_image_token(text, tokenizer))
    if size_config is not None:
        config.vision_config, config.image_seq_length = (
            size_config.vision_config,
            size_config.image_seq_length,
        )
    vision = config.vision_config
    # the file is for half the side of the model's images
    pieces = table(config, entries, vision.image_size // vision.patch_size // 2, rank)
    sources = {
        "vit": pickle_source(vit, unused=parts.eva_unused_pattern(vision.num_hidden_layers)),
        "language": parts.language_source(language_model),
        "checkpoint": read_checkpoint(checkpoint),
    }
    images = parts.eva_image_processor(vision.image_size)
    template = parts.chat_template("[INST] ", " [/INST]")
    processor = parts.llava_processor(images, tokenizer, config.image_seq_length, vision.image_size, template)
    return parts.write_folder(out, config, processor, PROMPT, pieces, sources)

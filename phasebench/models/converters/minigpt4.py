"""MiniGPT-4 (Zhu et al. 2023) as a stock ``Blip2ForConditionalGeneration`` with a Llama in it.

Its vision encoder and Q-Former are BLIP-2's, unchanged; its own part is one linear layer. The official code:
https://github.com/Vision-CAIR/MiniGPT-4, ``minigpt4/models/minigpt4.py``.

One number differs, as in every stock BLIP-2: transformers adds 1e-6 to the variance in the norm after the
vision model, the official code 1e-5.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import Blip2Config, Blip2ForConditionalGeneration, Blip2QFormerConfig, Blip2VisionConfig

from phasebench.models.converters import shared_parts as parts
from phasebench.models.converters.lavis import TEXT_BRANCH_UNUSED, projection_pieces, qformer_pieces
from phasebench.models.converters.official_files import Piece, pickle_source, shapes_on_meta

PROMPT = "###Human: <Img><image></Img> Describe this image in detail. ###Assistant: "
"""The template and the first alignment prompt of the official evaluation, with <image> for <ImageHere>."""
CHECKPOINT_UNUSED = r"Qformer\.bert\.embeddings\.position_ids|llama_model\..*\.rotary_emb\.inv_freq"
"""Buffers. The official code means to save trained parameters, but leaves out only frozen *parameters*."""


def full_config(text_config: Any, image_token_id: int) -> Any:
    """The published model's configuration, with a Llama's configuration inside."""
    return Blip2Config(
        vision_config=Blip2VisionConfig(),
        qformer_config=Blip2QFormerConfig(),
        text_config=text_config,
        image_token_index=image_token_id,
        architectures=["Blip2ForConditionalGeneration"],
    )


def table(config: Any, entries: int, grid: int = parts.EVA_GRID) -> list[Piece]:
    """Every tensor of the written model and its source; ``entries`` is the size of the Llama's vocabulary."""
    shapes = shapes_on_meta(Blip2ForConditionalGeneration, config)
    llama = {name: shape for name, shape in shapes.items() if name.startswith("language_model.")}
    pieces = list(parts.eva_pieces(shapes, "vision_model.", grid))
    pieces += parts.language_pieces(llama, [(r"^language_model\.", "")], entries)
    return [*pieces, *qformer_pieces(shapes, "qformer"), *projection_pieces(shapes, "llama_proj")]


def convert(
    vit: Path, qformer: Path, language_model: Path, checkpoint: Path, out: Path, *, size_config: Any = None
) -> Path:
    """Write MiniGPT-4 as a standard folder.

    Args:
        vit: BLIP-2's ``eva_vit_g.pth``.
        qformer: BLIP-2's ``blip2_pretrained_flant5xxl.pth``.
        language_model: a folder with Vicuna.
        checkpoint: MiniGPT-4's ``pretrained_minigpt4.pth``.
        out: the folder to make.
        size_config: a configuration whose vision model and Q-Former have other sizes than the published ones.

    Raises:
        InputError: a file is missing or is not the expected one; the message names it.
    """
    text = parts.language_config(language_model, "llama")
    entries = text.vocab_size
    tokenizer = parts.image_tokenizer(language_model, **parts.LLAMA_SPACES)
    config = full_config(text, parts.add_image_token(text, tokenizer))
    if size_config is not None:
        config.vision_config, config.qformer_config = size_config.vision_config, size_config.qformer_config
        config.num_query_tokens = size_config.num_query_tokens
    vision = config.vision_config
    pieces = table(config, entries, vision.image_size // vision.patch_size)
    sources = {
        "vit": pickle_source(vit, unused=parts.eva_unused_pattern(vision.num_hidden_layers)),
        "qformer": pickle_source(qformer, section="model", unused=TEXT_BRANCH_UNUSED),
        "language": parts.language_source(language_model),
        "checkpoint": pickle_source(checkpoint, section="model", unused=CHECKPOINT_UNUSED),
    }
    images = parts.eva_image_processor(vision.image_size)
    template = parts.chat_template("###Human: ", " ###Assistant: ")
    processor = parts.llava_processor(images, tokenizer, config.num_query_tokens, vision.image_size, template)
    return parts.write_folder(out, config, processor, PROMPT, pieces, sources)

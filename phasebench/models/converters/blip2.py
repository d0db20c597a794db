"""BLIP-2 with OPT (Li et al. 2023) from LAVIS' files, as ``Blip2ForConditionalGeneration``.

LAVIS publishes the Q-Former and the projection; vision encoder and language model are other files. The
official code: https://github.com/salesforce/LAVIS, ``lavis/models/blip2_models/blip2_opt.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    Blip2QFormerConfig,
    Blip2VisionConfig,
)

from phasebench.models.converters import shared_parts as parts
from phasebench.models.converters.lavis import (
    TEXT_BRANCH_UNUSED,
    projection_pieces,
    qformer_pieces,
    read_sources,
)
from phasebench.models.converters.official_files import Piece, Source, shapes_on_meta

PROMPT = "a photo of"


def table(config: Any, entries: int, grid: int, language: Source) -> list[Piece]:
    """Every tensor of the written model and its source; the head is OPT's table of tokens.

    Args:
        config: the written model's configuration.
        entries: size of OPT's vocabulary.
        grid: patches per side in the vision encoder's file.
        language: OPT's weights, whose names begin with ``model.`` in some releases.
    """
    shapes = shapes_on_meta(Blip2ForConditionalGeneration, config)
    prefix = "model." if any(name.startswith("model.decoder.") for name in language.shapes) else ""
    opt = {name: shape for name, shape in shapes.items() if name.startswith("language_model.model.")}
    pieces = list(parts.eva_pieces(shapes, "vision_model.", grid))
    pieces += parts.language_pieces(opt, [(r"^language_model\.model\.", prefix)], entries)
    return [*pieces, *qformer_pieces(shapes, "checkpoint"), *projection_pieces(shapes, "opt_proj")]


def convert(
    checkpoint: Path,
    language_model: Path,
    out: Path,
    vit: Path | None = None,
    *,
    sizes: Mapping[str, Any] | None = None,
) -> Path:
    """Write BLIP-2 as a standard folder.

    Args:
        checkpoint: LAVIS' ``blip2_pretrained_opt2.7b.pth``, or the one for 6.7B.
        language_model: a folder with OPT of that size.
        out: the folder to make.
        vit: ``eva_vit_g.pth``, unless the checkpoint has a vision encoder.
        sizes: values in the configuration in place of the published ones.

    Raises:
        InputError: a file is missing or is not the expected one; the message names it.
    """
    text = parts.language_config(language_model, "opt")
    entries = text.vocab_size
    tokenizer = parts.image_tokenizer(language_model)
    config = Blip2Config(
        vision_config=Blip2VisionConfig(),
        qformer_config=Blip2QFormerConfig(),
        text_config=text,
        image_token_index=parts.add_image_token(text, tokenizer),
        architectures=["Blip2ForConditionalGeneration"],
    )
    for name, value in (sizes or {}).items():
        setattr(config, name, value)
    vision = config.vision_config
    sources = read_sources(checkpoint, vit, vision.num_hidden_layers, TEXT_BRANCH_UNUSED)
    sources["language"] = language = parts.language_source(language_model, r"lm_head\.weight")
    processor = Blip2Processor(
        parts.eva_image_processor(vision.image_size), tokenizer, num_query_tokens=config.num_query_tokens
    )
    pieces = table(config, entries, vision.image_size // vision.patch_size, language)
    return parts.write_folder(out, config, processor, None, pieces, sources)

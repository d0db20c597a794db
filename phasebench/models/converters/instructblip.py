"""InstructBLIP with Vicuna (Dai et al. 2023) from LAVIS' files, as ``InstructBlipForConditionalGeneration``.

LAVIS publishes the Q-Former and the projection; vision encoder and language model are other files. The
official code: https://github.com/salesforce/LAVIS, ``lavis/models/blip2_models/blip2_vicuna_instruct.py``.

As in the checkpoints that transformers' authors converted, the norm after the vision encoder adds 1e-6 to the
variance, the official code 1e-5.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoTokenizer,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    InstructBlipProcessor,
    InstructBlipQFormerConfig,
    InstructBlipVisionConfig,
)

from phasebench.errors import InputError
from phasebench.models.converters import shared_parts as parts
from phasebench.models.converters.lavis import projection_pieces, qformer_pieces, read_sources
from phasebench.models.converters.official_files import Piece, shapes_on_meta

PROMPT = "Write a short description for the image."
BOS = "</s>"
"""LAVIS makes every special token of the language model this one, so prompts begin with it."""
QFORMER_BOS = "[DEC]"
UNUSED = r"Qformer\.cls\..*|Qformer\.bert\.embeddings\.position_ids|temp|itm_head\..*|(vision|text)_proj\..*"
"""What is left of the Q-Former's own training."""


def table(config: Any, entries: int, grid: int) -> list[Piece]:
    """Every tensor of the written model and its source; ``entries`` is the size of the Llama's vocabulary."""
    shapes = shapes_on_meta(InstructBlipForConditionalGeneration, config)
    llama = {name: shape for name, shape in shapes.items() if name.startswith("language_model.")}
    pieces = list(parts.eva_pieces(shapes, "vision_model.", grid))
    pieces += parts.language_pieces(llama, [(r"^language_model\.", "")], entries)
    return [*pieces, *qformer_pieces(shapes, "checkpoint"), *projection_pieces(shapes, "llm_proj")]


def full_config(text: Any, image_token: int, qformer_entries: int) -> InstructBlipConfig:
    """The published model's configuration, with a Llama's configuration inside."""
    return InstructBlipConfig(
        vision_config=InstructBlipVisionConfig(),
        qformer_config=InstructBlipQFormerConfig(vocab_size=qformer_entries),
        text_config=text,
        image_token_index=image_token,
        architectures=["InstructBlipForConditionalGeneration"],
    )


def convert(
    checkpoint: Path,
    language_model: Path,
    qformer_tokenizer: Path,
    out: Path,
    vit: Path | None = None,
    *,
    sizes: Mapping[str, Any] | None = None,
) -> Path:
    """Write InstructBLIP as a standard folder.

    Args:
        checkpoint: LAVIS' ``instruct_blip_vicuna7b_trimmed.pth``, or the one for 13B.
        language_model: a folder with Vicuna 1.1 of that size.
        qformer_tokenizer: a folder with the tokenizer of bert-base-uncased.
        out: the folder to make.
        vit: BLIP-2's ``eva_vit_g.pth``, unless the checkpoint has a vision encoder.
        sizes: values in the configuration in place of the published ones.

    Raises:
        InputError: a file is missing or is not the expected one; the message names it.
    """
    text = parts.language_config(language_model, "llama")
    entries = text.vocab_size
    tokenizer = _tokenizer(language_model)
    words = _qformer_tokenizer(qformer_tokenizer)
    config = full_config(text, parts.add_image_token(text, tokenizer), len(words))
    for name, value in (sizes or {}).items():
        setattr(config, name, value)
    vision = config.vision_config
    sources = read_sources(checkpoint, vit, vision.num_hidden_layers, UNUSED)
    sources["language"] = parts.language_source(language_model)
    images = parts.eva_image_processor(vision.image_size)
    processor = InstructBlipProcessor(images, tokenizer, words, num_query_tokens=config.num_query_tokens)
    pieces = table(config, entries, vision.image_size // vision.patch_size)
    return parts.write_folder(out, config, processor, None, pieces, sources)


def _tokenizer(folder: Path) -> Any:
    special = {"bos_token": BOS, "eos_token": BOS, "unk_token": BOS, "truncation_side": "left"}
    tokenizer = parts.image_tokenizer(folder, **special)
    bos = [(BOS, tokenizer.convert_tokens_to_ids(BOS))]
    begin = TemplateProcessing(single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=bos)
    tokenizer.backend_tokenizer.post_processor = begin
    return tokenizer


def _qformer_tokenizer(folder: Path) -> Any:
    """The Q-Former's tokenizer, with the entry that LAVIS adds.

    Raises:
        InputError: there is none.
    """
    if not any((folder / file).is_file() for file in ("tokenizer.json", "vocab.txt")):
        raise InputError(f"{folder} contains no tokenizer; give the one of bert-base-uncased")
    tokenizer = AutoTokenizer.from_pretrained(folder, truncation_side="left")
    tokenizer.add_special_tokens({"bos_token": QFORMER_BOS})
    return tokenizer

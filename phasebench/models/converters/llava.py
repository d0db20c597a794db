"""LLaVA 1 and 1.5 (Liu et al. 2023) from the layout of its own program, as ``LlavaForConditionalGeneration``.

Its checkpoints are whole (the vision encoder may be among the weights), or a projector beside an unchanged
language model (after the first stage of training), or low-rank weights and a projector beside it. The
official code: https://github.com/haotian-liu/LLaVA, ``llava/model/builder.py``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)
from transformers.models.auto.image_processing_auto import AutoImageProcessor

from phasebench.errors import InputError, one_line
from phasebench.models.checks import ORIGINAL_LLAVA, has_whole_weights, read_json
from phasebench.models.converters import shared_parts as parts
from phasebench.models.converters.official_files import (
    Part,
    Piece,
    Shape,
    Source,
    folder_source,
    pickle_source,
    rename,
    shapes_on_meta,
    single_source,
)

PROMPT = "USER: <image>\nDescribe the image. ASSISTANT:"
MARKED = "<im_start><image><im_end>"
"""What stands for the image if the configuration says ``mm_use_im_start_end``."""
TEMPLATE = (
    "USER: {% for part in messages[0]['content'] %}{% if part['type'] == 'image' %}<image>\n{% else %}"
    "{{ part['text'] }}{% endif %}{% endfor %} ASSISTANT:"
)
MODEL_TYPES = ("llava", "llava_llama")
"""What LLaVA's releases write as ``model_type``; those around other language models have other names."""
ACTIVATIONS = {"linear": "linear", "mlp2x_gelu": "gelu"}
"""``mm_projector_type`` -> the activation between the two linear layers that transformers always has."""
SELECTED = {"patch": "default", "cls_patch": "full"}
"""``mm_vision_select_feature`` -> transformers' name for it."""
PROJECTOR, LOW_RANK = "mm_projector.bin", "non_lora_trainables.bin"
"""Files of the two layouts that need a language model."""
WRITTEN_NAMES = (
    (r"^model\.language_model\.", "language_model.model."),
    (r"^lm_head\.", "language_model.lm_head."),
    (r"^model\.multi_modal_projector\.", "multi_modal_projector."),
    (r"^model\.vision_tower\.(vision_model\.)?", "vision_tower.vision_model."),
)
"""From the names of transformers' module to those of the checkpoints that llava-hf publishes."""
TOWER = "model.vision_tower.vision_tower."
CLIP_UNUSED = r"text_model\..*|logit_scale|(text|visual)_projection\.weight|.*\.position_ids"
"""The text half of a CLIP, and buffers that are computed now."""


def text_config(config: Mapping[str, Any]) -> LlamaConfig:
    """The language model's part of LLaVA's configuration, which is a Llama's with more entries."""
    known = {*LlamaConfig().to_dict(), "rope_theta", "rope_scaling"} - {"model_type", "architectures"}
    return LlamaConfig(**{name: value for name, value in config.items() if name in known})


def check_kind(folder: Path, config: Mapping[str, Any]) -> None:
    """Check that a configuration is of a LLaVA that transformers' LLaVA can hold.

    Raises:
        InputError: it is not LLaVA's, or of a variant with other parts.
    """
    path = folder / "config.json"
    if ORIGINAL_LLAVA not in config:
        raise InputError(f"{path} is not of LLaVA's own program: it has no {ORIGINAL_LLAVA}")
    if config.get("model_type") not in MODEL_TYPES:
        raise InputError(f"{path}: a LLaVA around {config.get('model_type')!r}; only Llamas are converted")
    if config.get("mm_patch_merge_type", "flat") != "flat" or config.get("image_aspect_ratio") == "anyres":
        raise InputError(
            f"{path} is of LLaVA 1.6, which takes pictures in tiles; give llava-hf's converted checkpoint"
        )
    for name, known, default in (
        ("mm_projector_type", ACTIVATIONS, "linear"),
        ("mm_vision_select_feature", SELECTED, "patch"),
    ):
        if config.get(name, default) not in known:
            raise InputError(f"{path}: {name} is {config[name]!r}; known are {', '.join(known)}")


def full_config(config: Mapping[str, Any], clip: Path, text: Any, image_token: int) -> LlavaConfig:
    """transformers' configuration for LLaVA's own one."""
    vision = CLIPVisionConfig.from_pretrained(clip, local_files_only=True)
    return LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=image_token,
        image_seq_length=(vision.image_size // vision.patch_size) ** 2,
        projector_hidden_act=ACTIVATIONS[config.get("mm_projector_type", "linear")],
        vision_feature_layer=config.get("mm_vision_select_layer", -2),
        vision_feature_select_strategy=SELECTED[config.get("mm_vision_select_feature", "patch")],
        architectures=["LlavaForConditionalGeneration"],
    )


def table(config: LlavaConfig, entries: int, sources: Mapping[str, Source]) -> Iterator[Piece]:
    """Every tensor of the written model and its source; ``entries`` is the size of the vocabulary."""
    shapes = shapes_on_meta(LlavaForConditionalGeneration, config)
    language = {
        name: shape for name, shape in shapes.items() if "language_model." in name or "lm_head" in name
    }
    rules = [(r"^model\.language_model\.", "model.")]
    for piece in parts.language_pieces(language, rules, entries):
        yield _written(_with_low_rank(piece, sources))
    for name, shape in shapes.items():
        if name.startswith("model.multi_modal_projector."):
            yield _written(_projector_piece(name, shape, config))
        elif name.startswith("model.vision_tower."):
            source = "vision" if "vision" in sources else "checkpoint"
            official = rename(
                name, [WRITTEN_NAMES[-1], (r"^vision_tower\.", "" if source == "vision" else TOWER)]
            )
            yield _written(Piece(name, shape, [Part(source, official, shape)]))


def _written(piece: Piece) -> Piece:
    return Piece(rename(piece.name, WRITTEN_NAMES), piece.shape, piece.parts, piece.make)


def _projector_piece(name: str, shape: Shape, config: LlavaConfig) -> Piece:
    """A tensor of the projector; where LLaVA has one layer alone, the second one changes nothing."""
    layer, kind = name.split(".")[-2:]
    if config.projector_hidden_act != "linear":
        number = {"linear_1": 0, "linear_2": 2}[layer]
        return Piece(name, shape, [Part("projector", f"model.mm_projector.{number}.{kind}", shape)])
    if layer == "linear_1":
        return Piece(name, shape, [Part("projector", f"model.mm_projector.{kind}", shape)])
    return Piece(
        name, shape, (), partial(torch.eye, *shape[:1]) if kind == "weight" else partial(torch.zeros, shape)
    )


def _with_low_rank(piece: Piece, sources: Mapping[str, Source]) -> Piece:
    """The piece; if there are low-rank weights for it, with these merged in."""
    adapter = sources.get("adapter")
    (base,) = piece.parts
    names = [base.name.replace(".weight", f".lora_{side}.weight") for side in "AB"]
    if adapter is None or names[0] not in adapter.shapes:
        return piece
    rank = adapter.shapes[names[0]][0]
    down, up = (
        Part("adapter", names[0], (rank, piece.shape[1])),
        Part("adapter", names[1], (piece.shape[0], rank)),
    )
    update = partial(parts.low_rank_update, scale=_scale(adapter.path, rank))
    return Piece(piece.name, piece.shape, [base, down, up], update)


def _scale(folder: Path, rank: int) -> float:
    """What peft multiplies a low-rank update by.

    Raises:
        InputError: it differs from weight to weight.
    """
    config = read_json(folder / "adapter_config.json")
    if config.get("alpha_pattern"):
        path = folder / "adapter_config.json"
        raise InputError(f"{path}: alpha_pattern is not read; merge it with LLaVA's program")
    return float(config["lora_alpha"]) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def read_sources(checkpoint: Path, clip: Path, language_model: Path | None) -> dict[str, Source]:
    """The official files: ``language``, ``projector``, and ``vision`` or ``adapter`` where they are needed.

    Raises:
        InputError: files are missing, or the checkpoint needs a language model beside it.
    """
    beside = next((file for file in (LOW_RANK, PROJECTOR) if (checkpoint / file).is_file()), None)
    if language_model is None:
        if beside and not has_whole_weights(checkpoint):
            raise InputError(
                f"{checkpoint} has {beside} but no language model; name it with --language-model"
            )
        whole = folder_source(checkpoint, unused=rf"{parts.LANGUAGE_UNUSED}|.*\.position_ids")
        return _split(whole, clip)
    if beside is None:
        raise InputError(f"{checkpoint} has neither {LOW_RANK} nor {PROJECTOR}; leave out --language-model")
    projector = _without_prefix(pickle_source(checkpoint / beside))
    sources = {
        "language": parts.language_source(language_model),
        "projector": projector,
        "vision": _clip(clip),
    }
    if beside == LOW_RANK:
        sources["adapter"] = _without_prefix(single_source(checkpoint, "adapter_model"))
    return sources


def _split(whole: Source, clip: Path) -> dict[str, Source]:
    """Whole weights as the sources that they would be in files of their own."""

    def part(prefixes: tuple[str, ...]) -> Source:
        shapes = {name: shape for name, shape in whole.shapes.items() if name.startswith(prefixes)}
        return Source(whole.path, shapes, whole.read, whole.unused)

    tower, projector = part((TOWER,)), part(("model.mm_projector",))
    rest = whole.shapes.keys() - tower.shapes.keys() - projector.shapes.keys()
    language = Source(whole.path, {name: whole.shapes[name] for name in rest}, whole.read, whole.unused)
    vision = {"checkpoint": tower} if tower.shapes else {"vision": _clip(clip)}
    return {"language": language, "projector": projector, **vision}


def _clip(clip: Path) -> Source:
    return folder_source(clip, unused=CLIP_UNUSED)


def _without_prefix(source: Source) -> Source:
    """A source with the names of the model inside peft's and the trainer's wrappers."""
    originals = {rename(name, [(r"^base_model\.model\.", "")]): name for name in source.shapes}
    shapes = {name: source.shapes[original] for name, original in originals.items()}
    return Source(source.path, shapes, lambda name: source.read(originals[name]), source.unused)


def convert(checkpoint: Path, clip: Path, out: Path, language_model: Path | None = None) -> Path:
    """Write a LLaVA as a standard folder.

    Args:
        checkpoint: the folder that LLaVA's own program wrote.
        clip: a folder with the CLIP that its configuration names, in the Hugging Face layout.
        out: the folder to make.
        language_model: the language model that the checkpoint's projector or low-rank weights belong to.

    Raises:
        InputError: a file is missing or is not the expected one; the message names it.
    """
    original = read_json(checkpoint / "config.json")
    check_kind(checkpoint, original)
    for file in ("config.json", "preprocessor_config.json"):
        if not (clip / file).is_file():
            raise InputError(
                f"{clip / file} is missing; give {original[ORIGINAL_LLAVA]} in the Hugging Face layout"
            )
    text = parts.language_config(language_model, "llama") if language_model else text_config(original)
    entries = text.vocab_size
    has_tokenizer = any((checkpoint / file).is_file() for file in parts.TOKENIZERS)
    tokenizer = parts.image_tokenizer(
        checkpoint if has_tokenizer or language_model is None else language_model, **parts.LLAMA_SPACES
    )
    config = full_config(original, clip, text, parts.add_image_token(text, tokenizer))
    sources = read_sources(checkpoint, clip, language_model)
    pieces = list(table(config, entries, sources))
    image = MARKED if original.get("mm_use_im_start_end") else parts.IMAGE_TOKEN
    processor = _processor(clip, tokenizer, config, TEMPLATE.replace(parts.IMAGE_TOKEN, image))
    return parts.write_folder(
        out, config, processor, PROMPT.replace(parts.IMAGE_TOKEN, image), pieces, sources
    )


def _processor(clip: Path, tokenizer: Any, config: LlavaConfig, template: str) -> LlavaProcessor:
    try:
        images = AutoImageProcessor.from_pretrained(clip, local_files_only=True)
    except (OSError, ValueError, ImportError) as error:
        raise InputError(f"{clip / 'preprocessor_config.json'} cannot be read: {one_line(error)}") from error
    return LlavaProcessor(
        images, tokenizer, patch_size=config.vision_config.patch_size, num_additional_image_tokens=1,
        vision_feature_select_strategy=config.vision_feature_select_strategy, chat_template=template,
    )  # fmt: skip

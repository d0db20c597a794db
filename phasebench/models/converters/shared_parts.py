"""Parts of a conversion that the models share: EVA, language models, tokenizers, writing the folder.

Shapes: V entries of the vocabulary, D width, P positions of the vision encoder (CLS, then a grid of H by
W patches), S an axis of length 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import AddedToken
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoConfig, AutoTokenizer, BlipImageProcessor, LlavaProcessor

from phasebench.errors import InputError
from phasebench.files import make_folder_once
from phasebench.models.converters.official_files import (
    Part,
    Piece,
    Shape,
    Source,
    check_sources,
    folder_source,
    input_errors,
    rename,
    write_weights,
)

IMAGE_TOKEN = "<image>"  # noqa: S105 - a placeholder, no password
EVA_GRID = 16
"""EVA ViT-g is published for 224 pixels in patches of 14: its position table has 16 by 16 entries and CLS."""
EVA_NAMES = (
    (r"^embeddings\.class_embedding$", "cls_token"),
    (r"^embeddings\.position_embedding$", "pos_embed"),
    (r"^embeddings\.patch_embedding\.", "patch_embed.proj."),
    (r"^encoder\.layers\.", "blocks."),
    (r"\.layer_norm(\d)\.", r".norm\1."),
    (r"\.self_attn\.qkv\.", ".attn.qkv."),
    (r"\.self_attn\.projection\.", ".attn.proj."),
)
LLAMA_SPACES = {"legacy": True}
"""Puts a space in front of the text after an image too: the official code tokenises that text by itself."""
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")
LANGUAGE_UNUSED = r".*\.rotary_emb\.inv_freq|transformer\.h\.\d+\.attn\.(bias|masked_bias)"
"""Buffers that earlier releases of transformers saved with Llama and GPT-J; both are computed now."""


def eva_unused_pattern(depth: int) -> str:
    """Pattern of unneeded names in ``eva_vit_g.pth``: a block beyond ``depth``, norms and the head.

    BLIP-2 reads EVA's features before its last block, so the file has 40 of them and the model 39.
    """
    return rf"blocks\.{depth}\..*|(norm|fc_norm|head)\.(weight|bias)|mask_token"


def eva_pieces(shapes: Mapping[str, Shape], prefix: str, grid: int = EVA_GRID) -> Iterator[Piece]:
    """The vision model's pieces, without its last norm, from the source ``vit``.

    Args:
        shapes: of the written model's tensors.
        prefix: of the ``Blip2VisionModel`` in their names.
        grid: patches per side in the file. A position table of another size is interpolated, as in the
            official code.
    """
    for name, shape in shapes.items():
        inner = name.removeprefix(prefix)
        if inner == name or inner.startswith("post_layernorm."):
            continue
        official = rename(inner, EVA_NAMES)
        if inner.endswith("qkv.bias"):
            biases = [Part("vit", official.replace("qkv.bias", bias), (shape[0] // 3,)) for bias in BIASES]
            yield Piece(name, shape, biases, joined_biases)
        elif official == "pos_embed":
            part = Part("vit", official, (1, grid * grid + 1, shape[-1]))
            yield Piece(name, shape, [part], partial(resized_positions, positions=shape[1]))
        else:
            yield Piece(name, shape, [Part("vit", official, shape)])


BIASES = ("q_bias", "v_bias")


def joined_biases(query_D: Tensor, value_D: Tensor) -> Tensor:
    """One bias of query, key and value from EVA's two; its keys have no bias."""
    return torch.cat([query_D, torch.zeros_like(query_D), value_D])


def resized_positions(table_SPD: Tensor, positions: int) -> Tensor:
    """The position table for another number of positions: patches bicubically interpolated, CLS unchanged."""
    if table_SPD.shape[1] == positions:
        return table_SPD
    cls_SSD, patches_SPD = table_SPD[:, :1].float(), table_SPD[:, 1:].float()
    old, new = round(patches_SPD.shape[1] ** 0.5), round((positions - 1) ** 0.5)
    grid_SDHW = patches_SPD.reshape(1, old, old, -1).permute(0, 3, 1, 2)
    grid_SDHW = F.interpolate(grid_SDHW, size=(new, new), mode="bicubic", align_corners=False)
    return torch.cat([cls_SSD, grid_SDHW.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


def language_config(folder: Path, model_type: str) -> Any:
    """The configuration in a language model's folder.

    Raises:
        InputError: there is no configuration, or it is of another architecture.
    """
    if not (folder / "config.json").is_file():
        raise InputError(
            f"{folder / 'config.json'} is missing; give a language model in the Hugging Face layout"
        )
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{folder / 'config.json'} cannot be read: {error}") from error
    if config.model_type != model_type:
        raise InputError(f"{folder} contains a {config.model_type!r} model; a {model_type!r} model is needed")
    return config


def language_source(folder: Path, ignored: str = "") -> Source:
    """The weights in a language model's folder, from older and newer releases of transformers.

    ``ignored`` is a pattern of further names that the written model does not need.
    """
    return folder_source(folder, unused=f"{LANGUAGE_UNUSED}|{ignored}" if ignored else LANGUAGE_UNUSED)


def language_pieces(
    shapes: Mapping[str, Shape], rules: Sequence[tuple[str, str]], entries: int
) -> Iterator[Piece]:
    """The pieces of the language model and its head, from the source ``language``.

    Args:
        shapes: of the language model's tensors in the written model.
        rules: (pattern, replacement) pairs that turn a written name into the official name.
        entries: size of the official model's vocabulary.
    """
    for name, shape in shapes.items():
        official = rename(name, rules)
        if official.startswith("lm_head.") or official.endswith(("embed_tokens.weight", "wte.weight")):
            part = Part("language", official, (entries, *shape[1:]))
            yield Piece(name, shape, [part], partial(extended_vocabulary, entries=shape[0]))
        else:
            yield Piece(name, shape, [Part("language", official, shape)])


def extended_vocabulary(table_VD: Tensor, entries: int) -> Tensor:
    """A vocabulary's table with more entries, each the mean of the official entries.

    The placeholder of image positions gets such an entry. As an embedding it is overwritten with image
    features; in the head its logit is the mean of all logits, so that it is never the model's answer.
    """
    missing = entries - table_VD.shape[0]
    if not missing:
        return table_VD
    mean_SD = table_VD.float().mean(0, keepdim=True).to(table_VD.dtype)
    return torch.cat([table_VD, mean_SD.expand(missing, *mean_SD.shape[1:])])


def low_rank_update(base_DD: Tensor, down_RD: Tensor, up_DR: Tensor, *, scale: float) -> Tensor:
    """A weight with its low-rank update added, in the weight's precision."""
    return (base_DD.float() + up_DR.float() @ down_RD.float() * scale).to(base_DD.dtype)


def image_tokenizer(folder: Path, **options: Any) -> Any:
    """The language model's tokenizer with ``<image>`` added, padding on the left.

    Raises:
        InputError: the folder has no tokenizer, or it cannot be read.
    """
    if not any((folder / file).is_file() for file in TOKENIZERS):  # some classes would make an empty one
        raise InputError(f"{folder} contains no tokenizer ({', '.join(TOKENIZERS)})")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left", **options)
    except (OSError, ValueError, KeyError, ImportError, TypeError) as error:
        raise InputError(
            f"{folder}: its tokenizer cannot be read: {error} (for a tokenizer.model transformers needs "
            f"sentencepiece and protobuf; a tokenizer.json needs neither)"
        ) from error
    tokenizer.add_tokens([AddedToken(IMAGE_TOKEN, normalized=False, special=True)], special_tokens=True)
    tokenizer.init_kwargs.update(options)  # these are saved; transformers 5.23 alone forgets ``legacy``
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.unk_token or tokenizer.eos_token
    return tokenizer


def add_image_token(text_config: Any, tokenizer: Any) -> int:
    """Extend the vocabulary of ``text_config`` by ``<image>`` if necessary; the token's id."""
    text_config.vocab_size = max(text_config.vocab_size, len(tokenizer))
    return int(tokenizer.convert_tokens_to_ids(IMAGE_TOKEN))


def projected_image_features(self: Any, pixel_values: Tensor, **_: Any) -> Any:
    """``get_image_features`` for a LLaVA with another vision encoder: the class token is dropped.

    The vision model's output, whose ``pooler_output`` is a list of the image tokens [N, D] of each image.
    """
    output = self.vision_tower(pixel_values)
    output.pooler_output = list(self.multi_modal_projector(output.last_hidden_state[:, 1:]))
    return output


def eva_image_processor(size: int) -> Any:
    """The image processor of BLIP-2-like models: a square of ``size``, bicubic, CLIP's mean and deviation."""
    return BlipImageProcessor(size={"height": size, "width": size})


def llava_processor(images: Any, tokenizer: Any, tokens: int, size: int, template: str) -> Any:
    """A stock processor that puts ``tokens`` image tokens where a prompt says ``<image>``.

    ``LlavaProcessor`` counts patches: here one patch as large as the image; the other tokens are additional.
    """
    return LlavaProcessor(
        images, tokenizer, patch_size=size, num_additional_image_tokens=tokens - 1,
        vision_feature_select_strategy="full", chat_template=template,
    )  # fmt: skip


def chat_template(before: str, after: str) -> str:
    """A chat template of one user message: its image and text between the texts ``before`` and ``after``."""
    loop = (
        "{% for part in messages[0]['content'] %}{% if part['type'] == 'image' %}<Img><image></Img> "
        "{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    )
    return f"{before}{loop}{after}"


def check_splitting(folder: Path, prompt: str) -> None:
    """Check that the tokenizer saved in ``folder`` splits the text around an image as if it stood alone.

    The official models were trained and run with such a split.

    Raises:
        InputError: the tokenizer splits the text differently after an image.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder)
    before, after = prompt.split(IMAGE_TOKEN)
    image = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    after_ids = tokenizer(after, add_special_tokens=False)["input_ids"]
    if tokenizer(prompt)["input_ids"] != [*tokenizer(before)["input_ids"], image, *after_ids]:
        raise InputError(
            f"the language model's tokenizer, as transformers {transformers.__version__} saves it, splits "
            f"{after!r} differently after an image than alone; use the original model's tokenizer.json"
        )


def write_folder(
    out: Path,
    config: Any,
    processor: Any,
    prompt: str | None,
    pieces: Sequence[Piece],
    sources: Mapping[str, Source],
) -> Path:
    """Check the sources, then write weights, configuration and processor; a failure leaves nothing behind.

    ``prompt`` is None if the processor puts the image tokens before the text, which is then split alone.

    Raises:
        InputError: ``out`` exists already, the sources do not fit the pieces, or the tokenizer does not split
            ``prompt`` at its image.
    """
    if out.exists():
        raise InputError(f"{out} exists already; name a new folder")
    check_sources(pieces, sources)

    def fill(folder: Path) -> None:
        with input_errors(out, "written"):
            config.save_pretrained(folder)
            processor.save_pretrained(folder)
        if prompt is not None:
            check_splitting(folder, prompt)
        with input_errors(out, "written"):
            write_weights(folder, pieces, sources)

    return make_folder_once(out, fill, f"{out} cannot be written", remedy="")

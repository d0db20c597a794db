"""What the converters share: EVA's tensors, language models, their tokenizers, the written folder.

Shapes: V entries of the vocabulary, D width, P positions of the vision encoder (one is CLS), in a
grid of H by W without it; S is one.
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
from phasebench.files import made_once
from phasebench.models.converters.official import (
    Part,
    Piece,
    Shape,
    Source,
    hf_folder,
    refused,
    renamed,
    verified,
    write_weights,
)

IMAGE_TOKEN = "<image>"  # noqa: S105 - a placeholder, no password
EVA_GRID = 16
"""EVA ViT-g was published for 224 pixels in patches of 14: its position table has 16 by 16 places and CLS."""
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
"""A space in front of the text behind an image too: the official code tokenises it by itself."""
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")
LANGUAGE_UNUSED = r".*\.rotary_emb\.inv_freq|transformer\.h\.\d+\.attn\.(bias|masked_bias)"
"""Buffers that earlier releases of transformers saved with Llama and GPT-J; both are computed now."""


def eva_unused(depth: int) -> str:
    """Pattern of what ``eva_vit_g.pth`` holds beyond ``depth`` blocks: one more block, norms and the head.

    BLIP-2 reads EVA's features before its last block, so the file has 40 of them and the model 39.
    """
    return rf"blocks\.{depth}\..*|(norm|fc_norm|head)\.(weight|bias)|mask_token"


def eva_pieces(shapes: Mapping[str, Shape], prefix: str, grid: int = EVA_GRID) -> Iterator[Piece]:
    """The vision model's pieces, without its last norm, from the source ``vit``.

    Args:
        shapes: of the written model.
        prefix: of the ``Blip2VisionModel`` in it.
        grid: patches a side in the file; another position table is interpolated, as the official code does.
    """
    for name, shape in shapes.items():
        inner = name.removeprefix(prefix)
        if inner == name or inner.startswith("post_layernorm."):
            continue
        official = renamed(inner, EVA_NAMES)
        if inner.endswith("qkv.bias"):
            thirds = [Part("vit", official.replace("qkv.bias", bias), (shape[0] // 3,)) for bias in BIASES]
            yield Piece(name, shape, thirds, joined_bias)
        elif official == "pos_embed":
            part = Part("vit", official, (1, grid * grid + 1, shape[-1]))
            yield Piece(name, shape, [part], partial(resized_positions, positions=shape[1]))
        else:
            yield Piece(name, shape, [Part("vit", official, shape)])


BIASES = ("q_bias", "v_bias")


def joined_bias(query_D: Tensor, value_D: Tensor) -> Tensor:
    """EVA's two biases as one of query, key and value; its keys have none."""
    return torch.cat([query_D, torch.zeros_like(query_D), value_D])


def resized_positions(table_SPD: Tensor, positions: int) -> Tensor:
    """The position table for another number of positions: bicubic over the patches, CLS as it is."""
    if table_SPD.shape[1] == positions:
        return table_SPD
    cls_SSD, patches_SPD = table_SPD[:, :1].float(), table_SPD[:, 1:].float()
    old, new = round(patches_SPD.shape[1] ** 0.5), round((positions - 1) ** 0.5)
    grid_SDHW = patches_SPD.reshape(1, old, old, -1).permute(0, 3, 1, 2)
    grid_SDHW = F.interpolate(grid_SDHW, size=(new, new), mode="bicubic", align_corners=False)
    return torch.cat([cls_SSD, grid_SDHW.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)


def language_config(folder: Path, model_type: str) -> Any:
    """The configuration of a language model's folder.

    Raises:
        InputError: there is none, or it is of another architecture.
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
        raise InputError(f"{folder} holds a {config.model_type!r} model; a {model_type!r} model is needed")
    return config


def language_source(folder: Path) -> Source:
    """The weights of a Llama or GPT-J folder, old or new."""
    return hf_folder(folder, unused=LANGUAGE_UNUSED)


def language_pieces(
    shapes: Mapping[str, Shape], rules: Sequence[tuple[str, str]], entries: int
) -> Iterator[Piece]:
    """The pieces of the language model and its head, from the source ``language``.

    Args:
        shapes: of the language model's tensors in the written model.
        rules: turn a written name into the official one.
        entries: the vocabulary of the official model.
    """
    for name, shape in shapes.items():
        official = renamed(name, rules)
        if official.startswith("lm_head.") or official.endswith(("embed_tokens.weight", "wte.weight")):
            part = Part("language", official, (entries, *shape[1:]))
            yield Piece(name, shape, [part], partial(grown, entries=shape[0]))
        else:
            yield Piece(name, shape, [Part("language", official, shape)])


def grown(table_VD: Tensor, entries: int) -> Tensor:
    """A vocabulary's table with more entries, each the mean of the official ones.

    The placeholder of image positions gets one: it is overwritten on the way in, and on the way out its
    logit is the mean of all logits, so that it never becomes the model's answer.
    """
    lacking = entries - table_VD.shape[0]
    if not lacking:
        return table_VD
    mean_SD = table_VD.float().mean(0, keepdim=True).to(table_VD.dtype)
    return torch.cat([table_VD, mean_SD.expand(lacking, *mean_SD.shape[1:])])


def image_tokenizer(folder: Path, **options: Any) -> Any:
    """The language model's tokenizer with ``<image>`` added, padding on the left.

    Raises:
        InputError: the folder holds none, or none that can be read.
    """
    if not any((folder / file).is_file() for file in TOKENIZERS):  # some classes then make an empty one
        raise InputError(f"{folder} holds no tokenizer ({', '.join(TOKENIZERS)})")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left", **options)
    except (OSError, ValueError, KeyError, ImportError, TypeError) as error:
        raise InputError(
            f"{folder}: its tokenizer cannot be read: {error} (for a tokenizer.model transformers needs "
            f"sentencepiece and protobuf; a tokenizer.json needs neither)"
        ) from error
    tokenizer.add_tokens([AddedToken(IMAGE_TOKEN, normalized=False, special=True)], special_tokens=True)
    tokenizer.init_kwargs.update(options)  # what is saved; transformers 5.23 by itself forgets ``legacy``
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.unk_token or tokenizer.eos_token
    return tokenizer


def with_image_token(text_config: Any, tokenizer: Any) -> int:
    """The id of ``<image>``; the vocabulary of ``text_config`` grows to hold it."""
    text_config.vocab_size = max(text_config.vocab_size, len(tokenizer))
    return int(tokenizer.convert_tokens_to_ids(IMAGE_TOKEN))


def eyes_projected(self: Any, pixel_values: Tensor, **_: Any) -> Any:
    """``get_image_features`` of a LLaVA around another vision encoder: the class token is dropped.

    The vision model's output, with its ``pooler_output`` the image tokens of each image (N, D).
    """
    output = self.vision_tower(pixel_values)
    output.pooler_output = list(self.multi_modal_projector(output.last_hidden_state[:, 1:]))
    return output


def eva_images(size: int) -> Any:
    """What BLIP-2 and its kin do to an image: a square of ``size``, bicubic, CLIP's mean and deviation."""
    return BlipImageProcessor(size={"height": size, "width": size})


def processor(images: Any, tokenizer: Any, tokens: int, size: int, template: str) -> Any:
    """A stock processor that puts ``tokens`` image tokens where a prompt says ``<image>``.

    ``LlavaProcessor`` counts patches; one patch as large as the image leaves the rest to the additional ones.
    """
    return LlavaProcessor(
        images, tokenizer, patch_size=size, num_additional_image_tokens=tokens - 1,
        vision_feature_select_strategy="full", chat_template=template,
    )  # fmt: skip


def chat_template(before: str, after: str) -> str:
    """A template of one user message: its image and text between the family's own words."""
    loop = (
        "{% for part in messages[0]['content'] %}{% if part['type'] == 'image' %}<Img><image></Img> "
        "{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    )
    return f"{before}{loop}{after}"


def check_splitting(folder: Path, prompt: str) -> None:
    """Check that the tokenizer saved in ``folder`` reads the text around an image as if it stood alone.

    That is how the official models were trained and run.

    Raises:
        InputError: it does not.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder)
    before, after = prompt.split(IMAGE_TOKEN)
    image = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    apart = [*tokenizer(before)["input_ids"], image, *tokenizer(after, add_special_tokens=False)["input_ids"]]
    if tokenizer(prompt)["input_ids"] != apart:
        raise InputError(
            f"the language model's tokenizer, as transformers {transformers.__version__} saves it, reads "
            f"{after!r} otherwise behind an image than alone; take the tokenizer.json of the original model"
        )


def write_folder(
    out: Path, config: Any, made_by: Any, prompt: str, pieces: Sequence[Piece], sources: Mapping[str, Source]
) -> Path:
    """Verify, then write weights, configuration and processor; nothing is left behind by a failure.

    Raises:
        InputError: ``out`` is there already, the sources are not what the pieces need, or the tokenizer
            does not split ``prompt`` at its image.
    """
    if out.exists():
        raise InputError(f"{out} is there already; name a new folder")
    verified(pieces, sources)

    def fill(folder: Path) -> None:
        with refused(out, "written"):
            config.save_pretrained(folder)
            made_by.save_pretrained(folder)
        check_splitting(folder, prompt)
        with refused(out, "written"):
            write_weights(folder, pieces, sources)

    return made_once(out, fill, f"{out} cannot be written")

"""Faults of image tokens, of the prompt and of the tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.faults.kinds import BLIP, FIRST, IMAGES, LAYOUT, PROMPT, TEXT, files, memory
from tests.faults.patient import Patient, Tensors, edit_json, random_weights_like, set_value


@files("image tokens too many or too few in the prompt", "{:+d}", (1, -1, 5), LAYOUT)
def miscount_image_tokens(folder: Path, extra_tokens: int) -> None:
    set_value(folder / "processor_config.json", "num_additional_image_tokens", value=1 + extra_tokens)


@files("image tokens too many or too few in the prompt", "{:+d}", (1, -1, 5), LAYOUT, BLIP)
def miscount_queries(folder: Path, extra_tokens: int) -> None:
    set_value(folder / "processor_config.json", "num_query_tokens", value=16 + extra_tokens)


@memory("image tokens shifted", "by {}", (1, 6, 18), FIRST)
def shift_image_tokens(patient: Patient, shift: int) -> None:
    patient.features(lambda features: features.roll(shift, dims=-2))


def _order(kind: str, count: int) -> Tensor:
    order, side = torch.arange(count), round(count**0.5)
    if kind == "two neighbours swapped":
        order[[0, 1]] = order[[1, 0]]
        return order
    if kind == "columns before rows":
        return order.view(side, side).T.reshape(-1)
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))


@memory(
    "image tokens in another order",
    "{}",
    ("two neighbours swapped", "columns before rows", "at random"),
    FIRST,
)
def reorder_image_tokens(patient: Patient, kind: str) -> None:
    patient.features(lambda features: features[..., _order(kind, features.shape[-2]), :])


@memory("image tokens lost (zero)", "{} of them", (1, 6, 18), IMAGES)
def lose_image_tokens(patient: Patient, count: int) -> None:
    def drop(features: Tensor) -> Tensor:
        changed = features.clone()
        changed[..., :count, :] = 0
        return changed

    patient.features(drop)


def replace_in_prompt(patient: Patient, old: str, new: str) -> None:
    """Another prompt, as another chat template would render it; a known model's own is fixed."""
    prompt = patient.loaded.prompt
    if old not in prompt:
        raise ValueError(f"{prompt!r} lacks {old!r}")
    patient.set(patient.loaded, "prompt", prompt.replace(old, new, 1))


START, END, IMAGE = "<|im_start|>", "<|im_end|>", "<image>\n"
LINE = "<|im_start|>user\n"


@memory("image tokens elsewhere", "{}", ("no line after them", "after the text", "before BOS"), LAYOUT)
def move_image_placeholder(patient: Patient, place: str) -> None:
    replace_in_prompt(patient, IMAGE, "<image>" if place == "no line after them" else "")
    if place == "after the text":
        replace_in_prompt(patient, END, "<image>" + END)
    elif place == "before BOS":
        replace_in_prompt(patient, START, "<image>" + START)


@memory(
    "another chat template",
    "{}",
    (
        ("'User' for 'user'", LINE, "<|im_start|>User\n"),
        ("no line after the role", LINE, "<|im_start|>user "),
        ("Vicuna's", LINE, "USER: "),
    ),
    PROMPT,
)
def replace_template(patient: Patient, value: tuple[str, str, str]) -> None:
    replace_in_prompt(patient, *value[1:])


@memory(
    "end of the prompt",
    "{}",
    (("no last line end", "assistant\n", "assistant"), ("no answer begun", "<|im_start|>assistant\n", "")),
    LAYOUT,
)
def change_prompt_end(patient: Patient, value: tuple[str, str, str]) -> None:
    replace_in_prompt(patient, *value[1:])


@memory("BOS doubled or lost", "{} of them", (0, 2, 3), LAYOUT)
def repeat_bos(patient: Patient, count: int) -> None:
    replace_in_prompt(patient, START, START * count)


@memory(
    "a system prompt before",
    "{}",
    ("You are helpful.", "You are a helpful assistant named SmolLM, trained by Hugging Face."),
    LAYOUT,
)
def add_system_prompt(patient: Patient, text: str) -> None:
    replace_in_prompt(patient, START, f"<|im_start|>system\n{text}<|im_end|>\n{START}")


@files("token ids shifted by one", "from id {} on", (5000, 500, 20), TEXT)
def renumber_tokens(folder: Path, start: int) -> None:
    def change(tokenizer: dict[str, Any]) -> None:
        vocabulary = tokenizer["model"]["vocab"]
        last = max(vocabulary.values())
        tokenizer["model"]["vocab"] = {
            word: start if number == last else number + (number >= start)
            for word, number in vocabulary.items()
        }

    edit_json(folder / "tokenizer.json", change)


@files("a tokenizer's merge lost", "the {}th", (20000, 300))
def lose_merge(folder: Path, number: int) -> None:
    edit_json(folder / "tokenizer.json", lambda config: config["model"]["merges"].pop(number - 1))


@files("special tokens lost", "{}", ("<|im_end|>", "<|im_start|>", "both"), LAYOUT)
def lose_special_tokens(folder: Path, tokens: str) -> None:
    lost_tokens = {"<|im_end|>", "<|im_start|>"} if tokens == "both" else {tokens}

    def forget_tokens(config: dict[str, Any]) -> None:
        config["added_tokens"] = [
            token for token in config["added_tokens"] if token["content"] not in lost_tokens
        ]

    def rename_tokens(config: dict[str, Any]) -> None:
        for name, token in config.items():
            if name.endswith("_token") and token in lost_tokens:
                config[name] = "<|endoftext|>"

    edit_json(folder / "tokenizer.json", forget_tokens)
    edit_json(folder / "tokenizer_config.json", rename_tokens)


@memory("embeddings resized with garbage", "{} more", (8, 512, 8192))
def extend_embeddings(patient: Patient, extra_rows: int) -> None:
    """Tied as they are, the new rows stand in the head too."""
    embeddings = patient.embeddings.weight
    patient.set_parameter(embeddings, torch.cat([embeddings, random_weights_like(embeddings[:extra_rows])]))


@memory("embeddings of the prompt's commonest words damaged", "first {} ids", (5, 100, 1000))
def damage_embeddings(patient: Patient, count: int) -> None:
    embeddings = patient.embeddings.weight.clone()
    embeddings[:count] = random_weights_like(embeddings[:count])
    patient.set_parameter(patient.embeddings.weight, embeddings)


@memory("padding before the prompt that no mask hides", "{} tokens", (1, 4, 16), LAYOUT)
def add_unmasked_padding(patient: Patient, count: int) -> None:
    token = patient.loaded.processor.tokenizer.pad_token_id

    def pad(inputs: Tensors) -> Tensors:
        for name, value in (("input_ids", token), ("attention_mask", 1)):
            inputs[name] = torch.nn.functional.pad(inputs[name], (count, 0), value=value)
        return inputs

    patient.tensors(pad)


def with_positions(change: Callable[[Tensor], Tensor]) -> Callable[[Tensors], Tensors]:
    """Inputs with these positions instead of 0, 1, 2, ..."""

    def add(inputs: Tensors) -> Tensors:
        inputs["position_ids"] = change(torch.arange(inputs["input_ids"].shape[1])[None])
        return inputs

    return add


@memory("positions wrong", "the later half {} too far", (1, 8, 64), FIRST)
def skip_positions(patient: Patient, shift: int) -> None:
    patient.tensors(with_positions(lambda ids_BN: ids_BN + shift * (ids_BN >= ids_BN.shape[1] // 2)))


@memory("positions counted twice over", "every {}. position twice", (16, 4, 2), FIRST)
def repeat_positions(patient: Patient, interval: int) -> None:
    patient.tensors(
        with_positions(lambda ids_BN: ids_BN - torch.div(ids_BN, interval, rounding_mode="floor"))
    )

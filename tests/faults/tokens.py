"""Faults of image tokens, of the prompt and of the tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.faults.kinds import BLIP, FIRST, IMAGES, LAYOUT, PROMPT, TEXT, files, memory
from tests.faults.patient import Patient, Tensors, alike, edit, setting


@files("image tokens too many or too few in the prompt", "{:+d}", (1, -1, 5), LAYOUT)
def counted(folder: Path, more: int) -> None:
    setting(folder / "processor_config.json", "num_additional_image_tokens", value=1 + more)


@files("image tokens too many or too few in the prompt", "{:+d}", (1, -1, 5), LAYOUT, BLIP)
def queries_counted(folder: Path, more: int) -> None:
    setting(folder / "processor_config.json", "num_query_tokens", value=16 + more)


@memory("image tokens shifted", "by {}", (1, 6, 18), FIRST)
def shifted(patient: Patient, by: int) -> None:
    patient.features(lambda features: features.roll(by, dims=-2))


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
def ordered(patient: Patient, kind: str) -> None:
    patient.features(lambda features: features[..., _order(kind, features.shape[-2]), :])


@memory("image tokens lost (zero)", "{} of them", (1, 6, 18), IMAGES)
def lost(patient: Patient, count: int) -> None:
    def drop(features: Tensor) -> Tensor:
        kept = features.clone()
        kept[..., :count, :] = 0
        return kept

    patient.features(drop)


def reworded(patient: Patient, old: str, new: str) -> None:
    """Another prompt, as another chat template would render it; a known model's own is fixed."""
    prompt = patient.loaded.prompt
    if old not in prompt:
        raise ValueError(f"{prompt!r} lacks {old!r}")
    patient.set(patient.loaded, "prompt", prompt.replace(old, new, 1))


START, END, IMAGE = "<|im_start|>", "<|im_end|>", "<image>\n"
LINE = "<|im_start|>user\n"


@memory("image tokens elsewhere", "{}", ("no line after them", "after the text", "before BOS"), LAYOUT)
def elsewhere(patient: Patient, where: str) -> None:
    reworded(patient, IMAGE, "<image>" if where == "no line after them" else "")
    if where == "after the text":
        reworded(patient, END, "<image>" + END)
    elif where == "before BOS":
        reworded(patient, START, "<image>" + START)


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
def templated(patient: Patient, value: tuple[str, str, str]) -> None:
    reworded(patient, *value[1:])


@memory(
    "end of the prompt",
    "{}",
    (("no last line end", "assistant\n", "assistant"), ("no answer begun", "<|im_start|>assistant\n", "")),
    LAYOUT,
)
def ended(patient: Patient, value: tuple[str, str, str]) -> None:
    reworded(patient, *value[1:])


@memory("BOS doubled or lost", "{} of them", (0, 2, 3), LAYOUT)
def bos(patient: Patient, count: int) -> None:
    reworded(patient, START, START * count)


@memory(
    "a system prompt before",
    "{}",
    ("You are helpful.", "You are a helpful assistant named SmolLM, trained by Hugging Face."),
    LAYOUT,
)
def system(patient: Patient, text: str) -> None:
    reworded(patient, START, f"<|im_start|>system\n{text}<|im_end|>\n{START}")


@files("token ids shifted by one", "from id {} on", (5000, 500, 20), TEXT)
def renumbered(folder: Path, start: int) -> None:
    def change(found: dict[str, Any]) -> None:
        vocabulary = found["model"]["vocab"]
        last = max(vocabulary.values())
        found["model"]["vocab"] = {
            word: start if number == last else number + (number >= start)
            for word, number in vocabulary.items()
        }

    edit(folder / "tokenizer.json", change)


@files("special tokens lost", "{}", ("<|im_end|>", "<|im_start|>", "both"), LAYOUT)
def unspecial(folder: Path, which: str) -> None:
    gone = {"<|im_end|>", "<|im_start|>"} if which == "both" else {which}

    def forget(found: dict[str, Any]) -> None:
        found["added_tokens"] = [one for one in found["added_tokens"] if one["content"] not in gone]

    def rename(found: dict[str, Any]) -> None:
        for name, token in found.items():
            if name.endswith("_token") and token in gone:
                found[name] = "<|endoftext|>"

    edit(folder / "tokenizer.json", forget)
    edit(folder / "tokenizer_config.json", rename)


@memory("embeddings resized with garbage", "{} more", (8, 512, 8192))
def resized(patient: Patient, more: int) -> None:
    """Tied as they are, the new rows stand in the head too."""
    known = patient.embeddings.weight
    patient.put(known, torch.cat([known, alike(known[:more])]))


@memory("embeddings of the prompt's commonest words damaged", "first {} ids", (5, 100, 1000))
def damaged(patient: Patient, count: int) -> None:
    known = patient.embeddings.weight.clone()
    known[:count] = alike(known[:count])
    patient.put(patient.embeddings.weight, known)


@memory("padding before the prompt that no mask hides", "{} tokens", (1, 4, 16), LAYOUT)
def unmasked(patient: Patient, count: int) -> None:
    token = patient.loaded.processor.tokenizer.pad_token_id

    def pad(found: Tensors) -> Tensors:
        for name, value in (("input_ids", token), ("attention_mask", 1)):
            found[name] = torch.nn.functional.pad(found[name], (count, 0), value=value)
        return found

    patient.tensors(pad)


def positioned(change: Callable[[Tensor], Tensor]) -> Callable[[Tensors], Tensors]:
    """Inputs with these positions instead of 0, 1, 2, ..."""

    def add(found: Tensors) -> Tensors:
        found["position_ids"] = change(torch.arange(found["input_ids"].shape[1])[None])
        return found

    return add


@memory("positions wrong", "the later half {} too far", (1, 8, 64), FIRST)
def jumped(patient: Patient, by: int) -> None:
    patient.tensors(positioned(lambda ids_BN: ids_BN + by * (ids_BN >= ids_BN.shape[1] // 2)))


@memory("positions counted twice over", "every {}. position twice", (16, 4, 2), FIRST)
def stalled(patient: Patient, every: int) -> None:
    patient.tensors(positioned(lambda ids_BN: ids_BN - torch.div(ids_BN, every, rounding_mode="floor")))

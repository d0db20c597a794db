"""Loading a checkpoint: weights, processor, and the identity of what was loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor

from phasebench.errors import InputError
from phasebench.models.kin import register_for
from phasebench.models.registry import DEFAULT_PROMPT, ModelSpec

BLOCK = 1 << 20


@dataclass
class Loaded:
    """A model ready to be measured."""

    name: str
    model: Any
    """A transformers image-text-to-text model, in evaluation mode."""
    processor: Any
    prompt: str
    checkpoint: str
    """Digest of the configuration and weight files."""

    @property
    def device(self) -> torch.device:
        """Where its inputs go."""
        found: torch.device = next(self.model.parameters()).device
        return found

    @property
    def dtype(self) -> torch.dtype:
        """The precision of its weights."""
        found: torch.dtype = next(self.model.parameters()).dtype
        return found

    def inputs(self, images: Sequence[Image.Image]) -> dict[str, Tensor]:
        """The processor's tensors for these images, each with the prompt.

        Raises:
            InputError: the processor refuses; the message has its reason.
        """
        texts = [self.prompt] * len(images)
        try:
            batch: Mapping[str, Tensor] = self.processor(
                images=list(images), text=texts, padding=True, return_tensors="pt"
            )
        except ValueError as error:
            raise InputError(
                f"the processor refuses the prompt {self.prompt!r} (see --prompt): {error}"
            ) from error
        return {
            key: value.to(self.device, self.dtype if value.is_floating_point() else None)
            for key, value in batch.items()
        }


def pick_device(device: str) -> torch.device:
    """The torch device that ``--device`` names; ``auto`` is the accelerator, if there is one."""
    if device != "auto":
        try:
            return torch.empty(0, device=device).device
        except (RuntimeError, AssertionError) as error:
            raise InputError(f"--device {device}: {str(error).splitlines()[0]}") from error
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return accelerator or torch.device("cpu")


def pick_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The precision that ``--dtype`` names; ``auto`` is bfloat16 off the CPU, float32 on it."""
    if dtype == "auto":
        dtype = "float32" if device.type == "cpu" else "bfloat16"
    found: torch.dtype = getattr(torch, dtype)
    return found


def load(
    spec: ModelSpec, cache: Path, *, device: str = "auto", dtype: str = "auto", prompt: str | None = None
) -> Loaded:
    """Load ``spec``'s checkpoint with stock transformers classes, from local safetensors only.

    Raises:
        InputError: the folder cannot be loaded; the message names it and says what transformers said.
    """
    folder = spec.folder(cache)
    if not list(folder.glob("*.safetensors")):
        raise InputError(f"--model {spec.name}: no *.safetensors in {folder}; pickled weights are not read")
    place = pick_device(device)
    precision = pick_dtype(dtype, place)
    register_for(folder)
    try:
        model, info = AutoModelForImageTextToText.from_pretrained(
            folder, dtype=precision, local_files_only=True, output_loading_info=True
        )
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        raise InputError(f"--model {spec.name}: cannot load {folder}: {error}") from error
    if lacking := sorted([*info["missing_keys"], *(str(key) for key in info["mismatched_keys"])]):
        told = ", ".join(lacking[:3]) + (f" and {len(lacking) - 3} more" if len(lacking) > 3 else "")
        raise InputError(f"--model {spec.name}: {folder} lacks weights or has them in other shapes: {told}")
    model = model.eval().requires_grad_(requires_grad=False).to(place)
    return Loaded(spec.name, model, processor, prompt or spec.prompt or _prompt(processor), digest(folder))


def _prompt(processor: Any) -> str:
    """The chat template's rendering of one image and a request, or the plain default.

    BLIP-like processors put the image tokens before the prompt themselves.
    """
    if not getattr(processor, "chat_template", None):
        return (
            DEFAULT_PROMPT.replace("<image>\n", "")
            if hasattr(processor, "num_query_tokens")
            else DEFAULT_PROMPT
        )
    content = [{"type": "image"}, {"type": "text", "text": "Describe the image."}]
    message = [{"role": "user", "content": content}]
    return str(processor.apply_chat_template(message, add_generation_prompt=True))


def digest(folder: Path) -> str:
    """Hex digest of a checkpoint's configuration and weights, sixteen characters."""
    state = hashlib.blake2b(digest_size=8)
    for path in sorted([folder / "config.json", *folder.glob("*.safetensors")]):
        state.update(path.name.encode())
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                state.update(block)
    return state.hexdigest()

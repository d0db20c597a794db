"""Adapters (peft): folders with changes of a model's weights, which are merged into their base in memory."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from phasebench.errors import TRANSFORMERS_ERRORS, InputError
from phasebench.models.checks import (
    PROCESSORS,
    TOKENIZERS,
    check_unread_files,
    check_weight_files,
    read_json,
    summary_of_names,
)
from phasebench.models.incomplete import check_contents, text_files
from phasebench.settings import Settings

CONFIG = "adapter_config.json"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
"""The file names from which peft reads an adapter's weights, in its order."""


def is_adapter(folder: Path) -> bool:
    """Whether a folder has an adapter and no model's weights beside it."""
    if not (folder / CONFIG).is_file():
        return False
    patterns = ("model*.safetensors*", "pytorch_model*.bin*")
    return not any(True for pattern in patterns for _ in folder.glob(pattern))


def check_adapter(folder: Path, settings: Settings) -> None:
    """Check an adapter's files, and that peft is installed, before anything is loaded.

    Raises:
        InputError: a file is missing, damaged or not read, or peft is not installed.
    """
    check_contents(text_files(folder))
    read_json(folder / CONFIG)
    weights = _weights(folder)
    check_unread_files(folder, adapter_files(folder))
    if not weights:
        raise InputError(f"{folder} has {CONFIG}, but no {WEIGHTS[0]}; save the adapter again")
    if weights.suffix == ".bin" and not settings.allow_pickle:
        raise InputError(
            f"{weights} is pickled and is not read: unpickling can run code", remedy="allow_pickle"
        )
    check_weight_files([weights])
    if find_spec("peft") is None:
        raise InputError(f"{folder} is an adapter, which needs peft: pip install 'phasebench[peft]'")


def adapter_files(folder: Path) -> list[Path]:
    """The files that decide what an adapter computes."""
    weights = _weights(folder)
    return [folder / CONFIG, *([weights] if weights else [])]


def _weights(folder: Path) -> Path | None:
    return next((folder / name for name in WEIGHTS if (folder / name).exists()), None)


def has_processor(folder: Path) -> bool:
    """Whether an adapter's folder has a whole processor, which is then used instead of the base's."""
    return all(any((folder / name).is_file() for name in names) for names in (PROCESSORS, TOKENIZERS))


def merge(model: Any, folder: Path) -> Any:
    """The model with the adapter merged into its weights.

    Args:
        model: the base, on one device.
        folder: the adapter's folder.

    Raises:
        InputError: the adapter is of another base, or of a kind that cannot be merged.
    """
    from peft import PeftConfig, PeftModel

    try:
        config = PeftConfig.from_pretrained(str(folder))
        if config.is_prompt_learning:
            raise InputError(
                f"{folder}: an adapter of the kind {config.peft_type} cannot be merged into weights"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft's own use of transformers
            adapted = PeftModel(model, config)
            result = adapted.load_adapter(str(folder), "default", is_trainable=False)
        if wrong := [*result.missing_keys, *result.unexpected_keys]:
            raise InputError(
                f"{folder} does not fit its base {model.config.model_type}: {summary_of_names(sorted(wrong))}"
            )
        return adapted.merge_and_unload(safe_merge=True).requires_grad_(requires_grad=False)
    except InputError:
        raise
    except TRANSFORMERS_ERRORS as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{folder}: the adapter cannot be merged into its base: {reason}") from error

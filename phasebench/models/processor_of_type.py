"""The processor of a model's type, for a checkpoint that names another class, which does not fit.

For example Salesforce/instructblip-vicuna-7b names a processor of videos, which makes 128 tokens per picture.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import transformers
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

from phasebench.errors import TRANSFORMERS_ERRORS, InputError, one_line
from phasebench.models.checks import read_json
from phasebench.models.processors import load_processor


def load_some_processor(folder: Path, *, remote_code: bool = False) -> Any:
    """The processor that a checkpoint names; that of its model's type if the former cannot be loaded.

    Raises:
        InputError: neither can be loaded; the message is about the former.
    """
    try:
        processor = load_processor(folder, remote_code=remote_code)
        if not hasattr(processor, "tokenizer"):  # transformers then gives a part of it
            raise InputError(f"{folder}: transformers has no processor called {named_class(folder)}")
        return processor
    except InputError as error:
        if (other := processor_of_type(folder)) is None:
            raise InputError(one_line(error), remedy=error.remedy) from error
        return other


def processor_of_type(folder: Path) -> Any | None:
    """The processor of the class that transformers has for the model's type; None if it cannot be loaded."""
    kind = class_of_type(folder)
    if kind is None:
        return None
    try:
        return getattr(transformers, kind).from_pretrained(folder, local_files_only=True)
    except TRANSFORMERS_ERRORS:
        return None


def class_of_type(folder: Path) -> str | None:
    """The name of the processor's class that transformers has for the model's type."""
    kind: str | None = PROCESSOR_MAPPING_NAMES.get(read_json(folder / "config.json").get("model_type"))
    return kind


def named_class(folder: Path) -> str | None:
    """The name of the processor's class in a checkpoint's files, in transformers' order."""
    for name in ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json"):
        if (folder / name).is_file() and (kind := read_json(folder / name).get("processor_class")):
            return str(kind)
    return None

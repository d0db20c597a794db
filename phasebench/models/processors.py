"""Loading a checkpoint's processor, even if transformers requires torchvision that images do not need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import transformers
from transformers import AutoConfig, AutoImageProcessor, AutoProcessor, AutoTokenizer
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

from phasebench.errors import TRANSFORMERS_ERRORS, InputError

PARTS = (
    "image_processor",
    "tokenizer",
    "video_processor",
    "feature_extractor",
    "processor_class",
)
"""Entries of a processor's configuration that are not arguments of the processor itself."""


def load_processor(folder: Path, *, remote_code: bool = False) -> Any:
    """The processor of the checkpoint in ``folder``.

    Many processor classes require a video processor, and video processors need torchvision, which images do
    not need. Without torchvision such a processor is built from its image processor and tokenizer alone.

    Raises:
        InputError: it cannot be loaded; the message says what to install if that would help.
    """
    options = {"local_files_only": True, "trust_remote_code": remote_code}
    try:
        return AutoProcessor.from_pretrained(folder, **options)
    except TRANSFORMERS_ERRORS as error:
        if "torchvision" not in str(error).lower():
            raise InputError(f"cannot load the processor in {folder}: {error}") from error
        return _processor_without_videos(folder, options, error)


def _processor_without_videos(folder: Path, options: dict[str, Any], first_error: Exception) -> Any:
    try:
        kind = getattr(transformers, PROCESSOR_MAPPING_NAMES[AutoConfig.from_pretrained(folder).model_type])
        images = AutoImageProcessor.from_pretrained(folder, **options)
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        entries, _ = kind.get_processor_dict(folder, local_files_only=True)
        kwargs = {key: value for key, value in entries.items() if key not in PARTS}
        kwargs.setdefault("chat_template", getattr(tokenizer, "chat_template", None))
        return _class_with_optional_parts(kind)(images, tokenizer, video_processor=None, **kwargs)
    except TRANSFORMERS_ERRORS as error:
        reasons = " ".join(f"{first_error}; built without it: {error}".split())
        raise InputError(
            f"{folder}: its processor needs torchvision (pip install 'phasebench[torchvision]'): {reasons}"
        ) from error


def _class_with_optional_parts(kind: type) -> type:
    """A subclass of the processor's class, under the same name, whose parts may be None."""

    strict_check: Any = getattr(kind, "check_argument_for_proper_class")  # noqa: B009 (no stub knows it)

    def check(self: Any, argument_name: str, argument: Any) -> Any:
        return argument if argument is None else strict_check(self, argument_name, argument)

    return type(kind.__name__, (kind,), {"check_argument_for_proper_class": check})

"""A checkpoint's processor, also where transformers wrongly insists on torchvision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import transformers
from transformers import AutoConfig, AutoImageProcessor, AutoProcessor, AutoTokenizer
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

from phasebench.errors import OF_TRANSFORMERS, InputError

PARTS = (
    "image_processor",
    "tokenizer",
    "video_processor",
    "feature_extractor",
    "processor_class",
)
"""Settings of a processor that are not arguments of the processor itself."""


def load_processor(name: str, folder: Path, *, remote_code: bool = False) -> Any:
    """The processor of the checkpoint in ``folder``.

    Many classes take a video processor, and these need torchvision, which pictures do not: such a
    processor is put together from its image processor and tokenizer, without one for videos.

    Raises:
        InputError: it cannot be loaded; the message names what to install where that would do.
    """
    options = {"local_files_only": True, "trust_remote_code": remote_code}
    try:
        return AutoProcessor.from_pretrained(folder, **options)
    except OF_TRANSFORMERS as error:
        if "torchvision" not in str(error).lower():
            raise InputError(f"--model {name}: cannot load the processor in {folder}: {error}") from error
        return _without_videos(name, folder, options, error)


def _without_videos(name: str, folder: Path, options: dict[str, Any], first: Exception) -> Any:
    try:
        kind = getattr(transformers, PROCESSOR_MAPPING_NAMES[AutoConfig.from_pretrained(folder).model_type])
        images = AutoImageProcessor.from_pretrained(folder, **options)
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        told, _ = kind.get_processor_dict(folder, local_files_only=True)
        settings = {key: value for key, value in told.items() if key not in PARTS}
        settings.setdefault("chat_template", getattr(tokenizer, "chat_template", None))
        return _lenient(kind)(images, tokenizer, video_processor=None, **settings)
    except OF_TRANSFORMERS as error:
        told = "its processor needs torchvision (pip install 'phasebench[torchvision]')"
        reasons = " ".join(f"{first}; put together without it: {error}".split())
        raise InputError(f"--model {name}: {told}: {reasons}") from error


def _lenient(kind: type) -> type:
    """The processor's class, but a part may be missing; saved, it would be the class itself."""

    strict: Any = getattr(kind, "check_argument_for_proper_class")  # noqa: B009 (no stub knows it)

    def check(self: Any, argument_name: str, argument: Any) -> Any:
        return argument if argument is None else strict(self, argument_name, argument)

    return type(kind.__name__, (kind,), {"check_argument_for_proper_class": check})

"""Loading a checkpoint's processor, even if transformers requires torchvision that images do not need.

Also digests of its tokenizers.
"""

from __future__ import annotations

import json
from hashlib import blake2b
from pathlib import Path
from typing import Any

import transformers
from transformers import AutoConfig, AutoProcessor, AutoTokenizer
from transformers.models.auto.image_processing_auto import AutoImageProcessor  # not a stand-in before 5.20
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
SAMPLE_TEXT = "A dog's 12 red Umbrellas (in a café);\n  two  dogs\tran."
"""A text whose tokens show how a tokenizer treats spaces, case, accents, digits, marks and special tokens."""


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


def tokenizer_digests(processor: Any) -> dict[str, str]:
    """Hex digest (16 characters) of each tokenizer of a processor, by the tokenizer's name there.

    It covers the vocabulary, the merges, and the tokens of ``SAMPLE_TEXT`` with special tokens. A lost merge
    changes it, though few prompts or captions need that merge.
    """
    parts = {"tokenizer": processor.tokenizer, **vars(processor)}
    return {name: _digest(part) for name, part in sorted(parts.items()) if hasattr(part, "get_vocab")}


def _digest(tokenizer: Any) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)  # tokenizers in pure Python have none
    merges = json.loads(backend.to_str())["model"].get("merges") if backend else None
    content = [sorted(tokenizer.get_vocab().items()), merges, list(tokenizer(SAMPLE_TEXT)["input_ids"])]
    return blake2b(json.dumps(content).encode(), digest_size=8).hexdigest()

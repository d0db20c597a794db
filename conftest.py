"""The project's own tests use neither network nor GPU; ``pytest --phasebench`` may use both."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Before anything imports huggingface_hub, which reads these once."""
    if not getattr(config.option, "phasebench", False):
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the automatic device of our own tests is the CPU
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

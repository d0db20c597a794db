"""What a run was asked to do, as plain data that reaches every process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DEFAULT_MODELS = ("smol-llava", "smol-instructblip")
DEFAULT_IMAGES = 400
"""As many as the paper draws; a bundled dataset that has fewer is taken whole."""


@dataclass(frozen=True)
class Settings:
    """What the command line asked for."""

    images: int = DEFAULT_IMAGES
    seed: int = 0
    device: str = "auto"
    dtype: str = "auto"
    batch_size: int | None = 1
    """Images a pass; None for as many as fit."""
    lens_norm: bool = True
    prompt: str | None = None
    controls: bool = False
    max_memory: str | None = None
    allow_pickle: bool = False
    remote_code: bool = False
    store: Path | None = None
    """Where rows of finished images are kept; None keeps nothing."""
    fresh: bool = False
    """Measure every image, whatever is in the store."""
    shared: bool = False
    """The processes that a launcher started measure a share of the images each."""

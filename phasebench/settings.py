"""What a run was asked to do, as plain data that reaches every process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from phasebench.errors import InputError

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


@dataclass(frozen=True)
class BaselineMode:
    """What a run may do with baselines.

    Attributes:
        create: write what is not recorded.
        update: also write what differs from its record.
        strict: fail what has nothing to be compared with.
    """

    create: bool = False
    update: bool = False
    strict: bool = False


REMEDIES = {
    "allow_pickle": "allow pickled weights with --allow-pickle, or convert them",
    "cache": "name another folder: --phasebench-cache",
    "controls": "run without --controls",
    "data_dir": "name a local copy's folder with --data-dir",
    "device": "name one with --device",
    "dtype": "see --dtype",
    "float32": "see --dtype float32",
    "images": "raise --images",
    "max_memory": "spread the model with --max-memory, or see --dtype",
    "prompt": "see --prompt",
    "remote_code": "read it, then allow it with --trust-remote-code",
    "strict_data": "without --strict-data they are left out",
    "more_recorded": "record more of them",
    "record": "write it with --snapshot-update",
    "update": "rewrite it with --snapshot-update",
}
"""What a command line says of a setting that would help, by ``InputError.remedy``."""


def with_option(error: InputError) -> str:
    """The error's message for a person at a command line: with the option that would help."""
    return f"{error}; {REMEDIES[error.remedy]}" if error.remedy else str(error)

"""The settings of a run as plain data, and the remedies that error messages may name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from phasebench.errors import InputError

DEFAULT_MODELS = ("smol-llava", "smol-instructblip")
DEFAULT_IMAGES = 400
"""The paper's number of images. A dataset with fewer images is measured whole."""


BatchSize = int | Literal["auto"] | None
"""A number of images per pass; ``auto`` for as many as fit; None for the device's usual number."""


@dataclass(frozen=True)
class Settings:
    """Settings of loading and measuring; the plugin makes them from the options of the command line."""

    images: int = DEFAULT_IMAGES
    seed: int = 0
    device: str = "auto"
    dtype: str = "auto"
    batch_size: BatchSize = None
    """Images per pass."""
    lens_norm: bool = True
    normed_last_layer: bool = False
    """Whether similarity compares the last layer's states after the final norm."""
    prompt: str | None = None
    controls: bool = False
    max_memory: str | None = None
    allow_pickle: bool = False
    remote_code: bool = False
    store: Path | None = None
    """The folder in which rows of finished images are stored; None stores nothing."""
    fresh: bool = False
    """Measure every image again, even if the store has its row."""
    shared: bool = False
    """Whether each of the processes that a launcher started measures a share of the images."""


@dataclass(frozen=True)
class BaselineMode:
    """What a run may do with baselines.

    Attributes:
        create: write curves and verdicts that have no baseline.
        update: also overwrite baselines from which they differ.
        strict: fail cases that have no baseline.
    """

    create: bool = False
    update: bool = False
    strict: bool = False


REMEDIES = {
    "allow_pickle": "allow pickled weights with --allow-pickle, or convert them",
    "cache": "name another folder: --phasebench-cache",
    "calibrate": "measure them with python -m phasebench calibrate (see its --dtype)",
    "controls": "run without --controls",
    "data_dir": "name a local copy's folder with --data-dir",
    "device": "name one with --device",
    "dtype": "measure in the recorded precision with --dtype",
    "float32": "see --dtype float32",
    "images": "raise --images",
    "last_layer": "measure it with --last-layer raw",
    "max_memory": "spread the model with --max-memory, or see --dtype",
    "prompt": "see --prompt",
    "remote_code": "read it, then allow it with --trust-remote-code",
    "timeout": "finished images are kept; --timeout 0 takes the limit away",
    "strict_data": "without --strict-data they are left out",
    "more_recorded": "record more of them",
    "record": "record it with --snapshot-update",
    "update": "rewrite it with --snapshot-update",
}
"""``InputError.remedy`` -> the advice for users of the command line."""


def with_option(error: InputError) -> str:
    """The error's message for users of the command line: with the option that would help, if there is one."""
    return f"{error}; {REMEDIES[error.remedy]}" if error.remedy else str(error)

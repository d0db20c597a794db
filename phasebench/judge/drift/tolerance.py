"""The differences that numerical noise may cause in a curve, as ``python -m phasebench calibrate`` finds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from decimal import ROUND_CEILING, Context
from pathlib import Path
from typing import Any

import numpy as np

from phasebench.catalog import BY_NAME, Scale
from phasebench.curves import Array, known_mean
from phasebench.errors import InputError
from phasebench.judge.statistics import ROUNDING

FILE = "tolerances.json"
"""The name of the tolerances in a folder of baselines."""
MARGIN = 3.0
"""So many times the measured noise is allowed: another machine's is of the same kind, but may be larger."""
JSON_KEYS = {"mean": "mean", "rms": "rms", "single_image": "most"}
"""Attribute of ``Spread`` -> its key in the file."""


@dataclass(frozen=True)
class Spread:
    """The largest differences, over layers, between runs that should agree.

    Attributes:
        mean: of the mean over images.
        rms: of the root mean square over images.
        single_image: of a single image.
    """

    mean: float = 0.0
    rms: float = 0.0
    single_image: float = 0.0

    @classmethod
    def from_dict(cls, data: Mapping[str, float]) -> Spread:
        """The spread that ``as_dict`` wrote.

        Raises:
            TypeError: it has another key.
        """
        attributes = {key: name for name, key in JSON_KEYS.items()}
        return cls(**{attributes.get(key, key): value for key, value in data.items()})

    def as_dict(self) -> dict[str, float]:
        """Plain data; to three digits, rounded up."""
        return {key: _round_up(getattr(self, name)) for name, key in JSON_KEYS.items()}

    def widest(self, other: Spread) -> Spread:
        """The larger value of each attribute."""
        return Spread(*(max(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)))

    def allowed(self, curve: str, level: Array, images: Array) -> tuple[Array, Array]:
        """The allowed difference of two means over so many ``images``, and its root mean square [L + 1] each.

        ``level`` [L + 1] is one of the means.
        """
        # A calibration meets a near-tie only by chance, so one step of one image is always allowed.
        step = BY_NAME[curve].step
        image_noise = max(self.single_image, step) if step else MARGIN * self.single_image
        scale, count = _scale(curve, level), np.maximum(1, images)
        mean_noise = (ROUNDING + MARGIN * self.mean + image_noise / count) * scale
        rms_noise = (ROUNDING + MARGIN * self.rms + image_noise / np.sqrt(count)) * scale
        return mean_noise, rms_noise


Spreads = dict[str, dict[str, Spread]]
"""Dtype, or a ``dtype_pair`` -> curve -> spread."""


def dtype_pair(before: str, after: str) -> str:
    """The key of the spreads between two precisions: ``bfloat16/float32``, or just the one that both are."""
    return "/".join(sorted({before, after}))


def spread_between(before: Array, after: Array, curve: str) -> Spread:
    """The spread between two measurements [images, L + 1] of the same images."""
    change = (after - before) / _scale(curve, known_mean(before))
    sizes = np.abs(known_mean(change)), np.sqrt(known_mean(change**2)), np.abs(change)
    return Spread(*(float(np.nanmax(values, initial=0.0)) for values in sizes))


def _scale(curve: str, level: Array) -> Array:
    """The size that a curve's noise is relative to [L + 1]."""
    size = np.abs(level)
    scale = BY_NAME[curve].scale
    if scale is Scale.LARGEST:
        return np.where(np.isnan(level), np.nan, np.nanmax(size, initial=0.0))
    return size if scale is Scale.RELATIVE else np.ones_like(level)


@dataclass(frozen=True)
class Tolerances:
    """The measured spreads by dtype, or by ``dtype_pair`` of two, and by curve."""

    spreads: Mapping[str, Mapping[str, Spread]]

    @classmethod
    def read(cls, path: Path) -> Tolerances:
        """Read the file that a calibration wrote.

        Raises:
            InputError: it cannot be read; the message names the file.
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))["seen"]
            return cls(
                {
                    dtypes: {curve: Spread.from_dict(spread) for curve, spread in by_curve.items()}
                    for dtypes, by_curve in data.items()
                }
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"tolerances {path} cannot be read ({error!r})", remedy="calibrate") from error

    def as_dict(self) -> dict[str, Any]:
        """Plain data for the file; to three digits, rounded up."""
        return {
            dtypes: {curve: spread.as_dict() for curve, spread in by_curve.items()}
            for dtypes, by_curve in self.spreads.items()
        }

    def between(self, curve: str, before: str, after: str) -> Spread:
        """The spread of ``curve`` between these dtypes.

        Raises:
            InputError: none was calibrated for them.
        """
        dtypes = dtype_pair(before, after)
        spreads = self.spreads.get(dtypes, {})
        if curve not in spreads:
            # A calibration compares each precision with itself and with float32.
            two_of_16_bits = len({before, after} - {"float32"}) > 1
            reason = f"no tolerance of {curve} for {dtypes} in {FILE}"
            if two_of_16_bits:
                reason += f": two 16-bit precisions are not compared, and {before} is recorded"
            raise InputError(reason, remedy="dtype" if two_of_16_bits else "calibrate")
        return spreads[curve]


def _round_up(value: float) -> float:
    return float(Context(prec=3, rounding=ROUND_CEILING).create_decimal(repr(value)))

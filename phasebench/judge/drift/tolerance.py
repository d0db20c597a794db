"""What numerical noise may do to a curve: seen by ``python -m phasebench calibrate``, not guessed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from decimal import ROUND_CEILING, Context
from pathlib import Path
from typing import Any

import numpy as np

from phasebench.catalog import MAX_LOGIT, RECALLS
from phasebench.curves import Array, known_mean
from phasebench.errors import InputError
from phasebench.judge.statistics import ROUNDING, WORD

FILE = "tolerances.json"
"""Its name in a folder of baselines."""
MARGIN = 3.0
"""Times what was seen is allowed: another machine's noise is of the same kind, not of the same size."""
RELATIVE = ("total", "ratio_first5")
"""Curves without a bound, whose noise grows with their size."""
FLIP = {"sinks": 1.0, **dict.fromkeys(RECALLS, WORD)}
"""What one near-tie that falls the other way does to an image's value: a position at the sinks' threshold,
a caption word (of two). One in one image is always allowed: whether a calibration meets one is chance."""


@dataclass(frozen=True)
class Spread:
    """The largest differences seen between runs that should agree, over layers.

    Attributes:
        mean: of the mean over images.
        rms: the root of the mean square over images.
        most: of one image.
    """

    mean: float = 0.0
    rms: float = 0.0
    most: float = 0.0

    def widest(self, other: Spread) -> Spread:
        """The larger of each."""
        return Spread(*(max(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)))

    def allowed(self, curve: str, level: Array, images: Array) -> tuple[Array, Array]:
        """What may lie between two means over so many ``images``, and the root mean square [L + 1] each.

        ``level`` [L + 1] is one of the means.
        """
        of_one = max(self.most, FLIP[curve]) if curve in FLIP else MARGIN * self.most
        scale, count = _scale(curve, level), np.maximum(1, images)
        of_mean = (ROUNDING + MARGIN * self.mean + of_one / count) * scale
        rms = (ROUNDING + MARGIN * self.rms + of_one / np.sqrt(count)) * scale
        return of_mean, rms


def pair(before: str, after: str) -> str:
    """Under what the spreads between two precisions are kept: ``bfloat16/float32``, or one that both are."""
    return "/".join(sorted({before, after}))


def spread(before: Array, after: Array, curve: str) -> Spread:
    """What lies between two measurements [images, L + 1] of the same images."""
    apart = (after - before) / _scale(curve, known_mean(before))
    seen = np.abs(known_mean(apart)), np.sqrt(known_mean(apart**2)), np.abs(apart)
    return Spread(*(float(np.nanmax(values, initial=0.0)) for values in seen))


def _scale(curve: str, level: Array) -> Array:
    """What a curve's noise is relative to [L + 1]."""
    size = np.abs(level)
    if curve == MAX_LOGIT:  # a logit near 0 is a sum of large products all the same
        return np.where(np.isnan(level), np.nan, np.nanmax(size, initial=0.0))
    return size if curve in RELATIVE else np.ones_like(level)


@dataclass(frozen=True)
class Tolerances:
    """The spreads seen, by dtype (of two that differ their ``pair``) and curve."""

    seen: Mapping[str, Mapping[str, Spread]]

    @classmethod
    def read(cls, path: Path) -> Tolerances:
        """Read what a calibration wrote.

        Raises:
            InputError: it cannot be read; the message names the file.
        """
        try:
            found = json.loads(path.read_text(encoding="utf-8"))["seen"]
            return cls({d: {name: Spread(**of) for name, of in by.items()} for d, by in found.items()})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"tolerances {path} cannot be read ({error!r}); python -m phasebench calibrate writes them"
            ) from error

    def as_dict(self) -> dict[str, Any]:
        """Plain data; to three digits, rounded up."""
        return {
            d: {name: {f.name: _up(getattr(of, f.name)) for f in fields(of)} for name, of in by.items()}
            for d, by in self.seen.items()
        }

    def between(self, curve: str, before: str, after: str) -> Spread:
        """The spread to expect of ``curve`` between these dtypes.

        Raises:
            InputError: none was calibrated for them.
        """
        dtypes = pair(before, after)
        known = self.seen.get(dtypes, {})
        if curve not in known:
            raise InputError(f"no tolerance of {curve} for {dtypes} in {FILE}; {_remedy(before, after)}")
        return known[curve]


def _remedy(before: str, after: str) -> str:
    """Calibration compares each precision with itself and with float32."""
    measured = {before, after} - {"float32"} or {"float32"}
    if len(measured) > 1:
        return f"two 16-bit precisions are not compared: measure with --dtype {before}, as recorded"
    return f"measure one: python -m phasebench calibrate --dtype {measured.pop()}"


def _up(value: float) -> float:
    return float(Context(prec=3, rounding=ROUND_CEILING).create_decimal(repr(value)))

"""Curves: the data structure that connects measuring with judging and reporting.

It is a table of numbers per image and layer, with a description of the measurement. Its columns (``catalog``
has the details of each):

==========================================  ==========================================================
``inter``, ``intra_visual``, ``intra_text``  contextualization: mean cosines (paper eq. 1, section 3.1), -1..1
``*_nosink``, ``sinks``                      the same without sink positions; the number of sink positions
``share_*``                                  shares of the last text token's attention (section 3.2), 0..1
``ratio_first5``                             mean norm of its first five positions to that of the others, >= 0
``total``                                    sum of the norms, in units of the hidden states' norm
``max_logit``                                mean logit of the tokens that the LogitLens decodes (section 3.3)
``recall``, ``recall_other``                 recall of the image's own and another image's captions, 0..1
``recall_whole``                             recall of its own captions by whole words alone, 0..1
``lift``                                     ``recall`` minus ``recall_other``, -1..1
==========================================  ==========================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Curves:
    """The values of all curves per image and layer.

    Attributes:
        table: the values, one column per curve, with the index (``image``, ``layer``): images in the order of
            ``items``, layers 0..L (0 is the input of the first block). A curve without a value at a layer
            (attention at layer 0) is NaN there.
        items: id of an image -> the item that it belongs to; images of one item are not independent.
        provenance: plain data that describes the measurement: model, settings, versions, data.
        contents: id of an image -> the digest of its content, which identifies it in other measurements.
    """

    table: pd.DataFrame
    items: Mapping[str, str]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    contents: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, Array],
        items: Mapping[str, str],
        provenance: Mapping[str, Any] | None = None,
        contents: Mapping[str, str] | None = None,
    ) -> Curves:
        """Build curves from arrays.

        Args:
            arrays: name of a curve -> its values [images, L + 1], with the images in the order of ``items``.
            items: id of an image -> its item.
            provenance: a description of the measurement.
            contents: id of an image -> the digest of its content.

        Raises:
            ValueError: the arrays have different numbers of layers.
        """
        import pandas as pd  # takes a second, which collecting cases need not spend

        layers = {values.shape[1] for values in arrays.values()}
        if len(layers) != 1:
            raise ValueError(f"curves of different lengths: {sorted(layers)}")
        index = pd.MultiIndex.from_product([list(items), range(layers.pop())], names=["image", "layer"])
        table = pd.DataFrame({name: values.reshape(-1) for name, values in arrays.items()}, index=index)
        return cls(table, dict(items), dict(provenance or {}), dict(contents or {}))

    @property
    def names(self) -> list[str]:
        """The curves' names, in the table's order."""
        return list(self.table.columns)

    @property
    def last(self) -> int:
        """L: the number of the last layer."""
        return int(self.table.index.get_level_values("layer").max())

    def array(self, name: str) -> Array:
        """One curve as an array [images, L + 1].

        Raises:
            KeyError: there is no curve of that name.
        """
        if name not in self.table.columns:
            raise KeyError(f"there is no curve {name!r}; there are {', '.join(self.names)}")
        return self.table[name].to_numpy(dtype=np.float64).reshape(len(self.items), self.last + 1)

    def mean(self, name: str) -> Array:
        """One curve's mean over images, per layer [L + 1]; NaN where no image has a value.

        Raises:
            KeyError: there is no curve of that name.
        """
        (mean,), _ = _means(self.array(name))
        return np.asarray(mean, dtype=np.float64)

    def summary(self, name: str) -> pd.DataFrame:
        """One curve per layer: its ``mean``, standard error ``se`` over items, and ``n`` images with a value.

        Raises:
            KeyError: there is no curve of that name.
        """
        import pandas as pd

        values = self.array(name)
        item_means, _ = _means(values, members(list(self.items.values())))
        (spread,), (count,) = _means((item_means - _means(item_means)[0]) ** 2)
        (mean,), (n,) = _means(values)
        with np.errstate(divide="ignore", invalid="ignore"):
            se = np.sqrt(spread / (count - 1))
        return pd.DataFrame({"mean": mean, "se": se, "n": n}, pd.RangeIndex(len(n), name="layer"))


def known_mean(values: Array, axis: int = 0) -> Array:
    """Mean of the finite values along an axis; NaN where there is none."""
    is_finite = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        mean = np.where(is_finite, values, 0).sum(axis=axis) / is_finite.sum(axis=axis)
    return np.asarray(mean, dtype=np.float64)


def members(items: Sequence[str]) -> npt.NDArray[np.int64]:
    """The number of each image's item, counted in order of appearance [images]."""
    numbers = {item: number for number, item in enumerate(dict.fromkeys(items))}
    return np.array([numbers[item] for item in items], dtype=np.int64)


def _means(values: Array, groups: npt.NDArray[np.int64] | None = None) -> tuple[Array, npt.NDArray[np.int64]]:
    """Mean of the values in each group of rows, NaN left out, and their number [groups, L + 1]."""
    member = np.zeros(len(values), dtype=np.int64) if groups is None else groups
    has_value = ~np.isnan(values)
    totals = np.zeros((member.max() + 1, values.shape[1]))
    counts = np.zeros_like(totals, dtype=np.int64)
    np.add.at(totals, member, np.where(has_value, values, 0.0))
    np.add.at(counts, member, has_value)
    with np.errstate(invalid="ignore"):
        return totals / counts, counts

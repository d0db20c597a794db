"""One image with its captions, and drawing a subset of a dataset."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from phasebench.datasets.pixels import open_rgb
from phasebench.errors import InputError


@dataclass(frozen=True)
class Sample:
    """An image file and its captions.

    Attributes:
        id: the image's id, unique in its dataset.
        path: the image file.
        captions: sentences about the image; an image without captions is not measured.
        item: the item that the image belongs to. Images of one item, such as the two of a Winoground item,
            are not independent: they are drawn together, and statistics count them as one item.
    """

    id: str
    path: Path
    captions: tuple[str, ...]
    item: str

    def __post_init__(self) -> None:
        """Accept a path as text, and captions as one string or a list."""
        captions = (self.captions,) if isinstance(self.captions, str) else tuple(self.captions)
        object.__setattr__(self, "path", Path(self.path))
        object.__setattr__(self, "captions", captions)

    def open(self) -> Image.Image:
        """The image as RGB.

        Raises:
            ImageError: the image cannot be measured.
        """
        return open_rgb(self.path)

    def content(self) -> bytes:
        """What identifies the image: its size and its RGB pixels, however the file stores them.

        Raises:
            ImageError: the image cannot be measured.
        """
        image = self.open()
        return f"{image.size}".encode() + image.tobytes()

    def digest(self) -> str:
        """Hex digests of the image's content and of its captions, ``<12>-<12>``.

        Raises:
            ImageError: the image cannot be measured.
        """
        parts = self.content(), "\n".join(self.captions).encode()
        return "-".join(hashlib.blake2b(part, digest_size=6).hexdigest() for part in parts)


def draw(samples: Sequence[Sample], images: int, seed: int) -> list[Sample]:
    """At most ``images`` samples, drawn by whole items with ``seed`` and returned in the dataset's order.

    Raises:
        InputError: every item has more than ``images`` samples.
    """
    if images >= len(samples):
        return list(samples)
    items: dict[str, list[str]] = {}
    for sample in samples:
        items.setdefault(sample.item, []).append(sample.id)
    order = list(items.values())
    random.Random(f"draw/{seed}").shuffle(order)
    drawn: set[str] = set()
    for members in order:
        if len(drawn) + len(members) <= images:
            drawn.update(members)
    if not drawn:
        raise InputError(f"no images drawn: an item has more than {images}", remedy="images")
    return [sample for sample in samples if sample.id in drawn]


def digest(contents: Iterable[str]) -> str:
    """Hex digest of the samples' digests, in order; sixteen characters."""
    return hashlib.blake2b("\n".join(contents).encode(), digest_size=8).hexdigest()

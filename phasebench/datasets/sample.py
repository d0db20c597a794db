"""One image with its captions, and the drawing of a data set's subset."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from phasebench.datasets.pixels import open_rgb, read_bytes, unpacked
from phasebench.errors import InputError


@dataclass(frozen=True)
class Sample:
    """An image file and its captions.

    Attributes:
        id: unique in its data set.
        path: the image file.
        captions: what is said of it; an image without any is not measured.
        item: what it belongs to; the two images of a Winoground item share it.
    """

    id: str
    path: Path
    captions: tuple[str, ...]
    item: str

    def __post_init__(self) -> None:
        """Accept a path as text, and captions as one string or a list."""
        said = (self.captions,) if isinstance(self.captions, str) else tuple(self.captions)
        object.__setattr__(self, "path", Path(self.path))
        object.__setattr__(self, "captions", said)

    def open(self) -> Image.Image:
        """The image as RGB.

        Raises:
            ImageError: it cannot be measured.
        """
        return open_rgb(self.path)

    def content(self) -> bytes:
        """What the image is known by, however it is read: its file, a PNG unpacked.

        Raises:
            InputError: the file is missing, or not read in time.
        """
        try:
            return unpacked(read_bytes(self.path))
        except OSError as error:
            raise InputError(f"image file missing or unreadable: {self.path}") from error

    def digest(self) -> str:
        """Hex digests of the image's content and of its captions, ``<12>-<12>``.

        Raises:
            InputError: the file is missing, or not read in time.
        """
        parts = self.content(), "\n".join(self.captions).encode()
        return "-".join(hashlib.blake2b(part, digest_size=6).hexdigest() for part in parts)


def draw(samples: Sequence[Sample], images: int, seed: int) -> list[Sample]:
    """At most ``images`` samples, drawn by whole items with ``seed``, in the data set's order.

    Raises:
        InputError: every item has more than ``images``.
    """
    if images >= len(samples):
        return list(samples)
    items: dict[str, list[str]] = {}
    for sample in samples:
        items.setdefault(sample.item, []).append(sample.id)
    order = list(items.values())
    random.Random(f"draw/{seed}").shuffle(order)
    kept: set[str] = set()
    for members in order:
        if len(kept) + len(members) <= images:
            kept.update(members)
    if not kept:
        raise InputError(f"no images drawn: an item has more than {images}; raise --images")
    return [sample for sample in samples if sample.id in kept]


def digest(contents: Iterable[str]) -> str:
    """Hex digest of the samples' digests, in order; sixteen characters."""
    return hashlib.blake2b("\n".join(contents).encode(), digest_size=8).hexdigest()

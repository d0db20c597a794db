"""Selecting the images of a dataset: drawing with the seed, opening each once, skipping unusable ones."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from phasebench.datasets.merging import merge_same_pictures
from phasebench.datasets.pixels import ImageError, read_bytes
from phasebench.datasets.sample import Sample, draw
from phasebench.errors import InputError

NO_CAPTIONS = "without captions"
NO_TEXT = "with captions that are not valid Unicode"
PARTNER = "of an item with a skipped image"
COPY = "the same picture as another"


@dataclass(frozen=True)
class Skip:
    """An image that is not measured.

    Attributes:
        id, path: the sample's.
        reason: a few words, the same for every image with this problem.
        message: the problem of this image in full.
    """

    id: str
    path: str
    reason: str
    message: str

    def as_dict(self) -> dict[str, str]:
        """The skip in the form of the results file."""
        return {"id": self.id, "path": self.path, "reason": self.reason}


@dataclass(frozen=True)
class Selection:
    """The images that are measured, in the dataset's order, and the skipped images."""

    samples: tuple[Sample, ...]
    skipped: tuple[Skip, ...]


def select(samples: Sequence[Sample], images: int, seed: int, *, strict: bool = False) -> Selection:
    """Draw at most ``images`` of the captioned ``samples`` with ``seed`` and open each of them.

    An unusable image is not replaced by another: the draw depends on the dataset and the seed alone. An item
    is measured as a whole or not at all. Images with the same pixels are one image with the captions of all,
    or, if they belong to items of several images, their items are one item.

    Raises:
        InputError: two samples have the same id, no image is left, or, with ``strict``, an image is skipped.
    """
    _check_ids(samples)
    caption_skips = [skip for sample in samples for skip in _caption_skips(sample)]
    captioned, partner_skips = whole_items(samples, caption_skips)
    drawn = draw(captioned, images, seed)
    files, pictures, image_skips = _opened(drawn)
    usable, more_partner_skips = whole_items(drawn, image_skips)
    distinct, copy_skips = _distinct(usable, files, pictures)
    skipped = (*caption_skips, *image_skips, *partner_skips, *more_partner_skips, *copy_skips)
    if strict and skipped:
        raise InputError(_summary(skipped), remedy="strict_data")
    if not usable:
        raise InputError(f"no image is left to measure, {_summary(skipped)}" if skipped else "no images")
    return Selection(tuple(distinct), skipped)


def whole_items(samples: Sequence[Sample], skips: Sequence[Skip]) -> tuple[list[Sample], list[Skip]]:
    """The samples of items without skipped images, and skips for the other images of items with one."""
    skipped_ids = {skip.id for skip in skips}
    broken_items = {sample.item for sample in samples if sample.id in skipped_ids}
    partners = [s for s in samples if s.item in broken_items and s.id not in skipped_ids]
    return (
        [sample for sample in samples if sample.item not in broken_items],
        [
            Skip(s.id, str(s.path), PARTNER, f"{s.path}: another image of its item was skipped")
            for s in partners
        ],
    )


def _check_ids(samples: Sequence[Sample]) -> None:
    doubled = [name for name, count in Counter(sample.id for sample in samples).items() if count > 1]
    if doubled:
        first, second, *_ = (sample.path for sample in samples if sample.id == doubled[0])
        raise InputError(f"two images are called {doubled[0]!r}: {first} and {second}; ids must differ")


def _caption_skips(sample: Sample) -> Iterator[Skip]:
    if not any(map(str.strip, sample.captions)):
        yield Skip(sample.id, str(sample.path), NO_CAPTIONS, f"no captions for {sample.path}")
    try:
        "".join(sample.captions).encode()
    except UnicodeEncodeError as error:  # JSON may hold half a character
        message = f"the captions of {sample.path} are not valid Unicode: {error}"
        yield Skip(sample.id, str(sample.path), NO_TEXT, message)


def _opened(samples: Sequence[Sample]) -> tuple[dict[str, str], dict[str, str], list[Skip]]:
    """Id -> digest of the file and of the pixels, of each sample that can be opened; skips of the others."""
    files, pictures, skips = {}, {}, []
    for sample in samples:
        try:
            pictures[sample.id] = hashlib.blake2b(sample.content()).hexdigest()
            files[sample.id] = _file_digest(sample) or pictures[sample.id]
        except ImageError as error:
            skips.append(Skip(sample.id, str(sample.path), error.reason, str(error)))
    return files, pictures, skips


def _file_digest(sample: Sample) -> str:
    """The digest of a sample's file; empty for a user's sample without a file."""
    try:
        return hashlib.blake2b(read_bytes(sample.path)).hexdigest()
    except OSError:
        return ""


def _distinct(
    samples: Sequence[Sample], files: dict[str, str], pictures: dict[str, str]
) -> tuple[list[Sample], list[Skip]]:
    """The samples with one of each file, and skips for its copies."""
    distinct, copies = merge_same_pictures(samples, files, pictures)
    return distinct, [
        Skip(s.id, str(s.path), COPY, f"{s.path}: the same picture as {copies[s.id].path}")
        for s in samples
        if s.id in copies
    ]


def _summary(skips: Sequence[Skip]) -> str:
    plural = "" if len(skips) == 1 else "s"
    counts = Counter(skip.reason for skip in skips).most_common()
    reasons = [f"{count} {reason}" for reason, count in counts]
    details = f" ({', '.join(reasons)})" if len(reasons) > 1 else ""
    return f"{len(skips)} image{plural} skipped{details}; the first: {skips[0].message}"

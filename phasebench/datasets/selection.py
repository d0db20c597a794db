"""What of a data set is measured: drawn with the seed, each image opened once, the unusable set aside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from phasebench.datasets.pixels import ImageError
from phasebench.datasets.sample import Sample, draw
from phasebench.errors import InputError

NO_CAPTIONS = "without captions"
NO_TEXT = "with captions that are not valid Unicode"
PARTNER = "of an item with a skipped image"


@dataclass(frozen=True)
class Skip:
    """An image that is not measured.

    Attributes:
        id, path: the sample's.
        reason: a few words, the same for all of its kind.
        message: what is wrong with this one.
    """

    id: str
    path: str
    reason: str
    message: str

    def as_dict(self) -> dict[str, str]:
        """As the results file has it."""
        return {"id": self.id, "path": self.path, "reason": self.reason}


@dataclass(frozen=True)
class Selection:
    """The images that are measured, in the data set's order, and those that were skipped."""

    samples: tuple[Sample, ...]
    skipped: tuple[Skip, ...]


def select(samples: Sequence[Sample], images: int, seed: int, *, strict: bool = False) -> Selection:
    """Draw at most ``images`` of the captioned ``samples`` with ``seed`` and open each of them.

    Nothing is drawn in an unusable image's place: the draw depends on the data set and the seed alone.
    An item is measured whole or not at all.

    Raises:
        InputError: two samples have one id; nothing is drawn or left; with ``strict``, anything was skipped.
    """
    _distinct(samples)
    silent = [skip for sample in samples for skip in _captionless(sample)]
    captioned, partners = _whole_items(samples, silent)
    drawn = draw(captioned, images, seed)
    damaged = [skip for sample in drawn for skip in _unreadable(sample)]
    left, more = _whole_items(drawn, damaged)
    skipped = (*silent, *damaged, *partners, *more)
    if strict and skipped:
        raise InputError(f"{_counted(skipped)} (--strict-data)")
    if not left:
        raise InputError(f"no image is left to measure, {_counted(skipped)}" if skipped else "no images")
    return Selection(tuple(left), skipped)


def _whole_items(samples: Sequence[Sample], skipped: Sequence[Skip]) -> tuple[list[Sample], list[Skip]]:
    """The samples of items without a skipped image, and the skips of the other images of items with one."""
    gone = {skip.id for skip in skipped}
    lost = {sample.item for sample in samples if sample.id in gone}
    partners = [sample for sample in samples if sample.item in lost and sample.id not in gone]
    said = "another image of its item was skipped"
    return (
        [sample for sample in samples if sample.item not in lost],
        [Skip(sample.id, str(sample.path), PARTNER, f"{sample.path}: {said}") for sample in partners],
    )


def _distinct(samples: Sequence[Sample]) -> None:
    doubled = [name for name, count in Counter(sample.id for sample in samples).items() if count > 1]
    if doubled:
        first, second, *_ = (sample.path for sample in samples if sample.id == doubled[0])
        raise InputError(f"two images are called {doubled[0]!r}: {first} and {second}; ids must differ")


def _captionless(sample: Sample) -> Iterator[Skip]:
    if not any(map(str.strip, sample.captions)):
        yield Skip(sample.id, str(sample.path), NO_CAPTIONS, f"no captions for {sample.path}")
    try:
        "".join(sample.captions).encode()
    except UnicodeEncodeError as error:  # cut within a character, as JSON may hold it
        why = f"the captions of {sample.path} are no Unicode text: {error}"
        yield Skip(sample.id, str(sample.path), NO_TEXT, why)


def _unreadable(sample: Sample) -> Iterator[Skip]:
    try:
        sample.open()
    except ImageError as error:
        yield Skip(sample.id, str(sample.path), error.reason, str(error))


def _counted(skipped: Sequence[Skip]) -> str:
    plural = "" if len(skipped) == 1 else "s"
    reasons = [f"{count} {why}" for why, count in Counter(skip.reason for skip in skipped).most_common()]
    whys = f" ({', '.join(reasons)})" if len(reasons) > 1 else ""
    return f"{len(skipped)} image{plural} skipped{whys}; the first: {skipped[0].message}"

"""Images with captions in a simple layout: a file that lists them, or a text file beside each image.

A row of the list has an image (a path relative to the list's folder) and captions, under the keys in
``keys.py``, and may have ``id`` and ``item``. An image may have several rows, each with one caption.
"""

from __future__ import annotations

from pathlib import Path

from phasebench.datasets import keys
from phasebench.datasets.lines import read_lines
from phasebench.datasets.merging import merge_same_files
from phasebench.datasets.paths import ImageFinder, image_files, is_picture
from phasebench.datasets.sample import Sample
from phasebench.errors import InputError

LISTS = ("captions.jsonl", "metadata.jsonl", "captions.csv", "metadata.csv")
"""Names of the file that lists a folder's images; the first that is present is read."""
ANNOTATIONS = "annotations"
"""A folder for lists of images that are in folders beside it."""


def list_file(folder: Path) -> Path | None:
    """The file that lists a folder's images; None if it has none."""
    return next((folder / name for name in LISTS if (folder / name).is_file()), None)


def read_folder_of_images(folder: Path) -> list[Sample]:
    """One sample per image; its captions are the lines of ``NAME.txt`` beside ``NAME.png``.

    Raises:
        InputError: a text file is not UTF-8.
    """
    find = ImageFinder([folder], below=False)
    return [
        Sample(path.name, path, _lines(find(path.with_suffix(".txt").name)), path.name)
        for path in image_files(folder)
    ]


def _lines(path: Path) -> tuple[str, ...]:
    if not path.is_file() or is_picture(path.name):
        return ()
    try:
        return keys.stripped(path.read_text(encoding="utf-8-sig").splitlines())
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error}") from error


def read_list(path: Path) -> list[Sample]:
    """One sample per image; several rows of one file are merged.

    Args:
        path: JSON Lines, a list in JSON, or a table.

    Raises:
        InputError: a row does not list an image with captions, its item differs from that of an earlier row
            of the same image, or no row has captions; the message names the file.
    """
    rows = _Rows(path.parent)
    samples = read_lines(path, "an image with captions", rows.samples)
    keys.check_captions(path, found=any(sample.captions for sample in samples), keys=rows.keys)
    return merge_same_files(path, (sample for sample in samples if not rows.is_of_absent_split(sample)))


class _Rows:
    """Makes samples of a list's rows.

    Attributes:
        keys: the keys of all rows.
        splits: a folder that rows name apart (Karpathy's ``filepath``) -> whether any of its images is there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keys: dict[str, None] = {}
        self.splits: dict[Path, bool] = {}
        folders = [folder, folder.parent] if folder.name == ANNOTATIONS else [folder]
        images = (path / "images" for path in folders)
        self.find = ImageFinder([*folders, *(path for path in images if path.is_dir())])

    def samples(self, row: keys.Row) -> list[Sample]:
        """The image of a row, or the two of a pair."""
        self.keys.update(dict.fromkeys(row))
        return [self._sample(single) for single in keys.pair(row)]

    def _sample(self, row: keys.Row) -> Sample:
        split, name = keys.image_folder(row), keys.image_name(row)
        key = str(keys.first_value(row, "id", default=name))
        item = str(keys.first_value(row, "item", default=key))
        path = self.find.find(name, split)
        if split:
            expected = self.folder / split
            self.splits[expected] = self.splits.get(expected, False) or path is not None
        return Sample(key, path or self.folder / name, keys.captions(row), item)

    def is_of_absent_split(self, sample: Sample) -> bool:
        """Whether the sample is of a split without images, while other splits have some."""
        return any(self.splits.values()) and not self.splits.get(sample.path.parent, True)

"""Finding the image files that lists name, and telling pictures from other files."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath

PICTURES = (
    ".apng", ".arw", ".avif", ".bmp", ".cr2", ".cr3", ".dng", ".gif", ".heic", ".heif", ".jfif", ".jp2",
    ".jpe", ".jpeg", ".jpg", ".jxl", ".nef", ".orf", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".qoi", ".raf",
    ".rw2", ".svg", ".tga", ".tif", ".tiff", ".webp",
)  # fmt: skip
"""Endings of pictures, also of those that Pillow opens only with a plugin, or never."""
OF_OTHER_PROGRAMS = ("__MACOSX", "@eaDir")
"""Folders that macOS's archives and Synology's servers add."""
Parts = tuple[str, ...]


def is_visible(name: str) -> bool:
    """Whether the name of a file or folder is no hidden one, such as macOS's ``._a.png``."""
    return not name.startswith(".") and name not in OF_OTHER_PROGRAMS


def is_picture(name: str) -> bool:
    """Whether the ending of a file's name is one of pictures."""
    return PurePosixPath(name).suffix.lower() in PICTURES


def visible_files(folder: Path) -> list[Path]:
    """The files directly in a folder that are not hidden, sorted by name."""
    return sorted(path for path in folder.iterdir() if is_visible(path.name) and not path.is_dir())


def image_files(folder: Path) -> list[Path]:
    """The pictures directly in a folder, sorted by name."""
    return [path for path in visible_files(folder) if is_picture(path.name)]


def folders_of_images(folder: Path) -> list[Path]:
    """The folders directly in a folder that have pictures, sorted by name."""
    folders = (path for path in sorted(folder.iterdir()) if is_visible(path.name) and path.is_dir())
    return [path for path in folders if image_files(path)]


class ImageFinder:
    """Finds files by the names in a list, in folders that it reads once.

    A name is tried as it is written; then with ``\\`` between folders; with another Unicode form (macOS) or
    case (Windows), and without an ending if it has none; in the only subfolder that has it; and without the
    folders that lead to the images, or to the split.

    Attributes:
        roots: folders that names are relative to, in this order.
        below: whether subfolders of the roots are searched too.
    """

    def __init__(self, roots: Iterable[Path], *, below: bool = True) -> None:
        self.roots, self.below = tuple(roots), below
        self._folders: dict[Path, _Folder] = {}

    def __call__(self, name: str, split: str = "") -> Path:
        """The file called ``name``; if there is none, the path where it was expected."""
        return self.find(name, split) or self.roots[0] / name

    def find(self, name: str, split: str = "") -> Path | None:
        """The file called ``name``, or None.

        Args:
            name: the name in the list.
            split: the name of the split, which a name may begin with although no folder is called so.
        """
        return next(self._candidates(name, split), None)

    def _candidates(self, name: str, split: str) -> Iterator[Path]:
        spelled = [(root, parts) for parts in _spellings(name) for root in self.roots]
        yield from filter(None, (self._below(root, parts) for root, parts in spelled))
        for root, parts in spelled:
            if self.below and ".." not in parts and (path := self._in_subfolder(root, parts)):
                yield path
            if path := self._below(root, _within(root, split, parts)):
                yield path

    def _in_subfolder(self, root: Path, parts: Parts) -> Path | None:
        """The file in the only direct subfolder of ``root`` that has it."""
        found = [path for folder in self._folder(root).folders if (path := self._below(root / folder, parts))]
        return found[0] if len(found) == 1 else None

    def _below(self, root: Path, parts: Parts) -> Path | None:
        """The file at ``parts`` below ``root``, in any spelling."""
        path = root
        for part in parts:
            name = part if part in ("/", "..") else self._folder(path).find(part)
            if name is None:
                return None
            path /= name
        return path

    def _folder(self, path: Path) -> _Folder:
        if path not in self._folders:
            self._folders[path] = _Folder(path)
        return self._folders[path]


def _within(root: Path, split: str, parts: Parts) -> Parts:
    """The parts of a name without those at its beginning that lead to ``root``, or to the split."""
    where = root.absolute().parts
    lengths = range(len(parts) - 1, 0, -1)
    return parts[next((n for n in lengths if parts[:n] == where[-n:] or parts[n - 1] == split), 0) :]


def _spellings(name: str) -> Iterator[Parts]:
    """The parts of a name, with each kind of separator."""
    spellings = (name, name.strip(), name.strip().replace("\\", "/"))
    return (parts for spelling in dict.fromkeys(spellings) if (parts := PurePosixPath(spelling).parts))


class _Folder:
    """The names in a folder, which is read once; none if it cannot be read."""

    def __init__(self, path: Path) -> None:
        self.names: set[str] = set()
        self.folders: list[str] = []
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    self.names.add(entry.name)
                    if entry.is_dir() and is_visible(entry.name):
                        self.folders.append(entry.name)
        except (OSError, ValueError):
            pass

    def find(self, name: str) -> str | None:
        """The entry called ``name``, or nearly so."""
        if name in self.names:
            return name
        alike = self._by_form.get(_form(name), [])
        equal = [other for other in alike if _composed(other) == _composed(name)]
        if len(equal or alike) == 1:
            return (equal or alike)[0]
        stems = [] if is_picture(name) else self._pictures_by_stem.get(_form(name), [])
        return stems[0] if stems else None

    @cached_property
    def _by_form(self) -> dict[str, list[str]]:
        return _grouped((_form(name), name) for name in sorted(self.names) if is_visible(name))

    @cached_property
    def _pictures_by_stem(self) -> dict[str, list[str]]:
        pictures = (name for name in sorted(self.names) if is_visible(name) and is_picture(name))
        return _grouped((_form(PurePosixPath(name).stem), name) for name in pictures)


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _form(name: str) -> str:
    """What names have in common that differ in Unicode form and case."""
    return _composed(_composed(name).casefold())


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for key, name in pairs:
        groups.setdefault(key, []).append(name)
    return groups

"""Reading image files as RGB; modes whose values have no known range are errors."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from phasebench.datasets.image_metadata import without_metadata
from phasebench.datasets.paths import PICTURES
from phasebench.errors import InputError

SIXTEEN_BITS = 65535
SECONDS = 60.0
"""Time limit for reading one file."""
BACKGROUND = "white"
"""The background of transparent images; most are made for a white page."""
TURNS: Mapping[Any, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""Orientation in EXIF data -> what turns the stored picture upright (EXIF 2.32, tag 0x0112)."""


class ImageError(InputError):
    """An image that cannot be measured.

    Attributes:
        reason: a few words, the same for every image with this problem, by which such images are counted.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def open_rgb(path: Path) -> Image.Image:
    """The image as RGB, rotated according to its EXIF data; the first frame of an animation.

    Broken metadata are no obstacle if the pixels are whole.

    Raises:
        ImageError: the file is missing, cannot be read in time, is not a complete image, is too large, or its
            values have no known range.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd metadata, and about sizes below PIL's own limit
            return _decode(read_bytes(path))
    except ImageError as error:
        message = str(error) if str(path) in str(error) else f"unreadable image {path}: {error}"
        raise ImageError(error.reason, message) from error
    except Exception as error:  # a damaged file makes PIL's decoders raise anything
        raise _image_error(path, error) from error


def _decode(data: bytes) -> Image.Image:
    """The image in a file's content; if it cannot be decoded, it is tried again without its metadata."""
    try:
        return _rgb(data)
    except (ImageError, Image.DecompressionBombError):
        raise
    except Exception:  # a damaged file makes PIL's decoders raise anything
        for keep_exif in (True, False):
            with suppress(Exception):
                return _rgb(without_metadata(data, keep_exif=keep_exif))
        raise


def _rgb(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as image:
        return as_rgb(upright(image))


def upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF data say; as it is stored if they cannot be parsed.

    Raises:
        OSError: the pixels cannot be decoded; PIL's decoders raise other errors too.
    """
    image.load()  # before the EXIF data, so that an error here is one of the pixels
    try:
        method = TURNS.get(image.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # anything that broken EXIF data make PIL raise
        return image
    return image if method is None else image.transpose(method)


def read_bytes(path: Path) -> bytes:
    """A file's content, read in a thread, so that a lost network folder does not block a run forever.

    Raises:
        ImageError: reading takes longer than ``SECONDS``.
        OSError: the file cannot be read.
    """
    content: list[bytes] = []
    errors: list[OSError] = []
    reader = threading.Thread(target=_read, args=(path, content, errors), daemon=True)
    reader.start()
    reader.join(SECONDS)
    if reader.is_alive():
        raise ImageError("not read in time", f"not read within {SECONDS:.0f} s: {path}")
    if errors:
        raise errors[0]
    return content[0]


def _read(path: Path, content: list[bytes], errors: list[OSError]) -> None:
    try:
        content.append(path.read_bytes())
    except OSError as error:
        errors.append(error)
    except ValueError as error:  # a name that no file system allows
        errors.append(OSError(str(error)))


def _image_error(path: Path, error: Exception) -> ImageError:
    if isinstance(error, FileNotFoundError):
        return ImageError("missing", f"image file missing: {path}")
    if isinstance(error, Image.DecompressionBombError):
        reason = "too large"
    elif isinstance(error, UnidentifiedImageError) and not _is_read(path.suffix.lower()):
        reason = f"{path.suffix.lower()} is not read"
        return ImageError(reason, f"{path}: {reason} by PIL without a plugin; convert it to PNG or JPEG")
    elif isinstance(error, UnidentifiedImageError):
        return ImageError("no image", f"unreadable image {path}: no format that PIL knows")
    elif "truncated" in str(error).lower():
        reason = "truncated"
    else:
        reason = "corrupt"
    return ImageError(reason, f"unreadable image {path}: {error}")


def _is_read(ending: str) -> bool:
    """Whether PIL, with the plugins that are registered, reads pictures with this ending."""
    return ending not in PICTURES or ending in Image.registered_extensions()


def as_rgb(image: Image.Image) -> Image.Image:
    """The image as RGB: 16 bits scaled to 8, transparent images on a white background.

    Raises:
        ImageError: its values have no known range: floats, and integers beyond 16 bits.
    """
    if image.mode.startswith("I") or image.mode == "F":
        return _grey_of_8_bits(image).convert("RGB")
    if image.has_transparency_data:
        background = Image.new("RGBA", image.size, BACKGROUND)
        return Image.alpha_composite(background, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _grey_of_8_bits(image: Image.Image) -> Image.Image:
    """The image in 8 bits of grey; PIL's own conversion would clip everything above 255 to white."""
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > SIXTEEN_BITS:
        raise ImageError("unknown range", f"mode {image.mode}: the numbers' range is not known")
    return Image.fromarray(np.rint(values * (255 / SIXTEEN_BITS)).astype(np.uint8))

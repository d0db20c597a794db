"""From an image file to RGB pixels: every mode that has one meaning, and a reason for the rest."""

from __future__ import annotations

import io
import struct
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from phasebench.errors import InputError

PNG = b"\x89PNG\r\n\x1a\n"
SIXTEEN_BITS = 65535
SECONDS = 60.0
"""How long the reading of one file may take."""
PAGE = "white"
"""What lies behind a transparent picture, as behind most that are made to lie on a page."""


class ImageError(InputError):
    """An image that cannot be measured; ``reason`` is a few words that such images are counted by."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def open_rgb(path: Path) -> Image.Image:
    """The image as RGB, turned as its EXIF data says; of an animation the first frame.

    Raises:
        ImageError: the file is missing, is not read in time, is no whole image, is too large, or its
            values have no known range.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata, and of size before it is PIL's error
            with Image.open(io.BytesIO(read_bytes(path))) as image:
                return as_rgb(ImageOps.exif_transpose(image))
    except ImageError as error:
        told = str(error) if str(path) in str(error) else f"unreadable image {path}: {error}"
        raise ImageError(error.reason, told) from error
    except Exception as error:  # a damaged file makes PIL's decoders raise anything
        raise _image_error(path, error) from error


def unpacked(data: bytes) -> bytes:
    """The bytes of a PNG with its picture decompressed, of any other file as they are.

    Two libraries compress one picture to other bytes, also those that two machines' Pillow is linked to.
    """
    if not data.startswith(PNG):
        return data
    beside, picture, at = [], [], len(PNG)
    try:
        while at < len(data):
            size, kind = struct.unpack_from(">I4s", data, at)
            chunk = data[at + 8 : at + 8 + size]
            at += size + 12  # a checksum ends it
            if kind == b"IDAT":
                picture.append(chunk)
            else:
                beside.append(kind + chunk)
        return b"".join(beside) + zlib.decompress(b"".join(picture))
    except (struct.error, zlib.error):
        return data


def read_bytes(path: Path) -> bytes:
    """A file's content, read beside the main thread: a lost network folder must not stop a run for good.

    Raises:
        ImageError: it took longer than ``SECONDS``.
        OSError: it cannot be read.
    """
    read: list[bytes] = []
    failed: list[OSError] = []
    reader = threading.Thread(target=_read, args=(path, read, failed), daemon=True)
    reader.start()
    reader.join(SECONDS)
    if reader.is_alive():
        raise ImageError("not read in time", f"not read within {SECONDS:.0f} s: {path}")
    if failed:
        raise failed[0]
    return read[0]


def _read(path: Path, read: list[bytes], failed: list[OSError]) -> None:
    try:
        read.append(path.read_bytes())
    except OSError as error:
        failed.append(error)
    except ValueError as error:  # a name that no file system has
        failed.append(OSError(str(error)))


def _image_error(path: Path, error: Exception) -> ImageError:
    if isinstance(error, FileNotFoundError):
        return ImageError("missing", f"image file missing: {path}")
    if isinstance(error, Image.DecompressionBombError):
        reason = "too large"
    elif isinstance(error, UnidentifiedImageError):
        return ImageError("no image", f"unreadable image {path}: no format that PIL knows")
    elif "truncated" in str(error).lower():
        reason = "truncated"
    else:
        reason = "corrupt"
    return ImageError(reason, f"unreadable image {path}: {error}")


def as_rgb(image: Image.Image) -> Image.Image:
    """The picture as RGB: 16 bits scaled to 8, transparency laid on white.

    Raises:
        ImageError: numbers whose range is not known: floats, and integers beyond 16 bits.
    """
    if image.mode.startswith("I") or image.mode == "F":
        return _from_numbers(image).convert("RGB")
    if image.has_transparency_data:
        page = Image.new("RGBA", image.size, PAGE)
        return Image.alpha_composite(page, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _from_numbers(image: Image.Image) -> Image.Image:
    """8 bits of grey; PIL's own conversion would clip everything above 255 to white."""
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > SIXTEEN_BITS:
        raise ImageError("unknown range", f"mode {image.mode}: the numbers' range is not known")
    return Image.fromarray(np.rint(values * (255 / SIXTEEN_BITS)).astype(np.uint8))

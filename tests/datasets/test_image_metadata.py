"""Pictures whose pixels are whole and whose metadata is broken."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, PngImagePlugin

from phasebench.datasets.image_metadata import without_metadata
from phasebench.datasets.pixels import ImageError, open_rgb

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
OPTIONS = {"PNG": {}, "JPEG": {}, "WEBP": {"lossless": True}}


def encoded(kind: str, **metadata: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, kind, **OPTIONS[kind], **metadata)
    return stream.getvalue()


def exif(orientation: int = 1) -> bytes:
    data = Image.Exif()
    data[ExifTags.Base.Orientation] = orientation
    return data.tobytes()


def chunk(name: bytes, content: bytes, *, checksum: int | None = None) -> bytes:
    crc = zlib.crc32(name + content) if checksum is None else checksum
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", crc)


def in_png(*chunks: bytes) -> bytes:
    plain = encoded("PNG")
    return plain[:33] + b"".join(chunks) + plain[33:]  # after the header


def in_jpeg(marker: int, content: bytes) -> bytes:
    plain = encoded("JPEG")
    return plain[:2] + struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content + plain[2:]


LONG_TEXT = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2 * PngImagePlugin.MAX_TEXT_CHUNK)))
LONG_PROFILE = chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(2 * PngImagePlugin.MAX_TEXT_CHUNK)))
BROKEN = {
    "png exif": encoded("PNG", exif=b"Exif\0\0not a tiff"),
    "png long text": in_png(LONG_TEXT),
    "png long profile": in_png(LONG_PROFILE),
    "png short profile": in_png(chunk(b"iCCP", b"")),
    "png wrong checksum": in_png(chunk(b"pHYs", b"x", checksum=0)),
    "jpeg exif": encoded("JPEG", exif=b"Exif\0\0garbage"),
    "jpeg photoshop": in_jpeg(0xED, b"Photoshop 3.0\x008BIM\x04"),
    "jpeg pictures": in_jpeg(0xE2, b"MPF\0II*\0\xff\xff\xff\xff"),
    "webp exif": encoded("WEBP", exif=b"garbage"),
    "webp cut off": encoded("WEBP", exif=exif(), xmp=b"<x/>" * 20)[:-30],
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_pixels_are_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "x").write_bytes(BROKEN[name])
    plain = Image.open(io.BytesIO(encoded(name.split(maxsplit=1)[0].upper())))
    assert np.array_equal(np.asarray(open_rgb(tmp_path / "x")), np.asarray(plain))


@pytest.mark.parametrize("name", ["png long text", "png long profile"])
def test_pillow_alone_refuses_these(name: str) -> None:
    """Otherwise the test above would not show anything."""
    with pytest.raises(Exception, match=r"too large|MAX_TEXT"), Image.open(io.BytesIO(BROKEN[name])) as image:
        image.load()


def test_the_orientation_counts_although_other_metadata_are_broken(tmp_path: Path) -> None:
    orientation = chunk(b"eXIf", exif(6).removeprefix(b"Exif\0\0"))
    (tmp_path / "x.png").write_bytes(in_png(orientation, LONG_TEXT))
    assert open_rgb(tmp_path / "x.png").size == PIXELS.shape[:2]
    (tmp_path / "x.png").write_bytes(in_png(chunk(b"eXIf", b"II*\0\xff"), LONG_TEXT))
    assert open_rgb(tmp_path / "x.png").size == PIXELS.shape[1::-1]


@pytest.mark.parametrize("kind", OPTIONS)
@pytest.mark.parametrize("keep_exif", [True, False])
def test_pixels_stay_and_metadata_go(kind: str, *, keep_exif: bool) -> None:
    profile = b"profile" * 30
    full = encoded(kind, exif=exif(3), icc_profile=profile, xmp=b"<x/>")
    stripped = without_metadata(full, keep_exif=keep_exif)
    assert (profile in stripped, len(stripped) < len(full)) == (False, True)
    with Image.open(io.BytesIO(stripped)) as image, Image.open(io.BytesIO(full)) as whole:
        assert np.array_equal(np.asarray(image), np.asarray(whole))
        assert image.getexif().get(ExifTags.Base.Orientation) == (3 if keep_exif else None)


def test_transparency_stays() -> None:
    stream = io.BytesIO()
    Image.new("P", (2, 2)).save(stream, "PNG", transparency=0)
    with Image.open(io.BytesIO(without_metadata(stream.getvalue()))) as image:
        assert image.has_transparency_data


@pytest.mark.parametrize("kind", OPTIONS)
def test_broken_pixels_stay_refused(tmp_path: Path, kind: str) -> None:
    content = encoded(kind, exif=b"Exif\0\0garbage")
    marker = {"PNG": b"IDAT", "JPEG": b"\xff\xda", "WEBP": b"VP8L"}[kind]
    (tmp_path / "x").write_bytes(content[: content.index(marker) + 30])
    with pytest.raises(ImageError):
        open_rgb(tmp_path / "x")
    assert without_metadata(b"GIF89a") == b"GIF89a"

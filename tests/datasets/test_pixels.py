"""Reading every kind of image file: its pixels, or the reason why it cannot be read."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from phasebench.datasets import pixels
from phasebench.datasets.pixels import ImageError, open_rgb
from phasebench.datasets.sample import Sample
from phasebench.errors import InputError

RED, GREEN = (255, 0, 0), (0, 255, 0)


def save(image: Image.Image, path: Path, **options: Any) -> Path:
    image.save(path, **options)
    return path


def noise(path: Path) -> Path:
    values = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return save(Image.fromarray(values), path)


def colours(image: Image.Image) -> list[object]:
    assert image.mode == "RGB"
    return [image.getpixel((x, 0)) for x in range(image.width)]


def test_grey_and_black_and_white(tmp_path: Path) -> None:
    grey = Image.fromarray(np.array([[0, 100, 255]], dtype=np.uint8))
    assert colours(open_rgb(save(grey, tmp_path / "l.png"))) == [(0,) * 3, (100,) * 3, (255,) * 3]
    bits = grey.point(lambda value: 255 * (value > 50)).convert("1")
    assert colours(open_rgb(save(bits, tmp_path / "1.png"))) == [(0,) * 3, (255,) * 3, (255,) * 3]


def test_cmyk_is_converted(tmp_path: Path) -> None:
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    assert colours(open_rgb(save(image, tmp_path / "x.tif"))) == [RED] * 8
    near = np.asarray(open_rgb(save(image, tmp_path / "x.jpg", quality=95)), dtype=int)
    assert np.abs(near - RED).max() < 8


def test_a_palette_gives_its_colours(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([*RED, *GREEN])
    image.putpixel((1, 0), 1)
    assert colours(open_rgb(save(image, tmp_path / "x.png"))) == [RED, GREEN]
    assert colours(open_rgb(save(image, tmp_path / "t.png", transparency=1))) == [RED, (255, 255, 255)]
    alphas = bytes([255, 0])  # one alpha for each colour: PIL would warn
    assert colours(open_rgb(save(image, tmp_path / "b.png", transparency=alphas))) == [RED, (255, 255, 255)]


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (3, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 0, 51))
    image.putpixel((2, 0), (255, 0, 0, 255))
    assert colours(open_rgb(save(image, tmp_path / "a.png"))) == [(255,) * 3, (204,) * 3, RED]
    grey = Image.new("LA", (1, 1), (0, 0))
    assert colours(open_rgb(save(grey, tmp_path / "la.png"))) == [(255,) * 3]


@pytest.mark.parametrize("ending", ["png", "tif", "pgm"])
def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path: Path, ending: str) -> None:
    values = np.array([[0, 255, 257, 32896, 65535]], dtype=np.uint16)
    path = save(Image.fromarray(values), tmp_path / f"x.{ending}")
    assert colours(open_rgb(path)) == [(value,) * 3 for value in (0, 1, 1, 128, 255)]


@pytest.mark.parametrize(("mode", "value"), [("F", 0.5), ("I", -1), ("I", 70000)])
def test_numbers_of_unknown_range_are_refused(tmp_path: Path, mode: str, value: float) -> None:
    path = save(Image.new(mode, (4, 4), value), tmp_path / "x.tif")
    with pytest.raises(ImageError, match=r"x\.tif: mode .: the numbers' range") as caught:
        open_rgb(path)
    assert caught.value.reason == "unknown range"


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [(1, [RED, GREEN]), (2, [GREEN, RED]), (3, [GREEN, RED]), (6, [RED]), (8, [GREEN])],
)
def test_the_image_is_rotated_by_its_exif_data(
    tmp_path: Path, orientation: int, expected: list[object]
) -> None:
    image = Image.new("RGB", (2, 1), RED)
    image.putpixel((1, 0), GREEN)
    exif = image.getexif()
    exif[0x0112] = orientation
    rgb = open_rgb(save(image, tmp_path / "x.png", exif=exif))
    assert rgb.size == ((1, 2) if orientation > 4 else (2, 1))
    assert colours(rgb) == expected


@pytest.mark.parametrize("ending", ["gif", "png", "webp", "tif"])
def test_the_first_frame_of_an_animation_is_read(tmp_path: Path, ending: str) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, GREEN)]
    options = {"lossless": True} if ending == "webp" else {}
    path = save(frames[0], tmp_path / f"x.{ending}", save_all=True, append_images=frames[1:], **options)
    assert colours(open_rgb(path)) == [RED] * 4


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1)])
def test_tiny_images_are_read(tmp_path: Path, size: tuple[int, int]) -> None:
    assert open_rgb(save(Image.new("RGB", size, RED), tmp_path / "x.png")).size == size


def test_an_image_beyond_pils_limit_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(Image.new("RGB", (20, 20)), tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)  # PIL warns above it, refuses above twice as many
    assert open_rgb(path).size == (20, 20)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 150)
    with pytest.raises(ImageError, match=r"x\.png: .*exceeds limit") as caught:
        open_rgb(path)
    assert caught.value.reason == "too large"


@pytest.mark.parametrize("ending", ["png", "jpg", "gif", "tif", "bmp"])
def test_a_file_that_ends_early_is_truncated(tmp_path: Path, ending: str) -> None:
    path = noise(tmp_path / f"x.{ending}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ImageError, match=r"unreadable image .*x\.") as caught:
        open_rgb(path)
    assert caught.value.reason == "truncated"


def test_a_file_damaged_in_the_middle_is_corrupt(tmp_path: Path) -> None:
    path = noise(tmp_path / "x.png")
    content = bytearray(path.read_bytes())
    content[200:400] = bytes(200)
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"unreadable image .*x\.png") as caught:
        open_rgb(path)
    assert caught.value.reason == "corrupt"


@pytest.mark.parametrize("content", [b"", b"no image", b"<svg></svg>"])
def test_a_file_that_is_no_image_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(ImageError) as caught:
        open_rgb(tmp_path / "x.jpg")
    assert caught.value.reason == "no image"


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"image file missing: .*y\.png") as caught:
        open_rgb(tmp_path / "y.png")
    assert caught.value.reason == "missing"
    with pytest.raises(ImageError, match="unreadable image"):
        open_rgb(tmp_path)


@pytest.mark.parametrize("ending", ["png", "jpg", "gif", "tif", "webp", "bmp"])
def test_any_damage_is_an_image_error(tmp_path: Path, ending: str) -> None:
    path = noise(tmp_path / f"x.{ending}")
    whole, rng = path.read_bytes(), np.random.default_rng(1)
    for _ in range(60):
        content = bytearray(whole)
        for position in rng.integers(0, min(len(whole), 600), 5):
            content[position] = int(rng.integers(256))
        path.write_bytes(content)
        with suppress(ImageError):
            assert open_rgb(path).mode == "RGB"


def test_a_file_that_cannot_be_read_in_time_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading a pipe without a writer blocks forever, like a network folder whose server is gone."""
    monkeypatch.setattr(pixels, "SECONDS", 0.05)
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(ImageError, match=r"^not read within 0 s: .*x\.png$") as caught:
        open_rgb(tmp_path / "x.png")
    assert caught.value.reason == "not read in time"
    with pytest.raises(InputError, match="not read within"):
        Sample("x", tmp_path / "x.png", ("a cat",), "x").digest()
    (tmp_path / "x.png").open("wb").close()  # ends the reading threads

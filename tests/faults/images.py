"""Faults of pictures and of how they are made into pixels."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from tests.faults.kinds import IMAGES, files, memory
from tests.faults.patient import Patient, setting

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HALF = (0.5, 0.5, 0.5)
SHARES = (0.1, 0.5, 1.0)


def pixels(folder: Path, name: str, value: Any) -> None:
    setting(folder / "processor_config.json", "image_processor", name, value=value)


@files("image mean wrong or dropped", "0.5 -> {}", (0.48, 0.4, 0.0), IMAGES)
def mean(folder: Path, value: float) -> None:
    pixels(folder, "image_mean", [value] * 3)


@files("image deviation wrong or dropped", "0.5 -> {}", (0.48, 0.27, 1.0), IMAGES)
def deviation(folder: Path, value: float) -> None:
    pixels(folder, "image_std", [value] * 3)


@files("normalised as another model's pictures", "{:.0%} of the way to CLIP's", (0.1, 0.5, 1.0), IMAGES)
def normalised(folder: Path, value: float) -> None:
    for name, other in (("image_mean", CLIP_MEAN), ("image_std", CLIP_STD)):
        pixels(folder, name, [a + value * (b - a) for a, b in zip(HALF, other, strict=True)])


@files("range of the pixels", "times {:.4g}", (1 / 256, 1 / 127.5, 1.0), IMAGES)
def scale(folder: Path, value: float) -> None:
    pixels(folder, "rescale_factor", value)


@files(
    "resized with another filter",
    "bicubic -> {}",
    (("Lanczos", 1), ("bilinear", 2), ("nearest", 0)),
    IMAGES,
    data="photos",
)
def resampled(folder: Path, value: tuple[str, int]) -> None:
    pixels(folder, "resample", value[1])


@memory("resized and cropped instead of stretched", "to {}, then 96", (100, 112, 160), IMAGES)
def cropped(patient: Patient, size: int) -> None:
    def crop(picture: Image.Image) -> Image.Image:
        side = min(picture.size) * 96 / size
        left, top = (picture.width - side) / 2, (picture.height - side) / 2
        return picture.resize(picture.size, box=(left, top, left + side, top + side))

    patient.pictures(crop)


@memory("channels in another order (BGR)", "{:.0%} of the pictures", SHARES, IMAGES)
def bgr(patient: Patient, share: float) -> None:
    patient.pictures(lambda picture: Image.merge("RGB", picture.split()[::-1]), share)


@memory("flipped left to right", "{:.0%} of the pictures", SHARES, IMAGES)
def flipped(patient: Patient, share: float) -> None:
    patient.pictures(ImageOps.mirror, share)


@memory("turned, as by a lost EXIF mark", "{:.0%} of the pictures", SHARES, IMAGES)
def turned(patient: Patient, share: float) -> None:
    patient.pictures(lambda picture: picture.transpose(Image.Transpose.ROTATE_90), share)


@memory("read as grey", "{:.0%} of the pictures", SHARES, IMAGES)
def grey(patient: Patient, share: float) -> None:
    patient.pictures(lambda picture: picture.convert("L").convert("RGB"), share)


@memory("blank instead of the picture", "{:.0%} of the pictures", SHARES, IMAGES)
def blank(patient: Patient, share: float) -> None:
    patient.pictures(lambda picture: Image.new("RGB", picture.size), share)


@memory("the picture before this one", "{:.0%} of the pictures", SHARES, IMAGES)
def mixed_up(patient: Patient, share: float) -> None:
    patient.pictures(patient.other, share)


@memory("compressed again as JPEG", "quality {}", (95, 75, 20), IMAGES)
def compressed(patient: Patient, quality: int) -> None:
    def compress(picture: Image.Image) -> Image.Image:
        buffer = BytesIO()
        picture.save(buffer, "jpeg", quality=quality)
        return Image.open(buffer).convert("RGB")

    patient.pictures(compress)


@memory("made small before", "to {:.0%}", (0.9, 0.5, 0.2), IMAGES)
def shrunk(patient: Patient, by: float) -> None:
    patient.pictures(lambda picture: picture.resize([max(1, round(by * side)) for side in picture.size]))


@memory("colour profile lost (gamma)", "{}", (1.02, 1.2, 2.2), IMAGES)
def gamma(patient: Patient, power: float) -> None:
    table = [round(255 * (level / 255) ** power) for level in range(256)] * 3
    patient.pictures(lambda picture: picture.point(table))


@memory("rows of a batch mixed", "{:.0%} of another picture's features", (0.01, 0.1, 0.5), IMAGES)
def leaking(patient: Patient, share: float) -> None:
    def blend(picture: Image.Image) -> Image.Image:
        return Image.blend(picture, patient.other(picture).resize(picture.size), share)

    patient.pictures(blend)

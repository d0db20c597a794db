"""Faults of pictures and of how they are made into pixels."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from tests.faults.kinds import IMAGES, files, memory
from tests.faults.patient import Patient, set_value

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HALF = (0.5, 0.5, 0.5)
SHARES = (0.1, 0.5, 1.0)


def set_pixel_config(folder: Path, name: str, value: Any) -> None:
    set_value(folder / "processor_config.json", "image_processor", name, value=value)


@files("image mean wrong or dropped", "0.5 -> {}", (0.48, 0.4, 0.0), IMAGES)
def set_image_mean(folder: Path, value: float) -> None:
    set_pixel_config(folder, "image_mean", [value] * 3)


@files("image deviation wrong or dropped", "0.5 -> {}", (0.48, 0.27, 1.0), IMAGES)
def set_image_deviation(folder: Path, value: float) -> None:
    set_pixel_config(folder, "image_std", [value] * 3)


@files("normalised as another model's pictures", "{:.0%} of the way to CLIP's", (0.1, 0.5, 1.0), IMAGES)
def normalise_as_clip(folder: Path, value: float) -> None:
    for name, previous_picture in (("image_mean", CLIP_MEAN), ("image_std", CLIP_STD)):
        set_pixel_config(
            folder, name, [a + value * (b - a) for a, b in zip(HALF, previous_picture, strict=True)]
        )


@files("range of the pixels", "times {:.4g}", (1 / 256, 1 / 127.5, 1.0), IMAGES)
def set_pixel_range(folder: Path, value: float) -> None:
    set_pixel_config(folder, "rescale_factor", value)


@files(
    "resized with another filter",
    "bicubic -> {}",
    (("Lanczos", 1), ("bilinear", 2), ("nearest", 0)),
    IMAGES,
    data="photos",
)
def choose_resize_filter(folder: Path, value: tuple[str, int]) -> None:
    set_pixel_config(folder, "resample", value[1])


@memory("resized and cropped instead of stretched", "to {}, then 96", (100, 112, 160), IMAGES)
def crop_pictures(patient: Patient, size: int) -> None:
    def crop(picture: Image.Image) -> Image.Image:
        side = min(picture.size) * 96 / size
        left, top = (picture.width - side) / 2, (picture.height - side) / 2
        return picture.resize(picture.size, box=(left, top, left + side, top + side))

    patient.pictures(crop)


@memory("channels in another order (BGR)", "{:.0%} of the pictures", SHARES, IMAGES)
def swap_channels(patient: Patient, share: float) -> None:
    patient.pictures(lambda picture: Image.merge("RGB", picture.split()[::-1]), share)


@memory("flipped left to right", "{:.0%} of the pictures", SHARES, IMAGES)
def flip_pictures(patient: Patient, share: float) -> None:
    patient.pictures(ImageOps.mirror, share)


@memory("turned, as by a lost EXIF mark", "{:.0%} of the pictures", SHARES, IMAGES)
def rotate_pictures(patient: Patient, share: float) -> None:
    patient.pictures(lambda picture: picture.transpose(Image.Transpose.ROTATE_90), share)


@memory("read as grey", "{:.0%} of the pictures", SHARES, IMAGES)
def make_grey(patient: Patient, share: float) -> None:
    patient.pictures(lambda picture: picture.convert("L").convert("RGB"), share)


@memory("blank instead of the picture", "{:.0%} of the pictures", SHARES, IMAGES)
def replace_by_blank(patient: Patient, share: float) -> None:
    patient.pictures(lambda picture: Image.new("RGB", picture.size), share)


@memory("the picture before this one", "{:.0%} of the pictures", SHARES, IMAGES)
def replace_by_previous(patient: Patient, share: float) -> None:
    patient.pictures(patient.previous_picture, share)


@memory("compressed again as JPEG", "quality {}", (95, 75, 20), IMAGES)
def compress_again(patient: Patient, quality: int) -> None:
    def compress(picture: Image.Image) -> Image.Image:
        buffer = BytesIO()
        picture.save(buffer, "jpeg", quality=quality)
        return Image.open(buffer).convert("RGB")

    patient.pictures(compress)


@memory("made small before", "to {:.0%}", (0.9, 0.5, 0.2), IMAGES)
def shrink_pictures(patient: Patient, factor: float) -> None:
    patient.pictures(lambda picture: picture.resize([max(1, round(factor * side)) for side in picture.size]))


@memory("colour profile lost (gamma)", "{}", (1.02, 1.2, 2.2), IMAGES)
def apply_gamma(patient: Patient, power: float) -> None:
    table = [round(255 * (level / 255) ** power) for level in range(256)] * 3
    patient.pictures(lambda picture: picture.point(table))


@memory("rows of a batch mixed", "{:.0%} of another picture's features", (0.01, 0.1, 0.5), IMAGES)
def mix_with_previous(patient: Patient, share: float) -> None:
    def blend(picture: Image.Image) -> Image.Image:
        return Image.blend(picture, patient.previous_picture(picture).resize(picture.size), share)

    patient.pictures(blend)

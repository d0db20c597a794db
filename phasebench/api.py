"""``phasebench.measure``: measuring a loaded model in a notebook or script, without pytest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image
from torch import nn

from phasebench.curves import Curves
from phasebench.datasets.pixels import as_rgb, upright
from phasebench.datasets.sample import Sample
from phasebench.errors import InputError
from phasebench.measurement import measure as run
from phasebench.measurement.batches import ProgressUpdate
from phasebench.models.anatomy.parts import image_token_id
from phasebench.models.checks import check_image_token
from phasebench.models.loading import LoadedModel, default_prompt, try_out
from phasebench.settings import BatchSize, Settings

Picture = Image.Image | Path | str
Captions = str | Sequence[str]


@dataclass(frozen=True)
class _InMemorySample(Sample):
    """A sample whose picture is in memory and has no file."""

    image: Image.Image

    def open(self) -> Image.Image:
        try:
            return as_rgb(upright(self.image))
        except Exception as error:  # a damaged file makes PIL's decoders raise anything
            raise InputError(f"image {self.id}: cannot be read: {error}") from error


def measure(
    model: Any,
    processor: Any,
    images: Iterable[Picture],
    captions: Iterable[Captions] | None = None,
    *,
    prompt: str | None = None,
    batch_size: BatchSize = None,
    lens_norm: bool = True,
    normed_last_layer: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Curves:
    """Measure a transformers image-text-to-text model with the same code as ``pytest --phasebench``.

    Nothing is written to disk, and the model is not changed. In the curves, the images' ids are ``"0"``,
    ``"1"``, ... in order. An image whose states are not finite is NaN in all curves and is listed in
    ``provenance["broken"]``. One that the model refuses is in no curve; ``provenance["refused"]`` has the
    reason. A part that fails the self-test is NaN, with the reason in
    ``provenance["unmeasured"]``.

    Args:
        model: the model in evaluation mode, on its device and in its precision.
        processor: the model's processor.
        images: PIL images, or paths of image files.
        captions: one or several sentences for each image; without captions ``recall``, ``recall_other`` and
            ``lift`` are NaN.
        prompt: a text in the form that the processor expects, with its image token; by default one image
            and 'Describe the image.' in the processor's chat template.
        batch_size: the number of images per pass; ``auto`` for as many as fit into memory; None for 1 on a
            CPU and 8 on an accelerator.
        lens_norm: whether the LogitLens applies the final norm before the output head.
        normed_last_layer: whether similarity at layer L compares the states after the final norm, which
            transformers has in ``hidden_states[-1]``, instead of the last block's output.
        progress: a function that is called with the number of finished images and the number of all images.

    Returns:
        The curves: values per image and layer 0..L, with the layout, versions and digests in ``provenance``.

    Raises:
        InputError: an image cannot be read, or the model cannot be measured correctly.
    """

    def on_progress(update: ProgressUpdate) -> None:
        if progress is not None:
            progress(update.images, update.total)

    if batch_size not in (None, "auto") and (not isinstance(batch_size, int) or batch_size < 1):
        raise InputError(f"batch_size: give 1 or more, or 'auto' for as many as fit, not {batch_size!r}")
    for name, choice in (("lens_norm", lens_norm), ("normed_last_layer", normed_last_layer)):
        if not isinstance(choice, bool):
            raise InputError(f"{name}: give True or False, not {choice!r}")
    if progress is not None and not callable(progress):
        raise InputError(f"progress: give a function of two numbers, not {progress!r}")
    samples = _samples(images, captions)
    settings = Settings(batch_size=batch_size, lens_norm=lens_norm, normed_last_layer=normed_last_layer)
    loaded = _loaded_model(model, processor, prompt)
    measurement = run.measure(loaded, "images", samples, settings, on_progress)
    broken = {"broken": dict(measurement.broken)} if measurement.broken else {}
    refused = {skip.id: skip.message for skip in measurement.refused}
    notes = {**broken, **({"refused": refused} if refused else {})}
    return replace(measurement.curves, provenance={**measurement.curves.provenance, **notes})


def _loaded_model(model: Any, processor: Any, prompt: str | None) -> LoadedModel:
    """The caller's model in the form that loading returns; its rows are not stored, as it has no digest."""
    name = type(model).__name__
    if not isinstance(model, nn.Module) or not hasattr(processor, "tokenizer"):
        types = f"{name} and {type(processor).__name__}"
        raise InputError(f"model, processor: give a model and a processor with a tokenizer, not {types}")
    if not hasattr(model, "config"):
        raise InputError(
            f"{name} has no configuration; if it is a wrapper, pass the model inside (model.module)"
        )
    if model.training:
        raise InputError(f"{name} is in training mode, so dropout would be measured; call model.eval() first")
    check_image_token(model.config, processor.tokenizer, image_token_id(model))
    loaded = LoadedModel(name, model, processor, prompt or default_prompt(processor), checkpoint="")
    try_out(loaded)
    return loaded


def _samples(images: Iterable[Picture], captions: Iterable[Captions] | None) -> list[Sample]:
    if isinstance(images, Image.Image | str | Path):
        raise InputError("images: give a list of pictures, not a single one")
    images = list(images)
    if isinstance(captions, str):
        raise InputError("captions: give a list with one entry per image, not a single text")
    entries = [()] * len(images) if captions is None else list(captions)
    if len(entries) != len(images):
        raise InputError(f"captions: {len(entries)} for {len(images)} images; give one entry per image")
    return [_sample(str(index), *pair) for index, pair in enumerate(zip(images, entries, strict=True))]


def _sample(name: str, image: Picture, captions: Captions) -> Sample:
    if not isinstance(captions, Sequence) or not all(isinstance(text, str) for text in captions):
        raise InputError(f"captions: give a text or a list of texts for image {name}, not {captions!r:.80}")
    texts = (captions,) if isinstance(captions, str) else tuple(captions)
    if isinstance(image, Image.Image):
        return _InMemorySample(name, Path(), texts, name, image)
    if not isinstance(image, str | Path):
        raise InputError(f"images: give PIL images or paths; image {name} is of type {type(image).__name__}")
    return Sample(name, Path(image), texts, name)

"""Measuring one model on one dataset: every image once, the controls beside it."""

from __future__ import annotations

import platform
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
import transformers
from accelerate.utils.memory import should_reduce_batch_size

import phasebench
from phasebench.curves import Array, Curves
from phasebench.datasets.sample import Sample, digest
from phasebench.errors import InputError
from phasebench.measure import controls, lens
from phasebench.measure.passes import Row, plain_pass, probed_pass
from phasebench.measure.selftest import SelfTest, self_test
from phasebench.models.adapter import Anatomy, Inputs, dissect, not_finite
from phasebench.models.devices import empty_caches
from phasebench.models.loading import Loaded
from phasebench.settings import Settings

PLAIN = 8
"""Batches whose plain forward pass is timed too, each just before its instrumented one."""
MOST = 64
"""Largest batch that ``--batch-size auto`` tries."""
EXAMPLES = 2
"""Images whose own heatmap is kept."""

Progress = Callable[[int, int], None]
"""Called with the images done and the images in all."""


@dataclass
class Measurement:
    """What measuring a model on a dataset gives.

    Attributes:
        curves: per image and layer.
        controls: name of a control -> its curves (one row for ``blank``).
        seconds, plain_seconds: per image, of the instrumented and of the plain pass.
        heatmap: mean norm-based attention [L, N]; None where layouts differ.
        examples: the same of the first two images, by id (Fig. 4 shows two).
        selftest: the outcome of the checks.
        broken: image id -> from where on its states are not finite; such an image has no values there.
    """

    curves: Curves
    controls: dict[str, Curves]
    seconds: list[float]
    plain_seconds: list[float]
    heatmap: Array | None
    examples: dict[str, Array]
    selftest: SelfTest = field(repr=False)
    broken: dict[str, str] = field(default_factory=dict)


def measure(
    loaded: Loaded, dataset: str, samples: Sequence[Sample], settings: Settings, progress: Progress
) -> Measurement:
    """Measure ``loaded`` on ``samples``, one instrumented forward pass per image.

    What the self-test takes out is NaN in the curves, and named in ``provenance["unmeasured"]``.

    Raises:
        InputError: an image cannot be read, or the model cannot be measured rightly.
    """
    if not samples:
        raise InputError(f"--dataset {dataset}: no images drawn; raise --images")
    data = digest(samples)
    anatomy = dissect(loaded.model, loaded.inputs([samples[0].open()]))
    if settings.controls:
        controls.check_controls(loaded, anatomy)
    size = settings.batch_size or largest_batch(loaded, anatomy, samples)
    tested = self_test(anatomy, loaded.inputs([sample.open() for sample in samples[:size]]))
    rows, plain = _pass_over(loaded, anatomy, samples, settings, size, progress)
    reader = _Reader(loaded, samples)
    items = {sample.id: sample.item for sample in samples}
    provenance = _provenance(loaded, dataset, data, settings, rows)
    if loaded.source:
        provenance["source"] = loaded.source
    if tested.unmeasured:
        provenance["unmeasured"] = tested.unmeasured
    curves = Curves.from_arrays(_stack(rows, reader.recalls(rows)), items, provenance)
    return Measurement(
        curves=curves,
        controls=_controls(loaded, anatomy, samples, settings, reader),
        seconds=[row.seconds for row in rows],
        plain_seconds=plain,
        heatmap=_heatmap(rows),
        examples={sample.id: row.norms for sample, row in list(zip(samples, rows, strict=True))[:EXAMPLES]},
        selftest=tested,
        broken=_broken(anatomy, samples, rows),
    )


def _pass_over(
    loaded: Loaded,
    anatomy: Anatomy,
    samples: Sequence[Sample],
    settings: Settings,
    size: int,
    progress: Progress,
) -> tuple[list[Row], list[float]]:
    rows: list[Row] = []
    plain: list[float] = []
    for number, batch in enumerate(_batches(samples, size)):
        inputs = loaded.inputs([sample.open() for sample in batch])
        if number < PLAIN:
            plain += [plain_pass(anatomy, inputs)] * len(batch)
        rows += _pass(loaded, anatomy, batch, inputs, lens_norm=settings.lens_norm)
        progress(len(rows), len(samples))
    return rows, plain


def _pass(
    loaded: Loaded, anatomy: Anatomy, batch: Sequence[Sample], inputs: Inputs, *, lens_norm: bool
) -> list[Row]:
    """The rows of a batch; where memory runs out, of its halves: later pictures may be larger."""
    try:
        return probed_pass(anatomy, inputs, lens_norm=lens_norm)
    except (RuntimeError, MemoryError) as error:
        if len(batch) == 1 or not _out_of_memory(error):
            raise
    empty_caches()
    rows = []
    for half in (batch[: len(batch) // 2], batch[len(batch) // 2 :]):
        own = loaded.inputs([sample.open() for sample in half])
        rows += _pass(loaded, anatomy, half, own, lens_norm=lens_norm)
    return rows


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or bool(should_reduce_batch_size(error))


def largest_batch(loaded: Loaded, anatomy: Anatomy, samples: Sequence[Sample]) -> int:
    """How many images a pass takes before memory runs out, by doubling, at most ``MOST``."""
    size = 1
    while 2 * size <= min(MOST, len(samples)):
        try:
            probed_pass(anatomy, loaded.inputs([sample.open() for sample in samples[: 2 * size]]))
        except (RuntimeError, MemoryError) as error:
            if not _out_of_memory(error):
                raise
            empty_caches()
            break
        size *= 2
    return size


def _batches(samples: Sequence[Sample], size: int) -> Iterator[Sequence[Sample]]:
    for start in range(0, len(samples), size):
        yield samples[start : start + size]


class _Reader:
    """Turns lens tokens into recalls against an image's own and another image's captions."""

    def __init__(self, loaded: Loaded, samples: Sequence[Sample]) -> None:
        tokenizer = loaded.processor.tokenizer
        tokens = [
            lens.spelled(tokenizer, token) for token in tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
        ]
        for special in tokenizer.all_special_ids:  # <image> is not the word 'image'
            tokens[special] = ""
        self.vocabulary = lens.Vocabulary(tokens)
        self.references = [lens.reference_words(sample.captions) for sample in samples]
        self.vocabulary.learn(tokenizer, set().union(*self.references))
        self.other = lens.others([sample.item for sample in samples])

    def recalls(self, rows: Sequence[Row]) -> list[dict[str, Array]]:
        """``recall``, ``recall_other`` and ``lift`` of each row, [L + 1] each."""
        return [self._recall(row, index) for index, row in enumerate(rows)]

    def _recall(self, row: Row, index: int) -> dict[str, Array]:
        own, other = self._of(row, self.references[index]), self.other[index]
        foreign = self._of(row, self.references[other] if other is not None else ())
        return {"recall": own, "recall_other": foreign, "lift": own - foreign}

    def blank(self, row: Row) -> dict[str, Array]:
        """Mean recall of every image's captions by what was decoded from a blank one."""
        recalls = [self._of(row, reference) for reference in self.references]
        known = [one for one in recalls if np.isfinite(one).all()]
        return {"recall": np.mean(known, axis=0) if known else recalls[0]}

    def _of(self, row: Row, reference: Collection[str]) -> Array:
        """Recall of the reference words [L + 1]; NaN where no lens is read."""
        if not row.tokens:
            return np.full_like(row.curves["inter"], np.nan)
        return lens.recall(self.vocabulary, row.tokens, reference)


def _broken(anatomy: Anatomy, samples: Sequence[Sample], rows: Sequence[Row]) -> dict[str, str]:
    """Where NaN or infinity came up: an overflow of the dtype, or a spoilt weight.

    A mean over visual and text positions is finite where all their states are.
    """
    if "similarity" in anatomy.unmeasured:
        return {}
    found = {}
    for sample, row in zip(samples, rows, strict=True):
        bad = np.flatnonzero(~np.isfinite(row.curves["inter"]))
        if len(bad):
            found[sample.id] = not_finite(anatomy.model, anatomy.layers, int(bad[0]))
    return found


def _stack(rows: Sequence[Row], recalls: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """One array [images, L + 1] per curve."""
    joined = [{**row.curves, **recall} for row, recall in zip(rows, recalls, strict=True)]
    return {name: np.stack([row[name] for row in joined]) for name in joined[0]}


def _controls(
    loaded: Loaded, anatomy: Anatomy, samples: Sequence[Sample], settings: Settings, reader: _Reader
) -> dict[str, Curves]:
    norm = settings.lens_norm
    row = controls.blank(loaded, anatomy, samples[0].open().size, lens_norm=norm)
    found = {"blank": Curves.from_arrays(_stack([row], [reader.blank(row)]), {"blank": "blank"})}
    if settings.controls:
        for name, control in (
            ("projector", controls.untrained_projector),
            ("text", controls.text_against_text),
        ):
            rows = control(loaded, anatomy, samples, seed=settings.seed, lens_norm=norm)
            items = {sample.id: sample.item for sample in samples[: len(rows)]}
            found[name] = Curves.from_arrays(_stack(rows, reader.recalls(rows)), items)
    return found


def _heatmap(rows: Sequence[Row]) -> Array | None:
    if any(row.layout != rows[0].layout for row in rows):
        return None
    return np.asarray(np.mean([row.norms for row in rows], axis=0))


def _provenance(
    loaded: Loaded, dataset: str, data: str, settings: Settings, rows: Sequence[Row]
) -> dict[str, Any]:
    """What was measured, on what, with what: plain data, kept beside every curve."""
    layouts = [
        layout
        for i, layout in enumerate(r.layout for r in rows)
        if layout not in [r.layout for r in rows[:i]]
    ]
    asked = asdict(settings)
    return {
        "model": loaded.name,
        "architecture": str(loaded.model.config.model_type),
        "checkpoint": loaded.checkpoint,
        "dataset": dataset,
        "data": data,
        "images": len(rows),
        "prompt": loaded.prompt,
        "layout": layouts[0] if len(layouts) == 1 else layouts,
        "seed": asked["seed"],
        "lens_norm": asked["lens_norm"],
        "batch_size": asked["batch_size"] or "auto",
        "device": _device_name(loaded.device),
        "dtype": str(loaded.dtype).removeprefix("torch."),
        "torch": torch.__version__.partition("+")[0],
        "transformers": transformers.__version__,
        "phasebench": phasebench.__version__,
    }


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"{device.type} ({platform.machine()})"

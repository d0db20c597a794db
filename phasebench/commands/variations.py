"""Variations of one measurement that should not change its numbers, for calibrating numerical noise."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from phasebench import processes
from phasebench.curves import Array
from phasebench.datasets.sample import Sample
from phasebench.errors import InputError
from phasebench.measurement.measure import measure
from phasebench.models.loading import LoadedModel
from phasebench.settings import Settings

Values = dict[str, Array]
"""Curve name -> its values [images, L + 1], images in the dataset's order."""


@dataclass(frozen=True)
class Variation:
    """One way to run a measurement.

    Attributes:
        name: its description in messages.
        batch_size: images per pass.
        padding: number of padding tokens after each prompt; before it if negative.
        attention: transformers' attention implementation; None for the default.
        threads: torch's number of threads; None for the default.
        backwards: whether images are measured in reverse order, so that batches have other members.
        environment: environment variables, set in a separate process.
        processes: number of torch.distributed's processes, each with a share of the images.
    """

    name: str
    batch_size: int = 1
    padding: int = 0
    attention: str | None = None
    threads: int | None = None
    backwards: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    processes: int = 1

    @property
    def needs_process(self) -> bool:
        """Whether it needs one or more processes of its own."""
        return bool(self.environment) or self.processes > 1


PLAIN = Variation("one image a pass")
VARIATIONS = (
    Variation("batches of 2", batch_size=2),
    Variation("batches of 3", batch_size=3),
    Variation("batches of 4, backwards", batch_size=4, backwards=True),
    Variation("3 padding tokens before", padding=-3),
    Variation("5 padding tokens after, batches of 2", padding=5, batch_size=2),
    Variation("eager attention", attention="eager"),
    Variation("one thread", threads=1),
    Variation("two threads", threads=2),
    Variation("two processes", processes=2),
)
PROCESSORS = (
    Variation("without vector instructions", environment={"ATEN_CPU_CAPABILITY": "default"}),
    Variation("products as an older processor makes them", environment={"ONEDNN_MAX_CPU_ISA": "SSE41"}),
)
"""Variations that let a CPU use the kernels of other machines."""


def measure_as(loaded: LoadedModel, samples: Sequence[Sample], variation: Variation) -> Values:
    """The curves of ``samples``, measured in this process with a variation.

    Raises:
        InputError: the model cannot be measured, or an image was broken.
        ShareMeasured: there are several processes, and this is not the first.
    """
    ordered = list(samples)[::-1] if variation.backwards else list(samples)
    with _vary(loaded, variation) as varied_model:
        settings = Settings(batch_size=variation.batch_size, shared=processes.count() > 1)
        measurement = measure(varied_model, "calibration", ordered, settings, lambda *_: None)
    if measurement.broken:
        raise InputError(f"{loaded.name}: broken images cannot calibrate anything: {measurement.broken}")
    step = -1 if variation.backwards else 1
    return {name: measurement.curves.array(name)[::step] for name in measurement.curves.names}


@contextmanager
def _vary(loaded: LoadedModel, variation: Variation) -> Iterator[LoadedModel]:
    """The model with the variation's attention, threads and padding; all are restored afterwards."""
    decoder, threads = loaded.model.get_decoder(), torch.get_num_threads()
    before = decoder.config._attn_implementation
    try:
        if variation.attention:
            decoder.set_attn_implementation(variation.attention)
        torch.set_num_threads(variation.threads or threads)
        yield PaddedModel(**vars(loaded), padding=variation.padding) if variation.padding else loaded
    finally:
        torch.set_num_threads(threads)
        decoder.set_attn_implementation(before)


@dataclass
class PaddedModel(LoadedModel):
    """A model whose inputs have ``padding`` tokens after every prompt, or before it if negative.

    A Q-Former's own text is not padded, because it has absolute positions.
    """

    padding: int = 0

    def inputs(self, images: Sequence[Image]) -> dict[str, Tensor]:
        """The processor's tensors, padded if they are as long as the prompt."""
        tensors = super().inputs(images)
        shape, token = tensors["input_ids"].shape, self.processor.tokenizer.pad_token_id or 0
        sides = (max(0, -self.padding), max(0, self.padding))
        for key, value in tensors.items():
            if value.shape == shape and not key.startswith("qformer"):
                fill_value = token if key == "input_ids" else 0
                tensors[key] = torch.nn.functional.pad(value, sides, value=fill_value)
        return tensors


def measure_in_own_process(command: Sequence[str], variation: Variation) -> Values:
    """The curves from ``python -m phasebench calibrate`` in one or more separate processes.

    Args:
        command: the options of ``calibrate``.
        variation: sets the processes' environment and number.

    Raises:
        InputError: a process failed; the message ends with the processes' error output.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "curves.npz"
        launcher = ["torch.distributed.run", "--standalone", f"--nproc_per_node={variation.processes}", "-m"]
        program = [sys.executable, "-m", *(launcher if variation.processes > 1 else []), "phasebench"]
        threads = {"OMP_NUM_THREADS": "1"} if variation.processes > 1 else {}
        done = subprocess.run(  # noqa: S603 (this module, with options that were parsed)
            [*program, "calibrate", *command, "--curves", str(path)],
            env={**os.environ, **threads, **variation.environment},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode or not path.is_file():
            output = done.stderr.strip()
            raise InputError(f"{variation.name}: exit code {done.returncode}, with the output: {output}")
        with np.load(path) as arrays:
            return {name: arrays[name] for name in arrays.files}

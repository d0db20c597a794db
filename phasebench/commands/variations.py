"""Ways to run one measurement that should make no difference, for calibrating what numerical noise may do."""

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
from phasebench.models.loading import Loaded
from phasebench.settings import Settings

Values = dict[str, Array]
"""Curve name -> its values [images, L + 1], images in the data set's order."""


@dataclass(frozen=True)
class Variation:
    """One way of running.

    Attributes:
        name: what is told of it.
        batch_size: images a pass.
        padding: so many padding tokens after each prompt; before it where negative.
        attention: the implementation that transformers is told to take.
        threads: of torch.
        backwards: the images in reverse order, so that others share a batch.
        environment: variables of a process of its own.
        processes: of torch.distributed, each with a share of the images.
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
    def elsewhere(self) -> bool:
        """Whether it needs processes of its own."""
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
"""On a CPU another machine's kernels can be had for the asking."""


def measure_as(loaded: Loaded, samples: Sequence[Sample], variation: Variation) -> Values:
    """The curves of ``samples`` measured in this way, in this process.

    Raises:
        InputError: the model cannot be measured, or an image was broken.
        Elsewhere: of several processes this is not the first.
    """
    ordered = list(samples)[::-1] if variation.backwards else list(samples)
    with _varied(loaded, variation) as varied:
        settings = Settings(batch_size=variation.batch_size, shared=processes.count() > 1)
        found = measure(varied, "calibration", ordered, settings, lambda *_: None)
    if found.broken:
        raise InputError(f"{loaded.name}: broken images cannot calibrate anything: {found.broken}")
    step = -1 if variation.backwards else 1
    return {name: found.curves.array(name)[::step] for name in found.curves.names}


@contextmanager
def _varied(loaded: Loaded, variation: Variation) -> Iterator[Loaded]:
    decoder, threads = loaded.model.get_decoder(), torch.get_num_threads()
    before = decoder.config._attn_implementation
    try:
        if variation.attention:
            decoder.set_attn_implementation(variation.attention)
        torch.set_num_threads(variation.threads or threads)
        yield Padded(**vars(loaded), padding=variation.padding) if variation.padding else loaded
    finally:
        torch.set_num_threads(threads)
        decoder.set_attn_implementation(before)


@dataclass
class Padded(Loaded):
    """A model whose inputs have ``padding`` tokens after every prompt, or before it where negative.

    A Q-Former's own text, which has absolute positions, stays as it is.
    """

    padding: int = 0

    def inputs(self, images: Sequence[Image]) -> dict[str, Tensor]:
        """The processor's tensors, those as long as the prompt made longer."""
        found = super().inputs(images)
        shape, token = found["input_ids"].shape, self.processor.tokenizer.pad_token_id or 0
        sides = (max(0, -self.padding), max(0, self.padding))
        for key, value in found.items():
            if value.shape == shape and not key.startswith("qformer"):
                filled = token if key == "input_ids" else 0
                found[key] = torch.nn.functional.pad(value, sides, value=filled)
        return found


def measure_elsewhere(command: Sequence[str], variation: Variation) -> Values:
    """The curves that ``python -m phasebench calibrate`` measures in processes of its own.

    Raises:
        InputError: they failed; the message ends with all that they said.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "curves.npz"
        launcher = ["torch.distributed.run", "--standalone", f"--nproc_per_node={variation.processes}", "-m"]
        called = [sys.executable, "-m", *(launcher if variation.processes > 1 else []), "phasebench"]
        threads = {"OMP_NUM_THREADS": "1"} if variation.processes > 1 else {}
        done = subprocess.run(  # noqa: S603 (this module, with options that were parsed)
            [*called, "calibrate", *command, "--curves", str(path)],
            env={**os.environ, **threads, **variation.environment},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode or not path.is_file():
            told = done.stderr.strip()
            raise InputError(f"{variation.name}: exit code {done.returncode}, and said: {told}")
        with np.load(path) as found:
            return {name: found[name] for name in found.files}

"""``--list-models`` and ``--plan``: tables about models, printed instead of a run."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from phasebench.errors import InputError
from phasebench.plugin import named
from phasebench.plugin.options import usage
from phasebench.plugin.progress import duration
from phasebench.plugin.run import run_of
from phasebench.settings import DEFAULT_MODELS, with_option

if TYPE_CHECKING:
    import torch
    from rich.console import Console
    from rich.table import Table

    from phasebench.models.named_models import ModelSpec
    from phasebench.models.plan import Plan
    from phasebench.settings import Settings


COLUMNS = ("model", "from", "parameters", "bfloat16", "layers", "visual", "verdicts", "note")
NARROW = ("model", "parameters", "layers", "visual", "verdicts")
"""The columns that are printed if there is no room for all."""
WIDE = 240


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """Print the table and stop, under ``--list-models`` and ``--plan``."""
    option = config.option
    if not (option.list_models or option.plan):
        return None
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        config._do_configure()
        console = _console()
        console.print(_models_table(config, console.width) if option.list_models else _plan_table(config))
    except InputError as error:
        raise pytest.UsageError(with_option(error)) from error
    finally:
        config._ensure_unconfigure()
    return 0


def _console() -> Console:
    """The terminal; for output into a file or pipe a console as wide as the widest table, or ``$COLUMNS``."""
    from rich.console import Console

    return Console(width=None if Console().is_terminal or "COLUMNS" in os.environ else WIDE)


def _models_table(config: pytest.Config, width: int) -> Table:
    """Every model known by name: where it comes from, its size, whether verdicts are recorded."""
    from rich.table import Table

    columns = COLUMNS if width >= WIDE else NARROW
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=column != columns[-1])
    for spec in named.models(config).values():
        cells = (spec.name, _origin(spec), *_size(spec), _verdicts(config, spec), spec.note)
        row = dict(zip(COLUMNS, cells, strict=True))
        table.add_row(*(row[column] for column in columns))
    if columns is NARROW:
        table.caption = "a wider terminal, or a pipe, also shows where they come from"
    return table


def _origin(spec: ModelSpec) -> str:
    from phasebench.models.hub import Hub

    if isinstance(spec.source, Hub | Path):
        return str(spec.source)
    return "converted" if spec.source is None else "bundled"


def _size(spec: ModelSpec) -> list[str]:
    """Cells for parameters, memory, layers, visual tokens; empty where they are not recorded."""
    visual = "varies" if spec.visual is None else str(spec.visual)
    count = spec.parameters
    numbers = ["", ""] if count is None else [_billions(count), f"{2 * count / 2**30:.1f} GiB"]
    return [*numbers, "" if spec.layers is None else str(spec.layers), visual]


def _verdicts(config: pytest.Config, spec: ModelSpec) -> str:
    return ", ".join(run_of(config).folders.datasets_with_verdicts(spec.name)) or "unknown"


def _plan_table(config: pytest.Config) -> Table:
    """An estimate of what measuring the chosen models takes."""
    from rich.table import Table

    from phasebench.models.devices import pick_device
    from phasebench.models.plan import speed
    from phasebench.models.resolution import resolve_models

    settings = run_of(config).settings
    device, rate_of = pick_device(settings.device), cache(speed)
    with usage("--model "):
        specs = resolve_models(config.option.model or DEFAULT_MODELS, named.models(config))
    table = Table(box=None, pad_edge=False, show_header=False)
    for spec in specs:
        began = time.perf_counter()
        with usage(f"--model {spec.name}: "):
            estimate, dtype = _plan(spec, settings)
        rate = rate_of(device, dtype)
        seconds = time.perf_counter() - began
        table.add_row("model", spec.name, style="bold")
        for row in _plan_rows(estimate, rate, settings.images):
            table.add_row(*row)
        table.add_row("speed taken", f"{rate / 1e9:.0f} GFLOP/s, a matrix product on {device} in {dtype}")
        table.add_row("planned in", f"{seconds:.2f} s\n")
    return table


def _plan(spec: ModelSpec, settings: Settings) -> tuple[Plan, torch.dtype]:
    """The plan of a model, and the dtype in which it would be computed."""
    from phasebench.files import cache_folder
    from phasebench.models.devices import plan_placement
    from phasebench.models.plan import plan
    from phasebench.models.sizes import empty_model
    from phasebench.models.sources import configuration

    config = configuration(spec, cache_folder(), settings)
    placement = plan_placement(config, settings)
    model = empty_model(config, remote_code=settings.remote_code)
    return plan(model, spec.visual, placement), placement.dtype


def _placed(device: str, size: int) -> str:
    """The bytes on a device, and whether they are more than is free there."""
    from phasebench.models.plan import free_bytes
    from phasebench.models.sizes import gibibytes

    text, free = f"{device}: {gibibytes(size):.1f} GiB", free_bytes(device)
    if free is None or size <= free:
        return text
    return f"{text}, more than the {gibibytes(free):.1f} GiB that are free (see --max-memory and --dtype)"


def _plan_rows(estimate: Plan, rate: float, images: int) -> Iterator[tuple[str, str]]:
    """The rows of one model: a label and its text; ``rate`` is the device's operations per second."""
    from phasebench.models.plan import DTYPES
    from phasebench.models.sizes import gibibytes

    sizes = [
        f"{gibibytes(estimate.parameters * dtype.itemsize):.1f} GiB in {str(dtype)[6:]}" for dtype in DTYPES
    ]
    yield "parameters", f"{_billions(estimate.parameters)}: {', '.join(sizes)}"
    yield "placed", ", ".join(_placed(device, size) for device, size in estimate.bytes_by_device.items())
    yield (
        "language model",
        f"{estimate.layers} layers of width {estimate.width}, vocabulary {estimate.vocabulary}",
    )
    if estimate.positions is None:
        yield "image tokens", "not fixed: they depend on the image's size"
        return
    yield "image tokens", f"{estimate.visual} of about {estimate.positions} positions"
    for label, operations in (
        ("plain forward pass", estimate.pass_operations),
        ("with attention rows", estimate.pass_operations + estimate.attention_operations),
        (
            "and with the lens",
            estimate.pass_operations + estimate.attention_operations + estimate.lens_operations,
        ),
    ):
        seconds = operations / rate
        total = duration(seconds * images)
        yield label, f"{operations / 1e12:.2f} TFLOP an image, {seconds:.2f} s; {total} for {images} images"


def _billions(count: int) -> str:
    return f"{count / 1e9:.2f} B" if count >= 1e9 else f"{count / 1e6:.1f} M"

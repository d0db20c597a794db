"""``--list-models`` and ``--plan``: tables about models, printed instead of a run."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from phasebench.errors import InputError
from phasebench.judge.drift.baseline_folders import FOLDERS
from phasebench.plugin import named as known
from phasebench.plugin.options import settings_of
from phasebench.plugin.progress import duration
from phasebench.settings import DEFAULT_MODELS

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from phasebench.models.named_models import ModelSpec
    from phasebench.models.plan import Plan
    from phasebench.settings import Settings


COLUMNS = ("model", "from", "parameters", "bfloat16", "layers", "visual", "verdicts", "note")
NARROW = ("model", "parameters", "layers", "visual", "verdicts")
"""Of ``COLUMNS``, where there is no room for all of them."""
WIDE = 160


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> int | None:
    """Print and stop, where that is what was asked for."""
    option = config.option
    if not (option.list_models or option.plan):
        return None
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        config._do_configure()
        console = _console()
        console.print(_listed(config, console.width) if option.list_models else _planned(config))
    except InputError as error:
        raise pytest.UsageError(str(error)) from error
    finally:
        config._ensure_unconfigure()
    return 0


def _console() -> Console:
    """The terminal, or what is as wide as the widest table where lines go elsewhere."""
    from rich.console import Console

    return Console(width=None if Console().is_terminal else WIDE)


def _listed(config: pytest.Config, width: int) -> Table:
    """Every model known by name: where it comes from, its size, whether verdicts are recorded."""
    from rich.table import Table

    shown = COLUMNS if width >= WIDE else NARROW
    table = Table(box=None, pad_edge=False)
    for column in shown:
        table.add_column(column, no_wrap=column != shown[-1])
    for spec in known.models(config).values():
        size = _size(spec, settings_of(config))
        cells = (spec.name, _origin(spec), *size, _verdicts(config, spec), spec.note)
        row = dict(zip(COLUMNS, cells, strict=True))
        table.add_row(*(row[column] for column in shown))
    if shown is NARROW:
        table.caption = f"in {WIDE} columns, or through a pipe, also where they come from"
    return table


def _origin(spec: ModelSpec) -> str:
    from phasebench.models.hub import Hub

    if isinstance(spec.source, Hub | Path):
        return str(spec.source)
    return "converted" if spec.source is None else "bundled"


def _size(spec: ModelSpec, settings: Settings) -> list[str]:
    """Parameters, memory, layers, visual tokens of a model whose configuration is at hand."""
    visual = "varies" if spec.visual is None else str(spec.visual)
    if spec.config is None:
        return ["", "", "", visual]
    from phasebench.models.anatomy.parts import find_layers, sequence_model
    from phasebench.models.sizes import empty_model, gibibytes, parameters

    model = empty_model(spec.config, remote_code=settings.remote_code)
    count, layers = parameters(model), len(find_layers(sequence_model(model)))
    return [_billions(count), f"{gibibytes(2 * count):.1f} GiB", str(layers), visual]


def _verdicts(config: pytest.Config, spec: ModelSpec) -> str:
    return ", ".join(config.stash[FOLDERS].judged(spec.name)) or "unknown"


def _planned(config: pytest.Config) -> Table:
    """What measuring the chosen models will take."""
    from rich.table import Table

    from phasebench.models.devices import pick_device, pick_dtype
    from phasebench.models.named_models import resolve_models
    from phasebench.models.plan import speed

    settings = settings_of(config)
    device = pick_device(settings.device)
    dtype = pick_dtype(settings.dtype, device)
    specs = resolve_models(config.option.model or DEFAULT_MODELS, known.models(config))
    rate = speed(device, dtype)
    table = Table(box=None, pad_edge=False, show_header=False)
    for spec in specs:
        began = time.perf_counter()
        found = _plan(spec, settings)
        seconds = time.perf_counter() - began
        table.add_row("model", spec.name, style="bold")
        for row in _rows(found, rate, settings.images):
            table.add_row(*row)
        table.add_row("speed taken", f"{rate / 1e9:.0f} GFLOP/s, a matrix product on {device} in {dtype}")
        table.add_row("planned in", f"{seconds:.2f} s\n")
    return table


def _plan(spec: ModelSpec, settings: Settings) -> Plan:
    from phasebench.models.devices import plan_placement
    from phasebench.models.plan import plan
    from phasebench.models.sizes import empty_model

    config, flags = _configuration(spec), {"remote_code": settings.remote_code}
    where = plan_placement(config, settings.device, settings.dtype, settings.max_memory, **flags)
    return plan(empty_model(config, **flags), spec.visual, where)


def _rows(found: Plan, rate: float, images: int) -> Iterator[tuple[str, str]]:
    from phasebench.models.plan import DTYPES
    from phasebench.models.sizes import gibibytes

    sizes = [
        f"{gibibytes(found.parameters * dtype.itemsize):.1f} GiB in {str(dtype)[6:]}" for dtype in DTYPES
    ]
    yield "parameters", f"{_billions(found.parameters)}: {', '.join(sizes)}"
    yield "placed", ", ".join(f"{where}: {gibibytes(size):.1f} GiB" for where, size in found.placed.items())
    yield "language model", f"{found.layers} layers of width {found.width}, vocabulary {found.vocabulary}"
    if found.positions is None:
        yield "image tokens", "not fixed: they depend on the image's size"
        return
    yield "image tokens", f"{found.visual} of about {found.positions} positions"
    for what, operations in (
        ("plain forward pass", found.plain),
        ("with attention rows", found.plain + found.rows),
        ("and with the lens", found.plain + found.rows + found.lens),
    ):
        each = operations / rate
        total = duration(each * images)
        yield what, f"{operations / 1e12:.2f} TFLOP an image, {each:.2f} s; {total} for {images} images"


def _billions(count: int) -> str:
    return f"{count / 1e9:.2f} B" if count >= 1e9 else f"{count / 1e6:.1f} M"


def _configuration(spec: ModelSpec) -> Path:
    """A folder or file with the model's config.json, without its weights if that can be."""
    from phasebench.files import cache_folder
    from phasebench.models.hub import Hub, look_up

    if spec.config is not None and spec.config.is_file():
        return spec.config
    if isinstance(spec.source, Hub):
        return look_up(spec.name, spec.source)
    return spec.folder(cache_folder())

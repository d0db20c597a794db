"""``python -m phasebench calibrate``: measure the same images in many ways and write the largest differences.

Each model is measured on each dataset once without and once with each variation. Drift then allows a multiple
of the largest difference (``judge.drift.tolerance``).
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from phasebench.catalog import CURVES, OF_OTHER_CAPTIONS
from phasebench.errors import InputError
from phasebench.files import write_whole
from phasebench.judge.drift.tolerance import FILE, Spread, Spreads, Tolerances, dtype_pair, spread_between
from phasebench.settings import DEFAULT_MODELS, Settings, with_option

if TYPE_CHECKING:
    from phasebench.commands.variations import Values, Variation
    from phasebench.datasets.sample import Sample
    from phasebench.models.loading import LoadedModel

DATASETS = ("scenes",)
DTYPES = ("float32", "bfloat16", "float16")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add = parser.add_argument
    add("--model", action="append", metavar="NAME|FOLDER", help=f"default: {', '.join(DEFAULT_MODELS)}")
    add("--dataset", action="append", metavar="NAME|FOLDER", help=f"default: {', '.join(DATASETS)}")
    add("--dtype", action="append", choices=DTYPES, help="default: all three")
    add("--images", type=int, default=8, metavar="N", help="images of each dataset (default %(default)s)")
    add("--device", default="auto", help="cpu, cuda, ... (default: the accelerator if there is one)")
    add("--baselines", type=Path, default=Path("baselines"), metavar="DIR", help=f"folder of {FILE}")
    add("--widen", action="store_true", help="keep spreads of the file that are larger, as of other machines")
    add("--curves", type=Path, help=argparse.SUPPRESS)  # for separate processes: the file of their curves


def run(arguments: argparse.Namespace) -> int:
    """Calibrate and return the exit code."""
    try:
        if arguments.curves:
            _write_curves(arguments)
        else:
            _calibrate(arguments)
    except InputError as error:
        sys.stderr.write(f"{with_option(error)}\n")
        return 2
    return 0


def _write(path: Path, data: dict[str, Any]) -> None:
    """Write the tolerances.

    Raises:
        InputError: they cannot be written; the file has its earlier content.
    """
    try:
        write_whole(path, _dump(data).encode())
    except OSError as error:
        state = "its earlier content is unchanged" if path.is_file() else "nothing is there"
        raise InputError(f"{path} could not be written ({error.strerror or error}); {state}") from error


def _calibrate(arguments: argparse.Namespace) -> None:
    """Measure every model on every dataset; the file is written after each of them."""
    dtypes = sorted(set(arguments.dtype or DTYPES) | {"float32"}, key=DTYPES.index)
    path, datasets = arguments.baselines / FILE, arguments.dataset or DATASETS
    before = Tolerances.read(path).spreads if path.is_file() else {}
    conditions, earlier_conditions = _conditions(arguments, dtypes), _earlier_conditions(path)
    spreads: Spreads = {}
    if arguments.widen:
        _widen(spreads, before)
    for name in arguments.model or DEFAULT_MODELS:
        for dataset in datasets:
            conditions["measured"].append(f"{name} on {dataset}")
            with_processes = dataset == datasets[0]
            _widen(spreads, _spreads_on(arguments, name, dataset, dtypes, with_processes=with_processes))
            remaining = _remaining_keys(before, spreads, widen=arguments.widen)
            widened = [about for about in earlier_conditions if remaining & _spread_keys(about["dtypes"])]
            merged = {key: {**before.get(key, {}), **spreads.get(key, {})} for key in {**before, **spreads}}
            about = {**conditions, "widened": widened} if widened else conditions
            _write(path, {"about": about, "seen": Tolerances(merged).as_dict()})
    sys.stdout.write(f"{_table(Tolerances(spreads))}\n\nwritten to {path}\n")


def _remaining_keys(before: Mapping[str, Mapping[str, Spread]], spreads: Spreads, *, widen: bool) -> set[str]:
    """The keys of a file's earlier spreads some of which remain, beside or within the new ones."""
    return {key for key in before if widen or before[key].keys() - spreads.get(key, {}).keys()}


def _spreads_on(
    arguments: argparse.Namespace, name: str, dataset: str, dtypes: Sequence[str], *, with_processes: bool
) -> Spreads:
    """The spreads of one model on one dataset, within each dtype and between each and float32.

    ``with_processes``: also the variations that need separate processes.
    """
    from phasebench.commands.variations import PLAIN, measure_as

    samples = _samples(arguments, dataset)
    spreads: Spreads = {}
    plain: dict[str, Values] = {}
    for dtype in dtypes:
        loaded = _load(arguments, name, dtype)
        plain[dtype] = measure_as(loaded, samples, PLAIN)
        command = ["--model", name, "--dataset", dataset, "--dtype", dtype] if with_processes else None
        for variation, values in _measure_variations(arguments, loaded, command, samples):
            by_curve = _spreads_by_curve(plain[dtype], values, backwards=variation.backwards)
            _report(f"{name} on {dataset}, {dtype}, {variation.name}", by_curve)
            _widen(spreads, {dtype: by_curve})
        if dtype != "float32":
            by_curve = _spreads_by_curve(plain["float32"], plain[dtype])
            _report(f"{name} on {dataset}, {dtype} against float32", by_curve)
            _widen(spreads, {dtype_pair(dtype, "float32"): by_curve})
    return spreads


def _measure_variations(
    arguments: argparse.Namespace,
    loaded: LoadedModel,
    command: Sequence[str] | None,
    samples: Sequence[Sample],
) -> Iterator[tuple[Variation, Values]]:
    """Each variation with its curves; without a ``command`` those in separate processes are left out."""
    from phasebench.commands.variations import (
        PROCESSORS,
        VARIATIONS,
        measure_as,
        measure_in_own_process,
    )

    options = ("--images", str(arguments.images), "--device", arguments.device)
    # In 16 bits other processors' kernels are too slow.
    has_kernels = loaded.device.type == "cpu" and loaded.dtype.itemsize == 4
    for variation in (*VARIATIONS, *(PROCESSORS if has_kernels else ())):
        if not variation.needs_process:
            yield variation, measure_as(loaded, samples, variation)
        elif command:
            yield variation, measure_in_own_process([*command, *options], variation)


def _write_curves(arguments: argparse.Namespace) -> None:
    """In a separate process: measure, and write the curves into a file."""
    from phasebench.commands.variations import PLAIN, measure_as
    from phasebench.measurement.shards import ShareMeasured

    loaded = _load(arguments, arguments.model[0], arguments.dtype[0])
    try:
        values = measure_as(loaded, _samples(arguments, arguments.dataset[0]), PLAIN)
    except ShareMeasured:
        return
    np.savez(arguments.curves, allow_pickle=False, **values)


def _load(arguments: argparse.Namespace, name: str, dtype: str) -> LoadedModel:
    from phasebench.files import cache_folder
    from phasebench.models.loading import load
    from phasebench.models.named_models import known_models
    from phasebench.models.resolution import resolve_models

    (spec,) = resolve_models([name], {spec.name: spec for spec in known_models()})
    return load(spec, cache_folder(), Settings(device=arguments.device, dtype=dtype))


def _samples(arguments: argparse.Namespace, dataset: str) -> Sequence[Sample]:
    from phasebench.datasets.named_datasets import bundled_datasets, resolve_datasets
    from phasebench.datasets.selection import select
    from phasebench.files import cache_folder

    (spec,) = resolve_datasets([dataset], {spec.name: spec for spec in bundled_datasets()})
    return select(spec.read(cache_folder()), arguments.images, seed=0).samples


def _spreads_by_curve(before: Values, after: Values, *, backwards: bool = False) -> dict[str, Spread]:
    """The spread of every curve that has values.

    In reverse order (``backwards``) images get the captions of other images, so curves that depend on these
    are left out.
    """
    excluded_curves = OF_OTHER_CAPTIONS if backwards else ()
    return {
        name: spread_between(values, after[name], name)
        for name, values in before.items()
        if name not in excluded_curves and np.isfinite(values).any()
    }


def _widen(spreads: Spreads, more: Mapping[str, Mapping[str, Spread]]) -> None:
    """Widen the spreads in place, so that they include those of ``more``."""
    for key, by_curve in more.items():
        widened = spreads.setdefault(key, {})
        for name, spread in by_curve.items():
            widened[name] = widened.get(name, Spread()).widest(spread)


def _report(variation: str, by_curve: Mapping[str, Spread]) -> None:
    """Print the largest difference of means on stderr."""
    name = max((name for name in by_curve if name != "sinks"), key=lambda name: by_curve[name].mean)
    sinks = f", sinks {by_curve['sinks'].mean:.1g}" if by_curve.get("sinks", Spread()).mean else ""
    sys.stderr.write(f"{variation}: at most {by_curve[name].mean:.1e} ({name}){sinks}\n")


def _earlier_conditions(path: Path) -> list[dict[str, Any]]:
    """The conditions under which the spreads in a file were measured, the last calibration first."""
    about = json.loads(path.read_text(encoding="utf-8")).get("about", {}) if path.is_file() else {}
    widened = about.pop("widened", [])
    return [about, *widened] if about else []


def _spread_keys(dtypes: Sequence[str]) -> set[str]:
    """The keys of the spreads that a calibration of these precisions writes."""
    return {*dtypes, *(dtype_pair(dtype, "float32") for dtype in dtypes)}


def _conditions(arguments: argparse.Namespace, dtypes: Sequence[str]) -> dict[str, Any]:
    """The conditions of this calibration; ``measured`` is filled as it proceeds."""
    import torch
    import transformers

    return {
        "measured": [],
        "dtypes": list(dtypes),
        "images": arguments.images,
        "device": arguments.device,
        "machine": platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__.partition("+")[0],
        "transformers": transformers.__version__,
    }


def _dump(data: dict[str, Any]) -> str:
    """The file's text, with a line for each curve."""
    blocks = ",\n".join(
        f"  {json.dumps(dtypes)}: {{\n"
        + ",\n".join(f"   {json.dumps(name)}: {json.dumps(spread)}" for name, spread in by_curve.items())
        + "\n  }"
        for dtypes, by_curve in data["seen"].items()
    )
    return f'{{\n "about": {json.dumps(data["about"])},\n "seen": {{\n{blocks}\n }}\n}}\n'


def _table(tolerances: Tolerances) -> str:
    """The spreads as a Markdown table: mean / root mean square / single image."""
    spreads = tolerances.as_dict()
    lines = [f"| curve | {' | '.join(spreads)} |", f"|---|{'---|' * len(spreads)}"]
    for name in CURVES:
        cells = (
            " / ".join(f"{value:.1e}" for value in by_curve.get(name, {}).values()) or "-"
            for by_curve in spreads.values()
        )
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)

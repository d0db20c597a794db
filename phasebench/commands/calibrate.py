"""``python -m phasebench calibrate``: measure the same images in many ways, and write how far they lie apart.

Each model is measured on each dataset once plainly and once a variation; what drift then lets through
is a multiple of the largest difference seen (``judge.tolerance``).
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

from phasebench.catalog import CURVES
from phasebench.errors import InputError
from phasebench.files import write_whole
from phasebench.judge.drift.record import OF_OTHERS
from phasebench.judge.drift.tolerance import FILE, Spread, Tolerances, pair, spread
from phasebench.settings import DEFAULT_MODELS

if TYPE_CHECKING:
    from phasebench.commands.variations import Values, Variation
    from phasebench.datasets.sample import Sample
    from phasebench.models.loading import Loaded

DATASETS = ("scenes",)
DTYPES = ("float32", "bfloat16", "float16")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    add = parser.add_argument
    add("--model", action="append", metavar="NAME|FOLDER", help=f"default: {', '.join(DEFAULT_MODELS)}")
    add("--dataset", action="append", metavar="NAME|FOLDER", help=f"default: {', '.join(DATASETS)}")
    add("--dtype", action="append", choices=DTYPES, help="default: all three")
    add("--images", type=int, default=8, metavar="N", help="of each dataset (default %(default)s)")
    add("--device", default="auto", help="cpu, cuda, ... (default: the accelerator if there is one)")
    add("--baselines", type=Path, default=Path("baselines"), metavar="DIR", help=f"where {FILE} is written")
    add("--widen", action="store_true", help="keep what is there where it is larger: machine after machine")
    add("--curves", type=Path, help=argparse.SUPPRESS)  # of a process of its own: where its curves go


def run(asked: argparse.Namespace) -> int:
    """Calibrate; the exit code."""
    try:
        if asked.curves:
            _leave_curves(asked)
        else:
            _calibrate(asked)
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def _calibrate(asked: argparse.Namespace) -> None:
    dtypes = sorted(set(asked.dtype or DTYPES) | {"float32"}, key=DTYPES.index)
    path, datasets = asked.baselines / FILE, asked.dataset or DATASETS
    before = Tolerances.read(path).seen if path.is_file() else {}
    about, earlier = _about(asked, dtypes), _earlier(path)
    seen: dict[str, dict[str, Spread]] = {}
    if asked.widen:
        _widen(seen, before)
    for name in asked.model or DEFAULT_MODELS:
        for dataset in datasets:
            about["measured"].append(f"{name} on {dataset}")
            _widen(seen, _spreads_on(asked, name, dataset, dtypes, elsewhere=dataset == datasets[0]))
            stays = {of for of in before if asked.widen or before[of].keys() - seen.get(of, {}).keys()}
            widened = [one for one in earlier if stays & _names(one["dtypes"])]
            every = {of: {**before.get(of, {}), **seen.get(of, {})} for of in {**before, **seen}}
            known = {**about, "widened": widened} if widened else about
            write_whole(path, _dump({"about": known, "seen": Tolerances(every).as_dict()}).encode())
    sys.stdout.write(f"{_table(Tolerances(seen))}\n\nwritten to {path}\n")


def _spreads_on(
    asked: argparse.Namespace, name: str, dataset: str, dtypes: Sequence[str], *, elsewhere: bool
) -> dict[str, dict[str, Spread]]:
    """The spreads of one model on one dataset, within each dtype and from each to float32.

    ``elsewhere``: also what needs processes of its own.
    """
    from phasebench.commands.variations import PLAIN, measure_as

    samples = _samples(asked, dataset)
    seen: dict[str, dict[str, Spread]] = {}
    plain: dict[str, Values] = {}
    for dtype in dtypes:
        loaded = _load(asked, name, dtype)
        plain[dtype] = measure_as(loaded, samples, PLAIN)
        command = ["--model", name, "--dataset", dataset, "--dtype", dtype] if elsewhere else None
        for variation, values in _others(asked, loaded, command, samples):
            found = _spreads(plain[dtype], values, backwards=variation.backwards)
            _tell(f"{name} on {dataset}, {dtype}, {variation.name}", found)
            _widen(seen, {dtype: found})
        if dtype != "float32":
            found = _spreads(plain["float32"], plain[dtype])
            _tell(f"{name} on {dataset}, {dtype} against float32", found)
            _widen(seen, {pair(dtype, "float32"): found})
    return seen


def _others(
    asked: argparse.Namespace, loaded: Loaded, command: Sequence[str] | None, samples: Sequence[Sample]
) -> Iterator[tuple[Variation, Values]]:
    from phasebench.commands.variations import PROCESSORS, VARIATIONS, measure_as, measure_elsewhere

    same = ("--images", str(asked.images), "--device", asked.device)
    kernels = loaded.device.type == "cpu" and loaded.dtype.itemsize == 4  # 16 bits crawl on other kernels
    for variation in (*VARIATIONS, *(PROCESSORS if kernels else ())):
        if not variation.elsewhere:
            yield variation, measure_as(loaded, samples, variation)
        elif command:
            yield variation, measure_elsewhere([*command, *same], variation)


def _leave_curves(asked: argparse.Namespace) -> None:
    """In a process of its own: measure, and leave the curves in a file."""
    from phasebench.commands.variations import PLAIN, measure_as
    from phasebench.measurement.shards import Elsewhere

    loaded = _load(asked, asked.model[0], asked.dtype[0])
    try:
        values = measure_as(loaded, _samples(asked, asked.dataset[0]), PLAIN)
    except Elsewhere:
        return
    np.savez(asked.curves, allow_pickle=False, **values)


def _load(asked: argparse.Namespace, name: str, dtype: str) -> Loaded:
    from phasebench.files import cache_folder
    from phasebench.models.loading import load
    from phasebench.models.named_models import known_models, resolve_models

    (spec,) = resolve_models([name], {spec.name: spec for spec in known_models()})
    return load(spec, cache_folder(), device=asked.device, dtype=dtype)


def _samples(asked: argparse.Namespace, dataset: str) -> Sequence[Sample]:
    from phasebench.datasets.named_datasets import bundled_datasets, resolve_datasets
    from phasebench.datasets.selection import select
    from phasebench.files import cache_folder

    (spec,) = resolve_datasets([dataset], {spec.name: spec for spec in bundled_datasets()})
    return select(spec.read(cache_folder()), asked.images, seed=0).samples


def _spreads(before: Values, after: Values, *, backwards: bool = False) -> dict[str, Spread]:
    """Per curve that is measured; images in another order have other images' captions beside them."""
    left_out = OF_OTHERS if backwards else ()
    return {
        name: spread(values, after[name], name)
        for name, values in before.items()
        if name not in left_out and np.isfinite(values).any()
    }


def _widen(seen: dict[str, dict[str, Spread]], more: Mapping[str, Mapping[str, Spread]]) -> None:
    for dtype, spreads in more.items():
        known = seen.setdefault(dtype, {})
        for name, found in spreads.items():
            known[name] = known.get(name, Spread()).widest(found)


def _tell(what: str, found: dict[str, Spread]) -> None:
    name = max((name for name in found if name != "sinks"), key=lambda name: found[name].mean)
    flipped = f", sinks {found['sinks'].mean:.1g}" if found.get("sinks", Spread()).mean else ""
    sys.stderr.write(f"{what}: at most {found[name].mean:.1e} ({name}){flipped}\n")


def _earlier(path: Path) -> list[dict[str, Any]]:
    """What the spreads in a file were measured with, the last calibration first."""
    about = json.loads(path.read_text(encoding="utf-8")).get("about", {}) if path.is_file() else {}
    widened = about.pop("widened", [])
    return [about, *widened] if about else []


def _names(dtypes: Sequence[str]) -> set[str]:
    """The names under which a calibration of these precisions writes what it saw."""
    return {*dtypes, *(pair(dtype, "float32") for dtype in dtypes)}


def _about(asked: argparse.Namespace, dtypes: Sequence[str]) -> dict[str, Any]:
    """What is measured with what."""
    import torch
    import transformers

    return {
        "measured": [],
        "dtypes": list(dtypes),
        "images": asked.images,
        "device": asked.device,
        "machine": platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__.partition("+")[0],
        "transformers": transformers.__version__,
    }


def _dump(found: dict[str, Any]) -> str:
    """One curve a line."""
    seen = ",\n".join(
        f"  {json.dumps(dtype)}: {{\n"
        + ",\n".join(f"   {json.dumps(name)}: {json.dumps(of)}" for name, of in by_curve.items())
        + "\n  }"
        for dtype, by_curve in found["seen"].items()
    )
    return f'{{\n "about": {json.dumps(found["about"])},\n "seen": {{\n{seen}\n }}\n}}\n'


def _table(tolerances: Tolerances) -> str:
    """The spreads as a Markdown table: mean / root mean square / one image."""
    seen = tolerances.as_dict()
    lines = [f"| curve | {' | '.join(seen)} |", f"|---|{'---|' * len(seen)}"]
    for name in CURVES:
        cells = (" / ".join(f"{x:.1e}" for x in seen[d].get(name, {}).values()) or "-" for d in seen)
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)

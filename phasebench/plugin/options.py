"""The options that exist under ``--phasebench``; defaults are one table."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from phasebench import processes
from phasebench.errors import InputError, did_you_mean
from phasebench.files import store_folder
from phasebench.settings import DEFAULT_IMAGES, DEFAULT_MODELS, Settings

DEFAULT_DATASETS = ("scenes", "scene-pairs", "photos")
DEFAULT_EFFECT = 0.5
"""Half a standard deviation over images: Cohen's 'medium' effect."""


@contextmanager
def usage(beside: str = "") -> Iterator[None]:
    """What cannot be used as given ends the run here, before anything is measured, with exit code 4."""
    try:
        yield
    except InputError as error:
        raise pytest.UsageError(f"{beside}{error}") from error


def add_options(parser: pytest.Parser, *, html_taken: bool) -> None:
    """Declare every option; called by the plugin once ``--phasebench`` is seen.

    Where another plugin has ``--html``, ours is ``--phasebench-html``.
    """
    group = parser.getgroup("phasebench")
    add = group.addoption
    add(
        "--model",
        action="append",
        type=_text,
        metavar="NAME|FOLDER|OWNER/NAME[@REVISION]",
        help="Model to measure, or NAME= before one, to call it so; may be repeated. "
        f"Default: {', '.join(DEFAULT_MODELS)}.",
    )
    add(
        "--dataset",
        action="append",
        type=_text,
        metavar="NAME|FOLDER|FILE.jsonl|FILE.csv",
        help=f"Images and captions to measure on; may be repeated. Default: {', '.join(DEFAULT_DATASETS)}.",
    )
    add(
        "--data-dir",
        type=_path,
        metavar="DIR",
        help="Where copies of coco and winoground lie; without it they are fetched from the hub.",
    )
    add(
        "--strict-data",
        action="store_true",
        help="End the run, before a model is loaded, if any image would be skipped.",
    )
    add(
        "--images",
        type=_positive,
        default=DEFAULT_IMAGES,
        metavar="N",
        help="Images drawn from each dataset, at most (default %(default)s).",
    )
    add("--seed", type=int, default=0, help="Seed of the drawing of images and of the controls (default 0).")
    add(
        "--device",
        type=_text,
        default="auto",
        help="cpu, cuda, cuda:1, ...; default: the accelerator if there is one.",
    )
    add(
        "--dtype",
        default="auto",
        choices=("auto", "float32", "bfloat16", "float16"),
        help="Precision of the weights; default: bfloat16 on an accelerator, float32 on a CPU.",
    )
    add(
        "--batch-size",
        type=_batch_size,
        default=1,
        metavar="B",
        help="Images per forward pass (default 1), or auto for as many as fit.",
    )
    add(
        "--max-memory",
        type=_text,
        metavar="DEVICE=SIZE,...",
        help="Split the model across devices within, e.g. 0=20GiB,cpu=64GiB.",
    )
    add("--allow-pickle", action="store_true", help="Read pickled weights where there are no safetensors.")
    add("--trust-remote-code", action="store_true", help="Let a checkpoint run its own Python code.")
    add("--list-models", action="store_true", help="Print the models known by name, and stop.")
    add("--plan", action="store_true", help="Print sizes, placement and cost of the models, and stop.")
    add(
        "--lens-norm",
        choices=("on", "off"),
        default="on",
        help="Final norm before the output head in the LogitLens (default on).",
    )
    add("--prompt", type=_text, help="Prompt to use instead of the model family's.")
    add(
        "--controls",
        action="store_true",
        help="Also measure with the projector re-initialised, and text against text.",
    )
    add(
        "--against",
        type=_text,
        metavar="NAME",
        help="Compare with the baselines of this model instead of the measured one's own.",
    )
    add(
        "--effect",
        type=_effect,
        metavar="D",
        help="With --against: differences up to D standard deviations over images are no drift "
        f"(default {DEFAULT_EFFECT}).",
    )
    add("--results", type=_path, metavar="FILE", help="Write curves, verdicts, drift and timing as JSON.")
    add(
        "--phasebench-html" if html_taken else "--html",
        dest="html",
        type=_path,
        metavar="FILE",
        help="Write a report with figures, one file that opens offline (needs phasebench[report]).",
    )
    add(
        "--figures",
        type=_path,
        metavar="DIR",
        help="Write the report's figures as PNG and PDF (needs phasebench[report]).",
    )
    add(
        "--store",
        type=_path,
        metavar="DIR",
        help="Where finished images are kept, so that none is measured twice (default: in the cache folder).",
    )
    add("--fresh", action="store_true", help="Measure every image, whatever is in the store.")
    add(
        "--strict-baselines",
        action="store_true",
        help="Fail a curve or verdict of which no baseline is recorded.",
    )
    add(
        "--phasebench-baselines",
        type=_text,
        metavar="DIR",
        help="Baselines' folder (ini: phasebench_baselines).",
    )
    add("--phasebench-cache", type=_path, metavar="DIR", help="Where bundled models and data are assembled.")
    parser.addini("phasebench_baselines", "folder of the recorded curves and verdicts", default=None)


def refuse_mistyped(parser: pytest.Parser, args: Sequence[str]) -> None:
    """See that no argument is nearly an option's name; other unknown ones are for pytest to refuse.

    Raises:
        pytest.UsageError: one is; the message names both.
    """
    # argparse has no public list; a test holds the name
    options = [name.removeprefix("--") for name in parser.optparser._option_string_actions]
    for given in parser.parse_known_and_unknown_args(list(args))[1]:
        name = given.partition("=")[0]
        if near := did_you_mean(name.lstrip("-"), options, "--"):
            raise pytest.UsageError(f"{name}: there is no such option{near}")


def _text(text: str) -> str:
    """Refuse an empty value, as of an unset shell variable: it is neither a value nor the default."""
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty; leave the option out for its default")
    return text


def _path(text: str) -> Path:
    return Path(_text(text))


def _positive(text: str) -> int:
    if not text.strip().isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text!r}")
    return int(text)


def _effect(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"must be a number of at least 0, not {text!r}")
    return value


def _batch_size(text: str) -> int | None:
    return None if text == "auto" else _positive(text)


SETTINGS = pytest.StashKey[Settings]()


def settings_of(config: pytest.Config) -> Settings:
    """The parsed options as ``Settings``; the same object throughout a run."""
    if SETTINGS not in config.stash:
        config.stash[SETTINGS] = _parsed(config.option)
    return config.stash[SETTINGS]


def _parsed(option: argparse.Namespace) -> Settings:
    return Settings(
        images=option.images,
        seed=option.seed,
        device=option.device,
        dtype=option.dtype,
        batch_size=option.batch_size,
        lens_norm=option.lens_norm == "on",
        prompt=option.prompt,
        controls=option.controls,
        max_memory=option.max_memory,
        allow_pickle=option.allow_pickle,
        remote_code=option.trust_remote_code,
        store=store_folder(option.store),
        fresh=option.fresh,
        shared=processes.count() > 1,
    )

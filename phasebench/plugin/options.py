"""The options under ``--phasebench``."""

from __future__ import annotations

import argparse
import math
import re
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from phasebench import processes
from phasebench.errors import InputError, did_you_mean
from phasebench.files import store_folder
from phasebench.report.outputs import OUTPUTS
from phasebench.settings import (
    DEFAULT_IMAGES,
    DEFAULT_MODELS,
    BaselineMode,
    BatchSize,
    Settings,
    with_option,
)

DEFAULT_DATASETS = ("scenes", "scene-pairs", "photos")
HELP_TITLE = "phasebench"
"""Title of phasebench's options in pytest's help."""
DEFAULT_EFFECT = 0.5
"""Half a standard deviation over images: Cohen's 'medium' effect."""


@contextmanager
def usage(prefix: str = "") -> Iterator[None]:
    """Turn an ``InputError`` into a usage error, which ends the run with exit code 4."""
    try:
        yield
    except InputError as error:
        raise pytest.UsageError(f"{prefix}{with_option(error)}") from error


def add_options(parser: pytest.Parser, *, html_taken: bool) -> None:
    """Declare every option.

    With ``html_taken``, where another plugin has ``--html``, ours is ``--phasebench-html``.
    """
    group = parser.getgroup("phasebench")
    add = group.addoption
    add(
        "--model",
        action="append",
        type=_text,
        metavar="NAME|FOLDER|OWNER/NAME[@REVISION]",
        help="Model to measure; NAME= before it sets its name in the results, +ADAPTER after it merges an "
        "adapter (needs phasebench[peft]); may be repeated. "
        f"Default: {', '.join(DEFAULT_MODELS)}.",
    )
    add(
        "--dataset",
        action="append",
        type=_text,
        metavar="NAME|FOLDER|FILE",
        help="Images and captions to measure on; NAME= before it sets its name in the results; may be "
        f"repeated. Default: {', '.join(DEFAULT_DATASETS)}.",
    )
    add(
        "--data-dir",
        type=_path,
        metavar="DIR",
        help="Folder of copies of coco and winoground; without it they are fetched from the hub.",
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
        help="Most images drawn from each dataset (default %(default)s).",
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
        metavar="B",
        help="Images per pass (default: 1 on a CPU, 8 on an accelerator), or auto for as many as fit.",
    )
    add(
        "--max-memory",
        type=_text,
        metavar="DEVICE=SIZE,...",
        help="Split the model across devices within these limits, e.g. 0=20GiB,cpu=64GiB.",
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
    add(
        "--last-layer",
        choices=("raw", "normed"),
        default="raw",
        help="State of the last layer for similarity: before (default raw) or after the final norm.",
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
        help="Compare with the baselines of this model instead of the measured model's own.",
    )
    add(
        "--effect",
        type=_effect,
        metavar="D",
        help="With --against: differences up to D standard deviations over images are no drift "
        f"(default {DEFAULT_EFFECT}).",
    )
    for output in OUTPUTS:
        if output.is_option:
            name = f"--phasebench-{output.dest}" if html_taken and output.name == "--html" else output.name
            metavar = "DIR" if output.folder else "FILE"
            add(name, dest=output.dest, type=_path, metavar=metavar, help=output.help)
    add(
        "--store",
        type=_path,
        metavar="DIR",
        help="Folder of measured images, so that none is measured twice (default: in the cache folder).",
    )
    add("--fresh", action="store_true", help="Measure every image, whatever is in the store.")
    add(
        "--strict-baselines",
        action="store_true",
        help="Fail a curve or verdict that has no baseline.",
    )
    add(
        "--phasebench-baselines",
        type=_text,
        metavar="DIR",
        help="Folder of baselines (ini: phasebench_baselines).",
    )
    add(
        "--phasebench-cache",
        type=_path,
        metavar="DIR",
        help="Folder in which bundled models and data are assembled.",
    )
    parser.addini("phasebench_baselines", "folder of the recorded curves and verdicts", default=None)
    _show_first(parser)


def _show_first(parser: pytest.Parser) -> None:
    """Let ``--help`` begin with the options of phasebench; pytest has more than a hundred others."""
    # argparse has no public way to order groups, as pytest says in Parser.getgroup; a test checks this.
    groups = parser.optparser._action_groups
    groups.sort(key=lambda group: group.title != HELP_TITLE)


def same_option_message(error: ValueError) -> str:
    """What to say of an option that a conftest.py declares as well; empty for another error."""
    names = re.findall(r"--[\w-]+", str(error))
    if "already" not in str(error) or not names:
        return ""
    frames = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    source = next((path for path in reversed(frames) if path.endswith("conftest.py")), "a conftest.py")
    return (
        f"{source}: its option {names[0]} is one of phasebench's too; leave that file out with --noconftest, "
        "or run phasebench in a folder of its own"
    )


XDIST_OPTIONS = ("-n", "--numprocesses", "--dist", "--maxprocesses")
"""Options of pytest-xdist, which is an extra."""


def refuse_mistyped(parser: pytest.Parser, args: Sequence[str]) -> None:
    """Check that no argument is almost an option's name; pytest itself refuses other unknown options.

    Raises:
        pytest.UsageError: an argument is, and the message names both; or it is an option of pytest-xdist,
            which is not installed.
    """
    # argparse has no public list of options; a test checks this attribute.
    options = [name.removeprefix("--") for name in parser.optparser._option_string_actions]
    for argument in parser.parse_known_and_unknown_args(list(args))[1]:
        name = argument.partition("=")[0]
        if name in XDIST_OPTIONS or re.fullmatch(r"-n\w+", name):
            raise pytest.UsageError(
                f"{name}: several processes need pytest-xdist: pip install 'phasebench[xdist]'"
            )
        if near := did_you_mean(name.lstrip("-"), options, "--"):
            raise pytest.UsageError(f"{name}: there is no such option{near}")


def _text(text: str) -> str:
    """Refuse an empty value, as from an unset shell variable: it is neither a value nor the default."""
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty; leave the option out for its default")
    return text


def _path(text: str) -> Path:
    return Path(_text(text)).expanduser()


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


def _batch_size(text: str) -> BatchSize:
    return "auto" if text == "auto" else _positive(text)


def parsed_mode(option: argparse.Namespace) -> BaselineMode:
    """What the options allow the run to do with baselines."""
    return BaselineMode(
        create=bool(option.update_snapshots or option.update_new_snapshots_only),
        update=bool(option.update_snapshots),
        strict=bool(option.strict_baselines),
    )


def parsed_settings(option: argparse.Namespace) -> Settings:
    """The settings of loading and measuring from the options."""
    return Settings(
        images=option.images,
        seed=option.seed,
        device=option.device,
        dtype=option.dtype,
        batch_size=option.batch_size,
        lens_norm=option.lens_norm == "on",
        normed_last_layer=option.last_layer == "normed",
        prompt=option.prompt,
        controls=option.controls,
        max_memory=option.max_memory,
        allow_pickle=option.allow_pickle,
        remote_code=option.trust_remote_code,
        store=store_folder(option.store),
        fresh=option.fresh,
        shared=processes.count() > 1,
    )

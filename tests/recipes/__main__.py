"""``python -m tests.recipes NAME [--out DIR] [--install]``: train a bundled model from scratch.

Training is seeded, and resumes from the checkpoints in DIR. On one of two busy cores smol-llava took 147
minutes (22 of them the vision encoder, on both) and smol-instructblip, which needs its first stages, 83
more. With ``--install`` the weights replace the bundled ones.

The bundled weights come from these stages, but not from one run of this program: ``words`` and ``lists``
were trained by two processes, the rate of ``polish`` was 1.5e-3 up to step 50, smol-instructblip's
projection started from the visual vectors after 140 steps of ``scenes``, and both ``long`` stages were
first planned for 300 steps and then continued to 700.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from torch import Tensor

from phasebench.models.bundled.assembly import WEIGHTS, converted_language_model
from tests.recipes import instructblip, llava
from tests.recipes.export import export

SEED = 0


def train_llava(out: Path) -> tuple[dict[str, Tensor], tuple[Path, ...]]:
    """The weights of smol-llava."""
    return llava.weights(llava.train_all(out, converted_language_model(out))), ()


def train_instructblip(out: Path) -> tuple[dict[str, Tensor], tuple[Path, ...]]:
    """The weights of smol-instructblip, and its Q-Former's vocabulary."""
    course = instructblip.train_all(out, converted_language_model(out))
    return instructblip.weights(course), (out / instructblip.VOCABULARY,)


RECIPES = {"smol-llava": train_llava, "smol-instructblip": train_instructblip}


STAGES = {"smol-llava": ("eyes", "llava."), "smol-instructblip": ("eyes", "llava.", "blip.")}
"""Prefixes of the names of the stages that a model needs, as the manifest records them."""


def facts(out: Path, name: str) -> dict[str, Any]:
    """Steps and seconds of each stage, from the logs' last lines."""
    last = {
        path.stem: json.loads(path.read_text(encoding="utf-8").splitlines()[-1])
        for path in sorted(out.glob("*.log"))
        if path.stem.startswith(STAGES[name])
    }
    stages = {name: {key: row[key] for key in ("step", "seconds")} for name, row in last.items()}
    return {"recipe": f"python -m {__package__} {name}", "seed": SEED, "stages": stages}


def main() -> None:
    """Train a model, export its weights and print their folder."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.recipes",
        description="Train a bundled model from scratch. This takes hours; a stopped training resumes.",
    )
    parser.add_argument("name", choices=RECIPES, help="the model to train")
    parser.add_argument(
        "--out", type=Path, default=Path("recipes"), metavar="FOLDER",
        help="folder for checkpoints and logs, from which a stopped training resumes (default: recipes)",
    )  # fmt: skip
    parser.add_argument(
        "--install",
        action="store_true",
        help="replace the bundled weights instead of writing them to FOLDER/weights",
    )
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    state, extra_files = RECIPES[arguments.name](arguments.out)
    target = WEIGHTS if arguments.install else arguments.out / "weights"
    export(arguments.name, state, facts(arguments.out, arguments.name), target, extra_files)
    print(f"{arguments.name}: {target}")


if __name__ == "__main__":
    main()

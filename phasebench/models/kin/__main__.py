"""``python -m phasebench.models.kin MODEL ...``: official files into a standard folder."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from phasebench.errors import InputError

FILES = {
    "minigpt4": {
        "vit": "BLIP-2's eva_vit_g.pth",
        "qformer": "BLIP-2's blip2_pretrained_flant5xxl.pth",
        "language-model": "folder with Vicuna-13B v0 in the Hugging Face layout",
        "checkpoint": "MiniGPT-4's pretrained_minigpt4.pth",
    },
    "minigpt-v2": {
        "vit": "BLIP-2's eva_vit_g.pth",
        "language-model": "folder with Llama-2-7B-chat in the Hugging Face layout",
        "checkpoint": "MiniGPT-v2's checkpoint, with its linear layer and low-rank weights",
    },
    "limber": {
        "vision-model": "folder with beit-large-patch16-224-pt22k in the Hugging Face layout",
        "language-model": "folder with GPT-J in the Hugging Face layout",
        "projection": "LiMBeR's limber_weights/beit_linear/proj.ckpt",
    },
}
"""Model to the options of its converter."""


def parser() -> argparse.ArgumentParser:
    """One subcommand a model, each file an option that must be given."""
    whole = argparse.ArgumentParser(prog="python -m phasebench.models.kin", description=__doc__)
    models = whole.add_subparsers(dest="model", required=True)
    for model, files in FILES.items():
        command = models.add_parser(model)
        for option, explained in files.items():
            command.add_argument(f"--{option}", type=Path, required=True, metavar="PATH", help=explained)
        command.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to write")
    return whole


def main(arguments: Sequence[str] | None = None) -> int:
    """Convert; 0, or 2 with the reason on stderr."""
    given = vars(parser().parse_args(arguments))
    model = given.pop("model")
    module = import_module(f"phasebench.models.kin.{model.replace('-', '_')}")
    convert: Callable[..., Path] = module.convert
    try:
        folder = convert(**given)
    except InputError as error:
        print(f"{model}: {error}", file=sys.stderr)
        return 2
    print(f"{folder}: pytest --phasebench --model {model}={folder}\nprompt: {module.PROMPT!r}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

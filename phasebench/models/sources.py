"""The files of a model: checked before any long work, and fetched when they are needed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from phasebench.errors import InputError
from phasebench.models.adapters import check_adapter, is_adapter
from phasebench.models.checks import check_config, check_folder
from phasebench.models.hub import Hub, fetch, look_up
from phasebench.models.named_models import ModelSpec, known_models
from phasebench.models.resolution import base_of_adapter
from phasebench.settings import Settings


def check_available(spec: ModelSpec, settings: Settings) -> None:
    """Check that a model of the hub or a converted one is available, and that folders are whole.

    Raises:
        InputError: it is not; the message names the file or the repository, and what to do.
    """
    if isinstance(spec.source, Hub):
        folder = look_up(spec.source)
        if not (folder / "config.json").is_file() and is_adapter(folder):
            check_available(_with_base(spec, folder), settings)
            return
        if not (folder / "config.json").is_file():
            raise InputError(
                f"{spec.source} has no config.json: it is no checkpoint of transformers, perhaps GGUF or the "
                "authors' own files; give the repository from which it was made"
            )
        check_config(folder, settings)
    elif spec.source is None or isinstance(spec.source, Path):
        check_folder(spec.folder(Path(), settings), settings)
    if isinstance(spec.adapter, Path):
        check_adapter(spec.adapter, settings)
    elif spec.adapter:
        look_up(spec.adapter)


def configuration(spec: ModelSpec, cache: Path, settings: Settings) -> Path:
    """A folder or file with the model's configuration, without downloading weights.

    Raises:
        InputError: there is none.
    """
    if spec.config is not None and spec.config.is_file():
        return spec.config
    if not isinstance(spec.source, Hub):
        return spec.folder(cache, settings)
    folder = look_up(spec.source)
    if not (folder / "config.json").is_file() and is_adapter(folder):
        return configuration(_with_base(spec, folder), cache, settings)
    return folder


def fetch_files(spec: ModelSpec, cache: Path, settings: Settings) -> tuple[ModelSpec, Path, Path | None]:
    """The checked files of a model, which are downloaded or assembled first if necessary.

    Returns:
        the model, with its base if it was an adapter on the hub; the folder of its whole weights; and the
        folder of its adapter, or None.

    Raises:
        InputError: files are missing, damaged or not allowed; the message names one.
    """
    folder = spec.folder(cache, settings)
    if isinstance(spec.source, Hub) and is_adapter(folder):
        spec = _with_base(spec, folder)
        folder = spec.folder(cache, settings)
    check_folder(folder, settings)
    adapter = fetch(spec.adapter, settings) if isinstance(spec.adapter, Hub) else spec.adapter
    if adapter:
        check_adapter(adapter, settings)
    return spec, folder, adapter


def _with_base(spec: ModelSpec, folder: Path) -> ModelSpec:
    """The spec of an adapter on the hub, with its base as the source; ``folder`` has the adapter's files."""
    base = base_of_adapter(folder, {known.name: known for known in known_models()})
    hub = spec.source if isinstance(spec.source, Hub) else None
    return replace(base, name=spec.name, prompt=spec.prompt or base.prompt, adapter=hub)


def commits(spec: ModelSpec, folder: Path, adapter: Path | None) -> str | None:
    """``OWNER/NAME@COMMIT`` of a model from the hub, joined by + with its adapter's; None for others."""
    pairs = ((spec.source, folder), (spec.adapter, adapter))
    # The hub's cache names folders by commit.
    found = [f"{hub.repository}@{path.name}" for hub, path in pairs if isinstance(hub, Hub) and path]
    return "+".join(found) or None

"""Resolving an argument to a model: a known name, a folder, a repository on the hub, or BASE+ADAPTER."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from phasebench.errors import InputError, did_you_mean
from phasebench.files import SAFE_IN_NAMES
from phasebench.models.adapters import CONFIG as ADAPTER_CONFIG
from phasebench.models.adapters import is_adapter
from phasebench.models.checks import check_no_llava, read_json
from phasebench.models.hub import Hub
from phasebench.models.incomplete import check_contents, no_weights
from phasebench.models.named_models import ModelSpec, Source

ADDRESS = re.compile(r"\b[a-z][a-z0-9]+://", re.IGNORECASE)
HUB_PAGE = re.compile(
    r"(huggingface\.co|hf\.co|hf:/)/(?P<repository>[\w][\w.-]*/[\w][\w.-]*)(/(tree|blob|resolve)/(?P<revision>[\w.-]+))?"
)
"""The address of a model's page on the hub."""
REPOSITORY = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")
"""The name of a repository on the hub: owner/name."""


def resolve_models(arguments: Iterable[str], known: Mapping[str, ModelSpec]) -> list[ModelSpec]:
    """The models that arguments name.

    An argument is a known name, a folder, or OWNER/NAME on the hub; @REVISION may follow a name or repository
    on the hub, and any of these may follow NAME=. Repeated arguments count once.

    Raises:
        InputError: an argument is none of these (the message lists the known names), or two models have the
            same name.
    """
    specs = {argument: _resolve(argument, known) for argument in arguments}
    names = [spec.name for spec in specs.values()]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{name}: two different models have this name; give NAME=FOLDER for one of them")
        if name in ("", ".", "..") or set(name) - SAFE_IN_NAMES:
            raise InputError(f"{name!r} cannot be the name of a baselines' folder; give NAME=FOLDER")
    return list(specs.values())


def _resolve(argument: str, known: Mapping[str, ModelSpec]) -> ModelSpec:
    if argument in known:
        return known[argument]
    _check_address(argument)
    name, equals, location = argument.partition("=")
    if not equals or Path(argument).expanduser().is_dir():
        name, location = argument.partition("@")[0], argument
        name = name if name in known else ""
    elif not name:
        raise InputError(f"{argument}: there is nothing before =; give NAME=FOLDER, or the folder alone")
    elif location in known:
        return replace(known[location], name=name)
    elif not location:
        raise InputError(f"{argument}: there is nothing after =; give a name, a folder, or OWNER/NAME")
    source, adapter, family = _checkpoint(argument, location, known)
    if name in known:
        same = source == known[name].source
        config = known[name].config if same else None
        return replace(known[name], source=source, adapter=adapter, config=config)
    own = name or _own_name(adapter or source)
    if own in known:
        raise InputError(
            f"{argument}: there is a model called {own!r} already; to compare with its baselines give "
            f"{own}={argument}, else NAME={argument} with another name"
        )
    return replace(family or ModelSpec(own, source), name=own, source=source, adapter=adapter)


def _check_address(argument: str) -> None:
    """Check that an argument is no web address.

    Raises:
        InputError: it is; the message has the repository's name if the address is one on the hub.
    """
    address = ADDRESS.search(argument)
    if not address:
        return
    if page := HUB_PAGE.search(argument):
        revision = f"@{page['revision']}" if page["revision"] else ""
        raise InputError(f"{argument} is a web address; give the repository: {page['repository']}{revision}")
    served = address[0].lower() in ("http://", "https://")
    reason = "a served model gives no hidden states" if served else "a model is not read from there"
    raise InputError(f"{argument} is an address; {reason}: give a folder, or OWNER/NAME on the hub")


def _own_name(source: Source) -> str:
    """The name of a model without another: its folder's, or its repository's."""
    if isinstance(source, Hub):
        return source.repository.partition("/")[2]
    return source.resolve().name if isinstance(source, Path) else ""


def _checkpoint(
    argument: str, location: str, known: Mapping[str, ModelSpec]
) -> tuple[Source, Path | Hub | None, ModelSpec | None]:
    """The source of a model, its adapter if it has one, and the known model that is the adapter's base."""
    path = Path(location).expanduser()
    if path.is_dir() and is_adapter(path):
        base = base_of_adapter(path, known)
        return base.source, path, base if base.name in known else None
    base_location, plus, adapter = location.rpartition("+")
    if plus and not path.is_dir():
        base = _base(argument, base_location, known)
        return base.source, _adapter(argument, adapter), base if base.name in known else None
    return _source(argument, location, known), None, None


def base_of_adapter(folder: Path, known: Mapping[str, ModelSpec]) -> ModelSpec:
    """The base that an adapter's configuration names: a folder, or a repository on the hub.

    A relative path is looked for in the current folder, beside the adapter, and in its folder.

    Raises:
        InputError: it names none, or one that is not here.
    """
    check_no_llava(folder)
    config = read_json(folder / ADAPTER_CONFIG)
    base, revision = (str(config.get(key) or "") for key in ("base_model_name_or_path", "revision"))
    advice = f"give BASE+{folder}"
    if not base:
        raise InputError(f"{folder} is an adapter, and {ADAPTER_CONFIG} does not name its base; {advice}")
    places = (Path(base).expanduser(), folder.parent / base, folder / base)
    location = str(next((place for place in places if place.is_dir()), base))
    if not Path(location).is_dir():
        if not REPOSITORY.fullmatch(base):
            raise InputError(f"{folder}: the base of this adapter, {base}, is not here; {advice}")
        location += f"@{revision}" if revision else ""
    return _base(str(folder), location, known)


def _base(argument: str, location: str, known: Mapping[str, ModelSpec]) -> ModelSpec:
    """The model to which an adapter belongs; a known one if it is, or lies where, a known one does."""
    if location in known:
        return known[location]
    if is_adapter(Path(location).expanduser()):
        raise InputError(f"{argument}: the base {location} is an adapter itself; merge it first")
    source = _source(argument, location, known)
    hubs = {spec.source: spec for spec in known.values() if isinstance(spec.source, Hub)}
    hubs |= {Hub(hub.repository): spec for hub, spec in hubs.items()}
    return hubs.get(source, ModelSpec("", source)) if isinstance(source, Hub) else ModelSpec("", source)


def _adapter(argument: str, location: str) -> Path | Hub:
    """The folder or repository of an adapter that was named after its base."""
    path = Path(location).expanduser()
    if path.is_dir():
        if not is_adapter(path):
            raise InputError(
                f"{argument}: {path} is no adapter: it has no {ADAPTER_CONFIG}, or whole weights"
            )
        return path
    repository, _, revision = location.partition("@")
    if not REPOSITORY.fullmatch(repository):
        raise InputError(f"{argument}: no such folder as {location or 'the adapter after +'}")
    return Hub(repository, revision or None)


def _hint(folder: Path) -> str:
    """What a folder without a configuration has, and what to give instead."""
    if checkpoints := sorted(path.parent for path in folder.glob("*/config.json")):
        return f"its subfolders are checkpoints; give one of them ({checkpoints[-1]})"
    return no_weights(folder) or "is this a checkpoint's folder?"


def _file_hint(path: Path) -> str:
    """What to give instead of a file."""
    if path.suffix == ".gguf":
        return "GGUF is llama.cpp's format: give the folder of safetensors from which it was made"
    if (path.parent / "config.json").is_file():
        return f"give its folder: {path.parent}"
    return "give a folder with config.json, the weights and the processor's files"


def _source(argument: str, location: str, known: Mapping[str, ModelSpec]) -> Path | Hub:
    """The folder at ``location``, or the repository with this name and perhaps an ``@REVISION``."""
    path = Path(location).expanduser()
    if path.is_dir():
        if (path / "config.json").is_symlink():
            check_contents([path / "config.json"])
        if not (path / "config.json").is_file():
            raise InputError(f"{argument}: {path / 'config.json'} is missing; {_hint(path)}")
        return path
    if path.is_file():
        raise InputError(f"{argument} is a file; {_file_hint(path)}")
    repository, _, revision = location.partition("@")
    if repository in known and (hub := known[repository].source) and isinstance(hub, Hub):
        repository = hub.repository
    if REPOSITORY.fullmatch(repository):
        return Hub(repository, revision or None)
    problem = "no such folder" if "/" in location else "unknown model"
    raise InputError(
        f"{argument}: {problem}{did_you_mean(location, known)}; known: {', '.join(known)}; or give a folder, "
        "or OWNER/NAME on the hub"
    )

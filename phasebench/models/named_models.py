"""Named models, and how a ``--model`` argument becomes one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from phasebench.catalog import SAFE
from phasebench.errors import InputError, did_you_mean
from phasebench.models.hub import Hub, fetch

DEFAULT_PROMPT = "USER: <image>\nDescribe the image. ASSISTANT:"
LLAVA = "5dda2880bda009266dda7c4baff660b95ca64540"
LLAVA_7B = "b234b804b114d9e37bb655e11cbbb5f5e971b7a9"
LLAVA_NEXT = "c916e6cdcd760b4cecd1dd4907f84ac649f93b23"
"""Commits that others have published results of."""
CONFIGS = Path(__file__).parent / "configs"
CAPTION = "Write a short description for the image."
SYSTEM = (
    "A chat between a curious human and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the human's questions. "
)
CHAT_BLIP = "<|im_start|>user\nDescribe the picture.<|im_end|>\n<|im_start|>assistant\n"
CHAT_LLAVA = "<|im_start|>user\n<image>\nDescribe the picture.<|im_end|>\n<|im_start|>assistant\n"
TINY_PROMPT_LLAVA = "<s> user : <image> describe the picture . assistant :"
TINY_PROMPT_BLIP = "<s> user : describe the picture . assistant :"
REPOSITORY = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")
"""What a repository on the hub is called: owner/name."""


@dataclass(frozen=True)
class ModelSpec:
    """A model that can be measured.

    Attributes:
        name: how it is called, in ids and as its baselines' folder.
        source: a folder in the Hugging Face layout, a repository on the hub, or a function
            (cache folder -> such a folder); None for a model that must be converted first.
        prompt: the fixed prompt of its family, with ``<image>`` where its processor expects one;
            None takes the chat template of its processor.
        visual: image tokens that one image takes in its prompt, if that is fixed.
        config: its full-size configuration, known without the hub.
        note: one line for ``--list-models``.
    """

    name: str
    source: Path | Hub | Callable[[Path], Path] | None
    prompt: str | None = None
    visual: int | None = None
    config: Path | None = None
    note: str = ""

    def __post_init__(self) -> None:
        """A folder may be given as text."""
        if isinstance(self.source, str):
            object.__setattr__(self, "source", Path(self.source))

    def folder(self, cache: Path, *, allow_pickle: bool = False) -> Path:
        """The checkpoint's folder, assembled or fetched first if need be.

        Raises:
            InputError: it must be converted first, or cannot be fetched.
        """
        if self.source is None:
            raise InputError(f"--model {self.name}: {self.note}, then say --model {self.name}=FOLDER")
        if isinstance(self.source, Hub):
            return fetch(self.name, self.source, allow_pickle=allow_pickle)
        return self.source if isinstance(self.source, Path) else self.source(cache)


def known_models() -> list[ModelSpec]:
    """Every model that ``--model`` knows by name without a user's hook."""
    return [*bundled_models(), *named_models()]


def bundled_models() -> list[ModelSpec]:
    """The models that come with phasebench: trained ones, and tiny random ones for tests."""
    return [
        _from("smol-llava", _bundled, CHAT_LLAVA, 36, "SmolLM2-135M with a trained vision encoder"),
        _from("smol-instructblip", _bundled, CHAT_BLIP, 16, "the same through a Q-Former"),
        _from("tiny-llava", _tiny, TINY_PROMPT_LLAVA, 16, "random weights, for tests only"),
        _from("tiny-instructblip", _tiny, TINY_PROMPT_BLIP, 4, "random weights, for tests only"),
        *(_random(spec) for spec in named_models() if spec.source is not None),
    ]


def _from(name: str, make: Callable[[str, Path], Path], prompt: str, visual: int, note: str) -> ModelSpec:
    return ModelSpec(name, partial(make, name), prompt, visual, note=note)


def _random(named: ModelSpec) -> ModelSpec:
    name = f"tiny-random-{named.name}"
    note = f"{named.name}'s layout, random weights, for tests only"
    made = partial(_shrunk, name, CONFIGS / f"{named.name}.json")
    return ModelSpec(name, made, named.prompt, named.visual, note=note)


def named_models() -> list[ModelSpec]:
    """The paper's models and their relatives; their verdicts are unknown until someone runs them."""
    return [
        _hub("instructblip", "Salesforce/instructblip-vicuna-13b", CAPTION, 32, "the paper's, Vicuna-13B"),
        _hub("instructblip-7b", "Salesforce/instructblip-vicuna-7b", CAPTION, 32, "Vicuna-7B"),
        _hub(
            "instructblip-flan-t5-xl", "Salesforce/instructblip-flan-t5-xl", CAPTION, 32,
            "encoder-decoder: measured in its encoder, without the lens",
        ),
        _hub("llava", f"llava-hf/llava-1.5-13b-hf@{LLAVA}", DEFAULT_PROMPT, 576, "LLaVA-1.5, Vicuna-13B"),
        _hub("llava-7b", f"llava-hf/llava-1.5-7b-hf@{LLAVA_7B}", DEFAULT_PROMPT, 576, "LLaVA-1.5, Vicuna-7B"),
        _hub(
            "llava-next", f"llava-hf/llava-v1.6-vicuna-7b-hf@{LLAVA_NEXT}", SYSTEM + DEFAULT_PROMPT, None,
            "LLaVA-NeXT, Vicuna-7B",
        ),
        _hub("blip2", "Salesforce/blip2-opt-2.7b", "a photo of", 32, "OPT-2.7B"),
        _converted("minigpt4", 32),
        _converted("minigpt-v2", 256),
        _converted("limber", 196),
    ]  # fmt: skip


def _hub(name: str, location: str, prompt: str, visual: int | None, note: str) -> ModelSpec:
    repository, _, revision = location.partition("@")
    hub = Hub(repository, revision or None)
    return ModelSpec(name, hub, prompt, visual, CONFIGS / f"{name}.json", note)


def _converted(name: str, visual: int) -> ModelSpec:
    note = f"convert its official files first (python -m phasebench convert {name} --help)"
    return ModelSpec(name, None, None, visual, CONFIGS / f"{name}.json", note)


def _bundled(name: str, cache: Path) -> Path:
    from phasebench.models.bundled.assembly import assemble

    return Path(assemble(name, cache))


def _shrunk(name: str, config: Path, cache: Path) -> Path:
    from phasebench.models.bundled.tiny_named import shrunk

    return shrunk(name, config, cache)


def _tiny(name: str, cache: Path) -> Path:
    from phasebench.models.bundled.tiny import tiny

    return tiny(name, cache)


def resolve_models(arguments: Iterable[str], known: Mapping[str, ModelSpec]) -> list[ModelSpec]:
    """The models that ``--model`` arguments name: a known name, a folder, OWNER/NAME on the hub, each
    with an @REVISION on the hub, or NAME= before one of these.

    Doubled arguments count once.

    Raises:
        InputError: an argument is none of these; it lists the known names.
    """
    specs = {argument: _resolve(argument, known) for argument in arguments}
    names = [spec.name for spec in specs.values()]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"--model: two different models called {name!r}; name one: --model NAME=FOLDER")
        if name in ("", ".", "..") or set(name) - SAFE:
            raise InputError(f"--model: {name!r} cannot name a baselines' folder; say --model NAME=FOLDER")
    return list(specs.values())


def _resolve(argument: str, known: Mapping[str, ModelSpec]) -> ModelSpec:
    if argument in known:
        return known[argument]
    name, equals, location = argument.partition("=")
    if not equals or Path(argument).expanduser().is_dir():
        name, location = argument.partition("@")[0], argument
        name = name if name in known else ""
    elif not name:
        raise InputError(f"--model {argument}: nothing before =; say NAME=FOLDER, or the folder alone")
    elif location in known:
        return replace(known[location], name=name)
    elif not location:
        raise InputError(f"--model {argument}: nothing after =; give a name, a folder, or OWNER/NAME")
    source = _source(argument, location, known)
    if name in known:
        same = source == known[name].source
        return replace(known[name], source=source, config=known[name].config if same else None)
    own = name or (source.repository.partition("/")[2] if isinstance(source, Hub) else source.resolve().name)
    if own in known:
        raise InputError(
            f"--model {argument}: there is a model called {own!r} already; to compare with its "
            f"baselines say --model {own}={argument}, else NAME={argument} with another name"
        )
    return ModelSpec(own, source)


def _instead(folder: Path) -> str:
    """What a folder without a configuration may be, and what to give in its place."""
    if (folder / "adapter_config.json").is_file():
        return "it holds an adapter alone: merge it into its model (peft's merge_and_unload) and give that"
    if inside := sorted(path.parent for path in folder.glob("*/config.json")):
        return f"checkpoints lie in folders of their own; give one of them ({inside[-1]})"
    return "is this a checkpoint's folder?"


def _source(argument: str, location: str, known: Mapping[str, ModelSpec]) -> Path | Hub:
    """The folder that ``location`` is, or the repository, with an ``@REVISION``, that it names."""
    path = Path(location).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise InputError(f"--model {argument}: {path / 'config.json'} is missing; {_instead(path)}")
        return path
    repository, _, revision = location.partition("@")
    if repository in known and (hub := known[repository].source) and isinstance(hub, Hub):
        repository = hub.repository
    if REPOSITORY.fullmatch(repository):
        return Hub(repository, revision or None)
    what = "no such folder" if "/" in location else "unknown model"
    raise InputError(
        f"--model {argument}: {what}{did_you_mean(location, known)}; known: {', '.join(known)}; or give a folder, "
        "or OWNER/NAME on the hub"
    )

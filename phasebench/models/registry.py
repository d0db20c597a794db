"""Named models, and how a ``--model`` argument becomes one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from phasebench.errors import InputError

DEFAULT_PROMPT = "USER: <image>\nDescribe the image. ASSISTANT:"
SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


@dataclass(frozen=True)
class ModelSpec:
    """A model that can be measured.

    Attributes:
        name: how it is called, in ids and as its baselines' folder.
        source: a folder in the Hugging Face layout, or a function (cache folder -> such a folder).
        prompt: the fixed prompt of its family, with ``<image>`` where its processor expects one;
            None takes the chat template of its processor.
        note: one line for ``--list-models``-like listings.
    """

    name: str
    source: Path | Callable[[Path], Path]
    prompt: str | None = None
    note: str = ""

    def folder(self, cache: Path) -> Path:
        """The checkpoint's folder, assembled first if need be."""
        return self.source if isinstance(self.source, Path) else self.source(cache)


def bundled_models() -> list[ModelSpec]:
    """The models that come with phasebench: trained ones, and tiny random ones for tests."""
    return [
        ModelSpec(
            "smol-llava", partial(_bundled, "smol-llava"), CHAT_LLAVA, "SmolLM2-135M with trained eyes"
        ),
        ModelSpec(
            "smol-instructblip",
            partial(_bundled, "smol-instructblip"),
            CHAT_BLIP,
            "the same through a Q-Former",
        ),
        ModelSpec(
            "tiny-llava", partial(_tiny, "tiny-llava"), TINY_PROMPT_LLAVA, "random weights, for tests only"
        ),
        ModelSpec(
            "tiny-instructblip",
            partial(_tiny, "tiny-instructblip"),
            TINY_PROMPT_BLIP,
            "random weights, for tests only",
        ),
    ]


CHAT_BLIP = "<|im_start|>user\nDescribe the picture.<|im_end|>\n<|im_start|>assistant\n"
CHAT_LLAVA = "<|im_start|>user\n<image>\nDescribe the picture.<|im_end|>\n<|im_start|>assistant\n"
TINY_PROMPT_LLAVA = "<s> user : <image> describe the picture . assistant :"
TINY_PROMPT_BLIP = "<s> user : describe the picture . assistant :"


def _bundled(name: str, cache: Path) -> Path:
    from phasebench.models.bundled import assemble

    return Path(assemble(name, cache))


def _tiny(name: str, cache: Path) -> Path:
    from phasebench.models.tiny import tiny

    return tiny(name, cache)


def resolve_models(arguments: Iterable[str], known: Mapping[str, ModelSpec]) -> list[ModelSpec]:
    """The models that ``--model`` arguments name: a known name, a folder, or NAME=FOLDER.

    Doubled arguments count once.

    Raises:
        InputError: an argument is neither; it lists the known names.
    """
    specs = {argument: _resolve(argument, known) for argument in arguments}
    names = [spec.name for spec in specs.values()]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"--model: two different models called {name!r}; name one: --model NAME=FOLDER")
        if not name or set(name) - SAFE:
            raise InputError(f"--model: {name!r} cannot name a baselines' folder; say --model NAME=FOLDER")
    return list(specs.values())


def _resolve(argument: str, known: Mapping[str, ModelSpec]) -> ModelSpec:
    if argument in known:
        return known[argument]
    name, equals, folder = argument.partition("=")
    path = Path(folder if equals else argument).expanduser()
    if not equals and not path.is_dir():
        what = "no such folder" if "/" in argument else "unknown model"
        raise InputError(f"--model {argument}: {what}; known: {', '.join(known)}; or give a folder")
    if not (path / "config.json").is_file():
        raise InputError(
            f"--model {argument}: {path / 'config.json'} is missing; is this a checkpoint's folder?"
        )
    if equals and name in known:
        return replace(known[name], source=path)
    own = name if equals else path.resolve().name
    if own in known:
        raise InputError(
            f"--model {argument}: there is a model called {own!r} already; to compare with its "
            f"baselines say --model {own}={argument}, else NAME=FOLDER with another name"
        )
    return ModelSpec(own, path)

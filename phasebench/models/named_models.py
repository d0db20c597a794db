"""Named models: where each comes from, its prompt, and the number of its image tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from phasebench.errors import InputError
from phasebench.models.hub import Hub, fetch
from phasebench.settings import Settings

DEFAULT_PROMPT = "USER: <image>\nDescribe the image. ASSISTANT:"
LLAVA = "5dda2880bda009266dda7c4baff660b95ca64540"
LLAVA_7B = "b234b804b114d9e37bb655e11cbbb5f5e971b7a9"
LLAVA_NEXT = "c916e6cdcd760b4cecd1dd4907f84ac649f93b23"
"""Commits of the LLaVA models, for which others have published results."""
INSTRUCTBLIP = "cc1362c277aa415a1085632127c29ffa7d600da9"
INSTRUCTBLIP_7B = "9e554774e5c76eb8d1b90fac042e4e6385a3e7c3"
INSTRUCTBLIP_T5 = "bf9bd58cb3bb06e88c03b80f9cc346b90094bc6d"
BLIP2 = "59a1ef6c1e5117b3f65523d1c6066825bcf315e3"
"""Commits of Salesforce's models whose configurations have the image token."""
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
SIZES = {
    "instructblip": (14_192_093_952, 40),
    "instructblip-7b": (7_913_726_720, 32),
    "instructblip-flan-t5-xl": (4_022_969_088, 24),
    "llava": (13_351_494_656, 40),
    "llava-7b": (7_063_427_072, 32),
    "llava-next": (7_063_431_168, 32),
    "blip2": (3_744_761_856, 32),
    "minigpt4": (14_110_926_336, 40),
    "minigpt-v2": (7_748_530_176, 32),
    "limber": (6_358_211_809, 28),
}
"""Parameters and layers of the named models; a test builds each model and compares."""
Source = Path | Hub | Callable[[Path], Path] | None
"""Where a model comes from: see ``ModelSpec.source``."""


@dataclass(frozen=True)
class ModelSpec:
    """A model that can be measured.

    Attributes:
        name: its name in case ids, and the name of its baselines' folder.
        source: a folder in the Hugging Face layout, a repository on the hub, or a function
            (cache folder -> such a folder); None for a model that must be converted first.
        prompt: the fixed prompt of its family, with ``<image>`` where its processor expects it;
            None uses its processor's chat template.
        visual: number of image tokens of one image, if that is fixed.
        config: a file with its full-size configuration, which is available without the hub.
        note: one line for the list of models.
        parameters, layers: the size of the model in ``config``, recorded here so that a list needs no torch.
        adapter: the folder or repository of an adapter (peft) that is merged into the model.
    """

    name: str
    source: Source
    prompt: str | None = None
    visual: int | None = None
    config: Path | None = None
    note: str = ""
    parameters: int | None = None
    layers: int | None = None
    adapter: Path | Hub | None = None

    def __post_init__(self) -> None:
        """Accept folders as text."""
        for name in ("source", "adapter"):
            if isinstance(folder := getattr(self, name), str):
                object.__setattr__(self, name, Path(folder))

    def folder(self, cache: Path, settings: Settings) -> Path:
        """The checkpoint's folder, which is assembled or downloaded first if necessary.

        Args:
            cache: the cache folder.
            settings: ``allow_pickle`` decides which files are downloaded.

        Raises:
            InputError: the model must be converted first, or cannot be downloaded.
        """
        if self.source is None:
            raise InputError(f"{self.note}, then give {self.name}=FOLDER")
        if isinstance(self.source, Hub):
            return fetch(self.source, settings)
        return self.source if isinstance(self.source, Path) else self.source(cache)


def known_models() -> list[ModelSpec]:
    """All models that have a name without a user's hook."""
    return [*bundled_models(), *named_models()]


def bundled_models() -> list[ModelSpec]:
    """The models that come with phasebench: two trained models, and tiny random models for tests."""
    return [
        _local_spec("smol-llava", _bundled, CHAT_LLAVA, 36, "SmolLM2-135M with a trained vision encoder"),
        _local_spec("smol-instructblip", _bundled, CHAT_BLIP, 16, "the same through a Q-Former"),
        _local_spec("tiny-llava", _tiny, TINY_PROMPT_LLAVA, 16, "random weights, for tests only"),
        _local_spec("tiny-instructblip", _tiny, TINY_PROMPT_BLIP, 4, "random weights, for tests only"),
        *(_tiny_random_spec(spec) for spec in named_models() if spec.source is not None),
    ]


def _local_spec(
    name: str, make: Callable[[str, Path], Path], prompt: str, visual: int, note: str
) -> ModelSpec:
    """A spec of a model that ``make`` (name, cache folder -> checkpoint's folder) makes on this machine."""
    return ModelSpec(name, partial(make, name), prompt, visual, note=note)


def _tiny_random_spec(named: ModelSpec) -> ModelSpec:
    name = f"tiny-random-{named.name}"
    note = f"{named.name}'s layout, random weights, for tests only"
    make = partial(_tiny_random, name, CONFIGS / f"{named.name}.json")
    return ModelSpec(name, make, named.prompt, named.visual, note=note)


def named_models() -> list[ModelSpec]:
    """The paper's models and their relatives; their verdicts are unknown until they are measured."""
    return [
        _hub(
            "instructblip", f"Salesforce/instructblip-vicuna-13b@{INSTRUCTBLIP}", CAPTION, 32,
            "the paper's, Vicuna-13B",
        ),
        _hub(
            "instructblip-7b", f"Salesforce/instructblip-vicuna-7b@{INSTRUCTBLIP_7B}", CAPTION, 32,
            "Vicuna-7B",
        ),
        _hub(
            "instructblip-flan-t5-xl", f"Salesforce/instructblip-flan-t5-xl@{INSTRUCTBLIP_T5}", CAPTION, 32,
            "encoder-decoder: measured in its encoder, without the lens",
        ),
        _hub("llava", f"llava-hf/llava-1.5-13b-hf@{LLAVA}", DEFAULT_PROMPT, 576, "LLaVA-1.5, Vicuna-13B"),
        _hub("llava-7b", f"llava-hf/llava-1.5-7b-hf@{LLAVA_7B}", DEFAULT_PROMPT, 576, "LLaVA-1.5, Vicuna-7B"),
        _hub(
            "llava-next", f"llava-hf/llava-v1.6-vicuna-7b-hf@{LLAVA_NEXT}", SYSTEM + DEFAULT_PROMPT, None,
            "LLaVA-NeXT, Vicuna-7B",
        ),
        _hub("blip2", f"Salesforce/blip2-opt-2.7b@{BLIP2}", "a photo of", 32, "OPT-2.7B"),
        _official("minigpt4", 32),
        _official("minigpt-v2", 256),
        _official("limber", 196),
    ]  # fmt: skip


def _hub(name: str, location: str, prompt: str, visual: int | None, note: str) -> ModelSpec:
    repository, _, revision = location.partition("@")
    hub = Hub(repository, revision or None)
    return ModelSpec(name, hub, prompt, visual, CONFIGS / f"{name}.json", note, *SIZES[name])


def _official(name: str, visual: int) -> ModelSpec:
    note = f"convert its official files first (python -m phasebench convert {name} --help)"
    return ModelSpec(name, None, None, visual, CONFIGS / f"{name}.json", note, *SIZES[name])


def _bundled(name: str, cache: Path) -> Path:
    from phasebench.models.bundled.assembly import assemble

    return Path(assemble(name, cache))


def _tiny_random(name: str, config: Path, cache: Path) -> Path:
    from phasebench.models.bundled.tiny_named import make_tiny_random_model

    return make_tiny_random_model(name, config, cache)


def _tiny(name: str, cache: Path) -> Path:
    from phasebench.models.bundled.tiny import make_tiny_model

    return make_tiny_model(name, cache)

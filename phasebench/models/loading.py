"""Loading a checkpoint: weights, processor, and the identity of what was loaded."""

from __future__ import annotations

import hashlib
import shutil
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoConfig, AutoModelForImageTextToText

from phasebench.errors import InputError
from phasebench.models.anatomy.adapter import forward
from phasebench.models.anatomy.parts import image_token_id, precision
from phasebench.models.anatomy.shadow import reads
from phasebench.models.checks import (
    check_folder,
    check_image_count,
    check_image_token,
    some,
    weight_files,
)
from phasebench.models.converters import register_for
from phasebench.models.devices import Placement, lacks_memory, no_room, plan_placement
from phasebench.models.hub import Hub
from phasebench.models.named_models import DEFAULT_PROMPT, ModelSpec
from phasebench.models.processors import load_processor

BLOCK = 1 << 20
EXTRA_FILES = ("*.py", "adapter_config.json", "adapter_model.*")
"""Files of some checkpoints that change what the weights compute."""
ADAPTER = "lora_"
"""In the name of a low-rank adapter's weight."""
GREY = (127, 127, 127)
REFUSALS = (ValueError, TypeError, IndexError, AttributeError, RuntimeError)
"""What processors raise at a prompt or picture that is none of theirs."""
TRIED = (336, 336)
"""Size of the grey image that a loaded model is tried on."""


@dataclass
class Loaded:
    """A model ready to be measured."""

    name: str
    model: Any
    """A transformers image-text-to-text model, in evaluation mode."""
    processor: Any
    prompt: str
    checkpoint: str
    """Digest of the configuration and weight files; empty where the caller has loaded it."""
    source: str | None = None
    """``OWNER/NAME@COMMIT`` of a model of the hub."""
    unread: tuple[str, ...] = ()
    """Weights of the checkpoint that the model does not use."""

    @property
    def device(self) -> torch.device:
        """Where its inputs go; of a model on several devices, the first accelerator's."""
        spread = getattr(self.model, "hf_device_map", None)
        if not spread:
            found: torch.device = next(self.model.parameters()).device
            return found
        accelerators = [where for where in spread.values() if str(where) not in ("cpu", "disk")]
        return torch.empty(0, device=accelerators[0] if accelerators else "cpu").device

    @property
    def dtype(self) -> torch.dtype:
        """The precision of its language model's weights."""
        return precision(self.model)

    def inputs(self, images: Sequence[Image.Image]) -> dict[str, Tensor]:
        """The processor's tensors for these images, each with the prompt.

        Raises:
            InputError: the processor refuses; the message has its reason.
        """
        try:
            batch = self._processed(list(images))
        except REFUSALS as error:
            raise InputError(
                f"the processor refuses the prompt {self.prompt!r} (see --prompt): {error}"
            ) from error
        return {
            key: value.to(self.device, self.dtype if value.is_floating_point() else None)
            for key, value in batch.items()
            if isinstance(value, Tensor)
        }

    def processing(self) -> str:
        """Hex digest of what the processor makes of one picture and the prompt, sixteen characters.

        It stays where files are only written anew, and is another where pixels or tokens are. Empty where it
        takes no such picture.
        """
        state = hashlib.blake2b(digest_size=8)
        try:
            made = self._processed([gradient()])
        except REFUSALS:
            return ""
        for key, value in sorted(made.items()):
            if isinstance(value, Tensor):
                whole = (1000 * value).round().to(torch.int32) if value.is_floating_point() else value
                state.update(f"{key} {tuple(value.shape)}".encode() + whole.cpu().numpy().tobytes())
        return state.hexdigest()

    def _begun_twice(self) -> bool:
        """Whether the prompt begins the text and the tokenizer would begin it once more."""
        tokenizer = self.processor.tokenizer
        begin = getattr(tokenizer, "bos_token_id", None)
        return begin is not None and tokenizer(self.prompt)["input_ids"][:2] == [begin, begin]

    def _processed(self, images: list[Image.Image]) -> Mapping[str, Any]:
        """Images as one list, or one list a prompt: processors take the one or the other."""
        texts = [self.prompt] * len(images)
        options: dict[str, Any] = {"padding": True, "return_tensors": "pt"}
        if self._begun_twice():
            options["add_special_tokens"] = False  # as transformers' chat templates do
        try:
            batch: Mapping[str, Any] = self.processor(images=images, text=texts, **options)
        except (ValueError, TypeError, IndexError):
            batch = self.processor(images=[[image] for image in images], text=texts, **options)
        return batch


def gradient() -> Image.Image:
    """A picture in which every turn, crop and exchange of colours shows."""
    wide, high = TRIED
    across, down = Image.linear_gradient("L").rotate(90), Image.linear_gradient("L")
    return Image.merge("RGB", (across, down, across.point(lambda x: x // 2))).resize((wide, high // 2))


def load(
    spec: ModelSpec,
    cache: Path,
    *,
    device: str = "auto",
    dtype: str = "auto",
    prompt: str | None = None,
    recorded_prompt: str | None = None,
    max_memory: str | None = None,
    allow_pickle: bool = False,
    remote_code: bool = False,
) -> Loaded:
    """Load ``spec``'s checkpoint with stock transformers classes, from local safetensors only.

    Larger than its device, or with ``max_memory``, it is spread by accelerate over all accelerators,
    main memory and disk. ``prompt`` goes before the family's own, ``recorded_prompt`` before the
    processor's, if it has as many image tokens.

    Raises:
        InputError: the folder cannot be loaded; the message names the file and says what is wrong.
    """
    folder = spec.folder(cache, allow_pickle=allow_pickle)
    check_folder(spec.name, folder, allow_pickle=allow_pickle, remote_code=remote_code)
    register_for(folder)
    where = plan_placement(folder, device, dtype, max_memory, remote_code=remote_code)
    processor = load_processor(spec.name, folder, remote_code=remote_code)
    flags = {"allow_pickle": allow_pickle, "remote_code": remote_code}
    model, unread = _weights(spec.name, folder, where, cache, **flags)
    check_image_token(spec.name, model.config, processor.tokenizer, image_token_id(model))
    chosen = prompt or spec.prompt or _recorded_or_own(processor, recorded_prompt)
    identity = digest(folder, weight_files(spec.name, folder, allow_pickle=allow_pickle))
    loaded = Loaded(spec.name, model, processor, chosen, identity, unread=unread)
    if isinstance(spec.source, Hub):
        loaded.source = f"{spec.source.repository}@{folder.name}"  # the hub's cache names folders by commit
    try_out(loaded, spec.visual if prompt is None else None)
    return loaded


def _weights(
    name: str, folder: Path, where: Placement, cache: Path, *, allow_pickle: bool, remote_code: bool
) -> tuple[Any, tuple[str, ...]]:
    """The model, and the names of weights that it does not use."""
    spread = where.options(cache)
    try:
        model, info = AutoModelForImageTextToText.from_pretrained(
            folder,
            dtype=where.dtype,
            local_files_only=True,
            output_loading_info=True,
            use_safetensors=None if allow_pickle else True,
            trust_remote_code=remote_code,
            ignore_mismatched_sizes=True,  # they are refused below, by name
            **_readable(folder, remote_code=remote_code),
            **spread,
        )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        told = str(error)
        if told.startswith("Unrecognized configuration class"):  # transformers goes on with all it knows
            told = "its config.json is not of a vision language model that transformers knows"
        raise InputError(f"--model {name}: cannot load {folder}: {told}") from error
    others = (f"{key} {list(own)} for {list(wanted)}" for key, own, wanted in sorted(info["mismatched_keys"]))
    if lacking := [*sorted(info["missing_keys"]), *others]:
        told = f"{folder} lacks weights or has them in other shapes: {some(lacking)}"
        raise InputError(f"--model {name}: {told}")
    unread = tuple(sorted(info["unexpected_keys"]))
    if unmerged := [key for key in unread if ADAPTER in key]:
        raise InputError(
            f"--model {name}: {folder} has weights of an adapter that nothing applies ({some(unmerged)}); "
            "merge them into the model (peft's merge_and_unload), or keep them in an adapter folder"
        )
    model = model.eval().requires_grad_(requires_grad=False)
    if where.spread:
        weakref.finalize(model, shutil.rmtree, spread["offload_folder"], ignore_errors=True)
        return model, unread
    try:
        return model.to(where.device), unread
    except (torch.OutOfMemoryError, RuntimeError) as error:
        raise InputError(
            f"--model {name} does not fit on {where.device}: {error}; spread it with --max-memory"
        ) from error


def _readable(folder: Path, *, remote_code: bool) -> dict[str, Any]:
    """The checkpoint's configuration without an attention implementation that only its trainer had.

    What is read is ``sdpa`` or ``eager``; which of them is the model's to say.
    """
    config = AutoConfig.from_pretrained(folder, trust_remote_code=remote_code, local_files_only=True)
    unread = [part for part in _nested(config) if not reads(part)]
    for part in unread:
        part._attn_implementation_internal = None  # the property would set its parts' too
    return {"config": config} if unread else {}


def _nested(config: Any) -> Iterator[Any]:
    """A configuration and all within it."""
    yield config
    for name in config.sub_configs:
        if part := getattr(config, name, None):
            yield from _nested(part)


def try_out(loaded: Loaded, expected: int | None = None) -> None:
    """One forward pass over a grey image: processor, configuration and projector must agree.

    Raises:
        InputError: they do not.
    """
    inputs = loaded.inputs([Image.new("RGB", TRIED, GREY)])
    token = image_token_id(loaded.model)
    given = int((inputs["input_ids"] == token).sum()) if token is not None else None
    if given is not None:
        check_image_count(loaded.name, given, expected)
    try:
        forward(loaded.model, inputs)
    except (ValueError, RuntimeError, IndexError, TypeError, MemoryError) as error:
        if lacks_memory(error):
            raise no_room(f"--model {loaded.name}", error) from error
        raise InputError(
            f"--model {loaded.name} refuses its own processor's inputs, {given} image tokens of one grey "
            f"image with the prompt {loaded.prompt!r}: {error}; compare processor_config.json with "
            "config.json, and see --prompt"
        ) from error


def _recorded_or_own(processor: Any, recorded: str | None) -> str:
    """The recorded prompt where it fits, else the processor's: without the token no image is seen."""
    own = prompt_of(processor)
    token = str(getattr(processor, "image_token", "<image>"))
    return recorded if recorded and recorded.count(token) == own.count(token) else own


def prompt_of(processor: Any) -> str:
    """The chat template's rendering of one image and a request, or the plain default.

    BLIP-like processors put the image tokens before the prompt themselves.
    """
    if not getattr(processor, "chat_template", None):
        return (
            DEFAULT_PROMPT.replace("<image>\n", "")
            if hasattr(processor, "num_query_tokens")
            else DEFAULT_PROMPT
        )
    content = [{"type": "image"}, {"type": "text", "text": "Describe the image."}]
    message = [{"role": "user", "content": content}]
    return str(processor.apply_chat_template(message, add_generation_prompt=True))


def digest(folder: Path, weights: Sequence[Path]) -> str:
    """Hex digest of a checkpoint's configuration, weights and code of its own, sixteen characters."""
    state = hashlib.blake2b(digest_size=8)
    beside = [path for kind in EXTRA_FILES for path in folder.glob(kind)]
    for path in sorted({folder / "config.json", *weights, *beside}):
        state.update(path.name.encode())
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                state.update(block)
    return state.hexdigest()

"""Loading a checkpoint: its weights and its processor."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import AutoConfig

from phasebench.errors import InputError, RefusedError, one_line
from phasebench.models.adapters import adapter_files, has_processor, merge
from phasebench.models.anatomy.adapter import forward
from phasebench.models.anatomy.parts import architecture_name, image_token_id, precision, set_image_token
from phasebench.models.checks import (
    check_image_count,
    check_image_token,
    summary_of_names,
    unread_weights,
    weight_files,
)
from phasebench.models.converters import register_for
from phasebench.models.devices import Placement, pick_dtype, plan_placement
from phasebench.models.identity import PendingDigest
from phasebench.models.memory import is_out_of_memory, out_of_memory_error
from phasebench.models.named_models import DEFAULT_PROMPT, ModelSpec
from phasebench.models.older_checkpoints import complete_processor, missing_image_token
from phasebench.models.processor_of_type import (
    class_of_type,
    load_some_processor,
    named_class,
    processor_of_type,
)
from phasebench.models.quantization import expansion_note
from phasebench.models.sources import commits, fetch_files
from phasebench.models.weights import load_weights
from phasebench.settings import Settings

GREY = (127, 127, 127)
REFUSALS = (ValueError, TypeError, LookupError, AttributeError, RuntimeError)
"""The exceptions that processors raise for an unsuitable prompt or image."""
TOKENIZER_PARTS = ("tokenizer", "qformer_tokenizer")
"""The tokenizers of a processor."""
TRIAL_SIZE = (336, 336)
"""Width and height in pixels of the grey image that every loaded model is tried on."""


@dataclass
class LoadedModel:
    """A model ready to be measured."""

    name: str
    model: Any
    """A transformers image-text-to-text model, in evaluation mode."""
    processor: Any
    prompt: str
    checkpoint: str
    """Digest of the configuration and weight files; empty if the caller loaded the model."""
    source: str | None = None
    """``OWNER/NAME@COMMIT`` of a model from the hub, and of its adapter after +; None for others."""
    unused_weights: tuple[str, ...] = ()
    """Names of the checkpoint's weights that the model does not use."""
    notes: tuple[str, ...] = ()
    """What loading did or left out that a reader of the results should know."""

    @property
    def device(self) -> torch.device:
        """The device of its inputs; for a model spread over several devices, the first accelerator."""
        device_map = getattr(self.model, "hf_device_map", None)
        if not device_map:
            device: torch.device = next(self.model.parameters()).device
            return device
        accelerators = [where for where in device_map.values() if str(where) not in ("cpu", "disk")]
        return torch.empty(0, device=accelerators[0] if accelerators else "cpu").device

    @property
    def dtype(self) -> torch.dtype:
        """The precision of its language model's weights."""
        return precision(self.model)

    def inputs(self, images: Sequence[Image.Image]) -> dict[str, Tensor]:
        """The processor's tensors for these images, each with the prompt, on the model's device.

        Raises:
            RefusedError: the processor refuses the images or the prompt; the message has its reason.
        """
        return {
            key: value.to(self.device, self.dtype if value.is_floating_point() else None)
            for key, value in self._accepted(images).items()
            if isinstance(value, Tensor)
        }

    def check_prompt(self) -> None:
        """Check that the processor accepts the prompt with a grey image; needs no weights.

        Raises:
            InputError: the processor refuses it.
        """
        self._accepted([Image.new("RGB", TRIAL_SIZE, GREY)])

    def processing_digest(self) -> str:
        """Hex digest (16 characters) of the tensors that the processor makes from one image and the prompt.

        It stays the same if a checkpoint's files are only saved again, and changes with pixels or tokens.
        Empty if the processor refuses the image.
        """
        state = hashlib.blake2b(digest_size=8)
        try:
            batch = self._processed([gradient_image()])
        except REFUSALS:
            return ""
        for key, value in sorted(batch.items()):
            if isinstance(value, Tensor):
                whole = (1000 * value).round().to(torch.int32) if value.is_floating_point() else value
                state.update(f"{key} {tuple(value.shape)}".encode() + whole.cpu().numpy().tobytes())
        return state.hexdigest()

    def _accepted(self, images: Sequence[Image.Image]) -> Mapping[str, Any]:
        try:
            return self._processed(list(images))
        except REFUSALS as error:
            raise RefusedError(
                f"the processor refuses the prompt {self.prompt!r}: {one_line(error)}", remedy="prompt"
            ) from error

    def _has_two_bos_tokens(self) -> bool:
        """Whether the prompt has a BOS token and the tokenizer would put another before it."""
        tokenizer = self.processor.tokenizer
        bos = getattr(tokenizer, "bos_token_id", None)
        return bos is not None and tokenizer(self.prompt)["input_ids"][:2] == [bos, bos]

    def _processed(self, images: list[Image.Image]) -> Mapping[str, Any]:
        """The processor's batch; some processors expect one list of images, others one list per prompt."""
        texts = [self.prompt] * len(images)
        options: dict[str, Any] = {"padding": True, "return_tensors": "pt"}
        for name in TOKENIZER_PARTS:  # the attention mask marks what is padding, whatever its token
            part = getattr(self.processor, name, None)
            if part is not None and getattr(part, "pad_token", None) is None:
                part.pad_token = part.eos_token or part.unk_token
                options["padding"] = len(images) > 1 or part.pad_token is not None
        if self._has_two_bos_tokens():
            options["add_special_tokens"] = False  # as transformers' chat templates do
        try:
            batch: Mapping[str, Any] = self.processor(images=images, text=texts, **options)
        except (ValueError, TypeError, IndexError):
            batch = self.processor(images=[[image] for image in images], text=texts, **options)
        return batch


def gradient_image() -> Image.Image:
    """An RGB image of 336 by 168 pixels that every rotation, crop or exchange of channels changes."""
    width, height = TRIAL_SIZE
    across, down = Image.linear_gradient("L").rotate(90), Image.linear_gradient("L")
    return Image.merge("RGB", (across, down, across.point(lambda x: x // 2))).resize((width, height // 2))


def load(
    spec: ModelSpec,
    cache: Path,
    settings: Settings,
    recorded_prompt: str | None = None,
    on_stage: Callable[[str], None] = lambda _: None,
) -> LoadedModel:
    """Load a checkpoint with stock transformers classes, from local safetensors only.

    A model larger than its device, or loaded with ``settings.max_memory``, is spread by accelerate over all
    accelerators, main memory and disk.

    Args:
        spec: the model.
        cache: folder for bundled models and for weights that are offloaded to disk.
        settings: ``device``, ``dtype``, ``max_memory``, ``prompt``, ``allow_pickle`` and ``remote_code`` are
            used.
        recorded_prompt: the prompt of the baseline to compare with. It is used if neither ``settings`` nor
            the model's family has a prompt, and if it has as many image tokens as the processor's own.
        on_stage: called with the name of each stage that may take long, when it begins.

    Raises:
        InputError: the checkpoint cannot be loaded; the message names the file and the reason.
    """
    if not isinstance(spec.source, Path):
        on_stage("preparing its files")
    spec, folder, adapter = fetch_files(spec, cache, settings)
    register_for(folder)
    placement = plan_placement(folder, settings)
    if adapter and placement.spread:
        raise InputError(f"{adapter}: an adapter is not merged into a model that is spread; merge it before")
    with_processor = adapter if adapter and has_processor(adapter) else folder
    processor = load_some_processor(with_processor, remote_code=settings.remote_code)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=settings.remote_code, local_files_only=True)
    image_token = missing_image_token(processor, config, folder)
    if settings.prompt:
        _check_prompt(settings.prompt, processor, config, folder)
    weights = weight_files(folder, settings)
    on_stage(f"loading {_size(weights)} of weights")
    with PendingDigest(folder, [*weights, *(adapter_files(adapter) if adapter else ())], cache) as pending:
        model, unused_weights = load_weights(folder, placement, cache, settings)
        identity = pending.result()
    if adapter:
        model = merge(model, adapter)
    notes = _unread_note(folder, weights) + expansion_note(folder, model) + _dtype_note(placement, settings)
    if image_token is not None:
        set_image_token(model, image_token)
        notes += (f"the image token is not in config.json, so taken from the tokenizer: {image_token}",)
    loaded = LoadedModel(
        spec.name, model, processor, "", identity,
        source=commits(spec, folder, adapter), unused_weights=unused_weights, notes=notes,
    )  # fmt: skip
    prompt = settings.prompt or spec.prompt
    visual = spec.visual if settings.prompt is None else None
    return _with_fitting_processor(loaded, folder, visual, prompt, recorded_prompt)


def _check_prompt(prompt: str, processor: Any, config: Any, folder: Path) -> None:
    """Check the prompt before weights are read, unless the processor may still be replaced or completed.

    Raises:
        InputError: the processor refuses the prompt.
    """
    is_final = type(processor).__name__ == class_of_type(folder)
    if is_final and not complete_processor(deepcopy(processor), config, folder):
        LoadedModel("", None, processor, prompt, "").check_prompt()


def _with_fitting_processor(
    loaded: LoadedModel, folder: Path, visual: int | None, prompt: str | None, recorded_prompt: str | None
) -> LoadedModel:
    """The model with the processor that its checkpoint names, or with that of its type if only that fits.

    Raises:
        InputError: neither fits; the message is about the former.
    """

    def tried(processor: Any) -> LoadedModel:
        filled = complete_processor(processor, loaded.model.config, folder)
        check_image_token(loaded.model.config, processor.tokenizer, image_token_id(loaded.model))
        own = prompt or _recorded_or_default(processor, recorded_prompt)
        candidate = replace(loaded, processor=processor, prompt=own, notes=loaded.notes + filled)
        try_out(candidate, visual)
        return candidate

    named, kind = named_class(folder), class_of_type(folder)
    other = f"the processor is {kind}, that of the model's type; {named}, which the files name, does not fit"
    if type(loaded.processor).__name__ == kind:
        fitting = tried(loaded.processor)
        return fitting if named in (None, kind) else replace(fitting, notes=(*fitting.notes, other))
    try:
        return tried(loaded.processor)
    except InputError:
        if (processor := processor_of_type(folder)) is None:
            raise
        with suppress(InputError):
            fitting = tried(processor)
            return replace(fitting, notes=(*fitting.notes, other))
        raise


def _size(files: Sequence[Path]) -> str:
    size = sum(path.stat().st_size for path in files)
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _dtype_note(placement: Placement, settings: Settings) -> tuple[str, ...]:
    """A note if the precision is the checkpoint's and not the device's usual one."""
    if settings.dtype != "auto" or placement.dtype is pick_dtype("auto", placement.device):
        return ()
    return (f"computed in {str(placement.dtype)[6:]}, in which the checkpoint is saved",)


def _unread_note(folder: Path, weights: Sequence[Path]) -> tuple[str, ...]:
    """A note about weight files that nothing reads, which ``check_folder`` allows."""
    unread = [path.name for path in unread_weights(folder, weights)]
    return (f"weight files that are not read: {summary_of_names(unread)}",) if unread else ()


def try_out(loaded: LoadedModel, expected_image_tokens: int | None = None) -> None:
    """Check with one forward pass over a grey image that processor, configuration and projector agree.

    Args:
        loaded: the model.
        expected_image_tokens: the number of image tokens for one image in the model's family, if it is fixed.

    Raises:
        InputError: they do not agree, or memory runs out.
    """
    inputs = loaded.inputs([Image.new("RGB", TRIAL_SIZE, GREY)])
    token = image_token_id(loaded.model)
    count = int((inputs["input_ids"] == token).sum()) if token is not None else None
    if count == 0:
        raise InputError(
            f"the prompt {loaded.prompt!r} leaves the image out: it has no image token", remedy="prompt"
        )
    if count is not None:
        check_image_count(count, expected_image_tokens)
    try:
        forward(loaded.model, inputs)
    except (ValueError, RuntimeError, IndexError, TypeError, MemoryError) as error:
        name = architecture_name(loaded.model)
        if is_out_of_memory(error):
            raise out_of_memory_error(name, error) from error
        raise InputError(
            f"{name} refuses its own processor's inputs, {count} image tokens of one grey image with the "
            f"prompt {loaded.prompt!r}: {error}; compare processor_config.json with config.json",
            remedy="prompt",
        ) from error


def _recorded_or_default(processor: Any, recorded: str | None) -> str:
    """The recorded prompt if it has as many image tokens as the processor's own, else the processor's own."""
    default = default_prompt(processor)
    token = str(getattr(processor, "image_token", "<image>"))
    return recorded if recorded and recorded.count(token) == default.count(token) else default


def default_prompt(processor: Any) -> str:
    """One image and a request in the processor's chat template; without a template, ``DEFAULT_PROMPT``.

    It has no image token for BLIP-like processors, which put the image tokens before the prompt themselves.
    """
    if not getattr(processor, "chat_template", None):
        return (
            DEFAULT_PROMPT.replace("<image>\n", "")
            if hasattr(processor, "num_query_tokens")
            else DEFAULT_PROMPT
        )
    content = [{"type": "image"}, {"type": "text", "text": "Describe the image."}]
    message = [{"role": "user", "content": content}]
    try:
        prompt = str(processor.apply_chat_template(message, add_generation_prompt=True))
    except Exception as error:  # a template may raise anything
        folder = getattr(processor.tokenizer, "name_or_path", "")
        raise InputError(
            f"the chat template of the checkpoint {folder} takes no message with an image: {one_line(error)}",
            remedy="prompt",
        ) from error
    return prompt

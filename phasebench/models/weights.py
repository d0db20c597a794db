"""Loading a checkpoint's weights: first without memory, on the meta device, where all that is wrong shows."""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForImageTextToText
from transformers.utils import logging

from phasebench.errors import InputError, one_line
from phasebench.models.anatomy.attention_watch import is_watchable
from phasebench.models.checks import ADAPTER, read_json, summary_of_names, weight_files
from phasebench.models.devices import Placement
from phasebench.models.incomplete import unwrap_command
from phasebench.models.memory import is_out_of_memory
from phasebench.models.quantization import check_method, quantization_of, warn_once
from phasebench.models.sizes import check_main_memory
from phasebench.models.stored_weights import check_not_quantized, stored_weights
from phasebench.settings import Settings


def load_weights(
    folder: Path, placement: Placement, cache: Path, settings: Settings
) -> tuple[Any, tuple[str, ...]]:
    """The model, and the names of the checkpoint's weights that it does not use.

    The model is first built on the meta device and held against the files' headers, so that a checkpoint with
    missing weights, or a model too large for main memory, is refused before memory is taken.

    Raises:
        InputError: transformers cannot load the model, memory is too small, or weights are missing, of other
            shapes, quantized or not applied.
    """
    if quantization_of(folder):  # quantized weights get their shapes on the device
        check_method(folder)
    else:
        _check_on_meta(folder, placement, settings)
    options = placement.load_options(cache)
    model, info = _from_pretrained(folder, placement, settings, **options)
    unused = _check_weights(folder, info, [])
    if quantization_of(folder):
        warn_once()
    model = model.eval().requires_grad_(requires_grad=False)
    if placement.spread:
        weakref.finalize(model, shutil.rmtree, options["offload_folder"], ignore_errors=True)
    return model, unused


def _check_on_meta(folder: Path, placement: Placement, settings: Settings) -> None:
    """Check names, shapes, precisions and the size of the weights, without reading them."""
    empty, info = _from_pretrained(folder, placement, settings, device_map="meta")
    files = weight_files(folder, settings)
    stored = stored_weights(files)
    check_not_quantized(folder, stored, info["unexpected_keys"], (name for name, _ in empty.named_buffers()))
    _check_weights(folder, info, files)
    if not placement.spread and placement.device.type == "cpu":
        check_main_memory(folder, empty)


def _from_pretrained(
    folder: Path, placement: Placement, settings: Settings, **options: Any
) -> tuple[Any, Mapping[str, Any]]:
    """The model in ``folder``, and what transformers reports about its weights."""
    try:
        with _without_report():
            model, info = AutoModelForImageTextToText.from_pretrained(
                folder,
                dtype=placement.dtype,
                local_files_only=True,
                output_loading_info=True,
                use_safetensors=None if settings.allow_pickle else True,
                trust_remote_code=settings.remote_code,
                ignore_mismatched_sizes=True,  # _check_weights refuses them and gives their names
                **_watchable_config(folder, settings),
                **options,
            )
    except (OSError, ValueError, KeyError, ImportError, MemoryError, RuntimeError, SafetensorError) as error:
        reason = one_line(error)
        if is_out_of_memory(error):
            raise InputError(
                f"{folder} does not fit on {placement.device}: {reason}", remedy="max_memory"
            ) from error
        if isinstance(error, ModuleNotFoundError) and error.name:
            reason = f"it needs pip install {error.name.partition('.')[0]}"
        if reason.startswith("Unrecognized configuration class"):  # transformers then lists all classes
            reason = "its config.json is not of a vision language model that transformers knows"
        raise InputError(f"cannot load {folder}: {reason}") from error
    return model, info


@contextmanager
def _without_report() -> Iterator[None]:
    """Silence transformers' table of wrong weights: ``_check_weights`` names them."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _check_weights(folder: Path, info: Mapping[str, Any], files: Sequence[Path]) -> tuple[str, ...]:
    """Check that the model has all its weights; returns the names of weights that it does not use.

    Raises:
        InputError: weights are missing, have other shapes, or belong to an adapter that is not applied.
    """
    unused = tuple(sorted(info["unexpected_keys"]))
    mismatched = (
        f"{key} {list(stored)} for {list(expected)}"
        for key, stored, expected in sorted(info["mismatched_keys"])
    )
    if wrong := [*sorted(info["missing_keys"]), *mismatched]:
        names = summary_of_names(wrong)
        reason = _reason(folder, files, unused)
        raise InputError(f"{folder} lacks weights or has them in other shapes: {names}{reason}")
    if unmerged := [key for key in unused if any(part in key for part in ADAPTER)]:
        raise InputError(
            f"{folder} has weights of an adapter that nothing applies ({summary_of_names(unmerged)}); "
            "merge them into the model (peft's merge_and_unload), or keep them in an adapter folder"
        )
    return unused


def _reason(folder: Path, files: Sequence[Path], unused: Sequence[str]) -> str:
    """A likely reason why weights are missing, and what to do; empty if there is none."""
    names = stored_weights(files)
    firsts = {name.partition(".")[0] for name in names}
    if len(firsts) == 1 and len(unused) == len(names):
        first = firsts.pop()
        return f"; all names begin with {first}., remove it: {unwrap_command(files, first)}"
    config = folder / "config.json"
    if not {"text_config", "vision_config"} & read_json(config).keys():
        return (
            f"; {config} has neither text_config nor vision_config, so the sizes are transformers' defaults: "
            "is it the configuration of the authors' own program?"
        )
    return ""


def _watchable_config(folder: Path, settings: Settings) -> dict[str, Any]:
    """The argument ``config`` for a checkpoint whose attention implementation cannot be watched, else none.

    Such a setting comes from the machine that trained the model. Without the setting, the model chooses
    ``sdpa`` or ``eager``.
    """
    config = AutoConfig.from_pretrained(folder, trust_remote_code=settings.remote_code, local_files_only=True)
    unwatchable = [part for part in _nested_configs(config) if not is_watchable(part)]
    for part in unwatchable:
        part._attn_implementation_internal = None  # the property would set it in nested configurations too
    return {"config": config} if unwatchable else {}


def _nested_configs(config: Any) -> Iterator[Any]:
    """A configuration and all configurations within it."""
    yield config
    for name in config.sub_configs:
        if part := getattr(config, name, None):
            yield from _nested_configs(part)

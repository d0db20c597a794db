"""Checks of a checkpoint's folder before any weight is read, and of its image tokens."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from phasebench.errors import InputError
from phasebench.models.incomplete import (
    check_contents,
    check_wrapper_names,
    deepspeed_command,
    is_trainer_state,
    no_weights,
    text_files,
)
from phasebench.models.stored_weights import stored_weights
from phasebench.settings import Settings

WEIGHTS = "*.safetensors"
PICKLED = ("*.bin", "*.pt", "*.pth")
WHOLE = ("model.safetensors", "pytorch_model.bin")
"""File names that transformers looks for, in its order. Each may be replaced by an index of shards."""
INDEX = ".index.json"
PARTS = (
    "adapter_*", "*lora*", "*trainable*", "*projector*", "*resampler*", "*connector*", "*vision_tower*",
    "*vision_encoder*", "*embeddings*", "*delta*", "*prompt*",
)  # fmt: skip
"""Names of files with a part of a model, or with changes of its weights, as trainers write them."""
UNREAD_REMEDY = (
    "merge it into the weights, or remove it if that is done; "
    "an adapter goes into a folder of its own: give BASE+ADAPTER"
)
ADAPTER = ("lora_", ".base_layer.", "ia3_", "hada_", "oft_")
"""Parts of names of weights that peft has not merged."""
ORIGINAL_LLAVA = "mm_vision_tower"
"""A key of the configurations that the authors' programs of the LLaVA family write."""
PROCESSORS = ("processor_config.json", "preprocessor_config.json")
TOKENIZERS = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "spiece.model",
    "vocab.txt",
    "tokenizer_config.json",
)


def check_folder(folder: Path, settings: Settings) -> None:
    """Check that a folder has weights, a processor and a tokenizer, and needs no forbidden code.

    Raises:
        InputError: a file is missing, damaged or not allowed; the message names it.
    """
    check_contents(text_files(folder))
    check_config(folder, settings)
    _check_weights(folder, settings)
    for part, files in (("processor", PROCESSORS), ("tokenizer", TOKENIZERS)):
        if not any((folder / file).is_file() for file in files):
            raise InputError(
                f"{folder} lacks its {part}'s files ({' or '.join(files)}); is it a vision language model's?"
            )
    _check_tokenizer_model(folder)


def _check_tokenizer_model(folder: Path) -> None:
    """Check that a tokenizer which is there only in SentencePiece's format can be read."""
    names = [name for name in ("tokenizer.model", "spiece.model") if (folder / name).is_file()]
    if names and not (folder / "tokenizer.json").is_file() and find_spec("sentencepiece") is None:
        raise InputError(
            f"{folder} has its tokenizer only as {names[0]}, which needs pip install sentencepiece protobuf; "
            "or copy tokenizer.json from a newer revision of the model"
        )


def has_whole_weights(folder: Path) -> bool:
    """Whether a folder has files with the names of whole weights, not only those of a part or an adapter."""
    return any(folder.glob("model*.safetensors")) or any(folder.glob("pytorch_model*.bin"))


def check_no_llava(folder: Path) -> None:
    """Check that a folder, whole or with low-rank weights, is not in the layout of LLaVA's own program.

    Raises:
        InputError: it is; the message has the command that converts it.
    """
    path = folder / "config.json"
    config = read_json(path) if path.is_file() else {}
    if ORIGINAL_LLAVA in config and not {"text_config", "vision_config"} & config.keys():
        base = "" if has_whole_weights(folder) else "--language-model LLAMA "
        raise InputError(
            f"{path} is of LLaVA's own program ({ORIGINAL_LLAVA}), and transformers would build a model of "
            f"other sizes from it; convert it: python -m phasebench convert llava --checkpoint {folder} "
            f"{base}--clip CLIP --out OUT, or give a checkpoint of llava-hf on the hub"
        )


def check_config(folder: Path, settings: Settings) -> None:
    """Check that the configuration is transformers' own, and requires no forbidden code of the checkpoint.

    Raises:
        InputError: it is another program's, or requires Python code of the checkpoint.
    """
    path = folder / "config.json"
    check_no_llava(folder)
    config = read_json(path)
    if config.get("auto_map") and not settings.remote_code:
        raise InputError(f"{path} requires Python code of the checkpoint (auto_map)", remedy="remote_code")


def read_config(path: Path) -> dict[str, Any]:
    """The configuration in a checkpoint's folder, or in a file; errors as for ``read_json``."""
    return read_json(path / "config.json" if path.is_dir() else path)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a checkpoint's file.

    Raises:
        InputError: the file is missing, or holds no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} is not a JSON object")
    return content


def weight_files(folder: Path, settings: Settings) -> list[Path]:
    """The files from which transformers reads the weights; the folder may have other weight files.

    The list is empty if no file has a name that transformers looks for.

    Raises:
        InputError: the configuration or an index cannot be read, or an index lists a file that is missing.
    """
    configured = read_json(folder / "config.json").get("transformers_weights")
    standard = WHOLE if settings.allow_pickle else WHOLE[:1]
    for whole in [configured] if configured else standard:
        index = folder / (whole.removesuffix(INDEX) + INDEX)
        if (folder / whole).is_file() and folder / whole != index:
            return [folder / whole]
        if index.is_file():
            return _shards(index)
    return []


def _shards(index: Path) -> list[Path]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise InputError(f"{index} has no weight_map, which names the file of each weight")
    shards = sorted(set(map(str, weight_map.values())))
    if missing := [shard for shard in shards if not (index.parent / shard).is_file()]:
        raise InputError(f"{index} lists shards that are missing: {summary_of_names(missing)}")
    return [index.parent / shard for shard in shards]


def _check_weights(folder: Path, settings: Settings) -> None:
    files = weight_files(folder, settings)
    if not files:
        raise _no_weights_error(folder)
    check_weight_files(files)
    own_code = settings.remote_code and read_json(folder / "config.json").get("auto_map")
    if not own_code:  # which may read them
        check_unread_files(folder, files)


def check_weight_files(files: Sequence[Path]) -> None:
    """Check that weight files are complete, and that their names are a model's.

    Raises:
        InputError: one is not, or a wrapper has left its part in the names.
    """
    check_contents(files)
    stored = stored_weights(path for path in files if path.suffix == ".safetensors")
    check_wrapper_names(list(stored), files)
    empty = [name for name, tensor in stored.items() if 0 in tensor.shape]
    if empty:
        raise InputError(
            f"{files[0].parent} has weights without any number, as DeepSpeed's stage 3 leaves them "
            f"({summary_of_names(empty)}); {deepspeed_command(files[0].parent)}"
        )


def check_unread_files(folder: Path, read: Sequence[Path]) -> None:
    """Check that no file beside the weights would change the model if something read it.

    transformers applies an adapter beside whole weights if peft is installed, and ignores it otherwise.

    Raises:
        InputError: there is such a file; the message names it.
    """
    for path in unread_weights(folder, read):
        if any(path.match(pattern) for pattern in PARTS) or _has_adapter_weights(path):
            raise InputError(f"{path} may belong to the model, and nothing reads it; {UNREAD_REMEDY}")
    if (config := folder / "adapter_config.json").is_file() and config not in read:
        raise InputError(f"{config} lies beside whole weights; {UNREAD_REMEDY}")


def unread_weights(folder: Path, read: Sequence[Path]) -> list[Path]:
    """Weight files in a folder that nothing reads, other than a trainer's state."""
    found = [path for pattern in (WEIGHTS, *PICKLED) for path in sorted(folder.glob(pattern))]
    return [path for path in found if path not in read and not is_trainer_state(path.name)]


def _has_adapter_weights(path: Path) -> bool:
    names = stored_weights([path]) if path.suffix == ".safetensors" else ()
    return any(part in name for name in names for part in ADAPTER)


def _no_weights_error(folder: Path) -> InputError:
    """The error for a folder that has none of the files from which transformers reads weights."""
    whole = folder / WHOLE[1]
    index = whole.with_name(whole.name + INDEX)
    if pickled := [whole] if whole.is_file() else _shards(index) if index.is_file() else []:
        check_contents(pickled)
        return InputError(
            f"no {WEIGHTS} in {folder}; its pickled weights ({pickled[0].name}) are not read: "
            "unpickling can run code",
            remedy="allow_pickle",
        )
    if reason := no_weights(folder):
        return InputError(reason)
    if others := [path.name for pattern in (WEIGHTS, *PICKLED) for path in sorted(folder.glob(pattern))]:
        return InputError(
            f"{folder} has no weights under a name that transformers looks for, only "
            f"{summary_of_names(others)}; a single file is called {WHOLE[0]}"
        )
    return InputError(f"no {WEIGHTS} in {folder}, and no pickled weights")


def summary_of_names(names: Sequence[str], limit: int = 3) -> str:
    """The first ``limit`` names, and the number of the others."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def check_image_token(config: Any, tokenizer: Any, image_token: int | None) -> None:
    """Check that the tokenizer has the image token of the configuration.

    Raises:
        InputError: the tokenizer has no such token.
    """
    if image_token is None:
        return
    token = tokenizer.convert_ids_to_tokens(image_token) if image_token < len(tokenizer) else None
    if token is None:
        raise InputError(
            f"{config.model_type}: config.json says image token {image_token}, but its tokenizer has "
            f"{len(tokenizer)} entries and none with that id (see tokenizer.json)"
        )


def check_image_count(count: int, expected: int | None) -> None:
    """Check that the processor makes as many image tokens for one image as is usual in the model's family.

    Raises:
        InputError: the numbers differ.
    """
    if expected is not None and count != expected:
        raise InputError(
            f"{count} image tokens for one image where this family has {expected}; "
            "is processor_config.json another model's, or the prompt without its image?",
            remedy="prompt",
        )

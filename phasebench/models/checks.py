"""What can be said against a checkpoint's folder before any weight is read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from phasebench.errors import InputError

WEIGHTS = "*.safetensors"
PICKLED = ("*.bin", "*.pt", "*.pth")
WHOLE = ("model.safetensors", "pytorch_model.bin")
"""The names that transformers looks for, in its order; beside each its index, which names shards."""
INDEX = ".index.json"
PROCESSORS = ("processor_config.json", "preprocessor_config.json")
TOKENIZERS = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "spiece.model",
    "vocab.txt",
    "tokenizer_config.json",
)


def check_folder(name: str, folder: Path, *, allow_pickle: bool = False, remote_code: bool = False) -> None:
    """See that weights, processor and tokenizer are there and that no code must be trusted.

    Raises:
        InputError: something is missing or needs a flag; the message names the file or the flag.
    """
    check_code(name, folder, remote_code=remote_code)
    _check_weights(name, folder, allow_pickle=allow_pickle)
    for what, files in (("processor", PROCESSORS), ("tokenizer", TOKENIZERS)):
        if not any((folder / file).is_file() for file in files):
            raise InputError(
                f"--model {name}: {folder} lacks its {what}'s files ({' or '.join(files)}); "
                "is it a vision language model's?"
            )


def check_code(name: str, folder: Path, *, remote_code: bool) -> None:
    """See that no code must be trusted that was not allowed.

    Raises:
        InputError: the configuration names code of its own.
    """
    path = folder / "config.json"
    if read_json(name, path).get("auto_map") and not remote_code:
        raise InputError(
            f"--model {name}: {path} wants to run code of its own (auto_map); "
            "read it, then allow it with --trust-remote-code"
        )


def read_json(name: str, path: Path) -> dict[str, Any]:
    """A JSON object of a checkpoint.

    Raises:
        InputError: the file is missing or is none.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"--model {name}: {path} is missing") from error
    except (OSError, ValueError) as error:
        raise InputError(f"--model {name}: {path} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise InputError(f"--model {name}: {path} is not a JSON object")
    return found


def weight_files(name: str, folder: Path, *, allow_pickle: bool = False) -> list[Path]:
    """The files that transformers reads weights from; others may lie beside them, unread.

    All that look like weights where none is called as it wants it.

    Raises:
        InputError: the configuration or an index cannot be read, or an index names what is not there.
    """
    told = read_json(name, folder / "config.json").get("transformers_weights")
    for whole in [told] if told else WHOLE if allow_pickle else WHOLE[:1]:
        index = folder / (whole.removesuffix(INDEX) + INDEX)
        if (folder / whole).is_file() and folder / whole != index:
            return [folder / whole]
        if index.is_file():
            return _shards(name, index)
    kinds = (WEIGHTS, *(PICKLED if allow_pickle else ()))
    return sorted(path for kind in kinds for path in folder.glob(kind))


def _shards(name: str, index: Path) -> list[Path]:
    places = read_json(name, index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise InputError(f"--model {name}: {index} has no weight_map, which says where each weight lies")
    shards = sorted(set(map(str, places.values())))
    if missing := [shard for shard in shards if not (index.parent / shard).is_file()]:
        raise InputError(f"--model {name}: {index} names shards that are not there: {some(missing)}")
    return [index.parent / shard for shard in shards]


def _check_weights(name: str, folder: Path, *, allow_pickle: bool) -> None:
    files = weight_files(name, folder, allow_pickle=allow_pickle)
    for path in files:
        _check_whole(name, path)
    if files:
        return
    pickled = [path.name for pattern in PICKLED for path in sorted(folder.glob(pattern))]
    if not pickled:
        raise InputError(f"--model {name}: no {WEIGHTS} in {folder} (pickled ones need --allow-pickle)")
    raise InputError(
        f"--model {name}: no {WEIGHTS} in {folder}; its pickled weights ({pickled[0]}) are not read: "
        "unpickling can run code (allow it with --allow-pickle, or convert them)"
    )


def _check_whole(name: str, path: Path) -> None:
    """See that a file has all that its header tells of; the loading would not say which file has not."""
    if path.suffix != ".safetensors":
        return
    try:
        with safe_open(path, framework="numpy"):
            pass
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"--model {name}: {path} is truncated or no safetensors file ({error}); copy it again"
        ) from error


def some(names: Sequence[str]) -> str:
    """The first three, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def check_image_token(name: str, config: Any, tokenizer: Any, image_token: int | None) -> None:
    """See that the tokenizer has the token that the configuration takes for an image's.

    Raises:
        InputError: it has not.
    """
    if image_token is None:
        return
    token = tokenizer.convert_ids_to_tokens(image_token) if image_token < len(tokenizer) else None
    if token is None:
        raise InputError(
            f"--model {name}: config.json says image token {image_token}, but its tokenizer has "
            f"{len(tokenizer)} entries and none with that id ({config.model_type}; see tokenizer.json)"
        )


def check_image_count(name: str, given: int, expected: int | None) -> None:
    """See that the processor makes room for as many image tokens as the model's family has.

    Raises:
        InputError: it makes room for none, or for another number.
    """
    if expected is not None and given != expected:
        raise InputError(
            f"--model {name}: {given} image tokens for one image where this family has {expected}; "
            "is processor_config.json another model's, or --prompt without its image?"
        )

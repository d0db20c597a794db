"""Checkpoints on the Hugging Face hub: checked before any long work, downloaded when they are needed.

The hub's library is imported only where it is called, so that listing models does not need it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from phasebench.errors import InputError, one_line
from phasebench.settings import Settings

FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja", "*.py")
"""The files of a checkpoint; pickled weights are downloaded only if they are allowed."""
PICKLED = ("*.bin", "*.bin.index.json")


@dataclass(frozen=True)
class Hub:
    """A repository on the Hugging Face hub; ``revision`` None is its main branch."""

    repository: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{self.repository}@{self.revision[:8]}" if self.revision else self.repository


def look_up(hub: Hub) -> Path:
    """Check that the repository exists and may be read; returns the folder with its configuration.

    The configuration is an adapter's if the repository has no model's.

    Raises:
        InputError: it does not exist or may not be read; the message says what to do.
    """
    with _hub_errors(hub):
        return _snapshot(hub, "config.json", "adapter_config.json")


def fetch(hub: Hub, settings: Settings) -> Path:
    """The folder of the repository's files in the hub's own cache, downloaded if they are not there.

    Raises:
        InputError: the files cannot be downloaded, or have no weights; the message says what to do.
    """
    patterns = (*FILES, *(PICKLED if settings.allow_pickle else ()))
    with _hub_errors(hub):
        folder = _snapshot(hub, *patterns)
    # Without a connection the hub's library returns what is cached, which may be the configuration alone.
    if not any(path.suffix in (".safetensors", ".bin") for path in folder.rglob("*")):
        raise InputError(
            f"there are no weights of {hub} in the local cache, and the hub provides none: it cannot be "
            "reached, or has only pickled weights; download them elsewhere and give NAME=FOLDER",
            remedy="allow_pickle",
        )
    return folder


def _snapshot(hub: Hub, *patterns: str) -> Path:
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(hub.repository, revision=hub.revision, allow_patterns=list(patterns)))


@contextmanager
def _hub_errors(hub: Hub) -> Iterator[None]:
    """Turn what the hub's library raises into an InputError that says what to do."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        yield
    except GatedRepoError as error:
        raise InputError(
            f"{hub} is gated; accept its terms at https://huggingface.co/{hub.repository} "
            "and log in (hf auth login, or set HF_TOKEN)"
        ) from error
    except RevisionNotFoundError as error:
        raise InputError(f"{hub.repository} has no revision {hub.revision!r}") from error
    except RepositoryNotFoundError as error:
        raise InputError(
            f"there is no repository {hub} on the hub, or it is private (hf auth login), and no such folder"
        ) from error
    except Exception as error:  # the errors of the hub's HTTP library are not part of its interface
        raise InputError(
            f"{hub} is not in the local cache, the hub cannot be reached "
            f"({type(error).__name__}: {one_line(error)}), "
            "and there is no such folder; download it elsewhere and give NAME=FOLDER"
        ) from error

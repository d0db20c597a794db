"""``coco`` and ``winoground`` from the Hugging Face Hub, in the layouts of their official files.

Only the drawn images are written, into phasebench's cache, and the local readers read them from there. The
library ``datasets`` keeps its downloads in its own cache.
"""

from __future__ import annotations

import errno
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from phasebench.datasets.coco import write_coco
from phasebench.datasets.sample import Sample, draw
from phasebench.datasets.winoground import EXAMPLES
from phasebench.errors import InputError
from phasebench.files import make_folder_once

COCO = "lmms-lab/COCO-Caption2017"
COCO_REVISION = "ba347b1dc8dcc9c2c07f0d51c073403ae2ab5d42"
"""A commit with the validation split alone; a later one adds 6.6 GB of images without captions."""
WINOGROUND = "facebook/winoground"
TERMS = (
    f"It is gated: accept its terms at https://huggingface.co/datasets/{WINOGROUND}, "
    "then run `hf auth login` or set HF_TOKEN. "
)
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)
TAGS = ("tag", "secondary_tag", "num_main_preds", "collapsed_tag")
Row = Mapping[str, Any]


def coco_folder(cache: Path, images: int, seed: int) -> Path:
    """The drawn images of COCO's val2017 with their captions, in the official layout.

    Raises:
        InputError: the hub's data cannot be read; the message says what to do.
    """
    folder = cache / f"coco-{COCO_REVISION[:8]}-{images}-{seed}"
    return make_folder_once(folder, lambda path: _write_coco(path, images, seed))


def winoground_folder(cache: Path, images: int, seed: int) -> Path:
    """The drawn items of Winoground, in the form of the official files.

    Raises:
        InputError: the hub's data cannot be read; the message says what to do.
    """
    folder = cache / f"winoground-{images}-{seed}"
    return make_folder_once(folder, lambda path: _write_winoground(path, images, seed))


def _write_coco(folder: Path, images: int, seed: int) -> None:
    with _hub_errors(COCO):
        rows = _load(COCO, "val", ("image",), COCO_REVISION)
        # Questions are named after image files, according to the reference code of that collection.
        indices = {f"{Path(name).stem}.jpg": index for index, name in enumerate(rows["question_id"])}
        samples = [Sample(Path(name).stem, Path(name), (), name) for name in sorted(indices)]
        (folder / "val2017").mkdir()
        sizes, captions = [], []
        for sample in draw(samples, images, seed):
            row = rows[indices[sample.path.name]]
            content = _content(row["image"])
            (folder / "val2017" / sample.path).write_bytes(content)
            sizes.append((sample.path.name, *Image.open(BytesIO(content)).size))
            captions.append(list(row["answer"]))
    write_coco(folder, "val2017", sizes, captions)


def _write_winoground(folder: Path, images: int, seed: int) -> None:
    with _hub_errors(WINOGROUND, TERMS):
        try:
            rows = _load(WINOGROUND, "test", ("image_0", "image_1"))
        except RuntimeError as error:
            if "scripts are no longer supported" not in str(error):
                raise
            rows = (
                _WinogroundFiles()
            )  # an older state of the repository, before its images moved into parquet files
        ids = [str(name) for name in rows["id"]]
        samples = [Sample(f"{name}_{side}", Path(), (), name) for name in ids for side in (0, 1)]
        drawn_items = {sample.item for sample in draw(samples, images, seed)}
        (folder / "images").mkdir()
        lines = [_write_item(folder, rows[index]) for index, name in enumerate(ids) if name in drawn_items]
    (folder / EXAMPLES).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _write_item(folder: Path, row: Row) -> str:
    """Write both images of an item; the item's line for the file of examples."""
    names = {f"image_{side}": f"ex_{row['id']}_img_{side}.png" for side in (0, 1)}
    for key, name in names.items():
        (folder / "images" / name).write_bytes(_content(row[key]))
    texts = {key: row[key] for key in ("caption_0", "caption_1")}
    return json.dumps({"id": row["id"], **names, **texts, **{key: row[key] for key in TAGS if key in row}})


class _WinogroundFiles:
    """The rows of Winoground's plain files, ``data/examples.jsonl`` and ``data/images.zip``."""

    def __init__(self) -> None:
        from huggingface_hub import hf_hub_download

        listed, packed = (
            Path(hf_hub_download(WINOGROUND, f"data/{name}", repo_type="dataset"))
            for name in (EXAMPLES, "images.zip")
        )
        self._rows = [json.loads(line) for line in listed.read_text(encoding="utf-8").split("\n") if line]
        self._archive = zipfile.ZipFile(packed)
        self._members = {Path(name).stem: name for name in self._archive.namelist()}

    def __getitem__(self, key: int | str) -> Any:
        if isinstance(key, str):
            return [row[key] for row in self._rows]
        row = self._rows[key]
        members = {side: self._members[Path(row[side]).stem] for side in ("image_0", "image_1")}
        return {**row, **{side: {"bytes": self._archive.read(name)} for side, name in members.items()}}


def _load(name: str, split: str, images: Sequence[str], revision: str | None = None) -> Any:
    """The rows of a dataset of the hub; the columns ``images`` have the bytes of image files."""
    try:
        import datasets
    except ImportError as error:
        raise InputError(
            f"reading {name} from the Hugging Face Hub needs the library `datasets`: "
            "pip install 'phasebench[hub]'",
            remedy="data_dir",
        ) from error
    rows = datasets.load_dataset(name, split=split, revision=revision)
    for column in images:
        rows = rows.cast_column(column, datasets.Image(decode=False))
    return rows


def _content(image: Row) -> bytes:
    return bytes(image["bytes"]) if image["bytes"] is not None else Path(image["path"]).read_bytes()


@contextmanager
def _hub_errors(name: str, terms: str = "") -> Iterator[None]:
    """Turn what the hub's libraries raise, many unrelated types, into an InputError that says what to do."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in UNWRITABLE:
            raise InputError(
                f"{name} cannot be saved: {error}; set PHASEBENCH_CACHE and HF_HOME to other cache folders"
            ) from error
        raise InputError(
            f"cannot read {name} from the Hugging Face Hub. {terms}"
            f"The hub's library says: {type(error).__name__}: {error}",
            remedy="data_dir",
        ) from error

"""Quantized checkpoints: measured with their libraries, named in reports, or refused in one line."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from phasebench.errors import InputError
from phasebench.measurement.selftest import self_test
from phasebench.models.anatomy.adapter import dissect
from phasebench.models.bundled.tiny import make_tiny_model
from phasebench.models.loading import LoadedModel, load
from phasebench.models.named_models import ModelSpec
from phasebench.models.quantization import (
    check_method,
    quantization_name,
    quantization_of,
    saved_dtype,
    warn_once,
)
from phasebench.settings import Settings
from tests.support import quantized
from tests.support.versions import since

if TYPE_CHECKING:
    from PIL import Image

CPU = Settings(device="cpu")


@pytest.fixture
def tiny_llava_folder(cache: Path) -> Path:
    return make_tiny_model("tiny-llava", cache)


def loaded_from(folder: Path) -> LoadedModel:
    return load(ModelSpec("mine", folder), folder, CPU)


def quantized_config(folder: Path, quantization: dict[str, Any], **fields: Any) -> Path:
    """A folder with a configuration alone."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"quantization_config": quantization, **fields}))
    return folder


def measured_whole(loaded: LoadedModel, pictures: list[Image.Image]) -> bool:
    inputs = loaded.inputs(pictures[:1])
    outcome = self_test(dissect(loaded.model, inputs), inputs)
    return not outcome.unmeasured and outcome.attention_rows == outcome.layers


@pytest.mark.parametrize("dynamic", [False, True])
def test_compressed_tensors_are_measured_whole(
    tiny_llava_folder: Path, tmp_path: Path, pictures: list[Image.Image], dynamic: bool
) -> None:
    """With int8 states the summed contributions miss by 1e-2, which float32 weights alone would not allow."""
    loaded = loaded_from(quantized.compressed(tiny_llava_folder, tmp_path / "int8", dynamic=dynamic))
    assert quantization_name(loaded.model) == "int8 (compressed-tensors)"
    assert loaded.notes == ()
    assert measured_whole(loaded, pictures)


@since("5.17", "fp8 without triton")
def test_weights_that_are_expanded_on_loading_have_a_note(
    tiny_llava_folder: Path, tmp_path: Path, pictures: list[Image.Image]
) -> None:
    loaded = loaded_from(quantized.fp8(tiny_llava_folder, tmp_path / "fp8"))
    assert loaded.notes == ("the weights are quantized (fp8); transformers expanded them to float32 here",)
    assert quantization_name(loaded.model) is None
    assert measured_whole(loaded, pictures)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torchao's, in its own modules
@pytest.mark.parametrize(("config", "format_name"), [
    ("Int8WeightOnlyConfig", "int8"), ("Int8DynamicActivationInt8WeightConfig", "int8"),
    ("Float8WeightOnlyConfig", "float8"),
])  # fmt: skip
def test_torchao_is_measured_whole(
    pictures: list[Image.Image], tmp_path: Path, tiny_llava_folder: Path,
    config: str, format_name: str,
) -> None:  # fmt: skip
    """Its weights are tensor subclasses, in the output head too."""
    from torchao import quantization
    from transformers import AutoModelForImageTextToText, TorchAoConfig

    method = TorchAoConfig(getattr(quantization, config)(), include_input_output_embeddings=True)
    model = AutoModelForImageTextToText.from_pretrained(
        tiny_llava_folder, quantization_config=method, dtype="float32"
    )
    folder = tmp_path / "torchao"
    shutil.copytree(tiny_llava_folder, folder, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    model.save_pretrained(folder)
    loaded = loaded_from(folder)
    assert quantization_name(loaded.model) == f"{format_name} (torchao)"
    assert measured_whole(loaded, pictures)


@pytest.mark.parametrize(("fields", "name"), [
    (
        {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
        "nf4 (bitsandbytes)",
    ),
    ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "int8 (bitsandbytes)"),
    ({"quant_method": "gptq", "bits": 4}, "int4 (gptq)"),
    ({"quant_method": "awq", "bits": 4}, "int4 (awq)"),
    ({"quant_method": "quanto", "weights": "int4"}, "int4 (quanto)"),
    ({"quant_method": "torchao", "quant_type": "Int4WeightOnlyConfig(group_size=32)"}, "int4 (torchao)"),
    ({"quant_method": "fp8"}, "fp8"),
])  # fmt: skip
@pytest.mark.parametrize("as_object", [False, True])
def test_the_name_has_the_format_and_the_library(fields: dict[str, Any], name: str, as_object: bool) -> None:
    """transformers keeps a dictionary, or an object of the method's own class."""
    quantization = SimpleNamespace(to_dict=lambda: fields) if as_object else fields
    model = SimpleNamespace(config=SimpleNamespace(quantization_config=quantization))
    assert quantization_name(model) == name


def test_plain_weights_have_no_name(tiny_llava: LoadedModel) -> None:
    assert quantization_name(tiny_llava.model) is None


def test_a_method_that_transformers_would_ignore_is_refused(tmp_path: Path) -> None:
    folder = quantized_config(tmp_path / "mine", {"quant_method": "nvfp9", "bits": 4})
    with pytest.raises(
        InputError, match=r"config\.json: this transformers does not know the quantization 'nvfp9'"
    ):
        check_method(folder)
    check_method(quantized_config(tmp_path / "other", {"quant_method": "bitsandbytes", "load_in_8bit": True}))


def test_a_library_that_is_missing_is_named_as_pip_knows_it(
    tiny_llava_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = quantized.compressed(tiny_llava_folder, tmp_path / "int8", dynamic=True)
    monkeypatch.setattr(
        "transformers.quantizers.quantizer_compressed_tensors.is_compressed_tensors_available", lambda: False
    )
    monkeypatch.setitem(sys.modules, "compressed_tensors", None)
    with pytest.raises(InputError, match=r"cannot load .*pip install .*compressed.tensors") as caught:
        loaded_from(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("fields", "dtype"), [
    ({"dtype": "float16"}, torch.float16),
    ({"torch_dtype": "bfloat16"}, torch.bfloat16),
    ({"text_config": {"dtype": "float16"}}, torch.float16),
    ({"dtype": "float8_e4m3fn"}, None),
    ({}, None),
])  # fmt: skip
def test_the_dtype_is_that_which_was_saved(tmp_path: Path, fields: dict[str, Any], dtype: Any) -> None:
    assert saved_dtype(quantized_config(tmp_path, {"quant_method": "awq"}, **fields)) is dtype


def test_a_quantization_of_the_language_model_alone_is_found(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"text_config": {"quantization_config": {"bits": 4}}}))
    assert quantization_of(tmp_path) == {"bits": 4}


def test_a_library_says_each_thing_once(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("bitsandbytes.test")
    warn_once()
    warn_once()
    for _ in range(3):
        logger.warning("inputs will be cast from %s", "float32")
    logger.warning("inputs will be cast from %s", "bfloat16")
    assert [record.getMessage() for record in caplog.records] == [
        "inputs will be cast from float32", "inputs will be cast from bfloat16",
    ]  # fmt: skip
    assert len(logger.filters) == 1

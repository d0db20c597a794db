"""Devices, precisions and memory: choosing them, and the errors if they do not exist."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from phasebench.errors import InputError
from phasebench.models.anatomy.adapter import dissect
from phasebench.models.anatomy.parts import precision
from phasebench.models.devices import Placement, parse_memory, pick_device, pick_dtype
from phasebench.models.loading import LoadedModel, try_out


def test_devices_and_precisions() -> None:
    assert pick_device("cpu").type == "cpu"
    assert pick_dtype("auto", torch.device("cpu")) is torch.float32
    assert pick_dtype("auto", torch.device("cuda")) is torch.bfloat16
    assert pick_dtype("float16", torch.device("cpu")) is torch.float16
    with pytest.raises(InputError, match=r"^device nonsense: "):
        pick_device("nonsense")


@pytest.mark.parametrize("saved", ["float16", "bfloat16", "float32", None])
def test_the_precision_is_that_of_a_checkpoint_with_16_bits(tmp_path: Path, saved: str | None) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"dtype": saved} if saved else {}))
    has_16_bits = saved is not None and saved.endswith("16")
    for device, usual in (("cpu", torch.float32), ("cuda", torch.bfloat16)):
        expected = getattr(torch, str(saved)) if has_16_bits else usual
        assert pick_dtype("auto", torch.device(device), tmp_path) is expected
    assert pick_dtype("float32", torch.device("cpu"), tmp_path) is torch.float32


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_each_process_of_a_launcher_takes_a_device_of_its_own(
    monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    taken: list[int] = []
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 4)
    monkeypatch.setattr(torch.accelerator, "set_device_index", taken.append)
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert pick_device(device) == torch.device("cuda", 3)
    assert taken == [3]
    monkeypatch.setenv("LOCAL_RANK", "4")
    with pytest.raises(InputError, match=r"device cuda: there is none for process 4 .* has 4 cuda devices"):
        pick_device(device)


def test_weights_stored_in_8_bits_are_not_the_precision(tiny_llava: LoadedModel) -> None:
    model = copy.deepcopy(tiny_llava.model).bfloat16()
    for layer in model.get_decoder().layers:
        weight = layer.mlp.down_proj.weight
        layer.mlp.down_proj.weight = torch.nn.Parameter(weight.to(torch.float8_e4m3fn), requires_grad=False)
        layer.mlp.up_proj = layer.mlp.gate_proj = torch.nn.Identity()
    assert precision(model) is torch.bfloat16


def test_memory_that_runs_out_at_the_first_image_is_an_input_error(
    tiny_llava: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")

    monkeypatch.setattr(type(tiny_llava.model), "forward", full)
    with pytest.raises(InputError, match=r"^llava: memory runs out with one image: ") as caught:
        try_out(tiny_llava)
    assert caught.value.remedy == "max_memory"
    inputs = tiny_llava.inputs([Image.new("RGB", (64, 64))])
    with pytest.raises(InputError, match=r"^llava: memory runs out with one image: "):
        dissect(tiny_llava.model, inputs)


def test_an_accelerator_gets_each_tensor_as_it_is_read(tmp_path: Path) -> None:
    """Eight processes need not have eight copies of a model in main memory."""
    device = torch.device("cuda", 3)
    assert Placement(device, torch.bfloat16).load_options(tmp_path) == {"device_map": {"": device}}
    assert Placement(torch.device("cpu"), torch.float32).load_options(tmp_path) == {}


@pytest.mark.parametrize("text", ["20GiB", "gpu=3GiB", "0=", "cpu", "0=20potatoes"])
def test_memory_in_another_form_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=f"max-memory {text}: give DEVICE=SIZE"):
        parse_memory(text)


def test_memory_by_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 1)
    assert parse_memory("0=20GiB, cpu=64GiB") == {0: "20GiB", "cpu": "64GiB"}
    with pytest.raises(InputError, match="1=2GiB: accelerator 1 is not among the 1 here"):
        parse_memory("1=2GiB")


def test_workers_of_xdist_take_the_devices_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    devices = []
    for worker in ("gw0", "gw1", "gw2", "master"):
        monkeypatch.setenv("PYTEST_XDIST_WORKER", worker)
        devices.append(str(pick_device("auto")))
    assert devices == ["cuda:0", "cuda:1", "cuda:0", "cuda"]

"""Models: resolving an argument to a model, and loading it."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
from PIL import Image
from safetensors.torch import load_file
from transformers import LlavaForConditionalGeneration

from phasebench.errors import InputError
from phasebench.measurement.passes import probed_pass
from phasebench.measurement.selftest import self_test
from phasebench.models import hub, loading
from phasebench.models.anatomy.adapter import dissect, forward
from phasebench.models.anatomy.parts import find_layers, sequence_model
from phasebench.models.bundled.tiny import make_tiny_model
from phasebench.models.checks import check_folder, weight_files
from phasebench.models.hub import Hub
from phasebench.models.identity import checkpoint_digest
from phasebench.models.loading import LoadedModel, load
from phasebench.models.named_models import DEFAULT_PROMPT, SIZES, ModelSpec, known_models, named_models
from phasebench.models.resolution import resolve_models
from phasebench.models.sizes import empty_model, parameters
from phasebench.models.sources import check_available
from phasebench.settings import Settings
from tests.support.versions import since


def identity(folder: Path) -> str:
    return checkpoint_digest(folder, weight_files(folder, Settings()))


def known() -> dict[str, ModelSpec]:
    return {spec.name: spec for spec in known_models()}


def test_an_unknown_model_lists_the_known_ones() -> None:
    with pytest.raises(
        InputError,
        match=r"smol-lava: unknown model; did you mean smol-llava\?; known: smol-llava,",
    ):
        resolve_models(["smol-lava"], known())


def test_a_missing_folder_is_named() -> None:
    with pytest.raises(InputError, match=r"^ckpt/nope/step3: no such folder"):
        resolve_models(["ckpt/nope/step3"], known())


@pytest.mark.parametrize(
    ("file", "hint"),
    [
        (
            "checkpoint-10/config.json",
            r"its subfolders are checkpoints; give one of them \(.*/checkpoint-10\)",
        ),
        ("notes.txt", "is this a checkpoint's folder"),
    ],
)
def test_a_folder_without_a_configuration_gets_a_hint(tmp_path: Path, file: str, hint: str) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).touch()
    with pytest.raises(InputError, match=rf"config\.json is missing; {hint}"):
        resolve_models([str(tmp_path)], known())


@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        ("https://huggingface.co/owner/x", "give the repository: owner/x$"),
        ("mine=https://huggingface.co/owner/x/tree/v1", "give the repository: owner/x@v1$"),
        ("http://localhost:8000/v1?model=llava", "a served model gives no hidden states"),
        ("s3://bucket/llava", "a model is not read from there: give a folder"),
    ],
)
def test_an_address_is_named(argument: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        resolve_models([argument], known())


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("q4.gguf", "is a file; GGUF is llama.cpp's format: give the folder of safetensors"),
        ("model.safetensors", "is a file; give its folder: .*/mine$"),
        ("config.json", "is a file; give its folder: .*/mine$"),
    ],
)
def test_a_file_is_named(folder: Path, name: str, reason: str) -> None:
    (folder / name).touch()
    with pytest.raises(InputError, match=reason):
        resolve_models([str(folder / name)], known())


def test_a_repository_without_a_configuration_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "_snapshot", lambda *_: tmp_path)
    with pytest.raises(InputError, match=r"owner/x-GGUF has no config\.json: it is no checkpoint of trans"):
        check_available(ModelSpec("x", Hub("owner/x-GGUF")), Settings())


def test_a_language_model_without_vision_is_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config["text_config"], "model_type": "llama"}))
    with pytest.raises(
        InputError, match=r"cannot load .*: its config\.json is not of a vision language"
    ) as caught:
        load(ModelSpec("mine", folder), folder, Settings())
    assert len(str(caught.value)) < 300


def test_a_folder_without_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.json is missing"):
        resolve_models([str(tmp_path)], known())


def test_a_folder_is_a_model_named_after_it(folder: Path) -> None:
    (spec,) = resolve_models([str(folder)], known())
    assert (spec.name, spec.source) == ("mine", folder)


def test_a_folder_under_a_known_name_takes_its_prompt(folder: Path) -> None:
    (spec,) = resolve_models([f"tiny-llava={folder}"], known())
    assert spec.name == "tiny-llava"
    assert spec.source == folder
    assert spec.prompt == known()["tiny-llava"].prompt


@pytest.mark.parametrize("name", [".", "..", "a b", ""])
def test_a_name_outside_the_baselines_folder_is_refused(folder: Path, name: str) -> None:
    """Baselines would lie outside their folder, or in it without a subfolder."""
    with pytest.raises(InputError, match=r"cannot be the name of a baselines' folder|nothing before ="):
        resolve_models([f"{name}={folder}"], known())


def test_a_model_of_a_hook_may_give_its_folder_as_text() -> None:
    spec = ModelSpec("ours", "checkpoints/ours", adapter="tuned")  # type: ignore[arg-type]
    assert (spec.source, spec.adapter) == (Path("checkpoints/ours"), Path("tuned"))


def test_doubled_models_count_once() -> None:
    assert [spec.name for spec in resolve_models(["tiny-llava", "tiny-llava"], known())] == ["tiny-llava"]


def test_two_models_of_one_name_are_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="tiny-llava: two different models have this name; give NAME=FOLDER"):
        resolve_models(["tiny-llava", f"tiny-llava={folder}"], known())


def test_a_name_that_no_folder_can_have_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="cannot be the name of a baselines' folder"):
        resolve_models([f"a b={folder}"], known())


def test_loading_gives_model_processor_and_identity(folder: Path) -> None:
    loaded = load(
        ModelSpec("mine", folder, "<s> <image> user :"), folder, Settings(device="cpu", dtype="bfloat16")
    )
    assert loaded.dtype is torch.bfloat16
    assert loaded.device.type == "cpu"
    assert not loaded.model.training
    assert loaded.checkpoint == identity(folder)


def test_pickled_weights_are_not_read(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(
        InputError, match=r"no \*\.safetensors in .*pytorch_model\.bin.*can run code$"
    ) as caught:
        load(ModelSpec("mine", folder), folder, Settings())
    assert caught.value.remedy == "allow_pickle"


@pytest.mark.parametrize("name", ["processor_config.json", "tokenizer.json"])
def test_a_missing_file_is_an_input_error(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(InputError, match=r"cannot load|mine lacks its processor"):
        load(ModelSpec("mine", folder), folder, Settings())


def test_a_folder_with_a_known_models_name_is_refused(folder: Path) -> None:
    taken = folder.rename(folder.parent / "tiny-llava")
    with pytest.raises(InputError, match="to compare with its baselines give tiny-llava="):
        resolve_models([str(taken)], known())


def test_the_prompt_of_the_settings_goes_before_the_familys(folder: Path) -> None:
    spec = ModelSpec("mine", folder, "of the family <image>")
    assert load(spec, folder, Settings(prompt="<image> given")).prompt == "<image> given"
    assert load(spec, folder, Settings()).prompt == "of the family <image>"
    assert load(ModelSpec("mine", folder), folder, Settings()).prompt == DEFAULT_PROMPT


def test_tiny_models_are_the_same_every_time(tmp_path: Path, cache: Path) -> None:
    for name in ("tiny-llava", "tiny-instructblip"):
        assert identity(make_tiny_model(name, tmp_path)) == identity(make_tiny_model(name, cache))


def test_models_of_the_hub_may_have_a_revision() -> None:
    specs = resolve_models(["owner/big-7b", "owner/big-8b@abc123", "mine=owner/x@v2", "llava@v1"], known())
    assert [(spec.name, spec.source) for spec in specs] == [
        ("big-7b", Hub("owner/big-7b")),
        ("big-8b", Hub("owner/big-8b", "abc123")),
        ("mine", Hub("owner/x", "v2")),
        ("llava", Hub("llava-hf/llava-1.5-13b-hf", "v1")),
    ]


@since("5.20", "a check of image tokens in the processor")
def test_a_prompt_that_the_processor_refuses_is_reported_before_weights_are_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "load_weights", lambda *_: pytest.fail("the weights were read"))
    with pytest.raises(InputError, match="the processor refuses the prompt 'no image'"):
        loading.load(ModelSpec("mine", folder), folder, Settings(prompt="no image"))


def test_a_revision_of_a_known_model_keeps_its_prompt() -> None:
    (spec,) = resolve_models(["llava@v1"], known())
    assert spec.prompt == known()["llava"].prompt
    assert spec.visual == 576


def test_a_known_model_under_another_name() -> None:
    known = {spec.name: spec for spec in known_models()}
    (spec,) = resolve_models(["new=tiny-llava"], known)
    assert spec == replace(known["tiny-llava"], name="new")


def test_a_name_without_a_location_is_refused() -> None:
    with pytest.raises(InputError, match=r"^new=: there is nothing after =;"):
        resolve_models(["new="], {})


def test_a_known_model_may_lie_in_a_folder(folder: Path) -> None:
    (spec,) = resolve_models([f"minigpt4={folder}"], known())
    assert (spec.name, spec.source, spec.visual) == ("minigpt4", folder, 32)


def test_a_folder_has_a_configuration_of_its_own(folder: Path) -> None:
    (spec,) = resolve_models([f"llava={folder}"], known())
    assert spec.config is None
    assert known()["llava"].config is not None


def test_a_folder_may_have_an_equals_sign_in_its_path(folder: Path) -> None:
    sweep = folder.rename(folder.parent / "lr=1e-4")
    (spec,) = resolve_models([f"tuned={sweep}"], known())
    assert (spec.name, spec.source) == ("tuned", sweep)
    with pytest.raises(InputError, match=r"'lr=1e-4' cannot be the name of a baselines' folder"):
        resolve_models([str(sweep)], known())


class RefusingHub:
    """A hub that answers with an error."""

    def __init__(self, patch: pytest.MonkeyPatch, error: Exception) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise error

        patch.setattr(hub, "_snapshot", refuse)


def empty_error(kind: type[Exception]) -> Exception:
    return kind.__new__(kind)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (GatedRepoError, "gated; accept its terms at https://huggingface.co/owner/x and log in"),
        (RepositoryNotFoundError, "no repository owner/x@v1 on the hub, or it is private"),
        (RevisionNotFoundError, "owner/x has no revision 'v1'"),
        (ConnectionError, r"not in the local cache, the hub cannot be reached \(ConnectionError: "),
    ],
)
@pytest.mark.parametrize("call", [hub.look_up, lambda repository: hub.fetch(repository, Settings())])
def test_errors_of_the_hub_say_what_to_do(
    monkeypatch: pytest.MonkeyPatch, call: Callable[[Hub], object], kind: type[Exception], message: str
) -> None:
    RefusingHub(monkeypatch, empty_error(kind))
    with pytest.raises(InputError, match=message):
        call(Hub("owner/x", "v1"))


def test_a_cached_repository_needs_no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    requests: list[tuple[str, ...]] = []

    def snapshot(_: Hub, *patterns: str, **__: object) -> Path:
        requests.append(patterns)
        return tmp_path

    monkeypatch.setattr(hub, "_snapshot", snapshot)
    hub.look_up(Hub("owner/x"))
    assert requests == [("config.json", "adapter_config.json")]
    (tmp_path / "config.json").touch()
    with pytest.raises(InputError, match=r"no weights of owner/x in the local cache.*cannot be reached"):
        hub.fetch(Hub("owner/x"), Settings())
    (tmp_path / "model.safetensors").touch()
    assert hub.fetch(Hub("owner/x"), Settings()) == tmp_path
    assert not any(pattern.endswith((".bin", ".pth")) for pattern in requests[-1])


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["processor_config.json", "preprocessor_config.json"], "lacks its processor's files"),
        (["tokenizer.json", "tokenizer_config.json"], "lacks its tokenizer's files"),
        (["model.safetensors"], r"no \*\.safetensors"),
        (["config.json"], r"config\.json is missing"),
    ],
)
def test_an_incomplete_folder_is_refused_before_any_weight_is_read(
    folder: Path, files: list[str], message: str
) -> None:
    for name in files:
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(InputError, match=message):
        check_folder(folder, Settings())


def test_a_checkpoints_own_code_must_be_allowed(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModel": "x.Y"}}))
    with pytest.raises(InputError, match=r"config\.json requires Python code .* \(auto_map\)") as caught:
        check_folder(folder, Settings())
    assert caught.value.remedy == "remote_code"
    check_folder(folder, Settings(remote_code=True))


def test_pickled_weights_are_read_if_allowed(folder: Path) -> None:
    expected = load(ModelSpec("mine", folder), folder, Settings()).model.state_dict()
    weights = load_file(folder / "model.safetensors")
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    loaded = load(ModelSpec("mine", folder), folder, Settings(allow_pickle=True))
    assert all(torch.equal(value, expected[key]) for key, value in loaded.model.state_dict().items())


def test_a_tokenizer_without_the_image_token_is_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**config, "image_token_index": 5000, "image_token_id": 5000})
    )
    with pytest.raises(InputError, match="image token 5000, but its tokenizer has"):
        load(ModelSpec("mine", folder), folder, Settings())


def test_an_image_count_that_does_not_match_the_projector_is_refused(folder: Path) -> None:
    path = folder / "processor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "patch_size": 48}))
    with pytest.raises(InputError, match=r"refuses .*4 image tokens of one.*processor_config\.json"):
        load(ModelSpec("mine", folder), folder, Settings())


def test_another_number_of_image_tokens_than_the_familys_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="16 image tokens for one image where this family has 576"):
        load(ModelSpec("mine", folder, visual=576), folder, Settings())


@since("5.17", "a pass with embeddings on the disk")
def test_a_model_spread_over_memory_and_disk_gives_the_same_numbers(
    folder: Path, tiny_llava: LoadedModel, pictures: list[Image.Image], tmp_path: Path
) -> None:
    spec = ModelSpec("mine", folder, tiny_llava.prompt)
    spread = load(spec, tmp_path, Settings(max_memory="cpu=300KB"))
    assert "disk" in {str(where) for where in spread.model.hf_device_map.values()}
    assert any(parameter.is_meta for parameter in spread.model.parameters())
    assert spread.device.type == "cpu"
    inputs = tiny_llava.inputs(pictures[:2])
    rows = []
    for model in (tiny_llava.model, spread.model):
        anatomy = dissect(model, inputs)
        assert not self_test(anatomy, inputs).unmeasured
        rows.append(probed_pass(anatomy, inputs)[0])
    for name, values in rows[0].curves.items():
        assert np.allclose(values, rows[1].curves[name], rtol=1e-6, equal_nan=True), name
    assert np.array_equal(rows[0].tokens, rows[1].tokens)


@since("5.17", "a pass with embeddings on the disk")
def test_offloaded_weights_of_two_models_do_not_mix(
    folder: Path, pictures: list[Image.Image], tmp_path: Path
) -> None:
    """Pickled weights are written to disk when they are offloaded, and read in every pass."""
    spec = ModelSpec("mine", folder)
    inputs = load(spec, tmp_path, Settings()).inputs(pictures[:1])

    def spread(scale: float) -> LoadedModel:
        model = LlavaForConditionalGeneration.from_pretrained(tiny_folder)
        torch.save(
            {key: scale * value for key, value in model.state_dict().items()}, folder / "pytorch_model.bin"
        )
        return load(spec, tmp_path, Settings(max_memory="cpu=300KB", allow_pickle=True))

    tiny_folder = make_tiny_model("tiny-llava", tmp_path)
    (folder / "model.safetensors").unlink()
    first = spread(1.0)
    before = forward(first.model, inputs)
    second = spread(1.3)
    assert not torch.equal(forward(second.model, inputs), before)
    assert torch.equal(forward(first.model, inputs), before)
    assert len(list((tmp_path / "offload").iterdir())) == 2
    del first, second
    gc.collect()
    assert not list((tmp_path / "offload").iterdir())


def test_pickled_weights_of_the_hub_are_fetched_if_allowed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    requests: list[tuple[str, ...]] = []

    def snapshot(_: Hub, *patterns: str) -> Path:
        requests.append(patterns)
        return tmp_path

    monkeypatch.setattr(hub, "_snapshot", snapshot)
    (tmp_path / "pytorch_model.bin").touch()
    ModelSpec("mine", Hub("owner/x")).folder(tmp_path, Settings(allow_pickle=True))
    assert "*.bin" in requests[0]


def test_a_model_that_does_not_fit_suggests_spreading(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    native = LlavaForConditionalGeneration.from_pretrained

    def full(*args: Any, **options: Any) -> Any:
        if options.get("device_map") == "meta":
            return native(*args, **options)
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(LlavaForConditionalGeneration, "from_pretrained", full)
    with pytest.raises(InputError, match=r"mine does not fit on cpu: CUDA out of memory$") as caught:
        load(ModelSpec("mine", folder), folder, Settings())
    assert caught.value.remedy == "max_memory"


def test_a_loaded_model_of_the_hub_names_its_commit(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = folder.rename(folder.parent / "0123abc")
    monkeypatch.setattr(hub, "_snapshot", lambda *_: snapshot)
    assert load(ModelSpec("mine", Hub("owner/x", "main")), tmp_path, Settings()).source == "owner/x@0123abc"
    assert load(ModelSpec("mine", snapshot), tmp_path, Settings()).source is None


@pytest.mark.slow
@pytest.mark.parametrize("name", SIZES)
def test_the_recorded_size_is_that_of_the_model(name: str) -> None:
    (spec,) = [spec for spec in named_models() if spec.name == name]
    assert spec.config is not None
    model = empty_model(spec.config, remote_code=False)
    assert (spec.parameters, spec.layers) == (parameters(model), len(find_layers(sequence_model(model))))

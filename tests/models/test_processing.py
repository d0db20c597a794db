"""Digests of a processor: of the tensors that it makes of one image and the prompt, and of its tokenizers."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from phasebench.errors import InputError
from phasebench.models.loading import LoadedModel, gradient_image, load
from phasebench.models.named_models import TINY_PROMPT_LLAVA, ModelSpec
from phasebench.models.processors import tokenizer_digests
from phasebench.settings import Settings
from tests.support.versions import since


def test_the_digest_stays_if_files_are_saved_again(folder: Path, tmp_path: Path) -> None:
    loaded = load(ModelSpec("it", folder, TINY_PROMPT_LLAVA), Path(), Settings())
    loaded.model.save_pretrained(tmp_path / "copy")
    loaded.processor.save_pretrained(tmp_path / "copy")
    copy = load(ModelSpec("it", tmp_path / "copy", TINY_PROMPT_LLAVA), Path(), Settings())
    assert tokenizer_digests(copy.processor) == tokenizer_digests(loaded.processor)
    assert copy.processing_digest() == loaded.processing_digest() != ""
    assert replace(loaded, prompt=f"{TINY_PROMPT_LLAVA} a").processing_digest() != loaded.processing_digest()


@pytest.mark.parametrize(
    ("name", "value"),
    [("image_mean", [0.1] * 3), ("image_std", [0.1] * 3), ("do_normalize", False), ("resample", 0)],
)
def test_the_digest_follows_the_image_processor(folder: Path, name: str, value: object) -> None:
    loaded = load(ModelSpec("it", folder, TINY_PROMPT_LLAVA), Path(), Settings())
    before = loaded.processing_digest()
    setattr(loaded.processor.image_processor, name, value)
    assert loaded.processing_digest() != before


def test_a_processor_that_takes_no_image_has_an_empty_digest(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ValueError

    loaded = load(ModelSpec("it", folder, TINY_PROMPT_LLAVA), Path(), Settings())
    monkeypatch.setattr(loaded, "_processed", refuse)
    assert loaded.processing_digest() == ""


def test_a_query_former_without_its_special_tokens_is_noticed(tiny_instructblip: LoadedModel) -> None:
    """As one that lost [CLS] and [SEP]: the language model's prompt stays the same."""
    processor = copy.deepcopy(tiny_instructblip.processor)
    start = processor.qformer_tokenizer.convert_tokens_to_ids("<s>")
    template = TemplateProcessing("<s> $A", special_tokens=[("<s>", start)])
    processor.qformer_tokenizer.backend_tokenizer.post_processor = template
    changed = replace(tiny_instructblip, processor=processor)
    assert changed.processing_digest() != tiny_instructblip.processing_digest()
    before, after = (tokenizer_digests(model.processor) for model in (tiny_instructblip, changed))
    assert [name for name in before if before[name] != after[name]] == ["qformer_tokenizer"]


@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_merge_changes_the_tokenizers_digest(lost: int) -> None:
    """Whether or not any prompt or caption needs it."""
    merges = [("c", "a"), ("ca", "t")]
    whole, rest = (
        SimpleNamespace(tokenizer=byte_pairs(kept))
        for kept in (merges, [merge for number, merge in enumerate(merges) if number != lost])
    )
    assert tokenizer_digests(whole) == tokenizer_digests(SimpleNamespace(tokenizer=byte_pairs(merges)))
    assert tokenizer_digests(whole) != tokenizer_digests(rest)


def byte_pairs(merges: list[tuple[str, str]]) -> PreTrainedTokenizerFast:
    """A tokenizer with these merges."""
    vocabulary = {entry: number for number, entry in enumerate([*"cat", "ca", "cat", "<unk>"])}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(BPE(vocabulary, merges, unk_token="<unk>")))


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{% for m in messages %}{{ m['role'] + ' : ' + m['content'] }}{% endfor %}", "can only concatenate"),
        (
            "{% for m in messages %}{% if m['content'] is not string %}{{ raise_exception('text only') }}"
            "{% endif %}{% endfor %}",
            "text only",
        ),
        ("{% for m in messages %}{{ m.role }", "unexpected '}'"),
        ("{{ messages[1]['content'] }}", "list object has no element 1"),
        ("{{ strftime_now('%d', 1, 2) }}", "positional argument"),
    ],
)
def test_a_chat_template_that_takes_no_image_is_named(folder: Path, template: str, reason: str) -> None:
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(InputError) as caught:
        load(ModelSpec("it", folder), folder, Settings(device="cpu"))
    text = str(caught.value)
    assert text.startswith(f"the chat template of the checkpoint {folder} takes no message with an image: ")
    assert reason in text
    assert "\n" not in text
    assert caught.value.remedy == "prompt"
    assert load(ModelSpec("it", folder, TINY_PROMPT_LLAVA), folder, Settings(device="cpu")).checkpoint


@since("5.20", "a check of image tokens in the processor")
@pytest.mark.parametrize("template", ["{{ messages[0]['role'] }}", "{{ messages }}"])
def test_a_chat_template_that_leaves_the_image_out_is_named(folder: Path, template: str) -> None:
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(InputError, match=r"refuses the prompt .* 0 <image> tokens") as caught:
        load(ModelSpec("it", folder), folder, Settings(device="cpu"))
    assert caught.value.remedy == "prompt"


@pytest.mark.parametrize("kept", [("eos_token", "unk_token"), ("unk_token",), ()])
def test_a_tokenizer_without_a_pad_token_serves(folder: Path, kept: tuple[str, ...]) -> None:
    """Then the EOS token pads, which the attention mask leaves out; one image needs no padding."""
    images = [gradient_image(), gradient_image().rotate(90)]
    whole = load(ModelSpec("it", folder, TINY_PROMPT_LLAVA), folder, Settings(device="cpu"))
    config = folder / "tokenizer_config.json"
    tokens = json.loads(config.read_text())
    dropped = {"pad_token", "eos_token", "unk_token"} - set(kept)
    config.write_text(json.dumps({key: value for key, value in tokens.items() if key not in dropped}))
    loaded = load(ModelSpec("it", folder, TINY_PROMPT_LLAVA), folder, Settings(device="cpu"))
    assert loaded.processing_digest() == whole.processing_digest()
    if kept:
        both = loaded.inputs(images)
        for key, value in whole.inputs(images).items():
            assert torch.equal(both[key], value)

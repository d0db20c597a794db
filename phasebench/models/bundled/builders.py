"""Building standard Hugging Face folders from the bundled weights and the converted language model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BertTokenizerFast,
    BlipImageProcessor,
    CLIPImageProcessor,
    CLIPVisionConfig,
    GenerationConfig,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    InstructBlipProcessor,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

IMAGE_TOKEN, IMAGE, UNUSED = "<image>", 6, "<filename>"
"""SmolLM2's token ``<filename>`` is not used in chats: it is renamed and stands for the image."""
SIZE, PATCH, QUERIES = 96, 16, 16
PIXELS = {
    "size": {"height": SIZE, "width": SIZE},
    "resample": 3,
    "do_resize": True,
    "do_center_crop": False,
    "image_mean": [0.5] * 3,
    "image_std": [0.5] * 3,
}
_TEXT_PART = (
    "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n"
)
_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}IMAGE" + _TEXT_PART + "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
VISION = {
    "hidden_size": 192,
    "intermediate_size": 576,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "image_size": SIZE,
    "patch_size": PATCH,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}
QFORMER = {
    "hidden_size": 192,
    "intermediate_size": 768,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "cross_attention_frequency": 1,
    "encoder_hidden_size": 192,
    "max_position_embeddings": 128,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "initializer_range": 0.08,  # with BERT's 0.02 the queries of such a narrow model hardly learn to attend
}


def convert(gguf: Path, target: Path) -> None:
    """Unpack the quantised file to float32, as ``LlamaForCausalLM`` saves it (20 s)."""
    source = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    loaded = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    config = LlamaConfig.from_dict(
        {key: value for key, value in loaded.config.to_dict().items() if key != "quantization_config"}
    )
    model = LlamaForCausalLM(config)
    model.load_state_dict(loaded.state_dict(), strict=False)
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(**source).save_pretrained(target)


def build_llava(target: Path, language_model: Path, weights: Path) -> None:
    """A LLaVA with the vision encoder and projector in ``weights``; the image replaces ``<image>``."""
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**VISION),
        text_config=LlamaConfig.from_pretrained(language_model),
        image_token_index=IMAGE,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        projector_hidden_act="gelu",
        tie_word_embeddings=True,
    )
    _save(LlavaForConditionalGeneration, config, target, language_model, weights)
    LlavaProcessor(
        CLIPImageProcessor(**PIXELS),
        _tokenizer(language_model, extra_special_tokens={"image_token": IMAGE_TOKEN}),
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=_TEMPLATE.replace("IMAGE", f"{IMAGE_TOKEN}\n"),
    ).save_pretrained(target)


def build_instructblip(target: Path, language_model: Path, weights: Path, vocabulary: Path) -> None:
    """An InstructBLIP with the vision encoder, Q-Former and projection in ``weights``.

    The image stands before the whole prompt.
    """
    qformer_tokenizer = question_tokenizer(vocabulary)
    config = InstructBlipConfig(
        vision_config=dict(VISION),
        qformer_config={**QFORMER, "vocab_size": len(qformer_tokenizer)},
        text_config=LlamaConfig.from_pretrained(language_model).to_dict(),
        num_query_tokens=QUERIES,
        image_token_index=IMAGE,
        tie_word_embeddings=True,
    )
    _save(InstructBlipForConditionalGeneration, config, target, language_model, weights)
    InstructBlipProcessor(
        BlipImageProcessor(**PIXELS),
        _tokenizer(language_model),
        qformer_tokenizer,
        num_query_tokens=QUERIES,
    ).save_pretrained(target)
    # this processor saves no template, but its tokenizer reads the file
    (target / "chat_template.jinja").write_text(_TEMPLATE.replace("IMAGE", ""), encoding="utf-8")


def question_tokenizer(vocabulary: Path) -> BertTokenizerFast:
    """The Q-Former's own tokenizer. It must not have an ``image_token``."""
    length = QFORMER["max_position_embeddings"]
    return BertTokenizerFast(tokenizer_file=str(vocabulary), do_lower_case=True, model_max_length=length)


def _save(
    kind: type[PreTrainedModel], config: Any, target: Path, language_model: Path, weights: Path
) -> None:
    with torch.device("meta"):
        model = kind(config)
    lm = LlamaForCausalLM.from_pretrained(language_model).state_dict()
    state = {name: tensor.float() for name, tensor in load_file(weights).items()}
    for name in model.state_dict():
        if name not in state:
            state[name] = lm[_language_model_name(name)]
    model.load_state_dict(state, assign=True)
    model.tie_weights()
    model.generation_config = GenerationConfig(
        bos_token_id=1, eos_token_id=2, pad_token_id=2, max_new_tokens=24, do_sample=False
    )
    model.save_pretrained(target)


def _language_model_name(name: str) -> str:
    """The language model's own name for a weight in LLaVA's or InstructBLIP's state dict."""
    if name.endswith("lm_head.weight"):
        return "lm_head.weight"
    inner = name.split("language_model.", 1)[1]
    return inner if inner.startswith("model.") else f"model.{inner}"


def _tokenizer(language_model: Path, **options: Any) -> PreTrainedTokenizerFast:
    """SmolLM2's tokenizer with ``<image>`` in place of an unused special token."""
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer_with_image_token(language_model),
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
        padding_side="left",
        model_max_length=8192,
        **options,
    )


def tokenizer_with_image_token(language_model: Path) -> Any:
    """The ``tokenizers`` object of the converted language model with ``<image>`` as token 6."""
    from tokenizers import Tokenizer

    raw = json.loads((language_model / "tokenizer.json").read_text(encoding="utf-8"))
    raw["model"]["vocab"][IMAGE_TOKEN] = raw["model"]["vocab"].pop(UNUSED)
    for token in raw["added_tokens"]:
        token["content"] = token["content"].replace(UNUSED, IMAGE_TOKEN)
    return Tokenizer.from_str(json.dumps(raw))


BUILDERS: dict[str, Callable[..., None]] = {
    "smol-llava": build_llava,
    "smol-instructblip": build_instructblip,
}

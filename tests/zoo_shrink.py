"""Tiny configs out of a config class's own defaults: every size that a name gives away made small."""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Mapping
from typing import Any

from transformers import CONFIG_MAPPING, PreTrainedConfig

LAYERS = 4
VOCAB = 400
WINDOW = 8
SPECIALS = 380  # ids from here on are the special tokens'; text is drawn from below
Fields = dict[str, Any]

_TEXT: Fields = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "d_model": 64,
    "embed_dim": 64,
    "word_embed_proj_dim": 64,
    "intermediate_size": 96,
    "num_hidden_layers": LAYERS,
    "layers": LAYERS,
    "num_layers": LAYERS,
    "num_decoder_layers": LAYERS,
    "encoder_layers": LAYERS,
    "decoder_layers": LAYERS,
    "num_attention_heads": 4,
    "attention_heads": 4,
    "num_heads": 4,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "swa_num_attention_heads": 4,
    "num_sliding_attention_heads": 4,
    "head_dim": 16,
    "swa_head_dim": 16,
    "d_kv": 16,
    "max_position_embeddings": 512,
    "sliding_window": WINDOW,
    "sliding_window_size": WINDOW,
    "attention_chunk_size": WINDOW,
    "encoder_hidden_size": 32,
    "ffn_dim": 96,
    "encoder_ffn_dim": 96,
    "decoder_ffn_dim": 96,
    "d_ff": 96,
    "projection_dim": 64,
    # latent attention
    "kv_lora_rank": 16,
    "q_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 12,
    "index_topk": WINDOW,
    "index_head_dim": 16,
    "index_n_heads": 16,  # fewer give scores of exactly zero, and ties among the chosen
    # linear attention and state spaces
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_head_dim": 16,
    "linear_num_heads": 4,
    "ssm_state_size": 8,
    "mamba_num_heads": 8,
    "mamba_head_dim": 16,
    "chunk_size": WINDOW,
    # others
    "additional_vocab_size": 0,
    "vocab_size_per_layer_input": VOCAB,
    "hidden_size_per_layer_input": 8,
    "laurel_rank": 8,
    "num_kv_shared_layers": 0,
    "hc_lowrank": 8,
    "resampler_n_latents": 4,
    "resampler_num_latents": 4,
    "resampler_depth": 1,
    "resampler_n_heads": 2,
    "resampler_heads": 2,
    "resampler_head_dim": 16,
    "resampler_dim_head": 16,
    "d_rel": 8,
    "rel_extent": 64,
}
_EXPERTS: Fields = {
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "moe_num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_topk": 2,
    "moe_k": 2,
    "n_group": 1,
    "topk_group": 1,
}
_VISION: Fields = {
    **_TEXT,
    "hidden_size": 32,
    "embed_dim": 32,
    "d_model": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "layers": 2,
    "encoder_layers": 2,
    "depth": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "attention_heads": 2,
    "num_heads": 2,
    "encoder_attention_heads": 2,
    "head_dim": 16,
    "patch_size": 4,
    "image_size": 16,
    "num_position_embeddings": 16,
    "num_patches": 16,
    "projection_dim": 64,
    "output_channels": 32,
    "mlp_dim": 48,
    "out_hidden_size": 64,
    "text_hidden_size": 64,
    "vision_output_dim": 48,
    "output_dim": 64,
    "adapter_out_dim": 64,
    "adapter_in_dim": 32,
    "mm_embed_dim": 64,
    "output_proj_dims": 64,
    "pos_emb_height": 4,
    "pos_emb_width": 4,
    "posemb_grid_size": 4,
    "position_embedding_size": 16,
    "mm_posemb_size": 16,
    "merge_size": 2,
    "n_mels": 16,
    "num_mel_bins": 16,
    "seq_len": 64,
    "max_num_patches": 64,
    "patch_embed_hidden_size": 48,
    "d_ff": 48,
    "mm_tokens_per_image": 4,
}
_LAYER_COUNTS = ("num_hidden_layers", "depth", "layers", "num_layers", "decoder_layers", "n_layers")
_OUTER: Fields = {
    **_TEXT,
    "num_query_tokens": 4,
    "latent_query_num": 4,
    "out_hidden_size": 64,
    "image_text_hidden_size": 32,
    "mm_tokens_per_image": 4,
    "projector_hidden_size": 48,
    "image_seq_length": 16,
    "image_size": 16,
    "patch_size": 4,
}


def shrunk(defaults: PreTrainedConfig) -> Fields:
    """The default config as nested fields, with every size made small."""
    given = defaults.to_dict()
    for name, cls in defaults.sub_configs.items():
        if "vision" in name and given.get(name) is None and cls.model_type:  # a tower by choice: chosen
            given[name] = cls().to_dict()
    fields = _shrink(given, _OUTER)
    _place_specials(fields)
    return fields


def _shrink(given: Mapping[str, Any], rules: Mapping[str, Any]) -> Fields:
    depth = next((given[name] for name in _LAYER_COUNTS if isinstance(given.get(name), int)), None)
    small = next((rules[name] for name in _LAYER_COUNTS if name in given and name in rules), LAYERS)
    out: Fields = {}
    for name, value in given.items():
        if name == "per_layer_config":  # belongs to the default's layers; the class makes its own
            continue
        if isinstance(value, dict) and "model_type" in value:
            out[name] = _shrink(value, _rules_of(name, rules))
        elif name in ("image_size", "patch_size") and isinstance(value, list):
            out[name] = [rules[name]] * len(value)
        elif isinstance(value, list):
            out[name] = _indices(name, small) if _names_layers(name, value) else _cut(value, depth, small)
        else:
            out[name] = _scalar(name, value, rules, given)
    return out


def _rules_of(name: str, outer: Mapping[str, Any]) -> Fields:
    if any(part in name for part in ("vision", "audio", "sam", "vq", "perceiver", "qformer", "adapter")):
        return _VISION
    if name in ("encoder_config", "encoder"):
        return _VISION
    return _VISION if outer is _VISION and name not in ("text_config", "decoder") else _TEXT


def _scalar(name: str, value: Any, rules: Mapping[str, Any], given: Mapping[str, Any]) -> Any:
    if name.endswith(("num_key_value_heads",)) and isinstance(value, int):
        heads = given.get(name.replace("key_value", "attention"), value)
        return rules.get("num_attention_heads", 4) if value >= heads else 2
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    if name == "window_size":  # of pixels where it is large, else of patches
        return 8 if value > 50 else 2
    if name in _EXPERTS:
        return _EXPERTS[name]
    if name in rules:
        return rules[name]
    if "dropout" in name or "drop_path" in name or "layerdrop" in name:
        return 0.0
    if isinstance(value, int) and value >= 512 and name.endswith(("_size", "_dim")):
        return 48
    return value


def _names_layers(name: str, value: list[Any]) -> bool:
    named = name.endswith(("indexes", "indices")) or name == "cross_attention_layers"
    return named and all(isinstance(v, int) for v in value)


def _indices(name: str, small: int) -> list[int]:
    """Features are taken after every layer; other things happen in the last."""
    return list(range(small)) if "deepstack" in name or "intermediate" in name else [small - 1]


def _cut(value: list[Any], depth: int | None, small: int) -> list[Any]:
    """Per-layer lists down to ``small`` entries that still hold every kind; layer indices below it."""
    if depth is not None and len(value) == depth and depth > small:
        head = value[:small]
        kinds = [kind for kind in dict.fromkeys(map(repr, value)) if kind not in map(repr, head)]
        missing = [next(v for v in value if repr(v) == kind) for kind in kinds[: small - 1]]
        if all(isinstance(v, int) for v in value) and value == list(range(depth)):
            return list(range(small))
        return [*head[: small - len(missing)], *missing]
    return value


def _place_specials(fields: Fields) -> None:
    """Every special token gets an id of its own inside the small vocabulary."""
    next_id = SPECIALS
    for name, value in fields.items():
        if name in _COMMON:
            fields[name] = _COMMON[name]
        elif name.endswith(
            ("token_id", "token_index", "image_patch_id", "im_start_id", "im_end_id", "im_newline_id")
        ) and not isinstance(value, (dict, list)):
            fields[name] = next_id
            next_id += 1
        elif isinstance(value, dict) and "model_type" in value:
            for inner in value.keys() & _COMMON.keys():
                value[inner] = _COMMON[inner]


_COMMON = {
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "sep_token_id": 3,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": 2,
}


def merged(fields: Fields, patch: Mapping[str, Any]) -> Fields:
    """``fields`` with ``patch`` laid over it, folder by folder."""
    out = dict(fields)
    for name, value in patch.items():
        inner = out.get(name)
        out[name] = (
            merged(inner, value)
            if isinstance(value, dict)
            and isinstance(inner, dict)
            and value.get("model_type", inner.get("model_type")) == inner.get("model_type")
            else value
        )
    return out


def config(model_type: str, patch: Mapping[str, Any]) -> PreTrainedConfig:
    """A tiny config of this model type."""
    cls = CONFIG_MAPPING[model_type]
    fields = merged(shrunk(cls()), patch)
    _turn_in_three(fields)
    return cls(**fields)


def _code(text: Fields) -> str:
    """The source of the text model, where its config names one."""
    model_type = text["model_type"]
    if model_type not in CONFIG_MAPPING:
        return ""
    name = CONFIG_MAPPING[model_type].__module__.replace(".configuration_", ".modeling_")
    return inspect.getsource(importlib.import_module(name)) if importlib.util.find_spec(name) else ""


def _turn_in_three(fields: Fields) -> None:
    """Rotary sections of images, where the model's code reads them and no patch has set them."""
    text = fields.get("text_config", {})
    rope = text.get("rope_parameters")
    if not rope or "mrope_section" in rope or "mrope_section" not in _code(text):
        return
    half = int(text.get("head_dim", 16) * rope.get("partial_rotary_factor", 1.0)) // 2
    if "rope_type" in rope:
        rope["mrope_section"] = [half - 2 * (half // 4), half // 4, half // 4]

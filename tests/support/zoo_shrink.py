"""Tiny configs from a config class's own defaults: every size that its name shows is made small."""

from __future__ import annotations

import importlib.util
import inspect
import itertools
from collections.abc import Mapping
from typing import Any

from transformers import CONFIG_MAPPING, PreTrainedConfig

LAYERS = 4
VOCAB = 400
WINDOW = 8
SPECIALS = 380  # special tokens have ids from here on; text has smaller ids
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
    "unpadded_vocab_size": VOCAB - 4,
    "n_layers_per_attn_res_block": 2,
    "index_block_size": 4,
    "index_topk_blocks": 2,
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


_COMMON = {
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "sep_token_id": 3,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": 2,
}
_SPECIAL = ("token_id", "token_index", "image_patch_id", "im_start_id", "im_end_id", "im_newline_id")
_VISUAL = ("vision", "audio", "sam", "vq", "perceiver", "qformer", "adapter", "encoder")


def config(model_type: str, patch: Mapping[str, Any]) -> PreTrainedConfig:
    """A tiny config of this model type: its defaults made small, overridden by ``patch``."""
    cls = CONFIG_MAPPING[model_type]
    fields = merge(small_fields(cls()), patch)
    _section_rotary(fields.get("text_config", {}))
    return cls(**fields)


def small_fields(defaults: PreTrainedConfig) -> Fields:
    """The default config as nested fields, with small sizes."""
    values = defaults.to_dict()
    for name, cls in defaults.sub_configs.items():
        if (
            "vision" in name and values.get(name) is None and cls.model_type
        ):  # an optional vision encoder: include it
            values[name] = cls().to_dict()
    fields = _shrink(values, _OUTER)
    _place_specials(fields)
    return fields


def merge(fields: Fields, patch: Mapping[str, Any]) -> Fields:
    """``fields`` overridden by ``patch``, config by config; a config of another model type is replaced."""
    out = dict(fields)
    for name, value in patch.items():
        old = out.get(name)
        if isinstance(old, dict) and isinstance(value, dict) and _same_type(old, value):
            out[name] = merge(old, value)
        else:
            out[name] = value
    return out


def _same_type(old: Fields, patch: Mapping[str, Any]) -> bool:
    return bool(patch.get("model_type", old.get("model_type")) == old.get("model_type"))


def _shrink(fields: Mapping[str, Any], rules: Mapping[str, Any]) -> Fields:
    # The class makes its own per-layer entries; these belong to the default's layers.
    shared = {name: value for name, value in fields.items() if name != "per_layer_config"}
    return {name: _small_value(name, value, fields, rules) for name, value in shared.items()}


def _small_value(name: str, value: Any, fields: Mapping[str, Any], rules: Mapping[str, Any]) -> Any:
    if isinstance(value, dict) and "model_type" in value:
        return _shrink(value, _part_rules(name, rules))
    if isinstance(value, list):
        return _small_list(name, value, fields, rules)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    return _small_number(name, value, fields, rules)


def _part_rules(name: str, outer: Mapping[str, Any]) -> Fields:
    """The sizes of a part of the model; parts of a vision encoder have the encoder's."""
    if name in ("text_config", "decoder"):
        return _TEXT
    return _VISION if outer is _VISION or any(part in name for part in _VISUAL) else _TEXT


def _small_number(name: str, value: float, fields: Mapping[str, Any], rules: Mapping[str, Any]) -> float:
    if name.endswith("num_key_value_heads"):  # fewer than the queries' if the default has fewer
        heads = int(rules["num_attention_heads"])
        return heads if value >= fields.get(name.replace("key_value", "attention"), value) else 2
    if name == "window_size":  # in pixels if it is large, else in patches
        return 8 if value > 50 else 2
    if "drop" in name and isinstance(value, float):
        return 0.0
    large = isinstance(value, int) and value >= 512 and name.endswith(("_size", "_dim"))
    small: float = (_EXPERTS | dict(rules)).get(name, 48 if large else value)
    return small


def _small_list(
    name: str, value: list[Any], fields: Mapping[str, Any], rules: Mapping[str, Any]
) -> list[Any]:
    """A size for each axis, layers by their index, or an entry for each layer."""
    if name in ("image_size", "patch_size"):
        return [rules[name]] * len(value)
    counts = [count for count in _LAYER_COUNTS if isinstance(fields.get(count), int)]
    small = next((int(rules[count]) for count in counts if count in rules), LAYERS)
    integers = all(isinstance(entry, int) for entry in value)
    if integers and (name.endswith(("indexes", "indices")) or name == "cross_attention_layers"):
        all_layers = (
            "deepstack" in name or "intermediate" in name
        )  # features of each layer; else the last one
        return list(range(small)) if all_layers else [small - 1]
    per_layer = bool(counts) and len(value) == fields[counts[0]] > small
    return _every_kind(value, small) if per_layer else value


def _every_kind(value: list[Any], small: int) -> list[Any]:
    """The first entries, the last of them replaced by kinds that otherwise appear only later."""
    if value == list(range(len(value))):
        return value[:small]
    head = value[:small]
    later = [entry for index, entry in enumerate(value) if entry not in head and entry not in value[:index]]
    missing = later[: small - 1]
    return [*head[: small - len(missing)], *missing]


def _place_specials(fields: Fields) -> None:
    """Give every special token an id of its own within the small vocabulary."""
    ids = itertools.count(SPECIALS)
    for name, value in fields.items():
        if isinstance(value, dict) and "model_type" in value:
            value.update({inner: _COMMON[inner] for inner in value.keys() & _COMMON.keys()})
        elif name in _COMMON:
            fields[name] = _COMMON[name]
        elif name.endswith(_SPECIAL) and not isinstance(value, (dict, list)):
            fields[name] = next(ids)


def _section_rotary(text: Fields) -> None:
    """Set the rotary sections of time, height and width if the model's code reads them and none are set."""
    rope = text.get("rope_parameters") or {}
    if "rope_type" not in rope or "mrope_section" in rope or "mrope_section" not in _code(text):
        return
    half = int(text.get("head_dim", 16) * rope.get("partial_rotary_factor", 1.0)) // 2
    rope["mrope_section"] = [half - 2 * (half // 4), half // 4, half // 4]


def _code(text: Fields) -> str:
    """The source code of the text model; empty if its config names none."""
    if text["model_type"] not in CONFIG_MAPPING:
        return ""
    name = CONFIG_MAPPING[text["model_type"]].__module__.replace(".configuration_", ".modeling_")
    return inspect.getsource(importlib.import_module(name)) if importlib.util.find_spec(name) else ""

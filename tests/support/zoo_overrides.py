"""Handwritten overrides for types whose derived values contradict each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import nn
from transformers import AutoModel

Patch = dict[str, Any]

IMAGE = 390
_FULL = {"rope_type": "default", "rope_theta": 10000.0}
_SMALL_TILES: Patch = {
    "image_grid_pinpoints": [[16, 8], [8, 16], [16, 16]],
    "vision_config": {"image_size": 8},
}
_VOCABULARY_OF_IMAGES = {f"IMGIMG{chr(65 + i // 10)}{chr(65 + i % 10)}Z": 300 + i for i in range(16)}
_VISUAL_TOKENS = {f"<|visual token {i:06d}|>": 300 + i for i in range(16)}
# A quarter of the head is rotated: 8 of 32 dimensions, in three sections of pairs.
_QWEN3_5: Patch = {
    "text_config": {
        "head_dim": 32,
        "rope_parameters": {**_FULL, "partial_rotary_factor": 0.25, "mrope_section": [2, 1, 1]},
    }
}
_MINICPM: Patch = {
    **_QWEN3_5,
    "image_token_id": IMAGE,
    "video_token_id": IMAGE + 1,
    "insert_layer_id": 0,
    "vision_config": {"insert_layer_id": 0, "image_size": 32},
}
_GEMMA4_TEXT: Patch = {"global_head_dim": 32, "sliding_window": 8}
_SMALL: Patch = {
    "vocab_size": 400,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
}
_BLIP2_LLAMA: Patch = {
    "image_token_index": IMAGE,
    "text_config": {
        "model_type": "llama",
        **_SMALL,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    },
}
_BLIP2_T5: Patch = {
    "image_token_index": IMAGE,
    "text_config": {
        "model_type": "t5",
        "vocab_size": 400,
        "d_model": 64,
        "d_kv": 16,
        "d_ff": 96,
        "num_layers": 4,
        "num_decoder_layers": 4,
        "num_heads": 4,
        "dropout_rate": 0.0,
        "pad_token_id": 0,
        "eos_token_id": 2,
        "decoder_start_token_id": 0,
    },
}

PATCHES: dict[str, Patch] = {
    "aria": {"projector_patch_to_query_dict": {16: 4}, "max_value_projector_patch_to_query_dict": 4},
    "blip-2": {"image_token_index": IMAGE},
    "chameleon": {
        "image_token_id": IMAGE,
        "vocabulary_map": {"<image>": IMAGE, **_VOCABULARY_OF_IMAGES},
        "vq_config": {
            "num_embeddings": 16,
            "resolution": 16,
            "embed_dim": 32,
            "latent_channels": 32,
            "base_channels": 32,
            "channel_multiplier": [1, 1, 1],
            "num_res_blocks": 1,
        },
    },
    "cohere_compass": {
        "text_config": {"rope_parameters": {"full_attention": {**_FULL, "mrope_section": [4, 2, 2]}}},
    },
    "cosmos3_edge": {"text_config": {"rope_parameters": {"mrope_section": [4, 2, 2]}}},
    "deepseek_ocr2": {
        "vision_config": {"sam_config": {"downsample_channels": [32, 32]}},
        "text_config": {
            "mlp_layer_types": ["dense", "sparse", "sparse", "sparse"],
            "num_experts_per_tok": 2,
        },
    },
    "diffusion_gemma": {
        "text_config": {
            **_GEMMA4_TEXT,
            "num_experts": 4,
            "top_k_experts": 2,
            "moe_intermediate_size": 32,
        },
        "canvas_length": 8,
    },
    "dots3_note": {
        "text_config": {
            "swa_num_attention_heads": 4,
            "swa_num_key_value_heads": 4,
            "swa_q_lora_rank": 16,
            "swa_kv_lora_rank": 16,
            "swa_head_dim": 24,
            "swa_qk_nope_head_dim": 16,
            "swa_v_head_dim": 12,
        },
        "audio_config": {"d_model": 32, "adapter_input_size": 32, "hidden_size": 32},
    },
    "emu3": {
        "image_token_id": IMAGE,
        "vocabulary_map": {"<image>": IMAGE, "<|extra_200|>": IMAGE + 1, **_VISUAL_TOKENS},
        "vq_config": {
            "codebook_size": 16,
            "base_channels": 32,
            "channel_multiplier": [1, 1, 1],
            "num_res_blocks": 1,
            "attn_resolutions": [1],
        },
    },
    "ernie4_5_vl_moe": {
        "text_config": {
            "rope_parameters": {**_FULL, "mrope_section": [3, 3, 2]},
            "moe_intermediate_size": [48, 32],
        }
    },
    "florence2": {
        "vision_config": {
            "depths": [1, 1, 1, 1],
            "embed_dim": [16, 16, 32, 32],
            "num_heads": [1, 1, 2, 2],
            "num_groups": [1, 1, 2, 2],
            "patch_size": [7, 3, 3, 3],
        }
    },
    "gemma4": {"text_config": _GEMMA4_TEXT},
    "gemma4_unified": {"text_config": _GEMMA4_TEXT},
    "glm5_next": {"text_config": {"index_kpool": 2, "qk_rope_head_dim": 0, "head_dim": 0}},
    "got_ocr2": {"vision_config": {"image_size": 32}},
    "granite4_vision": {
        "image_grid_pinpoints": [[32, 16], [16, 32], [32, 32]],
        # The Q-Former has a head for every 64 of the tower's dimensions.
        "vision_config": {"hidden_size": 64},
        "downsample_rate": "1/2",
        "deepstack_layer_map": [[0, 0], [1, 1]],
        "spatial_target_layers": [0, 1, 2, 3],
    },
    "hunyuan_vl": {
        "text_config": {
            "head_dim": 16,
            "rope_parameters": {**_FULL, "mrope_section": [2, 2, 2, 2]},
        },
        "vision_config": {"max_image_size": 16, "min_image_size": 8},
    },
    "idefics": {"cross_layer_interval": 2},
    "janus": {
        "vision_config": {"num_image_tokens": 16},
        "vq_config": {
            "num_embeddings": 16,
            "latent_channels": 32,
            "base_channels": 32,
            "channel_multiplier": [1, 1],
            "num_res_blocks": 1,
        },
    },
    "llama4": {
        "vision_config": {"projector_input_dim": 48, "projector_output_dim": 48, "intermediate_size": 128}
    },
    "kimi_k25": {"projection_hidden_size": 32, "text_config": {"head_dim": 8}},
    "granite_docling": {"vision_config": {"image_size": 32}},
    "inkling_mm_model": {"vision_config": {"n_layers": 3}},
    "muse_glimmer": {"out_hidden_size": 128},
    "muse_spark": {
        "out_hidden_size": 128,
        "audio_config": {"patch_sizes": [16, 6], "hidden_sizes": [8, 16], "depths": [1, 1]},
    },
    "minimax_m3_vl": {  # released checkpoints: most layers sparse; a head of the index for every key's
        "text_config": {
            "index_n_heads": 2,
            "layer_types": ["full_attention", "minimax_m3_sparse", "minimax_m3_sparse", "full_attention"],
        }
    },
    "mllama": {
        "text_config": {"cross_attention_layers": [1, 3]},
        "vision_config": {"vision_output_dim": 96, "num_global_layers": 1},
    },
    "pix2struct": {"vision_config": {"hidden_size": 64}},
    "perception_lm": {"vision_config": {"model_args": {"embed_dim": 32}}},
    "pp_chart2table": {"vision_config": {"image_size": 32}},
    "pp_formulanet": {
        "vision_config": {
            "post_conv_in_channels": 32,
            "post_conv_mid_channels": 32,
            "post_conv_out_channels": 32,
            "decoder_hidden_size": 64,
            "image_size": 64,
            "patch_size": 8,
        }
    },
    "t5gemma2": {
        "image_token_index": IMAGE,
        "eoi_token_index": IMAGE + 1,
        "encoder": {"image_token_index": IMAGE, "eoi_token_index": IMAGE + 1, "boi_token_index": IMAGE + 2},
    },
    "udop": {"max_2d_position_embeddings": 64},
    "qwen2_5_omni_thinker": {"vision_start_token_id": 370},
    # Released checkpoints mix in convolutions, which the defaults do not.
    "lfm2_vl": {
        "text_config": {
            "layer_types": ["conv", "conv", "full_attention", "conv"],
            "full_attn_idxs": [2],
        }
    },
    "llava_next": _SMALL_TILES,
    "llava_next_video": _SMALL_TILES,
    "llava_onevision": _SMALL_TILES,
    "minicpm_ocr": _MINICPM,
    "minicpmv4_6": _MINICPM,
    "minicpmv4_7": _MINICPM,
    "molmo2": {"adapter_config": {"vision_feature_layer": [1, 0], "text_hidden_size": 64}},
    "nemotron_h_omni": {"image_token_id": IMAGE, "vision_hidden_size": 32},
    "qwen2_vl": {"vision_config": {"hidden_size": 64}},
    "qwen3_5": _QWEN3_5,
    "qwen3_5_moe": _QWEN3_5,
    "qwen3_omni_moe_thinker": {
        "vision_start_token_id": 370,
        "vision_end_token_id": 371,
    },
    "qwen4_exp": {
        "text_config": {
            **_QWEN3_5["text_config"],
            "indexer_n_heads": 2,
            "indexer_kv_heads": 1,
            "indexer_head_dim": 16,
            "indexer_budget": 8,
            "indexer_compress_ratio": 2,
        }
    },
    "step3p7": {
        "text_config": {
            "sliding_window": 8,
            "layer_types": ["full_attention", "sliding_attention", "sliding_attention", "full_attention"],
            "rope_parameters": {"full_attention": _FULL, "sliding_attention": _FULL},
        },
        "vision_config": {"image_size": 32},
    },
    "unlimited_ocr": {
        "vision_config": {"sam_config": {"downsample_channels": [32, 32]}},
    },
    "vipllava": {"vision_feature_layer": [-1, -2]},
}
_GEMMA2: Patch = {
    "model_type": "gemma2",
    **_SMALL,
    "sliding_window": 8,
    "query_pre_attn_scalar": 16,
    "pad_token_id": 0,
}
VARIANTS: dict[str, Patch] = {
    "minimax_m3_vl/full": {},
    "paligemma/gemma2": {"text_config": _GEMMA2},
    "blip-2/opt": {"image_token_index": IMAGE},
    "blip-2/llama": _BLIP2_LLAMA,
    "blip-2/t5": _BLIP2_T5,
    "instructblip/llama": _BLIP2_LLAMA,
    "instructblip/t5": _BLIP2_T5,
}
PATCHES["instructblip"] = PATCHES["blip-2"]
PATCHES["instructblipvideo"] = {"video_token_index": IMAGE}


class _NoTower(nn.Module):
    """A stand-in for a vision encoder that needs timm: image features are injected instead."""

    dtype = torch.float32

    def forward(self, *_: Any, **__: Any) -> None:
        raise NotImplementedError("no tower without timm")


@contextmanager
def _without_timm() -> Iterator[None]:
    """Leave out timm's vision encoders; everything else is made as usual."""
    original = AutoModel.from_config

    def from_config(config: Any, **options: Any) -> Any:
        return _NoTower() if hasattr(config, "architecture") else original(config, **options)

    with patch.object(AutoModel, "from_config", from_config):
        yield


STUBS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "fast_vlm": _without_timm,
    "gemma3n": _without_timm,
    "perception_lm": _without_timm,
}
IMPOSSIBLE = {"pi0": "a robot's policy: it takes states and gives actions, no logits"}


def _widen_codes(model: Any) -> None:
    """Scale the latents to the codes' distances, otherwise every patch would get the same code."""
    model.model.vqmodel.quant_conv.conv.weight.mul_(8)


ADJUSTMENTS: dict[str, Callable[[Any], None]] = {"emu3": _widen_codes}

# Models that count positions from the row's start unless they get them, as generation would pass them.
POSITION_INPUTS = {"blip": "position_ids", "git": "position_ids", "mistral_large4": "position_ids"}
POSITION_INPUTS["vision-encoder-decoder"] = "decoder_position_ids"
# Types for which a padded row gives other results: the sides of the padding, and the reason.
_FROM_THE_START = "positions are counted from the row's start, and none can be given"
UNPADDABLE = {
    "diffusion_gemma": (
        ("left", "right"),
        "the canvas after a padded prompt needs its own mask and positions",
    ),
    "florence2": (("left",), _FROM_THE_START),
    "minimax_m3_vl": (("left",), "blocks of keys are counted from the row's start, padding and all"),
    "pp_formulanet": (("left",), _FROM_THE_START),
    "udop": (("right",), "the image's patches follow the words, and padding moves them away"),
}

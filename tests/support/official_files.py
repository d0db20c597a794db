"""Tiny checkpoints in the layouts of the official files, and the official models' computations on them.

Names are those of the official repositories, and the passes are plain functions of these names: nothing is
taken from the converters that are tested with them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    BeitConfig,
    BeitForMaskedImageModeling,
    BeitImageProcessorPil,
    Blip2QFormerConfig,
    Blip2VisionConfig,
    GPTJConfig,
    GPTJForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

VWIDTH, HEADS, BLOCKS, GRID, PATCH = 32, 2, 2, 4, 7
"""Of the vision encoder: width, heads, used blocks (the file has one more), patches a side, their pixels."""
QUERIES, QWIDTH, QHEADS, QLAYERS = 3, 16, 2, 2
RANK = 4
WORDS = (
    "###Human: ###Assistant: [INST] [/INST] [caption] <Img> </Img> "
    "Describe this image in detail. A picture of"
)
ENTRIES = 4 + len(WORDS.split())

State = dict[str, Tensor]


def draw(*shape: int) -> Tensor:
    return torch.randn(shape) * 0.2


def picture(seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((60, 45))


def eva_state() -> State:
    """``eva_vit_g.pth``: one block more than is used, a last norm and a head."""
    state = {
        "cls_token": draw(1, 1, VWIDTH),
        "pos_embed": draw(1, GRID * GRID + 1, VWIDTH),
        "patch_embed.proj.weight": draw(VWIDTH, 3, PATCH, PATCH),
        "patch_embed.proj.bias": draw(VWIDTH),
        "norm.weight": draw(VWIDTH),
        "norm.bias": draw(VWIDTH),
        "head.weight": draw(10, VWIDTH),
        "head.bias": draw(10),
    }
    for i in range(BLOCKS + 1):
        state |= {
            f"blocks.{i}.norm1.weight": 1 + draw(VWIDTH),
            f"blocks.{i}.norm1.bias": draw(VWIDTH),
            f"blocks.{i}.attn.q_bias": draw(VWIDTH),
            f"blocks.{i}.attn.v_bias": draw(VWIDTH),
            f"blocks.{i}.attn.qkv.weight": draw(3 * VWIDTH, VWIDTH),
            f"blocks.{i}.attn.proj.weight": draw(VWIDTH, VWIDTH),
            f"blocks.{i}.attn.proj.bias": draw(VWIDTH),
            f"blocks.{i}.norm2.weight": 1 + draw(VWIDTH),
            f"blocks.{i}.norm2.bias": draw(VWIDTH),
            f"blocks.{i}.mlp.fc1.weight": draw(2 * VWIDTH, VWIDTH),
            f"blocks.{i}.mlp.fc1.bias": draw(2 * VWIDTH),
            f"blocks.{i}.mlp.fc2.weight": draw(VWIDTH, 2 * VWIDTH),
            f"blocks.{i}.mlp.fc2.bias": draw(VWIDTH),
        }
    return state


def qformer_state() -> State:
    """``blip2_pretrained_flant5xxl.pth``: with BLIP-2's own projector and a buffer."""
    state = {
        "query_tokens": draw(1, QUERIES, QWIDTH),
        "ln_vision.weight": 1 + draw(VWIDTH),
        "ln_vision.bias": draw(VWIDTH),
        "t5_proj.weight": draw(40, QWIDTH),
        "t5_proj.bias": draw(40),
        "Qformer.bert.embeddings.position_ids": torch.arange(512)[None],
        "Qformer.bert.embeddings.LayerNorm.weight": 1 + draw(QWIDTH),
        "Qformer.bert.embeddings.LayerNorm.bias": draw(QWIDTH),
    }
    for i in range(QLAYERS):
        layer = f"Qformer.bert.encoder.layer.{i}"
        state |= bert_attention(f"{layer}.attention", QWIDTH)
        if i % 2 == 0:
            state |= bert_attention(f"{layer}.crossattention", VWIDTH)
        state |= {
            f"{layer}.intermediate_query.dense.weight": draw(2 * QWIDTH, QWIDTH),
            f"{layer}.intermediate_query.dense.bias": draw(2 * QWIDTH),
            f"{layer}.output_query.dense.weight": draw(QWIDTH, 2 * QWIDTH),
            f"{layer}.output_query.dense.bias": draw(QWIDTH),
            f"{layer}.output_query.LayerNorm.weight": 1 + draw(QWIDTH),
            f"{layer}.output_query.LayerNorm.bias": draw(QWIDTH),
        }
    return state


def bert_attention(prefix: str, key_width: int) -> State:
    return {
        f"{prefix}.self.query.weight": draw(QWIDTH, QWIDTH),
        f"{prefix}.self.query.bias": draw(QWIDTH),
        f"{prefix}.self.key.weight": draw(QWIDTH, key_width),
        f"{prefix}.self.key.bias": draw(QWIDTH),
        f"{prefix}.self.value.weight": draw(QWIDTH, key_width),
        f"{prefix}.self.value.bias": draw(QWIDTH),
        f"{prefix}.output.dense.weight": draw(QWIDTH, QWIDTH),
        f"{prefix}.output.dense.bias": draw(QWIDTH),
        f"{prefix}.output.LayerNorm.weight": 1 + draw(QWIDTH),
        f"{prefix}.output.LayerNorm.bias": draw(QWIDTH),
    }


def tokenizer() -> PreTrainedTokenizerFast:
    """Words between spaces, ``<s>`` in front."""
    entries = dict.fromkeys(["<unk>", "<s>", "</s>", "<pad>", *WORDS.split()])
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(entries)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def llama_folder(folder: Path) -> Path:
    """A Llama in the Hugging Face layout, without any image token."""
    config = LlamaConfig(
        vocab_size=ENTRIES, hidden_size=24, intermediate_size=40, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, initializer_range=0.2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def gptj_folder(folder: Path) -> Path:
    config = GPTJConfig(
        vocab_size=ENTRIES, n_embd=32, n_layer=2, n_head=2, rotary_dim=8, n_positions=128,
        initializer_range=0.2, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model = GPTJForCausalLM(config)
    torch.nn.init.normal_(model.lm_head.bias)
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def beit_folder(folder: Path) -> Path:
    """As published for masked images: a shared table of relative positions, a mask token, a head."""
    config = BeitConfig(
        vocab_size=11, hidden_size=VWIDTH, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        image_size=GRID * PATCH, patch_size=PATCH, use_mask_token=True,
        use_shared_relative_position_bias=True, layer_scale_init_value=0.1,
    )  # fmt: skip
    model = BeitForMaskedImageModeling(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(draw(*parameter.shape))
    model.save_pretrained(folder)
    size = {"height": GRID * PATCH, "width": GRID * PATCH}
    BeitImageProcessorPil(size=size, do_center_crop=False).save_pretrained(folder)
    return folder


def save_pickled(folder: Path, **extra: Tensor) -> None:
    """The folder's weights as two pickled shards, as they were saved in 2023, with ``extra`` tensors."""
    from safetensors.torch import load_file

    file = folder / "model.safetensors"
    state = load_file(file) | extra
    shards = 2
    for i in range(shards):
        shard = {name: state[name] for name in sorted(state)[i::shards]}
        torch.save(shard, folder / f"pytorch_model-{i + 1:05d}-of-{shards:05d}.bin")
    file.unlink()


def save(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def linear_state(inputs: int, outputs: int, prefix: str = "llama_proj.") -> State:
    return {f"{prefix}weight": draw(outputs, inputs), f"{prefix}bias": draw(outputs)}


def lora_state(adapter: str = "") -> State:
    state = {}
    for i in range(2):
        for target in ("q_proj", "v_proj"):
            stem = f"llama_model.base_model.model.model.layers.{i}.self_attn.{target}"
            state[f"{stem}.lora_A{adapter}.weight"] = draw(RANK, 24)
            state[f"{stem}.lora_B{adapter}.weight"] = draw(24, RANK)
    return state


def vision_config(factor: int = 1) -> Blip2VisionConfig:
    return Blip2VisionConfig(
        hidden_size=VWIDTH, intermediate_size=2 * VWIDTH, num_hidden_layers=BLOCKS, num_attention_heads=HEADS,
        image_size=factor * GRID * PATCH, patch_size=PATCH,
    )  # fmt: skip


def qformer_config() -> Blip2QFormerConfig:
    return Blip2QFormerConfig(
        hidden_size=QWIDTH, num_hidden_layers=QLAYERS, num_attention_heads=QHEADS,
        intermediate_size=2 * QWIDTH, encoder_hidden_size=VWIDTH,
    )  # fmt: skip


def attention(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Written out: softmax(query key' / sqrt(width)) value, head by head."""
    out = []
    for q, k, v in zip(query.chunk(heads, -1), key.chunk(heads, -1), value.chunk(heads, -1), strict=True):
        out.append((q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v)
    return torch.cat(out, -1)


def linear(x: Tensor, state: State, name: str) -> Tensor:
    return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])


def norm(x: Tensor, state: State, name: str, eps: float) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps)


def eva_features(state: State, pixels: Tensor, positions: Tensor) -> Tensor:
    """EVA's forward_features up to the block before the last: CLS and patches."""
    x = F.conv2d(pixels, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=PATCH)
    x = x.flatten(2).mT
    x = torch.cat([state["cls_token"].expand(len(x), -1, -1), x], 1) + positions
    for i in range(BLOCKS):
        block = f"blocks.{i}"
        bias = torch.cat([state[f"{block}.attn.q_bias"], torch.zeros(VWIDTH), state[f"{block}.attn.v_bias"]])
        qkv = F.linear(norm(x, state, f"{block}.norm1", 1e-6), state[f"{block}.attn.qkv.weight"], bias)
        query, key, value = qkv.chunk(3, -1)
        x = x + linear(attention(query, key, value, HEADS), state, f"{block}.attn.proj")
        hidden = F.gelu(linear(norm(x, state, f"{block}.norm2", 1e-6), state, f"{block}.mlp.fc1"))
        x = x + linear(hidden, state, f"{block}.mlp.fc2")
    return x


def qformer_output(state: State, features: Tensor) -> Tensor:
    """The queries' outputs: post-norm BERT with cross-attention in every other layer."""
    x = norm(
        state["query_tokens"].expand(len(features), -1, -1), state, "Qformer.bert.embeddings.LayerNorm", 1e-12
    )
    for i in range(QLAYERS):
        layer = f"Qformer.bert.encoder.layer.{i}"
        x = bert_attention_output(state, f"{layer}.attention", x, x)
        if i % 2 == 0:
            x = bert_attention_output(state, f"{layer}.crossattention", x, features)
        hidden = F.gelu(linear(x, state, f"{layer}.intermediate_query.dense"))
        x = norm(
            x + linear(hidden, state, f"{layer}.output_query.dense"),
            state,
            f"{layer}.output_query.LayerNorm",
            1e-12,
        )
    return x


def bert_attention_output(state: State, name: str, x: Tensor, features: Tensor) -> Tensor:
    query = linear(x, state, f"{name}.self.query")
    key, value = linear(features, state, f"{name}.self.key"), linear(features, state, f"{name}.self.value")
    mixed = linear(attention(query, key, value, QHEADS), state, f"{name}.output.dense")
    return norm(mixed + x, state, f"{name}.output.LayerNorm", 1e-12)


def image_logits(model: Any, prompt: str, image: Tensor) -> Tensor:
    """Logits of the language model over the pieces of a prompt with the image (1, N, D) between them.

    As in the official code, each piece is tokenised by itself, ``<s>`` only before the first.
    """
    words, table = tokenizer(), model.get_input_embeddings()
    before, after = prompt.split("<image>")
    parts = []
    for number, piece in enumerate((before, after)):
        ids = words(piece, add_special_tokens=number == 0)["input_ids"]
        parts.append(table(torch.tensor([ids], dtype=torch.long)))
    with torch.inference_mode():
        return model(inputs_embeds=torch.cat([parts[0], image, parts[1]], 1)).logits

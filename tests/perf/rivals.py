"""The same closed forms through nnsight and TransformerLens: ``python -m tests.perf.rivals THREADS ROUNDS``.

It runs in ``.venv-rivals`` (``make perf-rivals``), which has both beside what phasebench needs, and prints
JSON: for each route its seconds in each round, and the largest relative difference of its numbers from the
probe's. All run the llava's language model on the same embeddings. Shapes: N positions, D width, H heads,
E head width.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, LlamaForCausalLM

from phasebench.measurement.passes import Row, watch
from phasebench.models.bundled.tiny import word_tokenizer
from tests.perf.timing import interleaved
from tests.perf.workloads import Size, Workload, llava

Numbers = tuple[Tensor, Tensor]
"""inter at the blocks' outputs [L] and the summed attention norms [L]."""


def inter(hidden_ND: Tensor, visual: Tensor) -> Tensor:
    """The dot product of the two mean unit vectors."""
    unit = hidden_ND / hidden_ND.norm(dim=-1, keepdim=True)
    return unit[visual].mean(0) @ unit[~visual].mean(0)


def total(alpha_HN: Tensor, value_HNE: Tensor, weight_DD: Tensor) -> Tensor:
    """The sum of the norms of all positions' contributions at the last position."""
    weighted = (alpha_HN[..., None] * value_HNE).transpose(0, 1).flatten(1)
    return (weighted @ weight_DD.T).norm(dim=-1).sum()


def numbers_from_probe(work: Workload, model: nn.Module, embedded: Tensor) -> Numbers:
    (row,) = rows_from_probe(work, model, embedded)
    return torch.tensor(row.curves["inter"][1:]), torch.tensor(row.curves["total"][1:])


def rows_from_probe(work: Workload, model: nn.Module, embedded: Tensor) -> list[Row]:
    return watch(
        replace(work.anatomy, unmeasured={"lens": "not timed"}),
        work.positions,
        lambda: model(inputs_embeds=embedded, use_cache=False, logits_to_keep=1),
    )


def numbers_from_nnsight(traced: Any, embedded: Tensor, visual: Tensor, config: Any) -> Numbers:
    """The numbers from nnsight, with eager attention, because only that returns the weights."""
    inters, totals, heads = [], [], config.num_attention_heads
    with torch.inference_mode(), traced.trace(inputs_embeds=embedded, use_cache=False, logits_to_keep=1):
        for layer in traced.model.layers:
            value = layer.self_attn.v_proj.output[0].unflatten(1, (heads, -1)).transpose(0, 1)
            alpha = layer.self_attn.output[1][0, :, -1]
            totals.append(total(alpha, value, layer.self_attn.o_proj.weight).save())  # type: ignore[attr-defined]  # nnsight's
            inters.append(inter(layer.output[0], visual).save())  # type: ignore[attr-defined]  # nnsight's
    return torch.stack(inters), torch.stack(totals)


def numbers_from_transformer_lens(
    bridge: Any, ids: Tensor, embedded: Tensor, visual: Tensor, config: Any
) -> Numbers:
    """The numbers from TransformerLens; a hook puts the embeddings in, because it takes ids only."""
    inters: list[Tensor] = []
    totals: list[Tensor] = []
    values: dict[str, Tensor] = {}

    def keep_value(tensor: Tensor, hook: Any) -> None:
        values["layer"] = tensor[0].reshape(tensor.shape[1], config.num_attention_heads, -1).transpose(0, 1)

    def add_total(tensor: Tensor, hook: Any) -> None:
        weight = bridge.original_model.model.layers[len(totals)].self_attn.o_proj
        totals.append(
            total(tensor[0, :, -1], values["layer"], getattr(weight, "original_component", weight).weight)
        )

    hooks: list[tuple[str, Callable[[Any, Any], Any]]] = [("embed.hook_out", lambda tensor, hook: embedded)]
    for layer in range(config.num_hidden_layers):
        hooks += [
            (f"blocks.{layer}.attn.v.hook_out", keep_value),
            (f"blocks.{layer}.attn.hook_pattern", add_total),
        ]
        hooks += [(f"blocks.{layer}.hook_out", lambda tensor, hook: inters.append(inter(tensor[0], visual)))]
    with torch.inference_mode():
        bridge.run_with_hooks(ids, fwd_hooks=hooks, use_cache=False, logits_to_keep=1)
    return torch.stack(inters), torch.stack(totals)


def make_bridge(model: Any) -> Any:
    """TransformerLens' bridge around a model; it requires a checkpoint's folder and a tokenizer."""
    from transformer_lens.model_bridge import TransformerBridge

    with tempfile.TemporaryDirectory() as folder:
        word_tokenizer().save_pretrained(folder)
        model.config.architectures = [type(model).__name__]
        model.config.save_pretrained(folder)
        return TransformerBridge.boot_transformers(
            folder, hf_model=model, tokenizer=AutoTokenizer.from_pretrained(folder)
        )


def language_model(work: Workload) -> nn.Module:
    """The llava's decoder and head, as a causal model of a class that the rivals support."""
    model = LlamaForCausalLM(work.anatomy.model.config.text_config).eval().requires_grad_(requires_grad=False)
    model.model.load_state_dict(work.anatomy.model.get_decoder().state_dict())
    model.lm_head.weight = work.anatomy.head.weight  # type: ignore[union-attr]
    return model


def compare(size: Size, rounds: int) -> dict[str, Any]:
    """The times of each route, and how far its numbers are from the probe's."""
    from nnsight import NNsight

    work = llava(size)
    causal = language_model(work)
    config, visual = causal.config, work.positions.visual_BN[0]
    ids = work.inputs["input_ids"]
    embedded = torch.randn(1, ids.shape[1], size.width) * 0.02
    probe_model, eager_model = language_model(work), language_model(work)
    eager_model.set_attn_implementation("eager")  # type: ignore[operator]
    probe_work = Workload("probe", dissect_language(work, probe_model), work.inputs)
    traced, bridge = NNsight(eager_model), make_bridge(causal)

    def plain() -> None:
        with torch.inference_mode():
            probe_model(inputs_embeds=embedded, use_cache=False, logits_to_keep=1)

    routes: dict[str, Callable[[], Any]] = {
        "plain": plain,
        "phasebench": lambda: rows_from_probe(probe_work, probe_model, embedded),
        "nnsight": lambda: numbers_from_nnsight(traced, embedded, visual, config),
        "TransformerLens": lambda: numbers_from_transformer_lens(bridge, ids, embedded, visual, config),
    }
    own = numbers_from_probe(probe_work, probe_model, embedded)
    errors = {
        name: max(float((a.double() / b - 1).abs().max()) for a, b in zip(routes[name](), own, strict=True))
        for name in ("nnsight", "TransformerLens")
    }
    return {"times": interleaved(routes, rounds), "errors": errors}


def dissect_language(work: Workload, model: nn.Module) -> Any:
    """The llava's anatomy, transferred to a causal model with the same weights."""
    names = {module: name for name, module in work.anatomy.model.get_decoder().named_modules()}
    modules = dict(model.model.named_modules())  # type: ignore[union-attr]
    sites = {
        modules[names[module]]: replace(site, output=modules[names[site.output]])
        for module, site in work.anatomy.sites.items()
    }
    layers = list(model.model.layers)  # type: ignore[union-attr, arg-type]
    return replace(work.anatomy, model=model, layers=layers, sites=sites)


if __name__ == "__main__":
    logging.disable()
    torch.set_num_threads(int(sys.argv[1]))
    print(json.dumps(compare(Size(), int(sys.argv[2]))))

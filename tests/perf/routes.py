"""The routes that are timed against each other.

Shapes: N positions, V visual ones, T text ones, P visual rows of all layers, D width, H heads, E head width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from phasebench.measurement.passes import plain_pass, probed_pass
from phasebench.models.anatomy.adapter import Anatomy, forward_options
from tests.perf.workloads import Workload

CHUNK = 1024
"""Rows of one bare product."""


def routes(work: Workload) -> dict[str, Callable[[], object]]:
    """Every route, by name."""
    rows_PD = visual_rows(work)
    off = work.without("lens")
    return {
        "plain": lambda: plain_pass(work.anatomy, work.inputs),
        "curves": lambda: probed_pass(off, work.inputs),
        "whole": lambda: probed_pass(work.anatomy, work.inputs),
        "bare": lambda: bare(work.anatomy, rows_PD),
        "naive": lambda: naive(work, lens=False),
        "naive whole": lambda: naive(work, lens=True),
    }


@torch.inference_mode()
def visual_rows(work: Workload) -> Tensor:
    """The visual states of all layers after the final norm [P, D]."""
    hidden, _ = outputs(work)
    assert work.anatomy.final_norm is not None
    visual = [states[work.positions.visual_BN] for states in hidden]
    return torch.cat([*map(work.anatomy.final_norm, visual[:-1]), visual[-1]])


@torch.inference_mode()
def bare(anatomy: Anatomy, rows_PD: Tensor) -> None:
    """The lens' matrix products and nothing else."""
    for rows in rows_PD.split(CHUNK):
        anatomy.head(rows)  # type: ignore[misc]


@contextmanager
def eager(model: Any) -> Iterator[None]:
    """Let the language model compute eager attention, which returns its weights."""
    decoder = model.get_decoder()
    before = decoder.config._attn_implementation
    decoder.set_attn_implementation("eager")
    try:
        yield
    finally:
        decoder.set_attn_implementation(before)


def outputs(work: Workload, **flags: bool) -> tuple[Any, Any]:
    """The hidden states and attention weights from transformers; the last state is after the final norm."""
    model = work.anatomy.model
    options = forward_options(model, work.inputs)
    out = model(**work.inputs, **options, output_hidden_states=True, **flags)
    inner = out if out.get("hidden_states") is not None else out.language_model_outputs
    return inner.hidden_states, inner.get("attentions")


@torch.inference_mode()
def naive(work: Workload, *, lens: bool) -> dict[str, Tensor]:
    """A first draft's way: all outputs returned, all pairs of cosines, attention head by head, a softmax.

    Returns ``inter`` and ``total`` per layer and, with ``lens``, ``tokens`` [L + 1, V], for a batch of one.
    The last layer's state is after the final norm, because transformers returns it so.
    """
    values: list[Tensor] = []
    sites = list(work.anatomy.sites)
    handles = [site.v_proj.register_forward_hook(lambda _, __, out: values.append(out)) for site in sites]  # type: ignore[union-attr]
    try:
        with eager(work.anatomy.model):
            hidden, weights = outputs(work, output_attentions=True)
    finally:
        for handle in handles:
            handle.remove()
    visual, text = work.positions.visual_BN[0], work.positions.text_BN[0]
    curves = {"inter": torch.stack([_inter(states[0], visual, text) for states in hidden])}
    layers = zip(sites, values, weights, strict=True)
    curves["total"] = torch.stack([_total(site, value[0], weight[0]) for site, value, weight in layers])
    if lens:
        curves["tokens"] = torch.stack(
            [_tokens(work.anatomy, states[0, visual], normed=states is hidden[-1]) for states in hidden]
        )
    return curves


def _inter(hidden_ND: Tensor, visual: Tensor, text: Tensor) -> Tensor:
    """The mean cosine between the two modalities, from all pairs; those within each are computed too."""
    unit = F.normalize(hidden_ND, dim=-1)
    pairs_NN = unit @ unit.T
    within = [pairs_NN[positions][:, positions].mean() for positions in (visual, text)]
    return pairs_NN[visual][:, text].mean() + 0 * sum(within)


def _total(site: Any, value_NKE: Tensor, weights_HNN: Tensor) -> Tensor:
    """The sum of the norms of all positions' contributions at the last position."""
    heads, width = len(weights_HNN), site.head_dim
    value_HNE = value_NKE.unflatten(1, (-1, width)).transpose(0, 1)
    value_HNE = value_HNE.repeat_interleave(heads // len(value_HNE), 0)
    output_HED = site.o_proj.weight.T.unflatten(0, (heads, width))
    contribution_HND = weights_HNN[:, -1, :, None] * (value_HNE @ output_HED)
    return contribution_HND.sum(0).norm(dim=-1).sum()


def _tokens(anatomy: Anatomy, hidden_VD: Tensor, *, normed: bool) -> Tensor:
    """The top-1 token of each visual position; ``normed``: the states are after the final norm already."""
    states = hidden_VD if normed else anatomy.final_norm(hidden_VD)  # type: ignore[misc]
    return anatomy.head(states).softmax(-1).argmax(-1)  # type: ignore[misc]

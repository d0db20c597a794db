"""The likely cause of a drift, inferred from the curves that moved and from the first layer that did.

A layer's states depend only on the layers before it, so the first layer that moved shows where to look. Only
the lens depends on the final norm and the output head.

A small fault may begin before the first layer at which a difference exceeds the allowed one. So the cause
names a place only after a clear step (``STEP``). Otherwise it is "at or before block k", or "everywhere" if a
small difference of the first layers grows with the layers (``GROWTH``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from phasebench.catalog import ATTENTION, CURVES, LENS, OF_CAPTIONS, SIMILARITY
from phasebench.curves import Array, Curves
from phasebench.errors import InputError
from phasebench.judge.drift.difference import Difference
from phasebench.judge.drift.provenance import layout
from phasebench.judge.drift.record import record
from phasebench.judge.drift.reference import Reference, read_record

IMAGE = "before the language model: image preprocessing, vision encoder or projector"
TEXT = "before the language model: text embeddings or tokenizer"
ENTRY = "before the language model: what enters its first block"
PICTURES = "the data set's pictures, or how they are decoded"
CAPTIONS = "the data set's captions"
HEAD = "final norm or output head: only what the lens decodes moved"
ALL_BLOCKS = "or what all blocks share: order of the tokens, positions, mask, precision, a setting"
EVERYWHERE = "everywhere: precision, or a change of all blocks"
STEP = 100.0
"""The first drifted layer is certain if its difference, as a multiple of the allowed one, is so many times
the largest before it (at layer 0, which has none before it: so many times the allowed one). Attention may
move a hundred times as much as the states that it reads: a smaller step may show an earlier block's fault."""
GROWTH = 5.0
"""A small difference at layer 0 or 1 comes from everywhere if the median of the layers after it is so many
times as large: blocks that are as recorded pass a difference on, but changes of all blocks add up."""


def cause(differences: Sequence[Difference], before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """The likely cause in one sentence; empty where nothing drifted or the curves do not show a cause.

    Only comparisons of each image with itself count: an interval hides where a difference begins.

    Args:
        differences: those of all curves of one model and dataset.
        before: the provenance of the recorded curves.
        after: the provenance of the measured curves.
    """
    if counts := next((diff.layer_counts for diff in differences if diff.layer_counts), None):
        return f"blocks are missing or added: {counts[0]} -> {counts[1]}"
    if replaced := [diff.curve for diff in differences if diff.replaced and diff.drifted]:
        return CAPTIONS if set(replaced) <= {*OF_CAPTIONS} else PICTURES
    by_image = [diff for diff in differences if diff.shared and not diff.half_width.any()]
    first_layers = {diff.curve: min(diff.drifted) for diff in by_image if diff.drifted}
    if not first_layers:
        return ""
    return _prompt_cause(before, after) or _layer_cause(first_layers, by_image)


def likely_cause(reference: Reference, run_id: str, measured: Curves) -> str:
    """The ``cause`` from the baselines of ``run_id``, ``<model>/<dataset>``.

    Curves that cannot be compared are left out. Against another model (``--against``) there is no cause: a
    difference is no fault there.
    """
    if reference.against:
        return ""
    differences, before = [], None
    for name in CURVES:
        path = reference.folders.find(f"{run_id}/{name}.json")
        try:
            recorded = read_record(path) if path else None
            if recorded is not None:
                differences.append(reference.compare(recorded, record(measured, name)))
                before = before or recorded["provenance"]
        except InputError:
            continue  # the curve's own case reports it
    return cause(differences, before, measured.provenance) if before else ""


def _prompt_cause(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """A changed prompt, because every other change may follow from it; empty if it is the recorded one."""
    layouts = before.get("layout"), after.get("layout")
    comparable = all(isinstance(prompt_layout, Mapping) for prompt_layout in layouts)
    changes = layout(*layouts) if comparable and layouts[0] != layouts[1] else ""  # type: ignore[arg-type]
    if before.get("prompt") != after.get("prompt"):
        addition = f", and with it the prompt's layout: {changes}" if changes else ""
        return f"the prompt's text changed (chat template, or another prompt was given){addition}"
    return f"the prompt's layout changed, not its text (processor or tokenizer): {changes}" if changes else ""


def _layer_cause(first_layers: Mapping[str, int], differences: Sequence[Difference]) -> str:
    """The cause that the layers show; ``first_layers``: curve -> its first layer that drifted."""
    states = min((first_layers[name] for name in SIMILARITY if name in first_layers), default=None)
    rows = min((first_layers[name] for name in ATTENTION if name in first_layers), default=None)
    layers = [layer for layer in (states, rows) if layer is not None]
    if not layers:
        return HEAD if any(name in first_layers for name in LENS) else ""
    first, sizes = min(layers), _sizes(differences)
    if first == 0:
        place = _entry_cause(first_layers)
    elif first == 1 and first_layers.get("intra_visual") == 1 and first_layers.get("intra_text") != 1:
        place = f"{IMAGE} (only image tokens moved at layer 1: the size of what enters block 1)"
    else:
        place = _block_cause(first, rows)
    return place if _is_step(sizes, first) else _uncertain_cause(sizes, first, place)


def _sizes(differences: Sequence[Difference]) -> Array:
    """The largest excess of any curve of the states or of attention, per layer [L + 1]."""
    sizes = [diff.excess for diff in differences if diff.curve not in LENS]
    return np.asarray(np.nan_to_num(sizes, nan=0.0, posinf=np.inf).max(axis=0), dtype=np.float64)


def _is_step(sizes: Array, first: int) -> bool:
    """Whether the difference at the first drifted layer stands out from those before it."""
    return bool(sizes[first] >= STEP * (sizes[:first].max() if first else 1.0))


def _uncertain_cause(sizes: Array, first: int, place: str) -> str:
    """The cause of a small difference; ``place``: where the first drifted layer alone points to."""
    size, is_block = f"{sizes[first]:.2g} x allowed", place.startswith("block")
    if is_block:
        place = f"at or before block {first}"
    if first <= 1 and np.median(sizes[first + 1 :]) > GROWTH * sizes[first]:
        return f"{EVERYWHERE} ({size} at layer {first}, and growing); or only {place}"
    return f"{place} (the difference there is {size})" if is_block else place


def _entry_cause(first_layers: Mapping[str, int]) -> str:
    """The modality whose states drifted at layer 0, where they enter the language model."""
    image, text = (first_layers.get(name) == 0 for name in ("intra_visual", "intra_text"))
    if image == text:
        return ENTRY
    return IMAGE if image else TEXT


def _block_cause(first: int, rows: int | None) -> str:
    """The block and its part; a block's attention rows (first drifted at ``rows``) precede its output."""
    part = "its attention or what it reads" if rows == first else "after its attention (norm or MLP)"
    return (
        f"block 1, {ALL_BLOCKS}" if first == 1 else f"block {first}, {part}: layers before it are as recorded"
    )

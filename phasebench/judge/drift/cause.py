"""The likely cause of a drift, read off which curves moved and from which layer on.

A layer's states depend on what came before it alone, so that the first that moved tells where to look;
the lens alone looks through final norm and output head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from phasebench.catalog import ATTENTION, CURVES, LENS, SIMILARITY
from phasebench.curves import Curves
from phasebench.errors import InputError
from phasebench.judge.drift.baselines import Reference, read_record
from phasebench.judge.drift.difference import Difference
from phasebench.judge.drift.provenance import layout
from phasebench.judge.drift.record import record

IMAGE = "before the language model: image preprocessing, vision encoder or projector"
TEXT = "before the language model: text embeddings or tokenizer"
EITHER = "before the language model: what enters its first block"
HEAD = "final norm or output head: only what the lens decodes moved"
OF_ALL = "or what all blocks share: order of the tokens, positions, mask, precision, a setting"


def cause(differences: Sequence[Difference], before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """One sentence, or nothing where nothing drifted or the curves do not tell.

    ``differences`` are all curves of one model and dataset, and only those count that compare each image
    with itself: an interval hides where a difference begins. ``before`` and ``after`` are the provenance
    of what was recorded and measured.
    """
    if different := next((one.layer_counts for one in differences if one.layer_counts), None):
        return f"blocks are missing or added: {different[0]} -> {different[1]}"
    exact = [one for one in differences if one.shared and not one.half_width.any()]
    moved = {one.curve: min(one.drifted) for one in exact if one.drifted}
    return (_of_prompt(before, after) or _of_layers(moved)) if moved else ""


def likely_cause(reference: Reference, run_id: str, measured: Curves) -> str:
    """The same from the baselines of ``run_id``, ``<model>/<dataset>``; what cannot be compared is left out.

    Another model's baselines (``--against``) name no cause: a difference is no fault there.
    """
    if reference.against:
        return ""
    found, before = [], None
    for name in CURVES:
        path = reference.folders.find(f"{run_id}/{name}.json")
        try:
            known = read_record(path) if path else None
            if known is not None:
                found.append(reference.compare(known, record(measured, name)))
                before = before or known["provenance"]
        except InputError:
            continue  # said in the curve's own case
    return cause(found, before, measured.provenance) if before else ""


def _of_prompt(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """The prompt is not the recorded one: everything else may follow from it."""
    layouts = before.get("layout"), after.get("layout")
    both = all(isinstance(one, Mapping) for one in layouts)
    changed = layout(*layouts) if both and layouts[0] != layouts[1] else ""  # type: ignore[arg-type]
    if before.get("prompt") != after.get("prompt"):
        also = f", and with it the prompt's layout: {changed}" if changed else ""
        return f"the prompt's text changed (chat template, or --prompt){also}"
    return f"the prompt's layout changed, not its text (processor or tokenizer): {changed}" if changed else ""


def _of_layers(moved: Mapping[str, int]) -> str:
    """``moved``: curve -> the first layer past what is allowed."""
    states = min((moved[name] for name in SIMILARITY if name in moved), default=None)
    rows = min((moved[name] for name in ATTENTION if name in moved), default=None)
    known = [layer for layer in (states, rows) if layer is not None]
    if not known:
        return HEAD if any(name in moved for name in LENS) else ""
    first = min(known)
    if first == 0:
        return _of_entry(moved)
    if first == 1 and moved.get("intra_visual") == 1 and moved.get("intra_text") != 1:
        return f"{IMAGE} (only image tokens moved at layer 1: the size of what enters block 1)"
    return _of_block(first, rows)


def _of_entry(moved: Mapping[str, int]) -> str:
    image, text = (moved.get(name) == 0 for name in ("intra_visual", "intra_text"))
    if image == text:
        return EITHER
    return IMAGE if image else TEXT


def _of_block(first: int, rows: int | None) -> str:
    """A block's attention is seen before what the block gives."""
    part = "its attention or what it reads" if rows == first else "after its attention (norm or MLP)"
    return f"block 1, {OF_ALL}" if first == 1 else f"block {first}, {part}: layers before it are as recorded"

"""The closed form: what phasebench must measure in an oracle, from the plan alone.

No state is computed here. The cosine of two positions follows from their modalities, sizes and angles;
attention from the chosen logits; recall from the chosen words.

Shapes: L + 1 layers, N positions, V visual ones, H heads.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from phasebench.curves import Array
from tests.oracles.plan import SLOTS, Picture, Plan
from tests.oracles.space import LENGTH, MARK, NOUNS, STORED, VISUAL, WHISPER, Space, places

FIRST = 5
"""Section 3.2: 'the first five tokens'; written out, for what is wanted must not follow what is measured."""
Mask = npt.NDArray[np.bool_]
SEEN = np.isin(np.arange(LENGTH), places(visual=True))
"""True at visual positions [N]."""


def curves(plan: Plan, pictures: list[Picture]) -> dict[str, Array]:
    """Every curve [images, L + 1], as phasebench names them; attention is NaN at layer 0."""
    rows = [
        {
            **similarity(plan, picture),
            **attention(plan),
            "max_logit": max_logit(plan, picture),
            **recall(plan, pictures, number),
        }
        for number, picture in enumerate(pictures)
    ]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def alike(picture: Picture) -> Array:
    """How far two patches' stored angles agree [V, V]: the mean cos of their differences over layers."""
    cos, sin = np.cos(picture.angles), np.sin(picture.angles)
    return np.asarray((cos @ cos.T + sin @ sin.T) / picture.angles.shape[1])


def cosines(plan: Plan, picture: Picture, layer: int) -> Array:
    """Between every two positions [N, N] at ``layer``; of massive ones as of the layer that made them so."""
    when = np.full(LENGTH, layer)
    when[list(plan.massive.positions)] = min(layer, plan.massive.layer)
    size = np.where(SEEN, plan.visual_common[when], plan.text_common[when])
    angle = np.zeros(LENGTH)
    angle[SEEN] = plan.angle[when[SEEN]] + picture.angles[np.arange(VISUAL), when[SEEN]]
    products = MARK * (SEEN[:, None] == SEEN)
    products[np.ix_(SEEN, SEEN)] += STORED * alike(picture)
    products += np.outer(size, size) * np.cos(angle[:, None] - angle)
    grown = np.sqrt(plan.norm(layer) ** 2 - 1)
    return np.asarray((products + np.outer(grown, grown)) / np.outer(plan.norm(layer), plan.norm(layer)))


def similarity(plan: Plan, picture: Picture) -> dict[str, Array]:
    """inter, intra and the same without sinks [L + 1] (paper eq. 1; means over pairs i != j)."""
    found: dict[str, list[float]] = {}
    for layer in range(plan.layers + 1):
        massive = plan.norm(layer) > 1
        pairs = cosines(plan, picture, layer)
        for ending, kept in (("", np.ones(LENGTH, dtype=bool)), ("_nosink", ~massive)):
            for name, value in _means(pairs, SEEN & kept, ~SEEN & kept).items():
                found.setdefault(name + ending, []).append(value)
        found.setdefault("sinks", []).append(float(massive.sum()))
    return {name: np.array(values) for name, values in found.items()}


def _means(pairs: Array, visual: Mask, text: Mask) -> dict[str, float]:
    within = {name: pairs[np.ix_(who, who)] for name, who in (("visual", visual), ("text", text))}
    found = {"inter": float(pairs[np.ix_(visual, text)].mean())}
    for name, block in within.items():
        found[f"intra_{name}"] = float(block[~np.eye(len(block), dtype=bool)].mean())
    return found


def norms(plan: Plan) -> Array:
    """a_j = || sum_h alpha_h v_h W_O^h || of the last text token [L, N] (paper section 3.2)."""
    told = plan.attention
    weights = np.exp(told.logits)
    alpha = weights / weights.sum(-1, keepdims=True)
    summed = np.abs(np.einsum("h,lhn->ln", told.signs, alpha))
    entering = np.stack([plan.norm(layer) for layer in range(plan.layers)])
    return np.asarray(summed / entering * told.strength[:, None] * WHISPER * Space(plan.layers).scale)


def attention(plan: Plan) -> dict[str, Array]:
    """The shares, the ratio and the total [L + 1]."""
    norm = norms(plan)
    total = norm.sum(1)
    first_visual = np.flatnonzero(SEEN)[:FIRST]
    found = {
        "share_first5": norm[:, :FIRST].sum(1) / total,
        "share_first5_visual": norm[:, first_visual].sum(1) / total,
        "share_visual": norm[:, SEEN].sum(1) / total,
        "share_text": norm[:, ~SEEN].sum(1) / total,
        "share_self": norm[:, -1] / total,
        "ratio_first5": norm[:, :FIRST].mean(1) / norm[:, FIRST:].mean(1),
        "total": total,
    }
    return {name: np.concatenate([[np.nan], values]) for name, values in found.items()}


def max_logit(plan: Plan, picture: Picture) -> Array:
    """Mean over patches of the largest logit [L + 1]: 1 of a noun, 2 of what is quiet, 0 of nothing at all.

    The final norm makes it smaller where a state is massive.
    """
    slot, carried = np.arange(VISUAL) % SLOTS, np.array(picture.carried) >= 0
    found = []
    for layer in range(plan.layers + 1):
        when = np.full(LENGTH, layer)
        when[list(plan.massive.positions)] = min(layer, plan.massive.layer)
        logits = np.where(slot < np.array(plan.heard)[when[SEEN]], carried, 2)
        found.append((logits / plan.norm(layer)[SEEN]).mean())
    return np.array(found)


def recall(plan: Plan, pictures: list[Picture], number: int) -> dict[str, Array]:
    """Recall against a picture's own captions and the next one's [L + 1] (paper section 3.3)."""
    own = _said(number)
    other = _said((number + 1) % len(pictures))
    decoded = [set(pictures[number].nouns[:heard]) - {-1} for heard in plan.heard]
    hits = {
        name: np.array([len(words & said) / SLOTS for words in decoded])
        for name, said in (("recall", own), ("recall_other", other))
    }
    return {**hits, "lift": hits["recall"] - hits["recall_other"]}


def _said(number: int) -> set[int]:
    """The nouns in a picture's captions."""
    return {(4 * number + slot) % len(NOUNS) for slot in range(SLOTS)}

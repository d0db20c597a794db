"""The closed form: the curves that phasebench must measure in an oracle, from the plan alone.

No state is computed here. The cosine of two positions follows from their modalities, sizes and angles;
attention from the chosen logits; recall from the chosen words.

Shapes: L + 1 layers, N positions, V visual ones, H heads.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from phasebench.curves import Array
from tests.oracles.plan import SLOTS, Picture, Plan
from tests.oracles.space import LENGTH, MARK, NOUNS, SMALL_SIZE, STORED, VISUAL, Space, modality_positions

FIRST = 5
"""Section 3.2: 'the first five tokens'; not imported, to be independent of the measurement."""
Mask = npt.NDArray[np.bool_]
IS_VISUAL = np.isin(np.arange(LENGTH), modality_positions(visual=True))
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


def angle_agreement(picture: Picture) -> Array:
    """How far two patches' stored angles agree [V, V]: the mean cos of their differences over layers."""
    cos, sin = np.cos(picture.angles), np.sin(picture.angles)
    return np.asarray((cos @ cos.T + sin @ sin.T) / picture.angles.shape[1])


def cosines(plan: Plan, picture: Picture, layer: int) -> Array:
    """Between every two positions [N, N] at ``layer``; massive states do not change after their layer."""
    layers = np.full(LENGTH, layer)
    layers[list(plan.massive.positions)] = min(layer, plan.massive.layer)
    size = np.where(IS_VISUAL, plan.visual_common[layers], plan.text_common[layers])
    angle = np.zeros(LENGTH)
    angle[IS_VISUAL] = plan.angle[layers[IS_VISUAL]] + picture.angles[np.arange(VISUAL), layers[IS_VISUAL]]
    products = MARK * (IS_VISUAL[:, None] == IS_VISUAL)
    products[np.ix_(IS_VISUAL, IS_VISUAL)] += STORED * angle_agreement(picture)
    products += np.outer(size, size) * np.cos(angle[:, None] - angle)
    grown = np.sqrt(plan.norm(layer) ** 2 - 1)
    return np.asarray((products + np.outer(grown, grown)) / np.outer(plan.norm(layer), plan.norm(layer)))


def similarity(plan: Plan, picture: Picture) -> dict[str, Array]:
    """inter, intra and the same without sinks [L + 1] (paper eq. 1; means over pairs i != j)."""
    curves: dict[str, list[float]] = {}
    for layer in range(plan.layers + 1):
        massive = plan.norm(layer) > 1
        pairs = cosines(plan, picture, layer)
        for ending, mask in (("", np.ones(LENGTH, dtype=bool)), ("_nosink", ~massive)):
            for name, value in _means(pairs, IS_VISUAL & mask, ~IS_VISUAL & mask).items():
                curves.setdefault(name + ending, []).append(value)
        curves.setdefault("sinks", []).append(float(massive.sum()))
    return {name: np.array(values) for name, values in curves.items()}


def _means(pairs: Array, visual: Mask, text: Mask) -> dict[str, float]:
    within = {name: pairs[np.ix_(mask, mask)] for name, mask in (("visual", visual), ("text", text))}
    means = {"inter": float(pairs[np.ix_(visual, text)].mean())}
    for name, block in within.items():
        means[f"intra_{name}"] = float(block[~np.eye(len(block), dtype=bool)].mean())
    return means


def norms(plan: Plan) -> Array:
    """a_j = || sum_h alpha_h v_h W_O^h || of the last text token [L, N] (paper section 3.2)."""
    weights = np.exp(plan.attention.logits)
    alpha = weights / weights.sum(-1, keepdims=True)
    summed = np.abs(np.einsum("h,lhn->ln", plan.attention.signs, alpha))
    entering = np.stack([plan.norm(layer) for layer in range(plan.layers)])
    return np.asarray(
        summed / entering * plan.attention.strength[:, None] * SMALL_SIZE * Space(plan.layers).scale
    )


def attention(plan: Plan) -> dict[str, Array]:
    """The shares, the ratio and the total [L + 1]."""
    norm = norms(plan)
    total = norm.sum(1)
    first_visual = np.flatnonzero(IS_VISUAL)[:FIRST]
    curves = {
        "share_first5": norm[:, :FIRST].sum(1) / total,
        "share_first5_visual": norm[:, first_visual].sum(1) / total,
        "share_visual": norm[:, IS_VISUAL].sum(1) / total,
        "share_text": norm[:, ~IS_VISUAL].sum(1) / total,
        "share_self": norm[:, -1] / total,
        "ratio_first5": norm[:, :FIRST].mean(1) / norm[:, FIRST:].mean(1),
        "total": total,
    }
    return {name: np.concatenate([[np.nan], values]) for name, values in curves.items()}


def max_logit(plan: Plan, picture: Picture) -> Array:
    """Mean over patches of the largest logit [L + 1].

    It is 1 for a decoded noun, 0 for a missing noun, and 2 where no word is decoded.

    The final norm makes it smaller where a state is massive.
    """
    slot, has_noun = np.arange(VISUAL) % SLOTS, np.array(picture.patch_nouns) >= 0
    means = []
    for layer in range(plan.layers + 1):
        layers = np.full(LENGTH, layer)
        layers[list(plan.massive.positions)] = min(layer, plan.massive.layer)
        logits = np.where(slot < np.array(plan.decoded_words)[layers[IS_VISUAL]], has_noun, 2)
        means.append((logits / plan.norm(layer)[IS_VISUAL]).mean())
    return np.array(means)


def recall(plan: Plan, pictures: list[Picture], number: int) -> dict[str, Array]:
    """Recall against a picture's own captions and the next one's [L + 1] (paper section 3.3)."""
    own = _captioned_nouns(number)
    other = _captioned_nouns((number + 1) % len(pictures))
    decoded = [set(pictures[number].nouns[:count]) - {-1} for count in plan.decoded_words]
    hits = {
        name: np.array([len(words & captioned) / SLOTS for words in decoded])
        for name, captioned in (("recall", own), ("recall_other", other))
    }
    lift = hits["recall"] - hits["recall_other"]
    return {**hits, "recall_whole": hits["recall"], "lift": lift}  # its tokenizer splits no word


def _captioned_nouns(number: int) -> set[int]:
    """The nouns in a picture's captions."""
    return {(4 * number + slot) % len(NOUNS) for slot in range(SLOTS)}

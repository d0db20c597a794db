"""Fig. 4: the first five positions get more attention than the others, even more in the later half."""

from __future__ import annotations

import numpy as np

from phasebench import Condition, Evidence, Verdict, contrasts, estimate, estimates, finding, verdict
from phasebench.curves import Array, known_mean

RATIO = "ratio_first5"


@finding(
    claim=(
        "The first five positions get more than the others' mean at every layer, "
        "and more so from the middle on."
    ),
    source="Fig. 4, section 3.2",
    needs=(RATIO,),
    order=3,
)
def test_attention_sinks(evidence: Evidence) -> Verdict:
    """The ratio is above 1 at each of layers 1..L, and its mean is larger over the later half of them.

    The ratio is the mean norm of the first five positions over the mean of the others.
    """
    curves = evidence.curves
    mean = curves.mean(RATIO)
    layers = np.flatnonzero(np.isfinite(mean))  # some models attend at some layers only
    ratios = estimates(curves, (RATIO,), lambda means: means[RATIO][..., layers])
    growth = estimate(curves, (RATIO,), lambda means: later_minus_earlier(means[RATIO][..., layers]))
    conditions = [
        *(
            Condition(f"ratio at layer {layer}", ratio, 1.0, family="ratio")
            for layer, ratio in zip(layers, ratios, strict=True)
        ),
        Condition("later half's ratio minus the earlier's", growth),
    ]
    above = int((mean[layers] > 1).sum())
    detail = f"ratio above 1 at {above} of {len(layers)} layers, {np.mean(mean[layers]):.2f} on average"
    controls = contrasts(
        curves,
        evidence.controls,
        (RATIO,),
        lambda means: known_mean(means[RATIO], axis=-1),
        quantity="mean ratio over layers",
    )
    return verdict(conditions, detail, controls)


def later_minus_earlier(ratio: Array) -> Array:
    """Mean over the later half of the layers minus mean over the earlier half [...]."""
    half = ratio.shape[-1] // 2
    return known_mean(ratio[..., half:], axis=-1) - known_mean(ratio[..., :half], axis=-1)

"""The curves: one row each, and everything that the rest of phasebench knows of a curve is in its row.

The measurement computes a value under each name; records, tolerances, causes, calibration, tables, figures,
the results file and its documentation read the rest from here. Light, so that collecting needs no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

Part = Literal["similarity", "attention", "lens"]
"""What a model can be measured on; some models can be only in part."""
FIRST_POSITIONS = 5
"""The paper's 'first several tokens' (section 3.2), of ``share_first5`` and ``ratio_first5``."""
WORD = 0.5
"""What one caption word is worth in the recall of an image that has two."""


class Scale(Enum):
    """What numerical noise in a curve is relative to."""

    ABSOLUTE = "absolute"
    """The curve is bounded: its noise does not grow with its size."""
    RELATIVE = "relative"
    """The curve has no bound: its noise grows with its value at the layer."""
    LARGEST = "largest"
    """A value near 0 is a sum of large products: noise grows with the curve's largest value."""


class Captions(Enum):
    """Whose captions an image's value depends on."""

    NONE = "none"
    OWN = "own"
    OTHERS = "others"
    """Also on those of other images, and so on which images were drawn."""


@dataclass(frozen=True)
class ModelsFigure:
    """A figure in which several models' curves stand side by side.

    Attributes:
        number: of the paper's figure.
        title: what it shows.
        axis: label of the vertical axis.
    """

    number: str
    title: str
    axis: str


@dataclass(frozen=True)
class Curve:
    """A curve: one number per image and layer.

    Attributes:
        name: its column in tables, and its baseline's file.
        part: what a model must be measurable on to have it.
        symbol: what formulas in the documentation call it.
        unit: with its range where it has one.
        meaning: what it is, in one phrase.
        label: its name in a figure's legend.
        scale: what its numerical noise is relative to.
        step: of a curve that counts, what one near-tie that falls the other way does to an image's value: a
            position at the sinks' threshold, a caption word; 0 where nothing is counted.
        captions: whose captions its values depend on.
        figures: the figures of a run that draw it.
        models_figure: the figure in which several models' curves are compared; None if there is none.
        shown: drawn in the terminal without ``-v``.
    """

    name: str
    part: Part
    symbol: str
    unit: str
    meaning: str
    label: str = ""
    scale: Scale = Scale.ABSOLUTE
    step: float = 0.0
    captions: Captions = Captions.NONE
    figures: tuple[str, ...] = ()
    models_figure: ModelsFigure | None = None
    shown: bool = False


_COSINE, _SHARE, _RECALL = "cosine, -1 to 1", "share of the norm, 0 to 1", "share of words, 0 to 1"

CATALOG: tuple[Curve, ...] = (
    Curve(
        "inter", "similarity", "s(V,T)", _COSINE, "similarity between image and text (eq. 1)",
        "image to text", figures=("figure-1", "figure-3"), shown=True,
        models_figure=ModelsFigure("Figure 1", "Similarity between image and text", "mean cosine"),
    ),
    Curve(
        "intra_visual", "similarity", "s(V,V)", _COSINE, "similarity within the image", "within the image",
        figures=("figure-3",), shown=True,
        models_figure=ModelsFigure("Figure 3", "Similarity within the image", "mean cosine"),
    ),
    Curve(
        "intra_text", "similarity", "s(T,T)", _COSINE, "similarity within the text", "within the text",
        figures=("figure-3",), shown=True,
        models_figure=ModelsFigure("Figure 3", "Similarity within the text", "mean cosine"),
    ),
    Curve("inter_nosink", "similarity", "s'(V,T)", _COSINE, "`inter` without sink positions"),
    Curve("intra_visual_nosink", "similarity", "s'(V,V)", _COSINE, "`intra_visual` without sink positions"),
    Curve("intra_text_nosink", "similarity", "s'(T,T)", _COSINE, "`intra_text` without sink positions"),
    Curve("sinks", "similarity", "|S|", "positions", "how many positions are sinks", step=1.0),
    Curve(
        "share_first5", "attention", "A(1..5)", _SHARE,
        "what the last text token takes from the first 5 positions", "first 5 positions",
        figures=("figure-4-shares",),
        models_figure=ModelsFigure("Figure 4", "Attention on the first 5 positions", "share of the norm"),
    ),
    Curve(
        "share_first5_visual", "attention", "A(V1..5)", _SHARE,
        "what it takes from the first 5 image tokens", "first 5 image tokens", figures=("figure-4-shares",),
    ),
    Curve(
        "share_visual", "attention", "A(V)", _SHARE, "what it takes from all image tokens", "image tokens",
        figures=("figure-4-shares",),
    ),
    Curve(
        "share_text", "attention", "A(T)", _SHARE, "what it takes from all text", "text",
        figures=("figure-4-shares",),
    ),
    Curve("share_self", "attention", "A(t)", _SHARE, "what it takes from itself"),
    Curve(
        "ratio_first5", "attention", "r", "ratio, 0 or more",
        "mean norm of the first 5 positions over the mean of all others", scale=Scale.RELATIVE, shown=True,
    ),
    Curve(
        "total", "attention", "A", "norm of the hidden states", "sum of the norms over all positions",
        scale=Scale.RELATIVE, shown=True,
        models_figure=ModelsFigure("Figure 4", "Attention of the last text token in all", "sum of norms"),
    ),
    Curve(
        "max_logit", "lens", "z", "logit", "mean over image tokens of the largest logit", scale=Scale.LARGEST,
    ),
    Curve(
        "recall", "lens", "R", _RECALL, "caption words that the image tokens decode to", "own captions",
        step=WORD, captions=Captions.OWN, figures=("figure-5",), shown=True,
        models_figure=ModelsFigure("Figure 5", "Caption words that the image tokens decode to", "recall"),
    ),
    Curve(
        "recall_other", "lens", "R'", _RECALL, "the same with another image's captions",
        "another image's captions", step=WORD, captions=Captions.OTHERS, figures=("figure-5",),
    ),
    Curve(
        "lift", "lens", "R - R'", "difference of recalls, -1 to 1", "`recall` minus `recall_other`",
        "lift: own minus other", step=WORD, captions=Captions.OTHERS, figures=("figure-5",), shown=True,
    ),
)  # fmt: skip
"""In the order of every table."""
BY_NAME = {curve.name: curve for curve in CATALOG}
CURVES = tuple(BY_NAME)
"""Every curve that a measurement has, and so every baseline file of a model and dataset."""


def of_part(part: Part) -> tuple[str, ...]:
    """The names of the curves of one part."""
    return tuple(curve.name for curve in CATALOG if curve.part == part)


PARTS: dict[Part, tuple[str, ...]] = {curve.part: of_part(curve.part) for curve in CATALOG}
"""Part -> its curves."""
OF_CAPTIONS = tuple(curve.name for curve in CATALOG if curve.captions is not Captions.NONE)
"""Curves that a forward pass alone does not give."""
OF_OTHER_CAPTIONS = tuple(curve.name for curve in CATALOG if curve.captions is Captions.OTHERS)
"""Curves whose values depend on which other images were drawn."""
SIMILARITY, ATTENTION, LENS = PARTS["similarity"], PARTS["attention"], PARTS["lens"]

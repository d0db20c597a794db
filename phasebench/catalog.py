"""The catalog of curves: one row for each curve, with every fact about it that other modules need.

The measurement computes the values under these names. Records, tolerances, causes, calibration, tables,
figures, the results file and its documentation read all other facts here. This module imports nothing heavy,
so that collecting test cases needs no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

Part = Literal["similarity", "attention", "lens"]
"""The three parts of a measurement; in some architectures not every part can be measured."""
FIRST_POSITIONS = 5
"""Positions in ``share_first5`` and ``ratio_first5``: the paper's 'first five tokens' (section 3.2)."""
WORD = 0.5
"""The change in recall by one caption word, for an image that has two."""


class Scale(Enum):
    """The size that a curve's numerical noise is relative to."""

    ABSOLUTE = "absolute"
    """The curve is bounded: its noise does not grow with its size."""
    RELATIVE = "relative"
    """The curve has no bound: its noise grows with its value at the layer."""
    LARGEST = "largest"
    """A value near 0 may be a sum of large products: its noise grows with the curve's largest value."""


class Captions(Enum):
    """The captions that an image's value depends on."""

    NONE = "none"
    OWN = "own"
    OTHERS = "others"
    """The image's own captions and those of another image, and so on which images were drawn."""


@dataclass(frozen=True)
class ModelsFigure:
    """A figure that compares one curve between several models.

    Attributes:
        number: the paper's figure, such as ``Figure 1``.
        title: the figure's title.
        axis: the label of the vertical axis.
    """

    number: str
    title: str
    axis: str


@dataclass(frozen=True)
class Curve:
    """A curve: one number per image and layer.

    Attributes:
        name: its column in tables, and the name of its baseline's file.
        part: the part of the measurement that it belongs to.
        symbol: its symbol in the documentation's formulas.
        unit: its unit, with its range if it has one.
        meaning: its meaning in one phrase.
        label: its name in a figure's legend.
        scale: the size that its numerical noise is relative to.
        step: for a curve that counts: the change in an image's value if one near-tie goes the other way (a
            position at the threshold of sinks, a caption word); 0 for curves that do not count.
        captions: the captions that its values depend on.
        figures: the ids of the figures of a run that draw it.
        models_figure: the figure that compares it between models; None if there is none.
        in_summary: whether the terminal shows it without ``-v``.
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
    in_summary: bool = False


_COSINE, _SHARE, _RECALL = "cosine, -1 to 1", "share of the norm, 0 to 1", "share of words, 0 to 1"

CATALOG: tuple[Curve, ...] = (
    Curve(
        "inter", "similarity", "s(V,T)", _COSINE, "similarity between image and text (eq. 1)",
        "image to text", figures=("figure-1", "figure-3"), in_summary=True,
        models_figure=ModelsFigure("Figure 1", "Similarity between image and text", "mean cosine"),
    ),
    Curve(
        "intra_visual", "similarity", "s(V,V)", _COSINE, "similarity within the image", "within the image",
        figures=("figure-3",), in_summary=True,
        models_figure=ModelsFigure("Figure 3", "Similarity within the image", "mean cosine"),
    ),
    Curve(
        "intra_text", "similarity", "s(T,T)", _COSINE, "similarity within the text", "within the text",
        figures=("figure-3",), in_summary=True,
        models_figure=ModelsFigure("Figure 3", "Similarity within the text", "mean cosine"),
    ),
    Curve("inter_nosink", "similarity", "s'(V,T)", _COSINE, "`inter` without sink positions"),
    Curve("intra_visual_nosink", "similarity", "s'(V,V)", _COSINE, "`intra_visual` without sink positions"),
    Curve("intra_text_nosink", "similarity", "s'(T,T)", _COSINE, "`intra_text` without sink positions"),
    Curve("sinks", "similarity", "|S|", "positions", "number of positions that are sinks", step=1.0),
    Curve(
        "share_first5", "attention", "A(1..5)", _SHARE,
        "share of the last text token's attention on the first 5 positions", "first 5 positions",
        figures=("figure-4-shares",),
        models_figure=ModelsFigure("Figure 4", "Attention on the first 5 positions", "share of the norm"),
    ),
    Curve(
        "share_first5_visual", "attention", "A(V1..5)", _SHARE,
        "share of the last text token's attention on the first 5 image tokens", "first 5 image tokens",
        figures=("figure-4-shares",),
    ),
    Curve(
        "share_visual", "attention", "A(V)", _SHARE,
        "share of the last text token's attention on all image tokens", "image tokens",
        figures=("figure-4-shares",),
    ),
    Curve(
        "share_text", "attention", "A(T)", _SHARE,
        "share of the last text token's attention on all text positions", "text",
        figures=("figure-4-shares",),
    ),
    Curve(
        "share_self", "attention", "A(t)", _SHARE, "share of the last text token's attention on itself",
    ),
    Curve(
        "ratio_first5", "attention", "r", "ratio, 0 or more",
        "mean norm of the first 5 positions divided by the mean norm of the others",
        scale=Scale.RELATIVE, in_summary=True,
    ),
    Curve(
        "total", "attention", "A", "norm of the hidden states",
        "sum of the norms of all positions' contributions", scale=Scale.RELATIVE, in_summary=True,
        models_figure=ModelsFigure("Figure 4", "Attention of the last text token in all", "sum of norms"),
    ),
    Curve(
        "max_logit", "lens", "z", "logit", "largest logit at an image token, mean over image tokens",
        scale=Scale.LARGEST,
    ),
    Curve(
        "recall", "lens", "R", _RECALL, "share of the caption words that the image tokens decode to",
        "own captions", step=WORD, captions=Captions.OWN, figures=("figure-5",), in_summary=True,
        models_figure=ModelsFigure("Figure 5", "Caption words that the image tokens decode to", "recall"),
    ),
    Curve(
        "recall_whole", "lens", "R_w", _RECALL, "`recall` without hits by a word's first piece",
        "own captions, whole words", step=WORD, captions=Captions.OWN, figures=("figure-5",),
    ),
    Curve(
        "recall_other", "lens", "R'", _RECALL, "the same share of another image's caption words",
        "another image's captions", step=WORD, captions=Captions.OTHERS, figures=("figure-5",),
    ),
    Curve(
        "lift", "lens", "R - R'", "difference of recalls, -1 to 1", "`recall` minus `recall_other`",
        "lift: own minus other", step=WORD, captions=Captions.OTHERS, figures=("figure-5",), in_summary=True,
    ),
)  # fmt: skip
"""All curves, in the order of every table."""
BY_NAME = {curve.name: curve for curve in CATALOG}
CURVES = tuple(BY_NAME)
"""The names of all curves; a model and dataset has one baseline file for each."""


def curves_of_part(part: Part) -> tuple[str, ...]:
    """The names of the curves of one part of the measurement."""
    return tuple(curve.name for curve in CATALOG if curve.part == part)


PARTS: dict[Part, tuple[str, ...]] = {curve.part: curves_of_part(curve.part) for curve in CATALOG}
"""Part of the measurement -> the names of its curves."""
OF_CAPTIONS = tuple(curve.name for curve in CATALOG if curve.captions is not Captions.NONE)
"""Names of the curves that depend on captions; a forward pass alone does not give them."""
OF_OTHER_CAPTIONS = tuple(curve.name for curve in CATALOG if curve.captions is Captions.OTHERS)
"""Names of the curves that depend on which other images were drawn."""
SIMILARITY, ATTENTION, LENS = PARTS["similarity"], PARTS["attention"], PARTS["lens"]

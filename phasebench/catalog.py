"""The names of curves and findings, in the order of every table; light, so that collecting needs no torch."""

from __future__ import annotations

SIMILARITY = (
    "inter", "intra_visual", "intra_text",
    "inter_nosink", "intra_visual_nosink", "intra_text_nosink", "sinks",
)  # fmt: skip
ATTENTION = (
    "share_first5", "share_first5_visual", "share_visual", "share_text", "share_self",
    "ratio_first5", "total",
)  # fmt: skip
FIRST_POSITIONS = 5
"""The paper's 'first several tokens' (section 3.2), of ``share_first5`` and ``ratio_first5``."""
MAX_LOGIT = "max_logit"
RECALLS = ("recall", "recall_other", "lift")
LENS = (MAX_LOGIT, *RECALLS)
PARTS = {"similarity": SIMILARITY, "attention": ATTENTION, "lens": LENS}
"""What a model can be measured on; some can be only in part."""
CURVES = (*SIMILARITY, *ATTENTION, *LENS)
"""Every curve that a measurement has, and so every baseline file of a model and dataset."""
FINDINGS = (
    "inter_below_intra", "four_phases", "attention_sinks", "attention_rise_and_drop",
    "lens_recall_peak", "lens_follows_phases",
)  # fmt: skip
"""The paper's findings; one file each in ``cases/``."""
SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
"""Letters of what names files: of models and findings."""

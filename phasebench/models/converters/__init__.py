"""MiniGPT-4, MiniGPT-v2 and LiMBeR, converted from their official files into standard folders.

None of the three is published in the Hugging Face layout. ``python -m phasebench convert`` writes such
a folder from the files that their authors published. MiniGPT-4 needs no model class of its own; each of the
other two has one, which ``register`` adds to transformers' Auto classes.
"""

from __future__ import annotations

import json
from pathlib import Path

MODEL_TYPES = ("minigpt_v2", "limber")
"""The ``model_type`` of the folders that load only after ``register``."""


def register_for(path: Path) -> None:
    """Call ``register`` if a folder's configuration, or a configuration file, has one of ``MODEL_TYPES``."""
    path = path / "config.json" if path.is_dir() else path
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return  # loading it will raise the error
    if isinstance(config, dict) and config.get("model_type") in MODEL_TYPES:
        register()


def register() -> None:
    """Make the Auto classes of transformers load ``minigpt_v2`` and ``limber``; a second call does nothing.

    It is a function because importing the models' parts takes time that other models need not spend.
    """
    from transformers import AutoConfig, AutoModelForImageTextToText

    from phasebench.models.converters import limber, minigpt_v2

    for config, model in (
        (minigpt_v2.MiniGPTv2Config, minigpt_v2.MiniGPTv2ForConditionalGeneration),
        (limber.LimberConfig, limber.LimberForConditionalGeneration),
    ):
        AutoConfig.register(config.model_type, config, exist_ok=True)
        AutoModelForImageTextToText.register(config, model, exist_ok=True)

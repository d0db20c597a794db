"""What the models of LAVIS share: the Q-Former, the projection after it, and where the vision encoder lies.

The official code: https://github.com/salesforce/LAVIS, ``lavis/models/blip2_models``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from phasebench.errors import InputError
from phasebench.models.converters.official_files import Part, Piece, Shape, Source, pickle_source, rename
from phasebench.models.converters.shared_parts import eva_unused_pattern

QFORMER_PARTS = ("qformer.", "query_tokens", "vision_model.post_layernorm.")
QFORMER_NAMES = (
    (r"^vision_model\.post_layernorm\.", "ln_vision."),
    (r"^qformer\.(embeddings\.)?layernorm\.", "Qformer.bert.embeddings.LayerNorm."),
    (r"^qformer\.", "Qformer.bert."),
    (r"attention\.attention\.", "attention.self."),
)
TEXT_BRANCH_UNUSED = "|".join(
    [
        r"t5_proj\.(weight|bias)",  # BLIP-2's projector to T5, in place of which there is another
        r"Qformer\.cls\..*",  # from here on: the text branch, which models without instructions delete
        r"Qformer\.bert\.embeddings\.(word_embeddings\.weight|position_embeddings\.weight|position_ids)",
        r"Qformer\.bert\.encoder\.layer\.\d+\.(intermediate|output)\..*",
    ]
)
VISION = "visual_encoder."


def qformer_pieces(shapes: Mapping[str, Shape], source: str) -> Iterator[Piece]:
    """The pieces of the Q-Former with its queries and the norm before it, from the source ``source``."""
    for name, shape in shapes.items():
        if name.startswith(QFORMER_PARTS):
            yield Piece(name, shape, [Part(source, rename(name, QFORMER_NAMES), shape)])


def projection_pieces(shapes: Mapping[str, Shape], official: str) -> Iterator[Piece]:
    """The pieces of the projection, which is called ``official`` in the source ``checkpoint``."""
    for name, shape in shapes.items():
        if name.startswith("language_projection."):
            part = Part("checkpoint", name.replace("language_projection", official), shape)
            yield Piece(name, shape, [part])


def read_sources(checkpoint: Path, vit: Path | None, depth: int, unused: str) -> dict[str, Source]:
    """The sources ``checkpoint`` and ``vit``; a checkpoint may have a vision encoder of its own.

    Args:
        checkpoint: LAVIS' file.
        vit: the vision encoder's file.
        depth: number of the vision encoder's blocks.
        unused: pattern of the names in LAVIS' file that the model does not need.

    Raises:
        InputError: a file is missing, or there is no vision encoder.
    """
    whole = pickle_source(checkpoint, section="model", unused=unused)
    own = {name: shape for name, shape in whole.shapes.items() if name.startswith(VISION)}
    rest = {name: shape for name, shape in whole.shapes.items() if name not in own}
    vit_unused = eva_unused_pattern(depth)
    if own:
        shapes = {name.removeprefix(VISION): shape for name, shape in own.items()}
        vision = Source(checkpoint, shapes, lambda name: whole.read(f"{VISION}{name}"), vit_unused)
    elif vit is None:
        raise InputError(f"{checkpoint} has no vision encoder; name BLIP-2's eva_vit_g.pth with --vit")
    else:
        vision = pickle_source(vit, unused=vit_unused)
    return {"checkpoint": Source(checkpoint, rest, whole.read, unused), "vit": vision}

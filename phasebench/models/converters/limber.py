"""LiMBeR (Merullo et al. 2022): a frozen BEiT, one linear layer, a frozen GPT-J.

transformers has no such model. Here it is a LLaVA with these three parts. The official code:
https://github.com/jmerullo/limber; of its encoders only BEiT is a transformers model, so only its two
variants (``beit_linear``, ``beit_ft_linear``) can be converted.

Shapes: B images, N positions (of an image: one for each patch), D width of the GPT-J, H heads of width W.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    AutoModel,
    BeitModel,
    LlavaConfig,
    LlavaForConditionalGeneration,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.auto.image_processing_auto import AutoImageProcessor  # not a stand-in before 5.20
from transformers.models.gptj.modeling_gptj import GPTJAttention
from transformers.models.llava.modeling_llava import LlavaModel, LlavaPreTrainedModel

from phasebench.errors import InputError
from phasebench.models.converters import shared_parts as parts
from phasebench.models.converters.official_files import Part, Piece, Source, pickle_source, shapes_on_meta

PROMPT = "<image>A picture of"
TEMPLATE = (
    "{% for part in messages[0]['content'] %}{% if part['type'] == 'image' %}<image>{% endif %}{% endfor %}"
    "A picture of"
)
"""The paper's prompt whatever the message says: the model was trained on captions and takes no request."""
VISION_UNUSED = r"(beit\.)?pooler\..*|lm_head\..*|classifier\..*|layernorm\..*"
"""Heads of the published BEiTs (masked images, classes) and the norms that go with them."""
GPTJ_NAMES = ((r"^model\.language_model\.", "transformer."),)
TOWER = "model.vision_tower."


class LimberConfig(LlavaConfig):  # type: ignore[misc]
    """A LLaVA configuration whose parts are BEiT and GPT-J."""

    model_type = "limber"


def eager_attention_forward(
    module: Any,
    query_BHNW: Tensor,
    key_BHNW: Tensor,
    value_BHNW: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """GPT-J's attention (B, N, H, W) and its weights, with scores in float32 as the stock class has them."""
    scores_BHNN = query_BHNW.float() @ key_BHNW.float().mT * scaling
    if attention_mask is not None:
        scores_BHNN = scores_BHNN + attention_mask
    weights_BHNN = F.dropout(scores_BHNN.softmax(-1).to(value_BHNW.dtype), dropout, module.training)
    return (weights_BHNN @ value_BHNW).transpose(1, 2), weights_BHNN


class ObservableAttention(GPTJAttention):  # type: ignore[misc]
    """GPT-J's attention, called through transformers' attention interface.

    The stock class computes it inline, where it cannot be watched.
    """

    def _attn(
        self, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        function = ALL_ATTENTION_FUNCTIONS.get_interface("eager", eager_attention_forward)
        options = {"scaling": 1 / self.scale_attn, "dropout": self.attn_dropout.p}
        mixed_BNHW, weights_BHNN = function(self, query, key, value, attention_mask, **options)
        return mixed_BNHW.transpose(1, 2), weights_BHNN


class LimberModel(LlavaModel):  # type: ignore[misc]
    """LLaVA's model of image and text, with BEiT, GPT-J, and one linear layer as the projector."""

    config_class = LimberConfig

    def __init__(self, config: Any) -> None:
        LlavaPreTrainedModel.__init__(self, config)  # LlavaModel's own would build another projector first
        self.vision_tower = BeitModel._from_config(config.vision_config, add_pooling_layer=False)
        self.multi_modal_projector = nn.Linear(
            config.vision_config.hidden_size, config.text_config.hidden_size
        )
        self.language_model = AutoModel.from_config(config.text_config)
        for index, layer in enumerate(self.language_model.h):
            layer.attn = ObservableAttention(config.text_config, index)
        self.post_init()

    get_image_features = parts.projected_image_features


class LimberForConditionalGeneration(LlavaForConditionalGeneration):  # type: ignore[misc]
    """The model with GPT-J's head, which has a bias."""

    config_class = LimberConfig
    _tied_weights_keys: dict[str, str] = {}  # noqa: RUF012 - as transformers declares it

    def __init__(self, config: Any) -> None:
        LlavaPreTrainedModel.__init__(self, config)
        self.model = LimberModel(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size)
        self.post_init()


def full_config(vision_config: Any, text_config: Any, image_token_id: int) -> Any:
    """LiMBeR's configuration from the configurations of its two frozen parts."""
    return LimberConfig(
        vision_config=vision_config,
        text_config=text_config,
        image_token_index=image_token_id,
        image_seq_length=(vision_config.image_size // vision_config.patch_size) ** 2,
        vision_feature_layer=-1,
        architectures=["LimberForConditionalGeneration"],
    )


def table(config: Any, entries: int) -> list[Piece]:
    """Every tensor of the written model and its source; ``entries`` is the size of GPT-J's vocabulary."""
    shapes = shapes_on_meta(LimberForConditionalGeneration, config)
    gptj = {
        name: shape
        for name, shape in shapes.items()
        if name.startswith(("model.language_model.", "lm_head."))
    }
    pieces = list(parts.language_pieces(gptj, GPTJ_NAMES, entries))
    for name, shape in shapes.items():
        if name.startswith(TOWER):
            pieces.append(Piece(name, shape, [Part("vision", name.removeprefix(TOWER), shape)]))
        elif name.startswith("model.multi_modal_projector."):
            pieces.append(Piece(name, shape, [Part("projection", name.rpartition(".")[2], shape)]))
    return pieces


def read_vision(folder: Path) -> tuple[Any, Source]:
    """A BEiT's configuration and weights, read by transformers, which also reads older names.

    With 0.3 billion parameters it fits in memory as a whole.

    Raises:
        InputError: the folder cannot be loaded, is no BEiT, or lacks weights.
    """
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder / 'config.json'} is missing; give a BEiT in the Hugging Face layout")
    parts.language_config(folder, "beit")
    try:
        model, info = BeitModel.from_pretrained(
            folder, add_pooling_layer=False, local_files_only=True, output_loading_info=True, dtype="auto"
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, pickle.UnpicklingError) as error:
        raise InputError(f"{folder} cannot be loaded: {error}") from error
    if differences := list(_key_differences(info)):
        raise InputError(f"{folder} is not the expected BEiT: {'; '.join(differences)}")
    state = model.state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    return model.config, Source(folder, shapes, state.__getitem__)


def _key_differences(info: dict[str, Any]) -> Iterator[str]:
    unexpected = [name for name in info["unexpected_keys"] if not re.fullmatch(VISION_UNUSED, name)]
    for problem, names in (
        ("it lacks", info["missing_keys"]),
        ("it has in another shape", [str(key) for key in info["mismatched_keys"]]),
        ("it contains the unexpected", unexpected),
    ):
        if names:
            yield f"{problem} {', '.join(sorted(names))}"


def convert(vision_model: Path, language_model: Path, projection: Path, out: Path) -> Path:
    """Write LiMBeR as a standard folder.

    Args:
        vision_model: a folder with ``microsoft/beit-large-patch16-224-pt22k`` (or ``-ft22k``).
        language_model: a folder with GPT-J.
        projection: the official ``limber_weights/beit_linear/proj.ckpt`` (or ``beit_ft_linear``).
        out: the folder to make.

    Raises:
        InputError: a file is missing or is not the expected one; the message names it.
    """
    text = parts.language_config(language_model, "gptj")
    entries = text.vocab_size
    tokenizer = parts.image_tokenizer(language_model)
    vision, vision_source = read_vision(vision_model)
    config = full_config(vision, text, parts.add_image_token(text, tokenizer))
    try:
        images = AutoImageProcessor.from_pretrained(vision_model, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{vision_model}: its preprocessor_config.json cannot be read: {error}") from error
    sources = {
        "vision": vision_source,
        "language": parts.language_source(language_model),
        "projection": pickle_source(projection),
    }
    processor = parts.llava_processor(images, tokenizer, config.image_seq_length, vision.image_size, TEMPLATE)
    return parts.write_folder(out, config, processor, PROMPT, table(config, entries), sources)

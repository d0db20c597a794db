"""Faults of the vision encoder, the projector and the Q-Former."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from tests.faults.kinds import BLIP, FIRST, IMAGES, LAYOUT, files, memory
from tests.faults.patient import Patient, noise, random_weights_like, set_value

PARTS = (0.1, 0.5, 1.0)
RELATIVE = (1e-3, 1e-2, 1e-1)


@files("vision features of another layer", "-1 -> {}", (-2, -3, 1), IMAGES)
def choose_feature_layer(folder: Path, number: int) -> None:
    set_value(folder / "config.json", "vision_feature_layer", value=number)


@files("class token kept", "{}", ("by the model alone", "by the processor too"), LAYOUT)
def keep_class_token(folder: Path, where: str) -> None:
    set_value(folder / "config.json", "vision_feature_select_strategy", value="full")
    if where == "by the processor too":
        set_value(folder / "processor_config.json", "vision_feature_select_strategy", value="full")


@memory("patches' positions shifted", "by {}", (1, 6, 18), IMAGES)
def shift_patch_positions(patient: Patient, shift: int) -> None:
    positions = patient.vision_encoder.embeddings.position_embedding.weight.clone()
    positions[1:] = positions[1:].roll(shift, dims=0)
    patient.set_parameter(patient.vision_encoder.embeddings.position_embedding.weight, positions)


@files("vision encoder's activation", "quick_gelu -> {}", ("gelu", "silu", "relu"), IMAGES)
def replace_vision_activation(folder: Path, name: str) -> None:
    set_value(folder / "config.json", "vision_config", "hidden_act", value=name)


@files("vision encoder's norm epsilon", "1e-5 -> {}", (1e-6, 1e-3, 1e-1), IMAGES)
def set_vision_epsilon(folder: Path, value: float) -> None:
    set_value(folder / "config.json", "vision_config", "layer_norm_eps", value=value)


@files("vision encoder's heads", "4 -> {}", (2, 8, 16), IMAGES)
def miscount_vision_heads(folder: Path, count: int) -> None:
    set_value(folder / "config.json", "vision_config", "num_attention_heads", value=count)


def _add_noise(patient: Patient, module: nn.Module, relative: float) -> None:
    for seed, parameter in enumerate(module.parameters()):
        patient.set_parameter(parameter, parameter + noise(parameter, relative, seed))


@memory("noise on the vision encoder", "{:g} relative", RELATIVE, IMAGES)
def add_noise_to_vision_encoder(patient: Patient, relative: float) -> None:
    _add_noise(patient, patient.vision_encoder, relative)


@memory("noise on the projector", "{:g} relative", RELATIVE, IMAGES)
def add_noise_to_projector(patient: Patient, relative: float) -> None:
    _add_noise(patient, patient.projector, relative)


@memory("projector's bias dropped", "{:.0%} of it", PARTS, IMAGES)
def reduce_projector_bias(patient: Patient, part: float) -> None:
    for linear in patient.projections():
        patient.set_parameter(linear.bias, (1 - part) * linear.bias)


@memory("projector transposed", "a {:.0%} corner of it", PARTS, IMAGES)
def transpose_projector(patient: Patient, part: float) -> None:
    weight = patient.projections()[-1].weight
    side, changed_weight = round(part * min(weight.shape)), weight.clone()
    changed_weight[:side, :side] = weight[:side, :side].T
    patient.set_parameter(weight, changed_weight)


@memory("projector left at its initialisation", "{:.0%} of its rows", PARTS, IMAGES)
def reset_projector(patient: Patient, part: float) -> None:
    for seed, linear in enumerate(patient.projections()):
        rows, changed_weight = round(part * len(linear.weight)), linear.weight.clone()
        changed_weight[:rows] = random_weights_like(linear.weight, seed)[:rows]
        patient.set_parameter(linear.weight, changed_weight)


@memory("projector averaged with its start", "{:.0%} of the way", (0.01, 0.1, 0.5), IMAGES)
def average_projector(patient: Patient, part: float) -> None:
    for seed, linear in enumerate(patient.projections()):
        patient.set_parameter(
            linear.weight, torch.lerp(linear.weight, random_weights_like(linear.weight, seed), part)
        )


@memory("image features scaled", "times {}", (1.001, 1.05, 2.0), IMAGES)
def scale_features(patient: Patient, factor: float) -> None:
    patient.features(lambda features: features * factor)


@files("projector's activation", "gelu -> {}", ("gelu_pytorch_tanh", "quick_gelu", "relu"), IMAGES)
def replace_projector_activation(folder: Path, name: str) -> None:
    set_value(folder / "config.json", "projector_hidden_act", value=name)


@memory("projector's bias dropped", "{:.0%} of it", PARTS, IMAGES, BLIP)
def reduce_language_projection_bias(patient: Patient, part: float) -> None:
    reduce_projector_bias(patient, part)


@memory("image features scaled", "times {}", (1.001, 1.05, 2.0), IMAGES, BLIP)
def scale_query_features(patient: Patient, factor: float) -> None:
    scale_features(patient, factor)


@memory("queries lost (zero)", "{} of 16", (1, 4, 12), IMAGES, BLIP)
def lose_queries(patient: Patient, count: int) -> None:
    queries = patient.model.query_tokens.clone()
    queries[:, :count] = 0
    patient.set_parameter(patient.model.query_tokens, queries)


@memory("queries left at their initialisation", "{:.0%} of the way", PARTS, IMAGES, BLIP)
def reset_queries(patient: Patient, part: float) -> None:
    queries = patient.model.query_tokens
    patient.set_parameter(queries, torch.lerp(queries, random_weights_like(queries), part))


@memory("queries in another order", "shifted by {}", (1, 4, 8), FIRST, BLIP)
def shift_queries(patient: Patient, shift: int) -> None:
    patient.features(lambda features: features.roll(shift, dims=-2))


@memory("Q-Former does not look at the picture", "{:.0%} less, last layer", PARTS, IMAGES, BLIP)
def weaken_cross_attention(patient: Patient, part: float) -> None:
    output = patient.model.qformer.encoder.layer[-1].crossattention.output.dense
    for parameter in output.parameters():
        patient.set_parameter(parameter, (1 - part) * parameter)


@files("Q-Former's norm epsilon", "1e-12 -> {}", (1e-5, 1e-3, 1e-1), IMAGES, BLIP)
def set_qformer_epsilon(folder: Path, value: float) -> None:
    set_value(folder / "config.json", "qformer_config", "layer_norm_eps", value=value)


@memory("noise on the Q-Former", "{:g} relative", RELATIVE, IMAGES, BLIP)
def add_noise_to_qformer(patient: Patient, relative: float) -> None:
    _add_noise(patient, patient.model.qformer, relative)


@memory("Q-Former asked something else", "{} other words", (1, 3, 6), IMAGES, BLIP)
def replace_qformer_text(patient: Patient, count: int) -> None:
    def change(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        ids_BN = inputs["qformer_input_ids"].clone()
        ids_BN[:, 1 : 1 + count] = ids_BN[:, 1 : 1 + count].roll(1, dims=1) if count > 1 else 5
        return {**inputs, "qformer_input_ids": ids_BN}

    patient.tensors(change)


@memory("image tokens not before BOS", "{}", (("after BOS", 1), ("before the last token", -1)), LAYOUT, BLIP)
def move_image_tokens(patient: Patient, value: tuple[str, int]) -> None:
    def change(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        ids_BN, count = inputs["input_ids"], 16
        image_BN, text_BN = ids_BN[:, :count], ids_BN[:, count:]
        reordered = torch.cat([text_BN[:, : value[1]], image_BN, text_BN[:, value[1] :]], dim=1)
        return {**inputs, "input_ids": reordered}

    patient.tensors(change)

"""Faults of the vision encoder, the projector and the Q-Former."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from tests.faults.kinds import BLIP, FIRST, IMAGES, LAYOUT, files, memory
from tests.faults.patient import Patient, alike, noise, setting

PARTS = (0.1, 0.5, 1.0)
RELATIVE = (1e-3, 1e-2, 1e-1)


@files("vision features of another layer", "-1 -> {}", (-2, -3, 1), IMAGES)
def layer(folder: Path, number: int) -> None:
    setting(folder / "config.json", "vision_feature_layer", value=number)


@files("class token kept", "{}", ("by the model alone", "by the processor too"), LAYOUT)
def kept(folder: Path, where: str) -> None:
    setting(folder / "config.json", "vision_feature_select_strategy", value="full")
    if where == "by the processor too":
        setting(folder / "processor_config.json", "vision_feature_select_strategy", value="full")


@memory("patches' positions shifted", "by {}", (1, 6, 18), IMAGES)
def patches_moved(patient: Patient, by: int) -> None:
    known = patient.eyes.embeddings.position_embedding.weight.clone()
    known[1:] = known[1:].roll(by, dims=0)
    patient.put(patient.eyes.embeddings.position_embedding.weight, known)


@files("vision encoder's activation", "quick_gelu -> {}", ("gelu", "silu", "relu"), IMAGES)
def vision_activation(folder: Path, name: str) -> None:
    setting(folder / "config.json", "vision_config", "hidden_act", value=name)


@files("vision encoder's norm epsilon", "1e-5 -> {}", (1e-6, 1e-3, 1e-1), IMAGES)
def vision_epsilon(folder: Path, value: float) -> None:
    setting(folder / "config.json", "vision_config", "layer_norm_eps", value=value)


@files("vision encoder's heads", "4 -> {}", (2, 8, 16), IMAGES)
def vision_heads(folder: Path, count: int) -> None:
    setting(folder / "config.json", "vision_config", "num_attention_heads", value=count)


def _noisy(patient: Patient, module: nn.Module, relative: float) -> None:
    for seed, parameter in enumerate(module.parameters()):
        patient.put(parameter, parameter + noise(parameter, relative, seed))


@memory("noise on the vision encoder", "{:g} relative", RELATIVE, IMAGES)
def noisy_eyes(patient: Patient, relative: float) -> None:
    _noisy(patient, patient.eyes, relative)


@memory("noise on the projector", "{:g} relative", RELATIVE, IMAGES)
def noisy_projector(patient: Patient, relative: float) -> None:
    _noisy(patient, patient.projector, relative)


@memory("projector's bias dropped", "{:.0%} of it", PARTS, IMAGES)
def no_bias(patient: Patient, part: float) -> None:
    for linear in patient.projections():
        patient.put(linear.bias, (1 - part) * linear.bias)


@memory("projector transposed", "a {:.0%} corner of it", PARTS, IMAGES)
def transposed(patient: Patient, part: float) -> None:
    weight = patient.projections()[-1].weight
    side, turned = round(part * min(weight.shape)), weight.clone()
    turned[:side, :side] = weight[:side, :side].T
    patient.put(weight, turned)


@memory("projector left at its initialisation", "{:.0%} of its rows", PARTS, IMAGES)
def untrained(patient: Patient, part: float) -> None:
    for seed, linear in enumerate(patient.projections()):
        rows, changed = round(part * len(linear.weight)), linear.weight.clone()
        changed[:rows] = alike(linear.weight, seed)[:rows]
        patient.put(linear.weight, changed)


@memory("projector averaged with its start", "{:.0%} of the way", (0.01, 0.1, 0.5), IMAGES)
def averaged(patient: Patient, part: float) -> None:
    for seed, linear in enumerate(patient.projections()):
        patient.put(linear.weight, torch.lerp(linear.weight, alike(linear.weight, seed), part))


@memory("image features scaled", "times {}", (1.001, 1.05, 2.0), IMAGES)
def scaled(patient: Patient, by: float) -> None:
    patient.features(lambda features: features * by)


@files("projector's activation", "gelu -> {}", ("gelu_pytorch_tanh", "quick_gelu", "relu"), IMAGES)
def activation(folder: Path, name: str) -> None:
    setting(folder / "config.json", "projector_hidden_act", value=name)


@memory("projector's bias dropped", "{:.0%} of it", PARTS, IMAGES, BLIP)
def no_language_bias(patient: Patient, part: float) -> None:
    no_bias(patient, part)


@memory("image features scaled", "times {}", (1.001, 1.05, 2.0), IMAGES, BLIP)
def scaled_queries(patient: Patient, by: float) -> None:
    scaled(patient, by)


@memory("queries lost (zero)", "{} of 16", (1, 4, 12), IMAGES, BLIP)
def queries_lost(patient: Patient, count: int) -> None:
    kept = patient.model.query_tokens.clone()
    kept[:, :count] = 0
    patient.put(patient.model.query_tokens, kept)


@memory("queries left at their initialisation", "{:.0%} of the way", PARTS, IMAGES, BLIP)
def queries_untrained(patient: Patient, part: float) -> None:
    queries = patient.model.query_tokens
    patient.put(queries, torch.lerp(queries, alike(queries), part))


@memory("queries in another order", "shifted by {}", (1, 4, 8), FIRST, BLIP)
def queries_moved(patient: Patient, by: int) -> None:
    patient.features(lambda features: features.roll(by, dims=-2))


@memory("Q-Former does not look at the picture", "{:.0%} less, last layer", PARTS, IMAGES, BLIP)
def blind(patient: Patient, part: float) -> None:
    output = patient.model.qformer.encoder.layer[-1].crossattention.output.dense
    for parameter in output.parameters():
        patient.put(parameter, (1 - part) * parameter)


@memory("noise on the Q-Former", "{:g} relative", RELATIVE, IMAGES, BLIP)
def noisy_queries(patient: Patient, relative: float) -> None:
    _noisy(patient, patient.model.qformer, relative)


@memory("Q-Former asked something else", "{} other words", (1, 3, 6), IMAGES, BLIP)
def asked(patient: Patient, count: int) -> None:
    def change(found: dict[str, Tensor]) -> dict[str, Tensor]:
        ids_BN = found["qformer_input_ids"].clone()
        ids_BN[:, 1 : 1 + count] = ids_BN[:, 1 : 1 + count].roll(1, dims=1) if count > 1 else 5
        return {**found, "qformer_input_ids": ids_BN}

    patient.tensors(change)


@memory("image tokens not before BOS", "{}", (("after BOS", 1), ("before the last token", -1)), LAYOUT, BLIP)
def after_bos(patient: Patient, value: tuple[str, int]) -> None:
    def change(found: dict[str, Tensor]) -> dict[str, Tensor]:
        ids_BN, count = found["input_ids"], 16
        image_BN, text_BN = ids_BN[:, :count], ids_BN[:, count:]
        moved = torch.cat([text_BN[:, : value[1]], image_BN, text_BN[:, value[1] :]], dim=1)
        return {**found, "input_ids": moved}

    patient.tensors(change)

"""The lens: states of several layers decoded together, and its curves."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from phasebench.catalog import CATALOG, Captions
from phasebench.measurement import lens, screen
from phasebench.measurement.lens import Decoder, lens_curves
from tests.support.synthetic import states


def test_decoding_in_chunks_equals_decoding_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    layers, norm, head = [torch.randn(9, 8) for _ in range(5)], nn.LayerNorm(8), nn.Linear(8, 90)
    for buffer_size, chunk in ((1, 7), (60, 9), (100, 20), (1000, 1), (1000, 1000)):
        monkeypatch.setitem(lens.BUFFER_SIZES, "cpu", buffer_size)
        monkeypatch.setattr(screen, "CHUNK", chunk)
        decoder = Decoder(norm, head)
        for hidden in layers:
            decoder.add(hidden)
        for hidden, tokens, logits in zip(layers, decoder.tokens(), decoder.logits(), strict=True):
            expected = head(norm(hidden)).max(-1)
            assert torch.equal(tokens, expected.indices)
            assert torch.allclose(logits, expected.values, atol=1e-6)


def test_the_buffer_has_at_most_its_size_and_one_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(lens.BUFFER_SIZES, "cpu", 20 * 8)
    monkeypatch.setattr(screen, "CHUNK", 20)
    sizes: list[int] = []

    class Head(nn.Module):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            sizes.append(len(rows))
            return rows

    decoder = Decoder(None, Head())
    for _ in range(10):
        decoder.add(torch.randn(9, 8))
        assert sum(map(len, decoder._buffer)) < 20
    decoder.tokens()
    assert max(sizes) <= 20
    assert sum(sizes) == 90


def test_without_a_norm_the_states_are_decoded_as_they_are() -> None:
    hidden, head = torch.randn(5, 8), nn.Linear(8, 30)
    decoder = Decoder(None, head)
    decoder.add(hidden)
    assert torch.equal(decoder.tokens()[0], head(hidden).argmax(-1))


@torch.no_grad()
def test_panel_by_panel_gives_the_whole_products_answer() -> None:
    head, rows = nn.Linear(96, 2500), states(70, 96)
    head.weight[2100:2200] = head.weight[:100]
    token_P, logit_P = screen.top1_by_panels(rows, head.weight, head.bias)
    assert torch.equal(token_P, head(rows).argmax(-1))
    assert torch.allclose(logit_P, head(rows).amax(-1), rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_16_bits_the_tokens_are_those_of_float32_logits(dtype: torch.dtype, masked: bool) -> None:
    """Rounded to 16 bits, many of the largest logits would be equal."""
    torch.manual_seed(0)
    head, rows = nn.Linear(96, 2500).to(dtype), torch.randn(2000, 96).to(dtype)
    head.weight[2100:2200], head.bias[2100:2200] = head.weight[:100].clone(), head.bias[:100].clone()
    masked_V = torch.arange(2500) > 2300 if masked else None
    logits_PV = rows.float() @ head.weight.float().T + head.bias.float()
    expected = logits_PV[:, :2301] if masked else logits_PV
    token_P, logit_P = screen.top1(head, rows, None, masked_V)
    assert torch.equal(token_P, expected.argmax(-1))
    assert torch.allclose(logit_P, expected.amax(-1), rtol=1e-5)
    assert (head(rows).argmax(-1) != logits_PV.argmax(-1)).any()


@torch.no_grad()
def test_a_bias_beyond_the_vocabulary_is_left_out_too() -> None:
    head, rows = nn.Linear(96, 2500), states(70, 96)
    token_P, _ = screen.top1(head, rows, 2000)
    assert torch.equal(token_P, head(rows)[:, :2000].argmax(-1))


@torch.no_grad()
def test_masked_entries_are_never_decoded() -> None:
    head, rows = nn.Linear(8, 30), torch.randn(50, 8)
    masked_V = torch.arange(30) % 2 == 0
    decoder = Decoder(None, head, 30, masked_V)
    decoder.add(rows)
    assert torch.equal(decoder.tokens()[0], head(rows).masked_fill(masked_V, -torch.inf).argmax(-1))


def test_the_curves_are_means_over_each_images_positions() -> None:
    logits_LP = torch.tensor([[1.0, 3.0, 10.0], [2.0, 2.0, 20.0]])
    curves = lens_curves(logits_LP, [2, 1])
    assert curves["max_logit"].tolist() == [[2, 10], [2, 20]]
    names = {curve.name for curve in CATALOG if curve.part == "lens" and curve.captions is Captions.NONE}
    assert set(curves) == names

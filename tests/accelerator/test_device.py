"""The pretended device itself: right values, mixed devices refused, costs counted."""

from __future__ import annotations

import pytest
import torch

from tests.accelerator.costs import Costs


def test_values_are_those_of_the_cpu(costs: Costs) -> None:
    values = torch.randn(4, 5)
    on_device = values.to("cuda")
    assert on_device.device == torch.device("cuda", 0)
    result = (on_device @ on_device.T).softmax(-1)[:, 1:].cpu()
    assert torch.equal(result, (values @ values.T).softmax(-1)[:, 1:])


def test_in_place_operations_change_the_values(costs: Costs) -> None:
    states = torch.zeros(2, 3, device="cuda")
    states[1].copy_(torch.ones(3, device="cuda"))
    states += 1
    assert states.cpu().tolist() == [[1, 1, 1], [2, 2, 2]]


@pytest.mark.parametrize("other", ["cpu", "cuda:1"])
def test_tensors_on_two_devices_do_not_mix(costs: Costs, other: str) -> None:
    with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
        torch.ones(3, device="cuda:0") + torch.ones(3, device=other)


def test_a_number_mixes_with_everything(costs: Costs) -> None:
    assert (torch.ones(3, device="cuda") * torch.tensor(2.0)).sum().item() == 6


def test_kernels_bytes_and_waits_are_counted_by_part(costs: Costs) -> None:
    states = torch.zeros(100, device="cuda")
    costs.clear()
    with costs.part("sum"):
        total = states.view(10, 10) + 1
    with costs.part("look"):
        assert bool(total[0, 0])
    assert costs.kernels == {"sum": 1, "look": 1}
    assert costs.bytes["sum"] == 2 * 400
    assert costs.waits == {"look": 1}


def test_a_mask_as_index_waits(costs: Costs) -> None:
    states = torch.arange(6, device="cuda")
    costs.clear()
    assert states[states > 2].cpu().tolist() == [3, 4, 5]
    assert costs.waits["model"] == 2


def test_without_values_only_shapes_are_known(costs: Costs) -> None:
    states = torch.empty(4, 3, device="meta").to("cuda")
    assert (states @ states.T).cpu().tolist() == [[0] * 4] * 4

"""The probe uses no operation that ``torch.use_deterministic_algorithms`` refuses on CUDA."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from phasebench.measurement.passes import plain_pass, probed_pass
from phasebench.models.anatomy.adapter import dissect
from phasebench.models.loading import LoadedModel

if TYPE_CHECKING:
    from PIL import Image

REFUSED = {
    "median.dim", "nanmedian.dim", "median", "nanmedian", "kthvalue", "histc", "bincount", "put_",
    "index_add", "index_add_", "index_copy", "scatter_add", "scatter_add_", "scatter_reduce",
    "scatter_reduce_",
}  # fmt: skip
"""From torch's documentation of that function: those that a measurement could use."""


class Seen(TorchDispatchMode):
    """Collects the names of operations; ``cumsum`` of integers has another name than of floats."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, result = str(func).removeprefix("aten.").removesuffix(".default"), func(*args, **(kwargs or {}))
        is_float = any(
            leaf.is_floating_point() for leaf in tree_leaves(result) if hasattr(leaf, "is_floating_point")
        )
        self.names.add(f"{name} of floats" if name.startswith("cumsum") and is_float else name)
        return result


def test_no_refused_operation(tiny: LoadedModel, pictures: list[Image.Image]) -> None:
    inputs = tiny.inputs(pictures[:2])
    anatomy = dissect(tiny.model, inputs)
    with Seen() as model:
        plain_pass(anatomy, inputs)
    with Seen() as probed:
        probed_pass(anatomy, inputs)
    added = probed.names - model.names
    assert "sort" in added
    assert not added & {*REFUSED, "cumsum of floats"}

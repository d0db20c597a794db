"""Measures a tiny model whole, then again with its parameters sharded over the processes by FSDP2.

``python -m torch.distributed.run --nproc-per-node 2 -m tests.support.sharded CHECKPOINT`` prints, on the
first process, the largest difference of each curve as JSON.
"""

from __future__ import annotations

import json
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard

import phasebench
from phasebench.datasets.scenes import render, scenes
from phasebench.models.anatomy.parts import find_layers
from phasebench.models.loading import LoadedModel, load
from phasebench.models.named_models import ModelSpec
from phasebench.settings import Settings


def main(folder: Path) -> None:
    """Measure before and after sharding, and compare."""
    dist.init_process_group("gloo")
    loaded = load(ModelSpec("tiny", folder), folder.parent, Settings(device="cpu"))
    whole = measured(loaded)
    for layer in find_layers(loaded.model.get_decoder()):
        fully_shard(layer)
    fully_shard(loaded.model.lm_head)
    fully_shard(loaded.model)
    sharded = measured(loaded)
    if dist.get_rank() == 0:
        differences = {}
        for name in whole.names:
            known = ~np.isnan(whole.array(name))
            if known.any():  # recall needs captions
                differences[name] = float(np.abs(whole.array(name) - sharded.array(name))[known].max())
        print(json.dumps({"differences": differences, "shards": type(loaded.model.lm_head.weight).__name__}))
    dist.destroy_process_group()


def measured(loaded: LoadedModel) -> phasebench.Curves:
    """The measurement of three pictures."""
    pictures = [render(scene) for scene in islice(scenes("held_out", 7), 3)]
    return phasebench.measure(loaded.model, loaded.processor, pictures, batch_size=2)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

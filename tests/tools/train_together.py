"""Trains SASRec, and then its target sets, on a small dataset; writes what was lost in every epoch. Started by torchrun or alone."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path

from baselines.backbones.next_item import train_further
from baselines.fine_tuned import TargetSettings, _Rated
from baselines.sasrec import SASRec, SASRecSettings
from baselines.target_training import BareNet, TargetStage
from baselines.training import seeded
from bench import parallel
from tests.conftest import ScratchContext, small_dataset

# Windows of a step are an odd number, so that the two processes never have as many rows.
SETTINGS = SASRecSettings(dim=16, length=12, epochs=3, batch=7, dropout=0.0)


def train(scratch: Path) -> dict[str, list[dict[str, float]]]:
    """The log of both trainings."""
    dataset, context = small_dataset(tags=False).for_training(), ScratchContext(scratch)
    with seeded(0, "weights"):
        net = SASRec(SETTINGS).build(len(dataset.catalogue))
    logs = {"next item": train_further("sasrec", net, dataset, SETTINGS, context)}
    bare = BareNet(copy.deepcopy(net))
    stage = TargetStage("targets", bare, dataset, _Rated(TargetSettings(), SETTINGS), next_item=True)
    return logs | {"target sets": stage.run(2, context)}


if __name__ == "__main__":
    logs = train(Path(sys.argv[1]))
    if parallel.rank() == 0:
        Path(sys.argv[2]).write_text(json.dumps({"processes": parallel.world(), "logs": logs}))

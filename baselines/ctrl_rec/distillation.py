"""From judged pairs to trained towers: the data, the training and what held-out requests say of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from baselines.ctrl_rec.judged import Judged, MixedPairs, Pairs
from baselines.ctrl_rec.towers import APPROVED, Distillation, Towers
from baselines.language.settings import TrainingSettings
from baselines.language.training import train
from baselines.training import seeded
from bench.contracts import FitContext, Floats

if TYPE_CHECKING:
    from baselines.ctrl_rec.adapter import TowerSettings

NAME = "ctrl_rec towers"
ROWS = 16_384


def distil(
    judged: Judged, requests: Floats, items: Floats, settings: TowerSettings, context: FitContext
) -> tuple[Towers, dict[str, Any]]:
    """Train the towers until held-out requests are judged no better.

    Args:
        judged: what to learn.
        requests: what the request tower reads of `judged.texts`, float32 [N, d or 2 d].
        items: sentence vectors of the items' texts, float32 [V, d].
        settings: of the towers.
        context: of the fit.

    Returns:
        The towers of the best epoch, and the record: `log` (one entry an epoch) and `held_out` (pairs, the share approved, BCE
        before and after, and the AUC of telling approved pairs from others, of all and `by_group` of requests; null where all are
        alike). Every group counts alike in the BCE.
    """
    learned, kept = judged.sides()
    with seeded(context.seed, "ctrl_rec", "weights", device=context.device):
        towers = Towers(requests.shape[1], items.shape[1], settings.hidden, settings.width)
    module = Distillation(
        towers, torch.from_numpy(requests), torch.from_numpy(items), settings.contrast, settings.temperature
    ).to(context.device)
    groups = judged.groups
    mine = groups[kept.request]

    def loss() -> float:
        v = approvals(module, kept)
        return float(np.mean([cross_entropy(kept.take(mine == group), v[mine == group]) for group in np.unique(mine)]))

    before = loss()
    how = TrainingSettings(
        epochs=settings.epochs,
        batch_size=settings.batch,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        patience=settings.patience,
        schedule="constant",
        warmup=0,
        precision="no",
    )
    log = train(
        NAME,
        module,
        data=MixedPairs(learned, groups[learned.request], context.seed),
        collate=_collate,
        settings=how,
        context=context,
        evaluate=lambda: -loss(),
    )
    v = approvals(module, kept)
    told = {group: auc(kept.take(mine == group), v[mine == group]) for group in np.unique(mine).tolist()}
    approved = float((kept.approval >= APPROVED).mean())
    after = {"bce_untrained": before, "bce": loss(), "auc": auc(kept, v), "by_group": told}
    record = {"pairs": len(learned), "log": log, "held_out": {"pairs": len(kept), "approved": approved, **after}}
    return towers.cpu().eval(), record


def approvals(module: Distillation, pairs: Pairs) -> npt.NDArray[np.float64]:
    """The approval v of some pairs, float64 [M]."""
    module.eval()
    values = []
    with torch.no_grad():
        for start in range(0, len(pairs), ROWS):
            part = slice(start, start + ROWS)
            asked = module.towers.request(module.requests[torch.from_numpy(pairs.request[part])])
            offered = module.towers.item(module.items[torch.from_numpy(pairs.item[part])])
            values.append(module.towers.approval((asked * offered).sum(1)).cpu().numpy())
    return np.concatenate(values).astype(np.float64)


def cross_entropy(pairs: Pairs, v: npt.NDArray[np.float64]) -> float:
    """Mean BCE of v against the approvals."""
    v = np.clip(v, 1e-7, 1 - 1e-7)
    return float(-(pairs.approval * np.log(v) + (1 - pairs.approval) * np.log(1 - v)).mean())


def auc(pairs: Pairs, v: npt.NDArray[np.float64]) -> float | None:
    """How well v tells approved pairs from others; None where all are alike."""
    from sklearn.metrics import roc_auc_score

    approved = pairs.approval >= APPROVED
    return float(roc_auc_score(approved, v)) if 0 < approved.sum() < len(approved) else None


def _collate(rows: Sequence[tuple[int, int, float]]) -> dict[str, torch.Tensor]:
    request, item, approval = zip(*rows, strict=True)
    return {
        "request": torch.tensor(request),
        "item": torch.tensor(item),
        "approval": torch.tensor(approval, dtype=torch.float32),
    }

"""Approval without a language model: what the dataset's own labels and tags say of an item under a request."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from baselines.ctrl_rec.control_requests import ControlRequest
from bench.contracts import NEGATIVE, Bools, Floats, Ints


def compliance(requests: Sequence[ControlRequest], items: Ints, has: Bools) -> Floats:
    """How far each item complies with its request, 0 to 1, float32 [N, k].

    A wish for labels: the share of them that the item has. A refusal of one label: 1 where the item lacks it; of several, which
    stand for just that combination: 1 where the item's labels are others. A tag: 1 for the items that have it.

    Args:
        requests: N of them; none in free words, whose meaning labels do not tell.
        items: int32 [N, k].
        has: membership of items in labels, bool [V, L].
    """
    values = np.empty(items.shape, np.float32)
    for row, request in enumerate(requests):
        if request.kind == "tag":
            values[row] = np.isin(items[row], request.about)
            continue
        mine, named = has[items[row]], list(request.named)
        if not named:
            raise ValueError(f"labels do not tell what complies with {request.text!r}")
        if request.polarity != NEGATIVE:
            values[row] = mine[:, named].mean(1)
        elif len(named) == 1:
            values[row] = ~mine[:, named[0]]
        else:
            values[row] = ~(mine[:, named].all(1) & (mine.sum(1) == len(named)))
    return values

"""Softmax cross-entropy over a sample of the catalogue, for catalogues over which the full one takes too long.

For row t with targets Y_t and m items drawn uniformly without replacement, N_t those of them that are no target of t,

    Z_t = sum over y in Y_t of exp(z_ty) + (V - |Y_t|) / |N_t| * sum over v in N_t of exp(z_tv),   z_tv = h_t . W_v,

stands for the full sum in the loss of `baselines.backbones.softmax`. Its expectation is the full sum: the factor is the
log-Q correction of Jean et al. 2015 (On Using Very Large Target Vocabulary for NMT) for uniform draws, and with m = V it is
the full loss itself. Uniform negatives shared by all rows of a step are what Klenitskiy and Vasilev 2023 (Turning Dross Into
Gold Loss) train SASRec with: 3,000 of them came close to the full softmax there. Binary cross-entropy with the repair of
gSASRec (Petrov and Macdonald 2023) is the alternative; it needs its calibration tuned and is not the paper's Eq. 1.
"""

from __future__ import annotations

import torch
from torch.utils.checkpoint import checkpoint

# Above so many items the softmax is sampled, unless a setting says otherwise, with so many negatives a step.
FULL_UP_TO = 200_000
NEGATIVES = 8_192
# Rows whose logits are held at once.
ROWS = 512


def negatives_for(setting: int | None, n_items: int) -> int:
    """Negatives a step for a catalogue of so many items; 0 stands for the full softmax.

    Args:
        setting: of the model: None chooses by the catalogue, 0 is always the full softmax.
        n_items: V.
    """
    wanted = (NEGATIVES if n_items > FULL_UP_TO else 0) if setting is None else setting
    return 0 if wanted >= n_items else wanted


def sampled_cross_entropy(
    h: torch.Tensor,
    table: torch.Tensor,
    targets: torch.Tensor,
    count: int,
    *,
    owner: torch.Tensor | None = None,
    weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """Weighted cross-entropy of rows against their targets and a uniform sample; arguments as of `catalogue_cross_entropy`.

    Args:
        h: float [T, d].
        table: float [V, d].
        targets: int64 [T], or [M] with `owner`.
        count: m, how many items are drawn from torch's generator; duplicates are drawn once, so there may be fewer.
        owner: int64 [M], ascending: the row of each target.
        weight: float [T]; 1 / T each when None.

    Returns:
        A scalar. Memory is `ROWS` x m floats, whatever T and V.
    """
    rows, n_items = len(h), len(table)
    if owner is None:
        owner = torch.arange(rows, device=h.device)
    if weight is None:
        weight = h.new_full((rows,), 1.0 / max(rows, 1))
    if count >= n_items:
        drawn = torch.arange(n_items, device=h.device)
    else:
        drawn = torch.randint(n_items, (count,), device=h.device).unique()
    negatives, wanted = table.index_select(0, drawn), table.index_select(0, targets)
    # Where a target was drawn, it is no negative of its row.
    place = torch.searchsorted(drawn, targets).clamp_(max=len(drawn) - 1)
    struck = drawn[place] == targets
    loss = h.new_zeros(())
    for start in range(0, rows, ROWS):
        stop = min(start + ROWS, rows)
        first, last = torch.searchsorted(owner, torch.tensor([start, stop], device=h.device)).tolist()
        part = slice(first, last)
        loss = loss + checkpoint(
            _part, h[start:stop], negatives, wanted[part], owner[part] - start, place[part], struck[part],
            weight[start:stop], n_items, use_reentrant=False,
        )  # fmt: skip
    return loss


def _part(
    h: torch.Tensor,
    negatives: torch.Tensor,
    wanted: torch.Tensor,
    owner: torch.Tensor,
    place: torch.Tensor,
    struck: torch.Tensor,
    weight: torch.Tensor,
    n_items: int,
) -> torch.Tensor:
    """The loss of some rows; its logits are computed again for the gradient rather than kept."""
    z = h @ negatives.t()
    z[owner[struck], place[struck]] = -torch.inf
    own = (h.index_select(0, owner) * wanted).sum(1)
    targets = torch.bincount(owner, minlength=len(h))
    left = len(negatives) - torch.bincount(owner[struck], minlength=len(h))
    rest = z.logsumexp(1) + ((n_items - targets) / left.clamp(min=1)).log()
    shift = torch.full_like(rest, -torch.inf).scatter_reduce(0, owner, own.detach(), "amax")
    shift = torch.maximum(shift, rest.detach())
    total = (rest - shift).exp().index_add(0, owner, (own - shift[owner]).exp())
    share = (weight / targets.clamp(min=1))[owner]
    return (weight * (total.log() + shift)).sum() - (share * own).sum()

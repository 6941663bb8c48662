"""Full-softmax cross-entropy over the whole catalogue, fast and small: the gradient is formed in the forward pass.

For rows h [T, d], the item table W [V, d] and target sets Y_t the loss of row t is

    w_t (log sum_v exp(h_t . W_v / tau) - mean over y in Y_t of h_t . W_y / tau)

which is Eq. 1 of the DPR paper for one target a row and Eq. 8 and 9 for several. Logits live in one chunk that stays in the
processor's cache; the softmax is never divided out over the catalogue, since scaling the [T, d] side is 50 times cheaper.
"""

from __future__ import annotations

import torch

# Rows of logits that each thread works on at once: 160 x 3,666 float32 is 2.3 MB, which stays in a core's cache. Larger
# chunks are up to a third slower on a CPU; a GPU wants thousands.
ROWS_PER_THREAD = 160
ROWS_ON_GPU = 8192
# oneDNN compiles a kernel for every shape of a bfloat16 product and keeps it: with any number of rows in the last chunk a training
# would hold gigabytes of them.
SHAPES = 160
# Logits below this bound cannot overflow exp or its sum in float32, so no pass for the row maximum is needed.
SAFE_LOGIT = 60.0


class _CatalogueCrossEntropy(torch.autograd.Function):
    """Forward makes loss and both gradients; backward only scales them."""

    @staticmethod
    def forward(ctx, h, table, targets, owner, weight, chunk, half):  # type: ignore[no-untyped-def]
        """See `catalogue_cross_entropy`; `owner` is None where row t has the single target targets[t]."""
        real = h.shape[0]
        short = torch.bfloat16 if half else h.dtype
        if half:
            h, weight = (_filled_up(each) for each in (h, weight))
        rows = h.shape[0]
        grad_h, grad_table = torch.empty_like(h), torch.zeros_like(table)
        wide, items = h.to(short), table.to(short)
        log_sum = h.new_empty(rows)
        safe = float(h.norm(dim=1).max() * table.norm(dim=1).max()) < SAFE_LOGIT if rows else True
        # Logits stand transposed, [V, rows]: an odd catalogue as the leading dimension makes the product twice as slow.
        buffer = wide.new_empty(table.shape[0] * min(chunk, rows))
        for start in range(0, rows, chunk):
            part = wide[start : start + chunk]
            z = torch.mm(items, part.t(), out=buffer[: len(part) * table.shape[0]].view(-1, len(part)))
            shift = None if safe else z.amax(0)
            if shift is not None:
                z.sub_(shift)
            total = z.exp_().sum(0, dtype=h.dtype)
            scale = (weight[start : start + chunk] / total)[:, None]
            scaled = h[start : start + chunk] * scale
            if half:
                grad_h[start : start + chunk] = torch.mm(z.t(), items) * scale
                grad_table += torch.mm(z, scaled.to(short))
            else:
                torch.mm(z.t(), table, out=grad_h[start : start + chunk]).mul_(scale)
                grad_table.addmm_(z, scaled)
            log_sum[start : start + chunk] = total.log_() if shift is None else total.log_() + shift
        h, weight, log_sum, grad_h = (each[:real] for each in (h, weight, log_sum, grad_h))
        if owner is None:
            wanted = table.index_select(0, targets)
            loss = (weight * (log_sum - (h * wanted).sum(1))).double().sum()
            grad_h.addcmul_(wanted, weight[:, None], value=-1)
            grad_table.index_add_(0, targets, h * weight[:, None], alpha=-1)
        else:
            share = (weight / torch.bincount(owner, minlength=real).clamp_(min=1))[owner]
            wanted, mine = table.index_select(0, targets), h.index_select(0, owner)
            loss = (weight * log_sum).double().sum() - (share * (mine * wanted).sum(1)).double().sum()
            grad_h.index_add_(0, owner, wanted * share[:, None], alpha=-1)
            grad_table.index_add_(0, targets, mine * share[:, None], alpha=-1)
        ctx.save_for_backward(grad_h, grad_table)
        return loss.to(h.dtype)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        """Scale what the forward pass left."""
        grad_h, grad_table = ctx.saved_tensors
        return grad_h * grad, grad_table * grad, None, None, None, None, None


def _filled_up(x: torch.Tensor) -> torch.Tensor:
    """`x` with rows of zeros up to a multiple of `SHAPES`; with weight 0 they add nothing."""
    return torch.cat([x, x.new_zeros(-len(x) % SHAPES, *x.shape[1:])])


def catalogue_cross_entropy(
    h: torch.Tensor,
    table: torch.Tensor,
    targets: torch.Tensor,
    *,
    owner: torch.Tensor | None = None,
    weight: torch.Tensor | None = None,
    chunk: int | None = None,
    half: bool = False,
) -> torch.Tensor:
    """Mean full-softmax cross-entropy of rows against the catalogue (Eq. 1, 8 and 9).

    Args:
        h: float [T, d], already divided by the temperature.
        table: float [V, d], the tied item table.
        targets: int64 [T] with one target a row, or [M] with `owner`.
        owner: int64 [M], the row that each target belongs to; a row's targets share its weight equally.
        weight: float [T], weight of each row; default 1 / T, which gives the mean.
        chunk: rows of logits held at once; chosen by device and threads unless given.
        half: make logits and the gradients' products in bfloat16; sums, the targets' own part and what is added up over
            chunks stay in single precision.

    Returns:
        A scalar. Memory is chunk x V floats, whatever T.
    """
    if chunk is None:
        # Half the bytes: twice the rows stay in the same cache.
        chunk = ROWS_ON_GPU if h.is_cuda else ROWS_PER_THREAD * torch.get_num_threads() * (2 if half else 1)
    if weight is None:
        weight = h.new_full((h.shape[0],), 1.0 / max(h.shape[0], 1))
    h = h.to(table.dtype).contiguous()
    return _CatalogueCrossEntropy.apply(h, table.contiguous(), targets, owner, weight, chunk, half)

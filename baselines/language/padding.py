"""Token lists of different lengths as tensors, padded on the right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

# A label that transformers leaves out of its loss.
IGNORED = -100


def right_padded(rows: Sequence[Sequence[int]], filler: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of different lengths as one tensor, int64 [B, T], and which of its places are filled, int64 [B, T]."""
    values = torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(row) for row in rows], batch_first=True, padding_value=filler
    )
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones(len(row), dtype=torch.long) for row in rows], batch_first=True)
    return values, mask


def labelled(before: list[int], after: list[int], *, answer_only: bool) -> dict[str, list[int]]:
    """A text as a row of `batch`: its `tokens`, and as `labels` all of them or those of `after` alone."""
    return {"tokens": before + after, "labels": ([IGNORED] * len(before) if answer_only else before) + after}


def batch(rows: Sequence[dict[str, Any]], pad: int = 0) -> dict[str, torch.Tensor]:
    """`input_ids`, `attention_mask` and `labels`, int64 [B, T], of rows with `tokens` and `labels`; padding is no label."""
    ids, mask = right_padded([row["tokens"] for row in rows], pad)
    labels, _ = right_padded([row["labels"] for row in rows], IGNORED)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}

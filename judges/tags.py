"""What is written about items, as vectors."""

from __future__ import annotations

import numpy as np

from bench.contracts import Catalogue, Floats, Longs, Progress
from bench.encoding_cache import CachedEncoder


def tag_vectors(catalogue: Catalogue, encoder: CachedEncoder, progress: Progress | None = None) -> tuple[Floats, Longs]:
    """Vectors of all items' training tags (of its text, where an item has none), and where each item's begin.

    Returns:
        float32 [M, d], and int64 [V] of first rows: `np.maximum.reduceat(cosines, first)` has one value an item.
    """
    tags = catalogue.train_tags or ((),) * len(catalogue)
    written = [mine or (text,) for mine, text in zip(tags, catalogue.texts, strict=True)]
    counts = np.array([len(mine) for mine in written], np.int64)
    return encoder.encode([tag for mine in written for tag in mine], progress), counts.cumsum() - counts

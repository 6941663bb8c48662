"""The best items of very large catalogues by inner product, through FAISS: every item compared (flat), or a part of them.

Scoring in one matrix, [B, V], is exact and fastest for catalogues of up to a few hundred thousand items; ten million would
take 20 GB a batch. `flat` is as exact and holds no such matrix, `ivf` looks into a few cells of a partition, `hnsw` walks a
graph of neighbours; what the last two miss is measured by `recall`.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bench.contracts import NO_ITEM, Floats, Ragged, Ranking

Kind = Literal["exact", "flat", "ivf", "hnsw"]

# Above so many items the matrix gives way to the flat index, unless a setting says otherwise.
MATRIX_UP_TO = 200_000
# IVF: cells by the square root of V, of which a share is looked into; HNSW: neighbours of a node, and breadths of search.
PROBED = 0.05
NEIGHBOURS, BUILD_BREADTH, BREADTH = 32, 80, 256
# Vectors that a partition is learned from, for each of its cells.
SAMPLE = 64


def kind_for(setting: Kind | None, n_items: int) -> Kind:
    """How a catalogue of so many items is searched where a model's setting (None: by size) leaves it open."""
    return setting or ("flat" if n_items > MATRIX_UP_TO else "exact")


class ItemIndex:
    """An index of item vectors, float32 [V, d], by inner product."""

    def __init__(self, table: Floats, kind: Kind) -> None:
        import faiss

        n_items, dim = table.shape
        self._index: Any
        if kind == "ivf":
            cells = max(1, int(4 * n_items**0.5))
            self._index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, cells, faiss.METRIC_INNER_PRODUCT)
            self._index.nprobe = max(1, round(PROBED * cells))
            rng = np.random.default_rng(0)
            self._index.train(table[rng.permutation(n_items)[: SAMPLE * cells]])
        elif kind == "hnsw":
            self._index = faiss.IndexHNSWFlat(dim, NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
            self._index.hnsw.efConstruction, self._index.hnsw.efSearch = BUILD_BREADTH, BREADTH
        else:
            self._index = faiss.IndexFlatIP(dim)
        self._index.add(np.ascontiguousarray(table, np.float32))

    def search(self, vectors: Floats, k: int) -> tuple[Floats, npt.NDArray[np.int64]]:
        """Scores float32 [B, k] and items int64 [B, k], best first; -1 where nothing was found."""
        if hasattr(self._index, "hnsw"):
            # A walk finds no more than its breadth.
            self._index.hnsw.efSearch = max(BREADTH, k)
        scores, items = self._index.search(np.ascontiguousarray(vectors, np.float32), min(k, self._index.ntotal))
        return scores, items

    def rank(self, vectors: Floats, history: Ragged, k: int) -> Ranking:
        """The k best items that are not in the row's history.

        So many more are looked up as the longest history has items, so that masking leaves k.
        """
        scores, items = self.search(vectors, k + int(history.lengths.max(initial=0)))
        rows, n_items = len(vectors), self._index.ntotal
        seen = np.repeat(np.arange(rows), history.lengths) * n_items + history.values
        good = (items >= 0) & ~np.isin(np.arange(rows)[:, None] * n_items + items, seen)
        order = np.argsort(~good, axis=1, kind="stable")[:, :k]
        kept = np.take_along_axis(good, order, 1)
        best = np.full((rows, k), NO_ITEM, np.int32)
        values = np.full((rows, k), -np.inf, np.float32)
        best[:, : order.shape[1]] = np.where(kept, np.take_along_axis(items, order, 1), NO_ITEM)
        values[:, : order.shape[1]] = np.where(kept, np.take_along_axis(scores, order, 1), -np.inf)
        return Ranking(best, values)


def recall(found: npt.NDArray[np.integer], exact: npt.NDArray[np.integer]) -> float:
    """Share of the exact best, [B, k], that a search found, whatever their order."""
    return float(
        np.mean([len(np.intersect1d(one, other)) / len(other) for one, other in zip(found, exact, strict=True)])
    )

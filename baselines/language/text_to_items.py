"""From generated texts to items: each text becomes the item whose own string is nearest to it, by cosine."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from baselines.asking import Accounts
from baselines.item_index import ItemIndex
from bench.contracts import Floats, Ints, Longs, Ragged, Ranking
from bench.language import CALLS, ENTRIES
from bench.llm.contracts import Failure

# What of the texts is counted, by the names of `bench.language`: taken letter by letter or as the nearest.
COUNTED = ("exact", "embedding", "duplicate", "in_history")


class TextToItems:
    """Finds items by text.

    Args:
        strings: what stands for each item, V of them, in the form in which texts are generated.
        vectors: their unit-length vectors, float32 [V, d].
        encode: texts, none of them empty, to unit-length vectors, float32 [n, d].

    Items of equal strings cannot be told apart: such a text becomes the first of them.
    """

    def __init__(self, strings: Sequence[str], vectors: Floats, encode: Callable[[list[str]], Floats]) -> None:
        self.strings, self._vectors, self._encode = tuple(strings), vectors, encode
        self._known = frozenset(self.strings)

    @cached_property
    def _index(self) -> ItemIndex:
        return ItemIndex(self._vectors, "flat")

    def nearest(self, texts: list[str]) -> Ints:
        """The nearest item of every text, int32 [n]."""
        if not texts:
            return np.empty(0, np.int32)
        # Equal strings lie beside each other in the search; more than a few of them decide nothing that matters.
        cosine, items = self._search(texts, min(8, len(self.strings)))
        return _first_best(cosine, items)

    def rank(self, texts: Sequence[Sequence[str]], scores: Floats, history: Ragged, k: int) -> Ranking:
        """Beams to rankings: one nearest item a beam, without repeats and seen items, filled up by nearness.

        A repeated item stays where its best beam put it. Places that are left go to the unseen items that have the highest
        cosine with any beam.

        Args:
            texts: the beams of B requests, n each; empty ones are left out.
            scores: their scores, float32 [B, n]; higher is better.
            history: seen items, a row a request.
            k: places.

        Returns:
            The ranking, with the accounts of `bench.language` in its extras. A request without any text has failed.
        """
        accounts = Accounts(len(texts), COUNTED)
        for unknown in accounts.sums.values():
            # Generated in this process: nobody counts tokens, nobody sends a bill.
            unknown.fill(math.nan)
        distinct = sorted({text for beams in texts for text in beams if text})
        place = {text: row for row, text in enumerate(distinct)}
        lists: list[list[int]] = [[] for _ in texts]
        if distinct:
            beams_each = max(map(len, texts))
            # So deep that k unseen items are left of any beam's neighbours: the fill is exact.
            depth = min(len(self.strings), k + beams_each + int(history.lengths.max(initial=0)))
            cosine, items = self._search(distinct, depth)
            first = _first_best(cosine, items)
        for row, beams in enumerate(texts):
            order = np.argsort(-np.asarray(scores[row], np.float32), kind="stable")
            said = [beams[beam] for beam in order if beams[beam]]
            accounts.counts[CALLS][row] = 1
            accounts.add(row, wrong_count=int(len(said) < len(beams)))
            if not said:
                accounts.add(row, unparseable=1)
                accounts.fail(row, Failure.UNPARSEABLE)
                continue
            rows = np.array([place[text] for text in said])
            seen = set(history[row].tolist())
            lists[row] = self._account(accounts, row, said, first[rows].tolist(), seen)
            lists[row] += _fill(cosine[rows], items[rows], seen | set(lists[row]), k - len(lists[row]))
        return accounts.ranking(lists, k)

    def _account(self, accounts: Accounts, row: int, said: list[str], found: list[int], seen: set[int]) -> list[int]:
        """The unseen items among those found, each once; what became of the texts is counted."""
        exact = sum(text in self._known for text in said)
        distinct = list(dict.fromkeys(found))
        repeats, old = len(found) - len(distinct), sum(item in seen for item in found)
        accounts.add(row, exact=exact, embedding=len(said) - exact, duplicate=repeats, in_history=old)
        accounts.counts[ENTRIES][row] = len(said)
        return [item for item in distinct if item not in seen]

    def _search(self, texts: list[str], depth: int) -> tuple[Floats, Longs]:
        return self._index.search(self._encode(texts), depth)


def _first_best(cosine: Floats, items: Longs) -> Ints:
    """Of the items that share the highest cosine in a row, the one with the lowest index, int32 [n]."""
    best = cosine == cosine[:, :1]
    return np.where(best, items, np.iinfo(np.int64).max).min(1).astype(np.int32)


def _fill(cosine: Floats, items: Longs, taken: set[int], places: int) -> list[int]:
    """The items with the highest cosine to any beam (rows of [n, depth]) that are not taken, ties by item index."""
    if places <= 0:
        return []
    flat, near = items.ravel(), cosine.ravel()
    order: npt.NDArray[np.int64] = np.lexsort((flat, -near))
    ordered = dict.fromkeys(flat[order].tolist())
    return [item for item in ordered if item not in taken][:places]

"""Training instances (S_u, p, c): target sets of Section 3.3.1, built for thousands of cut points at once.

Everything lies inside the events that are passed in; with train events no validation or test event can become a target.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.contracts import NEGATIVE, POSITIVE, Bools, Catalogue, Ints, Longs, Ragged

# Future events that are searched for N compliant ones. With N <= 10 a longer look changes few sets and costs memory.
HORIZON = 64


@dataclass(frozen=True)
class Instances:
    """M instances of one polarity.

    `row` int64 [M] is the index of the cut point that was passed in, `targets` V_target of Eq. 9, `label` int32 [M] the
    label that was drawn (g_B or g_A), `item` int32 [M] the item that the prompt is about, `strict` bool [M] whether the
    compliance was that of the drawn label alone (NEG; always True for POS).
    """

    polarity: int
    row: Longs
    targets: Ragged
    label: Ints
    item: Ints
    strict: Bools


class TargetSets:
    """Draws instances from a catalogue's labels.

    Args:
        catalogue: with labels.
        windows: the N that are drawn from, uniformly, for each instance.
    """

    def __init__(self, catalogue: Catalogue, windows: tuple[int, ...]) -> None:
        self.has = catalogue.label_matrix()
        self.windows = np.asarray(windows, np.int64)
        _, group = np.unique(self.has, axis=0, return_inverse=True)
        self.group: Ints = group.reshape(-1).astype(np.int32)

    def positive(self, items: Ints, last: Longs, stop: Longs, rng: np.random.Generator) -> Instances:
        """POS: v_target uniform among the closest N future events with a label that v_t lacks; g_B uniform among those.

        Args:
            items: flat events int32 [E].
            last: index of v_t for every cut point, int64 [M].
            stop: end (exclusive) of the user's events, int64 [M].
            rng: where draws come from.
        """
        future, real = self._future(items, last, stop)
        new = self.has[future] & ~self.has[items[last]][:, None]
        comply = new.any(2) & real
        order, n = comply.cumsum(1), rng.choice(self.windows, len(last))
        row = np.flatnonzero(order[:, -1] >= n)
        place = rng.integers(0, n[row])
        column = ((order[row] == place[:, None] + 1) & comply[row]).argmax(1)
        target = future[row, column]
        label = _draw_true(new[row, column], rng)
        sets = Ragged(np.arange(len(row) + 1, dtype=np.int64), target)
        return Instances(POSITIVE, row, sets, label, target, np.ones(len(row), bool))

    def negative(self, items: Ints, last: Longs, stop: Longs, strict: Bools, rng: np.random.Generator) -> Instances:
        """NEG: the closest N future events that comply with leaving out the next item's label, all of them targets.

        Args:
            items: flat events int32 [E].
            last: index of v_t for every cut point, int64 [M].
            stop: end (exclusive) of the user's events, int64 [M].
            strict: bool [M]: avoid one of the next item's labels altogether, or else its exact set of labels.
            rng: where draws come from.
        """
        future, real = self._future(items, last, stop)
        following = future[:, 0]
        label = _draw_true(self.has[following], rng)
        lacks = ~self.has[future, label[:, None]]
        differs = self.group[future] != self.group[following][:, None]
        comply = np.where(strict[:, None], lacks, differs) & real
        order, n = comply.cumsum(1), rng.choice(self.windows, len(last))
        keep = (order[:, -1] >= n) & real[:, 0] & self.has[following].any(1)
        near = comply & (order <= n[:, None]) & keep[:, None]
        row = np.flatnonzero(keep)
        sets = Ragged(np.concatenate([[0], n[row].cumsum()]).astype(np.int64), future[near])
        return Instances(NEGATIVE, row, sets, label[row], following[row], strict[row])

    def _future(self, items: Ints, last: Longs, stop: Longs) -> tuple[Ints, Bools]:
        """The next HORIZON events of every cut point, int32 [M, HORIZON], and which of them exist."""
        at = last[:, None] + 1 + np.arange(HORIZON)
        real = at < stop[:, None]
        return items[np.where(real, at, last[:, None])], real


def _draw_true(rows: Bools, rng: np.random.Generator) -> Ints:
    """A column drawn uniformly among the True ones of each row (0 where there is none), int32."""
    noise = np.where(rows, rng.random(rows.shape, np.float32), -1.0)
    return noise.argmax(1).astype(np.int32)

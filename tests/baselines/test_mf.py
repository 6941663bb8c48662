"""Matrix factorisation: the fold-in is the least-squares solution, and the factors know who likes what."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from baselines.mf import MatrixFactorization
from bench.contracts import Dataset, Ragged, Requests
from tests.conftest import ScratchContext


def fitted(data: Dataset, context: ScratchContext, **settings: object) -> MatrixFactorization:
    model = MatrixFactorization(
        MatrixFactorization.Settings.model_validate({"factors": 8, "iterations": 10} | settings)
    )
    model.fit(data.for_training(), context)
    return model


def test_a_user_is_the_least_squares_solution_for_the_history(small: Dataset, context: ScratchContext) -> None:
    """Hu et al. 2008, Eq. 4: x = (Y'Y + Y'(C - I)Y + lambda I)^-1 Y'C p, here with confidence alpha on what was seen."""
    model = fitted(small, context, alpha=3.0, regularization=0.5)
    y = model.arrays["items"].astype(np.float64)
    history = small.events[0][:7]
    mine = y[history]
    x = np.linalg.solve(y.T @ y + (3.0 - 1.0) * mine.T @ mine + 0.5 * np.eye(8), 3.0 * mine.sum(0))
    scores, _ = model.score(Requests(np.array([5], np.int32), Ragged.of([history])))
    np.testing.assert_allclose(scores[0], x @ y.T, atol=1e-4)


def test_two_groups_of_users_are_told_apart(small: Dataset, context: ScratchContext, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [rng.permutation(20)[:12] + 20 * (user % 2) for user in range(60)]
    events = Ragged.of(rows)
    data = replace(small, events=events, train_end=events.lengths * 7 // 10, valid_end=events.lengths * 8 // 10)
    model = fitted(data, context)
    asked = Requests(np.arange(60, dtype=np.int32), data.train_events())
    best = model.rank(asked, 5).items
    assert (best // 20 == np.arange(60)[:, None] % 2).mean() > 0.95
    model.save(tmp_path)
    assert (MatrixFactorization.load(tmp_path, model.settings).rank(asked, 5).items == best).all()


def test_nobody_has_no_taste(small: Dataset, context: ScratchContext) -> None:
    scores, _ = fitted(small, context).score(Requests(np.array([0], np.int32), Ragged.of([[]])))
    assert not scores.any()


def test_a_missing_package_is_one_line(
    small: Dataset, context: ScratchContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    from bench.errors import InputError

    monkeypatch.setitem(sys.modules, "implicit.cpu.als", None)
    with pytest.raises(InputError, match=r"promptrec-bench\[train\]"):
        fitted(small, context)

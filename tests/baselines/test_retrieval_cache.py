"""Candidates that are kept: shared, cut, and never those of somebody else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from baselines.popularity import Popularity
from baselines.retrieval_cache import RetrievalCache, identity_of
from bench.contracts import Dataset, Ranking, Requests
from tests.conftest import ScratchContext


class Counted(Popularity):
    calls = 0

    def rank(self, requests: Requests, k: int) -> Ranking:
        type(self).calls += 1
        return super().rank(requests, k)


@pytest.fixture
def base(small: Dataset, context: ScratchContext) -> Counted:
    model = Counted()
    model.fit(small.for_training(), context)
    Counted.calls = 0
    return model


def asked(data: Dataset, prompts: Any = None) -> Requests:
    return Requests(np.arange(10, dtype=np.int32), data.events.take(np.arange(10)), prompts)


def test_a_second_language_model_finds_what_the_first_retrieved(base: Counted, small: Dataset, tmp_path: Path) -> None:
    first, second = (RetrievalCache(base, "the base", tmp_path / "kept") for _ in range(2))
    items = first.items(asked(small), 20)
    assert (second.items(asked(small), 20) == items).all() and Counted.calls == 1
    assert (second.items(asked(small), 5) == items[:, :5]).all() and Counted.calls == 1
    assert (items == base.rank(asked(small), 20).items).all()


def test_other_requests_bases_and_depths_have_their_own(base: Counted, small: Dataset, tmp_path: Path) -> None:
    cache = RetrievalCache(base, "the base", tmp_path / "kept")
    others = [asked(small), asked(small, ("a",) * 10), asked(small, ("b", *"a" * 9)), asked(small).take(np.arange(9))]
    others.append(replace(asked(small), history=small.events.take(np.arange(10)[::-1])))
    for number, requests in enumerate(others, 1):
        cache.items(requests, 20)
        assert Counted.calls == number
    RetrievalCache(base, "another", tmp_path / "kept").items(others[0], 20)
    cache.items(others[0], 120)
    assert Counted.calls == len(others) + 2 == len(list((tmp_path / "kept").iterdir()))


@pytest.mark.parametrize("damage", [b"", b"half", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_a_damaged_file_is_made_anew(base: Counted, small: Dataset, tmp_path: Path, damage: bytes) -> None:
    cache = RetrievalCache(base, "the base", tmp_path / "kept")
    items = cache.items(asked(small), 20)
    (path,) = (tmp_path / "kept").iterdir()
    path.write_bytes(damage)
    assert (cache.items(asked(small), 20) == items).all() and Counted.calls == 2
    assert (cache.items(asked(small), 20) == items).all() and Counted.calls == 2


def test_an_identity_hangs_on_the_weights(base: Counted, tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    folder.mkdir()
    base.save(folder)
    before = identity_of(base, folder)
    assert before == identity_of(base, folder)
    base.arrays = {name: array + 1 for name, array in base.arrays.items()}
    base.save(folder)
    assert identity_of(base, folder) != before

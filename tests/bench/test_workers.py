"""Work over processes gives what a loop gives, in the same order, and its mistakes come to the caller."""

from __future__ import annotations

import os

import pytest

from bench import workers
from bench.errors import InputError


def squared(number: int) -> tuple[int, int]:
    return number * number, os.getpid()


def refuse(number: int) -> int:
    raise InputError(f"piece {number} is wrong")


def ready() -> None:
    """Nothing to import."""


@pytest.mark.parametrize("pieces", [3, workers.ENOUGH])
def test_pieces_come_in_order_from_one_process_or_several(pieces: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    with workers.spread(pieces, ready) as over:
        made = list(over(squared, range(5)))
        assert [value for value, _ in made] == [0, 1, 4, 9, 16]
        assert all(process == os.getpid() for _, process in made) == (pieces < workers.ENOUGH)
        with pytest.raises(InputError, match="piece 0 is wrong"):
            list(over(refuse, range(2)))

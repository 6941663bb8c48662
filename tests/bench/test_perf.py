"""`bench perf`: options of each benchmark, and that one measures what it says (no speed is asserted)."""

from __future__ import annotations

import json

import pytest

from bench.cli import main as cli


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["trian"], "Did you mean 'train'"),
        (["train", "--set", "backbon=x"], "Did you mean 'backbone'"),
        (["train", "--set", "length=abc"], "expected a value like 200"),
        (["train", "--set", "backbone=popularity"], "is no backbone"),
    ],
)
def test_wrong_options_get_one_line(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["perf", *arguments]) == 2
    seen = capsys.readouterr()
    assert told in seen.err and seen.err.count("\n") == 1 and not seen.out


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["sasrec", "gru4rec", "bert4rec"])
def test_every_backbone_is_measured_beside_the_floor(backbone: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--seconds", "0.2", "--rounds", "1", "--set", f"backbone={backbone}", "--set", "length=50", "--json"]
    assert cli.main(["perf", "train", *options]) == 0
    measured = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert measured["ratio"] == pytest.approx(measured["positions_per_s"] / measured["floor_positions_per_s"])

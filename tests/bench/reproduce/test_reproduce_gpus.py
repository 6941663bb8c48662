"""Rows of table 2 that need a GPU: the plan says which one and how long, and without one they keep their published values."""

import json
from functools import partial

import pytest

from bench.reproduce import grids

ASKED = ("table2", "--plan", "--json", "--limit", "5", "--device", "cpu")


@pytest.fixture
def call(tmp_path, monkeypatch, command_line):
    monkeypatch.chdir(tmp_path)
    return partial(command_line, "reproduce")


def cells(call, *more):
    code, out, err = call(*ASKED, *more)
    assert code == 0, err
    return json.loads(out)["cells"]


def test_the_plan_says_what_seven_billion_weights_take(call):
    found = cells(call, "--only", "reclm_gen,recgpt")
    large = [cell for cell in found if "base_model" not in cell["settings"]]
    # SEQ, three conditions of POS and two of NEG, of three rows.
    assert len(large) == 18 and {cell["status"] for cell in large} == {"not available"}
    reasons = {(cell["model"], cell["settings"].get("stage")): cell["reason"] for cell in large}
    assert reasons["reclm_gen", None] == (
        "needs a GPU with 24 GiB; there, by estimate, 8 h of training on MovieLens-1M and 2 min of ranking for 1,000 examples"
    )
    assert "40 GiB" in reasons["reclm_gen", "rl"] and "13 h of training" in reasons["reclm_gen", "rl"]
    assert reasons["recgpt", None].endswith("by estimate, 4 min of ranking for 1,000 examples")


def test_a_small_model_from_scratch_runs_anywhere(call):
    found = cells(call, "--only", "reclm_gen")
    small = [cell for cell in found if cell["settings"].get("base_model") == "small"]
    assert len(small) == 6 and {cell["status"] for cell in small} == {"new"}


def test_where_there_is_a_gpu_they_are_runs_like_others(call, monkeypatch):
    monkeypatch.setattr("bench.reproduce.plan.resolve_device", lambda device: "cuda")
    assert {cell["status"] for cell in cells(call, "--only", "reclm_gen,recgpt")} == {"new"}


def test_their_labels_are_those_of_the_published_values():
    labels = [row.label for row in grids.grid("table2").rows if row.gpu]
    assert labels == ["RecGPT-7B", "RecLM-gen", "RecLM-gen + RL"]

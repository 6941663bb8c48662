"""What `bench list` remembers: that it is the truth, and that an edit anywhere behind it is seen."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import pytest

from bench import listing, registry

PLUGIN = """
from bench.cards import ModelCard

class Plugged:
    card = ModelCard(name="plugged", summary={summary!r}, information="none")
"""


@pytest.fixture
def plugged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A third party's package with one model, found by entry point, and a memory of its own."""
    package = tmp_path / "plugged_models"
    package.mkdir()
    (package / "__init__.py").write_text("", "utf-8")
    (package / "model.py").write_text(PLUGIN.format(summary="first"), "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    entry = importlib.metadata.EntryPoint("plugged", "plugged_models.model:Plugged", "bench.models")
    monkeypatch.setattr(listing, "_place", lambda: tmp_path / "cache" / "listing.json")
    found = importlib.metadata.EntryPoints([entry])
    monkeypatch.setattr(listing, "entry_points", lambda: found)
    monkeypatch.setattr(registry, "entry_points", lambda: found)
    registry.clear()
    yield package
    registry.clear()


def forget() -> None:
    """As a new process would start."""
    import sys

    registry.clear()
    for name in [name for name in sys.modules if name.startswith("plugged_models")]:
        del sys.modules[name]


def summary() -> Any:
    return listing.listing()["models"]["plugged"].get("summary")


def test_remembers_and_sees_an_edit(plugged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert summary() == "first"
    forget()
    monkeypatch.setattr(registry, "cards", lambda kind: pytest.fail("read again although nothing has changed"))
    assert summary() == "first"
    monkeypatch.undo()


def test_an_edit_is_seen_at_once(plugged: Path) -> None:
    assert summary() == "first"
    (plugged / "model.py").write_text(PLUGIN.format(summary="the second"), "utf-8")
    forget()
    assert summary() == "the second"


@pytest.mark.parametrize("damage", ["", "{", '{"key": 3}', "[]"])
def test_a_damaged_memory_is_made_anew(plugged: Path, damage: str) -> None:
    summary()
    listing._place().write_text(damage, "utf-8")
    forget()
    assert summary() == "first"


def test_what_does_not_load_is_never_remembered(plugged: Path) -> None:
    (plugged / "model.py").write_text("raise RuntimeError('half installed')", "utf-8")
    forget()
    assert "half installed" in listing.listing()["models"]["plugged"]["broken"]
    assert not listing._place().exists()

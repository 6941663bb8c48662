"""Variants of LANCER that its checks compare (`bench probe templates`, `bench probe transfer`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from baselines.lancer.wording import WORDINGS


def templates(*, retrain: bool) -> dict[str, dict[str, Any]]:
    """Every wording, the released one first: in serving alone, or in training too."""
    key = "wording" if retrain else "asked"
    return {name: {key: name} if name != "released" else {} for name in WORDINGS}


def transfer(*, source: str, source_dir: Path | None) -> dict[str, dict[str, Any]]:
    """The knowledge prompt learned on the dataset itself, taken over from the source, and random; on one base model."""
    lent = {"source": source, "source_dir": source_dir}
    return {
        "learned here": lent | {"knowledge": "own"},
        f"from {source}": lent | {"knowledge": "source"},
        "untrained": lent | {"knowledge": "untrained"},
    }

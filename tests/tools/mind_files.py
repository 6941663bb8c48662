"""A tiny folder in MIND's layout, written by hand so that every event in it is known."""

from __future__ import annotations

from pathlib import Path

NEWS = [
    ("N1", "sports", "football_nfl", 'The "Eagles" fly', "A game."),
    ("N2", "foodanddrink", "recipes", "Soup", ""),
    ("N3", "tv", "tv-celebrity", "Late show ends", "It ends."),
    ("N4", "news", "newsus", "Vote is close", "Count."),
]
TRAIN = [
    ("1", "U2", "11/11/2019 9:05:58 AM", "N1 N2", "N3-1 N4-0"),
    ("2", "U1", "11/10/2019 11:00:00 PM", "", "N4-1 N1-1"),
    ("3", "U2", "11/09/2019 12:00:01 AM", "N1", "N2-0 N4-1"),
]
DEV = [
    ("1", "U1", "11/15/2019 1:00:00 AM", "N4", "N2-1 N4-1"),
    ("2", "U3", "11/15/2019 8:55:22 AM", "N3 N2 N3", "N1-1"),
]


def write_mind(root: Path, train=TRAIN, dev=DEV, news=NEWS, prefix: str = "") -> Path:
    """`root` with the parts train and dev."""
    for part, rows in (("train", train), ("dev", dev)):
        folder = root / f"{prefix}{part}"
        folder.mkdir(parents=True, exist_ok=True)
        lines = ["\t".join((*item, f"https://example.org/{item[0]}", '[{"Label": "X"}]', "[]")) for item in news]
        (folder / "news.tsv").write_text("\n".join(lines) + "\n", "utf-8")
        (folder / "behaviors.tsv").write_text("".join("\t".join(row) + "\n" for row in rows), "utf-8")
    return root

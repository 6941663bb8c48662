"""Precision of the step from text to items alone: an item's own string, whole and damaged, is mapped and nothing generated."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from bench.contracts import Dataset, Ints, Progress
from bench.errors import InputError
from bench.rng import named_generator
from bench.statistics import wilson

Damage = Callable[[str, np.random.Generator], str]
YEAR = re.compile(r"\s*\((?:1[89]|20)[0-9]{2}\)")
# Confusions that a report shows, of each kind of damage.
SHOWN = 3


@dataclass(frozen=True)
class Mapping:
    """A model's step from text to items: the `strings` it would write for each item, and texts to items int32 [n]."""

    strings: Sequence[str]
    items_of: Callable[[list[str]], Ints]


@runtime_checkable
class MapsText(Protocol):
    """A recommender that generates text, and finds items by it."""

    def mapping(self) -> Mapping:
        """The step from text to items."""


def mapping(
    model: Any, dataset: Dataset, *, seed: int, progress: Progress, samples: int
) -> dict[str, dict[str, dict[str, Any]]]:
    """`precision` of a fitted model's step from text to items, under `kinds` (`bench probe mapping`).

    Raises:
        InputError: the model writes no text.
    """
    if not isinstance(model, MapsText):
        raise InputError(f"model {model.card.name!r} writes no text that becomes items: lancer, recgpt, zero_shot do.")
    return {"kinds": precision(model.mapping(), samples=samples, seed=seed, progress=progress)}


def precision(mapping: Mapping, *, samples: int, seed: int, progress: Progress) -> dict[str, dict[str, Any]]:
    """Map the strings of items drawn by the seed, once as they are and once for each kind of `DAMAGES`.

    Args:
        mapping: what is measured.
        samples: items (all of them where there are fewer).
        seed: of the draw and of the damage.
        progress: told how far it is.

    Returns:
        For each kind: n, `right` (count), `precision` with its interval (Wilson), the `identical` strings that the damage
        left as they were, and a few `confusions` (text, found, wanted). An item with an equal string counts as right.
    """
    strings = mapping.strings
    drawn = np.sort(named_generator(seed, "mapping").permutation(len(strings))[:samples]).tolist()
    advance = progress.track("mapping texts to items", len(DAMAGES))
    found: dict[str, dict[str, Any]] = {}
    for kind, damage in DAMAGES.items():
        rng = named_generator(seed, "mapping", kind)
        texts = [damage(strings[item], rng) or strings[item] for item in drawn]
        items = mapping.items_of(texts).tolist()
        rows = list(zip(texts, items, drawn, strict=True))
        wrong = [
            {"text": text, "found": strings[item] if item >= 0 else None, "wanted": strings[wanted]}
            for text, item, wanted in rows
            if item < 0 or strings[item] != strings[wanted]
        ]
        right = len(rows) - len(wrong)
        low, high = wilson(right, len(rows))
        found[kind] = {
            "n": len(rows),
            "right": right,
            "precision": right / len(rows),
            "low": round(low, 6),
            "high": round(high, 6),
            "identical": sum(text == strings[wanted] for text, _, wanted in rows),
            "confusions": wrong[:SHOWN],
        }
        advance(1)
    return found


def _typo(text: str, rng: np.random.Generator) -> str:
    """Two neighbouring letters swapped, at one place in the text."""
    places = [at for at in range(len(text) - 1) if text[at].isalpha() and text[at + 1].isalpha()]
    if not places:
        return text
    at = places[int(rng.integers(len(places)))]
    return text[:at] + text[at + 1] + text[at] + text[at + 2 :]


def _word_left_out(text: str, rng: np.random.Generator) -> str:
    words = text.split()
    if len(words) < 2:
        return text
    del words[int(rng.integers(len(words)))]
    return " ".join(words)


def _second_half_lost(text: str, rng: np.random.Generator) -> str:
    words = text.split()
    return " ".join(words[: (len(words) + 1) // 2])


DAMAGES: dict[str, Damage] = {
    "as it is": lambda text, rng: text,
    "lower case": lambda text, rng: text.lower(),
    "no punctuation": lambda text, rng: " ".join(re.sub(r"[^\w\s]", " ", text).split()),
    "no year": lambda text, rng: YEAR.sub("", text),
    "typo": _typo,
    "word left out": _word_left_out,
    "second half lost": _second_half_lost,
}

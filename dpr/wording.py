"""How many content words a rewording shares with its original."""

from __future__ import annotations

import re
from collections.abc import Iterable

WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
# Words that carry no content of their own, so that two wordings of one fact may share them.
_EMPTY = """
a about after against all an and are as at be been before between but by can every for from had has have he her his
how if in into is it its no nobody not of off on one or other our out over own she so some than that the their them
then there these they this those through to too two under until up upon was we were what when where which while who
whose will with within without you your
"""
EMPTY = frozenset(_EMPTY.split())
ENDINGS = ("ing", "ed", "es", "ly", "s")
SHORTEST_STEM = 3


def content_words(text: str) -> set[str]:
    """Words of a text without those that carry no content, cut to a stem so that "toys" is "toy"."""
    return {_stem(word) for word in WORD.findall(text.lower()) if word not in EMPTY}


def shared(rewording: str, original: str) -> float:
    """Share of the content words of a rewording that its original has as well, 0 to 1; 0 where it has none."""
    words = content_words(rewording)
    return len(words & content_words(original)) / len(words) if words else 0.0


def mean_shared(pairs: Iterable[tuple[str, str]]) -> float:
    """Mean of `shared` over pairs of rewording and original; 0 where there is none."""
    shares = [shared(rewording, original) for rewording, original in pairs]
    return sum(shares) / len(shares) if shares else 0.0


def _stem(word: str) -> str:
    word = re.split(r"['’]", word)[0]
    for ending in ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= SHORTEST_STEM:
            return word[: -len(ending)]
    return word

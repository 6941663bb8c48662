"""From a title that a language model wrote to an item: exactly, then normalised, then by nearest sentence embedding."""

from __future__ import annotations

import re
import unicodedata
from enum import IntEnum
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.contracts import NO_ITEM, Encoder, Floats, Ints

LAST_ARTICLE = re.compile(
    r"^(.+),\s*(the|a|an|la|le|les|il|lo|gli|el|los|las|das|der|die|den|det|un|una|une|ein|eine|l)'?$"
)
# Only English ones are left out: "Die Hard" is not "Hard".
FIRST_ARTICLE = re.compile(r"^(?:the|an?)\s+(?=\S)")
YEAR = re.compile(r"\s*[(\[](1[89][0-9]{2}|20[0-9]{2})[)\]]")
BARE_YEAR = re.compile(r"[\s,–-]+(1[89][0-9]{2}|20[0-9]{2})$")
ASIDE = re.compile(r"\(([^()]*)\)")
REMARK = re.compile(r"\s+[-–—|]\s+")
# Sources disagree by a year about when a film came out.
YEARS_APART = 1

Reading = tuple[str, int | None]


class Kind(IntEnum):
    """How a title was found; `NONE` is an empty place."""

    NONE = 0
    EXACT = 1
    NORMALISED = 2
    EMBEDDING = 3
    OUT_OF_CATALOGUE = 4


class Grounder:
    """Finds items by title.

    Args:
        titles: the catalogue's, V of them.
        vectors: their unit-length sentence embeddings, float32 [V, d].
        encoder: what made the vectors.
        threshold: lowest cosine at which the nearest title is taken for the one that was meant (methods 5.1: .6).
    """

    def __init__(self, titles: tuple[str, ...], vectors: Floats, encoder: Encoder, threshold: float = 0.6) -> None:
        self._vectors, self._encoder, self._threshold = vectors, encoder, threshold
        self._exact: dict[str, int] = {}
        self._normal: dict[str, list[tuple[int, int | None]]] = {}
        for item, title in enumerate(titles):
            self._exact.setdefault(title.strip(), item)
            for base, year in catalogue_readings(title):
                self._normal.setdefault(base, []).append((item, year))

    def ground(self, texts: list[str]) -> tuple[Ints, npt.NDArray[np.int8]]:
        """Items int32 [n] (NO_ITEM where none is near enough) and the kind of each grounding, int8 [n]."""
        items, kinds = np.full(len(texts), NO_ITEM, np.int32), np.full(len(texts), Kind.OUT_OF_CATALOGUE, np.int8)
        left: dict[str, list[int]] = {}
        for place, text in enumerate(texts):
            item, kind = self._by_words(text)
            if item is None:
                left.setdefault(text, []).append(place)
            else:
                items[place], kinds[place] = item, kind
        if left:
            for places, item in zip(left.values(), self._nearest(list(left)), strict=True):
                if item != NO_ITEM:
                    items[places], kinds[places] = item, Kind.EMBEDDING
        return items, kinds

    def _by_words(self, text: str) -> tuple[int | None, Kind]:
        text = text.strip()
        if text in self._exact:
            return self._exact[text], Kind.EXACT
        for reading in answer_readings(text):
            item = self._normalised(reading)
            if item is not None:
                return item, Kind.NORMALISED
        return None, Kind.NONE

    def _normalised(self, reading: Reading) -> int | None:
        """The item of that name and year; without a year, only where a single item has the name."""
        base, year = reading
        found = self._normal.get(base, [])
        if year is None:
            return found[0][0] if len({item for item, _ in found}) == 1 else None
        near = [(abs((own or year) - year), item) for item, own in found if abs((own or year) - year) <= YEARS_APART]
        return min(near)[1] if near else None

    @cached_property
    def _index(self) -> Any:
        import faiss

        # Unit vectors: the inner product is the cosine.
        index = faiss.IndexFlatIP(self._vectors.shape[1])
        index.add(np.ascontiguousarray(self._vectors, np.float32))
        return index

    def _nearest(self, texts: list[str]) -> list[int]:
        cosine, item = self._index.search(np.ascontiguousarray(self._encoder.encode(texts), np.float32), 1)
        return np.where(cosine[:, 0] >= self._threshold, item[:, 0], NO_ITEM).tolist()


def answer_readings(text: str) -> list[Reading]:
    """What a written title may stand for, the likeliest first: a name in its normal form and a year.

    A remark after the year or after a dash is left out in the later readings, and so is a bare year at the end ("Heat,
    1995"), which may as well be part of the name ("Blade Runner 2049").
    """
    readings: list[Reading] = []
    found = YEAR.search(text)
    if found:
        readings += [(name, int(found[1])) for name in _names(text[: found.start()] or text[found.end() :])]
    else:
        readings += [(name, None) for name in _names(text)]
        bare = BARE_YEAR.search(text)
        if bare:
            readings += [(name, int(bare[1])) for name in _names(text[: bare.start()])]
    remark = REMARK.search(text)
    if remark and remark.start():
        head = text[: remark.start()]
        year = int(found[1]) if found else None
        readings += [(name, year) for name in _names(YEAR.sub("", head))]
    return list(dict.fromkeys(reading for reading in readings if reading[0]))


def catalogue_readings(title: str) -> list[Reading]:
    """The names under which an item is found, each with its year: the title, without asides, and each aside alone."""
    found = None
    for found in YEAR.finditer(title):  # noqa: B007 - the last one is the item's own
        pass
    year = int(found[1]) if found else None
    text = title[: found.start()] + title[found.end() :] if found else title
    asides = [normal(re.sub(r"(?i)^a\.?k\.?a\.?\s+", "", aside)) for aside in ASIDE.findall(text)]
    return [(name, year) for name in dict.fromkeys([*_names(text), *asides]) if name]


def _names(text: str) -> list[str]:
    """Normal forms of the whole and of what is outside parentheses."""
    return [name for name in dict.fromkeys([normal(text), normal(ASIDE.sub(" ", text))]) if name]


def normal(name: str) -> str:
    """A name without case, accents, punctuation and article: "Matrix, The" and "The Matrix" are both "matrix"."""
    plain = unicodedata.normalize("NFKD", name)
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter)).casefold()
    plain = plain.replace("’", "'").replace("&", " and ").strip(" \t.,;:!?\"'")
    inverted = LAST_ARTICLE.match(plain)
    if inverted:
        plain = inverted[2] + ("" if inverted[2] == "l" else " ") + inverted[1]
    plain = FIRST_ARTICLE.sub("", plain, count=1)
    spaced = "".join(letter if letter.isalnum() else "" if letter == "'" else " " for letter in plain)
    return " ".join(spaced.split())

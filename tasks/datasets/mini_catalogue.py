"""The catalogue of `mini`: films written from a small grammar with latent facets.

A film has a setting, a protagonist, a conflict, a mood and an appeal. Each facet value belongs to a genre and has two
wordings that share their facts and hardly any word: one for the train tags, the other for the eval tags.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
import numpy.typing as npt

from bench.rng import pick, uniform_draws
from tasks.datasets.base import Item, item_text

FACETS = ("setting", "protagonist", "conflict", "mood", "appeal")
# Films by primary genre, in the order of the grammar's blocks; uneven as in real catalogues. Sums to 600.
GENRE_SIZES = (90, 80, 65, 55, 50, 48, 45, 42, 38, 33, 29, 25)
# Probability of no, one and two secondary genres.
SECONDARY = (0.35, 0.45, 0.20)
# Attempts at a combination of facets that no other film has; a genre offers at least 125.
TRIES = 64
FIRST_YEAR, YEARS = 1950, 70

Wordings = tuple[tuple[str, str], ...]
Draws = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Genre:
    """A block of the grammar: the genre's neighbours and, for each facet, its values as (train, eval) wordings."""

    name: str
    beside: tuple[str, ...]
    facets: dict[str, Wordings]


@dataclass(frozen=True)
class Grammar:
    """Genres by name, in file order, and the words of titles."""

    genres: dict[str, Genre]
    first: tuple[str, ...]
    second: tuple[str, ...]


@cache
def read_grammar() -> Grammar:
    """The grammar shipped with the package (`data/mini-grammar.txt`, which describes its own form)."""
    blocks: dict[str, list[tuple[str, str]]] = {}
    block = ""
    for line in files("tasks.datasets").joinpath("data", "mini-grammar.txt").read_text("utf-8").splitlines():
        if line.startswith("["):
            block = line.strip("[]")
            blocks[block] = []
        elif line and not line.startswith("#"):
            key, _, value = line.partition(": ")
            blocks[block].append((key, value))
    titles = {key: tuple(value.split()) for key, value in blocks.pop("titles")}
    return Grammar({name: _genre(name, lines) for name, lines in blocks.items()}, titles["first"], titles["second"])


def _genre(name: str, lines: list[tuple[str, str]]) -> Genre:
    facets: dict[str, list[tuple[str, str]]] = {facet: [] for facet in FACETS}
    for key, value in lines[1:]:
        train, _, evaluation = value.partition(" | ")
        facets[key].append((train, evaluation))
    return Genre(name, tuple(lines[0][1].split(", ")), {facet: tuple(values) for facet, values in facets.items()})


def write_items(seed: int) -> list[Item]:
    """The 600 films of a seed, in an order that says nothing of their genre.

    Labels list the primary genre first, then up to two secondary ones from among its neighbours. Protagonist, conflict
    and mood come from the primary genre; setting and appeal from any of the film's genres. No two films have the same
    setting, protagonist and conflict.
    """
    grammar = read_grammar()
    count = sum(GENRE_SIZES)
    order = np.argsort(uniform_draws(seed, "mini/genre", count), kind="stable")
    primary = np.repeat(np.arange(len(GENRE_SIZES)), GENRE_SIZES)[order]
    names = list(grammar.genres)
    table = _table(seed, "labels", 3)
    labels = [_labels(grammar.genres[names[genre]], draws) for genre, draws in zip(primary, table, strict=True)]
    titles = _titles(seed, grammar, count)
    taken: set[tuple[str, ...]] = set()
    items = []
    for number, draws in enumerate(_table(seed, "facets", TRIES * len(FACETS) * 2)):
        facets = _facets(grammar, labels[number], draws.reshape(TRIES, len(FACETS), 2), taken)
        train, evaluation = _tags(facets, 0), _tags(facets, 1)
        text = item_text(titles[number], labels[number], train)
        items.append(Item(str(number + 1), titles[number], text, labels[number], train, evaluation))
    return items


def _table(seed: int, name: str, columns: int) -> Draws:
    """Draws in [0, 1), one row a film."""
    count = sum(GENRE_SIZES)
    return uniform_draws(seed, f"mini/{name}", count * columns).reshape(count, columns)


def _labels(genre: Genre, draws: Draws) -> tuple[str, ...]:
    extra = int(draws[0] >= SECONDARY[0]) + int(draws[0] >= SECONDARY[0] + SECONDARY[1])
    beside = list(genre.beside)
    chosen = [beside.pop(int(draw * len(beside))) for draw in draws[1 : 1 + extra]]
    return (genre.name, *chosen)


def _titles(seed: int, grammar: Grammar, count: int) -> list[str]:
    pairs = [(first, second) for first in grammar.first for second in grammar.second if first != second]
    order = np.argsort(uniform_draws(seed, "mini/titles", len(pairs)), kind="stable")[:count]
    years = FIRST_YEAR + pick(uniform_draws(seed, "mini/years", count), np.full(count, YEARS))
    chosen = (pairs[position] for position in order)
    return [f"The {first} {second} ({year})" for (first, second), year in zip(chosen, years, strict=True)]


def _facets(
    grammar: Grammar, labels: tuple[str, ...], draws: Draws, taken: set[tuple[str, ...]]
) -> dict[str, tuple[str, str]]:
    """The first attempt whose setting, protagonist and conflict are free; adds it to `taken`."""
    for attempt in draws:
        facets = {}
        for facet, (which, value) in zip(FACETS, attempt.tolist(), strict=True):
            owner = labels[int(which * len(labels))] if facet in ("setting", "appeal") else labels[0]
            wordings = grammar.genres[owner].facets[facet]
            facets[facet] = wordings[int(value * len(wordings))]
        key = tuple(facets[facet][0] for facet in FACETS[:3])
        if key not in taken:
            taken.add(key)
            return facets
    raise AssertionError(f"no free combination of facets among {len(draws)} attempts; the grammar is too small")


def _tags(facets: dict[str, tuple[str, str]], wording: int) -> tuple[str, str, str]:
    """Narrative, atmosphere and appeal in the train (0) or the eval (1) wording."""
    setting, protagonist, conflict, mood, appeal = (facets[facet][wording] for facet in FACETS)
    if wording == 0:
        return f"{protagonist} {conflict} {setting}", f"{mood} {setting}", f"{appeal}, with {protagonist} to root for"
    return f"{setting}, {protagonist} {conflict}", f"{setting}: {mood}", f"{appeal}; {protagonist} worth cheering on"

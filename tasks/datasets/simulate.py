"""Sequences of any size with the structure that recommenders live on: popularity, taste, inertia and succession.

The model is that of `mini` at scale, a block of users at a time, so that memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.contracts import Ints, Longs
from bench.rng import named_generator

# At the paper's size 265,016 users have 21,901 items; smaller worlds have fewer, so that items keep enough events.
USERS, ITEMS, GROWTH = 265_016, 21_901, 0.75
LEAST_ITEMS = 300
# Items that hardly anyone meets: a k-core removes them.
COLD_SHARE, COLD_WEIGHT = 0.25, 0.01
# Probability that the next item is a successor of the last one, and, where it is not, that it stays in its category.
FOLLOW, INERTIA = 0.35, 0.35
SUCCESSORS = 4
# Weights of a user's favourite categories; the rest goes to any item by popularity.
FAVOURITES = (0.4, 0.27, 0.17)
# Events of a user: at least so many and a log-normal rest; a few users have less than the core asks for.
LEAST, REST_MEAN, REST_SIGMA, MOST = 20, 29.5, 1.0, 300
LIGHT_SHARE, LIGHT = 0.04, (5, 20)
BLOCK_USERS = 20_000


@dataclass(frozen=True)
class World:
    """V items, sorted by category.

    `bounds` int64 [C + 1] are the categories' ranges, `cumulative` float64 [V] running sums of popularity, `successors` int32
    [V, 4] what tends to follow each item.
    """

    bounds: Longs
    cumulative: npt.NDArray[np.float64]
    successors: Ints

    @property
    def category(self) -> Longs:
        """Category of every item, int64 [V]."""
        return np.repeat(np.arange(len(self.bounds) - 1), np.diff(self.bounds))

    def draw(self, category: Any, uniform: npt.NDArray[np.float64]) -> Ints:
        """Items of the given categories by popularity; category -1 is any. int32 like `category`."""
        low = np.where(category < 0, 0, self.bounds[category])
        high = np.where(category < 0, self.bounds[-1], self.bounds[category + 1])
        sums = np.concatenate([[0.0], self.cumulative])
        point = sums[low] + uniform * (sums[high] - sums[low])
        return np.clip(np.searchsorted(self.cumulative, point, "right"), low, high - 1).astype(np.int32)


def make_world(shares: Sequence[float], users: int, seed: int) -> World:
    """Items in categories of the given relative sizes, as many as suit the number of users.

    Popularity within a category follows Zipf's law with a shift; three of the four successors of an item share its category.
    """
    rng = named_generator(seed, "generate", "world")
    warm = max(LEAST_ITEMS, round(ITEMS * (users / USERS) ** GROWTH))
    sizes = np.maximum(np.round(np.asarray(shares) / sum(shares) * warm), 8).astype(np.int64)
    cold = np.maximum((sizes * COLD_SHARE).astype(np.int64), 1)
    bounds = np.concatenate([[0], (sizes + cold).cumsum()])
    weights, successors = np.empty(bounds[-1]), np.empty((bounds[-1], SUCCESSORS), np.int32)
    warm_items = np.concatenate([np.arange(low, low + size) for low, size in zip(bounds, sizes, strict=False)])
    for low, size, rare in zip(bounds[:-1], sizes, cold, strict=True):
        weights[low : low + size] = 1.0 / (np.arange(size) + SUCCESSORS)
        weights[low + size : low + size + rare] = COLD_WEIGHT / (size + SUCCESSORS)
        successors[low : low + size + rare] = low + rng.integers(0, size, (size + rare, SUCCESSORS))
    successors[:, -1] = rng.choice(warm_items, len(successors))
    return World(bounds, weights.cumsum(), successors)


def sequences(world: World, users: int, seed: int) -> Iterator[tuple[int, Ints, Longs]]:
    """The users' events, a block of users at a time.

    Yields:
        The first user's number, items int32 [R, longest] padded with -1, and lengths int64 [R]. An item may repeat.
    """
    for first in range(0, users, BLOCK_USERS):
        rng = named_generator(seed, "generate", "users", str(first))
        size = min(BLOCK_USERS, users - first)
        # Longest first, so that those still active are always the first rows of the table.
        lengths = np.sort(_lengths(size, rng))[::-1]
        events = _walk(world, lengths, rng)
        order = rng.permutation(size)
        yield first, events[order], lengths[order]


def _lengths(size: int, rng: np.random.Generator) -> Longs:
    rest = rng.lognormal(np.log(REST_MEAN) - REST_SIGMA**2 / 2, REST_SIGMA, size)
    lengths = np.minimum(LEAST + rest, MOST).astype(np.int64)
    light = rng.random(size) < LIGHT_SHARE
    lengths[light] = rng.integers(*LIGHT, int(light.sum()))
    return lengths


def _walk(world: World, lengths: Longs, rng: np.random.Generator) -> Ints:
    count = len(world.bounds) - 1
    favourites = world.category[world.draw(np.full((len(lengths), len(FAVOURITES)), -1), rng.random((len(lengths), 3)))]
    limits = np.cumsum(FAVOURITES)
    events = np.full((len(lengths), int(lengths[0])), -1, np.int32)
    last = np.empty(0, np.int32)
    for step in range(int(lengths[0])):
        active = int(np.searchsorted(-lengths, -step, "left"))
        draw = rng.random((active, 5))
        place = np.searchsorted(limits, draw[:, 0])
        liked = np.concatenate([favourites[:active], np.full((active, 1), -1)], 1)[np.arange(active), place]
        if step:
            last = last[:active]
            stays = draw[:, 1] < INERTIA
            liked = np.where(stays, np.searchsorted(world.bounds, last, "right") - 1, liked)
        item = world.draw(np.minimum(liked, count - 1), draw[:, 2])
        if step:
            follows = draw[:, 3] < FOLLOW
            item[follows] = world.successors[last[follows], (draw[follows, 4] * SUCCESSORS).astype(np.int64)]
            # Who has read it already takes something else; a second repeat stands, as it does in real logs.
            again = np.flatnonzero((events[:active, :step] == item[:, None]).any(1))
            item[again] = world.draw(np.full(len(again), -1), rng.random(len(again)))
        events[:active, step] = last = item
    return events

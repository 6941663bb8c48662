"""Reachability (Carroll et al. 2025): how near can one person bring the own list to another one's by asking for things?

For pairs of users u and u', the goal is what the model gives u' without words, less what u has seen. u asks once, with every
label in an evaluation template and with every reworded tag of the goal's items; what counts is the share of the goal in u's top ten.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.contracts import NO_ITEM, POSITIVE, Dataset, Ints, Longs, Progress, Ragged, Recommender, Requests
from bench.errors import InputError
from bench.rng import named_generator
from tasks.prompt_pools import render, templates

K = 10


def reachability(model: Recommender, dataset: Dataset, *, pairs: int, seed: int, progress: Progress) -> dict[str, Any]:
    """Measure it on pairs of users drawn by the seed.

    Args:
        model: reads prompts; fitted on the dataset.
        dataset: with its evaluation tags; histories are train and validation.
        pairs: how many.
        seed: of the draws.
        progress: told how far it is.

    Returns:
        `pairs`, `requests` (a pair's, on average), and means over pairs of the share of the goal in the list: `before` (without
        words), `one` (a request at random), `best` (the best of the requests), and `moved`, the share of pairs whose best is
        nearer than before.

    Raises:
        InputError: the model hears no prompts, or there are not two users with a history.
    """
    if model.card.information == "none":
        raise InputError(f"model {model.card.name!r} hears no words, so nothing is reached with them.")
    users = np.flatnonzero(dataset.valid_end > 0)
    if len(users) < 2:
        raise InputError(f"{dataset.name}: reachability takes two users with a history.")
    rng = named_generator(seed, "reachability")
    drawn = np.array([rng.choice(users, 2, replace=False) for _ in range(pairs)])
    histories = _histories(dataset, drawn.reshape(-1))
    plain = model.rank(Requests(drawn.reshape(-1).astype(np.int32), histories), 2 * K).items
    values, asked, advance = [], 0, progress.track("reachability", pairs)
    for number, (user, _) in enumerate(drawn):
        own, history = plain[2 * number, :K], histories[2 * number]
        goal = _without(plain[2 * number + 1], history)
        prompts = _prompts(dataset, goal, rng)
        rows = np.full(len(prompts), 2 * number)
        requests = Requests(np.full(len(prompts), user, np.int32), histories.take(rows), tuple(prompts))
        shares = [_share(row, goal) for row in model.rank(requests, K).items]
        values.append((_share(own, goal), float(np.mean(shares)), max(shares)))
        asked += len(prompts)
        advance(1)
    before, one, best = np.asarray(values).T
    return {
        "pairs": pairs,
        "requests": round(asked / pairs, 1),
        "before": float(before.mean()),
        "one": float(one.mean()),
        "best": float(best.mean()),
        "moved": float((best > before).mean()),
    }


def _histories(dataset: Dataset, users: Longs) -> Ragged:
    return Ragged.of([dataset.events[user][: dataset.valid_end[user]] for user in users])


def _without(items: Ints, seen: Ints) -> Ints:
    """The first ten of a list that are not among the seen."""
    return items[(items != NO_ITEM) & ~np.isin(items, seen)][:K]


def _share(items: Ints, goal: Ints) -> float:
    return float(np.isin(goal, items).mean()) if len(goal) else 0.0


def _prompts(dataset: Dataset, goal: Ints, rng: np.random.Generator) -> list[str]:
    catalogue = dataset.catalogue
    pool = templates(dataset.card.domain, POSITIVE, "eval")
    asked = [render(pool[rng.integers(len(pool))], [name]) for name in catalogue.label_names]
    tags = catalogue.eval_tags or ((),) * len(catalogue)
    return [*asked, *(tag for item in goal for tag in tags[item])]

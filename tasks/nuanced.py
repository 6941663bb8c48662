"""Nuanced requests: wishes in people's own words that name no label (Section 4.4), ranked here and judged afterwards."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from bench.cards import Settings, TaskCard
from bench.contracts import (
    NO_ITEM,
    POSITIVE,
    Dataset,
    Examples,
    Intent,
    Ints,
    Ragged,
    Ranking,
    Requests,
    Scores,
    Targets,
)
from bench.errors import InputError
from tasks.queries import Queries, histories
from tasks.request_sets import SHIPPED, RequestSet, read_request_set

K = 10


class NuancedSettings(Settings):
    """Settings of the task. `digest` is filled in by the harness; given by hand, it refuses any other set."""

    requests: str = Field(SHIPPED, description="a request set (a file of `bench simulate`), or shipped")
    digest: str = Field("", description="SHA-256 of its requests")
    places: ClassVar[frozenset[str]] = frozenset({"requests"})


class Nuanced:
    """Rank for what somebody asks in their own words. What is right, nobody knows: a judge says how well it fits."""

    card: ClassVar[TaskCard] = TaskCard(
        name="nuanced",
        summary="Nuanced requests (mood, plot, occasion) that name no label; ranked here, scored by `bench judge`.",
        main_metric="overall_score",
        metrics=("history_alignment", "intent_fulfillment", "overall_score", "responsiveness@10"),
        prompted=True,
        judged=True,
        citation="Lyu et al. 2026, Give Users the Wheel: Towards Promptable Recommendation Paradigm, Section 4.4",
        notes=(
            "One example a user and mode, in the order of the request set; history is train and validation; seen items are "
            "masked. The set's digest is part of a run's identity.",
            "There is no right item. responsiveness@10 says how much a list follows the words at all: it is 0 for a model "
            "that hears none, and says nothing of whether the change is for the better. The scores of Table 4 are a judge's.",
            "Every request is a wish, so the router's accuracy is the share of them that it does not take for a refusal.",
        ),
    )
    Settings: ClassVar[type[Settings]] = NuancedSettings

    def __init__(self, settings: NuancedSettings | None = None) -> None:
        self.settings = settings or NuancedSettings.parse("task nuanced", {})

    @property
    def condition(self) -> str:
        """Free words."""
        return "free"

    @classmethod
    def suited(cls, dataset: Dataset, values: dict[str, Any]) -> dict[str, Any]:
        """The settings with the digest of the request set that they mean on a dataset.

        Raises:
            InputError: the set cannot be read, is for another dataset or has users that it lacks, or is not the one of a given
                digest.
        """
        name = str(values.get("requests", SHIPPED))
        return values | {"digest": _read(name, str(values.get("digest", "")), dataset).digest}

    def request_set(self, dataset: Dataset) -> RequestSet:
        """The requests that are put on a dataset.

        Raises:
            InputError: as `suited`.
        """
        return _read(self.settings.requests, self.settings.digest, dataset)

    def examples(self, dataset: Dataset, *, split: str, seed: int) -> Examples:
        """One example a request. The seed changes nothing here: the requests are frozen.

        Raises:
            InputError: as `suited`, or a user has no event before the split.
        """
        asked = self.request_set(dataset).requests
        number = {user: row for row, user in enumerate(dataset.user_ids)}
        start = dataset.train_end if split == "valid" else dataset.valid_end
        for request in asked:
            if not start[number[request.user_id]]:
                raise InputError(
                    f"request set {self.settings.requests}: user {request.user_id!r} has no event before the {split} split."
                )
        users = np.array([number[request.user_id] for request in asked], np.int64)
        history = histories(dataset, Queries(users, start[users], dataset.events.lengths[users]))
        size = len(asked)
        wishes = Intent(
            np.full(size, NO_ITEM, np.int32),
            np.ones((1, len(dataset.catalogue)), bool),
            np.full(size, POSITIVE, np.int8),
        )
        requests = Requests(users.astype(np.int32), history, tuple(request.statement for request in asked))
        nothing = Ragged(np.zeros(size + 1, np.int64), np.empty(0, np.int32))
        return Examples(requests, Targets(nothing, wishes, np.zeros(size, np.int32)))

    def score(self, ranking: Ranking, examples: Examples) -> Scores:
        """How much each list follows the words: see `responsiveness`."""
        return Scores({f"responsiveness@{K}": responsiveness(ranking.items, examples.requests.users, K)})


def responsiveness(items: Ints, users: Ints, k: int) -> npt.NDArray[np.float64]:
    """Mean Hamming distance, 1 - |A ∩ B| / k, between a top-k list and those for the same user's other requests.

    The distance is the one of Zhou et al. 2010 (PNAS 107, 10, "diversity"), here within a user.

    Args:
        items: rankings, int32 [B, at least k]; NO_ITEM where a place is empty.
        users: int32 [B].
        k: places that count.

    Returns:
        float64 [B] in 0 to 1; 0 where a list is empty, NaN where the user has no other list.
    """
    top = items[:, :k]
    filled = (top != NO_ITEM).any(1)
    values = np.full(len(items), np.nan)
    order = np.argsort(users, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(users[order])) + 1):
        answered = [row for row in rows.tolist() if filled[row]]
        for row in rows.tolist():
            others = [top[other] for other in answered if other != row]
            if others:
                shared = [np.isin(other[other != NO_ITEM], top[row]).sum() for other in others]
                values[row] = 1.0 - float(np.mean(shared)) / k if filled[row] else 0.0
    return values


def _read(name: str, digest: str, dataset: Dataset) -> RequestSet:
    found = read_request_set(name, dataset.name)
    if digest and found.digest != digest:
        raise InputError(
            f"request set {name} has digest {found.digest[:12]}, expected {digest[:12]}: it is not the set that was meant."
        )
    known = set(dataset.user_ids)
    missing = next((request.user_id for request in found.requests if request.user_id not in known), None)
    if missing is not None:
        raise InputError(f"request set {name}: dataset {dataset.name!r} has no user {missing!r}.")
    return found

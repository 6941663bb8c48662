"""What POS and NEG share: settings, the three information conditions, and examples that are stacked window by window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import field_validator

from bench import metrics
from bench.cards import Settings, TaskCard
from bench.contracts import Bools, Dataset, Examples, Intent, Ints, Longs, Ragged, Ranking, Requests, Scores, Targets
from bench.errors import InputError
from bench.rng import pick, uniform_draws
from tasks.prompt_pools import render, templates
from tasks.queries import Positions, Queries, event_index, futures, histories, queries

PromptKind = Literal["genre", "genres", "tag"]


class PromptedSettings(Settings):
    """Settings of POS and NEG. `windows` empty: those of the dataset's card."""

    protocol: Literal["paper", "strict"] = "paper"
    prompt_kind: PromptKind = "genre"
    windows: tuple[int, ...] = ()
    positions: Positions = "first"

    @field_validator("windows", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(int(part) for part in value.split(",")) if isinstance(value, str) else value

    @field_validator("windows")
    @classmethod
    def _positive(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(n < 1 for n in value) or len(set(value)) != len(value):
            raise ValueError("windows are distinct numbers of at least 1")
        return value


@dataclass(frozen=True)
class Draw:
    """Uniform draws in [0, 1) of one task and seed, one for each event of the dataset, read at the queries' event index."""

    seed: int
    task: str
    size: int

    def __call__(self, what: str, index: Longs) -> npt.NDArray[np.float64]:
        """Draws for one purpose, float64 like `index`."""
        return uniform_draws(self.seed, f"{self.task}/{what}", self.size)[index]


@dataclass(frozen=True)
class Posed:
    """One window's examples before words are put to them.

    `kept` are the rows of the queries that have enough compliant events; `targets` and `rule` belong to those.
    `about` int32 is the item whose tag a wish describes; `named` are the label indices that the prompt names.
    """

    kept: Longs
    targets: Ragged
    rule: Ints
    about: Ints
    named: list[npt.NDArray[np.int32]]


class PromptedTask:
    """Base of POS and NEG. A subclass says which events comply (`rules`, `pose`) and which words name what is meant."""

    card: ClassVar[TaskCard]
    Settings: ClassVar[type[Settings]] = PromptedSettings
    polarity: ClassVar[int]

    def __init__(self, settings: PromptedSettings | None = None) -> None:
        self.settings = settings or PromptedSettings()

    @property
    def condition(self) -> str:
        """The information condition of the prompts: genre, genres or tag."""
        return self.settings.prompt_kind

    def rules(self, dataset: Dataset) -> Bools:
        """Which items comply with each rule, bool [rules, V]."""
        raise NotImplementedError

    def pose(self, dataset: Dataset, asked: Queries, history: Ragged, future: Ragged, n: int, draw: Draw) -> Posed:
        """Targets and rules of window `n`."""
        raise NotImplementedError

    def examples(self, dataset: Dataset, *, split: str, seed: int) -> Examples:
        """All examples, window by window and user by user within a window.

        Raises:
            InputError: the dataset lacks what the condition needs, or no user has enough compliant events.
        """
        asked = queries(dataset, split, self.settings.positions)
        history, future = histories(dataset, asked), futures(dataset, asked)
        draw = Draw(seed, f"{self.card.name}/{split}", len(dataset.events.values))
        rules = self.rules(dataset)
        parts = []
        for n in self.settings.windows or dataset.card.windows:
            posed = self.pose(dataset, asked, history, future, n, draw)
            index = event_index(dataset, asked)[posed.kept]
            intent = Intent(posed.rule, rules, np.full(len(posed.kept), self.polarity, np.int8))
            requests = Requests(
                asked.user[posed.kept].astype(np.int32),
                history.take(posed.kept),
                self._prompts(dataset, posed, index, n, draw),
            )
            parts.append(Examples(requests, Targets(posed.targets, intent, np.full(len(posed.kept), n, np.int32))))
        whole = _stack(parts)
        if not len(whole):
            raise InputError(
                f"{dataset.name}: no user has enough compliant events for {self.card.name}; try a smaller --window."
            )
        return whole

    def check(self, dataset: Dataset) -> None:
        """Refuse data without what the condition needs.

        Raises:
            InputError: wishes are to quote tags, and the dataset has none.
        """
        if self.settings.prompt_kind == "tag" and self.polarity > 0 and not any(dataset.catalogue.eval_tags):
            raise InputError(
                f"{dataset.name} has no evaluation tags: put tags.jsonl into its folder, or use --prompt-kind genre or genres."
            )

    def score(self, ranking: Ranking, examples: Examples) -> Scores:
        """Recall, NDCG and Compliance or Violation at 10 and 20 of every example (see `bench.metrics`)."""
        columns = accuracy(ranking, examples.targets.items)
        comply = metrics.complies(ranking.items, examples.targets.intent)
        if self.polarity > 0:
            columns["compliance@10"] = metrics.compliance(comply, 10)
        else:
            columns["violation@10"] = metrics.violation(ranking.items, comply, 10)
            columns["first_violation_rank"] = metrics.first_violation(ranking.items, comply)
        return Scores(columns)

    def _prompts(self, dataset: Dataset, posed: Posed, index: Longs, n: int, draw: Draw) -> tuple[str, ...]:
        if self.settings.prompt_kind == "tag" and self.polarity > 0:
            tags = dataset.catalogue.eval_tags
            if not tags or any(not tags[item] for item in posed.about):
                raise InputError(
                    f"{dataset.name} has items without evaluation tags; use --prompt-kind genre or genres."
                )
            counts = np.array([len(tags[item]) for item in posed.about], np.int64)
            which = pick(draw(f"tag/{n}", index), counts)
            return tuple(tags[item][tag] for item, tag in zip(posed.about, which, strict=True))
        names = dataset.catalogue.label_names
        pool = templates(dataset.card.domain, self.polarity, "eval")
        which = pick(draw(f"template/{n}", index), np.full(len(index), len(pool), np.int64))
        return tuple(
            render(pool[template], [names[label] for label in labels], self.polarity)
            for template, labels in zip(which, posed.named, strict=True)
        )


def accuracy(ranking: Ranking, targets: Ragged) -> dict[str, npt.NDArray[np.float64]]:
    """Recall and NDCG at 10 and 20, one float64 [B] column each."""
    hit, n = metrics.hits(ranking.items, targets), targets.lengths
    return {
        f"{name}@{k}": function(hit, n, k)
        for name, function in (("recall", metrics.recall), ("ndcg", metrics.ndcg))
        for k in (10, 20)
    }


def nth_true(rows: Bools, n: Longs) -> npt.NDArray[np.int32]:
    """Column of the n-th (from 0) True of each row, int32."""
    return ((rows.cumsum(1) == n[:, None] + 1) & rows).argmax(1).astype(np.int32)


def _stack(parts: list[Examples]) -> Examples:
    def join(rows: list[Ragged]) -> Ragged:
        lengths = np.concatenate([row.lengths for row in rows])
        return Ragged(
            np.concatenate([[0], lengths.cumsum()]).astype(np.int64), np.concatenate([row.values for row in rows])
        )

    requests, targets = [part.requests for part in parts], [part.targets for part in parts]
    prompts = tuple(prompt for request in requests for prompt in (request.prompts or ()))
    intent = Intent(
        np.concatenate([target.intent.rule for target in targets]),
        targets[0].intent.allowed,
        np.concatenate([target.intent.polarity for target in targets]),
    )
    return Examples(
        Requests(
            np.concatenate([request.users for request in requests]),
            join([request.history for request in requests]),
            prompts,
        ),
        Targets(
            join([target.items for target in targets]), intent, np.concatenate([target.window for target in targets])
        ),
    )

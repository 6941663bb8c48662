"""The contracts of the harness, columnar throughout: a batch is arrays, never a list of objects.

Shapes: U users, V items, L labels, E events, B examples in a batch, k places in a ranking.
Ragged data is two arrays: `offsets` (int64, one longer than the rows) and the values; row i is `values[offsets[i]:offsets[i + 1]]`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from bench import cards
from bench.cards import DatasetCard, EncoderCard, JudgeCard, ModelCard, RouterCard, TaskCard
from bench.precision import Precision

if TYPE_CHECKING:
    from bench.llm.contracts import LanguageModel

Ints = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

POSITIVE, NEGATIVE, UNPROMPTED = 1, -1, 0
NO_ITEM = -1
# What judges score, each from 1 (worst) to 10 (best): Section 4.4 and Appendix B.5.
ASPECTS = ("history_alignment", "intent_fulfillment", "overall_score")


@dataclass(frozen=True)
class Ragged:
    """Rows of different lengths: `offsets` int64 [rows + 1], `values` int32 [offsets[-1]]."""

    offsets: Longs
    values: Ints

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> Ints:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> Longs:
        """Length of every row, int64 [rows]."""
        return np.diff(self.offsets)

    @classmethod
    def of(cls, rows: list[Any]) -> Ragged:
        """Pack a list of integer sequences."""
        lengths = np.fromiter((len(row) for row in rows), np.int64, len(rows))
        values = np.concatenate([np.asarray(row, np.int32) for row in rows]) if rows else np.empty(0, np.int32)
        return cls(np.concatenate([[0], lengths.cumsum()]).astype(np.int64), values.astype(np.int32))

    def take(self, rows: npt.NDArray[Any]) -> Ragged:
        """The given rows, in the given order."""
        rows = np.asarray(rows, np.int64)
        starts, lengths = self.offsets[rows], self.lengths[rows]
        offsets = np.concatenate([[0], lengths.cumsum()]).astype(np.int64)
        inside = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
        return Ragged(offsets, self.values[np.repeat(starts, lengths) + inside])


@dataclass(frozen=True)
class Catalogue:
    """The items. Item index v stands for `ids[v]`; labels (genres, categories) keep their listed order.

    `train_tags` are the tags that models may read; the reworded `eval_tags` are the source of test prompts and are
    empty in what a model receives.
    """

    ids: tuple[str, ...]
    titles: tuple[str, ...]
    texts: tuple[str, ...]
    label_names: tuple[str, ...]
    labels: Ragged
    train_tags: tuple[tuple[str, ...], ...] = ()
    eval_tags: tuple[tuple[str, ...], ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def label_matrix(self) -> Bools:
        """Membership, bool [V, L]."""
        matrix = np.zeros((len(self), len(self.label_names)), bool)
        matrix[np.repeat(np.arange(len(self)), self.labels.lengths), self.labels.values] = True
        return matrix


@dataclass(frozen=True)
class Dataset:
    """A catalogue and each user's events in time order.

    User u's events are `events[u]`; the first `train_end[u]` are train, those up to `valid_end[u]` validation, the rest
    test. What a model is fitted on is `for_training()`: the same class with neither test events nor eval tags in it.
    `times` are the seconds since 1970 of every event, int64 [E] like `events.values`, where the data have a clock.
    """

    card: DatasetCard
    catalogue: Catalogue
    user_ids: tuple[str, ...]
    events: Ragged
    train_end: Longs
    valid_end: Longs
    fingerprint: str
    times: Longs | None = None

    @property
    def name(self) -> str:
        """The dataset's registered name."""
        return self.card.name

    def for_training(self) -> Dataset:
        """The view that models are fitted on: train and validation events, no test event, no eval tag."""
        keep = np.arange(len(self.events.values)) - np.repeat(self.events.offsets[:-1], self.events.lengths)
        visible = keep < np.repeat(self.valid_end, self.events.lengths)
        offsets = np.concatenate([[0], self.valid_end.cumsum()]).astype(np.int64)
        return replace(
            self,
            events=Ragged(offsets, self.events.values[visible]),
            times=None if self.times is None else self.times[visible],
            catalogue=replace(self.catalogue, eval_tags=()),
        )

    def train_events(self) -> Ragged:
        """Train events alone, a row a user."""
        keep = np.arange(len(self.events.values)) - np.repeat(self.events.offsets[:-1], self.events.lengths)
        inside = keep < np.repeat(self.train_end, self.events.lengths)
        return Ragged(np.concatenate([[0], self.train_end.cumsum()]).astype(np.int64), self.events.values[inside])


@dataclass(frozen=True)
class Intent:
    """The truth behind prompts, for the task's own scoring and for models marked `oracle`.

    Example b is about rule `rule[b]`; an item v complies with it where `allowed[rule[b], v]`. `rule[b]` is -1 where
    nothing was asked. `polarity` int8 [B] is +1 (wish), -1 (refusal), 0 (no prompt).
    """

    rule: Ints
    allowed: Bools
    polarity: npt.NDArray[np.int8]

    def take(self, rows: npt.NDArray[Any]) -> Intent:
        """The given examples; the rules stay whole."""
        return Intent(self.rule[rows], self.allowed, self.polarity[rows])


@dataclass(frozen=True)
class Requests:
    """What a model sees of B examples: who asks (`users` int32 [B]), their history (oldest first), and the words.

    `prompts` is None in a task without prompts. `intent` is None except for a model whose card says `oracle`.
    """

    users: Ints
    history: Ragged
    prompts: tuple[str, ...] | None = None
    intent: Intent | None = None

    def __len__(self) -> int:
        return len(self.users)

    def take(self, rows: npt.NDArray[Any]) -> Requests:
        """The given examples, in the given order."""
        prompts = None if self.prompts is None else tuple(self.prompts[row] for row in rows)
        intent = None if self.intent is None else self.intent.take(rows)
        return Requests(self.users[rows], self.history.take(rows), prompts, intent)


@dataclass(frozen=True)
class Targets:
    """The hidden side of B examples: what counts as right, the truth behind the prompt, and the window N (0: none)."""

    items: Ragged
    intent: Intent
    window: Ints

    def take(self, rows: npt.NDArray[Any]) -> Targets:
        """The given examples, in the given order."""
        return Targets(self.items.take(rows), self.intent.take(rows), self.window[rows])


@dataclass(frozen=True)
class Examples:
    """B examples: `requests` may be shown to a model, `targets` never are."""

    requests: Requests
    targets: Targets

    def __len__(self) -> int:
        return len(self.requests)

    def take(self, rows: npt.NDArray[Any]) -> Examples:
        """The given examples, in the given order."""
        return Examples(self.requests.take(rows), self.targets.take(rows))


@dataclass(frozen=True)
class Ranking:
    """Best first: `items` int32 [B, k], `scores` float32 [B, k]; places that could not be filled hold NO_ITEM and -inf.

    `failed` bool [B] marks requests that got no answer. `extras` holds what the model reports of each example besides
    (for instance `polarity` int8 [B], the routing decision), one value or row an example.
    """

    items: Ints
    scores: Floats
    failed: Bools | None = None
    extras: dict[str, npt.NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Scores:
    """One row an example and one column a metric, float64 [B]; NaN where a metric does not apply. Never an average."""

    columns: dict[str, npt.NDArray[np.float64]]


class Progress(Protocol):
    """Tells a person how far a long step is. `track` opens a bar; the returned callable advances it by its argument."""

    def track(self, description: str, total: int, done: int = 0) -> Callable[[int], None]:
        """Open a bar of `total` steps, of which `done` were made before, such as by a run that goes on."""

    def note(self, message: str) -> None:
        """One line about what happens next or has happened."""


class FitContext(Protocol):
    """What the harness lends to `fit`: seed, device, precision, progress, a scratch folder and already fitted models."""

    seed: int
    device: str
    precision: Precision
    progress: Progress

    @property
    def scratch(self) -> Path:
        """A folder that outlives a kill, the same for the same fit: epoch checkpoints go here. Removed after `save`."""

    def fitted(self, name: str, dataset: Dataset, settings: dict[str, Any]) -> Recommender:
        """Another model, fitted on the same data with the same seed: loaded where it exists, trained and kept where not."""


@runtime_checkable
class Task(Protocol):
    """What is asked and what counts as right.

    A task whose settings hang on the data has a classmethod `suited(dataset, values)`: the given values with those filled in.
    """

    card: ClassVar[TaskCard]

    def examples(self, dataset: Dataset, *, split: str, seed: int) -> Examples:
        """All examples of a split ("valid" or "test"); the same arguments give the same examples on any machine."""

    def score(self, ranking: Ranking, examples: Examples) -> Scores:
        """Metrics of every example."""


@runtime_checkable
class Recommender(Protocol):
    """A contestant. Constructed from its settings and a device; `fit` sees `dataset.for_training()` only.

    A class that cannot do with every dataset has a classmethod `check(settings, dataset)`, which raises an InputError; a task
    that cannot has a method `check(dataset)`.
    """

    card: ClassVar[ModelCard]
    Settings: ClassVar[type[cards.Settings]]
    settings: cards.Settings
    device: str

    def fit(self, dataset: Dataset, context: FitContext) -> None:
        """Learn from train and validation events."""

    def rank(self, requests: Requests, k: int) -> Ranking:
        """The k best unseen items for every request."""

    def save(self, directory: Path) -> None:
        """Write all that `load` needs, without pickle."""

    @classmethod
    def load(cls, directory: Path, settings: cards.Settings, device: str = "cpu") -> Recommender:
        """The model as it was saved: the same requests get the same rankings."""


@runtime_checkable
class UsesLLM(Protocol):
    """A recommender whose card has "llm" among its `needs`: the harness lends it a language model before it ranks.

    Such a class names its prompt templates in `templates` (a tuple of paths); their hashes are part of a run's identity.
    """

    templates: ClassVar[tuple[Path, ...]]

    def use_llm(self, llm: LanguageModel) -> None:
        """Ask this language model from now on."""


@runtime_checkable
class ReadsAhead(Protocol):
    """A recommender that turns all requests of a run into others before it is given any, such as a control that swaps prompts."""

    def prepared(self, requests: Requests) -> Requests:
        """The requests to rank in place of these, in the same order and of the same users."""


@runtime_checkable
class Encoder(Protocol):
    """A frozen sentence encoder: text to unit vectors."""

    card: ClassVar[EncoderCard]
    identity: str

    def encode(self, texts: list[str], progress: Progress | None = None) -> Floats:
        """Unit-length vectors, float32 [len(texts), dimension]."""


@runtime_checkable
class Router(Protocol):
    """Decides the polarity of a prompt from its text."""

    card: ClassVar[RouterCard]

    def route(self, prompts: list[str]) -> tuple[npt.NDArray[np.int8], Floats]:
        """Polarity (+1 or -1) int8 [B], and the confidence in it, float32 [B] in 0.5 to 1."""


@dataclass(frozen=True)
class Lists:
    """What a judge sees of B examples: who asked for what, and the lists they got, int32 [B, k], best first, NO_ITEM at the end.

    `repeat` int32 [B], where given, asks for a judgement of its own: a judge that draws must not give an earlier one again.
    """

    requests: Requests
    items: Ints
    repeat: Ints | None = None

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True)
class Verdict:
    """What a judge says of one list: a score for each of `ASPECTS`, 1 (worst) to 10 (best); None where it gave none.

    Where `scores` is None, `failure` says why (a `bench.llm.contracts.Failure`) and nothing is put in their place. `text` is what
    a language model wrote, whatever was made of it; `cost` its calls, tokens and price, None where unknown.
    """

    scores: dict[str, float] | None
    reasons: dict[str, str] = field(default_factory=dict)
    text: str = ""
    failure: str | None = None
    repaired: bool = False
    cost: dict[str, float | None] = field(default_factory=dict)


@runtime_checkable
class Judge(Protocol):
    """Scores lists against requests; a judge is a model too. One that asks a language model is a `UsesLLM` as well.

    One that can also say which of two lists is better has `compare(lists, others)`, which gives for every example
    +1 (the list), -1 (the other), 0 (a tie) or None (no verdict), as `judge` does.
    """

    card: ClassVar[JudgeCard]
    Settings: ClassVar[type[cards.Settings]]
    settings: cards.Settings

    def prepare(self, dataset: Dataset, progress: Progress) -> None:
        """Read what is to be known of the catalogue; `dataset` is its training view."""

    def judge(self, lists: Lists) -> Iterator[tuple[int, Verdict]]:
        """Verdicts as they come, each with the row of its list."""

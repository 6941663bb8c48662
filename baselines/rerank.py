"""Language models as rerankers of a backbone's best K: one prompt with all of them, or a sliding window (methods 5.4)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from baselines.asking import Accounts, ItemWords
from baselines.retrieval_cache import RetrievalCache, identity_of
from baselines.sasrec import SASRecSettings
from baselines.title_lists import without_reasoning
from bench import registry
from bench.cards import ModelCard, Settings
from bench.contracts import NO_ITEM, Dataset, FitContext, Ranking, Recommender, Requests
from bench.errors import InputError
from bench.language import AsksLLM, ask
from bench.llm.contracts import ChatRequest, Failure, Sampling
from bench.llm.templates import render
from bench.ranking import clean
from bench.rng import uniform_draws

TEMPLATE = Path(__file__).with_name("rerank.j2")
SASREC = "sasrec"
WINDOW, STEP = 20, 10
COUNTED = ("duplicate", "outside_candidates")
BRACKETED = re.compile(r"\[\s*([0-9]{1,6})\s*\]")
# Digits alone, in runs that cannot be an item's number left out: a year or a price is out of range anyway.
DIGITS = re.compile(r"(?<![0-9])[0-9]{1,6}(?![0-9])")
LONGEST_ANSWER = 100_000

Span = tuple[int, int]


class RerankSettings(Settings):
    """Settings of the reranker; `base`, `backbone` and `base_settings` say what is reranked, the others how."""

    base: str = Field(SASREC, description="the model whose best candidates are reranked")
    backbone: SASRecSettings = Field(SASRecSettings(), description="settings of the base where that is sasrec")
    base_settings: str = Field("", description="settings of another base: KEY=VALUE, with commas between")
    candidates: int = Field(20, ge=2, le=1000, description="K, how many of the base's best the language model sees")
    mode: Literal["single", "sliding"] = Field(
        "single", description=f"one prompt with all K, or windows of {WINDOW} moved by {STEP} from the tail to the head"
    )
    bootstraps: int = Field(
        1, ge=1, description="prompts a window; more than one: each in a shuffled order, summed by Borda (LLMRank)"
    )
    titles: int = Field(20, ge=1, description="newest titles of the history that the prompt shows")
    temperature: float = Field(0.0, ge=0, description="of every answer")
    max_tokens: int = Field(0, ge=0, description="most tokens of an answer; 0: 64 and 8 for every candidate shown")


@dataclass(frozen=True)
class Permutation:
    """An order of n candidates read from an answer: `order` has each of 0 to n - 1 once, the best first.

    `listed` numbers stood in the answer, `duplicate` of them again, `outside` of them out of range.
    """

    order: tuple[int, ...]
    listed: int
    duplicate: int
    outside: int

    @property
    def usable(self) -> int:
        """How many candidates the answer placed."""
        return self.listed - self.duplicate - self.outside

    @property
    def repaired(self) -> bool:
        """Whether the order is the answer's own only after numbers were dropped or added."""
        return self.listed != len(self.order) or self.usable != self.listed


def read_permutation(text: str, n: int) -> Permutation:
    """The order in an answer such as "[2] > [1] > [3]", mended as RankGPT does. Never raises.

    Digits only, less one, without repeats and what is out of range; missing candidates follow in their original order. So
    a nonsense answer gives the original order. Where any number stands in brackets, numbers outside of them are prose.
    """
    text = without_reasoning(text)[:LONGEST_ANSWER]
    numbers = [int(number) - 1 for number in BRACKETED.findall(text) or DIGITS.findall(text)]
    inside = [number for number in numbers if 0 <= number < n]
    placed = dict.fromkeys(inside)
    order = (*placed, *(place for place in range(n) if place not in placed))
    return Permutation(order, len(numbers), len(inside) - len(placed), len(numbers) - len(inside))


def window_spans(n: int, mode: str) -> list[Span]:
    """Windows over n candidates in the order in which they are asked: all at once, or from the tail to the head.

    The last window begins at the head, also where the steps do not land there.
    """
    if n < 2:
        return []
    if mode == "single" or n <= WINDOW:
        return [(0, n)]
    starts = [*range(n - WINDOW, 0, -STEP), 0]
    return [(start, start + WINDOW) for start in starts]


class Rerank(AsksLLM):
    """A backbone's best K in the order that a language model gives them."""

    card = ModelCard(
        name="rerank_sas",
        summary="A language model reranks the best K of SASRec (or of another `base`), which is trained once for all of them.",
        information="prompt",
        needs=("llm",),
        training_datasets=("the dataset it is run on", "whatever the language model was trained on"),
        settings=RerankSettings.described(),
        citation="Sun et al. 2023 (RankGPT); Hou et al. 2024 (LLMRank); Lyu et al. 2026, Table 3",
    )
    Settings: ClassVar[type[Settings]] = RerankSettings
    quick_settings: ClassVar[dict[str, Any]] = {"backbone.epochs": 2, "backbone.length": 50}
    # Candidates, windows and words change no training: every such run stands on the same fitted base.
    serving_settings: ClassVar[frozenset[str]] = frozenset(RerankSettings.model_fields) - {
        "base",
        "backbone",
        "base_settings",
    }
    templates: ClassVar[tuple[Path, ...]] = (TEMPLATE,)
    settings: RerankSettings
    base: Recommender
    words: ItemWords
    seed: int
    base_identity: str | None = None

    def __init__(self, settings: RerankSettings | None = None, device: str = "cpu") -> None:
        self.settings, self.device = settings or RerankSettings(), device

    @classmethod
    def built_on(cls, values: dict[str, Any]) -> tuple[str, ...]:
        """The base; its version is part of a run's identity."""
        return (values["base"],) if values else ()

    def fit(self, dataset: Dataset, context: FitContext) -> None:
        """Train the base, or take the one that is there.

        Raises:
            InputError: there is no such base, a setting of it is wrong, or it is one that cannot be reranked.
        """
        base = self._base_class()
        values: dict[str, Any] = self.settings.backbone.model_dump() if self.settings.base == SASREC else {}
        if not values:
            values = base.Settings.fitting(dataset.card.model_settings)
        self.base = context.fitted(self.settings.base, dataset, values | self._base_values())
        self.words, self.seed = ItemWords.of(dataset), context.seed

    def _base_class(self) -> type[Any]:
        base = registry.get("models", self.settings.base)
        if base.card.information == "oracle":
            raise InputError(
                f"base {self.settings.base!r} is told the truth behind the prompt, so it cannot be reranked."
            )
        if "llm" in base.card.needs:
            raise InputError(f"base {self.settings.base!r} asks a language model itself; choose one that does not.")
        return base

    def _base_values(self) -> dict[str, str]:
        pairs = [pair.partition("=") for pair in self.settings.base_settings.split(",") if pair.strip()]
        for key, equals, _ in pairs:
            if not equals or not key.strip():
                raise InputError(
                    f"base_settings takes KEY=VALUE with commas between, got {self.settings.base_settings!r}."
                )
        return {key.strip(): value.strip() for key, _, value in pairs}

    def rank(self, requests: Requests, k: int) -> Ranking:
        """The base's best candidates as the language model orders them; what it leaves out keeps the base's order.

        An example is failed where any of its windows got no answer. Extras: the accounts of `bench.language`.
        """
        accounts = Accounts(len(requests), COUNTED)
        orders = self.candidates(requests)
        spans = [window_spans(len(order), self.settings.mode) for order in orders]
        # A window's candidates hang on the answer to the one before, so all examples move on together.
        for turn in range(max(map(len, spans), default=0)):
            at = {
                row: mine[turn] for row, mine in enumerate(spans) if turn < len(mine) and not accounts.has_failed(row)
            }
            self._reorder(requests, orders, at, accounts)
        return accounts.ranking(orders, k)

    @cached_property
    def retrieval(self) -> RetrievalCache:
        """The base behind its kept candidates, which all language models share."""
        return RetrievalCache(self.base, self.base_identity)

    def candidates(self, requests: Requests) -> list[list[int]]:
        """The base's best unseen K for every request, best first; the base is told what its own card says."""
        told = requests if self.base.card.information == "prompt" else replace(requests, prompts=None)
        items = self.retrieval.items(replace(told, intent=None), self.settings.candidates)
        ranking = Ranking(items, np.zeros(items.shape, np.float32))
        kept, _ = clean(ranking, requests, len(self.words.titles), self.settings.candidates)
        return [[item for item in row if item != NO_ITEM] for row in kept.items.tolist()]

    def _reorder(self, requests: Requests, orders: list[list[int]], at: dict[int, Span], accounts: Accounts) -> None:
        """Ask for the windows `at`, by row, and put their candidates into the order of the answers, in place."""
        asked = [
            (row, self._shown(int(requests.users[row]), span, turn))
            for row, span in at.items()
            for turn in range(self.settings.bootstraps)
        ]
        points = {row: np.zeros(stop - start) for row, (start, stop) in at.items()}
        failures: dict[int, Failure] = {}
        answered: set[int] = set()

        def chats() -> Iterator[ChatRequest]:
            for number, (row, shown) in enumerate(asked):
                start, _ = at[row]
                yield self._chat(requests, row, [orders[row][start + place] for place in shown], str(number))

        for number, answer in ask(self.llm, chats()):
            row, shown = asked[number]
            accounts.call(row, answer)
            if answer.failure is not None:
                failures[row] = answer.failure
                continue
            answered.add(row)
            found = read_permutation(answer.texts[0] if answer.texts else "", len(shown))
            _account(accounts, row, found)
            # Borda: n points for the first place, one for the last.
            points[row][[shown[place] for place in found.order]] += np.arange(len(shown), 0, -1)
        for row, (start, stop) in at.items():
            if row not in answered:
                accounts.fail(row, failures[row])
                continue
            window = orders[row][start:stop]
            orders[row][start:stop] = [window[place] for place in np.argsort(-points[row], kind="stable")]

    def _shown(self, user: int, span: Span, turn: int) -> list[int]:
        """Places of a window in the order in which a prompt shows them: as they are, or shuffled by seed, user and turn."""
        n = span[1] - span[0]
        if self.settings.bootstraps == 1:
            return list(range(n))
        return np.argsort(uniform_draws(self.seed, f"rerank/{user}/{span[0]}/{turn}", n)).tolist()

    def _chat(self, requests: Requests, row: int, items: list[int], name: str) -> ChatRequest:
        messages = render(
            TEMPLATE,
            things=self.words.things,
            history=[self._item(item) for item in requests.history[row][-self.settings.titles :]],
            prompt=None if requests.prompts is None else requests.prompts[row],
            candidates=[self._item(item) for item in items],
        )
        most = self.settings.max_tokens or 64 + 8 * len(items)
        return ChatRequest(messages, Sampling(temperature=self.settings.temperature, max_tokens=most), id=name)

    def _item(self, item: int) -> dict[str, str]:
        return {"title": self.words.titles[item], "labels": self.words.labels[item]}

    def save(self, directory: Path) -> None:
        """Write the base, its settings, the catalogue's words and the seed."""
        (directory / "base").mkdir(exist_ok=True)
        self.base.save(directory / "base")
        kept = {"seed": self.seed, "base": self.base.settings.model_dump(mode="json")}
        (directory / "rerank.json").write_text(json.dumps(kept), "utf-8")
        self.words.save(directory)

    @classmethod
    def load(cls, directory: Path, settings: RerankSettings, device: str = "cpu") -> Rerank:
        """Read what `save` wrote."""
        model = cls(settings, device)
        kept = json.loads((directory / "rerank.json").read_text("utf-8"))
        base = model._base_class()
        own = base.Settings.parse(settings.base, kept["base"])
        model.base, model.seed = base.load(directory / "base", own, device), int(kept["seed"])
        model.words = ItemWords.load(directory)
        model.base_identity = identity_of(model.base, directory / "base")
        return model


def _account(accounts: Accounts, row: int, found: Permutation) -> None:
    accounts.add(row, entries=found.listed, duplicate=found.duplicate, outside_candidates=found.outside)
    if not found.usable:
        accounts.add(row, unparseable=1)
    elif found.repaired:
        accounts.add(row, repaired=1)
    if found.listed != len(found.order):
        accounts.add(row, wrong_count=1)

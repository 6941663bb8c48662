"""RecLM-gen as a contestant: fitted in one or two stages, asked for ten titles, read and matched."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from baselines.asking import Accounts
from baselines.grounding import Kind
from baselines.reclm.matching import TitleMatcher
from baselines.reclm.prompts import Words, read_lines
from baselines.reclm.settings import RecLMSettings
from bench import cards
from bench.cards import ModelCard
from bench.contracts import Dataset, FitContext, Ranking, Requests
from bench.llm.contracts import Answer, Failure, Usage

if TYPE_CHECKING:
    from baselines.language.base_model import Base
    from baselines.reclm.fitting import Fitted

TOP = 10
COUNTED = ("exact", "normalised", "out_of_catalogue", "duplicate", "in_history")
BY_KIND = {Kind.EXACT: "exact", Kind.NORMALISED: "normalised", Kind.OUT_OF_CATALOGUE: "out_of_catalogue"}


class RecLMGen:
    """A language model that writes ten titles, tuned on controlled lists of a SASRec teacher and, if asked, by PPO."""

    card = ModelCard(
        name="reclm_gen",
        version=2,
        summary="RecLM-gen: a language model tuned to write ten titles under control (SFT on I0 to I3, then PPO).",
        information="prompt",
        max_k=TOP,
        training_datasets=("the dataset it is run on", "whatever its base model was trained on"),
        settings=RecLMSettings.described(),
        notes=(
            "Contamination: a pretrained base model may know the dataset; `tiny` and `small` know nothing else.",
            "The request stands verbatim where training has its control sentences; nothing constrains what a pretrained base writes.",
            "A base from scratch has one token for every title and for what all instructions say, and first reads requests with "
            "lists of the catalogue that answer them, for it stands in for a pretrained one. It writes no title that stands in "
            "its prompt or list already: greedy search of an uncertain model would repeat one.",
            "A title that several items share goes to the first that is unseen; the published code takes the first of all.",
        ),
        citation="Lu et al. 2024, Aligning Large Language Models for Controllable Recommendations, ACL",
    )
    Settings: ClassVar[type[cards.Settings]] = RecLMSettings
    serving_settings: ClassVar[frozenset[str]] = frozenset({"max_tokens", "batch"})
    quick_settings: ClassVar[dict[str, Any]] = {
        "base_model": "tiny",
        "pretraining.epochs": 2,
        # Enough to write titles that exist.
        "sft.epochs": 3,
        "sft.users": 192,
        "sft.batch_size": 8,
        "tasks": "I0,I1",
        "max_tokens": 48,
        "backbone.epochs": 1,
        "backbone.length": 20,
    }
    settings: RecLMSettings
    words: Words
    fitted: Fitted

    def __init__(self, settings: cards.Settings | None = None, device: str = "cpu") -> None:
        assert settings is None or isinstance(settings, RecLMSettings)
        self.settings = settings or RecLMSettings()
        self.device = device

    @classmethod
    def built_on(cls, values: dict[str, Any]) -> tuple[str, ...]:
        """Names of the models underneath; their versions are part of a run's identity."""
        return ("sasrec", "reclm_gen") if values.get("stage") == "rl" else ("sasrec",)

    @property
    def base(self) -> Base:
        """The language model that writes."""
        return self.fitted.base

    def fit(self, dataset: Dataset, context: FitContext) -> None:
        """Train the teacher, then the language model."""
        from baselines.reclm.fitting import fit

        self.device = context.device
        self.words = Words.of(dataset)
        self.fitted = fit(self.settings, self.words, dataset, context)

    def rank(self, requests: Requests, k: int) -> Ranking:
        """The titles that it writes, matched; without repeats and seen items, at most ten of the k places.

        Extras: the accounts of `bench.language`, among them how many titles were exact, within three edits, or unknown.
        """
        from baselines.language.generation import greedy
        from bench.llm.hf_engine import chat_prompt

        prompts = [chat_prompt(self.base.tokenizer, turns) for turns in self._instructions(requests)]
        texts = greedy(self.base, prompts, max_tokens=self._longest, batch=self.settings.batch, once=self._titles)
        accounts, matcher = Accounts(len(requests), COUNTED), TitleMatcher(self.words.titles)
        lists = []
        for row, (prompt, text) in enumerate(zip(prompts, texts, strict=True)):
            accounts.call(row, Answer((text,), usage=self._usage(prompt, text)))
            lists.append(self._items(row, text, requests.history[row].tolist(), matcher, accounts))
        return accounts.ranking(lists, k)

    @cached_property
    def _longest(self) -> int:
        """Tokens of the longest list that the catalogue has, and the end token; at most the setting's."""
        lines = self.base.tokenizer(
            [f"10. {title}\n" for title in self.words.titles], add_special_tokens=False
        ).input_ids
        return min(self.settings.max_tokens, TOP * max(map(len, lines)) + 1)

    @cached_property
    def _titles(self) -> list[int]:
        """The tokens of titles where each is one: the likeliest title of an uncertain model is the one that it just wrote."""
        if not self.base.from_scratch:
            return []
        coded = self.base.tokenizer(list(self.words.titles), add_special_tokens=False).input_ids
        return [tokens[0] for tokens in coded if len(tokens) == 1]

    def _instructions(self, requests: Requests) -> Any:
        for row in range(len(requests)):
            prompt = None if requests.prompts is None else requests.prompts[row]
            yield self.words.instruction(requests.history[row][-TOP:].tolist(), prompt, TOP)

    def _usage(self, prompt: str, text: str) -> Usage:
        count = lambda each: len(self.base.tokenizer(each, add_special_tokens=False).input_ids)  # noqa: E731
        return Usage(count(prompt), count(text), 0.0)

    def _items(self, row: int, text: str, history: list[int], matcher: TitleMatcher, accounts: Accounts) -> list[int]:
        lines = read_lines(text)
        if not lines:
            accounts.add(row, unparseable=1)
            accounts.fail(row, Failure.EMPTY)
            return []
        accounts.add(row, wrong_count=int(len(lines) != TOP))
        items: list[int] = []
        seen = set(history)
        for line in lines[:TOP]:
            item, kind = matcher.find(line, seen.union(items))
            accounts.add(row, entries=1, **{BY_KIND[kind]: 1})
            if item is None:
                continue
            accounts.add(row, duplicate=int(item in items), in_history=int(item in seen))
            if item not in items and item not in seen:
                items.append(item)
        return items

    def save(self, directory: Path) -> None:
        """Write base model or adapters, the catalogue's words, and the training logs."""
        from baselines.reclm.fitting import save

        save(self.fitted, self.words, directory)

    @classmethod
    def load(cls, directory: Path, settings: cards.Settings, device: str = "cpu") -> RecLMGen:
        """Read what `save` wrote."""
        from baselines.reclm.fitting import load

        model = cls(settings, device)
        model.fitted, model.words = load(directory, model.settings, device)
        return model

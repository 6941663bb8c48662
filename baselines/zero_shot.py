"""A language model as the recommender: it reads the last titles and the request and names ten titles (methods 5.1)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from baselines.asking import Accounts, ItemWords
from baselines.grounding import Grounder, Kind
from baselines.scorer import CatalogueScorer
from baselines.title_lists import first_title, read_titles
from bench.cards import ModelCard, Settings
from bench.contracts import Dataset, Encoder, FitContext, Ranking, Requests
from bench.errors import InputError
from bench.language import AsksLLM, ask
from bench.llm.contracts import Answer, ChatRequest, Failure, LanguageModel, Sampling
from bench.llm.templates import render

if TYPE_CHECKING:
    from baselines.language.mapping import Mapping

TEMPLATE = Path(__file__).with_name("zero_shot.j2")
LENGTH = 10
# The number of titles is asked for in words and counted; a schema that demands it would throw away a list of nine.
SCHEMA = {
    "type": "object",
    "properties": {"titles": {"type": "array", "items": {"type": "string"}}},
    "required": ["titles"],
    "additionalProperties": False,
}
COUNTED = ("exact", "normalised", "embedding", "out_of_catalogue", "duplicate", "in_history")
BY_KIND = {
    Kind.EXACT: "exact",
    Kind.NORMALISED: "normalised",
    Kind.EMBEDDING: "embedding",
    Kind.OUT_OF_CATALOGUE: "out_of_catalogue",
}


class ZeroShotSettings(Settings):
    """Settings of the zero-shot recommender."""

    decoder: Literal["list", "beams"] = Field(
        "list", description="one greedy list of ten, or ten beams of one title each (local engines only)"
    )
    titles: int = Field(20, ge=1, description="newest titles of the history that the prompt shows")
    encoder: str = Field("all-minilm-l6-v2", description="sentence encoder that grounds what no title matches")
    threshold: float = Field(0.6, ge=-1, le=1, description="lowest cosine at which the nearest title is taken")
    structured: bool = Field(True, description="ask for JSON by schema where the language model can do that")
    temperature: float = Field(0.0, ge=0, description="of the list; beams are searched, not drawn")
    max_tokens: int = Field(512, ge=1, description="most tokens of an answer (a beam takes 48)")


class ZeroShot(AsksLLM, CatalogueScorer):
    """Ten titles from a language model, grounded in the catalogue. Nothing is trained; the catalogue is encoded."""

    card = ModelCard(
        name="zero_shot",
        summary="A language model names ten titles from the last twenty and the request; each is grounded in the catalogue.",
        information="prompt",
        needs=("llm",),
        max_k=LENGTH,
        training_datasets=("whatever the language model was trained on",),
        settings=ZeroShotSettings.described(),
        citation="Lyu et al. 2026, Table 2 (zero-shot LLMs)",
    )
    Settings: ClassVar[type[Settings]] = ZeroShotSettings
    serving_settings: ClassVar[frozenset[str]] = frozenset(ZeroShotSettings.model_fields) - {"encoder"}
    templates: ClassVar[tuple[Path, ...]] = (TEMPLATE,)
    settings: ZeroShotSettings
    words: ItemWords

    def fit(self, dataset: Dataset, context: FitContext) -> None:
        """Encode the titles, for grounding."""
        self.words = ItemWords.of(dataset)
        self.arrays = {"title_vectors": self.encoder.encode(list(self.words.titles), context.progress)}

    @cached_property
    def encoder(self) -> Encoder:
        """The sentence encoder, with its vectors kept on disk."""
        from baselines.encoders import CachedEncoder, default_cache_directory

        return CachedEncoder(self.settings.encoder, default_cache_directory())

    @cached_property
    def grounder(self) -> Grounder:
        """Finds items by title."""
        return Grounder(self.words.titles, self.arrays["title_vectors"], self.encoder, self.settings.threshold)

    def mapping(self) -> Mapping:
        """The step from text to items, to be measured alone (`bench probe mapping`)."""
        from baselines.language.mapping import Mapping

        return Mapping(self.words.titles, lambda texts: self.grounder.ground(texts)[0])

    def use_llm(self, llm: LanguageModel) -> None:
        """Ask this language model from now on.

        Raises:
            InputError: beams are asked for and its engine has no beam search.
        """
        if self.settings.decoder == "beams" and not llm.capabilities.beams:
            raise InputError(
                f"decoder=beams needs beam search, which {llm.identity.name!r} ({llm.identity.engine}) does not offer: "
                "use a local engine (--llm vllm:NAME or --llm hf:NAME), or decoder=list."
            )
        super().use_llm(llm)

    def rank(self, requests: Requests, k: int) -> Ranking:
        """The grounded titles, best first, without repeats and seen items; at most ten of the k places are filled.

        Extras: the accounts of `bench.language`, and `grounding` int8 [B, 10], how each place of the answer was found
        (`baselines.grounding.Kind`).
        """
        accounts = Accounts(len(requests), COUNTED)
        answers: list[list[str]] = [[] for _ in range(len(requests))]
        for row, answer in ask(self.llm, self._chats(requests)):
            accounts.call(row, answer)
            answers[row] = self._titles(row, answer, accounts)
        lists, grounding = self._grounded(requests, answers, accounts)
        return accounts.ranking(lists, k, grounding=grounding)

    def _chats(self, requests: Requests) -> Iterator[ChatRequest]:
        form, beams = self._form, self.settings.decoder == "beams"
        sampling = (
            Sampling(max_tokens=48, n=LENGTH, beams=LENGTH)
            if beams
            else Sampling(temperature=self.settings.temperature, max_tokens=self.settings.max_tokens)
        )
        for row in range(len(requests)):
            messages = render(
                TEMPLATE,
                things=self.words.things,
                history=[self.words.titles[item] for item in requests.history[row][-self.settings.titles :]],
                prompt=None if requests.prompts is None else requests.prompts[row],
                form=form,
                count=LENGTH,
            )
            yield ChatRequest(messages, sampling, SCHEMA if form == "json" else None, id=str(row))

    @property
    def _form(self) -> Literal["one", "json", "lines"]:
        if self.settings.decoder == "beams":
            return "one"
        return "json" if self.settings.structured and self.llm.capabilities.json_schema else "lines"

    def _titles(self, row: int, answer: Answer, accounts: Accounts) -> list[str]:
        """The first ten titles of an answer; an answer without any is a failure of its own class."""
        if answer.failure is not None:
            accounts.fail(row, answer.failure)
            return []
        if self._form == "one":
            found = [title for title in map(first_title, answer.texts) if title]
        elif isinstance(answer.parsed, dict):
            found = [" ".join(title.split()) for title in answer.parsed.get("titles", ()) if title.strip()]
        else:
            found = read_titles(answer.texts[0] if answer.texts else "")
        if not found:
            # A repair that left no title has mended nothing.
            accounts.add(row, unparseable=1, repaired=-int(answer.repaired))
            accounts.fail(row, Failure.UNPARSEABLE)
        elif len(found) != LENGTH:
            accounts.add(row, wrong_count=1)
        return found[:LENGTH]

    def _grounded(
        self, requests: Requests, answers: list[list[str]], accounts: Accounts
    ) -> tuple[list[list[int]], np.ndarray[Any, np.dtype[np.int8]]]:
        """Items of every answer without repeats and seen ones, which are counted; and the kinds, int8 [B, 10]."""
        items, kinds = self.grounder.ground([title for titles in answers for title in titles])
        grounding = np.full((len(answers), LENGTH), Kind.NONE, np.int8)
        lists: list[list[int]] = []
        place = 0
        for row, titles in enumerate(answers):
            mine, how = items[place : place + len(titles)].tolist(), kinds[place : place + len(titles)]
            place += len(titles)
            grounding[row, : len(titles)] = how
            accounts.add(
                row, entries=len(titles), **{BY_KIND[Kind(kind)]: int((how == kind).sum()) for kind in set(how)}
            )
            seen = set(requests.history[row].tolist())
            known = [item for item in mine if item >= 0]
            accounts.add(row, duplicate=len(known) - len(set(known)), in_history=sum(item in seen for item in known))
            lists.append([item for item in dict.fromkeys(known) if item not in seen])
        return lists, grounding

    def save(self, directory: Path) -> None:
        """Write vectors and titles."""
        super().save(directory)
        self.words.save(directory)

    @classmethod
    def load(cls, directory: Path, settings: Settings, device: str = "cpu") -> ZeroShot:
        """Read what `save` wrote."""
        model = super().load(directory, settings, device)
        assert isinstance(model, ZeroShot)
        model.words = ItemWords.load(directory)
        return model

"""A language model as the judge (Section 4.4.1, Appendix B.5): three scores from 1 to 10 with reasons, by structured output."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from bench.cards import JudgeCard, Settings
from bench.contracts import NO_ITEM, Dataset, Ints, Lists, Progress, Verdict
from bench.errors import InputError
from bench.language import AsksLLM, ask
from bench.llm.contracts import ChatRequest, Sampling
from bench.llm.quoting import quoted
from bench.llm.templates import render
from judges.summaries import digest_of, read_summaries
from judges.verdict import CHOICE_SCHEMA, SCHEMA, read_choice, read_verdict
from tasks.domains import domain_words

POINTWISE, PAIRWISE = (Path(__file__).with_name(name) for name in ("pointwise.j2", "pairwise.j2"))
LONGEST_ABOUT = 600

Told = Literal["titles", "labels", "tags", "summaries"]


class LLMJudgeSettings(Settings):
    """Settings of the LLM judge. `digest` is filled in by the harness."""

    told: Told = Field(
        "labels", description="what it reads of an item beside the title: titles (nothing), labels, tags, summaries"
    )
    summaries: str = Field("", description="file of `bench augment summaries`, read where told=summaries")
    digest: str = Field("", description="SHA-256 of the summaries")
    history: int = Field(20, ge=1, description="newest titles of the history that it reads")
    temperature: float = Field(0.0, ge=0, description="of its answers")
    max_tokens: int = Field(1024, ge=1, description="most tokens of an answer")
    places: ClassVar[frozenset[str]] = frozenset({"summaries"})


class LLMJudge(AsksLLM):
    """Asks a language model for every list; titles, descriptions and requests are quoted as data."""

    role = "judge"

    card: ClassVar[JudgeCard] = JudgeCard(
        name="llm",
        summary="A language model scores each list for history alignment, intent fulfilment and overall, with reasons.",
        is_llm=True,
        needs=("llm",),
        citation="Lyu et al. 2026, Give Users the Wheel: Towards Promptable Recommendation Paradigm, Section 4.4, Appendix B.5",
        settings=LLMJudgeSettings.described(),
        notes=(
            "The prompt is that of Appendix B.5, reworded for the domain, with the data in quotes.",
            "The paper shows its judge a summary of every film (B.6); without a file of summaries this one reads the labels.",
            "Verdicts that are no three whole numbers from 1 to 10, after repair and one further question, count as none.",
        ),
    )
    Settings: ClassVar[type[Settings]] = LLMJudgeSettings
    templates: ClassVar[tuple[Path, ...]] = (POINTWISE, PAIRWISE)

    def __init__(self, settings: LLMJudgeSettings | None = None) -> None:
        self.settings = settings or LLMJudgeSettings.parse("llm", {})
        self._lines: tuple[str, ...] = ()
        self._titles: tuple[str, ...] = ()
        self._domain = "film"

    @classmethod
    def suited(cls, dataset: Dataset, values: dict[str, Any]) -> dict[str, Any]:
        """The settings with the digest of the summaries that they name.

        Raises:
            InputError: the file cannot be read, or lacks an item of the dataset.
        """
        if not values.get("summaries"):
            if values.get("told") == "summaries":
                raise InputError("told=summaries needs a file of `bench augment summaries`: --set summaries=FILE.")
            return values
        texts = read_summaries(Path(str(values["summaries"])), dataset)
        return {"told": "summaries"} | values | {"digest": digest_of(texts)}

    def prepare(self, dataset: Dataset, progress: Progress) -> None:
        """Quote what is to be told of every item."""
        self._titles, self._domain = dataset.catalogue.titles, dataset.card.domain
        self._lines = tuple(_lines(dataset, self.settings))

    def judge(self, lists: Lists) -> Iterator[tuple[int, Verdict]]:
        """Verdicts as the answers come.

        Raises:
            CheckError: the budget is used up, or nothing at all was answered.
        """
        requests = (self._request(POINTWISE, lists, row, SCHEMA) for row in range(len(lists)))
        for row, answer in ask(self.llm, requests):
            yield row, read_verdict(answer)

    def compare(self, lists: Lists, others: Lists) -> Iterator[tuple[int, int | None]]:
        """Which list of each pair is better, shown in this order: +1, -1, 0 for a tie, None for no verdict.

        Raises:
            CheckError: as `judge`.
        """

        def request(row: int) -> ChatRequest:
            return self._request(PAIRWISE, lists, row, CHOICE_SCHEMA, others=self._shown(others.items[row]))

        for row, answer in ask(self.llm, map(request, range(len(lists)))):
            yield row, read_choice(answer)

    def retold(self, dataset: Dataset, progress: Progress) -> tuple[Told, Told, LLMJudge]:
        """What this judge reads of items, what another reads instead, and that one, asking the same language model.

        Against the labels stand summaries where there is a file of them, else the tags; against anything else the labels.
        """
        more: Told = "summaries" if self.settings.summaries else "tags"
        instead: Told = more if self.settings.told in ("titles", "labels") else "labels"
        other = LLMJudge(self.settings.model_copy(update={"told": instead}))
        other.use_llm(self.llm)
        other.prepare(dataset, progress)
        return self.settings.told, instead, other

    def _request(self, template: Path, lists: Lists, row: int, schema: dict[str, Any], **more: Any) -> ChatRequest:
        words = domain_words(self._domain)
        prompts = lists.requests.prompts
        messages = render(
            template,
            thing=words.thing,
            things=words.things,
            history=[self._titles[item] for item in lists.requests.history[row][-self.settings.history :]],
            prompt="" if prompts is None else prompts[row],
            items=self._shown(lists.items[row]),
            **more,
        )
        # The first judgement is the one that a plain pass asks for; only further ones need a seed to be other requests.
        again = 0 if lists.repeat is None else int(lists.repeat[row])
        sampling = Sampling(
            temperature=self.settings.temperature, max_tokens=self.settings.max_tokens, seed=again or None
        )
        return ChatRequest(messages, sampling, schema, id=str(row))

    def _shown(self, items: Ints) -> list[str]:
        return [self._lines[item] for item in items.tolist() if item != NO_ITEM]


def _lines(dataset: Dataset, settings: LLMJudgeSettings) -> Iterator[str]:
    """What is told of every item, quoted, on one line each."""
    catalogue = dataset.catalogue
    summaries = read_summaries(Path(settings.summaries), dataset) if settings.told == "summaries" else ()
    for item, title in enumerate(catalogue.titles):
        line = quoted(title)
        labels = ", ".join(catalogue.label_names[label] for label in catalogue.labels[item])
        if settings.told != "titles" and labels:
            line += f" ({quoted(labels)})"
        if settings.told == "tags" and catalogue.train_tags:
            line += ": " + "; ".join(quoted(tag) for tag in catalogue.train_tags[item])
        elif settings.told == "summaries":
            line += ": " + quoted(summaries[item], LONGEST_ABOUT)
        yield line

"""Texts about items, written by a language model: train tags, their rewordings, summaries (Appendices B.2, B.3 and B.6)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from bench import cards
from bench.atomic import atomic_write
from bench.cards import Settings
from bench.contracts import Dataset
from bench.errors import InputError
from bench.llm.contracts import ChatRequest, Sampling
from bench.llm.quoting import NOTICE
from bench.llm.templates import render
from bench.writing import WriteConfig
from dpr.wording import mean_shared, shared
from tasks.datasets.base import cache_dir
from tasks.datasets.tags import TAGS, Authorship, TagFile, Tags, TagsHeader, read_tags, write_tags
from tasks.domains import domain_words
from tasks.label_words import LabelWords

PER_ITEM = 3
# The paper's bounds (B.2, B.6); a rewording in other words may need a few more of them to say the same.
TAG_WORDS, REWORDED, SUMMARY_WORDS = (5, 12), (5, 16), (40, 50)
# Labels that a prompt lists as barred; of hundreds the check alone knows all.
LISTED = 40
SUMMARIES = "summaries.jsonl"
# Tokens of an answer: room for a model that thinks aloud, and for each item.
FREE_TOKENS = 512

Texts = tuple[str, ...]


class AugmentSettings(Settings):
    """Settings that all three share."""

    batch: int = Field(20, ge=1, description="items in one request")
    temperature: float = Field(0.0, ge=0, description="of its answers")


class RewriteSettings(AugmentSettings):
    """Settings of `bench augment rewrite`."""

    max_overlap: float = Field(
        0.34, ge=0, le=1, description="largest share of its content words that a rewording may have from its original"
    )


class SummarySettings(AugmentSettings):
    """Settings of `bench augment summaries`."""

    batch: int = Field(10, ge=1, description="items in one request")


class AboutItems:
    """Base: a template that shows some items by number, and a check of what is answered for each."""

    command: ClassVar[str]
    Settings: ClassVar[type[cards.Settings]] = AugmentSettings
    templates: ClassVar[tuple[Path, ...]]
    answer: ClassVar[dict[str, Any]]
    words: ClassVar[tuple[int, int]]
    tokens: ClassVar[int]

    def __init__(self, dataset: Dataset, settings: Any) -> None:
        self.dataset, self.settings = dataset, settings
        self.catalogue = dataset.catalogue
        self.rows = {item: row for row, item in enumerate(self.catalogue.ids)}
        self.named = LabelWords(self.catalogue.label_names, proof=True)

    def units(self) -> Sequence[str]:
        """The items that are written about."""
        return self.catalogue.ids

    def problem(self, item: str, value: Any) -> str | None:
        """What is wrong with what was written about an item, None where nothing is."""
        raise NotImplementedError

    def batches(self) -> list[tuple[str, ...]]:
        """The items in the order of the catalogue, some at a time."""
        items, size = self.units(), self.settings.batch
        return [tuple(items[start : start + size]) for start in range(0, len(items), size)]

    def request(self, units: Sequence[str], wrong: Mapping[str, str]) -> ChatRequest:
        """The prompt of the appendix, in the words of the domain, with titles, labels and tags as data."""
        names, domain = self.catalogue.label_names, self.dataset.card.domain
        items = [
            {
                "number": number,
                "title": self.catalogue.titles[self.rows[item]],
                "labels": ", ".join(names[label] for label in self.catalogue.labels[self.rows[item]]),
                "tags": self.catalogue.train_tags[self.rows[item]] if self.catalogue.train_tags else (),
            }
            for number, item in enumerate(units, 1)
        ]
        messages = render(
            self.templates[0],
            words=domain_words(domain),
            domain=domain,
            items=items,
            banned=", ".join(names[:LISTED]) + (", and so on" if len(names) > LISTED else ""),
            least=self.words[0],
            most=self.words[1],
            wrong=[(number, wrong[item]) for number, item in enumerate(units, 1) if item in wrong],
            notice=NOTICE,
        )
        tokens = FREE_TOKENS + self.tokens * len(units)
        return ChatRequest(messages, Sampling(self.settings.temperature, max_tokens=tokens), _schema(self.answer))

    def read(self, units: Sequence[str], parsed: Any) -> tuple[dict[str, Any], dict[str, str]]:
        """The good texts by item, and of every other item what is wrong."""
        (key,) = self.answer
        by_number: dict[int, Any] = {}
        for each in parsed["items"]:
            by_number.setdefault(each["id"], each[key])
        good: dict[str, Any] = {}
        wrong: dict[str, str] = {}
        for number, item in enumerate(units, 1):
            value = by_number.get(number)
            told = "there was no entry for it" if value is None else self.problem(item, value)
            if told is None:
                good[item] = self.kept(value)
            else:
                wrong[item] = told
        return good, wrong

    def kept(self, value: Any) -> Any:
        """A good text as it goes into the file."""
        return tuple(" ".join(tag.split()) for tag in value)


class _WritesTags(AboutItems):
    answer: ClassVar[dict[str, Any]] = {"tags": {"type": "array", "items": {"type": "string"}}}
    words = TAG_WORDS
    tokens = 120
    part: ClassVar[str]

    def problem(self, item: str, value: Any) -> str | None:
        """Count, lengths, repeats, and the name of a label."""
        if len(value) != PER_ITEM:
            return f"{PER_ITEM} tags were asked for, there were {len(value)}"
        if len({" ".join(tag.lower().split()) for tag in value}) < PER_ITEM:
            return "two of the tags are the same"
        for number, tag in enumerate(value, 1):
            told = _length_problem(tag, self.words)
            if told is not None:
                return f"tag {number} {told}"
            named = self.named.words(tag)
            if named:
                return f'tag {number} says "{named[0]}", which names a label'
        return None

    def place(self, config: WriteConfig, asked: str) -> Path:
        """`--to`, or `tags.jsonl` where the dataset reads it.

        Raises:
            InputError: there is no such place, or tags are there already that something else was asked for.
        """
        path = _place(config, self.dataset.name, TAGS)
        there = self._there(path)
        by = None if there is None or there.header is None else getattr(there.header, self.part)
        taken = there is not None and self._has_own(there) and (by is None or by.asked != asked)
        if taken and not config.replace:
            raise InputError(
                f"{path} has {self.part} tags of another origin: name another file with --to, or give --replace."
            )
        return path

    def _there(self, path: Path) -> TagFile | None:
        return read_tags(path, self.dataset.name) if path.is_file() else None

    def _has_own(self, there: TagFile) -> bool:
        raise NotImplementedError

    def _overlap(self, tags: Tags) -> float | None:
        pairs = [pair for train, rewordings in tags.values() for pair in zip(rewordings, train, strict=False)]
        return mean_shared(pairs) if pairs else None


class TrainTags(_WritesTags):
    """Three train tags an item: narrative, atmosphere, appeal."""

    command = "bench augment tags"
    templates = (Path(__file__).with_name("tags.j2"),)
    part = "train"

    def save(self, path: Path, texts: Mapping[str, Texts], by: dict[str, Any]) -> dict[str, Any]:
        """Write the tags; rewordings that are there stay where the train tags are as they were."""
        there = self._there(path)
        old = {} if there is None else there.tags
        same = {item for item, (train, _) in old.items() if texts.get(item) == train}
        tags = {item: (train, old[item][1] if item in same else ()) for item, train in texts.items()}
        rewritten = there is not None and there.header is not None and any(rewording for _, rewording in tags.values())
        header = TagsHeader(
            dataset=self.dataset.name,
            train=Authorship(**by),
            eval=there.header.eval if rewritten and there is not None and there.header is not None else None,
            overlap=self._overlap(tags),
        )
        write_tags(path, header, tags)
        return {"tags": PER_ITEM * len(texts)}

    def _has_own(self, there: TagFile) -> bool:
        return True


class EvalTags(_WritesTags):
    """The three train tags in other words, for prompts at evaluation."""

    command = "bench augment rewrite"
    Settings: ClassVar[type[cards.Settings]] = RewriteSettings
    templates = (Path(__file__).with_name("rewrite.j2"),)
    words = REWORDED
    part = "eval"

    def __init__(self, dataset: Dataset, settings: Any) -> None:
        """Take the train tags of the dataset.

        Raises:
            InputError: it has none.
        """
        super().__init__(dataset, settings)
        if not any(self.catalogue.train_tags):
            raise InputError(f"{dataset.name} has no train tags to reword: write them first with `bench augment tags`.")

    def units(self) -> Sequence[str]:
        """The items with train tags."""
        return [item for item, tags in zip(self.catalogue.ids, self.catalogue.train_tags, strict=True) if tags]

    def problem(self, item: str, value: Any) -> str | None:
        """What is wrong with any tag, and too many words of the original."""
        told = super().problem(item, value)
        if told is not None:
            return told
        for number, (tag, original) in enumerate(zip(value, self._train(item), strict=False), 1):
            share = shared(tag, original)
            if share > self.settings.max_overlap:
                return (
                    f"tag {number} shares {share:.0%} of its content words with the original, at most "
                    f"{self.settings.max_overlap:.0%} are allowed"
                )
        return None

    def save(self, path: Path, texts: Mapping[str, Texts], by: dict[str, Any]) -> dict[str, Any]:
        """Write the rewordings beside the train tags, with how many content words they share."""
        there = self._there(path)
        tags = {item: (self._train(item), texts.get(item, ())) for item in self.units()}
        overlap = self._overlap(tags)
        train = None if there is None or there.header is None else there.header.train
        header = TagsHeader(dataset=self.dataset.name, train=train, eval=Authorship(**by), overlap=overlap)
        write_tags(path, header, tags)
        shares = [shared(*pair) for item in texts for pair in zip(texts[item], self._train(item), strict=False)]
        measured = {"overlap_mean": round(sum(shares) / len(shares), 4), "overlap_max": round(max(shares), 4)}
        return {"tags": PER_ITEM * len(texts), **measured, "overlap_bound": self.settings.max_overlap}

    def _train(self, item: str) -> Texts:
        return self.catalogue.train_tags[self.rows[item]]

    def _has_own(self, there: TagFile) -> bool:
        return any(rewording for _, rewording in there.tags.values())


class Summaries(AboutItems):
    """One summary of 40 to 50 words an item, which may name its labels; a judge reads it."""

    command = "bench augment summaries"
    Settings: ClassVar[type[cards.Settings]] = SummarySettings
    templates = (Path(__file__).with_name("summaries.j2"),)
    answer: ClassVar[dict[str, Any]] = {"summary": {"type": "string"}}
    words = SUMMARY_WORDS
    tokens = 140

    def problem(self, item: str, value: Any) -> str | None:
        """The length."""
        told = _length_problem(value, self.words)
        return None if told is None else f"the summary {told}"

    def kept(self, value: Any) -> Any:
        """On one line."""
        return " ".join(value.split())

    def place(self, config: WriteConfig, asked: str) -> Path:
        """`--to`, or `summaries.jsonl` in the folder with the dataset's files.

        Raises:
            InputError: there is no such place, or summaries are there already that something else was asked for.
        """
        path = _place(config, self.dataset.name, SUMMARIES)
        if path.is_file() and not config.replace and _asked(path) != asked:
            raise InputError(f"{path} has summaries of another origin: name another file with --to, or give --replace.")
        return path

    def save(self, path: Path, texts: Mapping[str, str], by: dict[str, Any]) -> dict[str, Any]:
        """Write the summaries below a header that says who wrote them."""
        rows: Iterable[dict[str, Any]] = (
            {"summaries": 1, "dataset": self.dataset.name, **by},
            *({"item_id": item, "summary": text} for item, text in texts.items()),
        )
        atomic_write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        lengths = [len(text.split()) for text in texts.values()]
        return {"mean_words": round(sum(lengths) / len(lengths), 1)}


def _schema(answer: dict[str, Any]) -> dict[str, Any]:
    """JSON Schema of a list of items by number, each with the given value."""

    def closed(properties: dict[str, Any]) -> dict[str, Any]:
        return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}

    return closed({"items": {"type": "array", "items": closed({"id": {"type": "integer"}, **answer})}})


def _length_problem(text: str, bounds: tuple[int, int]) -> str | None:
    count = len(text.split())
    return None if bounds[0] <= count <= bounds[1] else f"has {count} words, {bounds[0]} to {bounds[1]} were asked for"


def _place(config: WriteConfig, name: str, file: str) -> Path:
    if config.to is not None:
        return config.to
    folder = cache_dir(name) if config.data_dir is None else config.data_dir
    if not folder.is_dir():
        raise InputError(
            f"dataset {name!r} has no folder with files that {file} could lie in: name a file with --to FILE."
        )
    # The mode is asked as well: an administrator may write anywhere, and still wants data that are marked read-only left alone.
    if not os.access(folder, os.W_OK) or not folder.stat().st_mode & 0o222:
        raise InputError(f"{folder} cannot be written: name another place with --to FILE.")
    return folder / file


def _asked(path: Path) -> str | None:
    try:
        first: Any = json.loads(path.read_text("utf-8").partition("\n")[0])
    except (OSError, ValueError):
        return None
    return first.get("asked") if isinstance(first, dict) else None

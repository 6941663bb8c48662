"""What LANCER's models read: texts of items and histories, in the released wording and in perturbed ones."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from baselines.asking import ItemWords
from bench.contracts import Dataset
from bench.errors import unknown_name
from bench.llm.quoting import clean
from tasks.domains import DOMAINS, domain_words

FILE = "texts.json"
# Letters of a description and of a request that are read.
LONGEST = 400

# Openings as released for films, news and books.
OPENINGS = {
    "film": "A user watched sequence of movies : ",
    "news": "News reading sequence: ",
    "book": "A user liked the following books: ",
    "product": "A user bought the following products: ",
}


@dataclass(frozen=True)
class Wording:
    """Templates of the texts.

    `item` and `knowledge` have the slots {title}, {labels} and {label_name} (what labels are called), `knowledge` {description}
    besides. An item is followed by `between`, where generation stops. `opening` None is that of the domain.
    """

    item: str = "{labels} : {title}"
    knowledge: str = "desc : {description} {label_name} : {labels} title : {title}"
    opening: str | None = None
    between: str = " -> "


RELEASED = Wording()
WORDINGS = {
    "released": RELEASED,
    "knowledge_renamed": replace(RELEASED, knowledge="summary = {description} ; kind = {labels} ; name = {title}"),
    "knowledge_reordered": replace(RELEASED, knowledge="title : {title} {label_name} : {labels} desc : {description}"),
    "knowledge_bare": replace(RELEASED, knowledge="{description} {labels} {title}"),
    "opening_paraphrased": replace(RELEASED, opening="Here is what somebody chose so far, oldest first: "),
    "opening_left_out": replace(RELEASED, opening=""),
    "other_separator": replace(RELEASED, between=" ; "),
    "item_reordered": replace(RELEASED, item="{title} : {labels}"),
}


def wording(name: str) -> Wording:
    """A wording by its name.

    Raises:
        InputError: an unknown name.
    """
    if name not in WORDINGS:
        raise unknown_name("wording of lancer", name, WORDINGS)
    return WORDINGS[name]


@dataclass(frozen=True)
class ItemTexts:
    """What is known of every item in words: V titles, labels (one string an item) and descriptions, and the domain."""

    titles: tuple[str, ...]
    labels: tuple[str, ...]
    descriptions: tuple[str, ...]
    domain: str

    @classmethod
    def of(cls, dataset: Dataset) -> ItemTexts:
        """Those of a dataset; descriptions are the training tags, or the catalogue's text where there are none."""
        catalogue, words = dataset.catalogue, ItemWords.of(dataset)
        tags = catalogue.train_tags or ((),) * len(catalogue)
        descriptions = ["; ".join(mine) or text for mine, text in zip(tags, catalogue.texts, strict=True)]
        titles, labels, texts = (
            tuple(clean(text, LONGEST) for text in column) for column in (words.titles, words.labels, descriptions)
        )
        return cls(titles, labels, texts, dataset.card.domain)

    def items(self, how: Wording) -> list[str]:
        """How each item is written in histories, and how it is generated."""
        return [
            how.item.format(title=title, labels=labels, label_name=self._label_name)
            for title, labels in zip(self.titles, self.labels, strict=True)
        ]

    def knowledge(self, how: Wording) -> list[str]:
        """The text about each item that the knowledge prompt learns from."""
        return [
            how.knowledge.format(title=title, labels=labels, description=text, label_name=self._label_name)
            for title, labels, text in zip(self.titles, self.labels, self.descriptions, strict=True)
        ]

    def opening(self, how: Wording, prompt: str | None) -> str:
        """What stands before a history: the request, where there is one, and the prefix text."""
        text = OPENINGS[self.domain] if how.opening is None else how.opening
        return text if prompt is None else f"{clean(prompt, LONGEST)} {text}"

    @property
    def _label_name(self) -> str:
        return domain_words(self.domain).labels if self.domain in DOMAINS else "labels"

    def save(self, directory: Path) -> None:
        """Write `texts.json`."""
        (directory / FILE).write_text(json.dumps(asdict(self), ensure_ascii=False), "utf-8")

    @classmethod
    def load(cls, directory: Path) -> ItemTexts:
        """Read what `save` wrote."""
        kept = json.loads((directory / FILE).read_text("utf-8"))
        return cls(tuple(kept["titles"]), tuple(kept["labels"]), tuple(kept["descriptions"]), kept["domain"])

"""A language model judges items under requests, 20 in a question: `bench augment judgements`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from baselines.ctrl_rec.control_requests import ControlRequest, request_bank
from baselines.ctrl_rec.judged import proposals
from baselines.ctrl_rec.judgements import HIGHEST, About, Judgement, read_judgements, write_judgements
from baselines.words import ReadsWords
from bench import cards, registry
from bench.cards import Settings
from bench.contracts import Dataset, Progress
from bench.errors import InputError
from bench.llm.contracts import ChatRequest, Sampling
from bench.llm.quoting import NOTICE
from bench.llm.templates import render
from bench.rng import named_generator
from bench.runs import MODELS
from bench.store import Store, resolve_device
from bench.writing import WriteConfig
from tasks.domains import domain_words
from tasks.request_sets import SHIPPED, read_request_set

TEMPLATE = Path(__file__).with_name("judgements.j2")
FOLDER = "judgements"
# Title, genres and a synopsis of 40 words; and tokens of an answer, room for a model that thinks aloud included.
LONGEST_ABOUT = 400
MAX_TOKENS = 1024

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "scores": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"id": {"type": "integer"}, "score": {"type": "integer"}},
                "required": ["id", "score"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["scores"],
    "additionalProperties": False,
}


class JudgeSettings(Settings):
    """Settings of `bench augment judgements`."""

    requests: int = Field(6000, ge=1, description="requests that are judged, drawn by the seed")
    per_set: int = Field(4, ge=1, le=16, description="training templates that each set of several labels is put in")
    free: str = Field("", description="request set of `bench simulate` whose statements are judged as well")
    base: Literal["mf", "sasrec"] = Field("mf", description="model whose items are among the judged")
    encoder: str = Field("all-minilm-l6-v2", description="sentence encoder that finds the items nearest by text")
    seed: int = Field(0, ge=0, description="seed of the draws and of the base model")
    temperature: float = Field(0.0, ge=0, description="of its answers")


class ItemJudge(ReadsWords):
    """Scores from 0 to 10 of 20 items for each request; a unit is REQUEST/ITEM, by number and id."""

    command: ClassVar[str] = "bench augment judgements"
    templates: ClassVar[tuple[Path, ...]] = (TEMPLATE,)
    Settings: ClassVar[type[cards.Settings]] = JudgeSettings

    def __init__(self, dataset: Dataset, settings: JudgeSettings) -> None:
        """Draw the requests.

        Raises:
            InputError: the file of free requests cannot be read, or holds requests that models are evaluated on.
        """
        self.dataset, self.settings = dataset.for_training(), settings
        catalogue = self.dataset.catalogue
        bank = request_bank(
            catalogue, dataset.card.domain, settings.per_set, settings.seed, _free(settings.free, dataset)
        )
        shuffled = named_generator(settings.seed, "ctrl_rec", "judged").permutation(len(bank.requests)).tolist()
        # Free words are few, and the reason why a language model is asked at all: they are always among the drawn.
        order = sorted(shuffled, key=lambda place: bank.requests[place].kind != "free")
        self.requests = [bank.requests[place] for place in sorted(order[: settings.requests])]
        self.rows = {item: row for row, item in enumerate(catalogue.ids)}
        self._batches: list[tuple[str, ...]] = []

    def prepare(self, config: WriteConfig, progress: Progress) -> None:
        """Fit the base model, or take the one that is there, and propose the items of every request."""
        base = registry.get("models", self.settings.base)
        suited = base.Settings.fitting(self.dataset.card.model_settings)
        model, _ = Store(config.out / MODELS).fitted(
            self.settings.base, self.dataset, suited, self.settings.seed, resolve_device(config.device), progress
        )
        items = proposals(self.requests, self.dataset, model, self.encoder, self.settings.seed, progress)
        ids = self.dataset.catalogue.ids
        self._batches = [tuple(f"{number}/{ids[item]}" for item in row.tolist()) for number, row in enumerate(items)]

    def batches(self) -> list[tuple[str, ...]]:
        """The items of every request."""
        return self._batches

    def request(self, units: Sequence[str], wrong: Mapping[str, str]) -> ChatRequest:
        """The prompt for a request, with words and items as data."""
        catalogue = self.dataset.catalogue
        rows = [self.rows[unit.partition("/")[2]] for unit in units]
        items = [
            {
                "number": number,
                "title": catalogue.titles[row],
                "about": _about(catalogue.titles[row], catalogue.texts[row]),
            }
            for number, row in enumerate(rows, 1)
        ]
        messages = render(
            TEMPLATE,
            words=domain_words(self.dataset.card.domain),
            request=self._request(units[0]).text,
            items=items,
            wrong=[(number, wrong[unit]) for number, unit in enumerate(units, 1) if unit in wrong],
            notice=NOTICE,
        )
        drawn = self.settings.seed if self.settings.temperature else None
        sampling = Sampling(self.settings.temperature, max_tokens=MAX_TOKENS, seed=drawn)
        return ChatRequest(messages, sampling, SCHEMA, id=units[0].partition("/")[0])

    def read(self, units: Sequence[str], parsed: Any) -> tuple[dict[str, int], dict[str, str]]:
        """The scores of an answer, and of every other item what is wrong."""
        by_number: dict[int, int] = {}
        for each in parsed["scores"]:
            by_number.setdefault(each["id"], each["score"])
        good: dict[str, int] = {}
        wrong: dict[str, str] = {}
        for number, unit in enumerate(units, 1):
            score = by_number.get(number)
            if score is None:
                wrong[unit] = "there was no score for it"
            elif not 0 <= score <= HIGHEST:
                wrong[unit] = f"its score was {score}, 0 to {HIGHEST} were asked for"
            else:
                good[unit] = score
        return good, wrong

    def place(self, config: WriteConfig, asked: str) -> Path:
        """`--to`, or OUT/judgements/DATASET-LLM-MARK.jsonl.

        Raises:
            InputError: other judgements are there.
        """
        llm = re.sub(r"[^A-Za-z0-9._-]+", "-", config.llm or "").strip("-.")
        path = config.to or config.out / FOLDER / f"{self.dataset.name}-{llm}-{asked[:10]}.jsonl"
        if path.is_file() and not config.replace and read_judgements(path).about.asked != asked:
            raise InputError(f"{path} has other judgements: name another file with --to, or give --replace.")
        return path

    def save(self, path: Path, texts: Mapping[str, int], by: dict[str, Any]) -> dict[str, Any]:
        """Write the judgements; a request without any score is left out."""
        s, found = self.settings, []
        for request, units in zip(self.requests, self._batches, strict=True):
            scored = {unit.partition("/")[2]: texts[unit] for unit in units if unit in texts}
            if scored:
                found.append(
                    Judgement(
                        request=request.text,
                        kind=request.kind,
                        polarity=1 if request.polarity > 0 else -1,
                        held_out=request.held_out,
                        items=tuple(scored),
                        scores=tuple(scored.values()),
                    )
                )
        about = About(dataset=self.dataset.name, seed=s.seed, per_set=s.per_set, base=s.base, **by)
        write_judgements(path, about, found)
        scores = [score for each in found for score in each.scores]
        return {
            "requests": len(found),
            "held_out": sum(each.held_out for each in found),
            "mean_score": round(float(np.mean(scores)), 2),
            "digest": read_judgements(path).digest,
        }

    def _request(self, unit: str) -> ControlRequest:
        return self.requests[int(unit.partition("/")[0])]


def _about(title: str, text: str) -> str:
    """What an item's text says beyond its title."""
    return text.removeprefix(title).lstrip(". ")[:LONGEST_ABOUT]


def _free(name: str, dataset: Dataset) -> list[str]:
    """The statements of a request set, none of which may be asked at evaluation."""
    if not name:
        return []
    statements = [request.statement for request in read_request_set(name, dataset.name).requests]
    try:
        asked = {request.statement for request in read_request_set(SHIPPED, dataset.name).requests}
    except InputError:
        asked = set()
    shared = next((each for each in statements if each in asked), None)
    if shared is not None:
        raise InputError(
            f"free={name}: {shared[:60]!r} is among the requests that models are evaluated on: "
            "write others with `bench simulate`."
        )
    return statements

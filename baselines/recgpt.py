"""RecGPT-7B-Instruct (Ngo and Nguyen, ACL 2024): ten beams of one title each, every beam mapped to its nearest item."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from baselines.asking import ItemWords
from baselines.language.settings import FROM_SCRATCH, BaseModelSettings, TrainingSettings
from baselines.scorer import CatalogueScorer
from bench import cards
from bench.cards import ModelCard
from bench.contracts import Dataset, Encoder, FitContext, Floats, Ranking, Requests
from bench.llm.quoting import clean
from bench.llm.templates import render
from tasks.domains import domain_words

if TYPE_CHECKING:
    from baselines.language.base_model import Base
    from baselines.language.mapping import Mapping
    from baselines.language.text_to_items import TextToItems
    from bench.llm.vllm_engine import VllmEngine

TEMPLATE = Path(__file__).with_name("recgpt.j2")
PROMPTS, LOG = "prompts.json", "training.json"
# What the published training data call things; others go by their domain's words.
THINGS = {"film": "movies/shows"}
BEAMS = 10


class RecGPTPretraining(TrainingSettings):
    """How a base from scratch learns what the words of requests stand for in a catalogue, before any history."""

    epochs: int = Field(20, ge=1, description="epochs; one has a request an item, with ten answers")
    batch_size: int = Field(8, ge=1, description="requests in an update, of all processes together")
    learning_rate: float = Field(3e-3, gt=0, description="peak learning rate of AdamW")


class RecGPTTraining(TrainingSettings):
    """Training of a base from scratch; published weights are not trained."""

    epochs: int = Field(3, ge=1, description="most epochs; one has an example a user")
    batch_size: int = Field(16, ge=1, description="examples in an update, of all processes together")
    learning_rate: float = Field(2e-3, gt=0, description="peak learning rate of AdamW")
    schedule: Literal["linear", "cosine", "polynomial", "constant"] = Field(
        "cosine", description="how the learning rate falls to zero"
    )
    requests: float = Field(0.9, ge=0, le=1, description="share of the examples that carry a request")
    users: int | None = Field(None, ge=1, description="users who give examples; not given: all")


class RecGPTSettings(BaseModelSettings):
    """Settings of RecGPT."""

    # A small model's attention is spent on what was asked, and a step is as dear as its prompt is long.
    suited: ClassVar[dict[str, Any]] = {"titles": 5}
    suited_small: ClassVar[dict[str, Any]] = {
        "pretraining": {"learning_rate": 1e-3},
        "training": {"learning_rate": 1e-3},
    }

    base_model: str = Field(
        "vinai/RecGPT-7B-Instruct", description="hub name, folder, or from scratch and trained here: tiny, small"
    )
    engine: Literal["transformers", "vllm"] = Field("transformers", description="what published weights generate with")
    titles: int = Field(20, ge=1, description="newest items of a history that the prompt shows")
    encoder: str = Field("all-minilm-l6-v2", description="sentence encoder of the step from text to items")
    max_tokens: int = Field(48, ge=1, description="most tokens of a beam")
    batch: int = Field(8, ge=1, description="requests whose beams are searched at once")
    pretraining: RecGPTPretraining = Field(RecGPTPretraining(), description="of a base from scratch, on the catalogue")
    training: RecGPTTraining = Field(RecGPTTraining(), description="of a base from scratch")

    @model_validator(mode="after")
    def _served(self) -> RecGPTSettings:
        if self.engine == "vllm" and self.base_model in FROM_SCRATCH:
            raise ValueError(f"engine=vllm is for published weights; base_model={self.base_model} takes transformers")
        return self


class PromptWords:
    """The words of RecGPT's prompts and answers, for one catalogue."""

    def __init__(self, words: ItemWords, domain: str) -> None:
        self.domain, self.things = domain, THINGS.get(domain, domain_words(domain).things)
        self.titles = tuple(map(clean, words.titles))
        self.labels = tuple(map(clean, words.labels))

    @cached_property
    def strings(self) -> list[str]:
        """What is answered for every item, V strings."""
        return [f"Title: {title}" for title in self.titles]

    def prompt(self, history: Sequence[int], request: str | None) -> str:
        """The prompt up to `### Response:`, the history oldest first."""
        (message,) = render(
            TEMPLATE,
            things=self.things,
            label_name=domain_words(self.domain).labels.capitalize(),
            history=[{"title": self.titles[item], "labels": self.labels[item]} for item in history],
            prompt=request,
        )
        return message.content

    def save(self, directory: Path) -> None:
        """Write `prompts.json`."""
        kept = {"titles": self.titles, "labels": self.labels, "domain": self.domain}
        (directory / PROMPTS).write_text(json.dumps(kept, ensure_ascii=False), "utf-8")

    @classmethod
    def load(cls, directory: Path) -> PromptWords:
        """Read what `save` wrote."""
        kept = json.loads((directory / PROMPTS).read_text("utf-8"))
        return cls(ItemWords(tuple(kept["titles"]), tuple(kept["labels"]), ""), kept["domain"])


class RecGPT(CatalogueScorer):
    """A language model that was trained to write the next item. Published weights are used as they are."""

    card = ModelCard(
        name="recgpt",
        version=2,
        summary="RecGPT-7B-Instruct writes the next title in ten beams; each becomes the item nearest by sentence embedding.",
        information="prompt",
        training_datasets=(
            "possible exposure: a MovieLens of ML-25M's size, Netflix, Goodreads and others in pre-training",
        ),
        settings=RecGPTSettings.described(),
        licence="CC-BY-NC-4.0 (the published weights)",
        citation="Ngo and Nguyen 2024, RecGPT: Generative Pre-training for Text-based Recommendation, ACL (arXiv 2405.12715)",
        notes=(
            "Possible exposure: pre-training read a MovieLens of 162,541 users, so test events of ML-1M may be in it; no number of "
            "the published weights on MovieLens is zero-shot.",
            "The published model has no task with a request: it stands as one sentence after the first line of the instruction.",
            "Each beam becomes its single nearest item; repeats stay at their best beam; the list is filled up by the highest "
            "cosine to any beam.",
            "A base from scratch knows nothing but this dataset: first it reads requests with ten titles each that answer them "
            "(labels and training tags of the catalogue), then the train events in the same prompts, most of them with a request, "
            "which the published model was never trained on. Every title is one token of its own.",
        ),
    )
    Settings: ClassVar[type[cards.Settings]] = RecGPTSettings
    serving_settings: ClassVar[frozenset[str]] = frozenset({"engine", "max_tokens", "batch"})
    templates: ClassVar[tuple[Path, ...]] = (TEMPLATE,)
    quick_settings: ClassVar[dict[str, Any]] = {
        "base_model": "tiny",
        "titles": 5,
        "pretraining.epochs": 1,
        "training.epochs": 1,
        "training.users": 64,
        "max_tokens": 16,
    }
    settings: RecGPTSettings
    words: PromptWords
    base: Base | None = None
    log: dict[str, list[dict[str, float]]] = {}  # noqa: RUF012 - replaced, never changed
    _scratch: Path | None = None

    def fit(self, dataset: Dataset, context: FitContext) -> None:
        """Open the language model, train it where it is from scratch, and encode the catalogue."""
        from baselines.recgpt_training import tokenizer_texts, tune, units

        self.device, self._scratch = context.device, context.scratch
        self.words = PromptWords(ItemWords.of(dataset), dataset.card.domain)
        self._open(tokenizer_texts(self.words, dataset), units(self.words), context.seed)
        if self.base is not None and self.base.from_scratch:
            self.log = tune(self.base, self.words, dataset, self.settings, context)
        self.arrays = {"vectors": self.encoder.encode(self.words.strings, context.progress)}

    def rank(self, requests: Requests, k: int) -> Ranking:
        """Ten beams a request, as items; the rest of the k places filled by nearness.

        Extras: the accounts of `bench.language`.
        """
        asked = requests.prompts or (None,) * len(requests)
        histories = [requests.history[row][-self.settings.titles :].tolist() for row in range(len(requests))]
        texts, scores = self._beams(list(map(self.words.prompt, histories, asked)))
        said = [[first_line(text) for text in beams] for beams in texts]
        return self.to_items.rank(said, scores, requests.history, k)

    @cached_property
    def encoder(self) -> Encoder:
        """The sentence encoder, with its vectors kept on disk."""
        from baselines.encoders import CachedEncoder, default_cache_directory

        return CachedEncoder(self.settings.encoder, default_cache_directory())

    @cached_property
    def to_items(self) -> TextToItems:
        """The step from text to items."""
        from baselines.language.text_to_items import TextToItems

        return TextToItems(self.words.strings, self.arrays["vectors"], self.encoder.encode)

    def mapping(self) -> Mapping:
        """The step from text to items, to be measured alone."""
        from baselines.language.mapping import Mapping

        return Mapping(self.words.strings, self.to_items.nearest)

    def _beams(self, prompts: list[str]) -> tuple[list[list[str]], Floats]:
        from baselines.language.generation import beams, engine_beams

        if self.base is None:
            return engine_beams(self._engine, prompts, beams=BEAMS, max_tokens=self.settings.max_tokens)
        settings = self.settings
        return beams(self.base, prompts, beams=BEAMS, max_tokens=settings.max_tokens, batch=settings.batch)

    def _open(self, texts: list[str], units: list[str], seed: int) -> None:
        """Load the base model; with vLLM, which is its own loader, nothing yet."""
        from baselines.language.base_model import Needs, open_base

        if self.settings.engine == "vllm":
            return
        self.base = open_base(self.settings, texts=texts, units=units, seed=seed, device=self.device, needs=Needs())

    @cached_property
    def _engine(self) -> VllmEngine:
        from baselines.language.sources import find
        from bench.llm.vllm_engine import EngineOptions, VllmEngine, dtype_of

        folder = find(self.settings.base_model, self.settings.revision).with_weights()
        custom = self.settings.trust_remote_code
        return VllmEngine(folder, dtype_of(self.device), EngineOptions(), trust_remote_code=custom)

    def save(self, directory: Path) -> None:
        """Write vectors, words and log, and the base model: itself where it is from scratch, else its name."""
        from baselines.language.training import keep_events

        super().save(directory)
        self.words.save(directory)
        (directory / LOG).write_text(json.dumps(self.log, indent=1), "utf-8")
        if self.base is not None:
            self.base.save(directory)
        if self._scratch is not None:
            keep_events(self._scratch, directory)

    @classmethod
    def load(cls, directory: Path, settings: cards.Settings, device: str = "cpu") -> RecGPT:
        """Read what `save` wrote.

        Raises:
            InputError: published weights are not to be had any more, or are others by now.
        """
        from baselines.language.base_model import RECORD, Needs, reopen

        model = super().load(directory, settings, device)
        assert isinstance(model, RecGPT)
        model.words = PromptWords.load(directory)
        model.log = json.loads((directory / LOG).read_text("utf-8"))
        if model.settings.engine == "transformers" and (directory / RECORD).is_file():
            model.base = reopen(directory, device, Needs())
        else:
            model._open([], [], 0)
        return model


def first_line(text: str) -> str:
    """The answer in a beam: its first line that is not empty."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")

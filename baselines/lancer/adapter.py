"""LANCER as a contestant: fitted in phases, asked through beams, its texts mapped to items."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator

from baselines.lancer.wording import ItemTexts, Wording, wording
from baselines.language.settings import BaseModelSettings, TrainingSettings
from bench.cards import ModelCard, Settings
from bench.contracts import Dataset, FitContext, Floats, Ranking, Requests

if TYPE_CHECKING:
    from baselines.lancer.network import LancerNet
    from baselines.lancer.reading import Reader
    from baselines.language.base_model import Base
    from baselines.language.mapping import Mapping
    from baselines.language.text_to_items import TextToItems

LOG = "training.json"
# Requests whose beams are searched at once.
ROWS = 16


class PretrainingSettings(TrainingSettings):
    """How a base from scratch learns to write texts about items, before it stands in for a pretrained one."""

    epochs: int = Field(10, ge=1, description="epochs; one has a text and a request an item")
    batch_size: int = Field(8, ge=1, description="texts in an update")
    learning_rate: float = Field(3e-3, gt=0, description="peak learning rate of AdamW")


class Phase1Settings(TrainingSettings):
    """The two prompts, both language models frozen."""

    epochs: int = Field(5, ge=1, description="most epochs; one has an example a user")
    batch_size: int = Field(16, ge=1, description="histories in an update, of all processes together")
    learning_rate: float = Field(2e-4, gt=0, description="peak learning rate of AdamW")
    schedule: Literal["linear", "cosine", "polynomial", "constant"] = Field(
        "cosine", description="how the learning rate falls to zero"
    )
    warmup: float = Field(0, ge=0, description="updates of linear warm-up; below 1 their share of all")


class Phase2Settings(Phase1Settings):
    """The reasoning language model as well."""

    epochs: int = Field(20, ge=1, description="most epochs; one has an example a user")
    schedule: Literal["linear", "cosine", "polynomial", "constant"] = Field(
        "linear", description="how the learning rate falls to zero"
    )
    patience: int = Field(20, ge=1, description="epochs without a better validation loss before training stops")


class LancerSettings(BaseModelSettings):
    """Settings of LANCER; epochs, rates and schedules as released."""

    # A small model from scratch needs larger steps than a pretrained one.
    suited: ClassVar[dict[str, Any]] = {
        "loss": "answer",
        "requests": 0.9,
        "max_tokens": 16,
        "phase1": {"learning_rate": 1e-3, "epochs": 1},
        "phase2": {"learning_rate": 2e-3, "epochs": 4, "warmup": 0.05, "batch_size": 8},
    }
    suited_small: ClassVar[dict[str, Any]] = {
        "pretraining": {"learning_rate": 1e-3},
        "phase2": {"learning_rate": 1e-3},
    }

    base_model: str = Field(
        "openai-community/gpt2", description="a GPT-2: hub name, folder, or from scratch: tiny, small"
    )
    pretraining: PretrainingSettings = Field(PretrainingSettings(), description="of a base from scratch")
    phase1: Phase1Settings = Field(Phase1Settings(), description="the two prompts, both language models frozen")
    phase2: Phase2Settings = Field(Phase2Settings(), description="the reasoning language model as well")
    users: int | None = Field(None, ge=1, description="users who give examples; not given: all")
    requests: float = Field(
        0.5, ge=0, le=1, description="share of training examples that carry a request (0: none, as released)"
    )
    loss: Literal["sentence", "answer"] = Field(
        "sentence",
        description="what is learned to be written: all of a sentence, as released, or the item that follows",
    )
    faithful: bool = Field(
        False, description="the released query, the embedding of a padding token, the same for every item"
    )
    wording: str = Field("released", description="texts in training and serving, a name of baselines.lancer.wording")
    asked: str | None = Field(None, description="another wording in serving; not given: that of training")
    knowledge: Literal["own", "source", "untrained"] = Field(
        "own", description="knowledge prompt: learned here, taken over from the source, or random; the last two frozen"
    )
    source: str | None = Field(None, description="dataset whose LANCER lends its base model, and its knowledge prompt")
    source_dir: Path | None = Field(None, description="folder with the source's files")
    beams: int = Field(10, ge=1, description="beams of a request, each of which becomes an item")
    max_tokens: int = Field(32, ge=1, description="most tokens of a generated item")

    places: ClassVar[frozenset[str]] = frozenset({"source_dir"})

    @field_validator("wording", "asked")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None:
            wording(value)
        return value


class Lancer:
    """Two GPT-2s: one knows the domain through a learned prompt, the other writes the next item, prefixed by what a user's
    history makes of that prompt.
    """

    card = ModelCard(
        name="lancer",
        version=3,
        summary="GPT-2 writes the next item, prefixed by learned knowledge and reasoning prompts; text becomes items by cosine.",
        information="prompt",
        training_datasets=("the dataset it is run on", "whatever the base model was trained on"),
        settings=LancerSettings.described(),
        citation="Jiang et al. 2023, Reformulating Sequential Recommendation (arXiv 2309.10435)",
        notes=(
            "Mended against the released code: queries are means of M_k's last layer over real tokens (there: the embedding of "
            "a padding token, so that they carry the length of a history alone; `faithful=true` keeps that); padding is no "
            "label, the last item ends with the separator instead; the best epoch is that of validation, not of test.",
            "Examples are cut at random in the train events, anew every epoch (there: the last eleven events, always). A step of "
            "phase 1 adds the loss on one text a history to that on the histories (there: ten of them, a step each).",
            "The method has no place for a request: it stands before the prefix text, in half of the training examples too.",
            "Descriptions of items, external in the released data, are their training tags, or the catalogue's text.",
            "A base from scratch is first trained on the texts about items, and on requests with items that answer them, for it "
            "stands in for a pretrained one. Titles and labels are a token each; it has no dropout; in both phases the loss is on "
            "the item that follows, for on whole sentences it unlearns to heed a request, and nine examples in ten carry one.",
        ),
    )
    Settings: ClassVar[type[Settings]] = LancerSettings
    serving_settings: ClassVar[frozenset[str]] = frozenset({"asked", "beams", "max_tokens", "source_dir"})
    quick_settings: ClassVar[dict[str, Any]] = {
        "base_model": "tiny",
        "pretraining.epochs": 1,
        "users": 64,
        "phase1.epochs": 1,
        "phase2.epochs": 1,
        "max_tokens": 16,
    }
    base: Base
    net: LancerNet
    texts: ItemTexts
    log: dict[str, list[dict[str, float]]]

    def __init__(self, settings: LancerSettings | None = None, device: str = "cpu") -> None:
        self.settings = settings or LancerSettings()
        self.device = device

    def fit(self, dataset: Dataset, context: FitContext) -> None:
        """Train in two phases; before them the base, where it is from scratch."""
        from baselines.lancer.fitting import fit

        self.device = context.device
        self.base, self.net, self.texts, self.log = fit(self.settings, dataset, context)
        self._scratch, self._catalogue = context.scratch, dataset.fingerprint
        self._prepare()

    def rank(self, requests: Requests, k: int) -> Ranking:
        """Beams of every request, each mapped to its nearest item; the rest of the k places filled by nearness.

        Extras: the accounts of `bench.language`.
        """
        texts: list[list[str]] = []
        scores: list[Floats] = []
        for start in range(0, len(requests), ROWS):
            rows = np.arange(start, min(start + ROWS, len(requests)))
            mine, values = self.write(requests.take(rows))
            texts += mine
            scores.append(values)
        return self.to_items.rank(texts, np.concatenate(scores), requests.history, k)

    def write(self, requests: Requests) -> tuple[list[list[str]], Floats]:
        """The beams of a few requests: texts [B][n], best first, and their mean log-probabilities a token, float32 [B, n]."""
        import torch

        from baselines.lancer.beams import beam_search
        from baselines.lancer.reading import last_items, left_padded

        prompts = requests.prompts or (None,) * len(requests)
        sentences = [self.asked.sentence(requests.history[row], prompts[row]) for row in range(len(requests))]
        ids, mask = left_padded(sentences)
        history = last_items([requests.history[row] for row in range(len(requests))])
        with torch.inference_mode():
            found = beam_search(
                self.net.reasoning,
                self.net.prefix(history.to(self.device)),
                ids.to(self.device),
                mask.to(self.device),
                beams=self.settings.beams,
                max_tokens=self.settings.max_tokens,
                ends=self.reader.ends | self.asked.ends,
            )
        return [[self._said(tokens) for tokens in beams] for beams in found.tokens], found.scores.numpy()

    def _said(self, tokens: list[int]) -> str:
        """The item that was written: M_r ends it as in training, or as it read the history."""
        return self.reader.text(tokens).partition(self.asked.how.between)[0].strip()

    def mapping(self) -> Mapping:
        """The step from text to items."""
        from baselines.language.mapping import Mapping

        return Mapping(self.to_items.strings, self.to_items.nearest)

    def embed(self, texts: list[str]) -> Floats:
        """Max-pooled input embeddings of M_r, brought to unit length, float32 [n, d]."""
        import torch

        from baselines.lancer.reading import ITEM_TOKENS

        table = self.net.reasoning.get_input_embeddings().weight.detach()
        rows = self.reader.tokenizer(texts, add_special_tokens=False, truncation=True, max_length=ITEM_TOKENS).input_ids
        pooled = torch.stack([table[row].amax(0) for row in rows])
        vectors: Floats = torch.nn.functional.normalize(pooled.float(), dim=1).cpu().numpy()
        return vectors

    def save(self, directory: Path) -> None:
        """Write the base (its name alone where it is pretrained), everything trained, the texts and the log."""
        from baselines.language.adapters import save_adapter
        from baselines.language.training import keep_events

        self.base.save(directory)
        save_adapter(self.net.release(), directory, base=self.base.identity, catalogue=self._catalogue)
        self.texts.save(directory)
        (directory / LOG).write_text(json.dumps(self.log, indent=1), "utf-8")
        if self._scratch is not None:
            keep_events(self._scratch, directory)

    @classmethod
    def load(cls, directory: Path, settings: LancerSettings, device: str = "cpu") -> Lancer:
        """Read what `save` wrote.

        Raises:
            InputError: a pretrained base is not to be had any more, or is another one by now.
        """
        from baselines.lancer.fitting import SERVED, build
        from baselines.language.adapters import load_adapter
        from baselines.language.base_model import reopen

        model = cls(settings, device)
        model.base = reopen(directory, device, SERVED)
        model.texts = ItemTexts.load(directory)
        model.net = build(settings, model.base, model.texts).release()
        record = load_adapter(model.net, directory, base=model.base.identity, catalogue=None)
        model.log = json.loads((directory / LOG).read_text("utf-8"))
        model._scratch, model._catalogue = None, record["catalogue"]
        model._prepare()
        return model

    _scratch: Path | None
    _catalogue: str
    reader: Reader
    asked: Reader
    to_items: TextToItems

    def _prepare(self) -> None:
        """What serving needs besides the weights."""
        from baselines.lancer.reading import Reader
        from baselines.language.text_to_items import TextToItems

        self.net.eval()
        how = wording(self.settings.wording)
        self.reader = Reader(self.base.tokenizer, self.texts, how)
        asked: Wording = wording(self.settings.asked or self.settings.wording)
        self.asked = self.reader if asked == how else Reader(self.base.tokenizer, self.texts, asked)
        if asked.knowledge != how.knowledge:
            self.net.read(self.asked.knowledge)
        # Items are written as in training, whatever the history looks like.
        strings = [self.reader.text(tokens) for tokens in self.reader.items]
        self.to_items = TextToItems(strings, self.embed(strings), self.embed)

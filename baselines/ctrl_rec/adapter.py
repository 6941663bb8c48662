"""`ctrl_rec` and `ctrl_rec_lite`: a base recommender and two towers, added up."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, cast

import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator, model_validator

from baselines.ctrl_rec.combination import chosen_weights, combine
from baselines.ctrl_rec.control_requests import RequestBank, cards_without, request_bank
from baselines.mf import MatrixFactorization, MFSettings
from baselines.sasrec import SASRec, SASRecSettings
from baselines.scorer import CatalogueScorer
from baselines.words import ReadsWords, route_distinct
from bench import cards
from bench.cards import ModelCard, Settings
from bench.contracts import NEGATIVE, Dataset, FitContext, Floats, Requests
from bench.errors import InputError

if TYPE_CHECKING:
    from baselines.ctrl_rec.judged import Judged
    from baselines.ctrl_rec.judgements import JudgementFile
    from baselines.ctrl_rec.towers import Towers

BASES: dict[str, type[Any]] = {"sasrec": SASRec, "mf": MatrixFactorization}
TOWERS, RECORD = "towers.safetensors", "fit.json"
CITATION = "Carroll et al. 2025, CTRL-Rec: Controlling Recommender Systems With Natural Language, arXiv 2510.12742"
NOTES = (
    "The paper publishes neither architecture nor hyper-parameters; these are the project's own reading.",
    "Learned from training templates and training tags alone; four templates of each polarity and a tenth of the tags are held "
    "out for the choice of epoch and weights.",
    "The weight is chosen on validation for wishes and for refusals; weight=shared takes one for both, weight=NUMBER that one. "
    "The judge approves what complies, so the weight of a refusal is positive as well. Without a prompt the base ranks alone.",
)


class TowerSettings(Settings):
    """Shape and training of the towers. A group of its own: a dataset's `epochs` and `batch` are meant for sequential models."""

    hidden: int = Field(256, ge=1, description="width of the heads' hidden layer")
    width: int = Field(128, ge=1, description="width of the towers' vectors")
    contrast: float = Field(0.1, ge=0, description="weight of the contrastive loss")
    temperature: float = Field(0.07, gt=0, description="temperature of the contrastive loss")
    polarity: bool = Field(True, description="the request tower is told the routed polarity; false: the words alone")
    epochs: int = Field(20, ge=1, description="most epochs of the towers")
    batch: int = Field(512, ge=2, description="pairs in a step")
    learning_rate: float = Field(1e-3, gt=0, description="learning rate of AdamW")
    weight_decay: float = Field(0.01, ge=0, description="decoupled weight decay")
    patience: int = Field(3, ge=1, description="epochs without a better held-out loss before training stops")


class CTRLRecSettings(Settings):
    """Settings that both share."""

    base: Literal["sasrec", "mf"] = Field("sasrec", description="what the towers steer: sasrec, or mf as in the paper")
    backbone: SASRecSettings = Field(SASRecSettings(), description="settings of sasrec")
    mf: MFSettings = Field(MFSettings(), description="settings of mf")
    encoder: str = Field("all-minilm-l6-v2", description="frozen sentence encoder")
    router: str = Field("offline", description="what decides the polarity of a prompt, and so its weight")
    weight: str = Field("chosen", description="weight of z(v): chosen (one a polarity), shared, or a number")
    per_set: int = Field(4, ge=1, le=16, description="training templates that each set of several labels is put in")
    towers: TowerSettings = Field(TowerSettings(), description="shape and training of the towers")

    @field_validator("weight", mode="before")
    @classmethod
    def _weight(cls, value: Any) -> Any:
        if value in ("chosen", "shared"):
            return value
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = -1.0
        if not 0 <= number < float("inf"):
            raise ValueError("weight is chosen, shared, or a number of at least 0")
        return f"{number:g}"


class JudgedSettings(CTRLRecSettings):
    """Settings of `ctrl_rec`. `digest` is filled in from the file; given by hand, it refuses any other one."""

    judgements: str = Field("", description="file of `bench augment judgements`")
    digest: str = Field("", description="SHA-256 of its judgements")
    places: ClassVar[frozenset[str]] = frozenset({"judgements"})

    @model_validator(mode="before")
    @classmethod
    def _digested(cls, values: Any) -> Any:
        # A model is known by what it learned from, not by where the file lay.
        if isinstance(values, dict) and values.get("judgements") and not values.get("digest"):
            from baselines.ctrl_rec.judgements import read_judgements

            return values | {"digest": read_judgements(Path(str(values["judgements"]))).digest}
        return values


class TowersOverBase(ReadsWords, CatalogueScorer):
    """z(base) + w z(v). A subclass says what is learned (`judged`)."""

    serving_settings: ClassVar[frozenset[str]] = frozenset({"router", "weight"})
    quick_settings: ClassVar[dict[str, Any]] = {**SASRec.quick_beneath(), "towers.epochs": 2, "per_set": 1}
    settings: Any
    base: CatalogueScorer
    towers: Towers
    record: dict[str, Any]
    _scratch: Path | None = None

    @classmethod
    def built_on(cls, values: dict[str, Any]) -> tuple[str, ...]:
        """The base; its version is part of a run's identity."""
        return (str(values.get("base", "sasrec")),)

    def bank(self, dataset: Dataset, context: FitContext) -> RequestBank:
        """The requests whose held-out part the weights are chosen on."""
        s = self.settings
        return request_bank(dataset.catalogue, dataset.card.domain, s.per_set, context.seed)

    def judged(self, bank: RequestBank, dataset: Dataset, context: FitContext) -> Judged:
        """What the towers learn."""
        raise NotImplementedError

    def fit(self, dataset: Dataset, context: FitContext) -> None:
        """Take the base, train the towers, choose the weights."""
        from baselines.ctrl_rec.distillation import distil

        s, encode, progress = self.settings, self.encoder.encode, context.progress
        self._scratch = context.scratch
        bank = self.bank(dataset, context)
        self.base = cast(CatalogueScorer, context.fitted(s.base, dataset, self._own_of_base(s)))
        judged = self.judged(bank, dataset, context)
        requests = self._read(judged.texts, judged.polarity)
        partial = encode(cards_without(dataset.catalogue, bank), progress)
        self.towers, self.record = distil(judged, requests, partial, s.towers, context)
        self._choose(bank, dataset, self._items(partial), context)
        self.arrays = {"items": self._items(encode(list(dataset.catalogue.texts), progress))}

    def score(self, requests: Requests) -> tuple[Floats, dict[str, npt.NDArray[Any]]]:
        """The weighted sum, and the base's scores where there is no prompt; reports polarity and weight."""
        scores, _ = self.base.score(requests)
        if requests.prompts is None:
            return scores, {}
        routed = route_distinct(requests.prompts, self.router)
        weight = self._weights(routed.polarity)[routed.index]
        approval = self.approve(routed.texts, routed.polarity, self.arrays["items"])[routed.index]
        return combine(scores, approval, requests.history, weight), {**routed.extras, "weight": weight}

    def approve(self, texts: list[str], polarity: npt.NDArray[np.int8], items: Floats) -> Floats:
        """The approval v of requests with items, float32 [texts, V].

        Args:
            texts: the requests' words.
            polarity: +1 or -1 of each.
            items: vectors of the item tower, float32 [V, width].
        """
        import torch

        with torch.inference_mode():
            asked = self.towers.request(torch.from_numpy(self._read(texts, polarity)))
            v: Floats = self.towers.approval(asked @ torch.from_numpy(items).t()).numpy()
        return v

    def _read(self, texts: list[str], polarity: npt.NDArray[np.int8]) -> Floats:
        """What the request tower reads, float32 [texts, d or 2 d]: sentence vectors, and which polarity they are of.

        A frozen encoder puts "horror" and "no horror" side by side, so each polarity has places of its own, zero for the other.
        """
        vectors = self.encoder.encode(texts)
        if not self.settings.towers.polarity:
            return vectors
        refused = (np.asarray(polarity) == NEGATIVE)[:, None]
        return np.concatenate([np.where(refused, 0, vectors), np.where(refused, vectors, 0)], axis=1).astype(np.float32)

    def _weights(self, polarity: npt.NDArray[np.int8]) -> Floats:
        chosen, wanted = self.record["weights"]["chosen"], self.settings.weight
        if wanted == "chosen":
            return np.where(polarity == NEGATIVE, chosen["neg"], chosen["pos"]).astype(np.float32)
        return np.full(len(polarity), chosen["shared"] if wanted == "shared" else float(wanted), np.float32)

    def _items(self, texts: Floats) -> Floats:
        """Vectors of the item tower, float32 [V, width]."""
        import torch

        with torch.inference_mode():
            vectors: Floats = self.towers.item(torch.from_numpy(texts)).numpy()
        return vectors

    def _choose(self, bank: RequestBank, dataset: Dataset, items: Floats, context: FitContext) -> None:
        from baselines.ctrl_rec.validation import validation_curves

        wishes, refusals = validation_curves(
            bank, dataset, self.base, lambda texts, polarity: self.approve(texts, polarity, items), context.seed
        )
        chosen = chosen_weights(wishes, refusals)
        curves = {
            side: {kind: [asdict(point) for point in points] for kind, points in found.items()}
            for side, found in (("pos", wishes), ("neg", refusals))
        }
        self.record["weights"] = {"chosen": chosen, "curves": curves}
        told = self.record["held_out"]
        auc = "no AUC" if told["auc"] is None else f"AUC {told['auc']:.3f}"
        context.progress.note(
            f"{self.card.name}: held-out requests, BCE {told['bce_untrained']:.3f} before and {told['bce']:.3f} after, {auc}; "
            f"weights {chosen['pos']:g} for wishes, {chosen['neg']:g} for refusals, {chosen['shared']:g} shared"
        )

    @staticmethod
    def _own_of_base(settings: Any) -> dict[str, Any]:
        own: Settings = settings.backbone if settings.base == "sasrec" else settings.mf
        return own.model_dump()

    def save(self, directory: Path) -> None:
        """Write item vectors, towers, the record of the fit, its TensorBoard log, and the base."""
        from safetensors.torch import save_file

        from baselines.language.training import keep_events

        super().save(directory)
        if self._scratch is not None:
            keep_events(self._scratch, directory)
        save_file(self.towers.state_dict(), directory / TOWERS)
        (directory / RECORD).write_text(json.dumps(self.record, indent=2, allow_nan=False) + "\n", "utf-8")
        (directory / "base").mkdir(exist_ok=True)
        self.base.save(directory / "base")

    @classmethod
    def load(cls, directory: Path, settings: Settings, device: str = "cpu") -> Self:
        """Read what `save` wrote."""
        from safetensors.torch import load_file

        from baselines.ctrl_rec.towers import Towers

        model = super().load(directory, settings, device)
        assert isinstance(model, cls)
        s, kind = model.settings, BASES[model.settings.base]
        state = load_file(directory / TOWERS)
        asked, offered = (state[f"{tower}.net.0.weight"].shape[1] for tower in ("request", "item"))
        model.towers = Towers(asked, offered, s.towers.hidden, s.towers.width)
        model.towers.load_state_dict(state)
        model.towers.eval()
        model.record = json.loads((directory / RECORD).read_text("utf-8"))
        own = kind.Settings.parse(kind.card.name, cls._own_of_base(s))
        model.base = kind.load(directory / "base", own, device)
        return model


class CTRLRecLite(TowersOverBase):
    """CTRL-Rec without a judge's budget: an item is approved of where the dataset's labels and tags say that it complies."""

    card = ModelCard(
        name="ctrl_rec_lite",
        summary="CTRL-Rec-lite: two towers learned from labels and tags in place of an LLM's judgements, added to a base model.",
        information="prompt",
        citation=CITATION,
        settings=CTRLRecSettings.described(),
        notes=NOTES,
    )
    Settings: ClassVar[type[cards.Settings]] = CTRLRecSettings

    def judged(self, bank: RequestBank, dataset: Dataset, context: FitContext) -> Judged:
        """Every request with its proposed items and their compliance."""
        from baselines.ctrl_rec.judged import complied

        return complied(bank, dataset, self.base, self.encoder, context.seed, context.progress)


class CTRLRec(TowersOverBase):
    """CTRL-Rec: the approvals are those of a language model, read from a file."""

    card = ModelCard(
        name="ctrl_rec",
        summary="CTRL-Rec: an LLM's judgements of items under requests, distilled into two towers and added to a base model.",
        information="prompt",
        needs=("judgements",),
        citation=CITATION,
        settings=JudgedSettings.described(),
        notes=(
            *NOTES,
            "Learns from a file of `bench augment judgements`, which holds who judged; ctrl_rec_lite needs none.",
        ),
    )
    Settings: ClassVar[type[cards.Settings]] = JudgedSettings
    serving_settings: ClassVar[frozenset[str]] = TowersOverBase.serving_settings | {"judgements"}

    @classmethod
    def check(cls, settings: Any, dataset: Dataset) -> None:
        """Refuse to go without judgements, or with those of other data.

        Raises:
            InputError: no file is named, or it is malformed, of another dataset, or not the one of the given digest.
        """
        cls._judgements(settings, dataset)

    def fit(self, dataset: Dataset, context: FitContext) -> None:
        """Read the judgements, then as the base class."""
        self._file = self._judgements(self.settings, dataset)
        super().fit(dataset, context)

    def bank(self, dataset: Dataset, context: FitContext) -> RequestBank:
        """The requests that were drawn from for judging, so that what was held out there is held out here."""
        about = self._file.about
        return request_bank(dataset.catalogue, dataset.card.domain, about.per_set, about.seed)

    def judged(self, bank: RequestBank, dataset: Dataset, context: FitContext) -> Judged:
        """The judged requests of the file."""
        from baselines.ctrl_rec.judged import from_file

        return from_file(self._file, dataset)

    @classmethod
    def _judgements(cls, settings: Any, dataset: Dataset) -> JudgementFile:
        from baselines.ctrl_rec.judgements import read_judgements

        if not settings.judgements:
            raise InputError(
                f"model 'ctrl_rec' learns from judgements: write them with `bench augment judgements --dataset {dataset.name} "
                "--llm NAME --llm-config FILE` and name the file with --set judgements=FILE; ctrl_rec_lite needs none."
            )
        found = read_judgements(Path(settings.judgements))
        found.check(dataset, settings.digest)
        return found

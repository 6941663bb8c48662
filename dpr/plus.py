"""`dpr_sas_plus`: DPR as one expert among several, weighed for every request by gates that are learned on the validation slice.

The paper's DPR trails a hard filter where a label is named and text retrieval where a film is described, since all it knows must
pass through d numbers of its fusion. Here the scores of DPR, of its backbone as it was before, of a recurrent encoder, of text
retrieval and of label membership are added up; how much each counts depends on the words, on the routed polarity and on how
sure retrieval is. The gates are fitted on events that no expert was trained on (the validation slice), so that they meet the
experts as good as these will be at test.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field

from baselines.genre_parser import GenreParser, RoutedSettings
from baselines.gru4rec import GRU4Rec
from baselines.sasrec import SASRec
from baselines.scorer import CatalogueScorer
from baselines.text_retrieval import TextIndex, TextRetrievalSettings
from baselines.words import ReadsWords, route_distinct
from bench import cards
from bench.cards import ModelCard, Settings
from bench.contracts import Dataset, FitContext, Floats, Requests
from bench.errors import InputError
from dpr.adapter import DPRSAS

if TYPE_CHECKING:
    from dpr.evidence import Asked, Evidence, Words
    from dpr.gates import Gates

# Requests whose logits are made at once.
ROWS = 256
# Ingredients that are no experts: gates that hang on the words, and training tags with words left out.
READING, SHORTENING = "reading", "shortening"


class PlusSettings(Settings):
    """The experts' settings, how the gates are fitted, and how a refusal is meant."""

    dpr: DPRSAS.Settings = Field(DPRSAS.Settings(), description="settings of dpr_sas")  # type: ignore[valid-type]
    recurrent: GRU4Rec.Settings = Field(GRU4Rec.Settings(), description="settings of gru4rec")  # type: ignore[valid-type]
    encoder: str = Field("all-minilm-l6-v2", description="frozen sentence encoder")
    router: str = Field("offline", description="what decides the polarity of a prompt")
    reading: Literal["paper", "strict"] = Field(
        "paper",
        description="what a refused label bars: items with exactly the refused labels (paper), or with it at all (strict)",
    )
    without: str = Field(
        "",
        description="ingredients left out, with commas: dpr, recurrent, text, labels, reading (one set of weights for all wishes), shortening",
    )
    epochs: int = Field(6, ge=1, description="most epochs of the gates")
    learning_rate: float = Field(1e-2, gt=0, description="peak learning rate of the gates")
    prompts_per_label: int = Field(20, ge=1, le=20, description="training templates that each label is put in")


class DPRSASPlus(ReadsWords, CatalogueScorer):
    """Experts and gates."""

    card = ModelCard(
        name="dpr_sas_plus",
        version=3,
        summary="DPR, its backbone, a recurrent encoder, text retrieval and label membership, weighed by learned gates.",
        information="prompt",
        settings=PlusSettings.described(),
        notes=(
            "The gates are fitted on the validation slice with training prompts; the experts saw the train slice alone.",
            "A training tag meets its item with a part of its words left out, since a request says less than a tag does.",
            "Protocol strict wants reading=strict: the same words bar other items there, and no model can hear which is meant.",
        ),
    )
    Settings: ClassVar[type[cards.Settings]] = PlusSettings
    serving_settings: ClassVar[frozenset[str]] = frozenset({"router", "reading"})
    quick_settings: ClassVar[dict[str, Any]] = {
        **{f"dpr.{key}": value for key, value in DPRSAS.quick_settings.items()},
        **{f"recurrent.{key}": value for key, value in GRU4Rec.quick_settings.items()},
        "epochs": 1,
        "prompts_per_label": 1,
    }
    settings: PlusSettings
    gates: Gates

    @classmethod
    def built_on(cls, values: dict[str, Any]) -> tuple[str, ...]:
        """The experts; their versions are part of a run's identity."""
        return ("dpr_sas", "sasrec", "gru4rec")

    def fit(self, dataset: Dataset, context: FitContext) -> None:
        """Take the experts, then fit the gates.

        Raises:
            InputError: an ingredient to be left out is none.
        """
        from dpr.evidence import INGREDIENTS
        from dpr.plus_training import fit_gates

        known = (*INGREDIENTS, READING, SHORTENING)
        for part in self.left_out:
            if part not in known:
                raise InputError(f"setting without of dpr_sas_plus: {part!r} is none of {', '.join(known)}.")
        s, self.device = self.settings, context.device
        self.experts = {
            name: context.fitted(kind.card.name, dataset, settings.model_dump())
            for name, kind, settings in self._parts()
        }
        index = TextIndex.build(TextRetrievalSettings(encoder=s.encoder, router=s.router), dataset, context)
        self.names = list(dataset.catalogue.label_names)
        self.arrays = {**index.arrays, "has": dataset.catalogue.label_matrix()}
        self.gates = self.fresh_gates()
        fit_gates(self, dataset, context)

    def score(self, requests: Requests) -> tuple[Floats, dict[str, npt.NDArray[Any]]]:
        """The weighted sum of all evidence."""
        import torch

        from dpr.evidence import PLAIN, REFUSAL_OF_ANY, REFUSAL_OF_EXACT, WISH, Asked

        size = len(requests)
        extras: dict[str, npt.NDArray[Any]] = {}
        words = read = None
        prompt, kind = np.zeros(size, np.int64), np.full(size, PLAIN, np.int64)
        if requests.prompts is not None:
            routed = route_distinct(requests.prompts, self.router)
            prompt, extras = routed.index, routed.extras
            refusal = REFUSAL_OF_ANY if self.settings.reading == "strict" else REFUSAL_OF_EXACT
            kind = np.where(extras["polarity"] > 0, WISH, refusal)
            words, read = self.evidence.words(routed.texts), self.read(routed.texts)
        asked = Asked(requests.history, kind, prompt)
        self.gates.eval()
        scores = np.empty((size, len(self.arrays["has"])), np.float32)
        with torch.inference_mode():
            for start in range(0, size, ROWS):
                rows = np.arange(start, min(start + ROWS, size))
                some = asked.take(rows)
                scores[rows] = self.weighed(some, self.evidence.states(some, read), words).numpy()
        return scores, extras

    def weighed(self, asked: Asked, states: Any, words: Words | None) -> Any:
        """Logits [B, V]: evidence times gates; `states` are what `Evidence.states` makes of the same requests."""
        import torch

        size = len(asked.kind)
        if words is None:
            inputs = [torch.zeros(size, width) for width in (len(self.names), 4)]
        else:
            at = torch.from_numpy(asked.prompt)
            inputs = [words.named[at], words.sure[at]]
        weights = self.gates(*inputs, torch.from_numpy(asked.kind)) * self._kept
        return self.evidence.logits(asked, states, weights, words)

    def read(self, texts: list[str]) -> Any:
        """What DPR's network reads of prompts."""
        dpr = self.experts["dpr"]
        assert isinstance(dpr, DPRSAS)
        return dpr.read(texts, None)

    @cached_property
    def evidence(self) -> Evidence:
        """What is weighed."""
        from dpr.evidence import Evidence

        s, parts = self.settings, self.experts
        for model in parts.values():
            model.net.eval()
        index = TextIndex(TextRetrievalSettings(encoder=s.encoder, router=s.router), self.arrays)
        parser = GenreParser(self.names, self.arrays["has"], RoutedSettings(router=s.router))
        return Evidence(parts["dpr"].net, parts["backbone"], parts["recurrent"], index, parser)

    @cached_property
    def _kept(self) -> Any:
        import torch

        from dpr.evidence import EXPERTS, INGREDIENTS

        gone = {name for part in self.left_out for name in INGREDIENTS.get(part, ())}
        return torch.tensor([0.0 if name in gone else 1.0 for name in EXPERTS])

    @property
    def left_out(self) -> list[str]:
        """The ingredients that are left out."""
        return [part.strip() for part in self.settings.without.split(",") if part.strip()]

    def fresh_gates(self) -> Gates:
        """Gates before they are fitted."""
        from dpr.gates import Gates

        return Gates(reads=READING not in self.left_out)

    def _parts(self) -> list[tuple[str, type[Any], Any]]:
        """Every expert that is trained: its name here, its class and its settings."""
        s = self.settings
        return [("dpr", DPRSAS, s.dpr), ("backbone", SASRec, s.dpr.backbone), ("recurrent", GRU4Rec, s.recurrent)]  # type: ignore[attr-defined]

    def save(self, directory: Path) -> None:
        """Write gates, arrays, names and every expert."""
        import json

        from safetensors.torch import save_file

        super().save(directory)
        save_file(self.gates.state_dict(), directory / "gates.safetensors")
        (directory / "labels.json").write_text(json.dumps({"names": self.names}), "utf-8")
        for name, model in self.experts.items():
            (directory / name).mkdir(exist_ok=True)
            model.save(directory / name)

    @classmethod
    def load(cls, directory: Path, settings: cards.Settings, device: str = "cpu") -> Self:
        """Read what `save` wrote."""
        import json

        from safetensors.torch import load_file

        model = super().load(directory, settings, device)
        assert isinstance(model, cls)
        model.names = json.loads((directory / "labels.json").read_text("utf-8"))["names"]
        model.experts = {name: kind.load(directory / name, own, device) for name, kind, own in model._parts()}
        model.gates = model.fresh_gates()
        model.gates.load_state_dict(load_file(directory / "gates.safetensors"))
        return model

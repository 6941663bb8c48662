"""`dpr_sas_plus`: DPR as one expert among several, weighed for every prompt by gates that are learned on the validation slice.

The paper's DPR trails a hard filter where a label is named and text retrieval where a film is described, since all it knows must
pass through d numbers of its fusion. Here the scores of DPR, of two further encoders of the history, of text retrieval and of
label membership are added up; how much each counts depends on the words and on the routed polarity alone. The gates are fitted on
events that no expert was trained on (the validation slice), so that they meet the experts as good as these will be at test.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field

from baselines.fine_tuned import FineSettings, TargetSettings
from baselines.genre_parser import GenreParser, RoutedSettings
from baselines.sasrec import SASRecF, SASRecFA
from baselines.scorer import CatalogueScorer
from baselines.text_retrieval import TextIndex, TextRetrievalSettings
from baselines.words import ReadsWords, route_distinct
from bench import cards
from bench.cards import ModelCard, Settings
from bench.contracts import Dataset, FitContext, Floats, Requests
from bench.errors import InputError
from dpr.adapter import DPRSAS

if TYPE_CHECKING:
    from dpr.evidence import Asked, Evidence
    from dpr.gates import Gates

# Requests whose evidence is held at once: 256 x 10 x 3,666 floats are 38 MB.
ROWS = 256


class PlusSettings(Settings):
    """The experts' settings, and how the gates are fitted."""

    dpr: DPRSAS.Settings = Field(DPRSAS.Settings(), description="settings of dpr_sas")  # type: ignore[valid-type]
    fine: FineSettings = Field(FineSettings(), description="how sasrec_f trains on")
    targets: TargetSettings = Field(TargetSettings(), description="how sasrec_fa trains on the target sets")
    encoder: str = Field("all-minilm-l6-v2", description="frozen sentence encoder")
    router: str = Field("offline", description="what decides the polarity of a prompt")
    without: str = Field("", description="ingredients left out, with commas: dpr, tuned, text, labels")
    epochs: int = Field(6, ge=1, description="most epochs of the gates")
    learning_rate: float = Field(2e-3, gt=0, description="peak learning rate of the gates")
    prompts_per_label: int = Field(20, ge=1, le=20, description="training templates that each label is put in")
    noise: float = Field(0.5, ge=0, description="training noise on sentence vectors, relative to their length")


class DPRSASPlus(ReadsWords, CatalogueScorer):
    """Experts and gates."""

    card = ModelCard(
        name="dpr_sas_plus",
        summary="DPR, two further encoders, text retrieval and label membership, weighed by gates that read the prompt.",
        information="prompt",
        settings=PlusSettings.described(),
        notes=(
            "The gates are fitted on the validation slice with training prompts; the experts saw the train slice alone.",
            "A training tag meets its item through the item's other texts, as a reworded one does at evaluation.",
        ),
    )
    Settings: ClassVar[type[cards.Settings]] = PlusSettings
    serving_settings: ClassVar[frozenset[str]] = frozenset({"router"})
    quick_settings: ClassVar[dict[str, Any]] = {
        **{f"dpr.{key}": value for key, value in DPRSAS.quick_settings.items()},
        "fine.epochs": 1,
        "targets.epochs": 1,
        "epochs": 1,
        "prompts_per_label": 1,
    }
    settings: PlusSettings
    gates: Gates

    @classmethod
    def built_on(cls, values: dict[str, Any]) -> tuple[str, ...]:
        """The experts; their versions are part of a run's identity."""
        return ("dpr_sas", "sasrec_f", "sasrec_fa")

    def fit(self, dataset: Dataset, context: FitContext) -> None:
        """Take the experts, then fit the gates."""
        from dpr.evidence import INGREDIENTS
        from dpr.plus_training import fit_gates

        for part in self._left_out():
            if part not in INGREDIENTS:
                raise InputError(f"setting without of dpr_sas_plus: {part!r} is none of {', '.join(INGREDIENTS)}.")
        s, self.device = self.settings, context.device
        backbone = {"backbone": s.dpr.backbone.model_dump()}  # type: ignore[attr-defined]
        tuned = backbone | {"fine": s.fine.model_dump()}
        self.experts = {
            "dpr": context.fitted("dpr_sas", dataset, s.dpr.model_dump()),
            "tuned": context.fitted("sasrec_f", dataset, tuned),
            "future": context.fitted("sasrec_fa", dataset, tuned | {"targets": s.targets.model_dump()}),
        }
        self.names = list(dataset.catalogue.label_names)
        index = TextIndex.build(TextRetrievalSettings(encoder=s.encoder, router=s.router), dataset, context)
        self.arrays = {**index.arrays, "has": dataset.catalogue.label_matrix()}
        self.gates = self._gates()
        fit_gates(self, dataset, context)

    def score(self, requests: Requests) -> tuple[Floats, dict[str, npt.NDArray[Any]]]:
        """The weighted sum of all evidence."""
        import torch

        from dpr.evidence import Asked

        size = len(requests)
        extras: dict[str, npt.NDArray[Any]] = {}
        words = read = None
        index, polarity = np.zeros(size, np.int64), np.zeros(size, np.int64)
        if requests.prompts is not None:
            routed = route_distinct(requests.prompts, self.router)
            index, extras = routed.index, routed.extras
            polarity = extras["polarity"].astype(np.int64)
            words, read = self.evidence.words(routed.texts), self.experts["dpr"]._read(routed.texts, None)
        asked = Asked(requests.history, polarity, index)
        self.gates.eval()
        scores = np.empty((size, len(self.arrays["has"])), np.float32)
        with torch.inference_mode():
            for start in range(0, size, ROWS):
                rows = np.arange(start, min(start + ROWS, size))
                scores[rows] = self.weighed(asked.take(rows), words, read).numpy()
        return scores, extras

    def weighed(self, asked: Asked, words: Any, read: Any) -> Any:
        """Logits [B, V]: evidence times gates."""
        import torch

        dimension = self.gates.read.in_features
        if words is None:
            vectors, named = (
                torch.zeros(len(asked.polarity), dimension),
                torch.zeros(len(asked.polarity), len(self.names)),
            )
        else:
            at = torch.from_numpy(asked.prompt)
            vectors, named = words.vectors[at], words.named[at]
        with torch.no_grad():
            columns = self.evidence.columns(asked, words, read)
        weights = self.gates(vectors, named, torch.from_numpy(asked.polarity)) * self._kept
        return torch.einsum("be,bev->bv", weights, columns)

    @cached_property
    def evidence(self) -> Evidence:
        """What makes the columns."""
        from dpr.evidence import Evidence

        s, parts = self.settings, self.experts
        for model in parts.values():
            model.net.eval()
        index = TextIndex(TextRetrievalSettings(encoder=s.encoder, router=s.router), self.arrays)
        parser = GenreParser(self.names, self.arrays["has"], RoutedSettings(router=s.router))
        return Evidence(parts["dpr"].net, parts["tuned"], parts["future"], index, parser)

    @cached_property
    def _kept(self) -> Any:
        import torch

        from dpr.evidence import EXPERTS, INGREDIENTS

        gone = {name for part in self._left_out() for name in INGREDIENTS[part]}
        kept = torch.tensor([0.0 if name in gone else 1.0 for name in EXPERTS])
        return kept

    def _left_out(self) -> list[str]:
        return [part.strip() for part in self.settings.without.split(",") if part.strip()]

    def _gates(self) -> Gates:
        from dpr.gates import Gates

        dimension = self.arrays["text_vectors"].shape[1]
        return Gates(dimension, len(self.names), noise=self.settings.noise)

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
        s = model.settings
        model.names = json.loads((directory / "labels.json").read_text("utf-8"))["names"]
        tuned = {"backbone": s.dpr.backbone.model_dump(), "fine": s.fine.model_dump()}  # type: ignore[attr-defined]
        values = {"tuned": tuned, "future": tuned | {"targets": s.targets.model_dump()}}
        model.experts = {"dpr": DPRSAS.load(directory / "dpr", s.dpr, device)}
        for name, kind in (("tuned", SASRecF), ("future", SASRecFA)):
            model.experts[name] = kind.load(directory / name, kind.Settings.model_validate(values[name]), device)
        model.gates = model._gates()
        model.gates.load_state_dict(load_file(directory / "gates.safetensors"))
        return model

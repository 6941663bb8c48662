"""SASRec as a contestant, its fine-tuned variants, and the filters over each."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from baselines.filters import oracle_filter, parsed_filter
from baselines.fine_tuned import fine_tuned, target_tuned
from baselines.sequential import SequentialRecommender, TrainingSettings
from bench import cards
from bench.cards import ModelCard

if TYPE_CHECKING:
    from baselines.backbones.base import Backbone


class SASRecSettings(TrainingSettings):
    """Shape and training of SASRec; the defaults are those of the README's figures."""

    dim: int = Field(64, ge=2, description="width d of the hidden states and the item table")
    layers: int = Field(2, ge=1, description="attention blocks")
    heads: int = Field(2, ge=1, description="attention heads")
    dropout: float = Field(0.2, ge=0, lt=1, description="dropout after embedding, attention and inner layer")


class SASRec(SequentialRecommender):
    """Self-attentive sequential recommendation (Kang and McAuley 2018) with full-softmax cross-entropy (Eq. 1)."""

    card = ModelCard(
        name="sasrec",
        version=2,
        summary="SASRec: causal self-attention over the history, full softmax over the catalogue.",
        information="none",
        settings=SASRecSettings.described(),
        citation="Kang and McAuley 2018, Self-Attentive Sequential Recommendation, ICDM",
    )
    Settings: ClassVar[type[cards.Settings]] = SASRecSettings
    settings: SASRecSettings

    def build(self, n_items: int) -> Backbone:
        """The untrained encoder."""
        from baselines.backbones.sasrec import SASRecNet

        s = self.settings
        return self.placed(SASRecNet(n_items, s.dim, s.layers, s.heads, s.length, s.dropout))


SASRecF = fine_tuned(SASRec, "sasrec_f")
SASRecFA = target_tuned(SASRecF, "sasrec_fa")
FilterSAS, FilterSASParsed = oracle_filter(SASRec, "filter_sas"), parsed_filter(SASRec, "filter_sas_parsed")
FilterSASF, FilterSASFParsed = oracle_filter(SASRecF, "filter_sas_f"), parsed_filter(SASRecF, "filter_sas_f_parsed")
FilterSASFA, FilterSASFAParsed = (
    oracle_filter(SASRecFA, "filter_sas_fa"),
    parsed_filter(SASRecFA, "filter_sas_fa_parsed"),
)

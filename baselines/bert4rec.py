"""BERT4Rec as a contestant, its fine-tuned variants, and the filters over each."""

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


class BERT4RecSettings(TrainingSettings):
    """Shape and training of BERT4Rec. Masked training sees a fifth of the events as targets, so it takes more epochs."""

    epochs: int = Field(120, ge=1, description="most epochs; the learning rate falls to zero over them")
    patience: int = Field(20, ge=1, description="epochs without a better validation NDCG@10 before training stops")
    dim: int = Field(64, ge=2, description="width d of the hidden states and the item table")
    layers: int = Field(2, ge=1, description="attention blocks")
    heads: int = Field(2, ge=1, description="attention heads")
    dropout: float = Field(0.2, ge=0, lt=1, description="dropout after embedding, attention and inner layer")
    mask: float = Field(0.2, gt=0, lt=1, description="share of events that are masked in training")


class BERT4Rec(SequentialRecommender):
    """Two-way self-attention over a history with a mask at its end (Sun et al. 2019)."""

    card = ModelCard(
        name="bert4rec",
        summary="BERT4Rec: two-way self-attention trained by filling in masked events, a mask at the end to predict.",
        information="none",
        settings=BERT4RecSettings.described(),
        citation="Sun et al. 2019, BERT4Rec: Sequential Recommendation with Bidirectional Encoder Representations, CIKM",
    )
    Settings: ClassVar[type[cards.Settings]] = BERT4RecSettings
    settings: BERT4RecSettings

    def build(self, n_items: int) -> Backbone:
        """The untrained encoder."""
        from baselines.backbones.bert4rec import BERT4RecNet

        s = self.settings
        return self.placed(BERT4RecNet(n_items, s.dim, s.layers, s.heads, s.length, s.dropout, s.mask))


BERT4RecF = fine_tuned(BERT4Rec, "bert4rec_f")
BERT4RecFA = target_tuned(BERT4RecF, "bert4rec_fa")
FilterBERT, FilterBERTParsed = (
    oracle_filter(BERT4Rec, "filter_bert4rec"),
    parsed_filter(BERT4Rec, "filter_bert4rec_parsed"),
)
FilterBERTF, FilterBERTFParsed = (
    oracle_filter(BERT4RecF, "filter_bert4rec_f"),
    parsed_filter(BERT4RecF, "filter_bert4rec_f_parsed"),
)
FilterBERTFA, FilterBERTFAParsed = (
    oracle_filter(BERT4RecFA, "filter_bert4rec_fa"),
    parsed_filter(BERT4RecFA, "filter_bert4rec_fa_parsed"),
)

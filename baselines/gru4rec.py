"""GRU4Rec as a contestant, its fine-tuned variants, and the filters over each."""

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


class GRU4RecSettings(TrainingSettings):
    """Shape and training of GRU4Rec."""

    dim: int = Field(64, ge=2, description="width d of the item table and of h")
    hidden: int = Field(128, ge=2, description="width of the recurrent state")
    layers: int = Field(1, ge=1, description="recurrent layers")
    dropout: float = Field(0.3, ge=0, lt=1, description="dropout of embeddings and states")


class GRU4Rec(SequentialRecommender):
    """Recurrent recommendation (Hidasi et al. 2016) with full-softmax cross-entropy (Eq. 1)."""

    card = ModelCard(
        name="gru4rec",
        summary="GRU4Rec: a recurrent network over the history, full softmax over the catalogue.",
        information="none",
        settings=GRU4RecSettings.described(),
        citation="Hidasi et al. 2016, Session-based Recommendations with Recurrent Neural Networks, ICLR",
    )
    Settings: ClassVar[type[cards.Settings]] = GRU4RecSettings
    settings: GRU4RecSettings

    def build(self, n_items: int) -> Backbone:
        """The untrained encoder."""
        from baselines.backbones.gru4rec import GRU4RecNet

        s = self.settings
        return self.placed(GRU4RecNet(n_items, s.dim, s.hidden, s.layers, s.length, s.dropout))


GRU4RecF = fine_tuned(GRU4Rec, "gru4rec_f")
GRU4RecFA = target_tuned(GRU4RecF, "gru4rec_fa")
FilterGRU, FilterGRUParsed = oracle_filter(GRU4Rec, "filter_gru"), parsed_filter(GRU4Rec, "filter_gru_parsed")
FilterGRUF, FilterGRUFParsed = oracle_filter(GRU4RecF, "filter_gru_f"), parsed_filter(GRU4RecF, "filter_gru_f_parsed")
FilterGRUFA, FilterGRUFAParsed = (
    oracle_filter(GRU4RecFA, "filter_gru_fa"),
    parsed_filter(GRU4RecFA, "filter_gru_fa_parsed"),
)

import numpy as np

from baselines.scorer import CatalogueScorer
from bench.cards import JudgeCard, ModelCard, Settings
from bench.contracts import ASPECTS, NO_ITEM, Scores, Verdict
from bench.metrics import hits, recall
from tasks.positive import Positive


class LongTail(CatalogueScorer):
    card = ModelCard(name="long_tail", summary="Least popular items first.", information="none")

    def fit(self, dataset, context):
        self.arrays = {"popularity": np.bincount(dataset.events.values, minlength=len(dataset.catalogue)).astype("f4")}

    def score(self, requests):
        return np.repeat(-self.arrays["popularity"][None], len(requests), axis=0), {}


class FirstPlace(Positive):
    card = Positive.card.model_copy(update={"name": "first_place", "metrics": ("recall@1",), "main_metric": "recall@1"})

    def score(self, ranking, examples):
        items = examples.targets.items
        return Scores({"recall@1": recall(hits(ranking.items, items), items.lengths, 1)})


class Variety:
    card, Settings = JudgeCard(name="variety", summary="Ten for a list with every genre.", is_llm=False), Settings

    def __init__(self, settings):
        self.settings = settings

    def prepare(self, dataset, progress):
        self.has = dataset.catalogue.label_matrix()

    def judge(self, lists):
        shares = [self.has[items[items != NO_ITEM]].any(0).mean() for items in lists.items]
        return ((row, Verdict(dict.fromkeys(ASPECTS, 1 + 9 * float(share)))) for row, share in enumerate(shares))

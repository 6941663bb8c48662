"""A tiny plugin as a third party would write one: a dataset, two tasks, models and a router, found by entry point."""

import json
import time

import numpy as np

from bench.cards import DatasetCard, ModelCard, RouterCard, Settings, TaskCard
from bench.contracts import Catalogue, Dataset, Examples, Intent, Ragged, Ranking, Requests, Scores, Targets
from bench.metrics import complies, hits, ndcg, recall, violation
from bench.ranking import top_k
from bench.rng import uniform_draws

USERS, ITEMS, LABELS = 40, 30, ("comedy", "drama", "horror")

ENTRY_POINTS = """
[bench.datasets]
tiny = fake_plugins:Tiny
[bench.tasks]
ask = fake_plugins:Ask
follow = fake_plugins:Follow
pos = fake_plugins:Pos
seq = fake_plugins:Seq
[bench.models]
plain = fake_plugins:Plain
reader = fake_plugins:Reader
knower = fake_plugins:Knower
slow = fake_plugins:Slow
stacked = fake_plugins:Stacked
careless = fake_plugins:Careless
crashing = fake_plugins:Crashing
missing = fake_plugins_that_are_absent:Nothing
[bench.routers]
words = fake_plugins:Words
"""


def install(folder):
    """Write the metadata of an installed distribution that provides the plugin."""
    info = folder / "fake_plugins-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fake-plugins\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    return folder


class Tiny:
    card = DatasetCard(name="tiny", summary="Forty users.", domain="film", source="made up", windows=(1, 2))

    def load(self, data_dir, progress=None):
        rows = [np.argsort(uniform_draws(0, f"user {u}", ITEMS))[: 12 + u % 4] for u in range(USERS)]
        events = Ragged.of(rows)
        labels = Ragged.of([[v % 3] for v in range(ITEMS)])
        names = tuple(f"item {v}" for v in range(ITEMS))
        catalogue = Catalogue(names, names, names, LABELS, labels, ((),) * ITEMS, (("tag",),) * ITEMS)
        lengths = events.lengths
        ids = tuple(map(str, range(USERS)))
        return Dataset(self.card, catalogue, ids, events, lengths * 8 // 10, lengths * 9 // 10, "f" * 64)


class AskSettings(Settings):
    protocol: str = "paper"
    prompt_kind: str = "genre"
    windows: tuple[int, ...] = ()


def _requests(dataset, prompts):
    seen = Ragged.of([dataset.events[u][: dataset.valid_end[u]] for u in range(USERS)])
    return Requests(np.arange(USERS, dtype=np.int32), seen, prompts)


class Ask:
    card = TaskCard(name="ask", summary="Asks.", main_metric="ndcg@10", metrics=("ndcg@10",), prompted=True)
    Settings = AskSettings

    def __init__(self, settings):
        self.settings = settings

    @property
    def condition(self):
        return self.settings.prompt_kind

    def examples(self, dataset, *, split, seed):
        parts = [self._window(dataset, n) for n in self.settings.windows]
        n_windows = len(parts)
        requests = _requests(dataset, None)
        rows = np.tile(np.arange(USERS), n_windows)
        rule = np.concatenate([p[1] for p in parts]).astype(np.int32)
        polarity = np.where(rows % 2 == 0, 1, -1).astype(np.int8)
        prompts = tuple(f"{'give me' if s > 0 else 'no'} {LABELS[r]}" for r, s in zip(rule, polarity, strict=True))
        requests = Requests(requests.users[rows], requests.history.take(rows), prompts)
        allowed = dataset.catalogue.label_matrix().T
        window = np.repeat(self.settings.windows, USERS).astype(np.int32)
        targets = Ragged.of([items for p in parts for items in p[0]])
        return Examples(requests, Targets(targets, Intent(rule, allowed, polarity), window))

    def _window(self, dataset, n):
        future = [dataset.events[u][dataset.valid_end[u] :][:n] for u in range(USERS)]
        return future, [items[0] % 3 for items in future]

    def score(self, ranking, examples):
        hit, n = hits(ranking.items, examples.targets.items), examples.targets.items.lengths
        comply = complies(ranking.items, examples.targets.intent)
        columns = {"recall@10": recall(hit, n, 10), "ndcg@10": ndcg(hit, n, 10)}
        negative = examples.targets.intent.polarity < 0
        columns["violation@10"] = np.where(negative, violation(ranking.items, comply, 10), np.nan)
        return Scores(columns)


class Pos(Ask):
    card = TaskCard(name="pos", summary="Asks.", main_metric="ndcg@10", metrics=("ndcg@10",), prompted=True)


class Follow(Ask):
    card = TaskCard(name="follow", summary="Follows.", main_metric="ndcg@10", metrics=("ndcg@10",), prompted=False)
    Settings = Settings
    condition = "none"

    def examples(self, dataset, *, split, seed):
        future = Ragged.of([dataset.events[u][dataset.valid_end[u] :][:1] for u in range(USERS)])
        nothing = Intent(np.full(USERS, -1, np.int32), np.ones((1, ITEMS), bool), np.zeros(USERS, np.int8))
        return Examples(_requests(dataset, None), Targets(future, nothing, np.zeros(USERS, np.int32)))

    def score(self, ranking, examples):
        hit, n = hits(ranking.items, examples.targets.items), examples.targets.items.lengths
        return Scores({"recall@10": recall(hit, n, 10), "ndcg@10": ndcg(hit, n, 10)})


class Seq(Follow):
    card = TaskCard(name="seq", summary="Follows.", main_metric="ndcg@10", metrics=("ndcg@10",), prompted=False)


class PlainSettings(Settings):
    strength: float = 1.0
    flavour: str = "none"
    encoder: str = "no-encoder"


class Plain:
    card = ModelCard(name="plain", summary="Counts.", information="none")
    Settings = PlainSettings
    serving_settings = frozenset({"flavour"})
    fits = 0

    def __init__(self, settings, device="cpu"):
        self.settings, self.device = settings, device

    def fit(self, dataset, context):
        assert not any(dataset.catalogue.eval_tags), "no eval tag may be seen in training"
        assert (dataset.events.lengths == dataset.valid_end).all(), "no test event may be seen in training"
        type(self).fits += 1
        self.counts = np.bincount(dataset.events.values, minlength=ITEMS) * self.settings.strength

    def scores(self, requests):
        noise = np.stack([uniform_draws(1, f"u{u}", ITEMS) for u in requests.users])
        return (self.counts[None] + noise).astype(np.float32)

    def rank(self, requests, k):
        assert requests.prompts is None and requests.intent is None, "told more than the card says"
        return top_k(self.scores(requests), requests.history, k)

    def save(self, directory):
        (directory / "counts.json").write_text(json.dumps(self.counts.tolist()))

    @classmethod
    def load(cls, directory, settings, device="cpu"):
        model = cls(settings, device)
        model.counts = np.array(json.loads((directory / "counts.json").read_text()))
        return model


class Reader(Plain):
    """Reads the polarity from the prompt, and fails on every user that 10 divides."""

    card = ModelCard(name="reader", summary="Reads.", information="prompt")

    def rank(self, requests, k):
        assert requests.intent is None, "told more than the card says"
        if requests.prompts is None:
            return top_k(self.scores(requests), requests.history, k)
        polarity = np.array([1 if prompt.startswith("give") else -1 for prompt in requests.prompts], np.int8)
        polarity[requests.users == 1] = 1
        ranking = top_k(self.scores(requests), requests.history, k, {"polarity": polarity})
        return Ranking(ranking.items, ranking.scores, requests.users % 10 == 0, ranking.extras)


class Knower(Plain):
    card = ModelCard(name="knower", summary="Knows.", information="oracle")

    def rank(self, requests, k):
        scores = self.scores(requests)
        intent = requests.intent
        allowed = intent.allowed[np.maximum(intent.rule, 0)] | (intent.rule < 0)[:, None]
        wanted = np.where(intent.polarity[:, None] >= 0, allowed, ~allowed)
        return top_k(np.where(wanted, scores, -np.inf).astype(np.float32), requests.history, k)


class SlowSettings(PlainSettings):
    delay: float = 0.0
    epochs: int = 3


class Slow(Plain):
    """Trains in epochs that it keeps in the scratch folder, and takes its time over every batch."""

    card = ModelCard(name="slow", summary="Slow.", information="prompt")
    Settings = SlowSettings
    interrupt_at = None
    trained = ()

    def fit(self, dataset, context):
        kept = context.scratch / "epoch.json"
        first = json.loads(kept.read_text()) if kept.exists() else 0
        for epoch in range(first, self.settings.epochs):
            if epoch == type(self).interrupt_at:
                type(self).interrupt_at = None
                raise KeyboardInterrupt
            time.sleep(self.settings.delay)
            type(self).trained += (epoch,)
            kept.write_text(json.dumps(epoch + 1))
        super().fit(dataset, context)

    def rank(self, requests, k):
        time.sleep(self.settings.delay)
        return top_k(self.scores(requests), requests.history, k, {"confidence": self.scores(requests)[:, 0]})


class Stacked(Plain):
    """Built on `plain`."""

    card = ModelCard(name="stacked", summary="Stacked.", information="none")

    def fit(self, dataset, context):
        self.counts = -context.fitted("plain", dataset, {"strength": 2.0}).counts


class Careless(Plain):
    """Returns seen items, repeats and items that do not exist."""

    card = ModelCard(name="careless", summary="Careless.", information="none")

    def rank(self, requests, k):
        items = np.tile(np.arange(k, dtype=np.int32), (len(requests), 1))
        items[:, 1], items[:, 2] = items[:, 0], 999
        return Ranking(items, np.tile(-np.arange(k, dtype=np.float32), (len(requests), 1)))


class Crashing(Plain):
    """Fails from a certain user on, as long as `users_that_work` says so."""

    card = ModelCard(name="crashing", summary="Crashes.", information="none")
    users_that_work = 20

    def rank(self, requests, k):
        if requests.users.max() >= type(self).users_that_work:
            raise RuntimeError("out of luck\nwith a second line")
        return super().rank(requests, k)


class Words:
    card = RouterCard(name="words", summary="Looks for no.")

    def route(self, prompts):
        polarity = np.array([-1 if prompt.startswith("no") else 1 for prompt in prompts], np.int8)
        return polarity, np.full(len(prompts), 0.75, np.float32)

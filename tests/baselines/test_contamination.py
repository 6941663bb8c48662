"""What a language model knows by heart: right answers are counted as such, and a guess is not taken for memory."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from baselines.contamination import contamination
from bench import language
from bench.cli import main as cli
from bench.contracts import Dataset
from bench.llm.contracts import Failure
from bench.progress import SilentProgress
from bench.statistics import wilson
from tests.tools.fake_llm import FakeLLM, failed, section, strings


@pytest.fixture
def films(small: Dataset) -> Dataset:
    titles = tuple(f"Film of the Number {v}, The ({1950 + v})" for v in range(len(small.catalogue)))
    ids = tuple(str(1000 + v) for v in range(len(titles)))
    return replace(small, catalogue=replace(small.catalogue, ids=ids, titles=titles))


def knows(data: Dataset, verbatim: bool = True):
    """Answers from the data itself, as a model does that has read it."""
    ids, titles = data.catalogue.ids, data.catalogue.titles
    lines = [f"{user}::{ids[v]}" for row, user in enumerate(data.user_ids) for v in data.events[row]]

    def reply(request):
        prompt = request.messages[-1].content
        if "names its items by number" in prompt:
            item = re.search(r'title of item "([0-9]+)"', prompt)[1]
            assert item not in "".join(section(request, "examples"))
            return told(titles[ids.index(item)])
        if section(request, "lines"):
            shown = strings(section(request, "lines"))
            at = next(at for at in range(len(lines)) if lines[at : at + 5] == shown)
            return lines[at + 5] + ("" if verbatim else "::5::978300000")
        user = re.search(r'User "([0-9]+)"', prompt)[1]
        history = strings(section(request, "history"))
        assert len(history) == 10
        return told(titles[data.events[int(user)][10]])

    def told(title: str) -> str:
        return title if verbatim else f"1. The {title.replace(', The', '').upper()}"

    return reply


def probed(llm: FakeLLM, data: Dataset, samples: int = 30):
    return contamination(llm, data, None, samples=samples, seed=0, progress=SilentProgress())


def test_a_model_that_read_the_data_is_marked(films: Dataset) -> None:
    report = probed(FakeLLM(knows(films)), films)
    for name in ("titles", "lines", "sequences"):
        probe = report["probes"][name]
        assert probe["n"] == 30 and probe["recalled"]["count"] == probe["verbatim"]["count"] == 30
        assert probe["recalled"]["high"] == 1.0 and 0.85 < probe["recalled"]["low"] < 1
    assert report["mark"] and report["probes"]["sequences"]["guess"] < 0.3
    loose = probed(FakeLLM(knows(films, verbatim=False)), films)["probes"]
    assert [loose[name]["recalled"]["count"] for name in loose] == [30, 30, 30]
    assert [loose[name]["verbatim"]["count"] for name in loose] == [0, 0, 0]


def test_a_model_that_did_not_is_not(films: Dataset) -> None:
    report = probed(FakeLLM(lambda request: "The Film of the Number 3 (1999)"), films)
    assert not report["mark"]
    assert all(probe["recalled"]["count"] == probe["verbatim"]["count"] == 0 for probe in report["probes"].values())
    # A right name with another year is another film; without a year it counts.
    bare = probed(FakeLLM(lambda request: "Film of the Number 3"), films, samples=37)["probes"]["titles"]
    assert bare["recalled"]["count"] == 1 and bare["verbatim"]["count"] == 0


def test_failures_stay_in_n(films: Dataset) -> None:
    report = probed(FakeLLM(lambda request: failed(Failure.TIMEOUT)), films, samples=4)
    assert [(probe["n"], probe["failed"]) for probe in report["probes"].values()] == [(4, 4)] * 3
    assert not report["mark"]


def test_the_draw_is_by_seed(films: Dataset) -> None:
    first, again, other = (FakeLLM(lambda request: "x") for _ in range(3))
    for llm, seed in ((first, 0), (again, 0), (other, 1)):
        contamination(llm, films, None, samples=5, seed=seed, progress=SilentProgress())
    assert first.asked == again.asked != other.asked


def test_lines_of_the_published_file_are_asked_for(small: Dataset, tmp_path: Path) -> None:
    lines = [f"{1 + n // 10}::{n}::{1 + n % 5}::{978300000 + n}" for n in range(40)]
    (tmp_path / "ratings.dat").write_text("\n".join(lines) + "\n")
    (tmp_path / "movies.dat").write_text("1::A (1999)::Drama\n")
    data = replace(small, card=small.card.model_copy(update={"name": "ml-1m"}))

    def reply(request):
        shown = strings(section(request, "lines"))
        return lines[lines.index(shown[-1]) + 1] if shown else "nothing"

    report = contamination(FakeLLM(reply), data, tmp_path, samples=50, seed=0, progress=SilentProgress())
    found = report["probes"]["lines"]
    assert found["file"] == "ratings.dat" and found["n"] == found["verbatim"]["count"] == 35


@pytest.mark.parametrize(
    ("count", "n", "low", "high"),
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0), (0, 0, 0.0, 1.0), (1, 200, 0.0009, 0.0278)],
)
def test_wilsons_interval(count: int, n: int, low: float, high: float) -> None:
    assert wilson(count, n) == pytest.approx((low, high), abs=1e-4)


def test_the_command_keeps_its_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    from tasks.datasets.mini import Mini

    data = Mini().load()
    reply = knows(data)
    numbers = {user: row for row, user in enumerate(data.user_ids)}

    def by_user(request):
        user = re.search(r'User "([0-9]+)"', request.messages[-1].content)
        return data.catalogue.titles[data.events[numbers[user[1]]][10]] if user else reply(request)

    monkeypatch.setattr(language, "open_language_model", lambda *_, **__: None)
    monkeypatch.setattr("bench.probing.open_language_model", lambda name, *_, **__: FakeLLM(by_user, name=name))
    arguments = ["probe", "contamination", "--llm", "some/model", "--dataset", "mini", "--samples", "5"]
    assert cli.main([*arguments, "--out", str(tmp_path), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    kept = json.loads(Path(shown.pop("file")).read_text())
    assert kept == shown and kept["probes"]["lines"]["verbatim"]["count"] == 5 and kept["llm"]["name"] == "some/model"
    assert kept["mark"] and kept["cost"]["requests"] == 15 and str(tmp_path) not in json.dumps(kept["probes"])
    assert len(list((tmp_path / "probes").glob("contamination-mini-some-model-*.json"))) == 1
    assert cli.main([*arguments, "--out", str(tmp_path)]) == 0 and "Mark: yes" in capsys.readouterr().out
    assert cli.main([*arguments[:-1], "0"]) == 2

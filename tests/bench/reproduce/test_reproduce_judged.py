"""Table 4: nuanced requests, ranked and then scored by every judge that is named, the offline proxy and a language model on loopback."""

from __future__ import annotations

import json

import pytest

from baselines.zero_shot import ZeroShot
from bench.llm.loopback import Response, completion
from tests.tools.fake_llm import Letters
from tests.tools.openai_server import KEY, Behaviour, Running
from tests.tools.writing_server import write_config

# An epoch of a small net: what the model is worth is not the question.
QUICK = ("epochs=1", "length=16", "dim=16", "layers=1")
SETTINGS = [part for each in QUICK for part in ("--set", f"sasrec.{each}")]
TABLE4 = ("table4", "--limit", "5", *SETTINGS)


class Both(Behaviour):
    """Recommends the same ten titles, and gives every list a 3 for its history, a 7 for its intent and a 6 overall."""

    titles = ()

    def chat(self, request):
        prompt = request["messages"][-1]["content"]
        self.log.append(prompt)
        aspects = {"history_alignment": 3, "intent_fulfillment": 7, "overall_score": 6}
        verdict = {"scores": aspects, "reasoning": dict.fromkeys(aspects, "so it seems")}
        said = verdict if "<recommendations>" in prompt else {"titles": self.titles[:10]}
        return Response(completion([json.dumps(said)], 50, 20))


@pytest.fixture
def server():
    from tasks.datasets.mini import Mini

    Both.titles = Mini().load().catalogue.titles
    running = Running(Both(key=KEY))
    yield running
    running.close()


@pytest.fixture
def call(server, tmp_path, monkeypatch, command_line):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TINY_KEY", KEY)
    monkeypatch.setattr(ZeroShot, "encoder", Letters())
    config = write_config(tmp_path, server.url)[2:]

    def command(*arguments, llms=True):
        return command_line("reproduce", *arguments, *(config if llms else ()))

    return command


def test_every_row_is_judged_by_every_judge_and_nothing_is_asked_twice(call, server, tmp_path):
    command = (*TABLE4, "--only", "sasrec,zero_shot", "--llm", "tiny", "--judge", "proxy", "--judge", "tiny")
    code, out, err = call(*command, "--json")
    assert code == 0, err
    report = json.loads(out)
    measured = {
        (cell["row"], cell["judge"], cell["metric"]): cell["measured"] for cell in report["cells"] if cell["measured"]
    }
    rows, judges = ("Base", "tiny"), ("proxy", "tiny")
    assert {(row, judge) for row, judge, _ in measured} == {(row, judge) for row in rows for judge in judges}
    for (_, judge, metric), value in measured.items():
        assert value["n"] == 15 and 1 <= value["value"] <= 10
        if judge == "tiny":
            planted = {"history_alignment": 3, "intent_fulfillment": 7, "overall_score": 6}[metric]
            assert (value["value"], value["low"], value["high"]) == (planted,) * 3
    claims = {(each["claim"], one["judge"]): one for each in report["claims"] for one in each["comparisons"]}
    assert {key for key, _ in claims} == {"g", "h"} and {judge for _, judge in claims} == {"proxy", "tiny"}
    assert all(one["answer"] == "not decidable" and "dpr_sas" in one["reason"] for one in claims.values())
    # Fifteen lists of the recommender, and a verdict on each list of both rows.
    sent = len(server.behaviour.log)
    assert sent == len(set(server.behaviour.log)) <= 15 + 2 * 15
    folder = tmp_path / "results" / "reproduce" / "table4-mini-5-users"
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert b"judged by proxy" in files["figure.svg"] and b"## Nuanced, judged by tiny" in files["table.md"]
    assert call(*command)[0] == 0
    assert len(server.behaviour.log) == sent and {path.name: path.read_bytes() for path in folder.iterdir()} == files


def test_the_plan_says_what_judges_would_be_asked(call, server):
    code, out, _ = call(*TABLE4, "--only", "sasrec,dpr_sas", "--judge", "tiny", "--plan", "--json")
    plan = json.loads(out)
    assert code == 0 and plan["judges"] == {"tiny": {"waiting": 3}} and not server.behaviour.log
    assert [cell["condition"] for cell in plan["cells"]] == ["none", "free", "free"]


@pytest.mark.parametrize(
    ("arguments", "llms", "told"),
    [
        (("table1", "--judge", "proxy"), False, "table1 has no values that a judge gives: leave out --judge."),
        (("table4", "--judge", "proxi"), False, "unknown judge 'proxi'. Did you mean 'proxy'?"),
        (("table4", "--judge", "proxy", "--judge", "proxy"), False, "--judge proxy is given twice."),
        (("table4", "--judge", "llm"), True, "name that one, with --llm-config FILE."),
        (("table4", "--judge", "tony"), True, "Did you mean 'tiny'?"),
        (("table4", "--judge", "proxy"), True, "leave out --llm-config."),
    ],
)
def test_wrong_input_is_one_line(call, arguments, llms, told):
    code, out, err = call(*arguments, llms=llms)
    assert code == 2 and not out and len(err.strip().splitlines()) == 1 and told in err

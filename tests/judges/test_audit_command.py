"""`bench judge audit` from end to end, files of people's scores, and what is refused."""

from __future__ import annotations

import json
from functools import partial

import pytest

import bench
from bench.llm.contracts import Failure
from judges.resampling import Resampler
from tests.judges.planted import Planted
from tests.tools.command_line import finished, killed_after
from tests.tools.openai_server import error

pytestmark = pytest.mark.usefixtures("light")
ASKED = ["--limit", "8", "--repeats", "1", "--pairs", "2"]
# Two runs, the mismatched requests and the oracle, two orders, a repeat, the retelling; and two pairs in two orders.
REQUESTS = 8 * (4 + 2 + 1 + 1) + 8 * 2 * 2


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    """Intervals are tested elsewhere."""
    monkeypatch.setattr("judges.findings.REPLICATES", 20)
    monkeypatch.setattr("judges.audit.Resampler", partial(Resampler, replicates=20))


def people(path, runs, *lines, columns="run,example,rater,intent_fulfillment,overall_score"):
    path.write_text("\n".join([columns, *(line.format(*runs) for line in lines)]) + "\n")
    return path


@pytest.fixture
def runs(own):
    return [next((own / "runs").glob(f"pos-{model}-*")).name for model in ("random", "popularity")]


def judged_examples(own, run, limit=8):
    from bench.judging import open_case
    from bench.progress import SilentProgress

    return open_case(own / "runs" / run, None, limit, SilentProgress()).rows.tolist()


def test_two_language_models_the_proxy_and_a_person(own, runs, call, serve, tmp_path):
    config = serve(kind=Planted(leniency=2, noise=False), strict=Planted(noise=False))
    examples = judged_examples(own, runs[0])
    labels = people(
        tmp_path / "people.csv", runs, *(f"{{0}},{example},anna,{3 + n % 4}," for n, example in enumerate(examples))
    )
    judges = ["--judge", "proxy", "--llm", "kind", "--llm", "strict", "--llm-config", config, "--labels", labels]
    arguments = ["judge", "audit", *runs, *judges, *ASKED, "--out", own]
    code, out, err = call(*arguments, "--json")
    assert code == 0, err
    report = json.loads(out)
    assert set(report["judges"]) == {"proxy", "kind", "strict"} and report["lists"] == report["users"] == 8
    assert report["sent"]["kind"]["sent"] == report["sent"]["strict"]["sent"] == REQUESTS
    agree = {(row["one"], row["other"], row["score"]): row for row in report["agreement"]["pairs"]}
    kind = agree["kind", "strict", "overall_score"]
    assert kind["leniency"]["value"] == kind["leniency"]["low"] == 2 and kind["spearman"]["value"] == pytest.approx(1)
    assert agree["strict", "anna (person)", "intent_fulfillment"]["alpha"]["n"] == 8
    assert ("strict", "anna (person)", "overall_score") not in agree
    assert set(report["agreement"]["groups"]) == {"language_models"}
    assert report["judges"]["proxy"]["pairwise"] == {"skipped": "it compares no lists"}
    assert report["judges"]["proxy"]["order"]["reversed"]["overall_score"]["moved"]["value"] == 0
    text = (own / "audits" / report["file"].split("/")[-2] / "report.md").read_text()
    assert "## kind" in text and "**not a language model**" in text and "anna (person)" in text
    # Given again, it asks nothing and says the same.
    code, out, err = call(*arguments)
    again = json.loads((own / "audits" / report["file"].split("/")[-2] / "report.json").read_text())
    assert code == 0 and again["sent"]["kind"]["sent"] == 0 and "Can the judge be trusted?" in out
    assert again["judges"] == report["judges"] and again["agreement"] == report["agreement"]


def test_a_plan_counts_what_an_audit_asks(own, runs, call, serve):
    server = Planted()
    arguments = ["judge", "audit", *runs, "--llm", "one", "--llm-config", serve(one=server), *ASKED, "--out", own]
    plan = json.loads(call(*arguments, "--plan", "--json")[1])["plan"]["one"]
    assert plan["requests"] == plan["to_send"] == REQUESTS and not server.log
    assert not (own / "audits").exists()
    assert call("llm", "export", own / "batch.jsonl", "--out", own)[0] == 0
    assert len((own / "batch.jsonl").read_text().splitlines()) == REQUESTS
    code, _, err = call(*arguments, "--max-requests", "20")
    assert code == 1 and "stopped at --max-cost or --max-requests" in err and len(server.log) == 20
    report = json.loads(call(*arguments, "--json")[1])
    assert len(server.log) == REQUESTS and report["sent"]["one"]["sent"] == REQUESTS - 20


def test_a_killed_audit_goes_on_and_pays_for_nothing_twice(own, runs, serve):
    server = Planted()
    config = serve(slow=server)
    server.delay_s = 0.05
    config.write_text(config.read_text().replace("{model:", "{max_parallel_requests: 4, model:"))
    command = (
        "judge",
        "audit",
        *runs,
        "--llm",
        "slow",
        "--json",
        *ASKED,
        "--llm-config",
        str(config),
        "--out",
        str(own),
    )
    killed_after(server.log, 30, *command)
    server.delay_s = 0.0
    done = finished(*command)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["judges"]["slow"]["answers"]["failures"] == {}
    assert len(set(server.log)) == REQUESTS and len(server.log) <= REQUESTS + 4


def test_verdicts_that_cannot_be_read_are_left_out_and_counted(own, runs, call, serve):
    class Mute(Planted):
        def chat(self, request):
            prompt = request["messages"][1]["content"]
            answer = super().chat(request)
            return error(400, "no") if len(prompt) % 2 and "<second>" not in prompt else answer

    report = json.loads(
        call("judge", "audit", *runs, "--llm", "m", "--llm-config", serve(m=Mute()), *ASKED, "--out", own, "--json")[1]
    )
    judge = report["judges"]["m"]
    lost = judge["answers"]["failures"][Failure.BAD_REQUEST.value]
    counted = [judge["scores"][name]["overall_score"] for name in judge["scores"]]
    assert lost and all(each["n"] + each["failed"] == 8 for each in counted) and sum(each["failed"] for each in counted)


@pytest.mark.parametrize(
    ("columns", "line", "said"),
    [
        ("run,example,rater", "{0},0,anna", "no column of scores"),
        ("run,rater,overall_score", "{0},anna,3", "no column 'example'"),
        ("run,example,rater,overall", "{0},0,anna,3", "no column of scores"),
        ("run,example,rater,overall_score,mood", "{0},0,anna,3,4", "unknown column"),
        (None, "pos-nobody,0,anna,3,4", "line 2: unknown run of this audit 'pos-nobody'"),
        (None, "pos-,0,anna,3,4", "line 2: unknown run"),
        (None, "{0},99999,anna,3,4", "line 2: run {0} has no example 99999 among the 8"),
        (None, "{0},x,anna,3,4", "line 2: example 'x' is no number"),
        (None, "{0},{2},anna,11,4", "line 2: intent_fulfillment is '11'"),
        (None, "{0},{2},anna,7.5,4", "line 2: intent_fulfillment is '7.5'"),
        (None, "{0},{2},anna,nan,4", "line 2: intent_fulfillment is 'nan'"),
        (None, "{0},{2},,3,4", "line 2: no rater"),
        (None, "{0},{2},anna,3,4\n{0},{2},anna,3,4", "line 3: rater 'anna' has scored"),
        (None, "", "holds no scores"),
    ],
)
def test_a_wrong_file_of_labels_is_named_with_its_line(own, runs, call, tmp_path, columns, line, said):
    known = judged_examples(own, runs[0])[0]
    path = tmp_path / "people.csv"
    text = line.format(*runs, known)
    path.write_text("\n".join([columns or "run,example,rater,intent_fulfillment,overall_score", text]) + "\n")
    code, out, err = call("judge", "audit", *runs, "--judge", "proxy", "--labels", path, "--limit", "8", "--out", own)
    assert code == 2 and not out and said.format(*runs) in err and str(path) in err, err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "takes a run or more"),
        (["pos-random"], "name a judge"),
        (["pos-random", "--judge", "proxy", "--judge", "proxy"], "named twice"),
        (["pos-random", "pos-random", "--judge", "proxy"], "named twice"),
        (["pos-random", "seq-popularity", "--judge", "proxy"], "asks nothing in words"),
        (["pos-random", "neg-popularity", "--judge", "proxy"], "is of task 'neg'"),
        (["pos-random", "--judge", "prxy"], "Did you mean 'proxy'"),
        (["pos-random", "--judge", "proxy", "--plan"], "none of the judges is a language model"),
        (["pos-random", "--judge", "proxy", "--labels", "nowhere.csv"], "nowhere.csv cannot be read"),
        (["pos-random", "--judge", "proxy", "--repeats", "-1"], "repeats"),
    ],
)
def test_bad_input_gets_one_line(results, call, arguments, said):
    code, out, err = call("judge", "audit", *arguments, "--out", results)
    assert code == 2 and not out and said in err.splitlines()[-1], err
    assert not (results / "audits").exists()


def test_an_audit_of_nuanced_requests_tells_who_wrote_them(tmp_path, call, serve):
    bench.run(task="nuanced", model="popularity", dataset="mini", out=tmp_path, limit=5)
    arguments = ["--llm", "gpt-x", "--llm-config", serve(**{"gpt-x": Planted()}), "--pairs", "1", "--out", tmp_path]
    code, out, err = call("judge", "audit", "nuanced-popularity", *arguments, "--json")
    assert code == 0, err
    found = json.loads(out)["self_preference"]
    assert found["families"] == {"gpt-x": "gpt"} and found["simulators"] == {"popularity": None}
    assert found["requests"] == found["lists"] == {"kin": [], "effects": {}, "unknown": {}}

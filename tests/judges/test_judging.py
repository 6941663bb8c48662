"""`bench judge` from end to end: the command line, a real server on loopback, what lies on disk, and what is refused."""

from __future__ import annotations

import json
import re
from collections import Counter

import jsonlines
import numpy as np
import pytest

import bench
from bench import statistics
from bench.contracts import ASPECTS
from bench.judging import open_case
from bench.llm.loopback import Response
from bench.progress import SilentProgress
from bench.rankings import read_scores
from bench.results import SCHEMA_FILE
from tests.judges.planted import Planted, relevant
from tests.tools.command_line import finished, killed_after
from tests.tools.openai_server import KEY, error

pytestmark = pytest.mark.usefixtures("light")
KINDS = ("good", "prose", "eleven", "of ten", "float", "missing", "fenced", "german", "refusal")
READ = {"good", "of ten", "fenced"}


class Odd(Planted):
    """Every request is answered in one of nine ways, told by its text; asked again, in the same way."""

    def chat(self, request):
        answer = json.loads(super().chat(request).body)
        prompt = request["messages"][1]["content"]
        message = answer["choices"][0]["message"]
        message["content"], kind = self.spoiled(json.loads(message["content"]), prompt)
        if kind == "refusal":
            message["refusal"] = "I cannot rate people."
        return Response(json.dumps(answer).encode(), delay_s=self.delay_s)

    @staticmethod
    def kind(prompt):
        return KINDS[sum(map(ord, prompt)) % len(KINDS)]

    def spoiled(self, answer, prompt):
        kind, scores = self.kind(prompt), answer["scores"]
        if kind == "eleven":
            scores["overall_score"] = 11
        elif kind == "of ten":
            scores["overall_score"] = f"{scores['overall_score']}/10"
        elif kind == "float":
            scores["overall_score"] += 0.5
        elif kind == "missing":
            del scores["intent_fulfillment"]
        text = json.dumps(answer)
        plain = {"prose": "A fine list, 8 of 10 from me.", "german": "Sieben von zehn Punkten.", "refusal": ""}
        return {"fenced": f"```json\n{text}\n```"}.get(kind, plain.get(kind, text)), kind


def lines_of(folder):
    with jsonlines.open(folder / "verdicts.jsonl") as rows:
        return list(rows)


def relist(folder, change):
    """Put other lists into a run's rankings."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(folder / "rankings.parquet")
    items = change(table["items"].to_pylist())
    columns = {name: table[name] for name in table.column_names}
    columns["items"] = pa.array(items, pa.list_(pa.int32()))
    columns["scores"] = pa.array([[0.0] * len(row) for row in items], pa.list_(pa.float32()))
    pq.write_table(pa.table(columns), folder / "rankings.parquet")


def test_odd_answers_are_counted_and_no_score_is_made_up(own, call, serve):
    server = Odd(noise=False)
    flags = ["--llm", "odd", "--llm-config", serve(odd=server), "--out", own]
    code, out, err = call("judge", "pos-popularity", *flags, "--json")
    assert code == 0, err
    result = json.loads(out)
    judge, folder = result["judge"], own / "runs" / result["run"] / "judgements" / result["judge"]["judgement"]
    rows = [row for row in lines_of(folder) if row["record"] == "verdict"]
    assert sorted(row["example"] for row in rows) == list(range(40)) and result["examples"] == 40
    asked = {prompt for prompt in server.log if "could not be read" not in prompt}
    kinds = Counter(map(Odd.kind, asked))
    assert set(kinds) == set(KINDS), "the draw of requests has no odd answer of some kind"
    read = sum(kinds[kind] for kind in READ)
    assert judge["verdicts"] == read == sum(row["overall_score"] is not None for row in rows)
    assert judge["failures"] == {"refusal": kinds["refusal"], "unparseable": 40 - read - kinds["refusal"]}
    assert judge["repaired"] == kinds["of ten"] + kinds["fenced"] and judge["is_llm"]
    for aspect in ASPECTS:
        given = [row[aspect] for row in rows if row[aspect] is not None]
        metric, worst = result["metrics"][aspect], judge["worst_case"][aspect]
        assert metric["n"] == read and metric["value"] == pytest.approx(np.mean(given))
        assert worst["n"] == 40 and worst["value"] == pytest.approx((sum(given) + 40 - read) / 40)
        assert metric["low"] <= metric["value"] <= metric["high"] and worst["value"] < metric["value"]
    spoiled = [row for row in rows if row.get("failure") == "unparseable"]
    assert all(row["text"] and "reasons" not in row for row in spoiled)
    assert all(set(row["reasons"]) == set(ASPECTS) for row in rows if row["overall_score"] is not None)
    assert judge["llm"]["model"] == "openai/odd-1" and set(judge["llm"]["templates"]) == {"pointwise.j2", "pairwise.j2"}
    assert judge["cost"]["calls"] == 40 and judge["cost"]["price"] > 0
    # Once more: nothing is asked, and the table says how many were left out.
    count = len(server.log)
    code, out, _ = call("judge", "pos-popularity", *flags)
    assert code == 0 and len(server.log) == count
    assert f"{read} verdicts of 40 lists" in out and "worst case" in out and "refusal" in out
    for path in own.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def test_the_result_fits_the_schema_and_is_averaged_over_users(own, call):
    import jsonschema

    code, out, err = call("judge", "pos-popularity", "--judge", "proxy", "--out", own, "--json")
    assert code == 0, err
    result = json.loads(out)
    jsonschema.validate(result, json.loads(SCHEMA_FILE.read_text()))
    folder = own / "runs" / result["run"] / "judgements" / result["judge"]["judgement"]
    scores, users, windows, failed = read_scores(folder / "scores.parquet")
    again = statistics.summarise(scores, users, windows, failed, result["seed"])
    assert set(result["metrics"]) == set(ASPECTS) == set(again.headline)
    for aspect in ASPECTS:
        assert result["metrics"][aspect]["value"] == pytest.approx(again.headline[aspect].value)
    assert (result["judge"]["name"], result["judge"]["is_llm"], result["judge"]["llm"]) == ("proxy", False, None)
    assert result["judge"]["parts"] == {"encoder": 1}


def test_judges_of_one_run_lie_side_by_side_and_are_not_mixed(own, call, serve):
    config = serve(one=Planted(noise=False))
    llm = ["--llm", "one", "--llm-config", config]
    for run in ("pos-popularity", "pos-random"):
        for judge in (llm, ["--judge", "proxy"], [*llm, "--set", "told=tags"]):
            code, out, err = call("judge", run, *judge, "--out", own)
            assert code == 0, err
    folders = sorted((own / "runs").glob("*/judgements/*"))
    assert len(folders) == 6 and len({folder.name for folder in folders}) == 3
    assert "On the same examples, by the same judge" in out and out.count("popularity ") == 1
    assert (own / "runs").glob("*/metrics.json") and "judge" in json.loads((folders[0] / "metrics.json").read_text())
    # A run's own result stays what it was.
    assert json.loads((folders[0].parents[1] / "metrics.json").read_text())["judge"] is None
    by_name = {folder.name: [each for each in folders if each.name == folder.name] for folder in folders}
    proxy = next(pair for name, pair in by_name.items() if name.startswith("proxy"))
    code, out, err = call("compare", *proxy, "--json")
    assert code == 0, err
    assert {row["metric"] for row in json.loads(out)["rows"]} == set(ASPECTS)
    other = next(pair for name, pair in by_name.items() if name.startswith("llm"))
    code, _, err = call("compare", proxy[0], other[1])
    assert code == 2 and "not scored by the same judge" in err


def test_a_killed_pass_goes_on_and_pays_for_nothing_twice(own, serve, tmp_path):
    server = Planted()
    config = serve(slow=server)
    server.delay_s = 0.05
    command = ("judge", "pos-popularity", "--llm", "slow", "--json", "--llm-config", str(config), "--out", str(own))
    text = config.read_text()
    # Few at a time, so that a kill falls in between.
    config.write_text(text.replace("{model:", "{max_parallel_requests: 4, model:"))
    killed_after(server.log, 15, *command)
    server.delay_s = 0.0
    done = finished(*command)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    # What was under way at a kill, four at the most, may be asked again.
    assert len(set(server.log)) == 40 and len(server.log) <= 40 + 4
    assert result["judge"]["verdicts"] == 40
    asked = len(server.log)
    again = finished(*command)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout) == result and len(server.log) == asked


def test_failures_that_may_heal_are_asked_again_and_others_are_not(own, call, serve):
    class Ill(Planted):
        ill = True

        def chat(self, request):
            prompt = request["messages"][-1]["content"]
            if self.ill and len(prompt) % 3 == 0:
                return error(400, "the tokenizer is in a bad mood")
            return super().chat(request)

    server = Ill(noise=False)
    flags = ["--llm", "ill", "--llm-config", serve(ill=server), "--out", own, "--json"]
    first = json.loads(call("judge", "pos-random", *flags)[1])
    lost = first["judge"]["failures"]["bad_request"]
    assert 0 < lost < 40 and first["metrics"]["overall_score"]["n"] == 40 - lost
    server.ill = False
    asked = len(server.log)
    second = json.loads(call("judge", "pos-random", *flags)[1])
    assert second["judge"]["failures"] == {} and second["metrics"]["overall_score"]["n"] == 40
    assert len(server.log) == asked + lost


def test_a_budget_stops_the_pass_and_a_larger_one_goes_on(own, call, serve):
    server = Planted()
    flags = ["--llm", "dear", "--llm-config", serve(dear=server), "--out", own]
    code, _, err = call("judge", "pos-random", *flags, "--max-requests", "15")
    assert code == 1 and "stopped at --max-cost or --max-requests with 25 requests unsent" in err
    assert len(server.log) == 15
    code, out, err = call("judge", "pos-random", *flags, "--max-cost", "5", "--json")
    assert code == 0 and len(server.log) == 40 == len(set(server.log)), err
    assert json.loads(out)["judge"]["verdicts"] == 40


def test_verdicts_may_come_from_elsewhere(own, call, serve, tmp_path):
    """Plan, export, answers made by hand, import: the pass then sends nothing."""
    server = Planted()
    flags = ["--llm", "far", "--llm-config", serve(far=server), "--out", own]
    plan = json.loads(call("judge", "pos-random", *flags, "--plan", "--json")[1])["plan"]
    assert (plan["requests"], plan["to_send"], plan["cached"]) == (40, 40, 0) and plan["price_at_most"] > 0
    assert not server.log and not list((own / "runs").glob("*/judgements"))
    assert call("llm", "export", tmp_path / "batch.jsonl", "--out", own)[0] == 0
    with jsonlines.open(tmp_path / "batch.jsonl") as rows, jsonlines.open(tmp_path / "answers.jsonl", "w") as answers:
        for row in rows:
            assert row["body"]["response_format"]["json_schema"]["strict"]
            body = json.loads(server.chat(row["body"]).body)
            answers.write({"custom_id": row["custom_id"], "response": {"status_code": 200, "body": body}})
    server.log.clear()
    assert call("llm", "import", tmp_path / "answers.jsonl", "--out", own)[0] == 0
    result = json.loads(call("judge", "pos-random", *flags, "--json")[1])
    assert result["judge"]["verdicts"] == 40 and not server.log
    code, _, err = call("judge", "pos-random", "--judge", "proxy", "--plan", "--out", own)
    assert code == 2 and "uses no language model" in err


def test_other_lists_are_judged_again(own, call):
    flags = ["--judge", "proxy", "--out", own, "--json"]
    first = json.loads(call("judge", "pos-random", *flags)[1])
    folder = own / "runs" / first["run"]
    # The same run with other lists, as a refit leaves it.
    relist(folder, lambda items: [row[9::-1] + row[10:] for row in items[:20]] + [row[5:] for row in items[20:]])
    code, out, err = call("judge", "pos-random", *flags)
    assert code == 0 and "lists of" in err and "have changed" in err
    assert json.loads(out)["metrics"] != first["metrics"]
    assert sum(row["record"] == "start" for row in lines_of(folder / "judgements" / first["judge"]["judgement"])) == 1


def test_a_request_without_a_list_has_the_worst_score_and_is_not_shown(own, call, serve):
    folder = next((own / "runs").glob("pos-random-*"))
    relist(folder, lambda items: [*items[:3], [], items[4], items[5][:4], *items[6:]])
    server = Planted(noise=False)
    result = json.loads(
        call("judge", "pos-random", "--llm", "x", "--llm-config", serve(x=server), "--out", own, "--json")[1]
    )
    assert len(server.log) == 39 and result["judge"]["failures"] == {"no_list": 1}
    metric = result["metrics"]["overall_score"]
    rows = [row for row in lines_of(folder / "judgements" / result["judge"]["judgement"]) if row["record"] == "verdict"]
    given = [row["overall_score"] for row in rows if row["overall_score"] is not None]
    assert (metric["n"], metric["failed"], len(given)) == (40, 1, 39)
    assert metric["value"] == pytest.approx((sum(given) + 1) / 40)


def test_a_limit_takes_whole_users_and_is_a_judgement_of_its_own(own, call):
    few = json.loads(call("judge", "pos-random", "--judge", "proxy", "--limit", "7", "--out", own, "--json")[1])
    whole = json.loads(call("judge", "pos-random", "--judge", "proxy", "--out", own, "--json")[1])
    assert (few["examples"], few["limit"], whole["examples"]) == (7, 7, 40)
    assert (
        few["judge"]["identity"] == whole["judge"]["identity"]
        and few["judge"]["judgement"] != whole["judge"]["judgement"]
    )
    folder = own / "runs" / whole["run"] / "judgements"
    rows = {
        name: {row["example"]: row for row in lines_of(folder / name) if row["record"] == "verdict"}
        for name in (few["judge"]["judgement"], whole["judge"]["judgement"])
    }
    one, every = rows.values()
    assert all(every[example]["overall_score"] == row["overall_score"] for example, row in one.items())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["seq-popularity", "--judge", "proxy"], "asks nothing in words"),
        (["neg-popularity", "--judge", "proxy"], "reads as a wish"),
        (["pos-random", "--judge", "proxi"], "Did you mean 'proxy'"),
        (["pos-rendom", "--judge", "proxy"], "unknown run"),
        (["pos-random"], "name a judge"),
        (["pos-random", "--judge", "proxy", "--llm", "x"], "leave out --llm"),
        (["pos-random", "--judge", "llm"], "name one with --llm"),
        (["pos-random", "--llm", "x"], "needs --llm-config"),
        (["pos-random", "--judge", "proxy", "--set", "histori=3"], "Did you mean 'history'"),
        (["pos-random", "--judge", "proxy", "--set", "history=0"], "history"),
        (["pos-random", "--judge", "proxy", "--limit", "0"], "limit"),
    ],
)
def test_bad_input_gets_one_line(results, call, arguments, said):
    code, out, err = call("judge", *arguments, "--out", results)
    *before, line = err.splitlines()
    assert code == 2 and not out and line.startswith("error: ") and said in line, err
    assert not any("error" in each for each in before)
    assert not list((results / "runs").glob("*/judgements"))


def test_a_run_that_is_not_finished_is_refused(own, call):
    folder = next((own / "runs").glob("pos-random-*"))
    path = folder / "journal.jsonl"
    path.write_text("".join(line + "\n" for line in path.read_text().splitlines() if '"record":"end"' not in line))
    code, _, err = call("judge", "pos-random", "--judge", "proxy", "--out", own)
    assert code == 2 and "not finished" in err


def test_judges_are_listed_and_shown(call):
    code, out, _ = call("list", "judges")
    assert code == 0 and re.search(r"proxy +NOT a language model", out) and "llm" in out
    assert "1 is the worst and 10 the best list" in call("show", "judges/proxy")[1]


def test_the_proxy_orders_systems_as_they_heed_the_request(own, call, mini):
    """Lists of items with the label that was asked for fulfil the intent better than others do."""
    plain = json.loads(call("judge", "pos-random", "--judge", "proxy", "--out", own, "--json")[1])
    folder = own / "runs" / plain["run"]
    requests = open_case(folder, None, None, SilentProgress()).examples.requests
    asked = zip(requests.prompts, (set(requests.history[row].tolist()) for row in range(40)), strict=True)
    names = [
        ", ".join(mini.catalogue.label_names[label] for label in labels)
        for labels in map(mini.catalogue.labels.__getitem__, range(len(mini.catalogue)))
    ]
    fitting = [
        [v for v in range(len(names)) if relevant(names[v], prompt) and v not in seen][:10] for prompt, seen in asked
    ]
    relist(folder, lambda items: fitting)
    heeding = json.loads(call("judge", "pos-random", "--judge", "proxy", "--out", own, "--json")[1])
    assert heeding["metrics"]["intent_fulfillment"]["low"] > plain["metrics"]["intent_fulfillment"]["high"] + 1


def test_nuanced_requests_are_judged(tmp_path, call):
    bench.run(task="nuanced", model="popularity", dataset="mini", out=tmp_path)
    code, out, err = call("judge", "nuanced-popularity", "--judge", "proxy", "--out", tmp_path, "--json")
    result = json.loads(out)
    assert code == 0 and result["condition"] == "free" and result["judge"]["verdicts"] == result["examples"] > 0, err

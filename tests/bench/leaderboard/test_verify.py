"""`bench leaderboard verify`: nothing that was changed by hand, limited or mixed passes."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.cli.main import main
from bench.contracts import ASPECTS
from bench.leaderboard.check_board import verify_board
from bench.leaderboard.verify import verify_run
from bench.results import read_result, write_result


def change_rankings(folder, change):
    path = folder / "rankings.parquet"
    table = pq.read_table(path)
    items = table["items"].to_pylist()
    change(items)
    column = pa.array(items, pa.list_(pa.int32()))
    pq.write_table(table.set_column(table.column_names.index("items"), "items", column), path)


def forget_rankings(folder):
    """As a run of an older version, whose journal says nothing of the file."""
    path = folder / "journal.jsonl"
    lines = path.read_text().splitlines()
    end = json.loads(lines[-1])
    del end["rankings_sha256"]
    path.write_text("\n".join([*lines[:-1], json.dumps(end)]) + "\n")


def change_journal(folder, **about):
    path = folder / "journal.jsonl"
    lines = path.read_text().splitlines()
    start = json.loads(lines[0])
    start["about"] |= about
    path.write_text("\n".join([json.dumps(start), *lines[1:]]) + "\n")


@pytest.mark.parametrize("model", ["plain", "reader", "knower", "careless"])
def test_an_honest_run_passes_and_nothing_is_written(go, data, model):
    run = go(model)
    before = {path: path.read_bytes() for path in run.directory.iterdir()}
    assert verify_run(run.directory, data) == []
    assert {path: path.read_bytes() for path in run.directory.iterdir()} == before


def test_a_tampered_ranking_is_found(go, data, copy):
    run = go("plain")

    folder = copy(run)
    change_rankings(folder, lambda items: items[0].reverse())
    told = verify_run(folder, data)
    assert any("not the file that the run wrote" in line for line in told)

    shutil.rmtree(folder)
    folder = copy(run)
    change_rankings(folder, lambda items: [row.reverse() for row in items])
    forget_rankings(folder)
    told = verify_run(folder, data)
    assert any("metrics: ndcg@10 value" in line for line in told) and not any("SHA-256" in line for line in told)

    shutil.rmtree(folder)
    folder = copy(run)
    change_rankings(folder, lambda items: [row.__setitem__(1, row[0]) for row in items])
    assert any("repeat an item" in line for line in verify_run(folder, data))

    shutil.rmtree(folder)
    folder = copy(run)
    change_rankings(folder, lambda items: items[0].__setitem__(0, 10_000))
    assert any("no item of the catalogue" in line for line in verify_run(folder, data))


def test_an_item_that_the_user_has_seen_is_found(go, data, copy):
    from bench import scoring

    run = go("plain")
    asked = scoring.reopen(run.directory, None, data.progress)
    folder = copy(run)
    change_rankings(folder, lambda items: items[0].__setitem__(0, int(asked.examples.requests.history[0][0])))
    assert any("an item that the user has seen" in line for line in verify_run(folder, data))


@pytest.mark.parametrize(
    ("keys", "value", "told"),
    [
        ("metrics/ndcg@10/value", 0.99, "metrics: ndcg@10 value is 0.99, computed again"),
        ("metrics/ndcg@10/high", 0.99, "ndcg@10 high is 0.99"),
        ("per_window/1/ndcg@10/value", 0.99, "N=1: ndcg@10 value is 0.99"),
        ("metrics/ndcg@10/failed", 1, "ndcg@10 failed is 1, computed again 8"),
        (
            "metrics/invented",
            {"value": 1, "low": 1, "high": 1, "n": 1, "failed": 0},
            "invented is no metric of the task",
        ),
        ("router/accuracy", 1.0, "router is not what the rankings say"),
        ("health/seen", 3, "health is not what the rankings say"),
        ("protocol", "strict", "protocol is 'strict', the journal says 'paper'"),
        ("condition", "tag", "condition is 'tag', the journal says 'genre'"),
        ("dataset_fingerprint", "0" * 64, "dataset_fingerprint is"),
        ("model", "famous", "model is 'famous', the journal says 'reader'"),
        ("seed", 3, "seed is 3"),
        ("timing/rank_seconds", 0.0001, "timing: rank_seconds is 0.0001, by the journal it is"),
        ("timing/request_p50_s", 1e-9, "timing: request_p50_s is 1e-09, by the journal it is"),
        ("cost/price", 0.5, "cost: price is 0.5, by the journal it is"),
        ("parameters", 1, "parameters are 1, by the journal 0"),
        ("source", "submitted", "source is 'submitted'"),
    ],
)
def test_a_changed_result_is_found(go, data, copy, edit, keys, value, told):
    folder = copy(go("reader"))
    edit(folder / "metrics.json", keys, value)
    assert any(told in line for line in verify_run(folder, data)), verify_run(folder, data)


@pytest.mark.parametrize(
    ("about", "told"),
    [
        ({"task_version": 7}, "task 'ask' has version 1, the run in"),
        ({"dataset_fingerprint": "0" * 64}, "has fingerprint ffff"),
        ({"targets_digest": "0" * 64}, "asks other questions"),
        ({"protocol": "strict"}, "protocol is 'strict', the task's settings say 'paper'"),
        ({"condition": "tag"}, "condition is 'tag', the task's settings"),
        ({"information": "prompt"}, "the card of plain says 'none'"),
        ({"prompts_digest": "0" * 64}, "the prompts are not those"),
    ],
)
def test_changing_journal_and_result_alike_is_found_all_the_same(go, data, copy, about, told):
    folder = copy(go("plain"))
    change_journal(folder, **about)
    result = read_result(folder / "metrics.json")
    write_result(folder / "metrics.json", result.model_copy(update=about))
    assert any(told in line for line in verify_run(folder, data)), verify_run(folder, data)


def test_a_limited_run_is_refused(go, data):
    assert any("limited to 5 users" in line for line in verify_run(go("plain", limit=5).directory, data))


def test_scores_that_are_not_those_of_the_rankings_are_found(go, data, copy):
    folder = copy(go("plain"))
    path = folder / "scores.parquet"
    table = pq.read_table(path)
    place = table.column_names.index("ndcg@10")
    pq.write_table(table.set_column(place, "ndcg@10", pa.array(np.ones(table.num_rows))), path)
    assert any("scores.parquet: ndcg@10" in line for line in verify_run(folder, data))


def judged(run, name="strict-0", **changes):
    """A judgement as `bench judge` leaves it."""
    from bench.rankings import read_scores
    from bench.results import MetricValue
    from bench.statistics import summarise

    folder = run.directory / "judgements" / name
    folder.mkdir(parents=True)
    table = pq.read_table(run.directory / "scores.parquet").select(["example", "user", "window", "failed"])
    draws = np.random.default_rng(len(run.result.run)).integers(1, 10, (len(ASPECTS), table.num_rows)).astype(float)
    for aspect, column in zip(ASPECTS, draws, strict=True):
        table = table.append_column(aspect, pa.array(column))
    pq.write_table(table, folder / "scores.parquet")
    scores, users, windows, failed = read_scores(folder / "scores.parquet")
    summary = summarise(scores, users, windows, np.asarray(failed, bool), run.result.seed)

    def values(row):
        return {key: MetricValue.of(estimate) for key, estimate in row.items()}

    judge = {"name": "strict", "identity": "i" * 8, "is_llm": False, "verdicts": len(users), "failures": {}}
    update = {
        "metrics": values(summary.headline),
        "per_window": {str(n): values(row) for n, row in summary.per_window.items()},
        "judge": judge,
    }
    write_result(folder / "metrics.json", run.result.model_copy(update=update | changes))
    return folder


def test_judgements_have_rows_and_groups_of_their_own_and_are_checked(go, build, data, edit, out):
    runs = [go("plain"), go("reader")]
    folders = [judged(run) for run in runs]
    other = judged(runs[0], "kind-0", judge={"name": "kind", "identity": "j" * 8})
    short = judged(runs[1], "kind-9", limit=3)
    done = build()
    groups = {(group.judge, group.metric): group for group in done.board.groups}
    assert set(groups) == {(None, "ndcg@10"), ("strict", "overall_score"), ("kind", "overall_score")}
    assert len(groups["strict", "overall_score"].places) == 2 and len(groups["kind", "overall_score"].places) == 1
    assert any("kind-9: limited to 3 users" in line for line in done.left_out)
    shutil.rmtree(short)
    assert verify_board(out / "leaderboard.json", data).problems == []
    assert [verify_run(run.directory, data) for run in runs] == [[], []]
    edit(folders[0] / "metrics.json", "metrics/overall_score/value", 9.5)
    edit(other / "metrics.json", "condition", "tag")
    told = verify_run(runs[0].directory, data)
    assert any("judgements/strict-0: metrics: overall_score value is 9.5" in line for line in told)
    assert any("judgements/kind-0: condition is 'tag', of the run it is 'genre'" in line for line in told)


@pytest.fixture
def board(go, build, out):
    go("plain"), go("reader"), go("knower", "follow")
    build()
    return out / "leaderboard.json"


def test_a_board_as_it_was_built_passes(board, data):
    verdict = verify_board(board, data)
    assert (verdict.problems, verdict.recomputed, verdict.not_recomputed) == ([], 3, [])
    shutil.rmtree(board.parent / "runs")
    verdict = verify_board(board, data)
    assert verdict.problems == [] and verdict.recomputed == 0 and len(verdict.not_recomputed) == 3


def rewritten(board, change):
    from bench.leaderboard.rows import read_board, write_board

    values = json.loads(board.read_text())
    change(values)
    board.write_text(json.dumps(values))
    write_board(board, read_board(board))


def row_of(values, **wanted):
    return next(row for row in values["rows"] if all(row[key] == value for key, value in wanted.items()))


CHANGES = [
    (lambda v: row_of(v, model="plain")["metrics"]["ndcg@10"].update(value=0.9), "outside its interval"),
    (
        lambda v: row_of(v, model="plain")["metrics"]["ndcg@10"].update(n=1),
        "metrics.ndcg@10.n is 1, it should be 80",
    ),
    (lambda v: row_of(v, model="plain").update(condition="tag"), "mixes in row"),
    (lambda v: row_of(v, model="plain").update(dataset_fingerprint="0" * 64), "mixes in row"),
    (lambda v: row_of(v, model="plain").update(seed=9), "seed is 9, it should be 0"),
    (lambda v: row_of(v, model="plain").update(parameters=7), "parameters is 7, it should be 0"),
    (
        lambda v: row_of(v, model="plain")["training"].update(seconds=9e9),
        "training.seconds is 9000000000.0, it should be",
    ),
    (lambda v: row_of(v, model="plain")["latency"].update(p50_ms=1e-6), "latency.p50_ms is 1e-06, it should be"),
    (lambda v: row_of(v, model="plain").update(judge={"name": "x", "identity": "y"}), "mixes in row"),
    (
        lambda v: row_of(v, source="published")["metrics"]["ndcg@10"].update(value=0.9),
        "ndcg@10.value is 0.9, it should",
    ),
    (lambda v: v["rows"].remove(row_of(v, source="published")), "is missing"),
    (lambda v: row_of(v, model="plain").update(source="published"), "is not in the paper"),
    (lambda v: v["rows"].reverse(), "rows are not in their order"),
    (lambda v: v["rows"].append(v["rows"][0]), "stands there 2 times"),
    (lambda v: v["groups"][0]["places"][0].update(rank=2), "ranks"),
    (lambda v: v["groups"][0]["places"][0].update(value=0.9), "has 0.9, its rows"),
    (lambda v: v["groups"][0]["places"][1]["against_best"].update(p_holm=0.5), "ranks or tests are not those"),
    (lambda v: v["groups"].pop(), "stands in 0 groups, not in 1"),
]


def test_a_changed_board_is_found(board, data):
    honest = board.read_bytes()
    for number, (change, told) in enumerate(CHANGES):
        rewritten(board, change)
        problems = verify_board(board, data).problems
        assert any(told in line for line in problems), (number, told, problems)
        board.write_bytes(honest)


def test_a_board_written_by_something_else_is_found(board, data):
    board.write_text(json.dumps(json.loads(board.read_text())))
    assert verify_board(board, data).problems == [
        "the file is not as `bench leaderboard build` writes it (order of keys or numbers)"
    ]


def test_exit_codes_and_one_line_each(board, go, capsys):
    out = str(board.parent)
    assert main(["leaderboard", "verify", "--out", out]) == 0
    assert "every number that could be computed again matches" in capsys.readouterr().out
    folder = next((board.parent / "runs").glob("ask-plain-*"))
    assert main(["leaderboard", "verify", folder.name, "--out", out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "target": folder.name,
        "passed": True,
        "problems": [],
        "recomputed": 1,
        "not_recomputed": [],
    }
    change_rankings(folder, lambda items: items[0].reverse())
    assert main(["leaderboard", "verify", str(folder)]) == 1
    assert "problem:" in capsys.readouterr().out
    for absent in ("nothing.json", "nothing.tar.gz", "nothing"):
        assert main(["leaderboard", "verify", absent, "--out", out]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert main(["leaderboard", "build", "--out", out, "--examples", "tinny"]) == 2
    assert "Did you mean 'tiny'" in capsys.readouterr().err

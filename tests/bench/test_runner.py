import json
import random
import time

import numpy as np
import pyarrow.parquet as pq
import pytest

import bench
from bench import journal, provenance, ranking_pass, runs, scoring
from bench.comparison import compare_runs
from bench.errors import CheckError, InputError
from bench.identity import canonical_json, prompts_digest, run_identity
from bench.progress import SilentProgress
from bench.rankings import read_rankings, read_scores


@pytest.fixture
def go(plugins, tmp_path):
    def run(model="plain", task="ask", **options):
        return bench.run(task=task, model=model, dataset="tiny", out=tmp_path / "out", **{"batch_size": 7} | options)

    return run


def test_a_run_leaves_what_a_stranger_can_check(go):
    done = go()
    assert {path.name for path in done.directory.iterdir()} == {
        "journal.jsonl",
        "metrics.json",
        "rankings.parquet",
        "run.lock",
        "scores.parquet",
    }
    history = journal.read(done.directory / "journal.jsonl")
    kinds = [record["record"] for record in history.records]
    assert kinds == ["start", "fitted", *["batch"] * 12, "end"]
    assert [(b["start"], b["stop"]) for b in history.batches][-1] == (77, 80)
    table = pq.read_table(done.directory / "rankings.parquet")
    assert table.column_names == ["example", "user", "window", "items", "scores", "failed"]
    assert table.num_rows == 80 == done.result.examples
    result = done.result
    assert (result.condition, result.protocol, result.encoder) == ("genre", "paper", "no-encoder")
    assert set(result.per_window) == {"1", "2"} and result.settings["task"]["windows"] == [1, 2]
    assert result.metrics["ndcg@10"].n == 80 and result.metrics["violation@10"].n == 40
    # Twenty places of thirty items: where more than ten are seen (three users of four), places stay empty.
    assert result.health.short == 60 and result.health.seen == 0
    assert result.provenance["packages"]["numpy"] == np.__version__


def test_the_same_command_shows_a_finished_run_without_a_model(go, plugins, monkeypatch):
    first = go()
    monkeypatch.setattr(plugins.Plain, "load", lambda *_: 1 / 0)
    monkeypatch.setattr(plugins.Plain, "fit", lambda *_: 1 / 0)
    assert go().result == first.result
    assert go(batch_size=3, device="cpu").result == first.result


def test_a_failing_batch_keeps_the_work_and_the_same_command_goes_on(go, plugins, tmp_path):
    with pytest.raises(CheckError, match="crashing failed on examples 14 to 20: RuntimeError: out of luck; batches"):
        go("crashing")
    folder = next((tmp_path / "out" / "runs").glob("ask-crashing-*"))
    assert len(journal.read(folder / "journal.jsonl").batches) == 2
    plugins.Crashing.users_that_work = 1000
    resumed = go("crashing", batch_size=5)
    plain = go("plain")
    assert [r["record"] for r in journal.read(folder / "journal.jsonl").records].count("resume") == 1
    assert resumed.metrics == plain.metrics
    assert np.array_equal(items(resumed), items(plain))


def items(run):
    return read_rankings(run.directory / "rankings.parquet", 20).items


def test_a_batch_whose_part_is_gone_is_ranked_again(go, plugins):
    with pytest.raises(CheckError):
        go("crashing")
    plugins.Crashing.users_that_work = 1000
    out = go().directory.parent
    folder = next(out.glob("ask-crashing-*"))
    (folder / "parts" / "part-0000000-0000007.parquet").write_bytes(b"PAR1 torn")
    mended = go("crashing", batch_size=5)
    assert np.array_equal(items(mended), items(go())) and mended.result.health == go().result.health


def test_what_a_model_is_told_follows_its_card(go):
    # The fakes assert inside rank() that they see no more than their card says.
    assert go("plain").result.condition == "genre"
    assert go("reader").result.information == "prompt"
    knower = go("knower").result
    assert (knower.condition, knower.information) == ("oracle", "oracle")
    assert knower.settings["task"]["prompt_kind"] == "genre"
    assert go("knower", "follow").result.condition == "none"


def test_failures_and_the_router_are_counted(go):
    result = go("reader").result
    assert result.metrics["ndcg@10"].failed == 8 and result.metrics["ndcg@10"].n == 80
    # One user's polarity is misread, in both windows, and it is a refusal.
    assert result.router.accuracy == 78 / 80 and result.router.n == 80
    assert result.router.by_polarity["negative"].accuracy == 38 / 40
    assert result.router.by_polarity["positive"].accuracy == 1
    assert go("plain").result.router is None


def test_careless_rankings_are_cleaned_and_counted(go):
    health = go("careless").result.health
    assert health.out_of_catalogue == 80 and health.duplicate > 0 and health.seen > 0


def test_limit_draws_the_same_users_for_every_task_and_model(go):
    small = go(limit=5)
    scores, users, windows, _ = read_scores(small.directory / "scores.parquet")
    assert len(np.unique(users)) == 5 and len(users) == 10 and small.result.limit == 5
    _, others, _, _ = read_scores(go("knower", "follow", limit=5).directory / "scores.parquet")
    assert set(users) == set(others)
    whole_scores, whole_users, whole_windows, _ = read_scores(go().directory / "scores.parquet")
    chosen = np.isin(whole_users, users)
    assert np.array_equal(whole_scores.columns["ndcg@10"][chosen], scores.columns["ndcg@10"])
    assert np.array_equal(whole_windows[chosen], windows)


def test_score_needs_no_model_and_refuses_other_questions(go, plugins, monkeypatch):
    done = go()
    before = (done.directory / "metrics.json").read_text()
    (done.directory / "metrics.json").unlink()
    (done.directory / "scores.parquet").unlink()
    monkeypatch.setattr(plugins.Plain, "load", lambda *_: 1 / 0)
    again = scoring.rescore(done.directory, None, SilentProgress())
    assert again.result == done.result and (done.directory / "metrics.json").read_text() == before
    monkeypatch.setattr(plugins.Ask, "_window", lambda self, data, n: ([[0]] * 40, [0] * 40))
    with pytest.raises(InputError, match="other questions"):
        scoring.rescore(done.directory, None, SilentProgress())


def test_refit_trains_and_ranks_again(go, plugins):
    first = go()
    assert plugins.Plain.fits == 1
    again = go(refit=True)
    assert plugins.Plain.fits == 2 and again.directory == first.directory and again.metrics == first.metrics


def test_a_damaged_journal_is_mended_by_refit(go):
    done = go()
    path = done.directory / "journal.jsonl"
    path.write_bytes(b"garbage\n" + path.read_bytes())
    with pytest.raises(CheckError, match="line 1"):
        go()
    assert go(refit=True).metrics == done.metrics


def test_flags_that_a_task_does_not_take_are_refused(go):
    for flag, options in {"--prompt-kind": {"prompt_kind": "tag"}, "--window": {"windows": (3,)}}.items():
        with pytest.raises(InputError, match=f"takes no {flag}"):
            go("plain", "follow", **options)
    assert go("plain", "follow", protocol="strict").result.protocol == "strict"
    with pytest.raises(InputError, match="no language model"):
        go(llm="some")
    with pytest.raises(InputError, match="Did you mean 'prompt_kind'"):
        go(promptkind="tag")
    with pytest.raises(InputError, match="unknown setting of task ask"):
        go(settings={"task.window": "3"})
    assert go(settings={"task.prompt_kind": "tag"}).result.condition == "tag"


def test_identity_holds_what_changes_the_output_and_nothing_else(go):
    base = go().result.run
    for options in (
        {"seed": 1},
        {"limit": 3},
        {"protocol": "strict"},
        {"settings": {"strength": 2}},
        {"windows": (2,)},
    ):
        assert go(**options).result.run != base, options
    for options in ({"batch_size": 9}, {"device": "cpu"}, {"protocol": "paper"}, {"windows": (1, 2)}):
        assert go(**options).result.run == base, options
    same = {"task": {}, "model": {}, "dataset": {}, "protocol": "paper", "seed": 0, "limit": None, "depth": 20}
    assert run_identity(**same) != run_identity(**same | {"depth": 10})
    assert canonical_json({"b": 1, "a": [1.5, None]}) == '{"a":[1.5,null],"b":1}'
    assert prompts_digest(("ab", "c")) != prompts_digest(("a", "bc")) and prompts_digest(None) is None


@pytest.mark.parametrize(
    ("kept", "missing"),
    [
        ([], [(0, 4), (4, 8), (8, 10)]),
        ([(0, 10)], []),
        ([(2, 5)], [(0, 2), (5, 9), (9, 10)]),
        ([(6, 10), (0, 3), (1, 2)], [(3, 6)]),
    ],
)
def test_missing_spans(kept, missing):
    assert list(ranking_pass.missing_spans(10, kept, 4)) == missing


def test_results_beside_and_runs_by_name(go, tmp_path):
    plain, knower = go(), go("knower")
    go("plain", "follow")
    go(limit=3)
    out = tmp_path / "out"
    assert [other.run for other in runs.beside(out, plain.result)] == [knower.result.run]
    assert runs.find("ask-kn", out) == knower.directory == runs.find(str(knower.directory / "metrics.json"), out)
    with pytest.raises(InputError, match="beginning of 3 runs"):
        runs.find("ask-", out)
    with pytest.raises(InputError, match="unknown run"):
        runs.find("nothing", out)


def test_comparison_is_of_like_with_like(go):
    plain, knower = go(), go("knower")
    found = compare_runs([plain.directory, knower.directory], plain.directory, ["ndcg@10"])
    row = found.rows[0]
    assert (row.run, row.metric, row.n) == (knower.result.run, "ndcg@10", 80)
    assert row.difference == pytest.approx(knower.metrics["ndcg@10"].value - plain.metrics["ndcg@10"].value)
    assert row.low <= row.difference <= row.high and row.p == row.p_holm
    with pytest.raises(InputError, match=r"asked different questions .*limit None and 3"):
        compare_runs([plain.directory, go(limit=3).directory], plain.directory)
    with pytest.raises(InputError, match="unknown metric"):
        compare_runs([plain.directory, knower.directory], plain.directory, ["ndgc@10"])
    with pytest.raises(InputError, match="two different runs"):
        compare_runs([plain.directory, plain.directory], plain.directory)


def test_secrets_and_private_paths_stay_out_of_results():
    key = "sk-" + 12 * "x"
    command = ["/usr/bin/bench", "run", "--api-key", "hunter2", "--set", "hf_token=abc", "--set", "tokens=all", key]
    assert provenance.redact_argv(command) == [
        *(".../bench", "run", "--api-key", "[redacted]", "--set", "hf_token=[redacted]", "--set", "tokens=all"),
        "[redacted]",
    ]
    assert provenance.redact_value({"llm": {"api_key": "x", "url": "https://me:pw@host/v1"}, "max_tokens": 5}) == {
        "llm": {"api_key": "[redacted]", "url": "https://[redacted]@host/v1"},
        "max_tokens": 5,
    }


def test_git_state_is_none_outside_a_repository(tmp_path):
    assert provenance.git_state(tmp_path) == {"commit": None, "dirty": None}


@pytest.mark.slow
def test_killed_at_random_moments_a_run_ends_as_if_it_had_not_been(bench_command, tmp_path):
    arguments = ["run", "--task", "ask", "--model", "slow", "--dataset", "tiny", "--set", "run.batch_size=4"]
    arguments += ["--set", "delay=0.03", "--json", "--out"]
    whole = bench_command(*arguments, tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    draws = random.Random(7)
    kills = 0
    for batches in (0, 0, 3, 8, 13, 19):
        process = bench_command(*arguments, tmp_path / "killed", start=True)
        kills += kill_after(process, tmp_path / "killed", batches, draws.random() * 0.08)
    done = bench_command(*arguments, tmp_path / "killed")
    assert done.returncode == 0, done.stderr
    assert kills >= 4
    one, other = json.loads(whole.stdout), json.loads(done.stdout)
    for key in ("metrics", "per_window", "targets_digest", "prompts_digest", "health", "run"):
        assert one[key] == other[key]
    tables = [
        pq.read_table(next((tmp_path / side / "runs").glob("*/rankings.parquet"))) for side in ("whole", "killed")
    ]
    assert tables[0].equals(tables[1])
    history = journal.read(next((tmp_path / "killed" / "runs").glob("*/journal.jsonl")))
    spans = [(record["start"], record["stop"]) for record in history.batches]
    # At most the batch in flight was lost at each kill, and none that was recorded was ranked twice.
    assert len(spans) == len(set(spans)) == 20 and history.end is not None


def kill_after(process, out, batches, extra):
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        found = list((out / "runs").glob("*/journal.jsonl"))
        if batches == 0 and list((out / "models").glob("*")):
            break
        if batches and found and len(journal.read(found[0]).batches) >= batches:
            break
        time.sleep(0.002)
    time.sleep(extra)
    process.kill()
    process.wait()
    return process.returncode == -9

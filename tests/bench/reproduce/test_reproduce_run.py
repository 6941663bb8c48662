"""Planning, running and resuming a grid on the tiny plugin, and the command line."""

import json

import pytest

from bench.cli import main as cli
from bench.errors import InputError
from bench.progress import SilentProgress
from bench.reproduce import claims, grids, run
from bench.reproduce.grids import Grid, Row
from bench.reproduce.plan import Options, Planner
from bench.runs import JOURNAL, RUNS

ROWS = (
    Row("Base", "plain", "sasrec"),
    Row("Filter", "knower", "sasrec", "oracle", ("pos",), base="plain"),
    Row("DPR", "slow", "sasrec", "prompt"),
    Row("DPR strong", "slow", "sasrec", "prompt", settings={"strength": 3.0}),
    Row("Printed", None, "sasrec"),
)
ABSENT = Row("+f", "plain_f", "sasrec")
UNSETTABLE = Row("DPR-Rand", "plain", "sasrec", settings={"prompt": "mismatched"})
FAILING = Row("Crash", "crashing", "sasrec")
FILES = ("table.md", "table.csv", "table.json", "figure.svg")


def grid(*rows, windows="mean"):
    return Grid("tiny1", "Tiny", {}, rows or ROWS, ("seq", "pos"), ("ndcg@10", "recall@10"), windows)


def options(out, **values):
    return Options("tiny", out=out, batch_size=16, **values)


def reproduce(made, out, **values):
    return run.reproduce(made, options(out, **values), SilentProgress())


def folder(out):
    return out / "reproduce" / "tiny1-tiny"


def contents(out):
    return {name: (folder(out) / name).read_bytes() for name in FILES}


def test_prompt_readers_are_asked_in_every_condition_and_others_once(plugins, tmp_path):
    cells = Planner(options(tmp_path), SilentProgress()).grid(grid())
    asked = {}
    for cell in cells:
        asked.setdefault((cell.row.label, cell.task), []).append(cell.condition)
    assert asked["Base", "pos"] == asked["Base", "seq"] == ["none"]
    assert asked["Filter", "pos"] == ["oracle"] and ("Filter", "seq") not in asked
    assert asked["DPR", "seq"] == ["none"] and asked["DPR", "pos"] == ["genre", "genres", "tag"]
    assert not any(label == "Printed" for label, _ in asked)
    kinds = [cell.plan.task_settings.prompt_kind for cell in cells if (cell.row.label, cell.task) == ("DPR", "pos")]
    assert kinds == ["genre", "genres", "tag"]
    assert all(cell.plan.protocol == "paper" and cell.status == "new" for cell in cells)


def test_seeds_multiply_the_grid_and_training_that_runs_share_is_counted_once(plugins, tmp_path):
    cells = Planner(options(tmp_path, seeds=(0, 1)), SilentProgress()).grid(grid())
    assert len(cells) == 2 * (2 + 1 + 4 + 4)
    mine = [cell.fit.source for cell in cells if cell.row.label == "DPR" and cell.seed == 1]
    assert mine == ["default", "shared", "shared", "shared"]
    knower = next(cell for cell in cells if cell.row.label == "Filter")
    assert knower.fit.source == "default" and all(cell.rank.seconds > 0 for cell in cells)


def test_what_a_model_stands_on_is_counted_with_it_once(plugins, tmp_path):
    rows = (Row("+f+a", "reader", base="stacked"), Row("+f", "stacked", base="plain"), Row("Base", "plain"))
    planner = Planner(options(tmp_path, only=("reader",)), SilentProgress())
    alone = planner.grid(grid(*rows))[0].fit.seconds
    whole = Planner(options(tmp_path), SilentProgress()).grid(grid(*rows))
    assert whole[0].fit.seconds == alone
    assert {cell.fit.source for cell in whole[1:]} == {"shared"}
    each = Planner(options(tmp_path, only=("plain",)), SilentProgress()).grid(grid(*rows))[0].fit.seconds
    assert alone == pytest.approx(3 * each)


def test_what_is_not_there_is_planned_as_not_available(plugins, tmp_path):
    cells = Planner(options(tmp_path), SilentProgress()).grid(grid(ABSENT, UNSETTABLE, ROWS[0]))
    status = {(cell.row.label, cell.task): (cell.status, cell.reason) for cell in cells}
    assert status["+f", "pos"] == ("not available", "no such model is registered")
    assert status["DPR-Rand", "seq"][0] == "not available" and "prompt" in status["DPR-Rand", "seq"][1]
    assert status["Base", "seq"][0] == "new"
    assert sum(cell.seconds for cell in cells if cell.status == "not available") == 0


def test_a_model_that_does_not_load_is_a_failure_and_not_the_end(plugins, tmp_path):
    done = reproduce(grid(Row("Broken", "missing"), ROWS[0]), tmp_path)
    assert len(done.failures) == 2 and all("does not load" in reason for reason in done.failures.values())
    assert {entry.state for entry in done.report.entries if entry.row.label == "Base"} == {"measured"}


def test_a_grid_is_run_once_and_read_back_after(plugins, tmp_path):
    first = reproduce(grid(), tmp_path)
    before, fits = contents(tmp_path), plugins.Plain.fits
    assert not first.failures and fits > 0
    plan = Planner(options(tmp_path), SilentProgress()).grid(grid())
    assert {cell.status for cell in plan} == {"done"} and sum(cell.seconds for cell in plan) == 0
    reproduce(grid(), tmp_path)
    assert contents(tmp_path) == before and plugins.Plain.fits == fits


def test_measured_seconds_replace_the_defaults(plugins, tmp_path):
    reproduce(grid(), tmp_path, only=("plain",))
    cells = Planner(options(tmp_path, seeds=(1,)), SilentProgress()).grid(grid())
    plain = next(cell for cell in cells if cell.row.label == "Base")
    assert (plain.fit.source, plain.rank.source) == ("measured", "measured")
    assert next(cell for cell in cells if cell.row.label == "DPR").fit.source == "default"


def test_the_table_has_what_the_runs_say(plugins, tmp_path):
    done = reproduce(grid(), tmp_path)
    document = json.loads((folder(tmp_path) / "table.json").read_text())
    cell = next(c for c in document["cells"] if (c["row"], c["task"], c["metric"]) == ("Base", "pos", "ndcg@10"))
    result = json.loads((tmp_path / RUNS / cell["runs"][0] / "metrics.json").read_text())
    own = result["metrics"]["ndcg@10"]
    assert {name: cell["measured"][name] for name in own} == own and cell["measured"]["sd"] is None
    assert result["model"] == "plain" and result["task"] == "pos" and result["protocol"] == "paper"
    assert {verdict.answer for verdict in done.report.verdicts} == {"not decidable"}


def test_each_window_has_a_part_of_its_own(plugins, tmp_path):
    reproduce(grid(windows="each"), tmp_path, only=("plain",))
    document = json.loads((folder(tmp_path) / "table.json").read_text())
    mine = {
        c["window"]: c for c in document["cells"] if (c["row"], c["task"], c["metric"]) == ("Base", "pos", "ndcg@10")
    }
    assert set(mine) == {1, 2}
    result = json.loads((tmp_path / RUNS / mine[2]["runs"][0] / "metrics.json").read_text())
    assert mine[2]["measured"]["value"] == result["per_window"]["2"]["ndcg@10"]["value"]


def test_seeds_are_averaged_and_their_spread_is_told(plugins, tmp_path):
    reproduce(grid(*ROWS[:1]), tmp_path, seeds=(0, 1, 2))
    document = json.loads((folder(tmp_path) / "table.json").read_text())
    cell = next(c for c in document["cells"] if (c["task"], c["metric"]) == ("pos", "ndcg@10"))
    each = [
        json.loads((tmp_path / RUNS / name / "metrics.json").read_text())["metrics"]["ndcg@10"]["value"]
        for name in cell["runs"]
    ]
    measured = cell["measured"]
    assert measured["seeds"] == [0, 1, 2] and measured["n"] == 3 * 80
    assert measured["value"] == pytest.approx(sum(each) / 3)
    mean = sum(each) / 3
    assert measured["sd"] == pytest.approx((sum((x - mean) ** 2 for x in each) / 2) ** 0.5)
    assert measured["low"] < measured["value"] < measured["high"]


def test_an_interrupted_table_goes_on_to_the_same_bytes(plugins, tmp_path):
    reproduce(grid(), tmp_path / "whole")
    plugins.Slow.trained = ()
    plugins.Slow.interrupt_at = 1
    with pytest.raises(KeyboardInterrupt):
        reproduce(grid(), tmp_path / "cut")
    assert not folder(tmp_path / "cut").exists()
    done = [cell.status for cell in Planner(options(tmp_path / "cut"), SilentProgress()).grid(grid())]
    # The first row's two runs and the Filter's one were finished; the one that was training had begun.
    assert done == ["done"] * 3 + ["begun"] + ["new"] * 7
    reproduce(grid(), tmp_path / "cut")
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    # Epoch 0 of the interrupted training was not trained again.
    assert plugins.Slow.trained[:3] == (0, 1, 2)


def test_a_run_that_was_cut_in_the_middle_of_ranking_goes_on(plugins, tmp_path):
    plugins.Crashing.users_that_work = 10_000
    reproduce(grid(FAILING), tmp_path / "whole")
    plugins.Crashing.users_that_work = 20
    failed = reproduce(grid(FAILING), tmp_path / "cut")
    assert len(failed.failures) == 2 and all("out of luck" in reason for reason in failed.failures.values())
    begun = Planner(options(tmp_path / "cut"), SilentProgress()).grid(grid(FAILING))
    assert {cell.status for cell in begun} == {"begun"}
    plugins.Crashing.users_that_work = 10_000
    reproduce(grid(FAILING), tmp_path / "cut")
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_a_failure_is_reported_and_the_rest_goes_on(plugins, tmp_path):
    done = reproduce(grid(FAILING, ROWS[0]), tmp_path)
    assert len(done.failures) == 2
    states = {(entry.row.label, entry.state) for entry in done.report.entries}
    assert states == {("Crash", "failed"), ("Base", "measured")}
    text = (folder(tmp_path) / "table.md").read_text()
    assert "out of luck" in text.split("## Missing")[1]


def test_only_limits_what_is_run_and_not_what_is_shown(plugins, tmp_path):
    reproduce(grid(), tmp_path, only=("plain",))
    done = reproduce(grid(), tmp_path, only=("knower",))
    state = {entry.row.label: entry.state for entry in done.report.entries if entry.task == "pos"}
    assert state["Base"] == state["Filter"] == "measured" and state["DPR"] == "not run"


def test_settings_of_a_model_reach_its_rows_alone(plugins, tmp_path):
    made = options(tmp_path, overrides={"slow": {"epochs": "1"}})
    cells = Planner(made, SilentProgress()).grid(grid())
    values = {cell.row.label: cell.plan.model_settings for cell in cells}
    assert values["DPR"].epochs == 1 and values["DPR strong"].strength == 3.0 and not hasattr(values["Base"], "epochs")


def test_claims_are_decided_from_the_runs(plugins, tmp_path, monkeypatch):
    asked = [
        claims.Comparison("e", "sasrec", "pos", "genre", ROWS[1], (ROWS[0],)),
        claims.Comparison("e", "sasrec", "pos", "tag", ROWS[2], (ROWS[1],)),
        claims.Comparison("f", "sasrec", "seq", "none", ROWS[0], (ABSENT,)),
    ]
    monkeypatch.setattr(claims, "comparisons", lambda dataset: asked)
    better, worse, lacking = reproduce(grid(), tmp_path).report.verdicts
    assert (better.rival, better.n) == ("plain", 80) and better.p is not None
    assert better.difference == pytest.approx(better.value - better.rival_value)
    assert worse.difference == pytest.approx(worse.value - worse.rival_value)
    assert lacking.reason == "no finished run of plain_f"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seeds": (0, 0)}, "different numbers"),
        ({"seeds": (-1,)}, "at least 0"),
        ({"limit": 0}, "--limit"),
        ({"only": ("plian",)}, "Did you mean 'plain'"),
        ({"overrides": {"plain": {"strenght": "2"}}}, "Did you mean 'strength'"),
        ({"overrides": {"plian": {"strength": "2"}}}, "Did you mean 'plain'"),
    ],
)
def test_wrong_options_are_one_clear_error(plugins, tmp_path, values, message):
    with pytest.raises(InputError, match=message):
        reproduce(grid(), tmp_path, **values)


@pytest.fixture
def call(plugins, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(grids.GRIDS, "tiny1", grid())
    monkeypatch.setitem(grids.GRIDS, "failing", Grid("failing", "Fails", {}, (FAILING, ROWS[0]), ("seq",)))

    def command(*arguments):
        code = cli.main(["reproduce", *map(str, arguments)])
        seen = capsys.readouterr()
        return code, seen.out, seen.err

    return command


def test_an_unknown_table_gets_a_suggestion(call):
    code, out, err = call("tabel1")
    assert code == 2 and not out and "Did you mean 'table1'" in err and len(err.splitlines()) == 1


def test_the_plan_trains_and_writes_nothing(call, plugins, tmp_path):
    code, out, _ = call("tiny1", "--dataset", "tiny", "--plan")
    assert code == 0 and "11 runs: 0 done, 0 begun, 11 to begin, 0 not available" in out
    assert "slow strength=3.0" in out and plugins.Plain.fits == 0
    assert not (tmp_path / "results").exists()


def test_the_plan_as_json(call):
    code, out, _ = call("tiny1", "--dataset", "tiny", "--plan", "--json", "--only", "plain")
    plan = json.loads(out)
    assert code == 0 and len(plan["cells"]) == 2 and plan["seconds"] > 0
    assert {cell["status"] for cell in plan["cells"]} == {"new"}


def test_the_table_alone_is_on_stdout_with_json(call, tmp_path):
    code, out, _ = call("tiny1", "--dataset", "tiny", "--json")
    assert code == 0 and json.loads(out) == json.loads(
        (tmp_path / "results/reproduce/tiny1-tiny/table.json").read_text()
    )


def test_the_markdown_is_printed_and_written(call, tmp_path):
    code, out, _ = call("tiny1", "--dataset", "tiny", "--only", "plain", "--seeds", "0,1")
    text = (tmp_path / "results/reproduce/tiny1-tiny/table.md").read_text()
    assert code == 0 and text in out and "wrote" in out


def test_a_failed_cell_gives_exit_code_1_after_the_table(call, tmp_path):
    code, out, _ = call("failing", "--dataset", "tiny", "--batch-size", "16")
    assert code == 1 and "failed: crashing on seq, seed 0" in out
    assert (tmp_path / "results/reproduce/failing-tiny/table.json").is_file()
    assert list((tmp_path / "results" / RUNS).glob(f"seq-crashing-*/{JOURNAL}"))


@pytest.mark.parametrize(
    "arguments",
    [
        ("--set", "strength=2"),
        ("--seeds", "0,x"),
        ("--only", "nobody"),
        ("--dataset", "tinny"),
        ("--set", "slow.epochs"),
    ],
)
def test_wrong_input_exits_with_2_and_one_line(call, arguments):
    code, out, err = (
        call("tiny1", "--dataset", "tiny", *arguments) if "--dataset" not in arguments else call("tiny1", *arguments)
    )
    assert code == 2 and not out and len(err.strip().splitlines()) == 1


def test_a_table_of_published_values_needs_no_run(call, monkeypatch, plugins):
    monkeypatch.setitem(grids.GRIDS, "tiny1", Grid("tiny1", "Judged", {}, (ROWS[4],), ("pos",)))
    code, out, _ = call("tiny1", "--dataset", "tiny")
    assert code == 0 and plugins.Plain.fits == 0 and "claims" not in out


def test_the_embedded_dataset_with_the_models_that_train_at_once(tmp_path, capsys, monkeypatch):
    rows = (Row("Popularity", "popularity"), Row("Random", "random"))
    monkeypatch.setitem(grids.GRIDS, "tiny1", Grid("tiny1", "Floors", {}, rows))
    code = cli.main(["reproduce", "tiny1", "--dataset", "mini", "--limit", "800", "--out", str(tmp_path), "--json"])
    document = json.loads(capsys.readouterr().out)
    values = {(c["row"], c["task"]): c["measured"]["value"] for c in document["cells"] if c["metric"] == "recall@20"}
    assert code == 0 and document["limit"] == 800 and len(values) == 6
    assert all(values["Popularity", task] > values["Random", task] for task in ("seq", "neg"))
    assert (tmp_path / "reproduce" / "tiny1-mini-800-users" / "figure.svg").is_file()


def test_refusals_have_the_same_prompts_in_tag_as_in_genres():
    """Why NEG is asked in two conditions only."""
    from bench import registry, scoring
    from bench.identity import prompts_digest

    dataset = scoring.load_dataset("mini", None, SilentProgress())
    negative = registry.get("tasks", "neg")
    asked = [
        negative(negative.Settings(protocol="paper", prompt_kind=kind)).examples(dataset, split="test", seed=0)
        for kind in ("genre", "genres", "tag")
    ]
    digests = [prompts_digest(examples.requests.prompts) for examples in asked]
    assert digests[1] == digests[2] != digests[0]


def test_durations_are_said_as_people_do():
    assert [run.duration(seconds) for seconds in (12.4, 600, 9000)] == ["12 s", "10 min", "2.5 h"]

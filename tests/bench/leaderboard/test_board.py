"""From runs to `leaderboard.json`: what stands there, in which order, and what happens when two write or one dies."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading

import jsonschema
import pytest

import bench
from bench import registry, results, workers
from bench.errors import InputError
from bench.journal import Journal
from bench.leaderboard import rows, update
from bench.leaderboard.check_board import verify_board
from bench.leaderboard.entries import read_probes, result_row, with_variants
from bench.leaderboard.paper import published_rows
from bench.leaderboard.rows import write_board
from bench.locks import file_lock
from bench.progress import SilentProgress
from bench.reproduce.published import cells


def test_the_kept_schema_is_current():
    assert rows.SCHEMA_FILE.read_text("utf-8") == rows.schema(), (
        "write bench.leaderboard.rows.schema() to bench/schemas/leaderboard.schema.json"
    )


def test_a_board_holds_runs_and_the_paper_and_fits_its_schema(go, build, out):
    runs = [go("plain"), go("reader"), go("knower"), go("plain", "follow")]
    done = build()
    values = json.loads((out / "leaderboard.json").read_text("utf-8"))
    jsonschema.validate(values, json.loads(rows.SCHEMA_FILE.read_text("utf-8")))
    board = bench.load_leaderboard(out)
    assert board == done.board and values["schema_version"] == 1
    measured = {row.id: row for row in board.rows if row.source == "measured"}
    assert set(measured) == {run.result.run for run in runs}
    row = measured[runs[0].result.run]
    assert row.metrics["ndcg@10"].value == runs[0].metrics["ndcg@10"].value
    assert set(row.per_window) == {"1", "2"} and row.windows == [1, 2] and row.condition == "genre"
    assert (row.cost.price, row.llm, row.published, row.submission) == (0.0, None, None, None)
    assert row.latency.of == "request" and 0 <= row.latency.p50_ms <= row.latency.p95_ms
    assert row.parameters == 0 and row.training.seconds >= 0 and row.provenance.version
    assert sum(row.source == "published" for row in board.rows) == len(published_rows())


def test_the_same_runs_give_the_same_bytes_and_a_new_run_adds_lines(go, build, out):
    go("plain"), go("reader")
    build()
    first = (out / "leaderboard.json").read_bytes()
    assert json.loads(first) and build().board.to_json().encode() == first
    go("plain", "follow")
    build()
    after = (out / "leaderboard.json").read_text("utf-8").splitlines()
    lost = set(first.decode().splitlines()) - set(after)
    assert not lost, "another task changes nothing in the rows and groups that are there"


def test_systems_are_grouped_by_condition_and_read_beside_those_that_words_do_not_change(go, build):
    plain, reader, knower = go("plain"), go("reader"), go("knower")
    tagged = go("reader", prompt_kind="tag")
    groups = {group.condition: group for group in build().board.groups}
    assert set(groups) == {"genre", "tag", "oracle"}
    members = {name: {row for place in group.places for row in place.rows} for name, group in groups.items()}
    assert members["genre"] == {plain.result.run, reader.result.run}
    assert members["tag"] == {tagged.result.run} and members["oracle"] == {knower.result.run}
    assert groups["tag"].beside == sorted([plain.result.run, knower.result.run])
    assert groups["genre"].metric == "ndcg@10" and groups["genre"].windows == [1, 2]


def test_seeds_of_one_system_share_a_place_and_show_their_spread(go, build):
    runs = [go("plain", seed=seed) for seed in (0, 1)] + [go("reader", seed=seed) for seed in (0, 1)]
    (group,) = build().board.groups
    assert [place.seeds for place in group.places] == [[0, 1], [0, 1]]
    place = next(place for place in group.places if runs[0].result.run in place.rows)
    values = [run.metrics["ndcg@10"].value for run in runs[:2]]
    assert place.value == pytest.approx(sum(values) / 2)
    spread = place.spread["ndcg@10"]
    assert (spread.smallest, spread.largest) == (min(values), max(values))
    assert spread.sd == pytest.approx(abs(values[0] - values[1]) / 2**0.5)


def test_a_system_without_a_common_seed_is_compared_by_its_interval(go, build, out, data):
    go("plain", seed=0), go("plain", seed=1), go("reader", seed=0), go("reader", seed=1), go("slow", seed=7)
    (group,) = build().board.groups
    assert {len(place.seeds): place.paired for place in group.places} == {1: False, 2: True}
    assert all(place.rank is not None for place in group.places)
    assert verify_board(out / "leaderboard.json", data).problems == []


def test_settings_that_differ_are_named(go, build):
    go("plain"), go("plain", settings={"strength": 3.0})
    variants = sorted(str(row.variant) for row in build().board.rows if row.source == "measured")
    # The model as it comes needs no settings in its name.
    assert variants == ["{'strength': 3.0}", "{}"]


def test_settings_of_a_model_that_is_not_installed_are_all_named(go, build, monkeypatch):
    go("plain"), go("plain", settings={"strength": 3.0})
    made = build().board
    known = registry.get

    def get(kind, name):
        if kind == "models":
            raise InputError("not here")
        return known(kind, name)

    monkeypatch.setattr(registry, "get", get)
    rows = with_variants(row for row in made.rows if row.source == "measured")
    assert sorted(row.variant["strength"] for row in rows) == [1.0, 3.0]


def test_the_language_model_that_a_system_was_trained_from_is_always_named(go, build):
    go("plain")
    (row,) = (row for row in build().board.rows if row.source == "measured")
    assert row.variant == {}
    trained = row.model_copy(
        update={"settings": row.settings | {"model": row.settings["model"] | {"base_model": "tiny"}}}
    )
    assert with_variants([trained])[0].variant == {"base_model": "tiny"}


def test_a_system_that_was_run_again_under_another_name_stands_once(go, build, out, edit, data):
    """As after a new version of a router: another identity, and the same system and seed."""
    run = go("plain")
    build()
    again = out / "runs" / "ask-plain-tiny-0123456789"
    shutil.copytree(run.directory, again)
    lines = [json.loads(line) for line in (again / "journal.jsonl").read_text().splitlines()]
    lines[0]["identity"] = "0123456789" * 4
    lines[0]["about"]["run"] = again.name
    lines[-1]["time"] += 60
    (again / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    edit(again / "metrics.json", "run", again.name)
    done = build()
    assert [row.id for row in done.board.rows if row.source == "measured"] == [again.name]
    assert done.left_out == [
        f"{run.result.run}: {again.name} is the same system with the same seed and stands for both."
    ]
    # The older one is not taken over from the board before either.
    shutil.rmtree(run.directory)
    write_board(out / "leaderboard.json", build().board)
    assert build().kept == 0
    assert not [line for line in verify_board(out / "leaderboard.json", data).problems if "one system" in line]


def test_a_board_with_one_system_twice_does_not_pass(go, build, out, data):
    go("plain")
    board = build().board
    own = next(row for row in board.rows if row.source == "measured")
    twin = own.model_copy(update={"id": "another"})
    write_board(out / "leaderboard.json", board.model_copy(update={"rows": [*board.rows, twin]}))
    told = verify_board(out / "leaderboard.json", data).problems
    assert any("are one system with one seed" in line for line in told)


def test_unfinished_limited_and_damaged_runs_are_left_out_by_name(go, build, out):
    whole, limited, torn, damaged = go("plain"), go("plain", limit=5), go("reader"), go("knower")
    journal = torn.directory / "journal.jsonl"
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:-1]))
    (damaged.directory / "metrics.json").write_text("{")
    done = build()
    assert [row.id for row in done.board.rows if row.source == "measured"] == [whole.result.run]
    told = "\n".join(done.left_out)
    assert f"{limited.result.run}: limited to 5 users" in told
    assert f"{torn.result.run}: not finished" in told and "not readable as JSON" in told


def test_rows_whose_runs_are_elsewhere_are_kept_with_their_ranks(go, build, out):
    go("plain"), go("reader")
    before = build().board
    shutil.rmtree(out / "runs")
    after = build()
    assert after.kept == 2 and after.board == before
    go("knower", "follow")
    assert build().kept == 2
    assert build(fresh=True).kept == 0


@pytest.fixture
def mixed(go, build, out):
    """A board of four systems of which one is elsewhere when a fifth comes; that run's folder, the board before and after."""
    runs = [go("plain", settings={"strength": strength}) for strength in (1.0, 0.01, -3.0)] + [go("stacked")]
    before = build(baseline="stacked").board
    away = out.parent / "away"
    shutil.move(runs[1].directory, away)
    go("reader")
    return away, runs[1].directory, before, build(baseline="stacked").board


def test_a_row_whose_run_is_elsewhere_is_ranked_beside_new_ones_by_its_interval(mixed):
    _, lost, before, after = mixed
    old, new = ({place.rows[0]: place for place in board.groups[0].places} for board in (before, after))
    assert len(old) == 4 and len(new) == 5 and all(place.rank is not None for place in new.values())
    assert {name for name, place in new.items() if not place.paired} == {lost.name}
    assert new[lost.name].against_baseline is not None
    compared = 0
    for name in old.keys() - {lost.name}:
        for key in ("against_best", "against_baseline"):
            was, now = getattr(old[name], key), getattr(new[name], key)
            if was is not None and now is not None and was.other == now.other != old[lost.name].system:
                assert was.model_dump(exclude={"p_holm"}) == now.model_dump(exclude={"p_holm"})
                compared += 1
    assert compared >= 2


def test_a_board_of_runs_here_and_elsewhere_passes_and_a_changed_one_does_not(mixed, build, out, data, edit):
    away, lost, _, board = mixed
    path = out / "leaderboard.json"
    verdict = verify_board(path, data)
    assert verdict.problems == [] and verdict.recomputed == 4 and len(verdict.not_recomputed) == 1
    places = board.groups[0].places
    unpaired = next(place for place, one in enumerate(places) if not one.paired)
    for place, keys, value in (
        (unpaired, "against_baseline/p", 0.123),
        (unpaired, "rank", None),
        (1 - min(unpaired, 1), "paired", False),
    ):
        edit(path, f"groups/0/places/{place}/{keys}", value)
        write_board(path, rows.read_board(path))
        assert any("ranks or tests are not those" in line for line in verify_board(path, data).problems), keys
        write_board(path, board)
    # Its run comes back: what was built without it still holds, and the next build pairs it.
    shutil.move(away, lost)
    assert verify_board(path, data).problems == []
    again = build(baseline="stacked").board.groups[0].places
    assert all(place.paired for place in again) and verify_board(path, data).problems == []


def test_a_board_of_before_places_were_marked_is_read_as_paired(go, build, out):
    go("plain"), go("reader")
    board = build().board
    path = out / "leaderboard.json"
    values = json.loads(path.read_text("utf-8"))
    for place in values["groups"][0]["places"]:
        del place["paired"]
    path.write_text(json.dumps(values))
    assert rows.read_board(path) == board and all(place.paired for place in board.groups[0].places)


def test_two_builds_at_once_lose_no_row(go, build, out):
    go("plain")
    made = []
    with file_lock(out / update.LOCK):
        other = threading.Thread(target=lambda: made.append(build().board))
        other.start()
        late = go("reader")
    other.join(30)
    assert late.result.run in {row.id for row in made[0].rows}


@pytest.mark.parametrize("moment", ["sync_file", "sync_directory"])
def test_a_build_that_is_killed_while_it_writes_leaves_the_old_board_or_the_new_one(moment, tmp_path):
    path = tmp_path / "leaderboard.json"
    rows.write_board(path, rows.Board(rows=published_rows()[:1]))
    before = path.read_bytes()
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom bench import atomic\nfrom bench.leaderboard import rows\n"
        "from bench.leaderboard.paper import published_rows\n"
        f"atomic.{moment} = lambda path: os.kill(os.getpid(), signal.SIGKILL)\n"
        "rows.write_board(Path(sys.argv[1]), rows.Board(rows=published_rows()))\n"
    )
    died = subprocess.run([sys.executable, "-c", code, str(path)], env=os.environ, check=False)
    assert died.returncode == -signal.SIGKILL
    found = rows.read_board(path)
    assert (path.read_bytes() == before) == (moment == "sync_file") and found.rows


def test_two_rows_that_claim_the_same_questions_but_were_asked_others_are_refused(go, build, edit):
    plain, reader = go("plain"), go("reader")
    edit(reader.directory / "metrics.json", "targets_digest", "0" * 64)
    with pytest.raises(InputError, match="asked different questions"):
        build()
    assert plain.directory.is_dir()


def test_too_many_rows_newer_boards_and_wrong_keys_are_refused_with_file_and_key(tmp_path):
    path = tmp_path / "leaderboard.json"
    one = published_rows()[0].model_dump(mode="json")
    path.write_text(json.dumps({"schema_version": 1, "rows": [{}] * (rows.MAX_ROWS + 1)}))
    with pytest.raises(InputError, match="has 100001 rows; a board holds at most 100000"):
        rows.read_board(path)
    for values, told in (
        ({"schema_version": 2, "rows": []}, "schema version 2, this is 1: upgrade"),
        ({"schema_version": 1, "rows": [one | {"sorce": "x"}]}, "rows.0.sorce: Extra inputs"),
        ({"schema_version": 1, "rows": [one | {"source": "guessed"}]}, "rows.0.source"),
        ([], "the document"),
    ):
        path.write_text(json.dumps(values))
        with pytest.raises(InputError, match=told):
            rows.read_board(path)
    path.write_text("[" * 100_000)
    with pytest.raises(InputError, match="not readable as JSON"):
        rows.read_board(path)
    with pytest.raises(InputError, match="bench leaderboard build"):
        rows.read_board(tmp_path / "absent.json")


def test_every_printed_cell_of_the_paper_is_on_the_board_or_noted_as_printed_otherwise():
    paper = published_rows()
    shown = {(row.dataset, row.task, row.published.label, row.model): row for row in paper}
    assert len({row.id for row in paper}) == len(paper)
    for cell in cells().values():
        candidates = [
            row for row in paper if (row.dataset, row.task, row.model) == (cell.dataset, cell.task, cell.model)
        ]
        values = []
        for row in candidates:
            columns = row.metrics if cell.window == "mean" else row.per_window.get(str(cell.window), {})
            values += [columns[cell.metric].value] if cell.metric in columns else []
            values += [each.printed for each in row.published.otherwise if each.metric == cell.metric]
        assert cell.best in values or cell.value in values, cell
    dpr = shown["ml-1m", "pos", "DPR", "dpr_sas"]
    assert dpr.metrics["ndcg@10"].value == 0.5748 and dpr.condition == "genres" and dpr.published.tables[0] == 1
    copied = shown["mind", "neg", "Base", "sasrec"]
    assert copied.metrics["ndcg@10"].value == 0.062
    assert next(each for each in copied.published.errata if each.metric == "ndcg@10").printed == 0.0405


def asked_llm(**changes):
    values = {
        "run": "r",
        "task": "pos",
        "task_version": 1,
        "model": "zero_shot",
        "model_version": 1,
        "dataset": "tiny",
        "protocol": "paper",
        "condition": "tag",
        "source": "measured",
        "information": "prompt",
        "llm": {"name": "gpt", "model": "openai/gpt", "engine": "litellm", "api_base": "http://10.0.0.1/secret-place"},
        "seed": 0,
        "examples": 200,
        "settings": {"task": {}, "model": {}},
        "dataset_fingerprint": "f",
        "targets_digest": "t",
        "metrics": {"ndcg@10": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 200, "failed": 3}},
        "per_window": {},
        "health": {},
        "provenance": {"argv": ["--data-dir", "/home/somebody"]},
        "cost": {"calls": 210, "price": 0.5, "prompt_tokens": 9, "completion_tokens": 1, "processes": [{"sent": 3}]},
        "timing": {"llm_latency_p50_s": 0.4, "llm_latency_p95_s": 1.5, "batch_p50_s": 1.0, "batch_p95_s": 1.0},
    }
    return results.Result.model_validate(values | changes)


def test_price_latency_and_contamination_of_a_language_model(tmp_path):
    probes = tmp_path / "probes"
    probes.mkdir()
    report = {"llm": {"name": "gpt", "model": "openai/gpt"}, "dataset_fingerprint": "f", "rule": "r"}
    (probes / "contamination-a.json").write_text(json.dumps(report | {"samples": 200, "mark": True}))
    (probes / "contamination-b.json").write_text(json.dumps(report | {"samples": 10, "mark": False}))
    row = result_row(asked_llm(), "r", Journal(tmp_path), tmp_path / "runs" / "r", read_probes(tmp_path))
    assert row.cost.price_per_1000 == 2.5 and row.parameters is None
    assert (row.latency.of, row.latency.p50_ms, row.latency.p95_ms) == ("call", 400.0, 1500.0)
    assert row.contamination.mark and row.contamination.probe == "contamination-a.json"
    text = row.model_dump_json()
    assert "secret-place" not in text and "/home/somebody" not in text
    other = asked_llm(dataset_fingerprint="g", cost={"price": None})
    row = result_row(other, "r", Journal(tmp_path), tmp_path / "runs" / "r", read_probes(tmp_path))
    assert row.contamination is None and row.cost.price is None and row.cost.price_per_1000 is None
    (probes / "contamination-c.json").write_text("{}")
    with pytest.raises(InputError, match=r"contamination-c\.json is no report"):
        read_probes(tmp_path)


def test_names_from_outside_stay_text_in_notebooks(go, build, edit, out):
    run = go("plain")
    name = "<script>alert(1)</script>"
    edit(run.directory / "metrics.json", "model", name)
    board = build().board
    assert any(row.model == name for row in board.rows)
    page = board._repr_html_()
    assert "<script" not in page and "&lt;script&gt;" in page


def test_runs_and_boards_as_frames(go, build):
    plain, reader = go("plain"), go("reader")
    frame = plain.to_pandas()
    headline = frame[(frame.window == "mean") & (frame.metric == "ndcg@10")]
    assert headline.value.item() == plain.metrics["ndcg@10"].value and set(frame.window) == {"mean", "1", "2"}
    compared = plain.compare(reader)
    own = compared.to_pandas().set_index("metric")
    assert own.loc["ndcg@10", "difference"] == pytest.approx(
        reader.metrics["ndcg@10"].value - plain.metrics["ndcg@10"].value
    )
    assert "ndcg@10" in plain._repr_html_() and "against" in compared._repr_html_()
    board = build().board.to_pandas().set_index("id")
    assert board.loc[plain.result.run, "ndcg@10"] == plain.metrics["ndcg@10"].value
    assert board.loc[plain.result.run, "rank"] >= 1


@pytest.mark.slow
def test_a_board_made_by_several_processes_is_the_one_that_a_single_process_makes(tmp_path, monkeypatch):
    alone, spread = tmp_path / "alone", tmp_path / "spread"
    for model in ("random", "popularity"):
        for task in ("seq", "pos"):
            bench.run(task=task, model=model, dataset="mini", limit=None, out=alone)
    shutil.copytree(alone, spread)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    for folder, enough in ((alone, 1000), (spread, 1)):
        monkeypatch.setattr(workers, "ENOUGH", enough)
        # A folder is for datasets that read files: mini reads none.
        assert not update.update(update.Options(folder, tmp_path), SilentProgress()).without_examples
    files = {path.relative_to(alone) for path in alone.rglob("*") if path.is_file() and "runs" not in path.parts}
    assert len([path for path in files if "examples" in path.parts]) >= 4
    for path in files:
        assert (alone / path).read_bytes() == (spread / path).read_bytes(), path
    # Whoever builds on a board without its runs keeps the examples that may be shown.
    shutil.rmtree(alone / "runs")
    update.update(update.Options(alone), SilentProgress())
    for path in files:
        assert (alone / path).read_bytes() == (spread / path).read_bytes(), path

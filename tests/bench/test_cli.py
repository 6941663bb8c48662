import json
import os
import signal
import subprocess
import sys
import time

import pytest

from bench.cli import main as cli
from bench.cli.console import key_values, numbers
from bench.cli.route import read_prompts
from bench.errors import InputError

HEAVY = (
    "torch",
    "transformers",
    "litellm",
    "datasets",
    "faiss",
    "ray",
    "sklearn",
    "pandas",
    "openai",
    "scipy",
    "polars",
)


@pytest.fixture
def call(plugins, tmp_path, monkeypatch, capsys):
    """The command line in this process, with the tiny plugin alone."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        code = cli.main([str(argument) for argument in arguments])
        seen = capsys.readouterr()
        return code, seen.out, seen.err

    return run


RUN = ("run", "--task", "ask", "--model", "plain", "--dataset", "tiny")


def in_process(arguments):
    """Modules that a command leaves loaded, in a process of its own with what is really installed."""
    script = f"import sys\nfrom bench.cli.main import main\ncode = main({arguments!r})\nprint('|', code, *sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    code, *modules = done.stdout.rpartition("|")[2].split()
    return int(code), set(modules)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["list"], ["run", "--help"], ["list", "models", "--json"], ["show", "sasrec"]]
)
def test_help_and_lists_load_nothing_heavy(arguments):
    code, modules = in_process(arguments)
    assert code == 0 and not modules.intersection(HEAVY)


def test_a_finished_run_is_shown_without_torch(bench_command, tmp_path):
    arguments = [*RUN, "--out", "out"]
    assert bench_command(*arguments).returncode == 0
    # A module of this name that fails on import stands before the real one.
    (tmp_path / "site" / "torch.py").write_text("raise ImportError('torch was loaded')")
    again = bench_command(*arguments, "--json")
    assert again.returncode == 0 and "is finished" in again.stderr, again.stderr


def test_help_names_every_command(call):
    code, out, _ = call("--help")
    assert code == 0
    for name in ("run", "list", "show", "score", "compare", "check", "data", "route"):
        assert f" {name} " in out


def test_a_run_shows_a_table_and_where_its_controls_come_from(call):
    code, out, _ = call(*RUN)
    assert code == 0
    assert "plain on ask, tiny (protocol paper, condition genre, told history alone, seed 0)" in out
    assert "ndcg@10" in out and "95 % interval" in out and "N=1" in out
    assert "No other model has been run on these examples" in out and "bench run --task ask --model" in out
    code, out, _ = call(*RUN[:4], "knower", *RUN[5:])
    assert "On the same examples" in out and "oracle" in out and "plain" in out


def test_the_control_that_is_proposed_is_for_the_same_data_and_folder(call, tmp_path):
    (tmp_path / "my data").mkdir()
    code, out, _ = call(*RUN, "--data-dir", "my data", "--out", "elsewhere")
    assert code == 0
    (proposed,) = [line for line in out.splitlines() if "bench run" in line]
    assert proposed.endswith("--data-dir 'my data' --out elsewhere")


def test_json_stands_alone_on_stdout(call):
    for _ in range(2):
        code, out, _ = call(*RUN, "--json")
        values = json.loads(out)
        assert code == 0 and values["task"] == "ask" and values["per_window"]["1"]["ndcg@10"]["n"] == 40


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("frob",), 'Unknown command "frob"'),
        (("run", "--task", "ask"), "--model"),
        (("run", "--task", "aks", "--model", "plain"), "Did you mean 'ask'?"),
        (("run", "--task", "ask", "--model", "plian"), "Did you mean 'plain'?"),
        ((*RUN[:-1], "tny"), "Did you mean 'tiny'?"),
        ((*RUN, "--windw", "3"), "Did you mean --window?"),
        ((*RUN, "--window", "3;5"), "--window takes whole numbers"),
        ((*RUN, "--set", "strength"), "--set takes KEY=VALUE"),
        ((*RUN, "--set", "strenght=2"), "Did you mean 'strength'?"),
        ((*RUN, "--set", "strength=x"), "setting strength of plain"),
        ((*RUN, "--limit", "0"), "limit"),
        ((*RUN, "--seed", "x"), "seed"),
        ((*RUN, "--protocol", "loose"), "protocol"),
        ((*RUN, "--llm", "some"), "uses no language model"),
        (("show", "plane"), "Did you mean 'plain'?"),
        (("list", "model"), "Did you mean 'models'?"),
        (("score", "nothing"), "unknown run"),
        (("compare",), "two or more"),
        (("route",), "either prompts or --file"),
        (("route", "--file", "absent.jsonl", "--router", "words"), "absent.jsonl cannot be read"),
        (("data", "stats", "tinny"), "Did you mean 'tiny'?"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(call, arguments, said):
    code, out, err = call(*arguments)
    assert code == 2 and out == ""
    # A loaded dataset may be told of before; the error is the last line, and alone.
    assert err.count("error: ") == 1 and err.splitlines()[-1].startswith("error: ") and said in err
    assert "Traceback" not in err


def test_a_failed_run_is_exit_code_1_and_debug_shows_why(call):
    code, _, err = call(*RUN[:4], "crashing", *RUN[5:])
    assert (
        code == 1 and "crashing failed on examples 0 to 79: RuntimeError: out of luck" in err and "Traceback" not in err
    )
    code, _, err = call("--debug", *RUN[:4], "crashing", *RUN[5:])
    assert code == 1 and "Traceback" in err


def test_an_unexpected_error_is_one_line_too(call, plugins, monkeypatch):
    monkeypatch.setattr(plugins.Ask, "score", lambda *_: 1 / 0)
    code, _, err = call(*RUN)
    assert code == 1 and err.splitlines()[-1].startswith("error: unexpected ZeroDivisionError")


def test_an_interrupt_is_exit_code_130_and_keeps_the_work(call, plugins):
    plugins.Slow.interrupt_at = 1
    code, _, err = call(*RUN[:4], "slow", *RUN[5:])
    assert code == 130 and "work is kept" in err
    assert call(*RUN[:4], "slow", *RUN[5:])[0] == 0 and plugins.Slow.trained == (0, 1, 2)


def test_list_and_show(call):
    code, out, _ = call("list", "models")
    assert code == 0 and "plain" in out and "[told: oracle] Knows." in out and "broken: model 'missing'" in out
    everything = json.loads(call("list", "--json")[1])
    assert set(everything) == {"tasks", "models", "datasets", "encoders", "judges", "routers"}
    assert {"name": "tiny"}.items() <= everything["datasets"][0].items()
    code, out, _ = call("show", "slow")
    assert code == 0 and "delay = 0.0" in out and "information: prompt" in out
    assert json.loads(call("show", "tasks/ask", "--json")[1])["kind"] == "tasks"


def test_score_and_compare(call):
    call(*RUN)
    call(*RUN[:4], "knower", *RUN[5:])
    code, out, _ = call("score", "ask-plain", "--json")
    assert code == 0 and json.loads(out)["model"] == "plain"
    code, out, _ = call("compare", "ask-plain", "ask-knower", "--metric", "ndcg@10", "--json")
    found = json.loads(out)
    assert code == 0 and found["baseline_model"] == "plain" and [row["metric"] for row in found["rows"]] == ["ndcg@10"]
    code, out, _ = call("compare", "ask-plain", "ask-knower", "--baseline", "ask-knower")
    assert code == 0 and "Against ask-knower" in out and "p (Holm)" in out


def test_check_passes_a_good_model_and_fails_a_careless_one(call, plugins, monkeypatch):
    from bench import conformance

    monkeypatch.setattr(conformance, "DATASET", "tiny")
    for model in ("plain", "knower", "stacked"):
        code, out, _ = call("check", model)
        assert code == 0 and "checks passed" in out, out
    code, out, _ = call("check", "careless", "--json")
    report = json.loads(out)
    failed = {row["name"] for row in report["checks"] if not row["passed"]}
    assert code == 1 and not report["passed"]
    assert {"no seen item", "no item twice", "items in range"} <= failed
    monkeypatch.setattr(plugins.Plain, "load", lambda *_: 1 / 0)
    code, out, _ = call("check", "plain")
    assert code == 1 and "FAILED  save and load: ZeroDivisionError" in out


def test_check_finds_a_model_that_is_not_deterministic(call, plugins, monkeypatch):
    import numpy as np

    from bench import conformance

    monkeypatch.setattr(conformance, "DATASET", "tiny")
    draws = np.random.default_rng(0)
    monkeypatch.setattr(plugins.Plain, "scores", lambda self, r: draws.random((len(r), plugins.ITEMS), np.float32))
    code, out, _ = call("check", "plain")
    assert code == 1 and "FAILED  ranks twice the same" in out and "FAILED  same seed, same model" in out


def test_data(call):
    code, out, _ = call("data", "stats", "tiny", "--json")
    figures = json.loads(out)
    assert (
        code == 0 and {"users", "items", "events", "mean_length", "density", "fingerprint", "labels"} <= figures.keys()
    )
    assert figures["users"] == 40 and figures["labels"]["comedy"] == 10
    assert call("data", "stats", "tiny")[1].startswith("users: 40\n")
    code, out, _ = call("data", "prepare", "tiny")
    assert code == 0 and "tiny is ready, part of the package" in out


def test_route(call, tmp_path):
    code, out, _ = call("route", "no westerns", "some comedy", "--router", "words", "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and [row["polarity"] for row in rows] == ["negative", "positive"]
    assert rows[0] == {"prompt": "no westerns", "polarity": "negative", "confidence": 0.75}
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "no [bold]war"}\n\n{"prompt": "peace"}\n')
    code, out, _ = call("route", "--file", "prompts.jsonl", "--router", "words")
    assert code == 0 and "no [bold]war" in out


@pytest.mark.parametrize("line", ["{", '"text"', '{"text": "x"}', '{"prompt": 3}', '{"prompt": " "}', "nonsense"])
def test_a_malformed_prompt_is_named_with_file_and_line(tmp_path, line):
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "fine"}\n' + line + "\n")
    with pytest.raises(InputError, match=r"prompts\.jsonl, line 2: expected a JSON object"):
        read_prompts(path)
    path.write_text("\n")
    with pytest.raises(InputError, match="no prompt in it"):
        read_prompts(path)


def test_small_values():
    assert key_values(["a=1", "b=x=y"]) == {"a": "1", "b": "x=y"} and key_values(None) == {}
    assert numbers("3,5,10", "--window") == (3, 5, 10) and numbers(None, "--window") is None
    with pytest.raises(InputError, match="given twice"):
        key_values(["a=1", "a=2"])


def test_run_takes_at_most_twenty_flags():
    import inspect

    from bench.cli.run import run

    assert len(inspect.signature(run).parameters) + 1 <= 20


def test_a_third_party_plugin_works_from_the_outside(bench_command):
    done = bench_command(*RUN, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["provenance"]["packages"]["fake-plugins"] == "1.0"
    assert bench_command("list", "models").stdout.count("plain") == 1


def test_ctrl_c_ends_with_130_and_the_second_of_two_says_so(bench_command, tmp_path):
    arguments = [*RUN[:4], "slow", *RUN[5:], "--set", "delay=0.4", "--set", "run.batch_size=2"]
    first = bench_command(*arguments, start=True)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "results" / "runs").glob("*/parts/*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    second = bench_command(*arguments)
    assert second.returncode == 1 and "another process is writing the run" in second.stderr
    first.send_signal(signal.SIGINT)
    assert first.wait(timeout=30) == 130


@pytest.mark.parametrize(
    ("given", "spins"), [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, None)]
)
def test_waiting_threads_spin_less_unless_the_environment_says_how(given, spins, monkeypatch, capsys):
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        # Set first, so that it is put back as it was.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert cli.main(["list", "--json"]) == 0
    assert os.environ.get("GOMP_SPINCOUNT") == spins

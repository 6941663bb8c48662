"""`bench simulate` from end to end: a real server on loopback, the set that it writes, and the run that asks it."""

from __future__ import annotations

import json

import pytest

from tasks.request_sets import MODES, read_request_set
from tests.tools.command_line import finished, killed_after
from tests.tools.openai_server import KEY, Running
from tests.tools.writing_server import Writes, write_config

SIMULATE = ("simulate", "--dataset", "mini", "--users", "12")


@pytest.fixture
def server():
    running = Running(Writes(key=KEY))
    yield running
    running.close()


@pytest.fixture
def call(server, tmp_path, monkeypatch, command_line):
    """The command line in this process, beside a configuration of the server."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TINY_KEY", KEY)
    flags = write_config(tmp_path, server.url)

    def run(*arguments, llm=True):
        return command_line(*arguments, *(flags if llm else ()))

    return run


def test_simulate_then_run(call, server):
    code, out, _ = call(*SIMULATE, "--seed", "4", "--json")
    report = json.loads(out)
    assert code == 0 and report["written"] == 12 and report["left_out"] == {}
    found = read_request_set(report["file"], "mini")
    assert [request.mode for request in found.requests] == list(MODES) * 12
    origin = found.origin
    assert (origin.seed, origin.history, origin.llm["model"]) == (4, 20, "openai/tiny-model")
    assert set(origin.templates) == {"simulator.j2"} and KEY not in json.dumps(origin.model_dump())
    assert len(server.behaviour.log) == 12 and report["figures"]["digest"] == found.digest
    code, out, _ = call(
        "run",
        "--task",
        "nuanced",
        "--model",
        "popularity",
        "--set",
        f"task.requests={report['file']}",
        "--json",
        llm=False,
    )
    result = json.loads(out)
    assert code == 0 and result["examples"] == 36
    assert result["settings"]["task"] == {"requests": report["file"], "digest": found.digest}


def test_the_same_command_asks_nothing_again_and_other_users_are_another_set(call, server):
    first = json.loads(call(*SIMULATE, "--json")[1])
    again = json.loads(call(*SIMULATE, "--json")[1])
    assert again["file"] == first["file"] and len(server.behaviour.log) == 12
    other = json.loads(call(*SIMULATE, "--seed", "1", "--json")[1])
    assert other["file"] != first["file"]
    code, _, err = call(*SIMULATE, "--to", other["file"])
    assert code == 2 and "is another request set" in err and "--replace" in err


def test_a_genre_word_is_asked_about_again_and_what_stays_wrong_is_left_out(call, server):
    def names_a_genre(value, prompt):
        value["requests"][1]["statement"] = "Show me dramas about a harbour."
        return value

    server.behaviour.faults = names_a_genre
    report = json.loads(call(*SIMULATE, "--json")[1])
    assert report["written"] == 12 and len(server.behaviour.log) == 24
    again = [prompt for prompt in server.behaviour.log if "refused" in prompt]
    assert len(again) == 12 and all('the plot request says "dramas", which names a label' in each for each in again)
    code, _, err = call(*SIMULATE, "--attempts", "1")
    assert code == 1 and "no text was good" in err and "names a label" in err


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (lambda value, _: {"requests": value["requests"][:2]}, "one request of each mode"),
        (lambda value, _: {"requests": [value["requests"][0]] * 3}, "one request of each mode"),
        (
            lambda value, _: {"requests": [each | {"statement": "The same."} for each in value["requests"]]},
            "two of the requests are the same",
        ),
        (lambda value, _: {"requests": [each | {"statement": " "} for each in value["requests"]]}, "has 0 characters"),
        (
            lambda value, _: {"requests": [each | {"statement": "x" * 401} for each in value["requests"]]},
            "has 401 characters",
        ),
        (lambda value, _: "I would rather not say.", "not the JSON that was asked for"),
    ],
)
def test_faulty_answers_are_told_what_is_wrong(call, server, fault, told):
    server.behaviour.faults = fault
    code, out, _ = call("simulate", "--users", "2", "--json")
    assert code == 0 and json.loads(out)["written"] == 2
    assert sum(told in prompt for prompt in server.behaviour.log) == 2


def test_plan_export_import_and_then_nothing_is_sent(call, server, tmp_path):
    code, out, _ = call(*SIMULATE, "--plan", "--json")
    plan = json.loads(out)["plan"]
    assert code == 0 and plan["to_send"] == 12 and plan["price_at_most"] > 0 and not server.behaviour.log
    assert call("llm", "export", "batch.jsonl", llm=False)[0] == 0
    lines = [json.loads(line) for line in (tmp_path / "batch.jsonl").read_text().splitlines()]
    answers = [
        {
            "custom_id": line["custom_id"],
            "response": {
                "status_code": 200,
                "body": {
                    "choices": [
                        {
                            "message": {
                                "role": "assistant",
                                "content": server.behaviour.text(line["body"]["messages"][-1]["content"], {}, 0),
                            }
                        }
                    ]
                },
            },
        }
        for line in lines
    ]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(answer) + "\n" for answer in answers))
    assert call("llm", "import", "answers.jsonl", llm=False)[0] == 0
    report = json.loads(call(*SIMULATE, "--json")[1])
    assert report["written"] == 12 and not server.behaviour.log


def test_a_budget_stops_and_the_same_command_goes_on(call, server):
    code, _, err = call(*SIMULATE, "--max-requests", "5")
    assert code == 1 and "larger budget goes on" in err and len(server.behaviour.log) == 5
    assert json.loads(call(*SIMULATE, "--json")[1])["written"] == 12 and len(server.behaviour.log) == 12


def test_killed_and_resumed_repeats_no_request(server, tmp_path):
    server.behaviour.delay_s = 0.4
    flags = write_config(tmp_path, server.url)
    (tmp_path / "llms.yaml").write_text(
        (tmp_path / "llms.yaml").read_text().replace("model: openai", "max_parallel_requests: 2, model: openai")
    )
    command = (*SIMULATE, "--to", "set.jsonl", *flags)
    killed_after(server.behaviour.log, 6, *command, cwd=tmp_path, TINY_KEY=KEY)
    assert not (tmp_path / "set.jsonl").exists()
    done = len(list((tmp_path / "results" / "llm-cache").rglob("*")))
    assert done
    server.behaviour.delay_s = 0.0
    assert finished(*command, cwd=tmp_path, TINY_KEY=KEY).returncode == 0
    # What was under way when the process died may be asked again; nothing that was answered is.
    assert len(server.behaviour.log) <= 12 + 2
    assert len(read_request_set(str(tmp_path / "set.jsonl"), "mini").requests) == 36


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--users", "5000"), "users of 'mini' have 20 items before the test split"),
        (("--users", "0"), "users"),
        (("--attempts", "0"), "attempts"),
        (("--dataset", "minni"), "Did you mean 'mini'?"),
    ],
)
def test_bad_input_is_one_line(call, flags, told):
    code, _, err = call("simulate", *flags)
    assert code == 2 and told in err and err.rstrip("\n").splitlines()[-1].startswith("error: ")

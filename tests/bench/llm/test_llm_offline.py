import json
import threading

import pytest

from bench.cli.main import main
from bench.llm import Failure, open_llm
from bench.llm.loopback import Response, completion
from tests.tools.asking import answers, ask
from tests.tools.openai_server import Behaviour, Running, error

SCHEMA = {"type": "array", "items": {"type": "string"}}


@pytest.fixture
def exported(config, tmp_path, capsys):
    """Five requests, one of them twice, exported to a file."""
    path, out = config("http://127.0.0.1:9/v1"), tmp_path / "out"
    requests = [ask(f"q{number}", seed=number) for number in range(4)] + [ask("s", SCHEMA), ask("q0", seed=0)]
    with open_llm("tiny", path, cache_dir=out / "llm-cache", offline="export") as model:
        got = answers(model, requests)
    assert {answer.failure for answer in got} == {Failure.BUDGET} and "bench llm export" in got[0].detail
    file = tmp_path / "requests.jsonl"
    assert main(["llm", "export", str(file), "--out", str(out)]) == 0
    assert "5 requests" in capsys.readouterr().out
    return path, out, requests, [json.loads(line) for line in file.read_text().splitlines()]


def response(line, texts, status=200):
    body = json.loads(completion(texts))
    return {
        "id": "r",
        "custom_id": line["custom_id"],
        "response": {"status_code": status, "body": body},
        "error": None,
    }


def test_export_is_in_the_batch_format(exported):
    _, _, _, lines = exported
    assert len({line["custom_id"] for line in lines}) == 5
    for line in lines:
        assert line["method"] == "POST" and line["url"] == "/v1/chat/completions"
        assert line["body"]["model"] == "tiny" and line["body"]["messages"]
    assert "response_format" in lines[4]["body"] and lines[2]["body"]["seed"] == 2


def test_imported_answers_are_the_runs_answers(exported, tmp_path, capsys):
    path, out, requests, lines = exported
    rows = [response(line, [f"from afar {place}"]) for place, line in enumerate(lines[:3])]
    rows += [response(lines[4], ['```json\n["Heat",]\n```'])]
    file = tmp_path / "responses.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["llm", "import", str(file), "--out", str(out)]) == 0
    assert "4 answers stored, 0 known already, 0 failed" in capsys.readouterr().out
    with open_llm("tiny", path, cache_dir=out / "llm-cache", offline="cache") as model:
        got = answers(model, requests)
    assert [answer.texts for answer in got[:3]] == [(f"from afar {place}",) for place in range(3)]
    assert got[3].failure is Failure.BUDGET and got[5].texts == got[0].texts
    assert got[4].parsed == ["Heat"] and got[4].repaired
    left = tmp_path / "left.jsonl"
    assert main(["llm", "export", str(left), "--out", str(out)]) == 0
    assert [json.loads(line)["custom_id"] for line in left.read_text().splitlines()] == [lines[3]["custom_id"]]


def test_what_vllm_run_batch_writes_is_read(exported, tmp_path, capsys):
    """The shape of `vllm run-batch -i requests.jsonl -o answers.jsonl`; vLLM itself is not run here."""
    path, out, requests, lines = exported
    message = {"role": "assistant", "content": "Heat", "refusal": None, "tool_calls": [], "reasoning": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop", "stop_reason": None}
    usage = {"prompt_tokens": 7, "total_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": None}
    more = {"service_tier": None, "system_fingerprint": None, "prompt_logprobs": None, "kv_transfer_params": None}
    about = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1_760_000_000, "model": "tiny"}
    good = {
        "status_code": 200,
        "request_id": "vllm-batch-1",
        "body": about | more | {"choices": [choice], "usage": usage},
    }
    bad = {"status_code": 400, "request_id": "vllm-batch-2", "body": None}
    rows = [
        {"id": "vllm-1", "custom_id": lines[0]["custom_id"], "response": good, "error": None},
        {"id": "vllm-2", "custom_id": lines[1]["custom_id"], "response": bad, "error": {"message": "too long"}},
    ]
    file = tmp_path / "answers.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["llm", "import", str(file), "--out", str(out)]) == 0
    assert "1 answers stored, 0 known already, 1 failed" in capsys.readouterr().out
    with open_llm("tiny", path, cache_dir=out / "llm-cache", offline="cache") as model:
        assert answers(model, requests[:1])[0].texts == ("Heat",)


def test_bad_lines_are_told_with_their_numbers_and_the_others_count(exported, tmp_path, capsys):
    _, out, _, lines = exported
    good = json.dumps(response(lines[0], ["fine"]))
    unknown = json.dumps(response({"custom_id": "0" * 64}, ["x"]))
    bad = [
        "not json",
        "[1]",
        '{"custom_id": "mine"}',
        unknown,
        json.dumps(response(lines[1], []) | {"response": {"status_code": 200, "body": {"choices": []}}}),
        json.dumps({"custom_id": lines[1]["custom_id"], "response": None, "error": {"message": "expired"}}),
        json.dumps(response(lines[1], ["x"], status=500)),
    ]
    file = tmp_path / "responses.jsonl"
    file.write_text("\n".join([*bad[:3], good, *bad[3:]]) + "\n")
    assert main(["llm", "import", str(file), "--out", str(out)]) == 1
    shown = capsys.readouterr()
    assert "1 answers stored, 0 known already, 2 failed" in shown.out
    for number in (1, 2, 3, 5, 6):
        assert f"{file}:{number}: " in shown.err
    assert f"{file}:4: " not in shown.err and shown.err.splitlines()[-1].startswith("error: 5 lines")


def test_a_cache_that_is_not_there_is_wrong_input(tmp_path, capsys):
    assert main(["llm", "export", str(tmp_path / "x"), "--out", str(tmp_path / "none")]) == 2
    assert "--out" in capsys.readouterr().err


class Batches(Behaviour):
    """The Batch API, as far as a client needs it."""

    def __init__(self):
        super().__init__()
        self.files, self.made, self.polls, self.submitted = {}, {}, 0, 0
        self.done = threading.Event()

    def __call__(self, method, path, headers, body):
        path = path.partition("?")[0].removeprefix("/v1")
        if (method, path) == ("POST", "/files"):
            content = body.split(b"\r\n\r\n")
            rows = next(part for part in content if part.lstrip().startswith(b"{")).split(b"\r\n--")[0]
            name = f"file-{len(self.files)}"
            self.files[name] = rows
            return self.reply(
                {
                    "id": name,
                    "object": "file",
                    "bytes": 1,
                    "created_at": 0,
                    "filename": "f",
                    "purpose": "batch",
                    "status": "processed",
                }
            )
        if (method, path) == ("POST", "/batches"):
            self.submitted += 1
            asked = json.loads(body)
            name = f"batch-{len(self.made)}"
            self.made[name] = self.batch(name, asked)
            return self.reply(self.made[name])
        if (method, path) == ("GET", "/batches"):
            return self.reply({"object": "list", "data": list(self.made.values()), "has_more": False})
        if path.startswith("/batches/"):
            self.polls += 1
            batch = self.made[path.split("/")[2]]
            if self.done.is_set():
                batch |= {"status": "completed", "output_file_id": "out-" + batch["input_file_id"]}
            return self.reply(batch)
        if path.startswith("/files/") and path.endswith("/content"):
            rows = [json.loads(line) for line in self.files[path.split("/")[2].removeprefix("out-")].splitlines()]
            lines = [response(row, [f"batched {row['body']['messages'][0]['content']}"]) for row in rows]
            return Response("".join(json.dumps(line) + "\n" for line in lines).encode())
        return error(404, f"no route {path}")

    def batch(self, name, asked):
        return {
            "id": name,
            "object": "batch",
            "endpoint": asked["endpoint"],
            "input_file_id": asked["input_file_id"],
            "completion_window": "24h",
            "status": "in_progress",
            "created_at": 0,
            "metadata": asked["metadata"],
            "request_counts": {"total": 1, "completed": 0, "failed": 0},
        }

    def reply(self, value):
        return Response(json.dumps(value).encode())


def test_batches_are_submitted_polled_and_found_again(config, tmp_path, monkeypatch):
    pytest.importorskip("openai")
    from bench.llm import batch

    behaviour = Batches()
    running = Running(behaviour)
    path, cache = config(running.url, model="openai/tiny"), tmp_path / "out" / "llm-cache"
    requests = [ask(f"q{number}") for number in range(3)]
    naps = []

    def stopped(seconds):
        naps.append(seconds)
        if len(naps) == 2:
            raise KeyboardInterrupt
        if len(naps) > 2:
            behaviour.done.set()

    monkeypatch.setattr(batch.time, "sleep", stopped)
    with open_llm("tiny", path, cache_dir=cache, batch=True) as model, pytest.raises(KeyboardInterrupt):
        answers(model, requests)
    # Another run wants one request more: only that one is submitted.
    with open_llm("tiny", path, cache_dir=cache, batch=True) as model:
        got = answers(model, [*requests, ask("one more")])
    assert [answer.texts[0] for answer in got] == ["batched q0", "batched q1", "batched q2", "batched one more"]
    assert behaviour.submitted == 2 and len(behaviour.files["file-1"].splitlines()) == 1
    assert not list((cache / "batches").glob("*.json"))
    with open_llm("tiny", path, cache_dir=cache, batch=True) as model:
        assert all(answer.cached for answer in answers(model, requests))
    assert behaviour.submitted == 2
    running.close()


def test_a_batch_whose_submission_was_cut_off_is_found_by_its_mark(config, tmp_path, monkeypatch):
    pytest.importorskip("openai")
    from bench.llm import batch

    behaviour = Batches()
    behaviour.done.set()
    running = Running(behaviour)
    path, cache = config(running.url, model="openai/tiny"), tmp_path / "out" / "llm-cache"
    whole, calls = batch.atomic_write, []

    def killed(file, content):
        calls.append(file)
        if len(calls) == 2:
            raise KeyboardInterrupt
        whole(file, content)

    monkeypatch.setattr(batch, "atomic_write", killed)
    with open_llm("tiny", path, cache_dir=cache, batch=True) as model, pytest.raises(KeyboardInterrupt):
        answers(model, [ask("q")])
    with open_llm("tiny", path, cache_dir=cache, batch=True) as model:
        assert answers(model, [ask("q")])[0].texts == ("batched q",)
    assert behaviour.submitted == 1
    running.close()

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.errors import CheckError
from bench.llm import ChatRequest, Message, Sampling
from bench.llm.cache import ANSWERS, Cache, open_cache, prune
from bench.llm.contracts import Identity
from bench.llm.keys import Keyer, differences, key_of_parts
from tests.tools.asking import answers, ask

REPOSITORY = Path(__file__).resolve().parents[3]
MODEL = Identity("name", "hosted_vllm/tiny", "litellm", "http://a/v1", {"top_k": 5})
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "number"}}}


def filed(cache, text, answer="x"):
    keyer = Keyer(MODEL)
    request = ask(text)
    cache.put(keyer.key(request), keyer.parts(request), {"texts": [answer]})
    return keyer.key(request)


@pytest.fixture
def cache(tmp_path):
    made = open_cache(tmp_path / "cache")
    yield made
    made.close()


CHANGES = [
    ({}, {"model": "hosted_vllm/other"}),
    ({}, {"engine": "vllm"}),
    ({}, {"api_base": "http://b/v1"}),
    ({}, {"parameters": {"top_k": 6}}),
    ({"temperature": 0.5}, {}),
    ({"top_p": 0.9}, {}),
    ({"max_tokens": 7}, {}),
    ({"n": 2}, {}),
    ({"seed": 0}, {}),
    ({"stop": ("a",)}, {}),
    ({"beams": 4}, {}),
    ({"text": "q "}, {}),
    ({"schema": SCHEMA}, {}),
    ({"system": "s"}, {}),
]


@pytest.mark.parametrize(("request_change", "model_change"), CHANGES)
def test_whatever_changes_the_answer_changes_the_key(request_change, model_change):
    from dataclasses import replace

    changed = ask(**({"text": "q"} | request_change))
    assert Keyer(replace(MODEL, **model_change)).key(changed) != Keyer(MODEL).key(ask("q"))


def test_nothing_else_changes_the_key():
    from dataclasses import replace

    turned = {"properties": {"b": {"type": "number"}, "a": {"type": "string"}}, "type": "object"}
    left = replace(ask("q", SCHEMA, temperature=1), id="first")
    right = replace(ask("q", turned, temperature=1.0), id="second")
    assert Keyer(MODEL).key(left) == Keyer(replace(MODEL, name="other name")).key(right)
    assert key_of_parts(json.loads(json.dumps(Keyer(MODEL).parts(left)))) == Keyer(MODEL).key(left)


def test_roles_and_borders_of_messages_count():
    one = ChatRequest((Message("user", "ab"),), Sampling())
    two = ChatRequest((Message("user", "a"), Message("user", "b")), Sampling())
    three = ChatRequest((Message("system", "ab"),), Sampling())
    assert len({Keyer(MODEL).key(request) for request in (one, two, three)}) == 3


def test_differences_name_the_field():
    left, right = Keyer(MODEL).parts(ask("q", seed=1)), Keyer(MODEL).parts(ask("other", seed=2))
    assert differences(left, right) == ["messages[0][1]", "sampling.seed"]


def test_an_entry_is_on_disk_when_put_returns(cache):
    key = filed(cache, "q")
    line = (cache.directory / ANSWERS).read_bytes()
    assert line.startswith(b'{"key":"' + key.encode()) and line.endswith(b"}\n")
    assert cache.get(key)["answer"] == {"texts": ["x"]} and len(cache) == 1


def test_a_second_entry_of_a_key_is_not_written(cache):
    filed(cache, "q", "first")
    key = filed(cache, "q", "second")
    assert cache.get(key)["answer"]["texts"] == ["first"] and cache.size() == len(
        (cache.directory / ANSWERS).read_bytes().splitlines(keepends=True)[0]
    )


def test_one_folder_is_one_cache_also_while_it_is_empty(tmp_path):
    first, second = open_cache(tmp_path), open_cache(tmp_path)
    assert first is second and first.claim("a" * 64) and not second.claim("a" * 64)
    second.close()
    assert first.claim("b" * 64)
    first.close()


@pytest.mark.parametrize("cut", [1, 2, 30, 90, -2])
def test_a_torn_line_is_dropped_and_the_next_entry_stands(tmp_path, cut):
    first = open_cache(tmp_path)
    kept, torn = filed(first, "kept"), filed(first, "torn")
    first.close()
    path = tmp_path / ANSWERS
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][:cut])
    second = open_cache(tmp_path)
    assert kept in second and torn not in second
    new = filed(second, "new")
    again = filed(second, "torn")
    second.close()
    third = open_cache(tmp_path)
    assert [third.get(key)["answer"]["texts"] for key in (kept, new, again)] == [["x"]] * 3 and len(third) == 3
    third.close()


def test_damage_in_the_middle_costs_its_line_alone(tmp_path):
    first = open_cache(tmp_path)
    keys = [filed(first, f"q{number}") for number in range(3)]
    first.close()
    path = tmp_path / ANSWERS
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1].replace(b'"answer":{', b'"answer":#') + lines[2])
    second = open_cache(tmp_path)
    assert [second.get(key) is not None for key in keys] == [True, False, True]
    filed(second, "q1")
    assert second.get(keys[1]) is not None
    second.close()
    third = open_cache(tmp_path)
    assert third.get(keys[1]) is not None and len(third) == 3
    third.close()


def test_long_entries_are_read_whole(cache):
    key = filed(cache, "q", "y" * (5 << 20))
    other = filed(cache, "r")
    assert len(cache.get(key)["answer"]["texts"][0]) == 5 << 20
    fresh = Cache(cache.directory)
    assert len(fresh) == 2 and fresh.get(other) is not None


def test_another_process_sees_what_was_written_and_respects_claims(cache):
    key = filed(cache, "q")
    free, held = "0" * 64, "f" * 64
    assert cache.claim(held)
    script = (
        "import sys\nfrom pathlib import Path\nfrom bench.llm.cache import open_cache\n"
        f"c = open_cache(Path({str(cache.directory)!r}))\n"
        f"print({key!r} in c, c.claim({free!r}), c.claim({held!r}), flush=True)\nsys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
    ) as other:
        assert other.stdout.readline().split() == ["True", "True", "False"]
        assert not cache.claim(free)
        other.send_signal(signal.SIGKILL)
        other.wait()
    # The kernel lets the claims of the dead go.
    assert cache.claim(free)


def test_pruning_keeps_what_is_wanted_and_refuses_while_in_use(tmp_path):
    cache = open_cache(tmp_path)
    keep, drop = filed(cache, "keep"), filed(cache, "drop")
    with pytest.raises(CheckError, match="in use"):
        prune(tmp_path, lambda entry: True)
    cache.close()
    assert prune(tmp_path, lambda entry: entry["key"] == keep) == (1, 1)
    cache = open_cache(tmp_path)
    assert keep in cache and drop not in cache
    cache.close()


WORKER = """
import sys
from pathlib import Path
from bench.llm import open_llm
from tests.tools.asking import ask
config, out, total, result = sys.argv[1:5]
with open_llm("tiny", Path(config), cache_dir=Path(out), connections=20) as model:
    got = dict(model.answer(ask(f"question {n}") for n in range(int(total))))
lines = [f"{n} {got[n].failure} {got[n].texts[0] if got[n].texts else ''}" for n in sorted(got)]
Path(result).write_text("\\n".join(lines))
"""


@pytest.fixture
def outside(tmp_path, config):
    """A server in a process of its own, which writes down what it answered, and workers on one cache."""
    log = tmp_path / "served.log"
    command = [sys.executable, "-m", "tests.tools.openai_server", "0.02", str(log)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
    path = config(f"http://127.0.0.1:{int(server.stdout.readline())}/v1")

    def worker(total, name="result", cache="cache"):
        arguments = [str(path), str(tmp_path / cache), str(total), str(tmp_path / name)]
        return subprocess.Popen([sys.executable, "-c", WORKER, *arguments], cwd=REPOSITORY, env=os.environ)

    yield worker, log
    server.kill()
    server.wait()


def check_entries(directory, total):
    lines = (directory / ANSWERS).read_bytes().splitlines(keepends=True)
    entries = []
    for line in lines:
        try:
            entries.append(json.loads(line))
        except ValueError:
            # Torn by a kill, at the place where the process died.
            assert not line.endswith(b"}\n")
    keys = [entry["key"] for entry in entries]
    assert len(keys) == len(set(keys)) == total
    return len(lines) - len(entries)


def test_two_processes_on_one_cache_ask_once_and_lose_nothing(outside, tmp_path):
    worker, log = outside
    total = 300
    workers = [worker(total, f"result{number}") for number in range(2)]
    assert [one.wait(120) for one in workers] == [0, 0]
    assert (tmp_path / "result0").read_text() == (tmp_path / "result1").read_text()
    assert check_entries(tmp_path / "cache", total) == 0
    served = log.read_text().split()
    assert len(served) == len(set(served)) == total


def kill_and_resume(outside, tmp_path, total, kills, window, seed=0):
    """Kill a run at random moments of its work, then finish it: answers that the server gave, and those in flight at kills."""
    import random

    worker, log = outside
    draw = random.Random(seed)
    for _ in range(kills):
        before = log.read_text().count("\n") if log.exists() else 0
        running = worker(total)
        while log.read_text().count("\n") <= before and running.poll() is None:
            time.sleep(0.005)
        time.sleep(draw.random() * window)
        running.kill()
        running.wait()
    assert worker(total).wait(240) == 0
    assert worker(total, "whole", "fresh").wait(240) == 0
    assert (tmp_path / "result").read_text() == (tmp_path / "whole").read_text()
    torn = check_entries(tmp_path / "cache", total)
    assert torn <= kills
    return log.read_text().count("\n") - total


def test_kill_9_and_resume(outside, tmp_path):
    served = kill_and_resume(outside, tmp_path, total=300, kills=2, window=0.1)
    # Twenty connections: so many at most were paid and not yet kept at each kill.
    assert 300 <= served <= 300 + 2 * 20


@pytest.mark.slow
def test_ten_kills_of_two_thousand_requests(outside, tmp_path):
    served = kill_and_resume(outside, tmp_path, total=2000, kills=10, window=0.25)
    sys.stdout.write(f"2000 requests, 10 kills, 20 connections: {served} answered by the server\n")
    assert 2000 <= served <= 2000 + 10 * 20


def test_two_models_in_one_process_share_answers(opened, tmp_path):
    behaviour, first = opened(delay_s=0.05)
    from bench.llm import open_llm

    second = open_llm("tiny", tmp_path / "llms.yaml", cache_dir=tmp_path / "out" / "llm-cache")
    requests = [ask(f"q{number}") for number in range(10)]
    one, two = first.answer(requests), second.answer(requests)
    next(one), next(two)
    assert len(list(one)) == len(list(two)) == 9
    assert len(behaviour.seen) == 10
    second.close()
    assert all(answer.cached for answer in answers(first, requests))

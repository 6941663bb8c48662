import json
import time

import pytest

from bench.llm import Failure, open_llm
from bench.llm.contracts import Usage
from tests.tools.asking import answers, ask
from tests.tools.openai_server import KEY

SCHEMA = {
    "type": "object",
    "properties": {"titles": {"type": "array", "items": {"type": "string"}}},
    "required": ["titles"],
    "additionalProperties": False,
}


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    from bench.llm import limits

    monkeypatch.setattr(limits, "FIRST_BACKOFF", 0.01)
    monkeypatch.setattr(limits, "LONGEST_BACKOFF", 0.05)
    monkeypatch.setattr(limits, "COOLDOWN", 0.05)


def test_answers_come_with_their_places_and_from_the_cache_the_second_time(opened):
    behaviour, model = opened()
    requests = [ask(f"question {number}") for number in range(300)]
    first = answers(model, requests)
    assert [answer.texts[0] for answer in first] == [f"answer to question {number}" for number in range(300)]
    assert not any(answer.cached for answer in first) and all(answer.latency_s > 0 for answer in first)
    assert first[7].usage == Usage(2, 5, None)
    again = answers(model, requests)
    assert all(answer.cached for answer in again) and [a.texts for a in again] == [a.texts for a in first]
    assert len(behaviour.log) == 300
    report = model.report()
    assert (report["requests"], report["cached"], report["sent"], report["price"]) == (600, 300, 300, None)
    assert report["latency_p50_s"] > 0


def test_only_as_many_requests_are_drawn_as_can_be_under_way(opened):
    _, model = opened(connections=4, delay_s=0.01)
    drawn = 0

    def source():
        nonlocal drawn
        for number in range(1000):
            drawn += 1
            yield ask(f"q{number}")

    found = model.answer(source())
    next(found)
    assert drawn <= 12
    found.close()


# What the server does, and what becomes of the request; "heals" where a further attempt brings the answer.
FATES = {
    "429": "heals",
    "wait": "heals",
    "408": "heals",
    "409": "heals",
    "500": "heals",
    "503": "heals",
    "529": "heals",
    "cut": "heals",
    "drop": "heals",
    "half": "heals",
    "html": "heals",
    "garbage": "heals",
    "nochoice": "heals",
    "nomessage": "heals",
    "list": "heals",
    "hang": "heals",
    "empty": "heals",
    "400": Failure.BAD_REQUEST,
    "401": Failure.AUTHENTICATION,
    "403": Failure.AUTHENTICATION,
    "404": Failure.NOT_FOUND,
    "413": Failure.BAD_REQUEST,
    "422": Failure.BAD_REQUEST,
    "filter": Failure.CONTENT_POLICY,
    "quota": Failure.RATE_LIMIT,
    "refusal": Failure.REFUSAL,
    "302": Failure.BAD_REQUEST,
}


def test_every_misbehaviour_has_its_fate(opened):
    behaviour, model = opened(timeout_s=1.0)
    kinds = list(FATES)
    got = dict(zip(kinds, answers(model, [ask(f"<{kind}>") for kind in kinds]), strict=True))
    for kind, fate in FATES.items():
        if fate == "heals":
            assert got[kind].ok and got[kind].texts == (f"answer to <{kind}>",), (kind, got[kind])
            assert got[kind].attempts == 2, kind
        else:
            assert got[kind].failure is fate, (kind, got[kind])
            assert got[kind].attempts == 1 and got[kind].detail, kind
    counted = {request["messages"][0]["content"] for request in behaviour.seen}
    assert len(counted) == len(kinds)


@pytest.mark.parametrize(
    ("kind", "failure", "sent"),
    [
        ("500", Failure.SERVER, 3),
        ("429", Failure.RATE_LIMIT, 3),
        ("cut", Failure.CONNECTION, 3),
        ("half", Failure.MALFORMED, 3),
        ("empty", Failure.EMPTY, 2),
    ],
)
def test_retries_are_bounded_and_failures_are_not_cached(opened, kind, failure, sent):
    behaviour, model = opened(attempts=3)
    request = ask(f"<{kind}x*>")
    for _ in range(2):
        (answer,) = answers(model, [request])
        assert answer.failure is failure and not answer.cached
    assert len(behaviour.seen) == 2 * sent


def test_a_wait_beyond_the_deadline_ends_at_once(opened):
    _, model = opened(deadline_s=60.0)
    start = time.monotonic()
    (answer,) = answers(model, [ask("<longx*>")])
    assert time.monotonic() - start < 30 and answer.failure is Failure.RATE_LIMIT and "3600 s" in answer.detail


def test_the_deadline_bounds_all_attempts(opened):
    _, model = opened(timeout_s=0.4, deadline_s=1.0, attempts=100)
    start = time.monotonic()
    (answer,) = answers(model, [ask("<hangx*>")])
    assert answer.failure is Failure.TIMEOUT and time.monotonic() - start < 20  # all of them would take 40


def test_retry_after_is_honoured(opened):
    _, model = opened()
    start = time.monotonic()
    (answer,) = answers(model, [ask("<wait>")])
    assert answer.ok and time.monotonic() - start >= 1.0


def test_concurrency_falls_under_rate_limits_and_every_request_is_answered(opened):
    _, model = opened(connections=32, delay_s=0.002)
    got = answers(model, [ask(f"{number} <429x2>" if number % 3 == 0 else f"{number}") for number in range(120)])
    assert all(answer.ok for answer in got)
    assert model.report()["rate_limited"] >= 1 and model.limiter.limit < 32


def test_requests_a_minute_are_kept(opened):
    _, model = opened({"rpm": 600}, delay_s=0.0)
    start = time.monotonic()
    answers(model, [ask(f"q{number}") for number in range(30)])
    # Ten a second, the first ten at once.
    assert 1.8 <= time.monotonic() - start < 20


def test_connections_bound_what_is_under_way(opened):
    _, model = opened(connections=5, delay_s=0.01)
    answers(model, [ask(f"q{number}") for number in range(60)])
    assert model.report()["most_at_once"] == 5


def test_equal_requests_in_flight_are_sent_once(opened):
    behaviour, model = opened(delay_s=0.05)
    got = answers(model, [ask("the same") for _ in range(20)] + [ask("other")])
    assert len(behaviour.seen) == 2 and len({answer.texts for answer in got[:20]}) == 1
    assert sum(answer.cached for answer in got) == 19
    report = model.report()
    assert report["sent"] == 2 and report["completion_tokens"] == 10


def test_a_wrong_key_stops_early_and_is_shown_nowhere(opened, tmp_path, capfd):
    behaviour, model = opened(key="sk-another-key-9876543210", connections=1)
    behaviour_key = behaviour.key
    got = answers(model, [ask(f"q{number}") for number in range(50)])
    assert {answer.failure for answer in got} == {Failure.AUTHENTICATION}
    assert model.report()["sent"] == 3 and "not sent" in got[-1].detail
    assert "Incorrect API key" in got[0].detail and KEY not in str(got) + str(model.report()) + repr(vars(model))
    assert behaviour_key not in str(got)


def test_no_secret_in_any_file_or_text(opened, tmp_path):
    _, model = opened({"extra_headers": {"x-token": "hidden-header-value"}}, key=KEY)
    got = answers(model, [ask("<echo>"), ask("plain"), ask("<400>")])
    assert got[0].texts == ("your key is [redacted]",)
    model.close()
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert files
    for path in files:
        data = path.read_bytes()
        assert KEY.encode() not in data and b"hidden-header-value" not in data, path


def test_an_unreachable_host_is_told_and_soon_given_up(config, tmp_path):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with open_llm("tiny", config(f"http://127.0.0.1:{port}/v1"), cache_dir=None, attempts=3, connections=2) as model:
        got = answers(model, [ask(f"q{number}") for number in range(40)])
        assert {answer.failure for answer in got} == {Failure.CONNECTION} and "no connection to 127.0.0.1" in got[
            0
        ].detail
        assert model.report()["sent"] <= 40 + 2 * 5


def test_no_job_is_left_to_a_worker_that_is_going(config):
    """Jobs that come in while the last workers end: before, one in some hundred calls waited for ever."""
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    path = config(f"http://127.0.0.1:{port}/v1")
    for _ in range(60):
        with open_llm("tiny", path, cache_dir=None, attempts=1, connections=2) as model:
            assert len(answers(model, [ask(f"q{number}") for number in range(40)])) == 40


def test_bodies_in_every_http_form(opened):
    _, model = opened()
    got = answers(model, [ask("<chunked>"), ask("<unsized>"), ask("again")])
    assert [answer.texts[0] for answer in got] == ["answer to <chunked>", "answer to <unsized>", "answer to again"]
    assert all(answer.attempts == 1 for answer in got)


@pytest.mark.parametrize("n", ["heed", "ignore"])
def test_n_texts_come_even_from_a_server_that_gives_one(opened, n):
    behaviour, model = opened(n=n)
    (answer,) = answers(model, [ask("q", n=3, temperature=1.0, seed=7)])
    assert len(answer.texts) == 3 and len(set(answer.texts)) == 3 and len(answer.finish) == 3
    assert len(behaviour.seen) == (1 if n == "heed" else 3)
    assert answers(model, [ask("q", n=3, temperature=1.0, seed=7)])[0].cached


def test_more_choices_than_asked_are_cut(opened):
    _, model = opened()
    (answer,) = answers(model, [ask("<two>")])
    assert answer.texts == ("first",)


def test_max_requests_stops_cleanly(opened):
    behaviour, model = opened(max_requests=10)
    got = answers(model, [ask(f"q{number}") for number in range(30)])
    assert sum(answer.ok for answer in got) == 10 == len(behaviour.seen)
    assert {answer.failure for answer in got if not answer.ok} == {Failure.BUDGET}


def test_max_cost_is_never_passed_and_everything_is_kept(opened, tmp_path):
    prices = {"input_cost_per_token": 0.01, "output_cost_per_token": 0.02}
    behaviour, model = opened(prices, max_cost=2.0, connections=8)
    requests = [ask(f"question {number:03}", max_tokens=6) for number in range(60)]
    got = answers(model, requests)
    report = model.report()
    assert 0 < report["price"] <= 2.0 and report["failures"]["budget"] > 0
    # Each costs 3 tokens in and 5 out; the last fits with what it may cost at most.
    assert report["price"] > 2.0 - 0.4
    kept = sum(answer.ok for answer in got)
    model.close()
    _, again = opened(prices, running=_Like(behaviour, model))
    assert sum(answer.cached for answer in answers(again, requests)) == kept


class _Like:
    """The same server for a second model."""

    def __init__(self, behaviour, model):
        self.behaviour, self.url = behaviour, model.identity.api_base


def test_a_plan_counts_before_anything_is_sent(opened):
    behaviour, model = opened({"input_cost_per_token": 0.001, "output_cost_per_token": 0.002})
    answers(model, [ask("known", max_tokens=10)])
    plan = model.plan([ask("known", max_tokens=10), ask("new one", max_tokens=10), ask("new one", max_tokens=10)])
    assert (plan.requests, plan.cached, plan.repeated, plan.to_send) == (3, 1, 1, 1)
    assert plan.completion_tokens_at_most == 10 and plan.price_at_most == pytest.approx(
        0.001 * plan.prompt_tokens + 0.02
    )
    assert len(behaviour.seen) == 1


def test_schema_natively(opened):
    behaviour, model = opened()
    (answer,) = answers(model, [ask('say:{"titles": ["Heat"]}', SCHEMA)])
    assert answer.parsed == {"titles": ["Heat"]} and not answer.repaired
    sent = behaviour.seen[0]["response_format"]
    assert sent["type"] == "json_schema" and sent["json_schema"]["strict"] is True


def test_a_server_that_refuses_schemas_is_asked_without(opened):
    behaviour, model = opened(schema="refuse")
    got = answers(model, [ask(f'say:{{"titles": ["{number}"]}}', SCHEMA) for number in range(5)])
    assert all(answer.ok for answer in got)
    answers(model, [ask('say:{"titles": []}', SCHEMA)])
    assert "response_format" not in behaviour.seen[-1]


def test_one_re_ask_and_the_raw_text_kept(opened, tmp_path):
    behaviour, model = opened()
    (healed,) = answers(model, [ask("say:no json here", SCHEMA, system='again:{"titles":["Up"]}')])
    assert healed.ok and healed.repaired and healed.parsed == {"titles": ["Up"]}
    assert len(behaviour.seen) == 2 and healed.attempts == 2 and healed.usage.completion_tokens == 10
    (lost,) = answers(model, [ask("say:still none", SCHEMA, system="again:nothing")])
    assert lost.failure is Failure.UNPARSEABLE and lost.texts == ("nothing",)
    (again,) = answers(model, [ask("say:still none", SCHEMA, system="again:nothing")])
    assert again.cached and again.failure is Failure.UNPARSEABLE and len(behaviour.seen) == 4
    model.close()
    stored = (tmp_path / "out" / "llm-cache" / "answers.jsonl").read_text()
    earlier = [row["answer"].get("earlier_texts") for row in map(json.loads, stored.splitlines())]
    assert earlier == [["no json here"], ["still none"]]


def test_a_fault_in_the_callers_iterable_reaches_the_caller_and_work_is_kept(opened):
    _, model = opened()

    def source():
        yield from (ask(f"q{number}") for number in range(5))
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        list(model.answer(source()))
    assert len(answers(model, [ask("q9")])) == 1


def test_a_lone_surrogate_is_a_request_like_any_other(opened):
    _, model = opened()
    assert answers(model, [ask("odd \ud83d title")])[0].ok


def test_a_full_disk_is_raised_not_swallowed(opened, monkeypatch):
    from bench.llm import cache

    _, model = opened()
    answers(model, [ask("q")])

    def full(handle, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "_write_all", full)
    with pytest.raises(OSError, match="No space"):
        answers(model, [ask("q2")])

import json

import pytest

from bench.cli.main import main
from bench.llm import open_llm
from tests.tools.asking import answers, ask
from tests.tools.openai_server import KEY


@pytest.fixture
def call(capsys):
    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        seen = capsys.readouterr()
        assert KEY not in seen.out + seen.err
        return code, seen.out, seen.err

    return run


def test_check_says_what_works_by_trying(call, server, config):
    running = server(n="heed", key=KEY)
    path = config(running.url)
    code, out, _ = call("llm", "check", "tiny", "--llm-config", path, "--json")
    found = json.loads(out)
    assert code == 0 and found["model"] == "hosted_vllm/tiny" and found["latency_s"] > 0 and found["price"] is None
    assert found["prompt_tokens"] == 8 and found["completion_tokens"] == 5
    features = found["features"]
    assert features["n > 1"] == "works" and features["seed"] == "works"
    assert "ignored" in features["JSON mode"] and "ignored" in features["logprobs"]
    code, out, _ = call("llm", "check", "tiny", "--llm-config", path)
    assert code == 0 and "unknown" in out and "JSON mode" in out


def test_check_of_a_server_that_drops_what_it_does_not_know(call, server, config):
    code, out, _ = call("llm", "check", "tiny", "--llm-config", config(server(schema="refuse").url), "--json")
    features = json.loads(out)["features"]
    assert code == 0 and "ignored" in features["n > 1"] and "refused" in features["JSON mode"]


def test_check_has_a_line_for_each_fault(call, server, config, tmp_path):
    url = server(key="sk-quite-another-key-000").url
    code, _, err = call("llm", "check", "tiny", "--llm-config", config(url))
    assert code == 1 and "is not accepted" in err and "api_key" in err and err.count("\n") == 1
    code, _, err = call("llm", "check", "tiny", "--llm-config", config(server().url, model="hosted_vllm/unknown"))
    assert code == 1 and "knows no model 'unknown'" in err
    code, _, err = call("llm", "check", "tiny", "--llm-config", config("http://127.0.0.1:9/v1"))
    assert code == 1 and "cannot be reached" in err
    code, _, err = call("llm", "check", "tinny", "--llm-config", config(url))
    assert code == 2 and "Did you mean 'tiny'?" in err
    code, _, err = call("llm", "check", "tiny")
    assert code == 2 and "--llm-config" in err


@pytest.fixture
def filled(server, config, tmp_path):
    running = server()
    path, out = config(running.url), tmp_path / "out"
    with open_llm("tiny", path, cache_dir=out / "llm-cache") as model:
        answers(model, [ask("first", seed=1), ask("second"), ask("<refusal>")])
    return path, out


def test_cache_stats(call, filled):
    _, out = filled
    code, shown, _ = call("cache", "stats", "--out", out, "--json")
    found = json.loads(shown)
    assert code == 0 and found["entries"] == 3 and found["bytes"] > 0
    ((name, row),) = found["models"].items()
    assert name.startswith("hosted_vllm/tiny at http://127.0.0.1") and row["entries"] == 3
    assert row["failures"] == {"refusal": 1} and row["price"] is None
    code, shown, _ = call("cache", "stats", "--out", out)
    assert "3 entries" in shown


def test_cache_explain_of_a_key_and_of_a_miss(call, filled):
    path, out = filled
    key = json.loads((out / "llm-cache" / "answers.jsonl").read_text().splitlines()[0])["key"]
    code, shown, _ = call("cache", "explain", key[:10], "--out", out)
    assert code == 0 and f"key {key}: in the cache" in shown and '"seed"' in shown
    with open_llm("tiny", path, cache_dir=out / "llm-cache", offline="export") as model:
        answers(model, [ask("first", seed=2)])
    pending = out / "llm-cache" / "pending" / "tiny.jsonl"
    code, shown, _ = call("cache", "explain", pending, "--out", out)
    assert code == 0 and "not in the cache" in shown and "sampling.seed: 2 here, 1 there" in shown
    code, _, err = call("cache", "explain", "zz", "--out", out)
    assert code == 2 and "neither a file nor a key" in err
    code, _, err = call("cache", "explain", "0000000", "--out", out)
    assert code == 2 and "unknown key" in err


def test_cache_prune(call, filled):
    _, out = filled
    assert call("cache", "prune", "--out", out)[1].startswith("0 lines dropped, 3 entries kept")
    assert call("cache", "prune", "--out", out, "--failures")[1].startswith("1 lines dropped, 2 entries kept")
    assert call("cache", "prune", "--out", out, "--model", "other")[1].startswith("0 lines dropped")
    assert call("cache", "prune", "--out", out, "--model", "hosted_vllm/tiny")[1].startswith("2 lines dropped, 0 ")


def test_the_perf_benchmark_measures_both_times(monkeypatch):
    from bench.llm import perf

    monkeypatch.setattr(perf, "REQUESTS", 200)
    monkeypatch.setattr(perf, "SOME", 300)
    measured = perf.run(seconds=1, rounds=1)
    assert measured["ideal_s"] == pytest.approx(200 / 200 * 0.05) and measured["actual_s"] >= measured["ideal_s"]
    assert measured["ratio"] == pytest.approx(measured["actual_s"] / measured["ideal_s"])
    assert 10 < measured["memory_peak_mib"] < 400 and measured["memory_requests"] == 300

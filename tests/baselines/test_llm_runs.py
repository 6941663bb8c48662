"""`bench run --llm` from end to end: the command line, a real server on loopback, the cache, and what is left on disk."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

import bench
from baselines.zero_shot import ZeroShot
from bench import journal, language
from bench.cli import main as cli
from bench.errors import InputError
from bench.llm.loopback import Response, completion
from bench.rankings import read_rankings
from tests.tools.command_line import killed_after
from tests.tools.fake_llm import FakeLLM, Letters
from tests.tools.openai_server import KEY, Behaviour, Running, error

FLAGS = ("run", "--task", "pos", "--dataset", "mini", "--window", "3")
RERANK = (*FLAGS, "--model", "rerank_sas", "--set", "base=popularity")


class Recommends(Behaviour):
    """Answers what the two recommenders ask: numbers in reverse, or titles; every seventh user's answer is odd."""

    titles: tuple[str, ...] = ()

    def chat(self, request):
        self.seen.append(request)
        prompt = request["messages"][-1]["content"]
        self.log.append(prompt)
        return Response(completion([self.text(prompt, request, 0)], 50, 20), delay_s=self.delay_s)

    def text(self, prompt, request, place):
        kind = sum(map(ord, prompt)) % 7
        numbers = re.findall(r"^\[([0-9]+)\] ", prompt, re.MULTILINE)
        if numbers:
            sound = " > ".join(f"[{number}]" for number in reversed(numbers))
            return {0: "I cannot rank films.", 1: "[3] > [3] > [77]", 2: sound[: len(sound) // 2]}.get(kind, sound)
        start = sum(map(ord, prompt)) % (len(self.titles) - 12)
        some = [*self.titles[start : start + 10]]
        odd = {0: some[:4], 1: [some[0], *some[:9]], 2: [*some[:9], "Zzyzx 0000 qq"], 3: [*some, "One Too Many"]}
        return json.dumps({"titles": odd.get(kind, some)}) if kind != 4 else '{"titles": ["half a li'


@pytest.fixture
def server():
    running = Running(Recommends(key=KEY))
    yield running
    running.close()


@pytest.fixture
def call(server, tmp_path, monkeypatch, command_line):
    """The command line in this process, with a configuration of the server; the encoder is a light one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ZeroShot, "encoder", Letters())
    write_config(tmp_path, server.url)

    return lambda *arguments: command_line(*arguments, "--llm", "tiny", "--llm-config", "llms.yaml")


def write_config(folder: Path, url: str) -> None:
    prices = "input_cost_per_token: 0.000001, output_cost_per_token: 0.000002"
    params = f'{{model: openai/tiny-model, api_base: "{url}", api_key: os.environ/TINY_KEY, {prices}}}'
    (folder / "llms.yaml").write_text(f"model_list:\n  - model_name: tiny\n    litellm_params: {params}\n")


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("TINY_KEY", KEY)


def test_zero_shot_from_end_to_end(call, server, tmp_path):
    from tasks.datasets.mini import Mini

    Recommends.titles = Mini().load().catalogue.titles
    arguments = [*FLAGS, "--model", "zero_shot", "--limit", "60", "--set", "threshold=0.995", "--json"]
    code, out, err = call(*arguments)
    assert code == 0, err
    result = json.loads(out)
    # Ten places are all there are, so nothing is said of twenty.
    assert {"ndcg@10", "recall@10"} <= result["metrics"].keys() and "recall@20" not in result["metrics"]
    assert result["llm"]["model"] == "openai/tiny-model" and result["llm"]["api_base"] == server.url
    assert len(result["llm"]["templates"]["zero_shot.j2"]) == 64 and result["encoder"] == "all-minilm-l6-v2"
    answers, n = result["answers"], result["examples"]
    odd = Counter(sum(map(ord, prompt)) % 7 for prompt in server.behaviour.log if "could not be read" not in prompt)
    assert answers["calls"] == n == sum(odd.values()) <= 60
    # Of half a title no repair makes a title: a failed example, 0 in every metric, counted beside it.
    assert answers["failures"].get("unparseable", 0) == answers["per_call"]["unparseable"]["count"] > 0
    assert result["metrics"]["ndcg@10"]["failed"] == answers["failures"]["unparseable"]
    assert answers["per_call"]["repaired"]["count"] == 0 < odd[4]
    assert answers["per_entry"]["exact"]["rate"] > 0.9 and answers["per_entry"]["duplicate"]["count"] >= odd[1] > 0
    assert answers["per_entry"]["out_of_catalogue"]["count"] == odd[2] > 0
    assert answers["per_call"]["wrong_count"]["count"] >= odd[0] + odd[3] > 0
    cost = result["cost"]
    assert cost["calls"] == n and cost["price"] == pytest.approx(
        1e-6 * cost["prompt_tokens"] + 2e-6 * cost["completion_tokens"]
    )
    assert result["timing"]["llm_latency_p95_s"] >= result["timing"]["llm_latency_p50_s"] > 0
    # Shown again without a question, and another encoder of the same run is none of the cache's business.
    asked = len(server.behaviour.log)
    assert json.loads(call(*arguments)[1])["metrics"] == result["metrics"] and len(server.behaviour.log) == asked
    code, out, _ = call(*arguments[:-1], "--refit")
    assert code == 0 and len(server.behaviour.log) == asked and "Answers of tiny (openai/tiny-model)" in out
    assert "Examples without an answer" in out
    no_secret_in(tmp_path)


def no_secret_in(folder: Path) -> None:
    for path in folder.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


def test_rerankers_share_the_base_and_count_repairs(call, server, tmp_path):
    code, out, err = call(*RERANK, "--limit", "40", "--set", "candidates=30", "--json")
    assert code == 0, err
    single = json.loads(out)
    odd = Counter(sum(map(ord, prompt)) % 7 for prompt in server.behaviour.log)
    per_call = single["answers"]["per_call"]
    assert per_call["unparseable"]["count"] == odd[0] and per_call["repaired"]["count"] == odd[1] + odd[2]
    assert single["answers"]["per_entry"]["outside_candidates"]["count"] == odd[1] > 0
    assert single["metrics"]["ndcg@20"]["failed"] == 0 and single["cost"]["calls"] == single["examples"]
    code, out, _ = call(*RERANK, "--limit", "40", "--set", "candidates=30", "--set", "mode=sliding", "--json")
    sliding = json.loads(out)
    assert code == 0 and sliding["cost"]["calls"] == 2 * sliding["examples"] and sliding["run"] != single["run"]
    kept = {path.name.rpartition("-")[0] for path in (tmp_path / "results" / "models").iterdir() if path.is_dir()}
    assert {"popularity", "rerank_sas"} <= kept
    assert len(list((tmp_path / "results" / "models").glob("rerank_sas-*"))) == 1
    # No item that the base did not offer: the same items to 20 as a set, for K = 20 cannot be left.
    code, out, _ = call(*RERANK, "--limit", "40", "--json")
    twenty = read_rankings(tmp_path / "results" / "runs" / json.loads(out)["run"] / "rankings.parquet", 20)
    base = bench.run(task="pos", model="popularity", dataset="mini", windows=(3,), limit=40, out=tmp_path / "results")
    assert [sorted(row) for row in twenty.items] == [
        sorted(row) for row in read_rankings(base.directory / "rankings.parquet", 20).items
    ]


def test_a_plan_counts_and_sends_nothing(call, server, tmp_path):
    arguments = [*RERANK, "--limit", "40", "--set", "candidates=50", "--set", "mode=sliding"]
    code, out, err = call(*arguments, "--plan", "--json")
    plan = json.loads(out)["plan"]
    assert code == 0, err
    assert plan["requests"] == 4 * plan["examples"] and plan["cached"] == 0 and not server.behaviour.log
    assert plan["price_at_most"] == pytest.approx(
        1e-6 * plan["prompt_tokens"] + 2e-6 * plan["completion_tokens_at_most"]
    )
    assert not (tmp_path / "results" / "runs").exists()
    done = json.loads(call(*arguments, "--json")[1])
    assert done["cost"]["calls"] == plan["requests"] and plan["run"] == done["run"]
    again = json.loads(call(*arguments, "--plan", "--json")[1])["plan"]
    assert again["to_send"] == 0 and again["cached"] == plan["requests"]


def test_answers_may_come_from_elsewhere(call, server, tmp_path, capsys):
    """Plan, export, answers made by hand, import: the run then sends nothing and equals one that was sent."""
    arguments = [*RERANK, "--limit", "30"]
    plan = json.loads(call(*arguments, "--plan", "--json")[1])["plan"]
    assert cli.main(["llm", "export", "batch.jsonl"]) == 0
    lines = [json.loads(line) for line in (tmp_path / "batch.jsonl").read_text("utf-8").splitlines()]
    assert len(lines) == plan["to_send"] == len({line["custom_id"] for line in lines})
    answers = [
        {
            "custom_id": line["custom_id"],
            "response": {"status_code": 200, "body": json.loads(server.behaviour.chat(line["body"]).body)},
        }
        for line in lines
    ]
    server.behaviour.log.clear()
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers), "utf-8")
    assert cli.main(["llm", "import", "answers.jsonl"]) == 0
    capsys.readouterr()
    ours = json.loads(call(*arguments, "--json")[1])
    assert not server.behaviour.log and ours["cost"]["calls"] == plan["requests"]
    sent = json.loads(call(*arguments, "--json", "--out", "elsewhere")[1])
    assert server.behaviour.log and ours["metrics"] == sent["metrics"]


def test_only_what_hangs_on_no_answer_is_exported(call, tmp_path):
    """Later windows of a sliding reranker depend on the first one's answer."""
    arguments = [*RERANK, "--limit", "40", "--set", "candidates=50", "--set", "mode=sliding"]
    plan = json.loads(call(*arguments, "--plan", "--json")[1])["plan"]
    assert cli.main(["llm", "export", "batch.jsonl"]) == 0
    exported = len((tmp_path / "batch.jsonl").read_text("utf-8").splitlines())
    assert exported == plan["examples"] and plan["requests"] == 4 * plan["examples"]


def test_a_budget_stops_cleanly_and_a_larger_one_goes_on(call, server):
    arguments = [*RERANK, "--limit", "40"]
    code, _, err = call(*arguments, "--max-requests", "15")
    assert code == 1 and "stopped at --max-cost or --max-requests" in err and len(server.behaviour.log) == 15
    code, out, _ = call(*arguments, "--json")
    result = json.loads(out)
    assert code == 0 and len(server.behaviour.log) == result["examples"] and not result["answers"]["failures"]
    assert result["cost"]["processes"][-1]["cached"] == 15


def test_a_wrong_key_is_one_line_and_asks_no_further(call, server, monkeypatch, tmp_path):
    monkeypatch.setenv("TINY_KEY", "sk-wrong-0000")
    code, _, err = call(*RERANK, "--limit", "40")
    assert code == 1 and "authentication" in err and err.count("error: ") == 1 and "sk-wrong-0000" not in err
    assert not server.behaviour.log
    # Nothing was scored: the right key goes on with the same run.
    monkeypatch.setenv("TINY_KEY", KEY)
    assert call(*RERANK, "--limit", "40")[0] == 0
    no_secret_in(tmp_path)


def test_requests_that_fail_for_themselves_are_counted_not_scored(call, server, monkeypatch):
    sound = Recommends.text

    def refuses(self, request):
        prompt = request["messages"][-1]["content"]
        if sum(map(ord, prompt)) % 5 == 0:
            return error(400, "The response was filtered", code="content_filter")
        self.log.append(prompt)
        return Response(completion([sound(self, prompt, request, 0)], 50, 20))

    monkeypatch.setattr(Recommends, "chat", refuses)
    code, out, _ = call(*RERANK, "--limit", "40", "--json")
    result = json.loads(out)
    lost = result["examples"] - len(server.behaviour.log)
    assert code == 0 and result["answers"]["failures"] == {"content_policy": lost} and lost > 0
    assert result["metrics"]["recall@10"]["failed"] == lost
    assert result["metrics"]["recall@10"]["n"] == result["examples"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--model", "zero_shot"), "asks a language model: name one with --llm NAME --llm-config FILE"),
        (("--model", "popularity", "--llm", "tiny"), "uses no language model: leave out --llm."),
        (("--model", "popularity", "--max-cost", "3"), "uses no language model: leave out --max-cost."),
        (("--model", "popularity", "--plan"), "there is nothing to count: leave out --plan"),
        (("--model", "zero_shot", "--llm", "tiny"), "--llm-config FILE"),
        (("--model", "zero_shot", "--llm", "tony", "--llm-config", "llms.yaml"), "Did you mean 'tiny'?"),
        (
            ("--model", "zero_shot", "--llm", "tiny", "--llm-config", "llms.yaml", "--set", "decoder=beams"),
            "beam search",
        ),
        (("--model", "zero_shot", "--llm", "tiny", "--llm-config", "llms.yaml", "--max-cost", "0"), "max_cost"),
    ],
)
def test_wrong_input_is_one_line(server, tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ZeroShot, "encoder", Letters())
    write_config(tmp_path, server.url)
    code = cli.main([*FLAGS, "--limit", "4", *arguments])
    err = capsys.readouterr().err
    assert code == 2 and err.count("error: ") == 1 and said in err.splitlines()[-1]


def test_kill_and_resume_without_asking_twice(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_config(tmp_path, server.url)
    command = (
        *RERANK,
        "--limit",
        "120",
        "--set",
        "run.batch_size=10",
        "--llm",
        "tiny",
        "--llm-config",
        "llms.yaml",
        "--json",
    )
    server.behaviour.delay_s = 0.05
    for answered in (7, 40):
        killed_after(server.behaviour.log, answered, *command)
    server.behaviour.delay_s = 0.0
    done = bench.run(**options(tmp_path / "results", batch_size=10))
    distinct = set(server.behaviour.log)
    # What was under way at a kill (a batch of ten at most) may be asked again, and nothing else.
    assert len(server.behaviour.log) <= len(distinct) + 10 * 2
    assert len(distinct) == done.result.examples
    history = journal.read(done.directory / "journal.jsonl")
    assert [record["record"] for record in history.records].count("resume") == 2
    whole = bench.run(**options(tmp_path / "other", batch_size=512))
    assert whole.result.metrics == done.result.metrics and whole.result.answers == done.result.answers
    for name in ("calls", "prompt_tokens", "completion_tokens", "price"):
        assert whole.result.cost[name] == done.result.cost[name]
    no_secret_in(tmp_path)


def options(out: Path, **more):
    asked = {"task": "pos", "model": "rerank_sas", "dataset": "mini", "windows": (3,), "limit": 120}
    return {
        **asked,
        "settings": {"base": "popularity"},
        "llm": "tiny",
        "llm_config": Path("llms.yaml"),
        "out": out,
        **more,
    }


def test_who_is_asked_is_part_of_the_run_and_not_of_the_fitted_model(tmp_path, monkeypatch):
    made: list[FakeLLM] = []

    def opened(name, config, out, **_):
        made.append(FakeLLM(lambda request: "[2] > [1]", name=name))
        return made[-1]

    monkeypatch.setattr(language, "open_language_model", opened)
    asked = {"task": "seq", "model": "rerank_sas", "dataset": "mini", "limit": 5, "out": tmp_path}
    one, other = (bench.run(**asked, settings={"base": "popularity"}, llm=name) for name in ("first", "second"))
    assert one.result.run != other.result.run and all(llm.closed for llm in made)
    assert len(list((tmp_path / "models").glob("rerank_sas-*"))) == 1
    assert one.result.llm.templates.keys() == {"rerank.j2"}
    # Other words to the language model make another run.
    monkeypatch.setattr(language, "template_hashes", lambda model: {"rerank.j2": "0" * 64})
    assert bench.run(**asked, settings={"base": "popularity"}, llm="first").result.run != one.result.run
    with pytest.raises(InputError, match="leave out --batch"):
        bench.run(task="seq", model="popularity", out=tmp_path, llm_batch=True)


def test_run_shows_at_most_twenty_flags(capsys):
    assert cli.main(["run", "--help"]) == 0
    # These three are the whole command's, not those of `run`.
    flags = set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out)) - {"--help", "--version", "--debug"}
    assert {"--max-cost", "--max-requests", "--plan", "--batch", "--llm", "--llm-config"} <= flags
    assert len(flags) <= 20, sorted(flags)


@pytest.mark.parametrize("model", ["zero_shot", "rerank_sas"])
def test_both_keep_the_contract_of_recommenders(call, capsys, model):
    from tasks.datasets.mini import Mini

    Recommends.titles = Mini().load().catalogue.titles
    setting = "base=popularity" if model == "rerank_sas" else "threshold=0.995"
    code, out, err = call("check", model, "--set", setting)
    assert code == 0 and "checks passed" in out, out + err
    assert cli.main(["check", model]) == 2
    assert "asks a language model: name one with --llm NAME" in capsys.readouterr().err


def tiny_llama(folder: Path) -> Path:
    """A random causal model of bytes: it says nothing sensible, through the real engine."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = ["<s>", "<end>", "<pad>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    raw = Tokenizer(models.BPE({word: place for place, word in enumerate(words)}, []))
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="<end>", pad_token="<pad>")
    tokenizer.chat_template = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    ids = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(words), max_position_embeddings=4096, **shape, **ids)).save_pretrained(
        folder
    )
    return folder


@pytest.mark.slow
def test_beams_come_from_a_real_engine_in_this_process(tmp_path, monkeypatch):
    monkeypatch.setattr(ZeroShot, "encoder", Letters())
    asked = {
        "task": "pos",
        "model": "zero_shot",
        "dataset": "mini",
        "windows": (3,),
        "limit": 6,
        "out": tmp_path / "out",
    }
    settings = {"decoder": "beams", "threshold": 0.995, "titles": 5}
    done = bench.run(**asked, settings=settings, llm=f"hf:{tiny_llama(tmp_path / 'tiny')}", device="cpu")
    result = done.result
    answers, ranking = result.answers, read_rankings(done.directory / "rankings.parquet", 20)
    assert answers.calls == result.examples > 0 and result.llm.engine == "transformers"
    found = {name: answers.per_entry[name].count for name in ("exact", "normalised", "embedding", "out_of_catalogue")}
    assert sum(found.values()) == answers.entries <= 10 * result.examples
    places = [kind for row in ranking.extras["grounding"] for kind in row]
    assert len(places) == 10 * result.examples and places.count(4) == found["out_of_catalogue"]
    assert str(tmp_path) not in (done.directory / "metrics.json").read_text()

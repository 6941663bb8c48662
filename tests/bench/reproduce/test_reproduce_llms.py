"""Tables 2 and 3 with language models: a real server on loopback, the command line, budgets, and going on without paying twice."""

import json
import re
import shutil
from functools import partial

import pytest

from baselines.zero_shot import ZeroShot
from bench.errors import InputError
from bench.llm.loopback import Response, completion
from bench.progress import SilentProgress
from bench.reproduce import asking, grids
from bench.reproduce.asking import Askers
from bench.reproduce.plan import Options
from bench.store import MARKER
from tests.tools.fake_llm import FakeLLM, Letters
from tests.tools.openai_server import KEY, Behaviour, Running

LLM = ("--llm", "tiny", "--llm-config", "llms.yaml")
TABLE2 = ("table2", "--only", "zero_shot", "--limit", "12")
# One epoch: what the backbone is worth is not the question.
TABLE3 = ("table3", "--only", "rerank_sas", "--limit", "6", "--set", "rerank_sas.base_settings=epochs=1,batch=64")


class Recommends(Behaviour):
    """Ten titles of the catalogue, or the candidates from the last to the first."""

    titles = ()

    def chat(self, request):
        prompt = request["messages"][-1]["content"]
        self.log.append(prompt)
        numbers = re.findall(r"^\[([0-9]+)\] ", prompt, re.MULTILINE)
        start = sum(map(ord, prompt)) % (len(self.titles) - 10)
        titles = json.dumps({"titles": self.titles[start : start + 10]})
        text = " > ".join(f"[{number}]" for number in reversed(numbers)) if numbers else titles
        return Response(completion([text], 50, 20))


@pytest.fixture
def server():
    from tasks.datasets.mini import Mini

    Recommends.titles = Mini().load().catalogue.titles
    running = Running(Recommends(key=KEY))
    yield running
    running.close()


@pytest.fixture
def call(server, tmp_path, monkeypatch, command_line):
    """`bench reproduce` in this process, on the embedded dataset, with a light encoder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TINY_KEY", KEY)
    monkeypatch.setattr(ZeroShot, "encoder", Letters())
    prices = "input_cost_per_token: 0.000001, output_cost_per_token: 0.000002"
    params = f'{{model: openai/tiny-model, api_base: "{server.url}", api_key: os.environ/TINY_KEY, {prices}}}'
    entries = "".join(f"  - model_name: {name}\n    litellm_params: {params}\n" for name in ("tiny", "GPT-5.2"))
    (tmp_path / "llms.yaml").write_text("model_list:\n" + entries)

    return partial(command_line, "reproduce")


def written(folder, table, limit):
    path = folder / "results" / "reproduce" / f"{table}-mini-{limit}-users"
    return {file.name: file.read_bytes() for file in path.iterdir()}


def measured(out):
    """The measured cells of the main metric by row, backbone, task and condition."""
    cells = json.loads(out)["cells"]
    return {
        (cell["row"], cell["backbone"], cell["task"], cell["condition"]): cell
        for cell in cells
        if cell["metric"] == "ndcg@10" and cell["measured"] is not None
    }


def test_table2_from_end_to_end(call, server, tmp_path):
    code, out, err = call(*TABLE2, *LLM, "--json")
    assert code == 0, err
    cells = measured(out)
    conditions = [("seq", "none"), *(("pos", kind) for kind in ("genre", "genres", "tag"))]
    conditions += [("neg", "genre"), ("neg", "genres")]
    assert list(cells) == [("tiny, list", None, *each) for each in conditions]
    cell = cells["tiny, list", None, "pos", "tag"]
    assert (cell["model"], cell["llm"], cell["settings"]) == ("zero_shot", "tiny", {"decoder": "list"})
    assert cell["published"] is None and len(cell["runs"]) == 1
    result = json.loads((tmp_path / "results" / "runs" / cell["runs"][0] / "metrics.json").read_text())
    assert result["llm"]["name"] == "tiny" and result["metrics"]["ndcg@10"]["value"] == cell["measured"]["value"]
    # The same command asks nobody and writes the same bytes.
    asked, before = len(server.behaviour.log), written(tmp_path, "table2", 12)
    assert asked == len(set(server.behaviour.log)) > 0
    assert "tiny, list | `zero_shot decoder=list llm=tiny` | tag |" in before["table.md"].decode()
    (told,) = [
        line for line in before["table.md"].decode().splitlines() if "| POS | tag |" in line and "exact 100.0 %" in line
    ]
    (answers,) = [each for each in json.loads(out)["answers"] if (each["task"], each["condition"]) == ("pos", "tag")]
    assert f"| {answers['cost']['calls']} | ${answers['cost']['price']:.4f} | 0 of {result['examples']} |" in told
    assert answers["run"] == cell["runs"][0] and answers["answers"] == result["answers"]
    assert "`list` is one greedy list of ten titles" in before["table.md"].decode()
    assert call(*TABLE2, *LLM, "--json")[:2] == (0, out)
    assert len(server.behaviour.log) == asked and written(tmp_path, "table2", 12) == before
    # Without its runs, the answers are still there.
    shutil.rmtree(tmp_path / "results" / "runs")
    assert call(*TABLE2, *LLM)[0] == 0
    assert len(server.behaviour.log) == asked and written(tmp_path, "table2", 12) == before
    assert all(KEY.encode() not in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())


@pytest.mark.slow
def test_table3_from_end_to_end_and_over_a_budget(call, server, tmp_path, monkeypatch):
    monkeypatch.setattr(grids, "SIZES", (20, 30))
    code, out, err = call(*TABLE3, *LLM, "--plan", "--json")
    assert code == 0, err
    plan = json.loads(out)
    asks = [cell["asks"] for cell in plan["cells"]]
    assert len(asks) == 2 * 3 * 5 and {each["over"] for each in asks} == {"popularity"}
    assert plan["llms"]["tiny"]["requests"] == sum(each["requests"] for each in asks) and not server.behaviour.log
    assert not (tmp_path / "results" / "models").exists() and not (tmp_path / "results" / "runs").exists()

    code, _, err = call(*TABLE3, *LLM, "--max-requests", "60")
    # One run stops at the budget, the others of the model are left alone.
    assert code == 1 and len(server.behaviour.log) == 60 and err.count("failed: ") == 1
    assert "stopped at --max-cost or --max-requests" in err and "tiny is not asked on" in err
    assert "| not run |" in written(tmp_path, "table3", 6)["table.md"].decode()

    code, out, err = call(*TABLE3, *LLM, "--json")
    assert code == 0, err
    asked = len(server.behaviour.log)
    assert asked == len(set(server.behaviour.log)) <= plan["llms"]["tiny"]["requests"]
    cells = measured(out)
    rows = {row for row, *_ in cells}
    assert rows == {"tiny K=20 single", "tiny K=30 single", "tiny K=30 sliding"}
    assert {backbone for _, backbone, *_ in cells} == {"sasrec", "gru4rec"} and len(cells) == 2 * 3 * 5
    assert all(cell["settings"]["base"] == backbone for (_, backbone, *_), cell in cells.items())
    runs = {
        key: json.loads((tmp_path / "results" / "runs" / cell["runs"][0] / "metrics.json").read_text())
        for key, cell in cells.items()
    }
    for (row, *_), result in runs.items():
        assert result["cost"]["calls"] == (2 if row.endswith("sliding") else 1) * result["examples"]
    assert sum(result["cost"]["calls"] for result in runs.values()) == plan["llms"]["tiny"]["requests"]
    # The two backbones stand beneath all of their rerankers.
    kept = [path.parent.name.partition("-")[0] for path in (tmp_path / "results" / "models").glob(f"*/{MARKER}")]
    assert sorted(kept) == ["gru4rec", "rerank_sas", "rerank_sas", "sasrec"]
    before = written(tmp_path, "table3", 6)
    shutil.rmtree(tmp_path / "results" / "runs")
    code, out, _ = call(*TABLE3, *LLM, "--plan")
    assert code == 0 and ", 0 to send;" in out and "were counted in their place" not in out
    assert call(*TABLE3, *LLM)[0] == 0
    assert len(server.behaviour.log) == asked and written(tmp_path, "table3", 6) == before


def test_without_a_language_model_nothing_of_it_is_there(call, tmp_path):
    code, out, _ = call("table3", "--only", "dpr_sas", "--plan", "--json")
    plan = json.loads(out)
    assert code == 0 and plan["llms"] == {} and {cell["model"] for cell in plan["cells"]} == {"dpr_sas"}
    assert {cell["asks"] for cell in plan["cells"]} == {None} and not (tmp_path / "results").exists()


def test_a_model_that_the_paper_has_as_well_is_not_taken_for_it(call, server):
    code, out, err = call(*TABLE2, "--llm", "GPT-5.2", "--llm-config", "llms.yaml", "--plan")
    assert code == 0 and re.search(r"GPT-5\.2: \d+ requests, 0 of them cached, .* at most \$\d+\.\d\d\.", out), (
        out + err
    )
    assert not server.behaviour.log
    # Also on the data of the paper a measured row has no printed value beside it.
    made = grids.with_llms(grids.grid("table3"), ("DeepSeek-V3",))
    printed = {row.label for row in made.rows if row.llm is None}
    assert not printed & {row.label for row in made.rows if row.llm is not None}


def test_a_wrong_key_is_asked_with_once(call, server, monkeypatch):
    monkeypatch.setenv("TINY_KEY", "sk-wrong-0000")
    code, out, err = call(*TABLE2, *LLM)
    assert code == 1 and err.count("failed: ") == 1 and "authentication" in out and "sk-wrong-0000" not in out + err
    assert "tiny is not asked on: 5 more runs" in err and not server.behaviour.log


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("table2", "--llm", "tiny"), "--llm tiny needs --llm-config FILE"),
        (("table2", "--llm", "tony", "--llm-config", "llms.yaml"), "Did you mean 'tiny'?"),
        (("table2", "--llm", "tiny", "--llm-config", "lms.yaml"), "lms.yaml"),
        (("table2", "--llm", "hf:/no/such/folder"), "no folder"),
        (("table2", "--llm-config", "llms.yaml"), "no language model is named with --llm: leave out --llm-config."),
        (("table1", "--max-cost", "3"), "leave out --max-cost."),
        (("table1", *LLM), "table1 asks no language model: leave out --llm (it is for table2, table3, table4)."),
        (("table2", *LLM, "--llm", "tiny"), "--llm tiny is given twice."),
        (("table2", *LLM, "--max-requests", "0"), "--max-requests takes a number of at least 1"),
        (("table2", *LLM, "--max-cost", "0"), "--max-cost takes an amount above 0"),
        (("table2", *LLM, "--only", "rerank_sas"), "rerank_sas"),
    ],
)
def test_wrong_input_is_one_line(call, arguments, said):
    code, out, err = call(*arguments)
    assert code == 2 and not out and len(err.strip().splitlines()) == 1 and said in err


def test_the_papers_sizes_are_reranked_over_both_backbones():
    rows = [row for row in grids.with_llms(grids.grid("table3"), ("tiny",)).rows if row.llm]
    for backbone in ("sasrec", "gru4rec"):
        mine = [row for row in rows if row.backbone == backbone]
        assert [row.label for row in mine] == [
            *(f"tiny K={size} single" for size in (20, 30, 50, 100)),
            *(f"tiny K={size} sliding" for size in (30, 50, 100)),
        ]
        assert all(row.settings["base"] == row.base == backbone and row.tasks == ("pos", "neg") for row in mine)


def test_beams_are_for_engines_in_this_process():
    rows = grids.with_llms(grids.grid("table2"), ("tiny", "hf:/some/where/Qwen")).rows
    assert [row.label for row in rows if row.llm] == ["tiny, list", "hf:Qwen, list", "hf:Qwen, beams"]
    assert not any("/some" in row.key for row in rows)
    with pytest.raises(InputError, match="hf:Qwen is given twice"):
        grids.with_llms(grids.grid("table2"), ("hf:/some/where/Qwen", "hf:/else/where/Qwen"))


def test_one_budget_is_for_all_and_one_model_is_open_at_a_time(monkeypatch, tmp_path):
    opened = []

    class Spending(FakeLLM):
        def report(self):
            return {"requests": 1, "answered": 1, "sent": 30, "price": 0.5, "failures": {}}

    def open_llm(name, config, out, **options):
        assert all(llm.closed for llm, _ in opened)
        opened.append((Spending(lambda request: "[1]", name=name), options))
        return opened[-1][0]

    monkeypatch.setattr(asking.language, "open_language_model", open_llm)
    options = Options("mini", out=tmp_path, llms=("a", "hf:b", "c"), max_requests=50, max_cost=0.75)
    with Askers(options, SilentProgress()) as askers:
        for name in ("a", "a", "hf:b", "c"):
            assert askers._lent(name).identity.name == name
    assert len(opened) == 3 and all(llm.closed for llm, _ in opened)
    assert [given["max_requests"] for _, given in opened] == [50, 20, 0]
    # What a local engine does is free.
    assert [given["max_cost"] for _, given in opened] == [0.75, None, 0.25]


@pytest.mark.slow
def test_an_engine_in_this_process_is_loaded_once_for_both_decoders(call, tmp_path, monkeypatch):
    from bench.llm import hf_engine
    from tests.baselines.test_llm_runs import tiny_llama

    loaded = []
    load = hf_engine.TransformersEngine.__init__
    monkeypatch.setattr(
        hf_engine.TransformersEngine, "__init__", lambda self, *given: (loaded.append(given), load(self, *given))[1]
    )
    few = ("--set", "zero_shot.max_tokens=16", "--set", "zero_shot.titles=3", "--device", "cpu")
    asked = ("table2", "--only", "zero_shot", "--limit", "2", *few, "--llm", f"hf:{tiny_llama(tmp_path / 'small')}")
    code, out, err = call(*asked, "--json")
    assert code == 0, err
    assert {row for row, *_ in measured(out)} == {"hf:small, list", "hf:small, beams"} and len(loaded) == 1
    assert str(tmp_path) not in out and call(*asked, "--json")[1] == out and len(loaded) == 1

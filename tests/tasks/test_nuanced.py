"""The task `nuanced` and its request sets: frozen questions, their digest in the identity, and what is said of wrong files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.cli import main as cli
from bench.contracts import NO_ITEM, Ranking
from bench.errors import InputError
from bench.identity import targets_digest
from bench.progress import SilentProgress
from bench.runner import RunConfig, make_plan
from tasks.datasets.mini import Mini
from tasks.label_words import LabelWords
from tasks.nuanced import Nuanced, NuancedSettings, responsiveness
from tasks.request_sets import MODES, Origin, UserRequest, parse_request_set, read_request_set, write_request_set

ML1M = Path(__file__).resolve().parents[3] / "shared" / "data" / "ml-1m"


@pytest.fixture(scope="module")
def mini():
    return Mini().load()


def request_lines(*rows, dataset="mini"):
    return "".join(json.dumps(row) + "\n" for row in ({"request_set": 1, "dataset": dataset}, *rows))


def one(user="12", mode="mood", statement="Something calm.", **more):
    return {"user_id": user, "mode": mode, "statement": statement, **more}


@pytest.mark.parametrize(("dataset", "users"), [("mini", 100), ("ml-1m", 200)])
def test_shipped_sets_ask_three_distinct_things_of_every_user_and_name_no_genre(dataset, users, mini):
    found = read_request_set("shipped", dataset).requests
    names = (
        mini.catalogue.label_names
        if dataset == "mini"
        else [
            "Action",
            "Adventure",
            "Animation",
            "Children's",
            "Comedy",
            "Crime",
            "Documentary",
            "Drama",
            "Fantasy",
            "Film-Noir",
            "Horror",
            "Musical",
            "Mystery",
            "Romance",
            "Sci-Fi",
            "Thriller",
            "War",
            "Western",
        ]
    )
    named = LabelWords(names, proof=True)
    assert len(found) == 3 * users == len({request.statement for request in found})
    assert [request.mode for request in found] == list(MODES) * users
    assert len({request.user_id for request in found}) == users
    assert [request.statement for request in found if named.words(request.statement)] == []


@pytest.mark.skipif(not ML1M.is_dir(), reason="MovieLens-1M is not here")
def test_the_shipped_set_of_movielens_is_the_frozen_one():
    rows = [json.loads(line) for line in (ML1M / "nuanced_requests.jsonl").read_text("utf-8").splitlines()]
    ours = [
        request.model_dump() | {"user_id": int(request.user_id)}
        for request in read_request_set("shipped", "ml-1m").requests
    ]
    assert ours == rows


def test_examples_are_the_requests_in_order_with_the_history_before_the_split(mini):
    task = Nuanced()
    asked = task.request_set(mini).requests
    examples = task.examples(mini, split="test", seed=3)
    assert examples.requests.prompts == tuple(request.statement for request in asked)
    assert [mini.user_ids[user] for user in examples.requests.users] == [request.user_id for request in asked]
    user = int(examples.requests.users[7])
    assert (examples.requests.history[7] == mini.events[user][: mini.valid_end[user]]).all()
    earlier = task.examples(mini, split="valid", seed=0)
    assert (earlier.requests.history[7] == mini.events[user][: mini.train_end[user]]).all()
    assert not len(examples.targets.items.values) and (examples.targets.intent.polarity == 1).all()


def test_other_words_are_other_questions_and_the_digest_is_in_the_identity_but_not_the_path(mini, tmp_path):
    def plan(path, statement):
        path.write_text(request_lines(one(statement=statement)))
        config = RunConfig.build(
            task="nuanced", model="popularity", settings={"task.requests": str(path)}, out=tmp_path
        )
        return make_plan(config, SilentProgress(), dataset=mini)

    first = plan(tmp_path / "a.jsonl", "Something calm.")
    same = plan(tmp_path / "b.jsonl", "Something calm.")
    other = plan(tmp_path / "c.jsonl", "Something loud.")
    assert first.identity == same.identity != other.identity
    assert first.condition == "free" and first.task_settings.digest == first.task.request_set(mini).digest
    asked = [each.task.examples(mini, split="test", seed=0) for each in (first, same, other)]
    digests = [targets_digest(examples) for examples in asked]
    assert digests[0] == digests[1] != digests[2]


def test_a_set_that_changed_since_is_refused(mini, tmp_path):
    path = tmp_path / "set.jsonl"
    path.write_text(request_lines(one()))
    digest = Nuanced.suited(mini, {"requests": str(path)})["digest"]
    task = Nuanced(NuancedSettings(requests=str(path), digest=digest))
    assert len(task.examples(mini, split="test", seed=0)) == 1
    path.write_text(request_lines(one(statement="Something else.")))
    with pytest.raises(InputError, match="it is not the set that was meant"):
        task.examples(mini, split="test", seed=0)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is empty"),
        (request_lines(), "has a header and no request"),
        (json.dumps(one()) + "\n", "line 1: expected the header of a request set"),
        (request_lines(one(), dataset="ml-1m"), "users of dataset 'ml-1m', not of 'mini'"),
        ('{"request_set": 2, "dataset": "mini"}\n', "line 1: request_set"),
        (request_lines(one()) + "not json\n", "line 3: not JSON: 'not json'"),
        (request_lines(one()) + "[" * 100_000 + "\n", "line 3: not JSON"),
        (request_lines(one(mode="moody")), "line 2: mode"),
        (request_lines(one(statement="")), "line 2: statement"),
        (request_lines(one(statement="x" * 401)), "line 2: statement"),
        (request_lines(one(user=True)), "line 2: user_id"),
        (request_lines(one(genre="Drama")), "line 2: genre"),
        (request_lines({"user_id": "1"}), "line 2: mode"),
        (request_lines(one(), one()), "line 3: user '12' has a second mood request"),
    ],
)
def test_wrong_files_are_told_by_name_and_line(text, told):
    with pytest.raises(InputError, match=re.escape(told)) as raised:
        parse_request_set(text, "set.jsonl", "mini")
    assert str(raised.value).startswith("set.jsonl") and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--set", "task.requests=nowhere.jsonl"), "nowhere.jsonl cannot be read"),
        (("--set", "task.requests=bytes.jsonl"), "is not UTF-8 text"),
        (("--set", "task.requests=unknown.jsonl"), "dataset 'mini' has no user '99999'"),
        (("--set", "task.request=x"), "Did you mean 'requests'?"),
        (("--set", "task.digest=00ff"), "expected 00ff"),
        (("--prompt-kind", "genre"), "takes no --prompt-kind"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("bytes.jsonl").write_bytes(b"\xff\xfe\x00")
    Path("unknown.jsonl").write_text(request_lines(one(user="99999")))
    code = cli.main(["run", "--task", "nuanced", "--model", "popularity", *arguments])
    err = capsys.readouterr().err
    assert code == 2 and told in err and err.rstrip("\n").splitlines()[-1].startswith("error: ")
    assert not Path("results").exists()


def test_a_dataset_without_a_set_says_how_to_make_one():
    with pytest.raises(InputError, match="bench simulate --dataset tiny"):
        read_request_set("shipped", "tiny")


def test_a_run_is_ranked_scored_again_and_says_how_to_judge_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["run", "--task", "nuanced", "--model", "popularity", "--limit", "5"]) == 0
    out = capsys.readouterr().out
    assert "responsiveness@10   0.0000" in out and "Ranked, not judged" in out
    (run,) = (tmp_path / "results" / "runs").iterdir()
    assert f"bench judge {run.name} --judge proxy" in out
    assert cli.main(["score", run.name, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (
        result["condition"] == "free" and result["examples"] == 15 and list(result["metrics"]) == ["responsiveness@10"]
    )


words = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=60)


@given(st.lists(st.tuples(words, words, words), max_size=5))
def test_what_is_written_is_read_again(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("sets") / "set.jsonl"
    requests = [
        UserRequest(user_id=f"{row} {user}", mode=mode, statement=statement, implied_intent=intent)
        for row, (user, statement, intent) in enumerate(texts)
        for mode in MODES
    ]
    if not requests:
        return
    write_request_set(path, Origin(dataset="mini", seed=0), requests)
    found = read_request_set(str(path), "mini")
    assert list(found.requests) == requests and found.origin == Origin(dataset="mini", seed=0)


def slow_responsiveness(items, users, k):
    values = []
    for row, (mine, user) in enumerate(zip(items, users, strict=True)):
        own = {item for item in mine[:k] if item != NO_ITEM}
        others = [
            {item for item in items[other][:k] if item != NO_ITEM}
            for other in range(len(items))
            if other != row and users[other] == user
        ]
        others = [other for other in others if other]
        if not others:
            values.append(np.nan)
        else:
            values.append(np.mean([1 - len(own & other) / k for other in others]) if own else 0.0)
    return values


@given(st.data())
def test_responsiveness_by_definition(data):
    size, k = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 4))
    users = np.array(data.draw(st.lists(st.integers(0, 2), min_size=size, max_size=size)), np.int32)
    lists = st.lists(st.integers(0, 7), max_size=5, unique=True)
    rows = [data.draw(lists) for _ in range(size)]
    items = np.array([row + [NO_ITEM] * (5 - len(row)) for row in rows], np.int32)
    np.testing.assert_allclose(responsiveness(items, users, k), slow_responsiveness(items, users, k))


def test_a_model_that_hears_no_words_has_no_responsiveness(mini):
    examples = Nuanced().examples(mini, split="test", seed=0)
    items = np.stack([np.arange(user, user + 20) for user in examples.requests.users]).astype(np.int32)
    scores = Nuanced().score(Ranking(items, np.zeros(items.shape, np.float32)), examples)
    assert (scores.columns["responsiveness@10"] == 0).all()

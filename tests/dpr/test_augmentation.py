"""`bench augment` from end to end on a tiny catalogue in MovieLens' layout: tags, rewordings, summaries, and the dataset that reads them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpr.wording import content_words, mean_shared, shared
from judges.summaries import read_summaries
from tasks.datasets.movielens import MovieLens1M
from tasks.datasets.tags import TAGS, read_tags, shipped_tags
from tests.tools.command_line import finished, killed_after
from tests.tools.openai_server import KEY, Running
from tests.tools.writing_server import OTHER, PLAIN, Writes, write_config

FILMS = 30
GENRES = ("Drama", "War", "Sci-Fi")


@pytest.fixture
def data(tmp_path):
    """Thirty films that the shipped tags do not know, and users who have seen all of them."""
    folder = tmp_path / "data"
    folder.mkdir()
    movies = [f"{90000 + film}::Film {film} (1999)::{GENRES[film % 3]}" for film in range(FILMS)]
    events = [f"{user}::{90000 + (film + user) % FILMS}::5::{film}" for user in range(1, 8) for film in range(FILMS)]
    (folder / "movies.dat").write_text("\n".join(movies) + "\n")
    (folder / "ratings.dat").write_text("\n".join(events) + "\n")
    return folder


@pytest.fixture
def server():
    running = Running(Writes(key=KEY))
    yield running
    running.close()


@pytest.fixture
def call(server, data, tmp_path, monkeypatch, command_line):
    """`bench augment` on the tiny catalogue, in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TINY_KEY", KEY)
    flags = write_config(tmp_path, server.url)

    def run(what, *arguments, data_dir=data):
        place = () if data_dir is None else ("--dataset", "ml-1m", "--data-dir", data_dir)
        return command_line("augment", what, *place, *arguments, *flags)

    return run


def test_tags_rewrite_summaries_and_the_dataset_reads_them(call, server, data):
    before = MovieLens1M().load(data)
    assert not any(before.catalogue.train_tags)
    code, out, _ = call("tags", "--batch-size", "7", "--json")
    assert code == 0 and json.loads(out)["written"] == FILMS and len(server.behaviour.log) == 5
    tagged = MovieLens1M().load(data)
    assert tagged.catalogue.train_tags[0][0] == " ".join(PLAIN) and not any(tagged.catalogue.eval_tags)
    assert tagged.catalogue.texts[0].endswith(f"{tagged.catalogue.train_tags[0][-1]}.")
    assert tagged.fingerprint != before.fingerprint
    code, out, _ = call("rewrite", "--json")
    report = json.loads(out)
    assert (
        code == 0
        and (report["figures"]["overlap_mean"], report["figures"]["overlap_max"]) == (0.0, 0.0)
        and len(server.behaviour.log) == 7
    )
    whole = MovieLens1M().load(data)
    assert (
        whole.catalogue.eval_tags[-1][0] == " ".join(OTHER)
        and whole.catalogue.train_tags == tagged.catalogue.train_tags
    )
    header = read_tags(data / TAGS, "ml-1m").header
    assert (
        header.overlap == 0.0
        and set(header.train.templates) == {"tags.j2"}
        and set(header.eval.templates) == {"rewrite.j2"}
    )
    assert KEY not in (data / TAGS).read_text()
    code, out, _ = call("summaries", "--batch-size", "15")
    assert code == 0 and f"{FILMS} written by tiny" in out and "mean words: 45.0" in out
    summaries = read_summaries(data / "summaries.jsonl", whole)
    assert len(summaries) == FILMS and all(40 <= len(text.split()) <= 50 for text in summaries)
    # The three commands again find everything in the cache, and write what they wrote.
    old = {path.name: path.read_bytes() for path in data.iterdir()}
    sent = len(server.behaviour.log)
    assert [
        call(*again)[0] for again in (("tags", "--batch-size", "7"), ("rewrite",), ("summaries", "--batch-size", "15"))
    ] == [0] * 3
    assert len(server.behaviour.log) == sent and {path.name: path.read_bytes() for path in data.iterdir()} == old


def entry(change):
    """A fault of the second entry of an answer."""

    def fault(value, _):
        value["items"][1] = change(value["items"][1])
        return value

    return fault


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (entry(lambda row: row | {"tags": row["tags"][:2]}), "3 tags were asked for, there were 2"),
        (entry(lambda row: row | {"tags": [row["tags"][0]] * 3}), "two of the tags are the same"),
        (entry(lambda row: row | {"tags": ["too short", *row["tags"][1:]]}), "tag 1 has 2 words, 5 to 12"),
        (entry(lambda row: row | {"tags": [*row["tags"][:2], "war " + row["tags"][2]]}), '"war", which names a label'),
        (entry(lambda row: row | {"id": 77}), "there was no entry for it"),
    ],
)
def test_a_faulty_item_is_asked_for_again_alone_with_what_was_wrong(call, server, fault, told):
    server.behaviour.faults = fault
    code, out, _ = call("tags", "--batch-size", "30", "--json")
    assert code == 0 and json.loads(out)["written"] == FILMS
    first, again = server.behaviour.log
    assert told in again and told not in first
    assert '"Film 1 (1999)"' in again and '"Film 2 (1999)"' not in again


def test_rewordings_that_share_too_many_words_are_refused_and_left_out_in_the_end(call, server, data):
    assert call("tags")[0] == 0
    originals = [" ".join(PLAIN[start:] + PLAIN[:start]) for start in range(3)]

    def parrots(value, prompt):
        return {"items": [row | {"tags": originals} for row in value["items"]]}

    server.behaviour.faults = parrots
    code, out, _ = call("rewrite", "--json", "--attempts", "2")
    assert code == 0 and json.loads(out)["written"] == FILMS
    assert sum("shares 100% of its content words" in prompt for prompt in server.behaviour.log) == 2
    code, _, err = call("rewrite", "--attempts", "1", "--replace")
    assert code == 1 and "no text was good" in err and "at most 34% are allowed" in err
    assert all(evaluation for _, evaluation in read_tags(data / TAGS, "ml-1m").tags.values())


def test_tags_of_another_origin_are_not_written_over(call, data):
    line = json.dumps({"item_id": "90000", "train": ["by hand"], "eval": ["manually"]}) + "\n"
    (data / TAGS).write_text(line)
    for what in ("tags", "rewrite"):
        code, _, err = call(what)
        assert code == 2 and "of another origin" in err and "--replace" in err
    assert (data / TAGS).read_text() == line
    assert call("tags", "--replace")[0] == 0 and len(read_tags(data / TAGS, "ml-1m").tags) == FILMS


def test_killed_and_resumed_repeats_no_request(server, data, tmp_path):
    server.behaviour.delay_s = 0.4
    flags = write_config(tmp_path, server.url)
    config = tmp_path / "llms.yaml"
    config.write_text(config.read_text().replace("model: openai", "max_parallel_requests: 1, model: openai"))
    command = ("augment", "tags", "--dataset", "ml-1m", "--data-dir", data, "--batch-size", "3", *flags)
    killed_after(server.behaviour.log, 4, *command, cwd=tmp_path, TINY_KEY=KEY)
    assert not (data / TAGS).exists()
    server.behaviour.delay_s = 0.0
    assert finished(*command, cwd=tmp_path, TINY_KEY=KEY).returncode == 0
    # Only what was under way when the process died is asked twice.
    assert len(server.behaviour.log) <= 10 + 1 and len(set(server.behaviour.log)) == 10


def test_plan_counts_and_sends_nothing(call, server):
    code, out, _ = call("tags", "--plan", "--batch-size", "10", "--json")
    plan = json.loads(out)["plan"]
    assert code == 0 and (plan["requests"], plan["to_send"]) == (3, 3) and not server.behaviour.log


def test_bad_input_is_one_line(call, data, tmp_path):
    def refused(*arguments, **options):
        code, _, err = call(*arguments, **options)
        assert code == 2, err
        return err

    assert "write them first with `bench augment tags`" in refused("rewrite")
    assert "name a file with --to FILE" in refused("tags", "--dataset", "mini", data_dir=None)
    assert "batch" in refused("tags", "--batch-size", "0")
    data.chmod(0o555)
    assert "cannot be written: name another place with --to FILE" in refused("tags")
    data.chmod(0o755)
    (data / TAGS).write_text('{"item_id": "90000", "train": ["a"]}\n{"item_id": "90001", "train": "a"}\n')
    assert "line 2: train" in refused("tags")
    (data / TAGS).write_text('{"item_id": "90000", "train": ["a"]}\n{"item_id": 90000, "train": ["a"]}\n')
    assert "stands there twice" in refused("tags")
    (data / TAGS).write_text('{"tags": 1, "dataset": "mind"}\n')
    assert "has tags of dataset 'mind', not of 'ml-1m'" in refused("tags")


def test_news_are_spoken_of_as_news(call, server, monkeypatch):
    monkeypatch.setattr(MovieLens1M, "card", MovieLens1M.card.model_copy(update={"domain": "news"}))
    assert call("tags", "--batch-size", "30")[0] == 0
    (prompt,) = server.behaviour.log
    assert "30 news articles with their titles and assigned categories" in prompt and "movie" not in prompt.lower()


def test_shipped_tags_share_few_words():
    pairs = [
        pair for train, evaluation in shipped_tags("ml-1m").values() for pair in zip(evaluation, train, strict=True)
    ]
    assert len(pairs) == 3 * 3706 and mean_shared(pairs) < 0.08


@given(st.lists(st.sampled_from([*PLAIN, "the", "of", "a"]), min_size=1), st.lists(st.sampled_from([*PLAIN, "the"])))
def test_shared_words_by_definition(rewording, original):
    """Against sets of the plain words, none of which has an ending that is cut but those in -s and -ed."""
    one, other = (
        {word for word in words if word not in ("the", "of", "a", "through")} for words in (rewording, original)
    )
    expected = len(one & other) / len(one) if one else 0.0
    assert shared(" ".join(rewording), " ".join(original)) == pytest.approx(expected)
    assert shared(" ".join(rewording), " ".join(rewording)) == (1.0 if one else 0.0)


def test_inflections_count_as_the_same_word():
    assert content_words("Toys' toy") == {"toy"} and shared("The keepers guarded", "A keeper guards it") == 1.0

"""`bench publish`: one commit of what belongs there, against a hub on loopback; the token is never shown."""

import json

import pytest

from bench.cli.main import main
from bench.errors import CheckError, InputError
from bench.leaderboard.publish import collect, commit, parse_address
from tests.tools.hub_server import TOKEN, Hub, running


@pytest.fixture
def board(go, build, out):
    go("plain")
    build()
    examples = out / "leaderboard" / "examples"
    examples.mkdir(parents=True)
    (out / "leaderboard" / "index.html").write_text("<p>page")
    (examples / "a.json").write_text(json.dumps({"private": False}))
    return out


def test_dry_run_names_every_file_and_sends_nothing(board, capsys):
    assert main(["publish", "--to", "hf://datasets/org/board", "--out", str(board), "--dry-run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["sent"] is False and told["commit"] is None
    assert list(told["files"]) == ["leaderboard.json", "leaderboard/examples/a.json", "leaderboard/index.html"]


def test_private_examples_and_boards_that_do_not_pass_are_not_published(board, capsys, edit):
    for content in ('{"private": true}', "{}", "torn"):
        (board / "leaderboard" / "examples" / "a.json").write_text(content)
        with pytest.raises(InputError, match="their licence keeps private"):
            collect(board)
    edit(board / "leaderboard.json", "rows/0/metrics/ndcg@10/value", 0.9)
    assert main(["publish", "--to", "hf://datasets/org/board", "--out", str(board), "--dry-run"]) == 1
    assert "is not published" in capsys.readouterr().err


@pytest.mark.parametrize("to", ["org/board", "hf://models/org/board", "hf://datasets/org", "hf://datasets/../x/y", ""])
def test_wrong_addresses(to):
    with pytest.raises(InputError, match="hf://datasets/ORG/NAME"):
        parse_address(to)


@pytest.fixture
def push(board, monkeypatch):
    """Send to a hub; what is said of it, in which the token never stands."""

    def send(hub, repository, token=TOKEN):
        with running(hub) as address:
            monkeypatch.setenv("HF_ENDPOINT", address)
            monkeypatch.setenv("HF_TOKEN", token)
            try:
                said = commit(repository, collect(board))
            except (InputError, CheckError) as error:
                said = f"{type(error).__name__} {error}"
        assert token not in said
        return said

    return send


def test_one_commit_with_what_belongs_there_and_without_what_is_gone(board, push):
    kept = {"README.md": b"theirs", "leaderboard/examples/old.json": b"x", "submissions/old.tar.gz": b"x"}
    hub = Hub(files=kept)
    assert push(hub, "org/board").startswith("https://")
    assert hub.files["leaderboard.json"] == (board / "leaderboard.json").read_bytes()
    assert set(hub.files) == {"README.md", *collect(board)}
    assert hub.deleted == ["leaderboard/examples/old.json", "submissions/old.tar.gz"]
    assert sum(path.partition("?")[0].endswith("/commit/main") for _, path in hub.seen) == 1


@pytest.mark.parametrize(
    ("hub", "repository", "token", "told"),
    [
        (Hub(), "org/other", TOKEN, "InputError there is no dataset repository 'org/other'"),
        (Hub(status=403), "org/board", TOKEN, "InputError the Hub does not let this token write to org/board (403)"),
        (Hub(status=400), "org/board", TOKEN, "CheckError the Hub answered 400"),
        (Hub(), "org/board", "hf_anotherTokenThatIsWrong12345", "InputError"),
    ],
)
def test_refusals_are_one_line_without_the_token(push, hub, repository, token, told):
    said = push(hub, repository, token)
    assert said.startswith(told) and "\n" not in said, said

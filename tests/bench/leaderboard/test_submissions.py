"""`bench submit`, archives from strangers, and the list of submissions."""

import gzip
import io
import json
import shutil
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.cards import DatasetCard
from bench.cli.main import main
from bench.errors import InputError
from bench.leaderboard import archive, submissions
from bench.leaderboard.check_board import verify_archive, verify_board


@pytest.fixture
def submitted(go, out, capsys):
    """A run, its archive and its line."""

    def make(model="plain", **options):
        run = go(model, **options)
        assert main(["submit", run.result.run, "--out", str(out)]) == 0
        line = capsys.readouterr().out.strip()
        return run, out / "submissions" / f"{run.result.run}.tar.gz", line

    return make


def listed(out, *lines):
    (out / "submissions" / "submissions.jsonl").write_text("".join(f"{line}\n" for line in lines))


def test_a_submission_passes_elsewhere_and_stands_on_the_board_as_submitted(submitted, build, data, out):
    run, path, line = submitted()
    assert json.loads(line)["row"]["metrics"]["ndcg@10"] == round(run.metrics["ndcg@10"].value, 6)
    shutil.rmtree(out / "runs")
    assert verify_archive(path, data).problems == []
    listed(out, line)
    board = build().board
    (row,) = [row for row in board.rows if row.source == "submitted"]
    assert row.id == f"submitted-{run.result.run}" and row.submission.file == path.name
    assert row.metrics["ndcg@10"].value == run.metrics["ndcg@10"].value
    verdict = verify_board(out / "leaderboard.json", data)
    assert (verdict.problems, verdict.recomputed) == ([], 1)


def test_measured_and_submitted_rows_are_ranked_together(submitted, go, build, out):
    run, _, line = submitted("plain")
    go("reader")
    shutil.rmtree(run.directory)
    listed(out, line)
    (group,) = build().board.groups
    assert len(group.places) == 2 and all(place.rank is not None for place in group.places)


def test_a_run_that_lies_here_and_was_submitted_stands_once_as_measured(submitted, build, data, out):
    run, path, line = submitted()
    listed(out, line)
    done = build()
    assert [row.source for row in done.board.rows if row.run == run.result.run] == ["measured"]
    assert [len(place.rows) for group in done.board.groups for place in group.places] == [1]
    assert any(f"submitted-{run.result.run}: {run.result.run} is the same system" in line for line in done.left_out)
    assert verify_board(out / "leaderboard.json", data).problems == []
    # It is checked all the same.
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="line 1"):
        verify_board(out / "leaderboard.json", data)


def test_the_same_run_gives_the_same_archive_with_numbers_and_nothing_else(submitted, data, tmp_path):
    run, path, _ = submitted()
    again = archive.pack(run.directory, tmp_path, data.get("tiny"))
    assert again.path.read_bytes() == path.read_bytes()
    with tarfile.open(path) as tar:
        assert [member.name.partition("/")[2] for member in tar] == sorted(archive.OWN)
        assert all(member.mtime == 0 and member.uid == 0 and not member.uname for member in tar)


def test_secrets_titles_and_strange_columns_are_not_packed(go, data, tmp_path):
    run = go("plain")
    tiny = data.get("tiny")
    assert not tiny.card.licence, "what says of no licence is not passed on"
    path = run.directory / "metrics.json"
    clean = path.read_text()
    path.write_text(clean.replace('"argv": [', '"argv": ["sk-proj-0123456789abcdef", '))
    with pytest.raises(InputError, match="looks like a key") as error:
        archive.pack(run.directory, tmp_path, tiny)
    assert "0123456789" not in str(error.value)
    titles = tuple(f"The long title {v}" for v in range(30))
    from dataclasses import replace

    named = replace(tiny, catalogue=replace(tiny.catalogue, titles=titles))
    path.write_text(clean.replace('"argv": [', '"argv": ["The long title 7", '))
    with pytest.raises(InputError, match="quotes the title 'The long title 7'"):
        archive.pack(run.directory, tmp_path, named)
    free = replace(named, card=DatasetCard(**named.card.model_dump() | {"licence": "CC0-1.0"}))
    assert archive.pack(run.directory, tmp_path, free).path.is_file()
    path.write_text(clean)
    rankings = run.directory / "rankings.parquet"
    table = pq.read_table(rankings)
    pq.write_table(table.append_column("thoughts", pa.array(["The long title 3"] * table.num_rows)), rankings)
    with pytest.raises(InputError, match="quotes the title"):
        archive.pack(run.directory, tmp_path, named)
    pq.write_table(table.append_column("blob", pa.array([b"x"] * table.num_rows)), rankings)
    with pytest.raises(InputError, match="'blob' holds binary"):
        archive.pack(run.directory, tmp_path, tiny)


def test_a_run_that_does_not_pass_is_not_submitted(go, out, edit, capsys):
    run = go("plain")
    edit(run.directory / "metrics.json", "metrics/ndcg@10/value", 0.9)
    assert main(["submit", run.result.run, "--out", str(out)]) == 1
    seen = capsys.readouterr()
    assert "is not submitted" in seen.err and not seen.out and not (out / "submissions").exists()
    limited = go("plain", limit=4)
    assert main(["submit", limited.result.run, "--out", str(out)]) == 1


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(share=st.floats(0, 0.999))
def test_a_truncated_archive_is_refused_wherever_it_ends(share, tmp_path_factory):
    folder = tmp_path_factory.mktemp("truncated")
    path = folder / "run.tar.gz"
    write_archive(path, {f"run/{name}": name.encode() * 400 for name in archive.OWN})
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=r"truncated|no journal\.jsonl|holds 0 folders"):
        archive.unpack(path, folder / "into")
    assert not any(folder.parent.glob("evil*"))


def write_archive(path, members, **kinds):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for name, (kind, target) in kinds.items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            tar.addfile(member)
    path.write_bytes(gzip.compress(stream.getvalue()))


FINE = {f"run/{name}": b"x" for name in archive.OWN}


@pytest.mark.parametrize(
    "name",
    ["../evil", "/tmp/evil", "run/../../evil", "run/evil.py", "run", "run/judgements/a/../../metrics.json", "run//metrics.json",
     "run/judgements/a/verdicts.jsonl", "run/.hidden", "a" * 300, "run\\..\\evil", "run/metrics.json\0", "./run/metrics.json"],
)  # fmt: skip
def test_members_that_do_not_belong_there_are_refused_and_nothing_lies_outside(name, tmp_path):
    path, into = tmp_path / "a.tar.gz", tmp_path / "in" / "to"
    write_archive(path, {name: b"evil"} | FINE)
    with pytest.raises(InputError, match=r"has no place in an archive|twice") as error:
        archive.unpack(path, into)
    assert "\n" not in str(error.value)
    assert {each.name for each in tmp_path.iterdir()} <= {"a.tar.gz", "in"} and not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE])
def test_links_and_devices_are_refused(kind, tmp_path):
    path = tmp_path / "a.tar.gz"
    write_archive(path, FINE, **{"run/metrics.json": (kind, "/etc/passwd")})
    with pytest.raises(InputError, match="has no place in an archive"):
        archive.unpack(path, tmp_path / "into")


def test_bombs_repeats_and_two_runs_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.tar.gz"
    monkeypatch.setattr(archive, "UNPACKED_BYTES", 1 << 20)
    write_archive(path, FINE | {"run/metrics.json": bytes(3 << 20)})
    with pytest.raises(InputError, match="unpacks to more than 1 MiB"):
        archive.unpack(path, tmp_path / "one")
    write_archive(path, FINE | {f"other/{name}": b"x" for name in archive.OWN})
    with pytest.raises(InputError, match="holds 2 folders"):
        archive.unpack(path, tmp_path / "two")
    write_archive(path, {f"run/judgements/j{number}/metrics.json": b"x" for number in range(archive.MEMBERS + 1)})
    with pytest.raises(InputError, match="more than 200 members"):
        archive.unpack(path, tmp_path / "three")
    path.write_bytes(b"PK\3\4 a zip")
    with pytest.raises(InputError, match="truncated or no archive"):
        archive.unpack(path, tmp_path / "four")


def test_duplicates_swapped_archives_and_wrong_rows_are_refused_with_their_line(submitted, build, out):
    _, path, line = submitted("plain")
    _, other, second = submitted("reader")
    place = "submissions.jsonl, line "
    listed(out, line, second, line)
    with pytest.raises(InputError, match=place + "3: submitted already in line 1"):
        build()
    shutil.copy(path, out / "submissions" / "copy.tar.gz")
    listed(out, line, line.replace(path.name, "copy.tar.gz"))
    with pytest.raises(InputError, match=place + "2: submitted already in line 1"):
        build()
    values = json.loads(line)
    renamed = tarfile_with(path, out / "submissions" / "again.tar.gz")
    listed(out, line, json.dumps(values | {"file": "again.tar.gz", "sha256": renamed}))
    with pytest.raises(InputError, match=place + r"2: run \S+ was submitted already in line 1"):
        build()
    values["row"]["metrics"]["ndcg@10"] = 0.9
    listed(out, json.dumps(values))
    with pytest.raises(InputError, match=place + "1: the row is not that of"):
        build()
    other.write_bytes(other.read_bytes()[:-30])
    listed(out, line, second)
    with pytest.raises(InputError, match=place + "2: .* has SHA-256"):
        build()
    other.unlink()
    with pytest.raises(InputError, match=place + "2: .* is missing"):
        build()


def tarfile_with(path, target):
    """The same run in other bytes."""
    from bench.store import sha256_of

    target.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), 1))
    return sha256_of(target)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "not JSON"),
        ("[]", "Input should be"),
        ('{"file": "../x.tar.gz", "sha256": "' + "0" * 64 + '", "row": {}}', "file: String should match"),
        ('{"file": "x.tar.gz", "sha256": "short", "row": {}}', "sha256: String should match"),
        ('{"file": "x.tar.gz", "sha256": "' + "0" * 64 + '", "row": {}, "extra": 1}', "extra: Extra inputs"),
        ('{"file": "x.tar.gz", "sha256": "' + "0" * 64 + '", "row": {}}', "is missing"),
    ],
)
def test_malformed_lines_are_refused_and_the_board_stays(line, told, go, build, out):
    go("plain")
    build()
    before = (out / "leaderboard.json").read_bytes()
    (out / "submissions").mkdir()
    listed(out, line)
    with pytest.raises(InputError, match=told) as error:
        build()
    assert "submissions.jsonl, line 1" in str(error.value)
    assert (out / "leaderboard.json").read_bytes() == before


def test_a_tampered_archive_fails_and_says_of_no_scratch_folder(submitted, data, tmp_path, capsys):
    run, path, _ = submitted()
    folder = tmp_path / "scratch" / run.directory.name
    shutil.copytree(run.directory, folder)
    text = (folder / "metrics.json").read_text()
    (folder / "metrics.json").write_text(text.replace('"n": 80', '"n": 79'))
    packed = archive.pack(folder, tmp_path, data.get("tiny"))
    assert main(["leaderboard", "verify", str(packed.path)]) == 1
    seen = capsys.readouterr().out
    assert "ndcg@10 n is 79, computed again 80" in seen and "/verify-" not in seen
    assert submissions.is_archive(path)

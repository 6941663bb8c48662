"""A dataset of one's own: two files in any of the forms, registered, listed, run, and forgotten."""

import gzip
import json
from pathlib import Path

import polars as pl
import pytest

from bench import registry
from bench.cli.main import main
from bench.errors import InputError
from tasks.datasets.event_log import UserCodes
from tasks.datasets.own import read_interactions, read_items

EVENTS = [
    (f"u{user}", f"i{(user + 5 * step) % 24}", 1_600_000_000 + 60 * step + user)
    for user in range(20)
    for step in range(20)
]
ITEMS = [
    {"item": f"i{v}", "title": f'Thing, "{v}"', "labels": [f"kind {v % 3}", "all"], "text": f"About {v}."}
    for v in range(24)
]


def write(folder: Path, form: str, events=EVENTS, items=ITEMS, clock: bool = True) -> tuple[Path, Path]:
    folder.mkdir(exist_ok=True)
    left, right = folder / f"events.{form}", folder / f"items.{form}"
    table = pl.DataFrame(events, schema=["user", "item", "timestamp"], orient="row").with_columns(
        pl.lit("x").alias("more")
    )
    table = table if clock else table.drop("timestamp")
    things = pl.DataFrame(items)
    if form == "parquet":
        table.write_parquet(left)
        things.write_parquet(right)
    elif form.startswith("jsonl"):
        for path, frame in ((left, table), (right, things)):
            data = "".join(json.dumps(row) + "\n" for row in frame.iter_rows(named=True)).encode()
            path.write_bytes(gzip.compress(data, mtime=0) if form.endswith("gz") else data)
    else:
        separator = "\t" if form == "tsv" else ","
        flat = things.with_columns(pl.col("labels").list.join("|")) if "labels" in things.columns else things
        for path, frame in ((left, table), (right, flat)):
            data = frame.write_csv(separator=separator).encode()
            path.write_bytes(gzip.compress(data, mtime=0) if form.endswith("gz") else data)
    return left, right


def add(name: str, files: tuple[Path, Path], *more: str) -> int:
    return main(["data", "add", name, "--interactions", str(files[0]), "--items", str(files[1]), *more])


def test_every_form_gives_the_same_dataset(tmp_path, capsys):
    marks = set()
    for number, form in enumerate(("csv", "tsv", "jsonl", "parquet", "csv.gz", "jsonl.gz")):
        assert add(f"own{number}", write(tmp_path / str(number), form), "--json") == 0, capsys.readouterr().err
        marks.add(json.loads(capsys.readouterr().out)["fingerprint"])
    assert len(marks) == 1


def test_an_added_dataset_is_listed_shown_run_and_forgotten(tmp_path, capsys):
    files = write(tmp_path / "files", "csv")
    assert add("mine", files, "--domain", "book", "--windows", "1", "--summary", "My books.") == 0
    assert "20 users, 24 items, 400 events" in capsys.readouterr().out
    assert main(["list", "datasets"]) == 0 and "My books." in capsys.readouterr().out
    assert main(["show", "mine"]) == 0 and "domain: book" in capsys.readouterr().out
    out = str(tmp_path / "results")
    for task in ("seq", "pos", "neg"):
        assert main(["run", "--task", task, "--model", "popularity", "--dataset", "mine@global", "--out", out]) == 0
    capsys.readouterr()
    assert main(["data", "stats", "mine", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["users"] == 20
    assert add("mine", files) == 2 and "there is a dataset 'mine' already" in capsys.readouterr().err
    assert main(["data", "stats", "mine", "--data-dir", str(tmp_path)]) == 2
    assert "leave out `--data-dir`" in capsys.readouterr().err
    files[0].unlink()
    assert main(["data", "stats", "mine"]) == 2 and "is missing: put it back" in capsys.readouterr().err
    assert main(["data", "remove", "mine"]) == 0 and "mine" not in registry.names("datasets")
    assert main(["data", "remove", "mine"]) == 2 and "unknown added dataset" in capsys.readouterr().err


def test_without_timestamps_the_order_of_the_file_counts_and_there_is_no_clock(tmp_path, capsys):
    assert add("plain", write(tmp_path / "files", "csv", clock=False)) == 0
    assert "in the order of the file (no timestamps)" in capsys.readouterr().out
    assert add("timed", write(tmp_path / "timed", "csv")) == 0
    assert "in the order of their timestamps" in capsys.readouterr().out
    assert main(["data", "stats", "plain@global"]) == 2
    assert "'plain' has no clock" in capsys.readouterr().err


def test_dates_are_read_as_well(tmp_path):
    path = tmp_path / "e.csv"
    moments = (
        "2024-05-01",
        "2024-05-01T10:30:00Z",
        "1714559400.7",
        "2024-05-01 10:30:00.5",
        "2024-05-01T12:30:00+02:00",
    )
    path.write_text("user,item,timestamp\n" + "".join(f"u,{'ab'[n % 2]},{text}\n" for n, text in enumerate(moments)))
    items = pl.DataFrame({"id": ["a", "b"], "title": ["A", "B"], "text": ["A", "B"], "labels": [["x"], ["x"]]})
    found = read_interactions(path, items, UserCodes())
    assert found["time"].to_list() == [1714521600, *[1714559400] * 4] and found["item"].to_list() == [0, 1, 0, 1, 0]


def test_a_broken_manifest_spoils_nothing_else(tmp_path, capsys, cache_root):
    (cache_root / "added").mkdir(parents=True)
    (cache_root / "added" / "bad.json").write_text("{")
    assert main(["list", "datasets"]) == 0
    shown = capsys.readouterr().out
    assert "bad" in shown and "broken" in shown and "ml-1m" in shown
    assert main(["run", "--task", "seq", "--model", "popularity", "--dataset", "bad"]) == 2


@pytest.mark.parametrize("name", ["Mine", "a@b", "../x", "", "a b", "mini"])
def test_a_name_that_cannot_be_is_refused(tmp_path, capsys, name):
    assert add(name, write(tmp_path / "files", "csv")) == 2
    assert "cannot be a dataset's name" in (told := capsys.readouterr().err) or "there is a dataset" in told


def without(column: str):
    return [{key: value for key, value in item.items() if key != column} for item in ITEMS]


def with_item(**change):
    return [*ITEMS[:2], ITEMS[2] | change, *ITEMS[3:]]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"events": [("u1", "i1", 5), ("", "i1", 5)]}, r"events\.csv, row 2: no user"),
        ({"events": [("u1", "i1", 5), ("u1", "i99", 5)]}, r"events\.csv, row 2: the items do not have this item"),
        ({"events": [("u1", "i1", 10**12)]}, "row 1: the timestamp lies in the future"),
        ({"events": [("u1", "i1", "soon")]}, "row 1: the timestamp must be seconds"),
        ({"events": [("u1", "i1", 5), ("u2", "i1", 6)]}, "only the item 'i1' is left"),
        ({"events": [("u1", "i1", 5), ("u2", "i2", 6)]}, "every user has fewer than two events"),
        ({"items": without("labels")}, r"items\.csv: column 'labels' is missing; the file has 'item', 'title', 'text'"),
        ({"items": with_item(labels=[])}, "row 3: "),
        ({"items": with_item(labels=["a", " "])}, "row 3: a label is empty"),
        ({"items": with_item(labels=["a", "a"])}, "row 3: a label stands there twice"),
        ({"items": with_item(title=" ")}, "row 3: no title"),
        ({"items": with_item(item="")}, "row 3: no item id"),
        ({"items": with_item(item="i1")}, "row 3: this item id stood there before"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_is_registered(tmp_path, capsys, change, told):
    import re

    assert add("mine", write(tmp_path / "files", "csv", **change)) == 2
    shown = capsys.readouterr().err
    assert re.search(told, shown) and shown.count("error:") == 1
    assert "mine" not in registry.names("datasets") and not list((tmp_path / "cache").rglob("*.trial"))


def test_files_of_another_form_or_kind_are_told(tmp_path):
    with pytest.raises(InputError, match=r"the form is told by the end of the name, one of \.csv"):
        read_items(tmp_path / "items.xlsx")
    with pytest.raises(InputError, match=r"items\.csv"):
        read_items(tmp_path / "items.csv")
    (tmp_path / "items.parquet").write_bytes(b"item,title\n")
    with pytest.raises(InputError, match=r"items\.parquet is not readable") as caught:
        read_items(tmp_path / "items.parquet")
    assert "\n" not in str(caught.value)
    (tmp_path / "items.jsonl").write_text('{"item": "a", "title": "A", "labels": ["x"]}\n{"item": "b", "ti')
    with pytest.raises(InputError, match=r"items\.jsonl, line 2: not a whole JSON object"):
        read_items(tmp_path / "items.jsonl")
    (tmp_path / "items.csv").write_text("item,title,labels\n")
    with pytest.raises(InputError, match="has no rows"):
        read_items(tmp_path / "items.csv")


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", r"items\.csv is empty"),
        ("item,title,labels\na,A,x\n".encode("utf-16"), r"items\.csv is not UTF-8 text \(it looks like UTF-16"),
        (gzip.compress("item,title,labels\na,A,x\n".encode("utf-16"), mtime=0), "it looks like UTF-16"),
        ("item,title,labels\na,A,x\nb,Crème,x\n".encode("latin-1"), r"line 3: expected UTF-8 text"),
        (b'item,title,labels\na,"A, ""B""",x\nb,"B', r"line 3: a quote opens here and never closes"),
        (b"item,title,labels\na,A,x\nb", r"row 2: no title"),
    ],
    ids=["empty", "utf-16", "utf-16 packed", "latin-1", "an open quote", "a row cut short"],
)
def test_a_csv_that_was_cut_or_re_encoded_is_told_with_its_line(tmp_path, data, told):
    path = tmp_path / ("items.csv.gz" if data.startswith(b"\x1f\x8b") else "items.csv")
    path.write_bytes(data)
    with pytest.raises(InputError, match=told):
        read_items(path)

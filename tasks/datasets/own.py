"""A dataset of one's own from two files: who met what, and what the items are."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.atomic import atomic_write
from bench.cards import DatasetCard
from bench.contracts import Dataset, Progress
from bench.errors import InputError
from tasks.datasets.base import item_text
from tasks.datasets.big import BigDataset
from tasks.datasets.blocks import blocks, is_utf8, json_frame, require_columns
from tasks.datasets.event_log import EventLog, UserCodes, settle
from tasks.datasets.prepared import Source

if TYPE_CHECKING:
    import polars as pl

# What the end of a file's name says of its form; each may be followed by .gz, but parquet.
FORMS = {".csv": ",", ".tsv": "\t", ".jsonl": "json", ".ndjson": "json", ".parquet": "parquet"}
LABELS_SEPARATOR = "|"


class Manifest(BaseModel):
    """What `bench data add` was told."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    interactions: Path
    items: Path
    domain: Literal["film", "news", "book", "product"] = "product"
    core: int = Field(1, ge=1)
    windows: tuple[int, ...] = (3, 5)
    summary: str = ""
    licence: str = ""


class OwnDataset(BigDataset):
    """A dataset from two files, each CSV, TSV, JSON lines (all also as .gz) or parquet.

    Interactions have the columns `user`, `item` and, where there is a clock, `timestamp`: seconds since 1970, or a date or time
    in ISO 8601. Without timestamps the order of the file is the order of events. Items have `item`, `title`, `labels` (at least
    one; a list, or a text with | between them) and, if wanted, `text`. Other columns are left alone. The first of several
    events of a user with one item is kept.
    """

    manifest: ClassVar[Manifest]

    @classmethod
    def of(cls, path: Path) -> type[Self]:
        """The dataset class of a manifest.

        Raises:
            InputError: the manifest is malformed.
        """
        try:
            told = Manifest.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error.strerror
            raise InputError(
                f"{path} is no manifest of an added dataset ({reason}): remove it, and add the data again."
            ) from None
        card = DatasetCard(
            name=told.name,
            summary=told.summary or f"Added from {told.interactions.name} and {told.items.name}.",
            licence=told.licence,
            domain=told.domain,
            source=f"{told.interactions.name} and {told.items.name}, added by hand",
            windows=told.windows,
        )
        return type("Added", (cls,), {"manifest": told, "card": card, "__doc__": cls.__doc__})

    @classmethod
    def add(cls, path: Path, progress: Progress | None = None, **told: Any) -> Dataset:
        """Read and prepare the files, and, where all is well, write the manifest.

        Args:
            path: where the manifest goes.
            progress: told of the preparation.
            told: fields of `Manifest`; those that are None stay at their defaults.

        Raises:
            InputError: an option or something in the files is wrong.
        """
        try:
            manifest = Manifest(**{key: value for key, value in told.items() if value is not None})
        except ValidationError as error:
            first = error.errors()[0]
            raise InputError(
                f"--{'.'.join(map(str, first['loc']))}: {first['msg']} (got {first['input']!r})."
            ) from None
        files = {"interactions": manifest.interactions.resolve(), "items": manifest.items.resolve()}
        text = manifest.model_copy(update=files).model_dump_json(indent=2) + "\n"
        trial = path.with_name(f".{path.name}.trial")
        try:
            atomic_write(trial, text)
            dataset = cls.of(trial)().load(None, progress)
            trial.replace(path)
        finally:
            trial.unlink(missing_ok=True)
        return dataset

    def source(self, data_dir: Path | None, **reading: str) -> Source:
        """The two files of the manifest."""
        if data_dir is not None:
            raise InputError(f"dataset {self.card.name!r} was added with its files: leave out `--data-dir`.")
        told = self.manifest
        for path in (told.interactions, told.items):
            if not path.is_file():
                raise InputError(
                    f"{path} is missing: put it back, or `bench data remove {told.name}` and add it again."
                )
        return Source(told.name, (told.interactions, told.items), {"core": told.core})

    def prepare(self, data_dir: Path | None, progress: Progress | None = None, **reading: str) -> Path:
        """Make sure that the files are there, and say where."""
        return self.source(data_dir, **reading).files[0].parent

    def read(self, source: Source, progress: Progress | None = None) -> EventLog:
        """Both files, by polars' streaming engine."""
        interactions, items = source.files
        catalogue = read_items(items)
        users = UserCodes()
        events = read_interactions(interactions, catalogue, users)
        return settle(events, catalogue, users.table(), source.reading["core"])


def read_items(path: Path) -> pl.DataFrame:
    """The items: `id`, `title`, `text`, `labels`.

    Raises:
        InputError: a column is missing, an item stands there twice, or a row lacks id, title or label.
    """
    import polars as pl

    frame = _table(path, ("item", "title", "labels"), ("text",))
    if isinstance(frame.schema["labels"], pl.String):
        frame = frame.with_columns(pl.col("labels").str.split(LABELS_SEPARATOR))
    stripped = pl.col("labels").list.eval(pl.element().cast(pl.String).fill_null("").str.strip_chars())
    frame = frame.with_columns(stripped.fill_null([]), pl.col("item", "title").fill_null("").str.strip_chars())
    _refuse(path, frame, pl.col("item") == "", "no item id")
    _refuse(path, frame, pl.col("title") == "", "no title")
    _refuse(path, frame, pl.col("labels").list.len() == 0, "no label; every item needs at least one")
    _refuse(path, frame, pl.col("labels").list.contains(""), "a label is empty")
    _refuse(path, frame, pl.col("labels").list.n_unique() != pl.col("labels").list.len(), "a label stands there twice")
    _refuse(path, frame, ~pl.col("item").is_first_distinct(), "this item id stood there before")
    texts = [
        item_text(title, tuple(labels), (text.strip(" ."),) if text else ())
        for title, labels, text in frame.select("title", "labels", pl.col("text").fill_null("")).iter_rows()
    ]
    return frame.select(pl.col("item").alias("id"), "title", pl.Series("text", texts), "labels")


def read_interactions(path: Path, items: pl.DataFrame, users: UserCodes) -> pl.DataFrame:
    """The events: `code`, `item` and, with a clock, `time`, in the order of the file.

    Raises:
        InputError: a column is missing, a row lacks user or item, names an unknown item, or has a time that is none or that
            lies in the future.
    """
    import polars as pl

    frame = _table(path, ("user", "item"), ("timestamp",)).with_columns(pl.col("user", "item").str.strip_chars())
    for column in ("user", "item"):
        _refuse(path, frame, pl.col(column).fill_null("") == "", f"no {column}")
    ids = items.select(pl.col("id").alias("item"), pl.int_range(pl.len(), dtype=pl.Int32).alias("place"))
    frame = frame.join(ids, on="item", how="left", maintain_order="left")
    _refuse(path, frame, pl.col("place").is_null(), "the items do not have this item")
    columns = [users.encode(frame["user"]), frame["place"].alias("item")]
    if frame["timestamp"].null_count() < len(frame):
        frame = frame.with_columns(_seconds().alias("time"))
        _refuse(
            path, frame, pl.col("time").is_null(), "the timestamp must be seconds since 1970 or read like 2024-05-01"
        )
        _refuse(path, frame, pl.col("time") > time.time(), "the timestamp lies in the future (it must be in seconds)")
        columns.append(frame["time"])
    return pl.DataFrame(columns)


def _seconds() -> pl.Expr:
    """The column `timestamp`, a text, as whole seconds since 1970: a number, or a date or time in ISO 8601 (UTC if unsaid)."""
    import polars as pl

    text = pl.col("timestamp").str.strip_chars()
    number = text.cast(pl.Float64, strict=False).floor().cast(pl.Int64, strict=False)
    whole = text.str.replace(" ", "T", literal=True).str.replace(r"^(\d{4}-\d\d-\d\d)$", "${1}T00:00:00")
    zoned = whole.str.replace(r"Z$", "+00:00").str.replace(r"(:\d\d(?:\.\d+)?)$", "${1}+00:00")
    # An offset's own colon looks like one of the time's, so what ended in an offset has two by now.
    zoned = zoned.str.replace(r"([+-]\d\d:\d\d)\+00:00$", "${1}")
    return pl.coalesce(
        number, zoned.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%:z", strict=False, time_zone="UTC").dt.epoch("s")
    )


def _table(path: Path, wanted: tuple[str, ...], optional: tuple[str, ...]) -> pl.DataFrame:
    """The wanted columns as text (labels may be lists); an optional one that the file lacks is null throughout."""
    import polars as pl

    try:
        frame = (
            _json_table(path, (*wanted, *optional)) if _form(path) == "json" else _flat_table(path, wanted, optional)
        )
    except pl.exceptions.PolarsError as error:
        reason = (str(error) or "no message").splitlines()[0]
        raise _faulty_line(path) or InputError(f"{path} is not readable: {reason}.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from None
    if not len(frame):
        raise InputError(f"{path} has no rows.")
    missing = [pl.lit(None, pl.String).alias(name) for name in optional if name not in frame.columns]
    frame = frame.with_columns(missing)
    lists = [name for name, kind in frame.schema.items() if isinstance(kind, pl.List)]
    return frame.with_columns(pl.col(name).cast(pl.String) for name in frame.columns if name not in lists)


def _flat_table(path: Path, wanted: tuple[str, ...], optional: tuple[str, ...]) -> pl.DataFrame:
    import polars as pl

    form = _form(path)
    if form != "parquet":
        # What is empty, in UTF-16 or no text at all shows at its beginning; polars would call it a missing column.
        next(blocks(path, size=1 << 16))
    if form == "parquet":
        lazy = pl.scan_parquet(path)
    elif path.suffix == ".gz":
        lazy = pl.read_csv(path, separator=form, infer_schema=False).lazy()
    else:
        lazy = pl.scan_csv(path, separator=form, infer_schema=False)
    found = lazy.collect_schema().names()
    require_columns(path, found, wanted)
    return lazy.select(*wanted, *(name for name in optional if name in found)).collect(engine="streaming")


def _faulty_line(path: Path) -> InputError | None:
    """The first line of a CSV that is no UTF-8, or the one with the quote that never closes: polars names neither."""
    opened: InputError | None = None
    if _form(path) not in (",", "\t"):
        return None
    for block in blocks(path):
        for row, line in enumerate(block.data.split(b"\n")[:-1]):
            if not is_utf8(line):
                return block.wrong(row, "expected UTF-8 text")
            if line.count(b'"') % 2:
                opened = None if opened else block.wrong(row, "a quote opens here and never closes")
    return opened


def _json_table(path: Path, columns: tuple[str, ...]) -> pl.DataFrame:
    import polars as pl

    parts: list[pl.DataFrame] = []
    schema: dict[str, Any] = {}
    for block in blocks(path):
        if not schema:
            try:
                first = json.loads(block.data.split(b"\n", 1)[0])
            except ValueError as error:
                raise block.wrong(0, f"not a whole JSON object ({error})") from None
            require_columns(path, list(first), tuple(name for name in columns if name not in ("text", "timestamp")))
            schema = {name: pl.List(pl.String) if isinstance(first.get(name), list) else pl.String for name in columns}
        parts.append(json_frame(block, schema))
    return pl.concat(parts)


def _form(path: Path) -> str:
    name = path.with_suffix("").name if path.suffix == ".gz" else path.name
    form = FORMS.get(Path(name).suffix)
    if form is None or (form == "parquet" and path.suffix == ".gz"):
        raise InputError(
            f"{path}: the form is told by the end of the name, one of {', '.join(FORMS)}, also with .gz (not parquet)."
        )
    return form


def _refuse(path: Path, frame: pl.DataFrame, bad: pl.Expr, problem: str) -> None:
    """Refuse the first row for which `bad` holds; rows are counted from 1, without a header line."""
    rows = frame.with_row_index("row").filter(bad)
    if len(rows):
        shown = {name: value for name, value in rows.row(0, named=True).items() if name not in ("row", "place", "time")}
        raise InputError(f"{path}, row {rows['row'][0] + 1}: {problem} ({str(shown)[:100]}).")

"""Rankings and scores on disk: a parquet part for every batch, written before its journal record, merged at the end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bench.atomic import atomic_path
from bench.contracts import NO_ITEM, Examples, Ints, Ranking, Scores
from bench.errors import CheckError, InputError
from bench.statistics import with_failures

if TYPE_CHECKING:
    import pyarrow as pa

FIXED = ("example", "user", "window", "items", "scores", "failed")


def part_name(start: int, stop: int) -> str:
    """File name of the part with examples `start` to `stop - 1`."""
    return f"part-{start:07d}-{stop:07d}.parquet"


def write_part(path: Path, start: int, ranking: Ranking, examples: Examples) -> None:
    """Write the ranking of consecutive examples, the first of which has number `start`. Empty places are left out.

    Raises:
        CheckError: an extra column has not one row an example, or is of a kind that parquet cannot hold.
    """
    import pyarrow as pa

    filled = ranking.items != NO_ITEM
    offsets = np.concatenate([[0], filled.sum(1).cumsum()]).astype(np.int32)
    rows = len(examples)
    failed = np.zeros(rows, bool) if ranking.failed is None else np.asarray(ranking.failed, bool)
    columns: dict[str, Any] = {
        "example": np.arange(start, start + rows, dtype=np.int32),
        "user": examples.requests.users.astype(np.int32),
        "window": examples.targets.window.astype(np.int32),
        "items": pa.ListArray.from_arrays(offsets, pa.array(ranking.items[filled], pa.int32())),
        "scores": pa.ListArray.from_arrays(offsets, pa.array(ranking.scores[filled], pa.float32())),
        "failed": failed,
    }
    for name, values in ranking.extras.items():
        columns[name] = _extra(name, np.asarray(values), rows)
    _write(path, pa.table(columns))


def merge(parts: list[Path], path: Path, n_examples: int) -> None:
    """Put the parts together in the order of examples.

    Raises:
        CheckError: the parts do not hold every example exactly once.
    """
    import pyarrow as pa

    table = pa.concat_tables([_read(part) for part in parts], promote_options="permissive").sort_by("example")
    if not np.array_equal(table["example"].to_numpy(), np.arange(n_examples)):
        raise CheckError(f"{path.parent}: the parts do not hold each of {n_examples} examples once; run with --refit.")
    _write(path, table)


def rows_in(path: Path) -> int | None:
    """Rows of a parquet file, None where it is absent or not readable."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return int(pq.read_metadata(path).num_rows)
    except (OSError, pa.ArrowException):
        return None


def read_rankings(path: Path, k: int, rows: npt.NDArray[Any] | None = None) -> Ranking:
    """Read merged rankings back as arrays of k places: all of them, or those of the given rows.

    Raises:
        InputError: the file is absent or is no table of rankings.
    """
    table = _read(path)
    missing = [name for name in FIXED if name not in table.column_names]
    if missing:
        raise InputError(f"{path} has no column {missing[0]!r}: it is not a table of rankings.")
    if rows is not None:
        table = table.take(rows[rows < table.num_rows])
    n = table.num_rows
    items, scores = np.full((n, k), NO_ITEM, np.int32), np.full((n, k), -np.inf, np.float32)
    if n:
        lists = table["items"].combine_chunks()
        lengths = lists.value_lengths().to_numpy(zero_copy_only=False)
        rows, places = np.repeat(np.arange(n), lengths), _places(lengths)
        kept = places < k
        items[rows[kept], places[kept]] = lists.flatten().to_numpy(zero_copy_only=False)[kept]
        values = table["scores"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        scores[rows[kept], places[kept]] = values[kept]
    extras = {name: _column(table[name]) for name in table.column_names if name not in FIXED}
    return Ranking(items, scores, table["failed"].to_numpy(), extras)


def write_scores(path: Path, scores: Scores, failed: npt.NDArray[np.bool_], examples: Examples) -> None:
    """Write one row an example: user, window, failed, and the metrics as the task gave them (NaN: does not apply)."""
    import pyarrow as pa

    columns: dict[str, Any] = {
        "example": np.arange(len(examples), dtype=np.int32),
        "user": examples.requests.users.astype(np.int32),
        "window": examples.targets.window.astype(np.int32),
        "failed": failed,
    }
    _write(path, pa.table(columns | {name: pa.array(values) for name, values in scores.columns.items()}))


def read_scores(path: Path) -> tuple[Scores, Ints, Ints, npt.NDArray[np.bool_]]:
    """Scores, users int32 [B], windows int32 [B] and failed bool [B] of a run.

    Raises:
        InputError: the file is absent or not readable.
    """
    table = _read(path)
    fixed = ("example", "user", "window", "failed")
    metrics = {name: table[name].to_numpy() for name in table.column_names if name not in fixed}
    return Scores(metrics), table["user"].to_numpy(), table["window"].to_numpy(), table["failed"].to_numpy()


def read_metric(path: Path, metric: str) -> tuple[npt.NDArray[np.float64], Ints, Ints]:
    """One metric of a run, failures filled in with the worst value: values float64 [B], users and windows int32 [B].

    Raises:
        InputError: the file is absent or not readable, or the run has no such metric.
    """
    table = _read(path, ["user", "window", "failed", metric])
    if metric not in table.column_names:
        raise InputError(f"{path} has no column {metric!r}: compute the scores again with `bench score`.")
    scores = Scores({metric: table[metric].to_numpy()})
    filled = with_failures(scores, np.asarray(table["failed"].to_numpy(), bool)).columns[metric]
    return np.asarray(filled, np.float64), table["user"].to_numpy(), table["window"].to_numpy()


def _write(path: Path, table: pa.Table) -> None:
    import pyarrow.parquet as pq

    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def _read(path: Path, columns: list[str] | None = None) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # memory_map off and a plain reader: a file is read whole, and no dataset machinery is loaded. A pool of threads
        # costs more than it brings on files of a few hundred kilobytes.
        return pq.ParquetFile(path).read(columns, use_threads=False)
    except FileNotFoundError:
        raise InputError(f"{path} is missing: the run is not finished; give its command again.") from None
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be read as parquet ({error}); run again with --refit.") from None


def _places(lengths: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    starts = np.cumsum(lengths) - lengths
    return np.asarray(np.arange(lengths.sum()) - np.repeat(starts, lengths), np.int64)


def _extra(name: str, values: npt.NDArray[Any], rows: int) -> Any:
    import pyarrow as pa

    if name in FIXED:
        raise CheckError(f"the model reports an extra column {name!r}, which is a name of the harness's own.")
    if values.ndim not in (1, 2) or len(values) != rows:
        raise CheckError(f"extra column {name!r} has shape {values.shape}; expected {rows} rows, one an example.")
    try:
        return pa.array(values if values.ndim == 1 else list(values))
    except pa.ArrowException as error:
        raise CheckError(f"extra column {name!r} cannot be stored: {error}") from None


def _column(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    import pyarrow as pa

    if pa.types.is_list(column.type):
        return np.array(column.to_pylist(), dtype=object)
    if column.null_count and pa.types.is_integer(column.type):
        column = column.fill_null(0)
    return np.asarray(column.to_numpy())

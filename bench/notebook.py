"""Results in a notebook: tables as HTML, in which every word from outside is escaped, and as pandas frames."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from bench.comparison import Comparison
    from bench.leaderboard.rows import Board
    from bench.results import MetricValue, Result

# More rows than this are not for reading; `to_pandas()` has them all.
SHOWN_ROWS = 50
ABOUT = ("task", "model", "dataset", "protocol", "condition", "seed")


def html_table(caption: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table. Numbers have four digits, None is a dash; everything else is text and is escaped."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in header)
    body = "".join("<tr>" + "".join(f"<td>{_cell(value)}</td>" for value in row) + "</tr>" for row in rows)
    return (
        f"<table><caption>{html.escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def result_html(result: Result) -> str:
    """Metrics of a run with their intervals, and each window."""
    windows = list(result.per_window)
    header = ["metric", "value", "low", "high", "n", *(f"N={window}" for window in windows)]
    rows = [
        [
            name,
            value.value,
            value.low,
            value.high,
            value.n,
            *(result.per_window[window][name].value for window in windows),
        ]
        for name, value in result.metrics.items()
    ]
    about = ", ".join(str(getattr(result, key)) for key in ABOUT[:-1])
    return html_table(f"{about}, seed {result.seed} ({result.run})", header, rows)


def result_frame(result: Result) -> pd.DataFrame:
    """A row for every metric and window ("mean" is the headline): value, low, high, n, failed."""
    import pandas as pd

    tables: dict[str, Mapping[str, MetricValue]] = {"mean": result.metrics, **result.per_window}
    about = {key: getattr(result, key) for key in ABOUT}
    return pd.DataFrame(
        [
            {**about, "window": window, "metric": name, **value.model_dump()}
            for window, metrics in tables.items()
            for name, value in metrics.items()
        ]
    )


def comparison_html(comparison: Comparison) -> str:
    """Differences to the baseline with intervals and corrected p values."""
    header = ["run", "metric", "baseline", "value", "difference", "low", "high", "p", "p (Holm)"]
    rows = [
        [row.run, row.metric, row.baseline_value, row.value, row.difference, row.low, row.high, row.p, row.p_holm]
        for row in comparison.rows
    ]
    return html_table(f"against {comparison.baseline}", header, rows)


def comparison_frame(comparison: Comparison) -> pd.DataFrame:
    """A row for every run and metric."""
    import pandas as pd

    return pd.DataFrame([row.model_dump() for row in comparison.rows])


def board_html(board: Board) -> str:
    """Every group with its ranks; the first places of long boards."""
    rows = {row.id: row for row in board.rows}
    lines = []
    for group in board.groups:
        name = f"{group.task}, {group.dataset}, {group.protocol}, {group.condition}"
        for place in group.places:
            row = rows[place.rows[0]]
            lines.append([name, place.rank, row.model, _variant(row.variant), row.source, group.metric, place.value])
    header = ["group", "rank", "model", "settings", "source", "by", "value"]
    more = f"; the first {SHOWN_ROWS} of {len(lines)} places" if len(lines) > SHOWN_ROWS else ""
    return html_table(f"Leaderboard of {len(board.rows)} rows{more}", header, lines[:SHOWN_ROWS])


def board_frame(board: Board) -> pd.DataFrame:
    """A row for every row of the board, with its rank and a column for every headline metric."""
    import pandas as pd

    ranks = {name: place.rank for group in board.groups for place in group.places for name in place.rows}
    own = {"metrics", "per_window", "settings", "health", "answers", "router", "provenance"}
    return pd.DataFrame(
        [
            {
                **row.model_dump(exclude=own),
                "rank": ranks.get(row.id),
                **{name: metric.value for name, metric in row.metrics.items()},
            }
            for row in board.rows
        ]
    )


def _variant(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4f}" if isinstance(value, float) else html.escape(str(value))

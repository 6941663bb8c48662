"""What the subcommands share: parsing of small values, JSON on stdout, tables."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from bench.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from bench.results import MetricValue

# Tables that go to a file or a pipe are not folded at the 80 columns that rich assumes there.
PIPE_WIDTH = 160


def emit_json(value: Any) -> None:
    """One JSON document, alone on stdout."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def key_values(pairs: list[str] | None, flag: str = "--set") -> dict[str, str]:
    """The dictionary of `KEY=VALUE` arguments.

    Raises:
        InputError: an argument without a key or an equals sign, or a key given twice.
    """
    values: dict[str, str] = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise InputError(f"{flag} takes KEY=VALUE, got {pair!r}.")
        if key in values:
            raise InputError(f"{flag} {key} is given twice.")
        values[key.strip()] = value
    return values


def numbers(text: str | None, flag: str) -> tuple[int, ...] | None:
    """The numbers of a list such as "3,5,10"; None stays None.

    Raises:
        InputError: something else stands there.
    """
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(
            f"{flag} takes whole numbers with commas between them, such as 3,5,10; got {text!r}."
        ) from None


def console() -> Console:
    """A rich console on stdout."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False)


def table(*columns: str, left: int = 1) -> Table:
    """An empty table; the first `left` columns are text, the others numbers."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD)
    for place, column in enumerate(columns):
        made.add_column(column, justify="left" if place < left else "right", overflow="fold")
    return made


def shown(value: float | None, digits: int = 4) -> str:
    """A number for a table, a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def dollars(price: float | None, digits: int = 4) -> str:
    """A price in US dollars; one that nobody knows is unknown, not zero."""
    return "unknown" if price is None else f"${price:.{digits}f}"


def interval(metric: MetricValue) -> str:
    """The interval of a metric for a table."""
    return "-" if metric.low is None else f"{shown(metric.low)} to {shown(metric.high)}"

"""The board as a page: one folder that opens from disk and from any static host, and asks nothing of the network.

Everything that comes from a board is foreign text. It reaches the page as JSON in which no `<` stands, and the scripts make text
nodes of it; the page's policy (CSP) runs no script but the shipped files.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.atomic import atomic_write
from bench.leaderboard import page_words as words
from bench.leaderboard.page_data import counts, payload
from bench.leaderboard.rows import EXAMPLES_FILE

if TYPE_CHECKING:
    from bench.leaderboard.rows import Board

ASSETS, TEMPLATES = Path(__file__).with_name("assets"), Path(__file__).with_name("templates")
VENDOR = ASSETS / "vendor"
INDEX = "index.html"
# In the order in which they need each other.
SCRIPTS = (
    "vendor/d3.min.js",
    "vendor/plot.min.js",
    "vendor/datatables.min.js",
    "dom.js",
    "table.js",
    "charts.js",
    "details.js",
    "main.js",
)
QUESTIONS = {
    "latency": "Is quality worth the wait?",
    "price": "Is quality worth the price?",
    "polarity": "Do systems that follow wishes also follow refusals?",
    "compliance": "Do lists comply at the cost of being right?",
    "rerank": "How many candidates should be reranked?",
    "stages": "Are three stages better than two?",
}
CITATIONS = (
    "Lyu et al. 2026. Give Users the Wheel: Towards Promptable Recommendation Paradigm.",
    "F. M. Harper and J. A. Konstan 2015. The MovieLens Datasets: History and Context. ACM TiiS 5, 4. doi:10.1145/2827872",
    "S. Holm 1979. A Simple Sequentially Rejective Multiple Test Procedure. Scandinavian Journal of Statistics 6, 2.",
)


def write_page(board: Board, folder: Path) -> Path:
    """Write the page of a board; files of an earlier page are replaced, each whole or not at all, `index.html` last.

    Args:
        board: the board.
        folder: where the page goes. Examples that the rows name are looked for in it (`examples/NAME.json`) and put
            beside as scripts, since a page opened from disk can read no JSON; a missing file is said on the page.

    Returns:
        The path of `index.html`.
    """
    # As the file has it, so that the page does not hang on whether the board was read or made.
    values = json.loads(board.to_json())
    for row in values["rows"]:
        row["examples_file"] = _examples(row["id"], row["examples_file"], folder)
    for path in sorted(ASSETS.rglob("*")):
        if path.is_file():
            _replace(folder / "assets" / path.relative_to(ASSETS), path.read_bytes())
    index = folder / INDEX
    _replace(index, render(values).encode())
    return index


def render(values: dict[str, Any]) -> str:
    """The HTML of a board given as plain values, its data within.

    Args:
        values: a board as `leaderboard.json` holds it.
    """
    data = payload(values)
    rendered: str = _template().render(
        data=_script_safe(data),
        schema_version=data["schema_version"],
        counts=counts(values),
        metrics=data["metrics"],
        sources=words.SOURCES,
        tasks=words.TASKS,
        protocols=words.PROTOCOLS,
        conditions=words.CONDITIONS,
        information=words.INFORMATION,
        questions=QUESTIONS,
        citations=CITATIONS,
        vendored=vendored(),
        scripts=SCRIPTS,
    )
    return rendered


def vendored() -> list[dict[str, str]]:
    """The libraries and fonts that are shipped: package, version, licence, and the files with their SHA-256."""
    files = json.loads((VENDOR / "manifest.json").read_text("utf-8"))["files"]
    return list({item["package"]: item for item in files}.values())


@cache
def _template() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    return environment.get_template("index.html.j2")


def _script_safe(value: Any) -> Any:
    """JSON that may stand inside a `<script>` element: no `<`, so nothing in it ends the element or opens a comment."""
    from markupsafe import Markup

    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _examples(row: str, name: str | None, folder: Path) -> str | None:
    """Put a row's examples beside their JSON as a script. A name that leads out of the folder is no name."""
    if name is None or not EXAMPLES_FILE.fullmatch(name):
        return None
    source = folder / name
    script = source.with_suffix(".js")
    if source.is_file() and not (script.is_file() and script.stat().st_mtime > source.stat().st_mtime):
        try:
            content = _script_safe(json.loads(source.read_text("utf-8")))
        except ValueError:
            return name  # The page says of a file that is not there what is to be said of this one.
        # Easily made again, so nobody waits for the disk a thousand times.
        atomic_write(script, f"Page.details.received({_script_safe(row)},{content});\n", durable=False)
    return name


def _replace(path: Path, content: bytes) -> None:
    """Write a file whole, and only if it changes."""
    if not path.is_file() or path.read_bytes() != content:
        atomic_write(path, content)

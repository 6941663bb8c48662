"""Titles out of what a language model wrote: JSON, a numbered or bulleted list, or bare lines, with prose around them."""

from __future__ import annotations

import json
import re
from typing import Any

# "1.", "2)", "[3]", "(4)", "#5:", "-", "*": a number alone is no mark, since titles begin with numbers too.
MARK = re.compile(r"^\s*(?:[-*•–]|#?[0-9]{1,3}\s?[.):]|[\[(][0-9]{1,3}[\])])[.:)]?\s+")
INLINE = re.compile(r"\s+(?=[0-9]{1,2}[.)]\s+\S)")
WRAPPING = ' \t*_`"“”«»'
LONGEST, MOST = 300, 200
NAMES = ("title", "name", "movie", "film", "book", "article")


def read_titles(text: str) -> list[str]:
    """The titles of an answer in their order, at most 200; an answer without any gives an empty list. Never raises.

    Reasoning between `<think>` tags is passed over. Where lines carry numbers or bullets, others are prose.
    """
    text = without_reasoning(text)
    listed = _from_json(text)
    if listed is None:
        listed = _from_lines(text)
    return [title for title in map(_bare, listed[:MOST]) if title]


def first_title(text: str) -> str:
    """The one title of an answer that should be nothing else; "" where there is none."""
    return next(iter(read_titles(text)), "")


def without_reasoning(text: str) -> str:
    """What follows a model's reasoning; "" where the reasoning never ended."""
    if "</think>" in text:
        return text.rpartition("</think>")[2]
    return text.partition("<think>")[0]


def _from_lines(text: str) -> list[str]:
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("```")]
    if len(lines) == 1:
        lines = INLINE.split(lines[0])
    marked = [line for line in lines if MARK.match(line)]
    # Beside a list, unmarked lines are prose; without one, a line that ends in a colon announces what follows.
    chosen = marked if marked else [line for line in lines if not line.endswith(":")]
    return [MARK.sub("", line, count=1) for line in chosen]


def _from_json(text: str) -> list[str] | None:
    decoder = json.JSONDecoder()
    # A dozen openings are enough to get past prose, and bound the work on an answer that is all brackets.
    for opening in list(re.finditer(r"[\[{]", text))[:12]:
        try:
            value, _ = decoder.raw_decode(text, opening.start())
        except (ValueError, RecursionError):
            continue
        titles = _titles_in(value)
        # An empty list is an answer; "[1]" before a title is none.
        if titles or value == [] or (isinstance(value, dict) and [] in value.values()):
            return titles
    return None


def _titles_in(value: Any) -> list[str]:
    if isinstance(value, dict):
        value = next((inner for inner in value.values() if isinstance(inner, list)), [value])
    if not isinstance(value, list):
        return []
    found = []
    for entry in value:
        if isinstance(entry, dict):
            entry = next((entry[name] for name in NAMES if isinstance(entry.get(name), str)), None)
        if isinstance(entry, str):
            found.append(entry)
    return found


def _bare(line: str) -> str:
    line = " ".join(line.split())[:LONGEST].strip(WRAPPING)
    line = line.rstrip(",;").strip(WRAPPING)
    return line if any(letter.isalnum() for letter in line) else ""

"""Reads JSON that a language model almost wrote.

One tolerant parser for what models do to JSON: code fences, prose around it, single or typographic quotes, trailing or
missing commas, comments, Python's words, bare keys, control characters, and an end that was cut off. Bounded in depth,
length and number of tries, and never raises on any text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

LONGEST, DEEPEST, MOST_CANDIDATES = 1 << 20, 64, 12
_THOUGHT = re.compile(r"<(think|thinking|reasoning)>.*?(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_FENCE = re.compile(r"```[\w+-]*[ \t]*\n?(.*?)(?:```|\Z)", re.DOTALL)
# Opening quotes and what may close them.
_QUOTES = {
    '"': '"”“',
    "'": "'’‘",
    "“": '”"“',
    "”": '”"',
    "„": '“”"',
    "«": "»",
    "‘": "’'",
    "’": "’'",
    "`": "`",
    "＂": "＂",
}
_WORDS: dict[str, Any] = {
    "true": True,
    "false": False,
    "null": None,
    "none": None,
    "nan": None,
    "undefined": None,
    "yes": True,
    "no": False,
}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
_NUMBER = re.compile(r"[-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_BARE = re.compile(r"[^\s,:{}\[\]\"]+")
_MISSING = object()


@dataclass(frozen=True)
class Candidate:
    """A value that may be meant. `exact` where the whole text is JSON as it stands; `cut` where its end was missing."""

    value: Any
    exact: bool = False
    cut: bool = False


def candidates(text: str) -> Iterator[Candidate]:
    """Values that a text may mean, the likeliest first; at most `MOST_CANDIDATES`, none for a text without any."""
    exact = _loads(text)
    if exact is not _MISSING:
        yield Candidate(exact, exact=True)
        return
    found = 0
    for part in _parts(text[:LONGEST]):
        value = _loads(part)
        if value is not _MISSING:
            found += 1
            yield Candidate(value)
        else:
            for candidate in _tolerant(part):
                found += 1
                yield candidate
                if found >= MOST_CANDIDATES:
                    return
        if found >= MOST_CANDIDATES:
            return


def _parts(text: str) -> Iterator[str]:
    """Stretches of a text in which the answer may stand: after the reasoning, in fences, anywhere."""
    clean = _THOUGHT.sub("", text).strip()
    fenced = [match.group(1).strip() for match in _FENCE.finditer(clean)]
    # The last block is the answer where a model shows drafts first.
    yield from [part for part in reversed(fenced) if part][:4]
    if clean:
        yield clean
    if clean != text.strip():
        yield text.strip()


def _tolerant(text: str) -> Iterator[Candidate]:
    """Objects and lists of a text, each read from its first bracket; those that end later ones contain are skipped."""
    at = 0
    for _ in range(MOST_CANDIDATES):
        starts = [place for place in (text.find("{", at), text.find("[", at)) if place >= 0]
        if not starts:
            return
        reader = _Reader(text, min(starts))
        value = reader.value(0)
        at = max(reader.at, min(starts) + 1)
        if value is not _MISSING:
            yield Candidate(value, cut=reader.cut)


def _loads(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return _MISSING


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


class _Reader:
    """Reads one value from `at` on. `cut` is set when the text ends before the value does."""

    def __init__(self, text: str, at: int) -> None:
        self.text, self.at, self.cut = text, at, False

    def value(self, depth: int) -> Any:
        self._blank()
        if self.at >= len(self.text):
            self.cut = True
            return _MISSING
        sign = self.text[self.at]
        if depth > DEEPEST:
            # Too deep to be an answer: give up on all that follows.
            self.at, self.cut = len(self.text), True
            return _MISSING
        if sign == "{":
            return self._object(depth)
        if sign == "[":
            return self._list(depth)
        if sign in _QUOTES:
            return self._string()
        return self._bare()

    def _list(self, depth: int) -> list[Any]:
        self.at += 1
        items: list[Any] = []
        while True:
            self._blank(",;")
            if self.at >= len(self.text):
                self.cut = True
                return items
            if self.text[self.at] in "]}":
                # A brace that closes a list was meant for the object around it, whose bracket is missing.
                self.at += self.text[self.at] == "]"
                return items
            before = self.at
            item = self.value(depth + 1)
            # What the end of the text cut off is no item: half a title is another title.
            if item is not _MISSING and not (self.cut and not isinstance(item, dict | list)):
                items.append(item)
            self.at += self.at == before

    def _object(self, depth: int) -> dict[str, Any]:
        self.at += 1
        made: dict[str, Any] = {}
        while True:
            self._blank(",;")
            if self.at >= len(self.text):
                self.cut = True
                return made
            if self.text[self.at] in "}]":
                self.at += self.text[self.at] == "}"
                return made
            before = self.at
            key = self._string() if self.text[self.at] in _QUOTES else self._bare(key=True)
            self._blank()
            if self.at < len(self.text) and self.text[self.at] in ":=":
                self.at += 1 + self.text.startswith("=>", self.at)
                item = self.value(depth + 1)
                if (
                    key is not _MISSING
                    and item is not _MISSING
                    and not (self.cut and not isinstance(item, dict | list))
                ):
                    made[str(key)] = item
            self.at += self.at == before

    def _string(self) -> Any:
        closing = _QUOTES[self.text[self.at]]
        self.at += 1
        made: list[str] = []
        while self.at < len(self.text):
            sign = self.text[self.at]
            if sign == "\\":
                made.append(self._escape())
                continue
            if sign in closing and self._closes():
                self.at += 1
                return "".join(made)
            made.append(sign)
            self.at += 1
        self.cut = True
        return "".join(made)

    def _closes(self) -> bool:
        """Whether the quote here ends the string: what follows it is JSON's, not a word's."""
        place = self.at + 1
        while place < len(self.text) and self.text[place] in " \t\r\n":
            place += 1
        if place >= len(self.text) or self.text[place] in ",:}];=":
            return True
        # A quote, after which a new line or another string begins, ends one whose comma is missing.
        return "\n" in self.text[self.at + 1 : place] or (place > self.at + 1 and self.text[place] in _QUOTES)

    def _escape(self) -> str:
        sign = self.text[self.at + 1 : self.at + 2]
        if sign == "u":
            digits = self.text[self.at + 2 : self.at + 6]
            self.at += 2
            if len(digits) == 4 and all(digit in "0123456789abcdefABCDEF" for digit in digits):
                self.at += 4
                return self._surrogate(int(digits, 16))
            return "u"
        self.at += 1 + len(sign)
        return _ESCAPES.get(sign, sign)

    def _surrogate(self, first: int) -> str:
        follows = self.text[self.at : self.at + 6]
        if 0xD800 <= first < 0xDC00 and re.fullmatch(r"\\u[dD][c-fC-F][0-9a-fA-F]{2}", follows):
            self.at += 6
            return chr(0x10000 + ((first - 0xD800) << 10) + int(follows[2:], 16) - 0xDC00)
        return chr(first)

    def _bare(self, key: bool = False) -> Any:
        """A number, a word of JSON or Python, or words without quotes up to the next sign of JSON."""
        number = None if key else _NUMBER.match(self.text, self.at)
        if number is not None and self._ends(number.end()):
            self.at = number.end()
            self.cut = self.cut or self.at >= len(self.text)
            return _number(number.group())
        match = _BARE.match(self.text, self.at)
        if match is None:
            return _MISSING
        word = match.group().lower()
        if not key and word in _WORDS and self._ends(match.end()):
            self.at = match.end()
            return _WORDS[word]
        stop = self.at
        ends = ":=,}]\n" if key else ",}]\n"
        while stop < len(self.text) and self.text[stop] not in ends:
            stop += 1
        words = self.text[self.at : stop].strip()
        self.at = stop
        self.cut = self.cut or stop >= len(self.text)
        return words if words else _MISSING

    def _ends(self, place: int) -> bool:
        rest = self.text[place : place + 1]
        return rest == "" or rest in ",}]: \t\r\n;/"

    def _blank(self, also: str = "") -> None:
        """Go past white space, comments and, where told, separators."""
        text = self.text
        while self.at < len(text):
            sign = text[self.at]
            if sign.isspace() or sign in also or sign == "﻿":
                self.at += 1
            elif text.startswith("//", self.at) or sign == "#":
                self.at = _after(text, "\n", self.at)
            elif text.startswith("/*", self.at):
                self.at = _after(text, "*/", self.at)
            elif text.startswith("...", self.at) or sign == "…":
                self.at += 3 if sign == "." else 1
            else:
                return


def _after(text: str, mark: str, at: int) -> int:
    found = text.find(mark, at)
    return len(text) if found < 0 else found + len(mark)


def _number(text: str) -> Any:
    clean = text.replace("_", "").lstrip("+")
    try:
        # More digits than Python turns into a number, and infinities, are no number of an answer.
        value: Any = int(clean) if re.fullmatch(r"-?\d+", clean) else float(clean)
    except ValueError:
        return text
    return value if abs(value) < 1e300 else text

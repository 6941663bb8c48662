"""From a text to a value that meets a JSON Schema: read, mend, fit, check; and how to ask once more.

Nothing is invented: a value is only fitted where the schema leaves one reading (a number written as a word or in quotes,
a value wrapped in another, JSON inside a string).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from bench.errors import InputError
from bench.llm.contracts import ChatRequest, Message
from bench.llm.repair import candidates

_UNITS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
NUMBERS = {word: value for value, word in enumerate(_UNITS)} | {word: 10 * value for value, word in enumerate(_TENS, 2)}
_NUMERAL = re.compile(r"[-+]?\d+(?:[.,]\d+)?")
_OUT_OF = re.compile(r"([-+]?\d+(?:\.\d+)?)\s*(?:/|out of|of)\s*(\d+(?:\.\d+)?)", re.IGNORECASE)
DEEPEST = 32


@dataclass(frozen=True)
class Reading:
    """What a text says under a schema. `error` is None where `value` meets it; `repaired` where the text was not clean JSON."""

    value: Any = None
    repaired: bool = False
    error: str | None = None


def read(text: str, schema: Mapping[str, Any]) -> Reading:
    """Read a model's text.

    Args:
        text: anything.
        schema: a JSON Schema that `check_schema` accepts.
    """
    first_error: str | None = None
    for candidate in candidates(text):
        problem = violation(candidate.value, schema)
        if problem is None:
            return Reading(candidate.value, repaired=not candidate.exact)
        fitted = fit(candidate.value, schema)
        if violation(fitted, schema) is None:
            return Reading(fitted, repaired=True)
        first_error = first_error or problem
    if "number" in _types(schema) or "integer" in _types(schema):
        value = number_in(text, schema.get("maximum"))
        if value is not None:
            fitted = fit(value, schema)
            if violation(fitted, schema) is None:
                return Reading(fitted, repaired=True)
    return Reading(error=first_error or "there is no JSON in the answer")


def check_schema(schema: Mapping[str, Any]) -> None:
    """Refuse what is no JSON Schema.

    Raises:
        InputError: with the place of the fault.
    """
    _validator(json.dumps(schema, sort_keys=True))


def violation(value: Any, schema: Mapping[str, Any]) -> str | None:
    """The first rule that a value breaks, as one line; None where it meets the schema."""
    try:
        error = next(iter(_validator(json.dumps(schema, sort_keys=True)).iter_errors(value)), None)
    except RecursionError:
        return "nested too deeply"
    if error is None:
        return None
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path).lstrip(".")
    message = error.message if len(error.message) <= 160 else error.message[:157] + "..."
    return f"{place or 'the answer'}: {message}"


def fit(value: Any, schema: Mapping[str, Any], depth: int = 0) -> Any:
    """The value with its parts turned into what the schema wants, where there is one way to do so."""
    wanted = _types(schema)
    if depth > DEEPEST or not wanted:
        return value
    if isinstance(value, str):
        value = _from_text(value, wanted, schema)
    if isinstance(value, float) and "integer" in wanted and "number" not in wanted and value.is_integer():
        value = int(value)
    if isinstance(value, int | float) and not isinstance(value, bool) and wanted == {"string"}:
        value = json.dumps(value)
    value = _unwrap(value, wanted, schema)
    if isinstance(value, dict) and "object" in wanted:
        inner = schema.get("properties")
        properties = inner if isinstance(inner, Mapping) else {}
        known = {str(name).casefold(): name for name in properties}
        named = {
            known.get(name.casefold(), name) if name not in properties else name: part for name, part in value.items()
        }
        value = {
            name: fit(part, properties[name], depth + 1) if isinstance(properties.get(name), Mapping) else part
            for name, part in named.items()
            if name in properties or schema.get("additionalProperties") is not False
        }
    elif isinstance(value, list) and "array" in wanted and isinstance(schema.get("items"), Mapping):
        value = [fit(part, schema["items"], depth + 1) for part in value]
    return value


def number_in(text: str, most: float | None = None) -> int | float | None:
    """The number that a sentence names in digits or words; None where it names none, or several.

    Args:
        text: a sentence.
        most: the largest number that is meant; where that is 10, "8/10" is 8, but nobody knows what "4/5" is.
    """
    out_of = _OUT_OF.findall(text)
    if most is not None and any(float(whole) != most for _, whole in out_of if len(whole) < 300):
        return None
    found = (
        [part for part, _ in out_of] if out_of else [numeral.replace(",", ".") for numeral in _NUMERAL.findall(text)]
    )
    values: set[float] = {float(numeral) for numeral in found if len(numeral) < 300}
    if not values:
        values = _word_values(re.findall(r"[a-z]+", text.lower()))
    if len(values) != 1:
        return None
    value = values.pop()
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def reask(request: ChatRequest, text: str, error: str) -> ChatRequest:
    """The one further try: the conversation with the faulty answer and what is wrong with it."""
    schema = json.dumps(request.schema, ensure_ascii=False, sort_keys=True)
    said = (
        f"That answer could not be read: {error}. Answer again with JSON alone, without any other text, that meets this "
        f"JSON Schema: {schema}"
    )
    turns = (*request.messages, Message("assistant", text), Message("user", said))
    return replace(request, messages=turns, sampling=replace(request.sampling, n=1))


@lru_cache(maxsize=64)
def _validator(schema: str) -> Any:
    from jsonschema import Draft202012Validator, SchemaError

    value = json.loads(schema)
    try:
        Draft202012Validator.check_schema(value)
    except SchemaError as error:
        place = ".".join(map(str, error.absolute_path))
        raise InputError(f"this is no JSON Schema{' at ' + place if place else ''}: {error.message}.") from None
    return Draft202012Validator(value)


def _types(schema: Any) -> set[str]:
    """Types that a schema names at its top; those of its alternatives too."""
    if not isinstance(schema, Mapping):
        return set()
    named = schema.get("type")
    found = {named} if isinstance(named, str) else set(named) if isinstance(named, list) else set()
    for group in ("anyOf", "oneOf"):
        for part in schema.get(group, ()):
            found |= _types(part)
    return found


def _from_text(text: str, wanted: set[str], schema: Mapping[str, Any]) -> Any:
    clean = text.strip()
    if "string" in wanted:
        allowed = schema.get("enum")
        if isinstance(allowed, list) and text not in allowed:
            same = [word for word in allowed if isinstance(word, str) and word.casefold() == clean.casefold()]
            return same[0] if len(same) == 1 else text
        return text
    if wanted & {"object", "array"} and clean[:1] in ("{", "["):
        return next((found.value for found in candidates(clean)), text)
    if "boolean" in wanted and clean.casefold() in ("true", "yes", "false", "no"):
        return clean.casefold() in ("true", "yes")
    if "null" in wanted and clean.casefold() in ("", "null", "none"):
        return None
    if wanted & {"number", "integer"}:
        value = number_in(clean, schema.get("maximum"))
        return text if value is None else value
    return text


def _unwrap(value: Any, wanted: set[str], schema: Mapping[str, Any]) -> Any:
    """Take a value out of the one thing that was wrapped around it."""
    if isinstance(value, dict) and "object" not in wanted and len(value) == 1:
        (value,) = value.values()
    elif isinstance(value, dict) and "object" in wanted and len(value) == 1:
        (name, inner), needed = next(iter(value.items())), schema.get("required") or ()
        if isinstance(inner, str) and inner.strip()[:1] == "{":
            inner = next((found.value for found in candidates(inner)), inner)
        if (
            isinstance(inner, dict)
            and name not in (schema.get("properties") or {})
            and all(key in inner for key in needed)
        ):
            value = inner
    elif isinstance(value, list) and "array" not in wanted and len(value) == 1:
        (value,) = value
    elif isinstance(value, list) and wanted == {"object"}:
        # A bare list where an object with one list was asked for.
        lists = [name for name, part in (schema.get("properties") or {}).items() if "array" in _types(part)]
        if len(lists) == 1 and set(schema.get("required") or lists) == set(lists):
            value = {lists[0]: value}
    return value


def _word_values(words: list[str]) -> set[float]:
    """Values of number words; tens and units that follow each other are one number."""
    values: set[float] = set()
    place = 0
    while place < len(words):
        value, following = NUMBERS.get(words[place]), NUMBERS.get("".join(words[place + 1 : place + 2]), 0)
        place += 1
        if value is None:
            continue
        if value >= 20 and 1 <= following <= 9:
            value, place = value + following, place + 1
        values.add(float(value))
    return values

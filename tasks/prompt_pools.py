"""Prompt templates: for each domain and polarity 20 for training and 20 others for evaluation.

Source: the paper's Appendix B.1 asks for 20 templates a task with disjoint pools for training and evaluation and prints a
few; those few are included, the rest was written for this project. Condition `tag` needs no template: the prompt is the
reworded tag itself.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from bench.contracts import NEGATIVE, POSITIVE
from bench.errors import unknown_name

DOMAINS = ("book", "film", "news", "product")
SPLITS = ("train", "eval")
SLOT = "{label}"
POLARITY_NAMES = {POSITIVE: "positive", NEGATIVE: "negative"}

ARTICLE = re.compile(r"\b([Aa]) (?=\{label\})")
# Vowel letters that are not said as vowels, and the letters whose names start with a vowel sound ("an NFL story").
CONSONANT_SOUND = re.compile(r"(?:eu|ew|one\b|once\b|uni(?!n|m)|us[aeu]|ut[ei])", re.IGNORECASE)
SPELLED_OUT = re.compile(r"[A-Z]{2,}(?![a-z])")
VOWEL_NAMED = "AEFHILMNORSX"


@cache
def _pools(domain: str) -> dict[str, Any]:
    if domain not in DOMAINS:
        raise unknown_name("prompt domain", domain, DOMAINS)
    pools: dict[str, Any] = json.loads(files("tasks").joinpath("prompts", f"{domain}.json").read_text("utf-8"))
    return pools


def templates(domain: str, polarity: int, split: str) -> tuple[str, ...]:
    """The 20 templates of a pool, each with the slot `{label}`.

    Args:
        domain: "film", "news", "book" or "product".
        polarity: `POSITIVE` (a wish) or `NEGATIVE` (a refusal).
        split: "train", or "eval" for validation and test.

    Raises:
        InputError: an unknown domain, polarity or split.
    """
    if polarity not in POLARITY_NAMES:
        raise unknown_name("prompt polarity", str(polarity), map(str, POLARITY_NAMES))
    if split not in SPLITS:
        raise unknown_name("prompt pool", split, SPLITS)
    return tuple(_pools(domain)[POLARITY_NAMES[polarity]][split])


def pool_version(domain: str) -> int:
    """Version of a domain's pools; it changes whenever a template does."""
    return int(_pools(domain)["version"])


def pool_hash(domain: str) -> str:
    """SHA-256 (hexadecimal) of a domain's version and templates, in JSON with sorted keys; recorded with results."""
    canonical = json.dumps(_pools(domain), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def label_phrase(labels: Sequence[str], polarity: int = POSITIVE) -> str:
    """Labels as a person says them: `Comedy`, `Action and Comedy`, `Animation, Children's and Comedy`.

    Several labels in a refusal stand for exactly that combination, not for each of them, so they read
    `combined Action and Comedy`.

    Raises:
        ValueError: no label.
    """
    if not labels:
        raise ValueError("a prompt needs at least one label.")
    *most, last = labels
    phrase = f"{', '.join(most)} and {last}" if most else last
    return f"combined {phrase}" if most and polarity == NEGATIVE else phrase


def render(template: str, labels: Sequence[str] | str, polarity: int = POSITIVE) -> str:
    """Fill the slot; `a` before it becomes `an` where the label calls for it.

    Args:
        template: a text with the slot `{label}`.
        labels: the labels, or a phrase that is ready.
        polarity: passed to `label_phrase`.
    """
    phrase = labels if isinstance(labels, str) else label_phrase(labels, polarity)
    if _takes_an(phrase):
        template = ARTICLE.sub(r"\1n ", template)
    return template.replace(SLOT, phrase)


def _takes_an(phrase: str) -> bool:
    if SPELLED_OUT.match(phrase):
        return phrase[0] in VOWEL_NAMED
    return phrase[:1].lower() in tuple("aeiou") and not CONSONANT_SOUND.match(phrase)

"""The form of verdicts: what a language model has to answer (Appendix B.5), and how an answer is read.

Nothing is made up. The client mends what leaves one reading (a code fence, "8/10" on a scale that ends at 10, "eight"), asks once
more where that fails, and keeps the text; what then has no three whole numbers from 1 to 10 with their reasons is no verdict.
"""

from __future__ import annotations

from typing import Any

from bench.contracts import ASPECTS, Verdict
from bench.llm.contracts import Answer, Failure

LOWEST, HIGHEST = 1, 10
_SCORE = {"type": "integer", "minimum": LOWEST, "maximum": HIGHEST}


def _each(schema: dict[str, Any]) -> dict[str, Any]:
    properties = dict.fromkeys(ASPECTS, schema)
    return {"type": "object", "properties": properties, "required": list(ASPECTS), "additionalProperties": False}


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"scores": _each(_SCORE), "reasoning": _each({"type": "string"})},
    "required": ["scores", "reasoning"],
    "additionalProperties": False,
}
# Which of two lists is better.
SIDES = {"first": 1, "second": -1, "tie": 0}
CHOICE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"better": {"type": "string", "enum": list(SIDES)}, "reasoning": {"type": "string"}},
    "required": ["better", "reasoning"],
    "additionalProperties": False,
}


def read_verdict(answer: Answer) -> Verdict:
    """The verdict in an answer that was asked for with `SCHEMA`."""
    text, paid = answer.texts[0] if answer.texts else "", cost(answer)
    if answer.failure is not None or not isinstance(answer.parsed, dict):
        return Verdict(None, text=text, failure=str(answer.failure or Failure.UNPARSEABLE), cost=paid)
    scores = {aspect: float(answer.parsed["scores"][aspect]) for aspect in ASPECTS}
    return Verdict(scores, dict(answer.parsed["reasoning"]), text, repaired=answer.repaired, cost=paid)


def read_choice(answer: Answer) -> int | None:
    """Which side an answer that was asked for with `CHOICE_SCHEMA` prefers: +1 the first, -1 the second, 0 neither, None no verdict."""
    if answer.failure is not None or not isinstance(answer.parsed, dict):
        return None
    return SIDES[answer.parsed["better"]]


def cost(answer: Answer) -> dict[str, float | None]:
    """Calls, tokens and price of an answer; nothing where it never came."""
    if not answer.texts and answer.failure is not None:
        return {}
    usage = answer.usage
    return {
        "calls": 1,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "price": usage.price,
    }

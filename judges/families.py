"""Does a judge favour its own family? Its scores where it judges its kin, against those of other judges on the same lists.

Kin is who wrote the requests (the simulator) or who made the lists (a recommender that asks a language model). For judge j the
preference is (mean of j on kin - mean of j on others) - the same contrast averaged over the judges of other families: what j adds
for its kin beyond what everybody sees in them and beyond j's own leniency.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.contracts import Ints, Longs
from judges.resampling import Column, Resampler

# Names under which the models of one family are sold.
ALIASES = {
    "chatgpt": "gpt",
    "o": "gpt",
    "mixtral": "mistral",
    "ministral": "mistral",
    "codestral": "mistral",
    "gemma": "gemini",
    "qwq": "qwen",
}


@dataclass(frozen=True)
class Judgement:
    """Scores of one run by one judge: overall, float64 [B], and the user of every example."""

    judge: str
    run: str
    scores: Column
    users: Ints


def family(model: str | None) -> str | None:
    """The family of a model by its name: "hosted_vllm/Qwen/Qwen2.5-7B-Instruct" is a "qwen"; None for no language model."""
    found = re.match(r"[^a-z]*([a-z]+)", (model or "").rpartition("/")[2].lower())
    return None if found is None else ALIASES.get(found[1], found[1])


def preference(
    judgements: Sequence[Judgement], judges: Mapping[str, str | None], makers: Mapping[str, str | None], seed: int
) -> dict[str, Any]:
    """Self-preference of every judge that has kin among the makers.

    Args:
        judgements: of all judges on all runs.
        judges: the family of every judge, None for no language model.
        makers: by run, the family of who made it (its requests, or its lists).
        seed: of the bootstrap.

    Returns:
        `kin`: pairs of judge and run of one family; `effects`: by judge the preference with its interval, `unknown` why there is
        none (it takes runs of kin and of others, and a judge of another family).
    """
    kin = [(judge, run) for judge, mine in judges.items() for run, maker in makers.items() if mine and mine == maker]
    effects: dict[str, Any] = {}
    unknown: dict[str, str] = {}
    for judge in dict.fromkeys(judge for judge, _ in kin):
        own = {run for name, run in kin if name == judge}
        others = [name for name, theirs in judges.items() if theirs and theirs != judges[judge]]
        if own == set(makers):
            unknown[judge] = "every run is of its family: add one that is not"
        elif not others:
            unknown[judge] = "no judge of another family: add one"
        else:
            effects[judge] = _effect(judgements, judge, others, own, seed)
    return {"kin": kin, "effects": effects, "unknown": unknown}


def _effect(
    judgements: Sequence[Judgement], judge: str, others: Sequence[str], own: set[str], seed: int
) -> dict[str, Any]:
    """One row a judgement; a resample of users takes all judgements of a user along."""
    told = [each for each in judgements if each.judge == judge or each.judge in others]
    users = np.concatenate([each.users for each in told])
    scores = np.concatenate([each.scores for each in told])
    mine = np.concatenate([np.full(len(each.scores), each.judge == judge) for each in told])
    kin = np.concatenate([np.full(len(each.scores), each.run in own) for each in told])

    def contrast(rows: Longs, side: bool) -> float:
        chosen = rows[mine[rows] == side]
        near, far = chosen[kin[chosen]], chosen[~kin[chosen]]
        return float(scores[near].mean() - scores[far].mean()) if len(near) and len(far) else math.nan

    resampler = Resampler(users, seed)
    return resampler.figure(lambda rows: contrast(rows, True) - contrast(rows, False), ~np.isnan(scores)).model_dump()

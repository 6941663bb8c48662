"""The paper's claims one by one, each decided by paired tests on the stored scores of the runs that it is about.

A claim holds for a backbone, task and condition when the difference has the claimed sign, its 95 % interval (bootstrap over
users) leaves out zero and its sign-flip p value, after Holm's correction over all comparisons of the report, is below 0.05.
It does not hold when the same is true of the opposite sign. Anything else is not decidable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from bench import statistics
from bench.contracts import Scores
from bench.reproduce import grids, published
from bench.reproduce.grids import Row, dpr
from bench.reproduce.measured import Floats64, Stored

Answer = Literal["holds", "does not hold", "not decidable"]
ALPHA = 0.05
MAIN = "ndcg@10"
GAIN = "gain of NDCG@10 minus gain of Recall@10"

# Gives the stored scores of a row in a task and condition, None where a run of it is missing.
Lookup = Callable[[Row, str, str], Stored | None]


@dataclass(frozen=True)
class Claim:
    """A claim: `key` is a letter, `text` the paper's statement, `where` its section, `tables` the runs that decide it."""

    key: str
    text: str
    where: str
    tables: tuple[str, ...]


CLAIMS = (
    Claim("a", "Three stages beat two.", "Section 5.1, Table 8", ("table8",)),
    Claim("b", "Two towers beat one.", "Section 5.3, Table 10", ("table10",)),
    Claim("c", "Both losses are needed: POS collapses without the positive one, NEG suffers without the negative one.",
          "Section 5.2, Table 9", ("table9",)),
    Claim("d", "Over the best Filter, DPR gains more in NDCG@10 than in Recall@10 (POS).", "Section 4.2.1, Table 1",
          ("table1",)),
    Claim("e", "DPR against the best Filter, which is told the task's own label: above it on POS; on NEG above it over "
          "GRU4Rec and below it over SASRec.", "Section 4.2.1, Table 1", ("table1",)),
    Claim("e'", "The same against the best filter that reads the same words as DPR (not in the paper).", "control",
          ("table1",)),
    Claim("f", "SEQ is not harmed: DPR without a prompt is not below its backbone, nor below the backbone that is "
          "fine-tuned for as long (+f).", "Section 4.2.1, Table 1", ("table1",)),
    Claim("g", "Nuanced requests: DPR has the highest overall score.", "Section 4.4.2, Table 4", ("table4",)),
    Claim("h", "Nuanced requests: with another request's prompt DPR fulfils the intent worse.", "Section 4.4.2, Table 4",
          ("table4",)),
)  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """What is compared: `row` against the best of `rivals` by the metric; `sign` is that of the claimed difference.

    `judge` is whose scores are compared, "" where the task itself scores.
    """

    claim: str
    backbone: str
    task: str
    condition: str
    row: Row
    rivals: tuple[Row, ...]
    sign: int = 1
    metric: str = MAIN
    paper: float | None = None
    judge: str = ""

    @property
    def measured(self) -> str:
        """The metric whose values stand beside each other."""
        return MAIN if self.metric == GAIN else self.metric


@dataclass(frozen=True)
class Verdict:
    """A comparison decided. `difference` is row minus rival (for claim d the difference of two relative gains)."""

    comparison: Comparison
    answer: Answer
    reason: str
    rival: str | None = None
    value: float | None = None
    rival_value: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    n: int = 0
    seeds: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Pair:
    """Scores of the two sides on the same examples, and which metric of them is tested."""

    comparison: Comparison
    rival: Row
    ours: Stored
    theirs: Stored
    complete: bool


def comparisons(dataset: str, backbones: Iterable[str] = tuple(grids.BACKBONES)) -> list[Comparison]:
    """Every comparison behind the claims, with the relative difference that the paper prints for it where it does."""
    found: list[Comparison] = []
    for backbone in backbones:
        full = dpr(backbone)
        base, tuned, _ = grids.fine_tuned(backbone)
        oracle, parsed = grids.filters(backbone), grids.filters(backbone, parsed=True)
        for task in grids.ALL:
            for condition in full.conditions(task):
                here = {"backbone": backbone, "task": task, "condition": condition, "row": full}
                found.append(Comparison("a", **here, rivals=(dpr(backbone, stages=2),)))  # type: ignore[arg-type]
                if task == "seq":
                    found += [Comparison("f", **here, rivals=(rival,)) for rival in (base, tuned)]  # type: ignore[arg-type]
                    continue
                missing = "neg" if task == "pos" else "pos"
                sign = -1 if task == "neg" and backbone == "sasrec" else 1
                found += [
                    Comparison("b", **here, rivals=(dpr(backbone, towers=1),)),  # type: ignore[arg-type]
                    Comparison("c", **here, rivals=(dpr(backbone, loss=missing),)),  # type: ignore[arg-type]
                    Comparison("e", **here, rivals=oracle, sign=sign),  # type: ignore[arg-type]
                    Comparison("e'", **here, rivals=parsed),  # type: ignore[arg-type]
                ]
                if task == "pos":
                    found.append(Comparison("d", **here, rivals=oracle, metric=GAIN))  # type: ignore[arg-type]
    order = [claim.key for claim in CLAIMS]
    found.sort(key=lambda each: order.index(each.claim))
    return [replace(each, paper=_printed(dataset, each)) for each in found]


def judged_comparisons(dataset: str, judge: str) -> list[Comparison]:
    """The comparisons behind the claims of Table 4, by the scores of one judge."""
    full = dpr("sasrec", tasks=grids.NUANCED)
    base = grids.Row("Base", "sasrec", "sasrec", tasks=grids.NUANCED)
    where = {"backbone": "sasrec", "task": "nuanced", "condition": "free", "judge": judge, "row": full}
    found = [Comparison("g", **where, rivals=(rival,), metric="overall_score") for rival in (base, grids.DPR_RAND)]  # type: ignore[arg-type]
    found.append(Comparison("h", **where, rivals=(grids.DPR_RAND,), metric="intent_fulfillment"))  # type: ignore[arg-type]
    return [replace(each, paper=_printed(dataset, each)) for each in found]


def decide(asked: Iterable[Comparison], look_up: Lookup) -> list[Verdict]:
    """Decide every comparison.

    Args:
        asked: the comparisons.
        look_up: the stored scores of a row in a task and condition.
    """
    kept: dict[tuple[str, str, str], Stored | None] = {}

    def stored(row: Row, task: str, condition: str) -> Stored | None:
        place = (row.key, task, condition)
        if place not in kept:
            kept[place] = look_up(row, task, condition)
        return kept[place]

    found: list[Verdict | _Pair] = [_pair(each, stored) for each in asked]
    pairs = [each for each in found if isinstance(each, _Pair)]
    tested = iter(_test(pairs))
    verdicts = [next(tested) if isinstance(each, _Pair) else each for each in found]
    corrected = statistics.holm([float("nan") if each.p is None else each.p for each in verdicts])
    return [
        _answer(replace(verdict, p_holm=p), each.complete) if isinstance(each, _Pair) else verdict
        for each, verdict, p in zip(found, verdicts, corrected, strict=True)
    ]


def _pair(each: Comparison, stored: Lookup) -> Verdict | _Pair:
    """The scores to compare, or a verdict where there is nothing to compare."""
    ours = stored(each.row, each.task, each.condition)
    rivals = [(rival, stored(rival, each.task, _asked(rival, each))) for rival in each.rivals]
    there = [(rival, scores) for rival, scores in rivals if scores is not None]
    absent = [rival.key for rival, scores in rivals if scores is None]
    if ours is None or not there:
        lacking = ([each.row.key] if ours is None else []) + absent
        return Verdict(each, "not decidable", f"no finished run of {', '.join(lacking)}")
    alike = [(rival, both) for rival, scores in there if (both := _common(ours, scores)) is not None]
    if not alike:
        return Verdict(each, "not decidable", f"{', '.join(rival.key for rival, _ in there)} answered other questions")
    rival, (mine, other) = max(alike, key=lambda pair: pair[1][1].headline(each.measured))
    return _Pair(each, rival, mine, other, complete=len(alike) == len(each.rivals))


def _asked(rival: Row, each: Comparison) -> str:
    """The condition in which a rival is asked: that of the comparison where it reads prompts, its only one elsewhere."""
    return each.condition if rival.told == "prompt" else rival.conditions(each.task)[0]


def _common(one: Stored, other: Stored) -> tuple[Stored, Stored] | None:
    """Both sides cut to the seeds that both have and that asked the same questions; None where there is no such seed."""
    seeds = tuple(seed for seed in one.seeds if other.digests.get(seed) == one.digests[seed])
    if not seeds:
        return None
    return one.only(seeds), other.only(seeds)


def _test(pairs: list[_Pair]) -> list[Verdict]:
    """Paired differences with intervals and p values; comparisons on the same examples share one resampling."""
    groups: dict[tuple[str, tuple[int, ...], int], list[int]] = {}
    for place, pair in enumerate(pairs):
        groups.setdefault((pair.comparison.task, pair.ours.seeds, len(pair.ours.users)), []).append(place)
    found: dict[int, Verdict] = {}
    for (_, seeds, _), places in groups.items():
        columns = {str(place): _difference(pairs[place]) for place in places}
        nothing = Scores({name: np.zeros(len(column)) for name, column in columns.items()})
        first = pairs[places[0]].ours
        tested = statistics.compare(Scores(columns), nothing, first.users, first.windows, min(seeds))
        for result in tested:
            pair = pairs[int(result.metric)]
            found[int(result.metric)] = Verdict(
                pair.comparison,
                "not decidable",
                "",
                rival=pair.rival.key,
                value=pair.ours.headline(pair.comparison.measured),
                rival_value=pair.theirs.headline(pair.comparison.measured),
                difference=_null(result.value),
                low=_null(result.low),
                high=_null(result.high),
                p=result.p if result.n else None,
                n=result.n,
                seeds=seeds,
            )
    return [found[place] for place in range(len(pairs))]


def _difference(pair: _Pair) -> Floats64:
    """What every example adds to the tested difference.

    For claim d this is the difference of the relative gains, N / N' - R / R' (N, R: NDCG@10 and Recall@10 of DPR; N', R' of
    the Filter). With g = R / R' the scores (n - g n') / N' - (r - g r') / R' have just that mean, and to first order its
    error as well: the second term stands for the error of g.
    """
    ours, theirs = pair.ours.columns, pair.theirs.columns
    if pair.comparison.metric != GAIN:
        return ours[pair.comparison.metric] - theirs[pair.comparison.metric]
    n, r = theirs[MAIN], theirs["recall@10"]
    mean_n, mean_r = pair.theirs.headline(MAIN), pair.theirs.headline("recall@10")
    if not (mean_n > 0 and mean_r > 0):
        return np.full(len(n), np.nan)
    ratio = pair.ours.headline("recall@10") / mean_r
    return (ours[MAIN] - ratio * n) / mean_n - (ours["recall@10"] - ratio * r) / mean_r


def _answer(verdict: Verdict, complete: bool) -> Verdict:
    """Turn a tested difference into an answer."""
    low, high, p, sign = verdict.low, verdict.high, verdict.p_holm, verdict.comparison.sign
    if low is None or high is None or p is None or verdict.difference is None:
        return replace(verdict, reason="no example to compare")
    if low <= 0 <= high:
        return replace(verdict, reason="the interval includes zero")
    if p >= ALPHA:
        return replace(verdict, reason=f"p is {p:.3f} after Holm's correction")
    above = verdict.difference > 0
    gains = verdict.comparison.metric == GAIN
    if gains and not (verdict.value or 0.0) > (verdict.rival_value or 0.0):
        return replace(verdict, reason="DPR is not above the Filter, so there is no gain to compare")
    if not complete and (above or gains):
        # What is missing might be the best rival; only that DPR is below one of them is certain already.
        return replace(verdict, reason="some of the rivals have not been run")
    return replace(verdict, answer="holds" if above == (sign > 0) else "does not hold")


def _printed(dataset: str, each: Comparison) -> float | None:
    """The paper's relative difference in percent (claim d: percentage points), None where it prints none."""
    numbers = {"a": 8, "b": 10, "c": 9, "g": 4, "h": 4}
    table = numbers.get(each.claim, 1)
    labels = {"a": ("DPR 3-S", "DPR 2-S"), "b": ("DPR 2-T", "DPR 1-T")}
    labels["c"] = ("DPR Full", f"DPR {str(each.rivals[0].settings.get('loss', '')).title()}")
    row, *_ = labels.get(each.claim, (each.row.label,))
    others = labels[each.claim][1:] if each.claim in labels else tuple(rival.label for rival in each.rivals)

    def change(metric: str) -> float | None:
        cell = published.look_up(table, dataset, each.task, each.backbone, row, "mean", metric)
        rivals = [
            published.look_up(table, dataset, each.task, each.backbone, other, "mean", metric) for other in others
        ]
        known = [rival.best for rival in rivals if rival is not None]
        return 100 * (cell.best / max(known) - 1) if cell is not None and known else None

    if each.metric != GAIN:
        return change(each.metric)
    ndcg, recall = change(MAIN), change("recall@10")
    return None if ndcg is None or recall is None else ndcg - recall


def _null(value: float) -> float | None:
    return None if np.isnan(value) else value

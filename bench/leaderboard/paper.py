"""The paper's rows: the cells of `bench/reproduce/published.jsonl` put together by system, with errata marked."""

from __future__ import annotations

from typing import Any

from bench.cards import Information
from bench.identity import digest
from bench.leaderboard.rows import AskedLLM, Erratum, JudgedBy, Metric, Printed, Row
from bench.reproduce.published import Published, cells
from bench.results import Condition

ENCODER = "all-mpnet-base-v2"
# What the paper's systems are told beyond the history, by how our name of the model begins; all others hear nothing.
TOLD: dict[str, Information] = {
    "filter_": "oracle",
    "dpr_": "prompt",
    "zero_shot": "prompt",
    "rerank": "prompt",
    "recgpt": "prompt",
    "reclm_gen": "prompt",
}
ASKING = ("zero_shot", "rerank")
Key = tuple[str, str, str, str]


def published_rows() -> list[Row]:
    """A row for every system, task and dataset that the paper has values of.

    A system that stands in several tables is one row. Its values are those of the first table that prints them, an
    erratum's correction before the printed number; what a further table prints otherwise is kept in `otherwise`. The
    paper does not say which words its prompts carried; its POS cells fit whole-genre prompts, so systems that read
    prompts stand under the condition `genres`, and those that hear none beside them.
    """
    systems: dict[Key, list[Published]] = {}
    for cell in cells().values():
        key = (cell.dataset, cell.task, cell.model, digest([cell.settings, _llm(cell), _base(cell)]))
        systems.setdefault(key, []).append(cell)
    return [_row(group) for group in systems.values()]


def _row(group: list[Published]) -> Row:
    first = group[0]
    metrics: dict[str, Metric] = {}
    per_window: dict[str, dict[str, Metric]] = {}
    errata, otherwise = [], []
    for cell in group:
        columns = metrics if cell.window == "mean" else per_window.setdefault(str(cell.window), {})
        if cell.metric not in columns:
            columns[cell.metric] = Metric(value=cell.best)
            errata += [_erratum(cell)] if cell.erratum is not None else []
        elif columns[cell.metric].value != cell.value:
            otherwise.append(_erratum(cell))
    told = _told(first.model)
    llm, settings = _llm(first), first.settings | _base(first)
    about = {"dataset": first.dataset, "model": first.model, "settings": settings, "llm": llm}
    windows = sorted({cell.window for cell in group if isinstance(cell.window, int)})
    name = "-".join(["paper", first.task, first.model, first.dataset, digest(about)[:10]])
    return Row(
        id=name,
        source="published",
        task=first.task,
        model=first.model,
        variant=settings,
        system=digest({"source": "published", **about})[:12],
        dataset=first.dataset,
        protocol="paper",
        condition=_condition(first.task, told),
        information=told,
        windows=windows,
        settings={"task": {}, "model": settings},
        encoder=ENCODER if first.model.startswith("dpr_") else None,
        llm=None if llm is None else AskedLLM(name=llm, model=llm, engine="published"),
        judge=JudgedBy(name="the paper's", identity="published", is_llm=True) if first.task == "nuanced" else None,
        metrics=metrics,
        per_window=per_window,
        published=Printed(
            label=first.row, tables=sorted({cell.table for cell in group}), errata=errata, otherwise=otherwise
        ),
    )


def _erratum(cell: Published) -> Erratum:
    said = cell.erratum
    return Erratum(
        table=cell.table,
        metric=cell.metric,
        window=str(cell.window),
        printed=cell.value,
        shown=None if said is None else said.corrected,
        text="differs from the table shown" if said is None else said.text,
    )


def _llm(cell: Published) -> str | None:
    return cell.row.partition(" K=")[0] if cell.model in ASKING else None


def _base(cell: Published) -> dict[str, Any]:
    """A reranker's base is a setting of it; of the other models the name says what they stand on."""
    return {"base": cell.backbone} if cell.model == "rerank" else {}


def _told(model: str) -> Information:
    return next((told for begin, told in TOLD.items() if model.startswith(begin)), "none")


def _condition(task: str, told: Information) -> Condition:
    if task == "seq":
        return "none"
    if told == "oracle":
        return "oracle"
    return "free" if task == "nuanced" else "genres"

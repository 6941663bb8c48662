"""From examples to stored rankings: a fitted model is asked batch by batch, and every batch is kept before the next."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench import footprint, journal, language, parallel, provenance, rankings, scoring
from bench.contracts import Examples, Progress, Ranking, ReadsAhead, Recommender
from bench.errors import CheckError, InputError
from bench.llm.contracts import LanguageModel
from bench.ranking import clean
from bench.runs import MODELS, PARTS, RANKINGS
from bench.store import Store, resolve_device

if TYPE_CHECKING:
    from bench.runner import Plan

# Metrics go to 20, so that is how far every ranking is kept.
DEPTH = 20

Span = tuple[int, int]


def rank_missing(
    plan: Plan, examples: Examples, llm: LanguageModel | None, writer: journal.Writer, progress: Progress
) -> None:
    """Rank what no kept batch covers. A batch counts once its part is on disk and then its record."""
    kept = _kept(plan.directory, writer, len(examples))
    # A batch service is asked once for everything.
    size = len(examples) if plan.config.llm_batch else plan.config.batch_size
    todo = list(missing_spans(len(examples), kept, size))
    if not parallel.agree(bool(todo)):
        return
    device = resolve_device(plan.config.device)
    store = Store(plan.config.out / MODELS)
    values = plan.model_settings.model_dump(mode="json")
    model, checkpoint = store.fitted(
        plan.config.model, plan.dataset, values, plan.config.seed, device, progress, refit=plan.config.refit
    )
    gpu = provenance.hardware()["gpu"] if device == "cuda" else None
    language.lend(model, llm)
    shown = shown_to(model, examples)
    took = {"fit_seconds": checkpoint.fit_seconds, **footprint.of_checkpoint(store.root / checkpoint.key)}
    if llm is None:
        took |= _request_latency(plan, model, shown, todo[0])
    writer.add("fitted", key=checkpoint.key, device=device, gpu=gpu, precision=checkpoint.precision, **took)
    ranked = len(examples) - sum(stop - start for start, stop in todo)
    advance = progress.track(f"ranking {plan.config.model}", len(examples), ranked)
    for start, stop in todo:
        batch = shown.take(np.arange(start, stop))
        began = time.perf_counter()
        ranking = _rank(plan.config.model, model, batch, (start, stop))
        seconds = time.perf_counter() - began
        ranking, counts = clean(ranking, batch.requests, len(plan.dataset.catalogue), DEPTH)
        part = rankings.part_name(start, stop)
        rankings.write_part(plan.directory / PARTS / part, start, ranking, batch)
        asked = {} if llm is None else {"llm": language.spent(llm)}
        writer.add("batch", start=start, stop=stop, part=part, seconds=round(seconds, 4), counts=counts, **asked)
        advance(stop - start)


def shown_to(model: Recommender, examples: Examples) -> Examples:
    """Examples in which the requests are those that a model is to rank: what its card says it is told, prepared by itself."""
    shown = scoring.visible(examples, model.card.information)
    return Examples(model.prepared(shown.requests), shown.targets) if isinstance(model, ReadsAhead) else shown


def _request_latency(plan: Plan, model: Recommender, shown: Examples, span: Span) -> dict[str, float]:
    """Latency of requests asked one at a time, from the first batch; an LLM's is taken by its client."""
    start, stop = span

    def rank_one(place: int) -> None:
        row = start + place
        _rank(plan.config.model, model, shown.take(np.array([row])), (row, row + 1))

    # What fails here fails in its batch as well, which is where a person looks for it.
    with suppress(InputError, CheckError):
        return footprint.request_latency(rank_one, stop - start)
    return {}


def _rank(name: str, model: Recommender, batch: Examples, span: Span) -> Ranking:
    where = f"examples {span[0]} to {span[1] - 1}"
    try:
        ranking = model.rank(batch.requests, DEPTH)
    except (InputError, CheckError):
        raise
    except Exception as error:
        line = (str(error) or "no message").splitlines()[0]
        raise CheckError(
            f"{name} failed on {where}: {type(error).__name__}: {line}; batches before are kept, "
            "the same command goes on from there."
        ) from error
    problem = shape_problem(ranking, len(batch))
    if problem is not None:
        raise CheckError(f"{name} returned a wrong ranking for {where}: {problem}.")
    return ranking


def merge(directory: Path, writer: journal.Writer, n: int) -> None:
    """Put the parts of all n examples into one file, unless that was done before."""
    if rankings.rows_in(directory / RANKINGS) == n:
        return
    batches = journal.Journal(writer.path, writer.records).batches
    rankings.merge([directory / PARTS / record["part"] for record in batches], directory / RANKINGS, n)


def missing_spans(n: int, kept: list[Span], size: int) -> Iterator[Span]:
    """What of `range(n)` the kept spans leave out, cut into pieces of at most `size`."""
    place = 0
    for start, stop in [*sorted(kept), (n, n)]:
        for begin in range(place, start, size):
            yield begin, min(begin + size, start)
        place = max(place, stop)


def shape_problem(ranking: Ranking, rows: int) -> str | None:
    """What is wrong with the form of a ranking of `rows` requests, None where nothing is."""
    items, scores = np.asarray(ranking.items), np.asarray(ranking.scores)
    if items.ndim != 2 or len(items) != rows:
        return f"items have shape {items.shape}, expected ({rows}, k)"
    if scores.shape != items.shape:
        return f"scores have shape {scores.shape}, items {items.shape}"
    if not np.issubdtype(items.dtype, np.integer):
        return f"items are {items.dtype}, expected int32"
    if ranking.failed is not None and np.shape(ranking.failed) != (rows,):
        return f"failed has shape {np.shape(ranking.failed)}, expected ({rows},)"
    return None


def _kept(directory: Path, writer: journal.Writer, n: int) -> list[Span]:
    """Spans that are ranked: recorded, and their part (or the merged file) whole on disk."""
    records = journal.Journal(writer.path, writer.records).batches
    spans = [(record["start"], record["stop"]) for record in records]
    if not any(missing_spans(n, spans, n)) and rankings.rows_in(directory / RANKINGS) == n:
        return spans
    return [
        (start, stop)
        for (start, stop), record in zip(spans, records, strict=True)
        if rankings.rows_in(directory / PARTS / record["part"]) == stop - start
    ]

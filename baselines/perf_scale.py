"""`bench perf scale`: how time and memory grow with events, items, users and requests, one axis after the other.

Every point is a process of its own, forked before anything was computed, so that its peak memory is its own. Data are
synthetic with MovieLens-1M's law of popularity; the trained model is SASRec with its defaults at length 50. Seconds are those
of the process's cores, not of the clock (but for requests), so that a busy machine changes them little.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from baselines.item_index import ItemIndex, Kind, recall
from baselines.scale_figure import draw
from bench.atomic import atomic_write
from bench.contracts import Ragged, Requests
from bench.llm.perf import measure, server
from bench.provenance import hardware

DIM, LENGTH, ITEMS, EVENTS = 64, 50, 3_666, 20_000
# The catalogue of MIND after its 20-core.
MIND_ITEMS, MIND_LENGTH = 21_901, 47
QUERIES, BATCH = 256, 512
EVERY_EVENT, EVERY_CATALOGUE = (25_000, 50_000, 100_000), (3_666, 10_000, 30_000)
MORE_EVENTS, MORE_ITEMS, MORE_CATALOGUES = (300_000, 1_000_000), (100_000,), (300_000, 1_000_000)
EVERY_USERS, MORE_USERS, EVERY_REQUESTS = (500, 1_000, 2_000), (20_000, 265_000), (1_000, 2_000, 4_000)
# Sizes of catalogues that are searched, without `full` and with it besides. A partition of three million items takes minutes to
# build, and so does a graph of a million.
SEARCHED: dict[Kind, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "flat": ((30_000, 100_000), (1_000_000, 3_000_000, 10_000_000)),
    "ivf": ((30_000, 100_000), (1_000_000,)),
    "hnsw": ((30_000,), (100_000, 300_000)),
}


@dataclass(frozen=True)
class Point:
    """One measurement: what grows (`axis`), how far (`size`), how (`way`), and what measures it."""

    axis: str
    way: str
    size: int
    work: Callable[[], dict[str, float]]


def scale(
    *, seconds: float = 0.0, rounds: int = 1, full: bool = False, resume: int = 0, out: str = "results/perf/scale"
) -> dict[str, Any]:
    """Measure the curves; every point once, whatever `seconds` and `rounds` say, since it is growth that counts.

    Args:
        seconds: not used.
        rounds: not used.
        full: also the large points (up to a million events, ten million items, 265,000 users; 8 GiB of memory), which take
            about six minutes of one core.
        resume: 1 goes on with what a measurement on the same hardware that was broken off has left at `out`.
        out: path without its ending, of the JSON, of the table in Markdown and of the figure (SVG) that are written.

    Returns:
        Core seconds and MiB of every point. `growth` is the exponent of the last step: 1 is linear.
    """
    machine, rows = hardware(), []
    kept = _kept(Path(f"{out}.json"), machine) if resume else {}
    with server() as url:
        for point in _points(full, url):
            place = (point.axis, point.way, point.size)
            measured = kept.get(place) or _alone(point.work)
            rows.append({"axis": point.axis, "way": point.way, "size": point.size, **measured})
            _write(out, machine, rows)
    told = {f"{row['axis']} {row['size']:,} ({row['way']}), {name}": row[name] for row in rows for name in _shown(row)}
    return {**told, "written": f"{out}.json, {out}.md, {out}.svg"}


def _kept(path: Path, machine: dict[str, Any]) -> dict[tuple[str, str, int], dict[str, float]]:
    """What each point of a file measured; nothing where there is none, or where it is of other hardware."""
    try:
        found = json.loads(path.read_text("utf-8"))
        if found["hardware"] != machine:
            return {}
        rows = [(row, (row["axis"], row["way"], row["size"])) for row in found["rows"]]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {place: {key: row[key] for key in row.keys() - {"axis", "way", "size", "growth"}} for row, place in rows}


def _write(out: str, machine: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """The three files, after every point, so that a long measurement that is broken off leaves what it has."""
    for before, row in zip([{}, *rows], rows, strict=False):
        if (before.get("axis"), before.get("way")) == (row["axis"], row["way"]):
            row["growth"] = float(np.log(row["seconds"] / before["seconds"]) / np.log(row["size"] / before["size"]))
    atomic_write(Path(f"{out}.json"), json.dumps({"hardware": machine, "rows": rows}, indent=2) + "\n")
    atomic_write(Path(f"{out}.md"), markdown(rows))
    atomic_write(Path(f"{out}.svg"), draw(rows, machine["cpu"] or "unknown processor"))


def markdown(rows: list[dict[str, Any]]) -> str:
    """The points as a table."""
    lines = [
        "| grows | how | size | core seconds | growth | memory, MiB | recall@20 | to build, core seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        growth = f"{row['growth']:.2f}" if "growth" in row else ""
        found = f"{row['recall']:.3f}" if "recall" in row else ""
        built = f"{row['build_seconds']:.2f}" if "build_seconds" in row else ""
        size, took, memory = f"{row['size']:,}", f"{row['seconds']:.2f}", f"{row['mib']:,.0f}"
        lines.append(f"| {row['axis']} | {row['way']} | {size} | {took} | {growth} | {memory} | {found} | {built} |")
    return "\n".join(lines) + "\n"


def _shown(row: dict[str, Any]) -> list[str]:
    return [name for name in ("seconds", "mib", "recall", "build_seconds") if name in row]


def _points(full: bool, url: str) -> Iterator[Point]:
    for events in EVERY_EVENT + (MORE_EVENTS if full else ()):
        yield Point("events", "one epoch", events, lambda n=events: _epoch(n, ITEMS, None))
    for items in EVERY_CATALOGUE + (MORE_ITEMS if full else ()):
        yield Point("items, training", "full softmax", items, lambda n=items: _epoch(EVENTS, n, 0))
    for items in EVERY_CATALOGUE[1:] + (MORE_ITEMS + MORE_CATALOGUES if full else ()):
        yield Point("items, training", "8,192 negatives", items, lambda n=items: _epoch(EVENTS, n, 8_192))
    for users in EVERY_USERS + (MORE_USERS if full else ()):
        yield Point("users", f"evaluation over {MIND_ITEMS:,} items", users, lambda n=users: _evaluation(n))
    for kind, (few, more) in SEARCHED.items():
        for items in few + (more if full else ()):
            yield Point("items, retrieval", kind, items, lambda n=items, kind=kind: _retrieval(n, kind))
    for requests in EVERY_REQUESTS:
        yield Point("requests", "to a language model", requests, lambda n=requests: _asking(url, n))


def _alone(work: Callable[[], dict[str, float]]) -> dict[str, float]:
    """What a process of its own measures; `mib` is its peak memory above what it began with, unless it says so itself."""
    fork = multiprocessing.get_context("fork")
    here, there = fork.Pipe(duplex=False)

    def live() -> None:
        # Libraries are no part of what grows.
        import faiss  # noqa: F401

        before = _peak()
        measured = work()
        there.send({"mib": _peak() - before} | measured)

    process = fork.Process(target=live)
    process.start()
    there.close()
    try:
        measured: dict[str, float] = here.recv()
    except EOFError:
        process.join()
        raise MemoryError(f"a measurement ended with code {process.exitcode}") from None
    process.join()
    return measured


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _log(users: int, length: int, items: int) -> Ragged:
    rng = np.random.default_rng(0)
    share = ((np.arange(items) + 10.0) ** -0.9).cumsum()
    drawn = np.searchsorted(share, rng.random(users * length) * share[-1]).astype(np.int32)
    return Ragged(np.arange(users + 1, dtype=np.int64) * length, drawn.clip(0, items - 1))


def _net(items: int, negatives: int | None = None) -> Any:
    import torch

    from baselines.sasrec import SASRec, SASRecSettings

    torch.manual_seed(0)
    model = SASRec(SASRecSettings(length=LENGTH, dim=DIM, negatives=negatives))
    model.net = model.build(items)
    return model


def _epoch(events: int, items: int, negatives: int | None) -> dict[str, float]:
    """One epoch of training as of `baselines.training`: batches, loss, gradients, AdamW."""
    import torch

    from baselines.backbones.batches import bucket, cut_windows
    from baselines.training import keep_memory

    keep_memory()
    log, net, rng = _log(events // 100, 100, items), _net(items, negatives).net.train(), np.random.default_rng(0)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True)
    began = time.process_time()
    windows = cut_windows(log, net.length, rng)
    for row in bucket(windows.stop - windows.start, 160, rng):
        loss = net.loss(log, net.draw(windows.take(row), rng))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return {"seconds": time.process_time() - began}


def _evaluation(users: int) -> dict[str, float]:
    """Rankings of 20 over the catalogue of MIND, in batches as a run makes them; histories of MIND's mean length."""
    from bench.ranking import clean

    history, model = _log(users, MIND_LENGTH, MIND_ITEMS), _net(MIND_ITEMS)
    asked = Requests(np.arange(users, dtype=np.int32), history)
    began = time.process_time()
    for start in range(0, users, BATCH):
        part = asked.take(np.arange(start, min(start + BATCH, users)))
        clean(model.rank(part, 20), part, MIND_ITEMS, 20)
    return {"seconds": time.process_time() - began}


def _retrieval(items: int, kind: Kind) -> dict[str, float]:
    """Search for 256 users' 20 best; recall against the exact ones.

    Vectors are Gaussian with a falling spectrum and no clusters, which is harder for an index than a trained table.
    """
    before, rng = _peak(), np.random.default_rng(0)
    spectrum = (np.arange(1, DIM + 1) ** -0.5).astype(np.float32)
    table = rng.standard_normal((items, DIM), np.float32)
    table *= spectrum
    users = rng.standard_normal((QUERIES, DIM), np.float32) * spectrum
    began = time.process_time()
    index = ItemIndex(table, kind)
    built = time.process_time() - began
    began = time.process_time()
    found = index.search(users, 20)[1]
    took, memory = time.process_time() - began, _peak() - before
    exact = found if kind == "flat" else ItemIndex(table, "flat").search(users, 20)[1]
    return {"seconds": took, "build_seconds": built, "recall": recall(found, exact), "mib": memory}


def _asking(url: str, requests: int) -> dict[str, float]:
    measured = measure(url, requests)
    return {"seconds": float(measured["seconds"]), "mib": float(measured["peak_mib"])}

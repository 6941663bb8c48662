"""Speed of training and evaluation against the bare matrix products that no implementation can do without.

`bench perf train` and `bench perf eval` measure ours and the floor in turns in one process, so that a noisy machine slows
both, and print the ratio of every pair. The data are a synthetic log of MovieLens-1M's shape: speed needs no licence.
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from baselines.sequential import SequentialRecommender
from bench.cards import DatasetCard
from bench.contracts import Catalogue, Dataset, Ragged, Requests
from bench.errors import InputError
from bench.precision import Precision

USERS, ITEMS, EVENTS = 6_040, 3_666, 1_000_000
DIM, LAYERS, HEADS, LENGTH, BATCH = 64, 2, 2, 200, 128


def synthetic_log(seed: int = 0) -> Dataset:
    """6,040 users, 3,666 items, about a million events: lengths like MovieLens-1M's (20 to 2,300), items by Zipf's law."""
    rng = np.random.default_rng(seed)
    lengths = 20 + np.clip(rng.lognormal(np.log(76), 1.14, USERS), 0, 2_294)
    lengths = (20 + (lengths - 20) * (EVENTS - 20 * USERS) / (lengths - 20).sum()).clip(20, 2_314).astype(np.int64)
    weights = (np.arange(ITEMS) + 10.0) ** -0.9
    drawn = rng.choice(ITEMS, int(lengths.sum()), p=weights / weights.sum()).astype(np.int32)
    events = Ragged(np.concatenate([[0], lengths.cumsum()]).astype(np.int64), drawn)
    name = tuple(map(str, range(ITEMS)))
    catalogue = Catalogue(name, name, name, ("Any",), Ragged(np.arange(ITEMS + 1), np.zeros(ITEMS, np.int32)))
    card = DatasetCard(name="synthetic", summary="MovieLens-1M's shape", domain="film", source="generated")
    return Dataset(
        card, catalogue, tuple(map(str, range(USERS))), events, lengths * 8 // 10, lengths * 9 // 10, "synthetic"
    )


def train(
    *,
    seconds: float = 20.0,
    rounds: int = 5,
    full: bool = False,
    backbone: str = "sasrec",
    length: int = LENGTH,
    precision: Precision = "fp32",
) -> dict[str, Any]:
    """Positions (targets in the loss) per second of a backbone's training, against the GEMM floor of SASRec's shape.

    The floor is forward and both backward products of one step over 128 x 200 slots: four linear maps and two attention
    products a layer, and the softmax's products over the whole catalogue for every slot.

    Args:
        seconds: how long to measure, floor and ours together.
        rounds: how many times they take turns.
        full: only full windows of 201 events, so that ours too has 128 x 200 targets a step and no short row.
        backbone: which one: sasrec, gru4rec or bert4rec, with its default settings.
        length: newest events of a history; the floor stays at 200.
        precision: of the products with the catalogue; the floor stays at fp32.

    Raises:
        InputError: no such backbone.

    Returns:
        `positions_per_s`, `floor_positions_per_s`, `ratio` (median over rounds) with `ratio_low` and `ratio_high`, and
        `peak_memory_gib`.
    """
    import torch

    from baselines.backbones.batches import bucket, cut_windows
    from baselines.training import keep_memory
    from bench import registry

    keep_memory()
    torch.manual_seed(0)
    events = synthetic_log().train_events()
    kind = registry.get("models", backbone)
    if not issubclass(kind, SequentialRecommender):
        raise InputError(f"{backbone} is no backbone: give sasrec, gru4rec or bert4rec.")
    net = kind(kind.Settings.parse(backbone, {"length": length})).build(ITEMS).train()
    net.precision = precision
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True)
    rng = np.random.default_rng(0)
    windows = cut_windows(events, net.length, rng)
    windows = windows.take(np.flatnonzero((windows.stop - windows.start == net.length + 1) | (not full)))
    # As many positions a step whatever the length.
    size = (BATCH if full else 40) * LENGTH // length
    rows = list(bucket(windows.stop - windows.start, size, rng))
    state = {"step": 0}

    def ours() -> int:
        row = rows[state["step"] % len(rows)]
        state["step"] += 1
        part = windows.take(row)
        step = net.draw(part, rng)
        loss = net.loss(events, step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return net.targets(step)

    return _race(ours, _training_floor(), seconds, rounds)


def evaluate(*, seconds: float = 20.0, rounds: int = 3, full: bool = False) -> dict[str, Any]:
    """Full-catalogue evaluation of 6,040 users against the encoder's bare products over 6,040 x 200 slots.

    Args:
        seconds: how long to measure, floor and ours together.
        rounds: how many times they take turns.
        full: cut users down to those with 200 events and more, so that no history is short.

    Returns:
        As `train`, in users per second; `ratio` above 1 is faster than the floor.
    """
    import torch

    from baselines.sasrec import SASRec
    from bench.metrics import hits, ndcg

    torch.manual_seed(0)
    data = synthetic_log()
    model = SASRec()
    model.net = model.build(ITEMS).eval()
    chosen = np.flatnonzero(data.events.lengths >= (LENGTH if full else 0))
    history = data.events.take(np.resize(chosen, USERS))
    requests = Requests(np.arange(USERS, dtype=np.int32), history)
    target = Ragged(np.arange(USERS + 1), np.zeros(USERS, np.int32))

    def ours() -> int:
        for start in range(0, USERS, 1_024):
            rows = np.arange(start, min(start + 1_024, USERS))
            ranking = model.rank(requests.take(rows), 20)
            mine = target.take(rows)
            ndcg(hits(ranking.items, mine), mine.lengths, 10).mean()
        return USERS

    return _race(ours, _evaluation_floor(), seconds, rounds)


def _race(ours: Callable[[], int], floor: Callable[[], int], seconds: float, rounds: int) -> dict[str, Any]:
    """Let two workloads take turns; rates in units per second, and the ratio ours / floor of each turn."""
    ours(), floor()
    rates: list[tuple[float, float]] = []
    for _ in range(rounds):
        pair = []
        for work in (floor, ours):
            done, started = 0, time.perf_counter()
            while time.perf_counter() - started < seconds / rounds / 2:
                done += work()
            pair.append(done / (time.perf_counter() - started))
        rates.append((pair[1], pair[0]))
    ratios = sorted(mine / bare for mine, bare in rates)
    return {
        "positions_per_s": statistics.median(mine for mine, _ in rates),
        "floor_positions_per_s": statistics.median(bare for _, bare in rates),
        "ratio": statistics.median(ratios),
        "ratio_low": ratios[0],
        "ratio_high": ratios[-1],
        "peak_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def _products(shapes: list[tuple[int, int, int, int]], backward: bool) -> Callable[[], None]:
    """Batched products [b, m, k] x [b, k, n] of each shape (b, m, k, n), with both backward products where asked."""
    import torch

    jobs: list[Callable[[], Any]] = []
    for b, m, k, n in shapes:
        batch = (b,) if b > 1 else ()
        make = lambda *size: torch.randn(*batch, *size).mul_(0.05)  # noqa: B023, E731
        x, w, dy = make(m, k), make(k, n), make(m, n)
        y, dx, dw = make(m, n), make(m, k), make(k, n)
        product = torch.bmm if b > 1 else torch.mm
        jobs.append(lambda x=x, w=w, y=y, product=product: product(x, w, out=y))
        if backward:
            jobs.append(lambda dy=dy, w=w, dx=dx, product=product: product(dy, w.transpose(-1, -2), out=dx))
            jobs.append(lambda x=x, dy=dy, dw=dw, product=product: product(x.transpose(-1, -2), dy, out=dw))

    def run() -> None:
        for job in jobs:
            job()

    return run


def _encoder_shapes(batch: int) -> list[tuple[int, int, int, int]]:
    slots, inner = batch * LENGTH, 4 * DIM
    linear = [(1, slots, DIM, 3 * DIM), (1, slots, DIM, DIM), (1, slots, DIM, inner), (1, slots, inner, DIM)]
    attention = [(batch * HEADS, LENGTH, DIM // HEADS, LENGTH), (batch * HEADS, LENGTH, LENGTH, DIM // HEADS)]
    return [*linear, *attention] * LAYERS


def _training_floor() -> Callable[[], int]:
    slots, chunk = BATCH * LENGTH, 3_200
    encoder = _products(_encoder_shapes(BATCH), backward=True)
    head = _products([(1, chunk, DIM, ITEMS)], backward=True)

    def step() -> int:
        encoder()
        for _ in range(slots // chunk):
            head()
        return slots

    return step


def _evaluation_floor() -> Callable[[], int]:
    encoder, size = _products(_encoder_shapes(604), backward=False), 604

    def step() -> int:
        for _ in range(USERS // size):
            encoder()
        return USERS

    return step

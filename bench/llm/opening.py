"""The one door to every language model: by its name in a litellm configuration, or as an engine in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from bench.contracts import Progress
from bench.errors import InputError
from bench.llm.asking import Patience
from bench.llm.cache import Cache, open_cache
from bench.llm.config import Endpoint, load_endpoint
from bench.llm.core import Core, Model
from bench.llm.stats import prices_of

ENGINES = ("vllm", "hf")
CONNECTIONS = 64


def is_engine(name: str) -> bool:
    """Whether a name means an engine in this process (`hf:...`, `vllm:...`) and not an entry of the configuration."""
    engine, colon, _ = name.partition(":")
    return bool(colon) and engine in ENGINES


def open_llm(
    name: str,
    config_path: Path | None = None,
    *,
    cache_dir: Path | None,
    max_cost: float | None = None,
    max_requests: int | None = None,
    progress: Progress | None = None,
    connections: int | None = None,
    timeout_s: float | None = None,
    deadline_s: float = 600.0,
    attempts: int = 6,
    offline: Literal["export", "cache"] | None = None,
    batch: bool = False,
    device: str = "auto",
    engine_batch: int = 64,
) -> Model:
    """Open a language model.

    Args:
        name: a `model_name` of the configuration, or `vllm:PATH_OR_NAME` or `hf:PATH_OR_NAME` for an engine in this process.
        config_path: configuration in litellm's format; engines in this process need none.
        cache_dir: folder of cached answers (OUT/llm-cache); None keeps none.
        max_cost: US dollars that may be spent; afterwards requests get Failure.BUDGET. The model's price must be known.
        max_requests: attempts that may be sent; afterwards Failure.BUDGET.
        progress: where notes go.
        connections: requests under way at once; the configuration's `max_parallel_requests`, or 64.
        timeout_s: seconds for one attempt; the configuration's `timeout`, or 120.
        deadline_s: seconds for one request with all its attempts and the waiting between them.
        attempts: attempts for one request.
        offline: "cache" answers from the cache alone; "export" also writes what is missing to `cache_dir/pending/`
            for `bench llm export`. What is missing gets Failure.BUDGET.
        batch: send what is missing through the OpenAI Batch API and wait for it.
        device: for engines in this process: auto, cpu or cuda.
        engine_batch: requests that an engine in this process takes at once.

    Raises:
        InputError: an unknown name, a faulty configuration, a missing key, an option that the model does not take.
    """
    for flag, value in (("max_cost", max_cost), ("max_requests", max_requests), ("attempts", attempts)):
        if value is not None and value < (1 if flag == "attempts" else 0):
            raise InputError(f"{flag.replace('_', '-')} must not be {value}.")
    engine, colon, path = name.partition(":")
    if colon and engine in ENGINES:
        if max_cost is not None or batch or offline == "export":
            raise InputError(f"{name} runs in this process: leave out --max-cost, --batch and export.")
        return _open_engine(engine, path, name, cache_dir, max_requests, offline, device, engine_batch)
    if config_path is None:
        raise InputError(f"--llm {name} needs --llm-config FILE (or a name like hf:PATH or vllm:PATH).")
    endpoint = load_endpoint(name, config_path)
    prices = prices_of(endpoint)
    if max_cost is not None and prices is None:
        raise InputError(
            f"--max-cost needs the price of {name}, which is unknown: add input_cost_per_token and "
            f"output_cost_per_token to its litellm_params in {config_path}."
        )
    if (batch or offline) and cache_dir is None:
        raise InputError("batches, export and answers from the cache alone need a cache.")
    core = Core(endpoint.identity, _cache(cache_dir), prices)
    try:
        return _remote(
            core,
            endpoint,
            max_cost,
            max_requests,
            progress,
            offline,
            batch,
            connections,
            timeout_s,
            deadline_s,
            attempts,
        )
    except BaseException:
        if core.cache is not None:
            core.cache.close()
        raise


def _remote(
    core: Core,
    endpoint: Endpoint,
    max_cost: float | None,
    max_requests: int | None,
    progress: Progress | None,
    offline: Literal["export", "cache"] | None,
    batch: bool,
    connections: int | None,
    timeout_s: float | None,
    deadline_s: float,
    attempts: int,
) -> Model:
    if offline is not None:
        from bench.llm.offline import OfflineModel

        return OfflineModel(core, endpoint, export=offline == "export")
    if batch:
        from bench.llm.batch import BatchModel

        return BatchModel(core, endpoint, max_requests=max_requests, max_cost=max_cost, progress=progress)
    from bench.llm.remote import RemoteModel

    patience = Patience(attempts, timeout_s or endpoint.timeout or Patience.timeout_s, deadline_s)
    return RemoteModel(
        core,
        endpoint,
        patience=patience,
        connections=connections or endpoint.connections or CONNECTIONS,
        max_requests=max_requests,
        max_cost=max_cost,
    )


def _open_engine(
    engine: str,
    path: str,
    name: str,
    cache_dir: Path | None,
    max_requests: int | None,
    offline: Literal["export", "cache"] | None,
    device: str,
    engine_batch: int,
) -> Model:
    from bench.llm.local import open_local

    return open_local(
        engine,
        path,
        name,
        cache=lambda: _cache(cache_dir),
        max_requests=0 if offline else max_requests,
        device=device,
        batch=engine_batch,
    )


def _cache(directory: Path | None) -> Cache | None:
    return None if directory is None else open_cache(directory)

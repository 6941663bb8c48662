"""Questions put to a language model itself, outside any run: asked, and kept under `OUT/probes/` with where they come from."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import provenance
from bench.atomic import atomic_write
from bench.contracts import Progress
from bench.identity import digest
from bench.language import described, open_language_model, spent
from bench.scoring import load_dataset

PROBES = "probes"


def probe(
    name: str,
    run: Callable[..., dict[str, Any]],
    *,
    llm: str,
    llm_config: Path | None,
    dataset: str,
    data_dir: Path | None,
    samples: int,
    seed: int,
    limits: dict[str, Any],
    out: Path,
    progress: Progress,
) -> dict[str, Any]:
    """Ask and keep.

    Args:
        name: of the probe.
        run: what asks (`baselines.contamination.contamination`, or one like it); gives the figures.
        llm: name of the language model.
        llm_config: its configuration.
        dataset: a registered dataset.
        data_dir: where its files lie.
        samples: questions of each kind.
        seed: of the draws.
        limits: max_cost and max_requests, None where there is none.
        out: folder of results.
        progress: told how far it is.

    Returns:
        The figures, with the language model's identity, cost and provenance, and in `file` where they are kept.

    Raises:
        InputError: an unknown dataset or language model.
        CheckError: nothing could be asked, or the budget is used up.
    """
    data = load_dataset(dataset, data_dir, progress)
    model = open_language_model(llm, llm_config, out, progress=progress, **limits)
    try:
        figures = run(model, data, data_dir, samples=samples, seed=seed, progress=progress)
        identity, cost = described(model), spent(model)
    finally:
        model.close()
    about = {"dataset": dataset, "dataset_fingerprint": data.fingerprint, "samples": samples, "seed": seed}
    mark = digest({"llm": identity, **about})[:10]
    path = out / PROBES / f"{name}-{dataset}-{re.sub(r'[^A-Za-z0-9._-]+', '-', identity['name'])}-{mark}.json"
    report = {"schema_version": 1, "probe": name, "llm": identity, **about, **figures, "cost": cost}
    report["provenance"] = provenance.collect()
    atomic_write(path, json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    return report | {"file": str(path)}

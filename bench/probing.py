"""Probes: what a language model knows by heart, and checks of a contestant's parts; kept under `OUT/probes/` with where they come from."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench import provenance, registry
from bench.atomic import atomic_write
from bench.comparison import compare_runs
from bench.contracts import Progress
from bench.identity import digest
from bench.language import described, open_language_model, spent
from bench.runner import RunConfig, execute
from bench.runs import MODELS
from bench.scoring import load_dataset
from bench.store import Store, resolve_device

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
    return _kept(name, identity["name"], {"llm": identity, **about}, figures | {"cost": cost}, out)


def probe_variants(
    name: str, variants: Mapping[str, dict[str, Any]], config: RunConfig, *, metric: str | None, progress: Progress
) -> dict[str, Any]:
    """The same contestant in several variants: runs like any other on the same questions, each against the first, paired.

    Args:
        name: of the probe.
        variants: settings laid over those of the configuration, by name; the first is what the others are compared with.
        config: names task, model, settings and dataset.
        metric: what is compared; the task's main metric when None.
        progress: told how far it is.

    Returns:
        For each variant (`variants`) its run, value and interval, and beyond the first the difference with its interval, p and
        p after Holm's correction; in `file` where they are kept.

    Raises:
        InputError, CheckError: as of `bench.runner.execute`.
    """
    data = load_dataset(config.dataset, config.data_dir, progress)
    runs = {}
    for variant, values in variants.items():
        progress.note(f"{name}: {variant}")
        runs[variant] = execute(config.model_copy(update={"settings": config.settings | values}), progress, data)
    metric = metric or registry.get("tasks", config.task).card.main_metric
    folders = [run.directory for run in runs.values()]
    against = {row.run: row for row in compare_runs(folders, folders[0], [metric]).rows}
    figures = {}
    for variant, run in runs.items():
        row, own = against.get(run.result.run), run.metrics[metric]
        figures[variant] = {
            "run": run.result.run,
            **{key: getattr(own, key) for key in ("value", "low", "high", "n", "failed")},
            "against_first": None
            if row is None
            else row.model_dump(include={"difference", "low", "high", "p", "p_holm"}),
        }
    about = {
        "model": config.model,
        "task": config.task,
        "metric": metric,
        "dataset": config.dataset,
        "dataset_fingerprint": data.fingerprint,
        "settings": provenance.redact_value(config.settings),
        "limit": config.limit,
        "seed": config.seed,
    }
    return _kept(name, config.model, about, {"variants": figures}, config.out)


def _kept(name: str, who: str, about: dict[str, Any], figures: dict[str, Any], out: Path) -> dict[str, Any]:
    """Write a probe's report; equal questions have the same file."""
    mark = digest(about)[:10]
    path = out / PROBES / f"{name}-{about['dataset']}-{re.sub(r'[^A-Za-z0-9._-]+', '-', who)}-{mark}.json"
    report: dict[str, Any] = {
        "schema_version": 1,
        "probe": name,
        **about,
        **figures,
        "provenance": provenance.collect(),
    }
    atomic_write(path, json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    return report | {"file": str(path)}


def probe_model(
    name: str,
    run: Callable[..., dict[str, Any]],
    *,
    model: str,
    settings: dict[str, Any],
    dataset: str,
    data_dir: Path | None,
    seed: int,
    device: str,
    out: Path,
    progress: Progress,
    **options: Any,
) -> dict[str, Any]:
    """Fit a model, or take the one that is there, question it, and keep the answers.

    Args:
        name: of the probe.
        run: what asks (`baselines.ctrl_rec.reachability.reachability`, or one like it); gives the figures.
        model: a registered recommender.
        settings: its settings.
        dataset: a registered dataset.
        data_dir: where its files lie.
        seed: of the training and of the draws.
        device: "auto", "cpu" or "cuda".
        out: folder of results.
        progress: told how far it is.
        options: passed to `run`.

    Returns:
        The figures, with the model's checkpoint and provenance, and in `file` where they are kept.

    Raises:
        InputError: an unknown name or setting, or a model that cannot be asked this.
        CheckError: training failed.
    """
    data = load_dataset(dataset, data_dir, progress)
    kind = registry.get("models", model)
    suited = kind.Settings.fitting(data.card.model_settings)
    parsed = kind.Settings.parse(model, suited | settings)
    if hasattr(kind, "check"):
        kind.check(parsed, data)
    values = parsed.model_dump(mode="json")
    fitted, checkpoint = Store(out / MODELS).fitted(model, data, values, seed, resolve_device(device), progress)
    figures = run(fitted, data, seed=seed, progress=progress, **options)
    about: dict[str, Any] = {"model": model, "checkpoint": checkpoint.key, "dataset": dataset}
    about |= {"settings": parsed.model_dump(mode="json", exclude=set(parsed.places))}
    about |= {"dataset_fingerprint": data.fingerprint, "seed": seed, **options}
    return _kept(name, model, about, figures, out)

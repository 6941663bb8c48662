"""Rows from results: what of a run, or of a judgement of it, belongs on the board."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import footprint, journal
from bench.errors import InputError
from bench.identity import canonical_json, digest
from bench.leaderboard.rows import AskedLLM, Contamination, Cost, JudgedBy, Latency, Metric, Origin, Row, Training
from bench.naming import flatten, usual_settings
from bench.probing import PROBES
from bench.results import MetricValue, Result, read_result
from bench.runs import JOURNAL, MODELS, RESULT

JUDGEMENTS = "judgements"
# The setting that says which language model a system was trained from: a tiny one and one of 7B are told apart by name.
SIZE = "base_model"
# By this the rows of one system over its seeds are one: everything that a result says of what was asked of whom.
OF_SYSTEM = (
    "task",
    "task_version",
    "model",
    "model_version",
    "dataset",
    "dataset_fingerprint",
    "protocol",
    "condition",
    "settings",
)


@dataclass(frozen=True)
class Probe:
    """The mark of one language model on one dataset."""

    llm: str
    model: str
    fingerprint: str
    found: Contamination


@dataclass(frozen=True)
class Entry:
    """A row, the folder with the scores by example behind it (None where there are none), and when its run ended (0 where nobody
    knows).
    """

    row: Row
    folder: Path | None
    ended: float = 0.0


def run_entries(folder: Path, probes: Sequence[Probe] = ()) -> tuple[list[Entry], list[str]]:
    """The rows of a run's folder, its own where it has metrics and one for every judgement of it; and what was left out.

    Raises:
        InputError: it is not finished, was limited, or a document in it is wrong.
        CheckError: its journal is damaged.
    """
    history = journal.read(folder / JOURNAL)
    if history.end is None:
        raise InputError("not finished: give its `bench run` command again.")
    own = read_result(folder / RESULT)
    if own.limit is not None:
        raise InputError(f"limited to {own.limit} users: a board holds whole runs only.")
    ended = float(history.end.get("time", 0.0))
    found = [Entry(result_row(own, own.run, history, folder, probes), folder, ended)] if own.metrics else []
    left_out = []
    for place in sorted(path.parent for path in folder.glob(f"{JUDGEMENTS}/*/{RESULT}")):
        name = f"{own.run}+{place.name}"
        judged = read_result(place / RESULT)
        if judged.limit is not None:
            left_out.append(f"{name}: limited to {judged.limit} users: a board holds whole runs only.")
        elif judged.judge is None:
            left_out.append(f"{name}: says of no judge.")
        else:
            found.append(Entry(result_row(judged, name, history, folder, probes), place, ended))
    return found, left_out


def one_of_each(entries: Iterable[Entry]) -> tuple[list[Entry], list[str]]:
    """One entry for every system and seed, and in lines which gave way to it.

    A run may lie here and have been submitted as well, or have been made again with newer parts. Both would stand in one place
    as if they were two seeds. What was measured goes before what was submitted, a run that lies here before a row that is
    kept, and then the later one.
    """

    def weight(entry: Entry) -> tuple[bool, bool, float]:
        return entry.row.source == "measured", entry.folder is not None, entry.ended

    entries = list(entries)
    standing: dict[tuple[str, int | None], Entry] = {}
    for entry in entries:
        other = standing.setdefault((entry.row.system, entry.row.seed), entry)
        if weight(entry) > weight(other):
            standing[entry.row.system, entry.row.seed] = entry
    kept, left_out = [], []
    for entry in entries:
        own = standing[entry.row.system, entry.row.seed]
        if own is entry or own.row.id == entry.row.id:
            kept.append(entry)
        else:
            left_out.append(f"{entry.row.id}: {own.row.id} is the same system with the same seed and stands for both.")
    return kept, left_out


def result_row(result: Result, name: str, history: journal.Journal, folder: Path, probes: Sequence[Probe] = ()) -> Row:
    """The row of a result.

    Args:
        result: of a run, or of a judgement of it.
        name: the row's id.
        history: the run's journal.
        folder: the run's folder, from which its checkpoint is found.
        probes: what is known of language models.
    """
    llm = result.llm
    values = {key: getattr(result, key) for key in OF_SYSTEM}
    asked = None if llm is None else llm.model_dump(mode="json", exclude={"api_base"})
    judge = _judged_by(result)
    return Row(
        id=name,
        source="measured",
        run=result.run,
        system=digest({**values, "llm": asked, "judge": None if judge is None else judge.identity})[:12],
        judge=judge,
        **values,
        targets_digest=result.targets_digest,
        information=result.information,
        windows=sorted(int(window) for window in result.per_window),
        seed=result.seed,
        examples=result.examples,
        encoder=result.encoder,
        llm=None if llm is None else AskedLLM(name=llm.name, model=llm.model, engine=llm.engine),
        contamination=_contamination(result, probes),
        metrics=_metrics(result.metrics),
        per_window={window: _metrics(metrics) for window, metrics in result.per_window.items()},
        health=result.health,
        router=result.router,
        answers=result.answers,
        cost=_cost(result),
        latency=_latency(result, history),
        **_footprint(result, history, folder),
        provenance=_origin(result.provenance),
    )


def with_variants(rows: Iterable[Row]) -> list[Row]:
    """The rows with the settings that tell them from others of the same model on the same dataset, as far as these are not the
    model's own defaults: the model as it comes has a name without settings. Its size always has a place (`SIZE`).
    """
    rows = list(rows)
    flat = {row.id: flatten(row.settings.get("model", {})) for row in rows}
    together: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        together.setdefault((row.model, row.dataset), []).append(row)
    differing = {
        key: {
            name
            for name in {name for row in group for name in flat[row.id]}
            if len({canonical_json(flat[row.id].get(name)) for row in group}) > 1
        }
        for key, group in together.items()
    }
    usual = {model: usual_settings(model) for (model, _), names in differing.items() if names}

    def told(row: Row, name: str) -> bool:
        own, default = flat[row.id], usual.get(row.model, {})
        return name in own and (
            name == SIZE or not (name in default and canonical_json(own[name]) == canonical_json(default[name]))
        )

    return [
        row.model_copy(
            update={
                "variant": {
                    name: flat[row.id][name]
                    for name in sorted(differing[row.model, row.dataset] | {SIZE})
                    if told(row, name)
                }
            }
        )
        for row in rows
    ]


def read_probes(out: Path) -> list[Probe]:
    """What `bench probe contamination` left under OUT; a later sample of the same model and dataset replaces a smaller one.

    Raises:
        InputError: a file of them is not readable.
    """
    found = []
    for path in sorted((out / PROBES).glob("contamination-*.json")):
        try:
            values = json.loads(path.read_text("utf-8"))
            asked = values["llm"]
            mark = Contamination(mark=values["mark"], rule=values["rule"], probe=path.name)
            found.append((values["samples"], Probe(asked["name"], asked["model"], values["dataset_fingerprint"], mark)))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} is no report of a probe ({type(error).__name__}: {error}): remove it.") from None
    return [probe for _, probe in sorted(found, key=lambda each: each[0])]


def _contamination(result: Result, probes: Sequence[Probe]) -> Contamination | None:
    if result.llm is None:
        return None
    asked = (result.llm.name, result.llm.model, result.dataset_fingerprint)
    matching = [probe.found for probe in probes if (probe.llm, probe.model, probe.fingerprint) == asked]
    return matching[-1] if matching else None


def _judged_by(result: Result) -> JudgedBy | None:
    """Of a judge who it is; figures of the judgement that differ from run to run do not tell two judges apart."""
    said = result.judge
    if said is None:
        return None
    failures = said.get("failures")
    return JudgedBy(
        name=str(said.get("name", "judge")),
        identity=str(said.get("identity") or digest(said)),
        is_llm=said.get("is_llm"),
        llm=(said.get("llm") or {}).get("name"),
        verdicts=said.get("verdicts"),
        failures=None if failures is None else sum(failures.values()),
    )


def _metrics(values: dict[str, MetricValue]) -> dict[str, Metric]:
    return {name: Metric(**value.model_dump()) for name, value in values.items()}


def _cost(result: Result) -> Cost:
    if result.llm is None:
        return Cost(price=0.0, price_per_1000=0.0)
    price = result.cost.get("price")
    each = None if price is None else round(1000 * price / result.examples, 6)
    tokens = {key: result.cost.get(key) for key in ("calls", "prompt_tokens", "completion_tokens")}
    return Cost(price=price, price_per_1000=each, **tokens)


def _latency(result: Result, history: journal.Journal) -> Latency | None:
    timing = result.timing
    if "batch_p50_s" not in timing:
        # Results made before these figures were kept: the journal has them.
        timing = timing | footprint.batch_latency(history.batches)
    for prefix, of in (("llm_latency_p{}_s", "call"), ("request_p{}_s", "request"), ("batch_p{}_s", "batch")):
        p50, p95 = (timing.get(prefix.format(share)) for share in (50, 95))
        if p50 is not None and p95 is not None:
            batch = int(timing["batch_size"]) if of == "batch" else None
            return Latency.model_validate(
                {"p50_ms": round(1000 * p50, 4), "p95_ms": round(1000 * p95, 4), "of": of, "batch": batch}
            )
    return None


def _footprint(result: Result, history: journal.Journal, folder: Path) -> dict[str, Any]:
    """Parameters and training: from the result, or, where it was made before they were kept, from its checkpoint."""
    fitted: dict[str, Any] = next((record for record in reversed(history.records) if record["record"] == "fitted"), {})
    seconds, count = result.timing.get("training_seconds"), result.parameters
    if seconds is None or count is None:
        found = footprint.of_checkpoint(folder.resolve().parents[1] / MODELS / str(fitted.get("key")))
        seconds = found.get("training_seconds", result.timing.get("fit_seconds"))
        count = int(found["parameters"]) if "parameters" in found else None
    training = None if seconds is None else Training(seconds=seconds, device=fitted.get("device"))
    # Nobody knows how many an LLM behind a service has.
    return {"training": training, "parameters": None if result.llm is not None else count}


def _origin(provenance: dict[str, Any]) -> Origin:
    packages, git, hardware = (provenance.get(key) or {} for key in ("packages", "git", "hardware"))
    return Origin(
        version=packages.get("promptrec-bench"),
        commit=git.get("commit"),
        dirty=git.get("dirty"),
        python=provenance.get("python"),
        torch=packages.get("torch"),
        cpu=hardware.get("cpu"),
        cores=hardware.get("cores"),
        gpu=hardware.get("gpu"),
    )

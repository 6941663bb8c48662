"""A table as Markdown for people, as CSV for spreadsheets, as JSON for programs."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from bench.atomic import atomic_write
from bench.reproduce import figure
from bench.reproduce.claims import CLAIMS, GAIN, Verdict
from bench.reproduce.figure import BACKBONES, TASKS
from bench.reproduce.grids import shown
from bench.reproduce.plan import PROTOCOL
from bench.reproduce.report import Entry, Place, Report, missing_tables
from bench.results import Rate

METRICS = {"ndcg": "NDCG", "recall": "Recall"}
TOLD = {"none": "history", "oracle": "oracle", "free": "free words", "": ""}

COLUMNS = (
    *("table", "dataset", "protocol", "task", "backbone", "row", "model", "settings", "llm", "condition"),
    *("judge", "window", "metric"),
    *("measured", "published", "low", "high", "sd", "n", "failed", "seeds", "corrected", "erratum", "state", "runs"),
)


def write(report: Report, folder: Path) -> list[Path]:
    """Write table.md, table.csv, table.json and, where something was measured, figure.svg; each whole or not at all."""
    files = {"table.md": markdown(report), "table.csv": as_csv(report), "table.json": as_json(report)}
    drawn = figure.draw(report)
    if drawn is not None:
        files["figure.svg"] = drawn
    for name, text in files.items():
        atomic_write(folder / name, text)
    if drawn is None:
        (folder / "figure.svg").unlink(missing_ok=True)
    return [folder / name for name in files]


def as_json(report: Report) -> str:
    """The report as one JSON document."""
    return json.dumps(report.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def as_csv(report: Report) -> str:
    """One line a cell, measured and published side by side."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for cell in report.to_dict()["cells"]:
        own = {name: cell[name] for name in COLUMNS if name in cell}
        value = cell["measured"]
        if value is not None:
            own |= {name: value[name] for name in ("low", "high", "sd", "n", "failed")}
            own["seeds"] = " ".join(map(str, value["seeds"]))
        own |= {
            "table": report.grid.name,
            "dataset": report.dataset,
            "protocol": PROTOCOL,
            "settings": " ".join(f"{key}={cell['settings'][key]}" for key in sorted(cell["settings"])),
            "measured": None if value is None else value["value"],
            "runs": " ".join(cell["runs"]),
        }
        writer.writerow(own)
    return stream.getvalue()


def markdown(report: Report) -> str:
    """The table, the claims below it, and what is missing."""
    number = report.grid.numbers.get(report.dataset)
    lines = [f"# {report.grid.name} on {report.dataset}: {report.grid.title}", "", *_preface(report, number), ""]
    errata: dict[str, int] = {}
    for place in figure.places(report, report.entries):
        lines += [*_section(report, place, errata), ""]
    if errata:
        lines += [
            "Printed values that contradict others (the corrected one is shown where it follows from the paper):",
            "",
        ]
        lines += [f"{mark}. {text}" for text, mark in errata.items()] + [""]
    lines += [f"- {note}" for note in report.notes] + ([""] if report.notes else [])
    if report.asked:
        lines += ["## Answers of the language models", "", *_answers(report), ""]
    if report.verdicts:
        lines += ["## The paper's claims", "", *_claims(report)]
    if report.problems:
        lines += ["## Missing", "", *_missing(report), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def _preface(report: Report, number: int | None) -> list[str]:
    who = f"{report.users:,} users" if report.limit is None else f"{report.limit:,} of {report.users:,} users"
    if report.grid.judged:
        asked = max((entry.measured.n for entry in report.entries if entry.measured is not None), default=0)
        who = f"{asked:,} requests{'' if report.limit is None else f' of {report.limit:,} users'}"
    seeds = f"seed {report.seeds[0]}" if len(report.seeds) == 1 else f"seeds {', '.join(map(str, report.seeds))}"
    encoders = f", encoder {', '.join(report.encoders)}" if report.encoders else ""
    beside = f"Published values are those of the paper's Table {number}" if number else "The paper has no such table"
    spread = "" if len(report.seeds) == 1 else " ± is the standard deviation over seeds."
    head = (
        f"Protocol `{PROTOCOL}`, {who}, {seeds}{encoders}; full catalogue, seen items masked. {beside}. "
        f"In brackets 95 % intervals by a bootstrap over users.{spread}"
    )
    if report.grid.judged:
        return [head, "", "Condition: what the model is told, the history alone or a request in free words as well."]
    return [
        head,
        "",
        "Condition: what the model is told beyond the history (`oracle`: the task's own label; `genre`, `genres`, `tag`: "
        "what the words name). The paper does not say which words DPR was asked with; its POS cells fit `genres`. In NEG "
        "the prompts of `tag` are those of `genres`.",
    ]


def _section(report: Report, place: Place, errata: dict[str, int]) -> list[str]:
    metrics = report.grid.metrics
    lines = [f"## {figure.heading(place)}", ""]
    lines.append("| model | ours | condition | " + " | ".join(f"{_metric(name)} | *paper*" for name in metrics) + " |")
    lines.append("|---|---|---|" + "---|---|" * len(metrics))
    groups: dict[tuple[str, str, str], dict[str, Entry]] = {}
    for entry in report.entries:
        if entry.place == place:
            groups.setdefault((entry.row.label, entry.row.key, entry.condition), {})[entry.metric] = entry
    for (label, key, condition), cells in groups.items():
        ours = f"`{key}`" if next(iter(cells.values())).row.model else ""
        values = []
        for name in metrics:
            values += [_measured(cells[name]), _published(cells[name], errata)] if name in cells else ["", ""]
        if not any(cell.measured for cell in cells.values()):
            # Why there is nothing is said once in a line.
            values[0] = _state(next(iter(cells.values())))
        lines.append(f"| {label} | {ours} | {TOLD.get(condition, condition)} | {' | '.join(values)} |")
    return lines


def _measured(entry: Entry) -> str:
    value = entry.measured
    if value is None or value.value is None:
        return ""
    spread = "" if value.sd is None else f" ± {value.sd:.4f}"
    bounds = "" if value.low is None or value.high is None else f" [{value.low:.4f}, {value.high:.4f}]"
    return f"{value.value:.4f}{spread}{bounds}"


def _state(entry: Entry) -> str:
    return "" if entry.state in ("measured", "published only") else entry.state


def _published(entry: Entry, errata: dict[str, int]) -> str:
    cell = entry.published
    if cell is None:
        return ""
    digits = 3 if entry.task == "nuanced" else 4
    if cell.erratum is None:
        return f"*{cell.value:.{digits}f}*"
    mark = errata.setdefault(cell.erratum.text, len(errata) + 1)
    printed = "" if cell.erratum.corrected is None else f" (printed {cell.value:.{digits}f})"
    return f"*{cell.best:.{digits}f}*{printed} ({mark})"


def _answers(report: Report) -> Iterator[str]:
    """What was wrong with the answers and what they cost, a line for each run."""
    yield "Examples without an answer count 0 in every metric. The price is what the answers once cost, wherever they came from."
    yield ""
    yield "| model | ours | task | condition | calls | price | without an answer | of the calls | of the entries |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for each in report.asked:
        answers, price = each.result.answers, each.result.cost.get("price")
        if answers is None:
            continue
        seed = f" (seed {each.seed})" if len(report.seeds) > 1 else ""
        lost = ", ".join(f"{count} {name}" for name, count in answers.failures.items()) or "0"
        cells = (
            f"{each.row.label}{seed}",
            f"`{each.row.key}`",
            TASKS[each.task],
            TOLD.get(each.condition, each.condition),
            f"{answers.calls:,}",
            "unknown" if price is None else f"${price:.4f}",
            f"{lost} of {answers.examples}",
            _shares(answers.per_call),
            _shares(answers.per_entry),
        )
        yield f"| {' | '.join(cells)} |"


def _shares(rates: dict[str, Rate]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {100 * rate.rate:.1f} %" for name, rate in rates.items() if rate.rate)


def _claims(report: Report) -> Iterator[str]:
    decided = sum(each.p is not None for each in report.verdicts)
    among = "those of one judge" if report.grid.judged else f"the {decided} comparisons"
    measured = "Scores from 1 to 10" if report.grid.judged else "NDCG@10, means over N"
    yield (
        "Differences are paired by example; intervals resample users, p is that of the sign-flip test by user with Holm's "
        f"correction over {among} below. A claim holds or "
        f"does not hold where the interval leaves out zero and p < 0.05. {measured}; the last column is the paper's relative "
        "difference."
    )
    yield ""
    lacking = missing_tables(report.verdicts)
    for claim in CLAIMS:
        mine = [each for each in report.verdicts if each.comparison.claim == claim.key]
        if not mine:
            continue
        yield f"### ({claim.key}) {claim.text}"
        yield ""
        count = Counter(each.answer for each in mine)
        summary = ", ".join(
            f"{answer} in {count[answer]}" for answer in ("holds", "does not hold", "not decidable") if count[answer]
        )
        where = "a control" if claim.where == "control" else claim.where
        yield f"{where}. Of {len(mine)} comparisons: {summary}."
        yield ""
        tested = [each for each in mine if each.p is not None]
        if tested:
            yield "| backbone | task | condition | DPR | against | value | difference | p (Holm) | *paper* | answer |"
            yield "|---|---|---|---|---|---|---|---|---|---|"
            yield from (_verdict_line(each) for each in tested)
            yield ""
        if claim.key in lacking:
            untested = [each for each in mine if each.p is None]
            names = ", ".join(f"`bench reproduce {table}`" for table in lacking[claim.key])
            reasons = dict.fromkeys(
                f"{each.comparison.backbone} {TASKS[each.comparison.task]}: {each.reason}" for each in untested
            )
            yield f"Not decidable in {len(untested)} for want of runs ({names}): {'; '.join(reasons)}."
            yield ""


def _verdict_line(verdict: Verdict) -> str:
    each = verdict.comparison
    percent = each.metric == GAIN
    factor, digits, unit = (100.0, 1, " points") if percent else (1.0, 4, "")

    def number(value: float | None, sign: str = "+") -> str:
        return "" if value is None else f"{factor * value:{sign}.{digits}f}"

    bounds = "" if verdict.low is None else f" [{number(verdict.low)}, {number(verdict.high)}]"
    p = "" if verdict.p_holm is None else "< 0.001" if verdict.p_holm < 0.001 else f"{verdict.p_holm:.3f}"
    paper = "" if each.paper is None else f"*{each.paper:+.1f} {'points' if percent else '%'}*"
    answer = verdict.answer if not verdict.reason else f"{verdict.answer}: {verdict.reason}"
    condition = TOLD.get(each.condition, each.condition) + (f", {shown(each.judge)}" if each.judge else "")
    values = [f"{value:.4f}" if value is not None else "" for value in (verdict.value, verdict.rival_value)]
    return (
        f"| {BACKBONES[each.backbone]} | {TASKS[each.task]} | {condition} | {values[0]} | `{verdict.rival}` | {values[1]} | "
        f"{number(verdict.difference)}{unit}{bounds} | {p} | {paper} | {answer} |"
    )


def _missing(report: Report) -> Iterator[str]:
    """What has no run, one line for each state and reason; the JSON document names every run."""
    grouped: dict[tuple[str, str], list[str]] = {}
    for problem in report.problems:
        grouped.setdefault((problem.status, problem.reason), []).append(problem.row)
    for (status, reason), rows in grouped.items():
        why = f" ({reason.rstrip('.')})" if reason else ""
        counts = Counter(rows)
        yield f"- {status}{why}: " + ", ".join(f"`{row}` ({_runs(number)})" for row, number in counts.items())


def _runs(number: int) -> str:
    return "1 run" if number == 1 else f"{number} runs"


def _metric(name: str) -> str:
    first, at, rest = name.partition("@")
    return f"{METRICS.get(first, first)}@{rest}" if at else name.replace("_", " ").capitalize()

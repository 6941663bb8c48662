"""The report of an audit for people: Markdown, the question first, then the figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from bench.contracts import ASPECTS

HEADINGS = ("History alignment", "Intent fulfilment", "Overall")


def render(report: dict[str, Any]) -> str:
    """Markdown of what `JudgeAudit.report` gives."""
    lines = [
        "# Can the judge be trusted?",
        "",
        f"{report['lists']} lists of {report['users']} users; reference: `{report['reference']}`. Scores go from 1 to 10. Intervals "
        "are 95 %, by a bootstrap over users.",
    ]
    for name, judge in report["judges"].items():
        lines += ["", f"## {name}", "", *_judge(judge)]
    lines += ["", "## Agreement", "", *_agreement(report["agreement"])]
    lines += ["", "## Self-preference", "", *_self_preference(report["self_preference"])]
    return "\n".join(lines) + "\n"


def _judge(judge: dict[str, Any]) -> list[str]:
    who, controls = judge["who"], judge["controls"]
    kind = (
        "a language model"
        if who["is_llm"]
        else "**not a language model**; its scores are not to be mixed with those of one"
    )
    failures = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in judge["answers"]["failures"].items())
    return [
        f"Version {who['version']}, {kind}. Without a score: {failures or 'none'}; mended or asked again: "
        f"{judge['answers']['repaired']}.",
        "",
        "### Scores",
        "",
        *_table(["System", *HEADINGS, "n"], (_scores(name, own) for name, own in judge["scores"].items())),
        "",
        f"### Does it put known lists in their places? {controls['passed']} of {controls['of']}",
        "",
        *_table(
            ["Above", "Below", "Score", "Difference", "Effect size d", "Passed"],
            (_check(check) for check in controls["checks"]),
        ),
        "",
        "### Does it agree with itself?",
        "",
        *_consistency(judge["consistency"]),
        "",
        "### Does the order of a list matter?",
        "",
        *_sensitivity({f"as it is - {sheet}": found for sheet, found in judge["order"].items()}),
        "",
        "### Does the wording matter?",
        "",
        *_wording(judge["wording"]),
        "",
        "### List against list",
        "",
        *_pairwise(judge["pairwise"]),
    ]


def _check(check: dict[str, Any]) -> list[str]:
    passed = "yes" if check["passed"] else "**no**"
    return [
        check["higher"],
        check["lower"],
        _words(check["score"]),
        _figure(check["difference"]),
        _figure(check["d"]),
        passed,
    ]


def _scores(name: str, own: dict[str, Any]) -> list[str]:
    return [name, *(_figure(own[aspect]) for aspect in ASPECTS), str(own[ASPECTS[-1]]["n"])]


def _consistency(found: dict[str, Any]) -> list[str]:
    if "skipped" in found:
        return [f"Not measured: {found['skipped']}."]
    return _table(
        ["Score", "Judgements of a list", "Standard deviation", "Equal", "Krippendorff's alpha"],
        (
            [_words(aspect), str(own["judgements"]), *(_figure(own[key]) for key in ("sd", "same", "alpha"))]
            for aspect, own in found.items()
        ),
    )


def _sensitivity(found: dict[str, dict[str, Any]]) -> list[str]:
    rows = [
        [
            what,
            _words(aspect),
            *(_figure(own[aspect].get(key)) for key in ("difference", "d", "moved", "beyond_repeats")),
        ]
        for what, own in found.items()
        for aspect in ASPECTS
    ]
    return _table(["Compared", "Score", "Difference", "d", "Moved either way", "Beyond a repeat"], rows)


def _wording(found: dict[str, Any]) -> list[str]:
    if "skipped" in found:
        return [f"Not measured: {found['skipped']}."]
    return _sensitivity({f"items told by {found['told']} - by {found['instead']}": found})


def _pairwise(found: dict[str, Any]) -> list[str]:
    if "skipped" in found:
        return [f"Not measured: {found['skipped']}."]
    if not found["comparisons"]:
        return ["No comparison was answered."]
    rows = [
        [row["system"], _figure(row["strength"]), "-" if row["pointwise"] is None else f"{row['pointwise']:.2f}"]
        for row in found["systems"]
    ]
    agree = (
        "agree"
        if found["order_agrees"]
        else f"disagree on {', '.join(' and '.join(pair) for pair in found['swapped'])}"
    )
    tau = "-" if found["tau"] is None else f"{found['tau']:.2f}"
    return [
        *_table(["System", "Bradley-Terry strength", "Mean overall score"], rows),
        "",
        f"{found['comparisons']} pairs, each in both orders. The two rankings {agree} (Kendall's tau {tau}). The list shown first "
        f"is preferred in {_figure(found['first'])} of the decided cases (0.5: no bias); both orders give one verdict in "
        f"{_figure(found['same'])}; ties: {_figure(found['ties'])}.",
    ]


def _agreement(found: dict[str, Any]) -> list[str]:
    if not found["pairs"]:
        return ["One rater: name another judge, or give people's scores with --labels."]
    rows = [
        [row["one"], row["other"], _words(row["score"])]
        + [_figure(row[key]) for key in ("alpha", "kappa", "spearman", "leniency")]
        + [str(row["alpha"]["n"])]
        for row in found["pairs"]
    ]
    columns = ["Rater", "Other", "Score", "Krippendorff's alpha", "Weighted kappa", "Spearman", "Leniency", "n"]
    lines = [*_table(columns, rows), "", "Leniency: mean of the first less the second."]
    for kind, group in found["groups"].items():
        alphas = "; ".join(f"{_words(aspect)} {_figure(figure)}" for aspect, figure in group["alpha"].items())
        lines.append(f"Krippendorff's alpha of all {kind.replace('_', ' ')}: {alphas}.")
    return lines


def _self_preference(found: dict[str, Any]) -> list[str]:
    lines = []
    for what, text in (("requests", "wrote the requests"), ("lists", "made the lists")):
        own = found[what]
        for judge, run in own["kin"]:
            lines.append(f"- `{judge}` is of the family that {text} of `{run}`.")
        lines += [
            f"- Preference of `{judge}` for its kin that {text}: {_figure(figure)}."
            for judge, figure in own["effects"].items()
        ]
        lines += [
            f"- Preference of `{judge}` for its kin that {text} is not known: {why}."
            for judge, why in own["unknown"].items()
        ]
    return lines or ["No judge is of a family that wrote requests or made lists here."]


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return [line(columns), "|" + "---|" * len(columns), *map(line, rows)]


def _figure(figure: dict[str, Any] | None) -> str:
    if figure is None or figure["value"] is None:
        return "-"
    if figure["low"] is None:
        return f"{figure['value']:.2f}"
    return f"{figure['value']:.2f} [{figure['low']:.2f}, {figure['high']:.2f}]"


def _words(name: str) -> str:
    return name.replace("_", " ")

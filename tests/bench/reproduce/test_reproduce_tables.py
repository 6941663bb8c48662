"""What is written of a table, letter by letter, and the figure."""

import csv
import io
import json
import xml.etree.ElementTree as ET

import pytest

from bench.reproduce import claims, figure, tables
from bench.reproduce.claims import Comparison, Verdict
from bench.reproduce.figure import Line, Panel, render
from bench.reproduce.grids import Grid, Row
from bench.reproduce.measured import Value
from bench.reproduce.published import Erratum, Published
from bench.reproduce.report import Entry, Problem, Report
from bench.svg import axis

BASE, DPR, GONE = Row("Base", "sasrec", "sasrec"), Row("DPR", "dpr_sas", "sasrec", "prompt"), Row("+f", None, "sasrec")
GRID = Grid("table1", "A small one", {"ml-1m": 1}, (BASE, DPR, GONE), ("pos",), ("ndcg@10", "recall@10"))


def printed(value, erratum=None):
    return Published(
        table=1, dataset="ml-1m", task="pos", backbone="sasrec", row="Base", model="sasrec", settings={},
        window="mean", metric="ndcg@10", value=value, gain=None, erratum=erratum,
    )  # fmt: skip


def entry(row, condition, metric, value, cell, state="measured"):
    return Entry(row, "pos", condition, "mean", metric, state, value, cell, ("run-1",) if value else ())


def small_report(**changes):
    wrong = Erratum(text="digits transposed", corrected=0.25)
    unclear = Erratum(text="another run", corrected=None)
    entries = (
        entry(BASE, "none", "ndcg@10", Value(0.1, 0.09, 0.11, 500, 0, None, (0,)), printed(0.0781)),
        entry(BASE, "none", "recall@10", Value(0.2, 0.18, 0.22, 500, 0, None, (0,)), printed(0.52, wrong)),
        entry(DPR, "genres", "ndcg@10", Value(0.5, None, None, 500, 3, 0.0123, (0, 1)), printed(0.5748, unclear)),
        entry(DPR, "genres", "recall@10", None, None),
        entry(DPR, "tag", "ndcg@10", None, printed(0.5748), "not run"),
        entry(DPR, "tag", "recall@10", None, None, "not run"),
        entry(GONE, "", "ndcg@10", None, printed(0.0855), "published only"),
    )
    asked = Comparison("e", "sasrec", "pos", "genres", DPR, (BASE,), 1, paper=71.84)
    gain = Comparison("d", "sasrec", "pos", "genres", DPR, (BASE,), 1, claims.GAIN, 35.6)
    tested = {"rival": "sasrec", "value": 0.5, "rival_value": 0.1, "n": 500, "seeds": (0, 1)}
    verdicts = (
        Verdict(gain, "not decidable", "the interval includes zero", difference=0.02, low=-0.01, high=0.05, p=0.2,
                p_holm=0.4, **tested),
        Verdict(asked, "holds", "", difference=0.4, low=0.3, high=0.5, p=0.0001, p_holm=0.0002, **tested),
        Verdict(Comparison("f", "sasrec", "seq", "none", DPR, (BASE,)), "not decidable", "no finished run of dpr_sas"),
    )  # fmt: skip
    problems = (
        Problem("dpr_sas", "dpr_sas on pos [tag], seed 0", "not run", ""),
        Problem("dpr_sas", "dpr_sas on pos [tag], seed 1", "not run", ""),
        Problem("sasrec_f", "sasrec_f on pos, seed 0", "not available", "no such model is registered"),
    )
    values = {"notes": ("A note.",), "encoders": ("all-minilm-l6-v2",), "limit": None} | changes
    return Report(
        GRID, "ml-1m", "f" * 64, 6040, (0, 1), values["limit"], ("mean",), entries, verdicts, problems, values["notes"],
        values["encoders"],
    )  # fmt: skip


GOLDEN = """\
# table1 on ml-1m: A small one

Protocol `paper`, 6,040 users, seeds 0, 1, encoder all-minilm-l6-v2; full catalogue, seen items masked. Published values are \
those of the paper's Table 1. In brackets 95 % intervals by a bootstrap over users. ± is the standard deviation over seeds.

Condition: what the model is told beyond the history (`oracle`: the task's own label; `genre`, `genres`, `tag`: what the \
words name). The paper does not say which words DPR was asked with; its POS cells fit `genres`. In NEG the prompts of `tag` \
are those of `genres`.

## SASRec, POS

| model | ours | condition | NDCG@10 | *paper* | Recall@10 | *paper* |
|---|---|---|---|---|---|---|
| Base | `sasrec` | history | 0.1000 [0.0900, 0.1100] | *0.0781* | 0.2000 [0.1800, 0.2200] | *0.2500* (printed 0.5200) (1) |
| DPR | `dpr_sas` | genres | 0.5000 ± 0.0123 | *0.5748* (2) |  |  |
| DPR | `dpr_sas` | tag | not run | *0.5748* |  |  |
| +f |  |  |  | *0.0855* |  |  |

Printed values that contradict others (the corrected one is shown where it follows from the paper):

1. digits transposed
2. another run

- A note.

## The paper's claims

Differences are paired by example; intervals resample users, p is that of the sign-flip test by user with Holm's correction \
over the 2 comparisons below. A claim holds or does not hold where the interval leaves out zero and p < 0.05. NDCG@10, means \
over N; the last column is the paper's relative difference.

### (d) Over the best Filter, DPR gains more in NDCG@10 than in Recall@10 (POS).

Section 4.2.1, Table 1. Of 1 comparisons: not decidable in 1.

| backbone | task | condition | DPR | against | value | difference | p (Holm) | *paper* | answer |
|---|---|---|---|---|---|---|---|---|---|
| SASRec | POS | genres | 0.5000 | `sasrec` | 0.1000 | +2.0 points [-1.0, +5.0] | 0.400 | *+35.6 points* | not decidable: \
the interval includes zero |

### (e) DPR against the best Filter, which is told the task's own label: above it on POS; on NEG above it over GRU4Rec and \
below it over SASRec.

Section 4.2.1, Table 1. Of 1 comparisons: holds in 1.

| backbone | task | condition | DPR | against | value | difference | p (Holm) | *paper* | answer |
|---|---|---|---|---|---|---|---|---|---|
| SASRec | POS | genres | 0.5000 | `sasrec` | 0.1000 | +0.4000 [+0.3000, +0.5000] | < 0.001 | *+71.8 %* | holds |

### (f) SEQ is not harmed: DPR without a prompt is not below its backbone, nor below the backbone that is fine-tuned for as \
long (+f).

Section 4.2.1, Table 1. Of 1 comparisons: not decidable in 1.

Not decidable in 1 for want of runs (`bench reproduce table1`): sasrec SEQ: no finished run of dpr_sas.

## Missing

- not run: `dpr_sas` (2 runs)
- not available (no such model is registered): `sasrec_f` (1 run)
"""


def test_the_markdown_is_as_it_should_be():
    assert tables.markdown(small_report()) == GOLDEN


def test_a_limit_is_told():
    assert "200 of 6,040 users" in tables.markdown(small_report(limit=200))


def test_the_csv_has_measured_and_published_side_by_side():
    rows = list(csv.DictReader(io.StringIO(tables.as_csv(small_report()))))
    assert len(rows) == 7 and list(rows[0]) == list(tables.COLUMNS)
    first, second, third = rows[:3]
    assert (first["measured"], first["published"], first["low"], first["high"]) == ("0.1", "0.0781", "0.09", "0.11")
    assert (second["published"], second["corrected"], second["erratum"]) == ("0.52", "0.25", "digits transposed")
    assert (third["sd"], third["seeds"], third["failed"], third["runs"]) == ("0.0123", "0 1", "3", "run-1")
    assert (rows[4]["measured"], rows[4]["state"]) == ("", "not run")


def test_the_json_holds_cells_claims_and_what_is_missing():
    document = json.loads(tables.as_json(small_report()))
    assert document["table"] == "table1" and document["published_table"] == 1 and document["seeds"] == [0, 1]
    assert document["cells"][1]["corrected"] == 0.25 and document["cells"][1]["published"] == 0.52
    assert document["cells"][2]["measured"] == {
        "value": 0.5, "low": None, "high": None, "n": 500, "failed": 3, "sd": 0.0123, "seeds": [0, 1],
    }  # fmt: skip
    (claim,) = [claim for claim in document["claims"] if claim["claim"] == "e"]
    (compared,) = claim["comparisons"]
    assert (compared["answer"], compared["rival"], compared["p_holm"]) == ("holds", "sasrec", 0.0002)
    assert compared["published_percent"] == 71.84
    assert document["missing"][2]["reason"] == "no such model is registered"


def test_files_are_written_and_an_old_figure_does_not_outlive_its_values(tmp_path):
    names = {path.name for path in tables.write(small_report(), tmp_path)}
    assert names == {"table.md", "table.csv", "table.json", "figure.svg"}
    assert all((tmp_path / name).is_file() for name in names)
    bare = small_report()
    empty = Report(**(bare.__dict__ | {"entries": bare.entries[4:]}))
    assert {path.name for path in tables.write(empty, tmp_path)} == {"table.md", "table.csv", "table.json"}
    assert not (tmp_path / "figure.svg").exists()


def svg(text):
    return ET.fromstring(text)


def named(tree, tag):
    return tree.iter(f"{{http://www.w3.org/2000/svg}}{tag}")


def test_the_figure_has_a_diamond_for_every_published_and_a_dot_for_every_measured_value():
    tree = svg(figure.draw(small_report()))
    texts = [node.text for node in named(tree, "text")]
    assert {"SASRec, POS", "Base", "DPR", "+f", "published", "measured, genres"} <= set(texts)
    # One of each is in the legend.
    assert len(list(named(tree, "polygon"))) == 3 + 1
    assert len(list(named(tree, "circle"))) == 2 + 2


def test_marks_stand_where_their_values_are():
    lines = (Line("a", 0.2, {"genre": (0.1, 0.05, 0.15)}), Line("<b>", 0.4, {}))
    tree = svg(render("T & T", [Panel("P", lines)]))
    left = figure.SIDE + figure.LABELS
    scale = figure.PLOT / axis(0.4)[1]
    dots = [float(node.get("cx")) for node in named(tree, "circle")]
    assert dots[-1] == pytest.approx(left + 0.1 * scale, abs=0.1)
    diamonds = [float(node.get("points").split(",")[0]) for node in named(tree, "polygon")][1:]
    assert diamonds == [pytest.approx(left + value * scale, abs=0.1) for value in (0.2, 0.4)]
    assert "<b>" in [node.text for node in named(tree, "text")]


def test_panels_do_not_overlap():
    panels = [Panel(f"P{n}", tuple(Line(str(i), 0.1, {}) for i in range(n))) for n in (2, 5, 1, 3)]
    tree = svg(render("T", panels))
    titles = {node.text: (float(node.get("x")), float(node.get("y"))) for node in named(tree, "text")}
    assert titles["P2"][1] == titles["P5"][1] == titles["P1"][1] < titles["P3"][1]
    assert titles["P3"][1] - titles["P2"][1] >= panels[1].height
    assert titles["P5"][0] - titles["P2"][0] >= figure.LABELS + figure.PLOT
    bottom = max(float(node.get("y")) for node in named(tree, "text"))
    assert bottom <= float(tree.get("height"))


@pytest.mark.parametrize(
    ("largest", "expected"),
    [(0.19, (0.05, 0.2)), (0.575, (0.1, 0.6)), (0.2, (0.05, 0.2)), (9.3, (2.0, 10.0)), (0.0, (0.5, 1.0))],
)
def test_axes_end_on_a_round_number(largest, expected):
    assert axis(largest) == pytest.approx(expected)

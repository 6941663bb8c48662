"""The published values against each other: tables of one paper have to agree, except where an erratum says so."""

import json
from collections import Counter

import pytest

from bench.reproduce import grids, published
from bench.reproduce.published import FILE, Published

CELLS = published.cells()
WINDOWS = {"ml-1m": (3, 5, 10), "mind": (3, 5)}
DETAIL = {"ml-1m": 6, "mind": 7}
# Half of the last printed digit on each side, of the mean as of the cells.
ROUNDING = 0.000101


def value(table, dataset, task, backbone, row, window, metric):
    return published.look_up(table, dataset, task, backbone, row, window, metric).best


def test_every_cell_of_every_table_is_there_once():
    rows = [json.loads(line) for line in FILE.read_text("utf-8").splitlines()]
    assert len(rows) == len(CELLS)
    assert Counter(row["table"] for row in rows) == {1: 288, 2: 48, 3: 96, 4: 12, 6: 336, 7: 224, 8: 96, 9: 96, 10: 64}
    assert Counter(row["dataset"] for row in rows if row["table"] in (1, 8, 9, 10)) == {"ml-1m": 272, "mind": 272}


def test_a_cell_that_stands_twice_is_refused(tmp_path, monkeypatch):
    twice = tmp_path / "twice.jsonl"
    twice.write_text(FILE.read_text("utf-8").splitlines()[0] + "\n" + FILE.read_text("utf-8").splitlines()[0] + "\n")
    monkeypatch.setattr(published, "FILE", twice)
    published.cells.cache_clear()
    with pytest.raises(ValueError, match="twice"):
        published.cells()
    monkeypatch.undo()
    published.cells.cache_clear()


@pytest.mark.parametrize("cell", [cell for cell in CELLS.values() if cell.table == 4])
def test_judged_scores_lie_between_1_and_10(cell):
    assert cell.task == "nuanced" and 1 <= cell.value <= 10


def test_metrics_lie_between_0_and_1_and_grow_with_the_cutoff():
    for (table, dataset, task, backbone, row, window, metric), cell in CELLS.items():
        if table == 4:
            continue
        assert 0 < cell.value < 1 and 0 < cell.best < 1
        deeper = CELLS.get((table, dataset, task, backbone, row, window, metric.replace("@10", "@20")))
        assert deeper is None or deeper.best >= cell.best, (table, dataset, task, backbone, row, window, metric)


def test_table_1_is_the_mean_over_windows_of_tables_6_and_7():
    checked = 0
    for (table, dataset, task, backbone, row, _, metric), cell in CELLS.items():
        if table != 1 or task == "seq":
            continue
        each = [value(DETAIL[dataset], dataset, task, backbone, row, n, metric) for n in WINDOWS[dataset]]
        assert abs(cell.best - sum(each) / len(each)) < ROUNDING, (dataset, task, backbone, row, metric)
        checked += 1
    assert checked == 224


def test_errata_of_tables_1_and_6_are_needed():
    """As printed, each marked row contradicts the other table: no erratum hides a sound row."""
    off = {}
    for (table, dataset, task, backbone, row, window, metric), cell in CELLS.items():
        if table in (1, 6, 7) and cell.erratum is not None:
            each = [value(DETAIL[dataset], dataset, task, backbone, row, n, metric) for n in WINDOWS[dataset]]
            mean = value(1, dataset, task, backbone, row, "mean", metric)
            wrong = cell.value - cell.best
            gap = mean - sum(each) / len(each) + (wrong if table == 1 else -wrong / len(each))
            off.setdefault((table, dataset, task, backbone, row, window), []).append(abs(gap))
    assert len(off) == 6 and all(max(gaps) > 3 * ROUNDING for gaps in off.values())


@pytest.mark.parametrize(("table", "row"), [(2, "DPR"), (3, "DPR"), (8, "DPR 3-S"), (9, "DPR Full"), (10, "DPR 2-T")])
def test_dpr_is_the_same_in_every_table_but_for_errata(table, row):
    checked = 0
    for (number, dataset, task, backbone, label, window, metric), cell in CELLS.items():
        if (number, label) == (table, row):
            first = published.look_up(1, dataset, task, backbone, "DPR", window, metric)
            agree = abs(cell.best - first.best) < ROUNDING
            assert agree or cell.erratum is not None, (dataset, task, backbone, metric)
            checked += 1
    assert checked >= 12


def test_printed_gains_follow_from_the_printed_values():
    full = {8: "DPR 3-S", 10: "DPR 2-T"}
    checked = 0
    for (table, dataset, task, backbone, row, window, metric), cell in CELLS.items():
        if cell.gain is None:
            continue
        names = [full[table]] if table in full else ["Filter", "Filter +f", "Filter +f+a"]
        best = max(CELLS[table, dataset, task, backbone, name, window, metric].value for name in names)
        # Both values are rounded to four digits, which the smallest of them turns into 0.06 %.
        assert abs(100 * (cell.value / best - 1) - cell.gain) < 0.07, (table, dataset, task, backbone, row, metric)
        checked += 1
    assert checked == 192


def test_known_errata_are_marked():
    marked = Counter((cell.table, cell.dataset, cell.task) for cell in CELLS.values() if cell.erratum is not None)
    assert marked[1, "mind", "neg"] == 16 and marked[1, "mind", "pos"] == 1
    assert marked[6, "ml-1m", "neg"] == 1
    assert marked[3, "ml-1m", "neg"] == 8 and marked[3, "ml-1m", "pos"] == 4
    assert all(marked[table, "mind", task] == 4 for table in (8, 9, 10) for task in ("pos", "neg"))
    cell = published.look_up(1, "mind", "neg", "sasrec", "Base", "mean", "ndcg@10")
    assert (cell.value, cell.best) == (0.0405, 0.0620) and "POS" in cell.erratum.text


def test_every_cell_has_a_place_in_a_grid_and_every_row_of_the_paper_its_cells():
    used = set()
    for grid in grids.GRIDS.values():
        for dataset, number in grid.numbers.items():
            windows = WINDOWS[dataset] if grid.windows == "each" else ("mean",)
            for row in grid.rows:
                for task in set(grid.tasks) & set(row.tasks):
                    for window in windows:
                        for metric in grid.metrics:
                            key = (number, dataset, task, row.backbone, row.label, window, metric)
                            if row.backbone != "bert4rec" and not row.label.startswith(
                                ("Parsed", "Text", "DPR plus", "RecLM-gen +", "RecLM-gen, ")
                            ):
                                assert key in CELLS, key
                                used.add(key)
    assert used == set(CELLS)


def test_the_published_rows_name_the_models_and_settings_of_the_grids():
    rows = {
        (number, row.backbone, row.label): row
        for g in grids.GRIDS.values()
        for number in g.numbers.values()
        for row in g.rows
    }
    for cell in CELLS.values():
        row = rows[cell.table, cell.backbone, cell.row]
        if row.model is not None:
            assert (cell.model, cell.settings) == (row.model, row.settings)


def test_a_cell_is_looked_up_and_absent_ones_are_none():
    cell = published.look_up(1, "ml-1m", "pos", "sasrec", "DPR", "mean", "ndcg@10")
    assert isinstance(cell, Published) and (cell.value, cell.gain) == (0.5748, 71.84)
    assert published.look_up(1, "ml-1m", "pos", "sasrec", "Parsed filter", "mean", "ndcg@10") is None
    assert published.look_up(None, "mini", "pos", "sasrec", "DPR", "mean", "ndcg@10") is None

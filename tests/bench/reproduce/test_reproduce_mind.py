"""The MIND halves of the tables, planned on generated data: published values beside every cell, and what has no tags said."""

import pytest

from bench.progress import SilentProgress
from bench.reproduce import grids
from bench.reproduce.plan import Options, Planner
from bench.reproduce.published import look_up
from tasks.datasets.mind import MIND


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield MIND.generate(tmp_path_factory.mktemp("made") / "mind", 400)


@pytest.mark.parametrize("table", ["table1", "table7", "table8", "table9", "table10"])
def test_every_published_cell_of_mind_has_its_run(root, table, tmp_path):
    grid = grids.grid(table)
    cells = Planner(Options("mind", root, out=tmp_path), SilentProgress()).grid(grid)
    assert all(cell.plan.dataset.card.windows == (3, 5) for cell in cells if cell.plan)
    for cell in cells:
        untagged = cell.condition == "tag" or cell.row.settings.get("stages") == 2
        assert cell.status == ("not available" if untagged else "new"), cell.name
        assert ("has no evaluation tags" in cell.reason or "mind has none" in cell.reason) == untagged
        if cell.row.backbone == "bert4rec" or cell.row.label.startswith(("Parsed", "Text")):
            continue
        for window in (3, 5) if grid.windows == "each" else ("mean",):
            key = (grid.numbers["mind"], "mind", cell.task, cell.row.backbone, cell.row.label, window, "ndcg@10")
            assert look_up(*key) is not None, key

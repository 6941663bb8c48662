"""The measurement of clicks measures: every kind of click is made, and the page's own time is no more than the clock's."""

from __future__ import annotations

import pytest

from bench.leaderboard import page_perf
from tests.tools.browsing import why_no_browser


@pytest.mark.skipif(why_no_browser() is not None, reason=str(why_no_browser()))
def test_clicks_are_timed_by_the_clock_and_by_the_processor() -> None:
    found = page_perf.run(rounds=1, seconds=1, runs=60)
    assert found["rows"] == 60 and all(found[f"{name}_ms"] > 0 for name in page_perf.CLICKS)
    assert found["slowest_cpu_ms"] > 0 and found["open_ms"] > 0

"""`bench perf NAME`: speed, each figure against its reference, both measured in this process."""

from __future__ import annotations

import json
from importlib.metadata import entry_points
from typing import Annotated, Any

from cyclopts import App, Parameter

from bench.errors import unknown_name

app = App(name="perf", help="Speed, each figure against its reference.", result_action="return_value")
GROUP = "bench.perf"


@app.default
def perf(
    name: str,
    *,
    seconds: Annotated[float, Parameter(help="How long to measure, the reference included.")] = 30.0,
    rounds: Annotated[int, Parameter(help="How often both take turns.")] = 5,
    full: Annotated[bool, Parameter(help="Full-length rows only, so that the shapes are those of the floor.")] = False,
    json_output: Annotated[bool, Parameter(name="--json", help="One JSON document as the last line.")] = False,
) -> int:
    """Measure `train` or `eval`: ours and the bare matrix products in turns, and the ratio of every pair."""
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in found:
        raise unknown_name("benchmark", name, found)
    measured: dict[str, Any] = found[name].load()(seconds=seconds, rounds=rounds, full=full)
    if json_output:
        print(json.dumps(measured))
        return 0
    from bench.provenance import hardware

    where = hardware()
    print(f"{name} on {where.get('cpu') or where.get('machine')}, {where.get('cores')} cores")
    for key, value in measured.items():
        print(f"  {key:<24}{value:>14,.3f}" if isinstance(value, float) else f"  {key:<24}{value:>14}")
    return 0

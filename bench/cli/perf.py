"""`bench perf NAME`: speed, each figure against its reference, both measured in this process."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Annotated, Any

from cyclopts import App, Parameter

from bench.cli.console import key_values
from bench.errors import InputError, unknown_name

app = App(name="perf", help="Speed, each figure against its reference.", result_action="return_value")
GROUP = "bench.perf"


@app.default
def perf(
    name: str,
    *,
    seconds: Annotated[float, Parameter(help="How long to measure, the reference included.")] = 30.0,
    rounds: Annotated[int, Parameter(help="How often both take turns.")] = 5,
    full: Annotated[bool, Parameter(help="Full-length rows only, so that the shapes are those of the floor.")] = False,
    set_: Annotated[
        list[str] | None, Parameter(name="--set", help="KEY=VALUE of the benchmark's own, such as backbone=gru4rec.")
    ] = None,
    json_output: Annotated[bool, Parameter(name="--json", help="One JSON document as the last line.")] = False,
) -> int:
    """Measure `train`, `eval` or `llm`: ours and the reference in one run, and their ratio."""
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in found:
        raise unknown_name("benchmark", name, found)
    benchmark = found[name].load()
    own = _own(name, benchmark, key_values(set_))
    measured: dict[str, Any] = benchmark(seconds=seconds, rounds=rounds, full=full, **own)
    if json_output:
        print(json.dumps(measured))
        return 0
    from bench.provenance import hardware

    where = hardware()
    print(f"{name} on {where.get('cpu') or where.get('machine')}, {where.get('cores')} cores")
    for key, value in measured.items():
        print(f"  {key:<24}{value:>14,.3f}" if isinstance(value, float) else f"  {key:<24}{value:>14}")
    return 0


def _own(name: str, benchmark: Callable[..., Any], values: dict[str, str]) -> dict[str, Any]:
    """Options that this benchmark has beyond those of all, converted like their defaults."""
    known = {
        key: parameter.default
        for key, parameter in inspect.signature(benchmark).parameters.items()
        if key not in ("seconds", "rounds", "full")
    }
    own: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            raise unknown_name(f"setting of perf {name}", key, known)
        try:
            own[key] = type(known[key])(value)
        except ValueError:
            raise InputError(
                f"setting {key} of perf {name}: expected a value like {known[key]!r}, got {value!r}."
            ) from None
    return own

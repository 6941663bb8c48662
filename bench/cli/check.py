"""`bench check`: conformance of a model."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

from cyclopts import Parameter

from bench.cli.console import emit_json, key_values


def check(
    model: str,
    *,
    set_: Annotated[list[str] | None, Parameter(name="--set")] = None,
    seed: int = 0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    json: bool = False,
) -> int:
    """Does a model keep its contract? Trained briefly, twice, on the embedded dataset.

    Parameters
    ----------
    model
        A registered model.
    set_
        KEY=VALUE, a setting of the model's own, laid over the quick ones that it offers for checks. Repeatable.
    seed
        Seed of the trainings.
    device
        Where the model computes.
    json
        One JSON document on stdout.
    """
    from bench import progress
    from bench.conformance import check_model
    from bench.store import resolve_device

    checks = []
    with progress.for_terminal(quiet=json) as bars:
        for each in check_model(model, dict(key_values(set_)), resolve_device(device), bars, seed):
            checks.append(each)
            if not json:
                mark = "ok    " if each.passed else "FAILED"
                sys.stdout.write(f"{mark}  {each.name}{': ' + each.detail if each.detail else ''}\n")
                sys.stdout.flush()
    passed = all(each.passed for each in checks)
    if json:
        rows = [{"name": each.name, "passed": each.passed, "detail": each.detail} for each in checks]
        emit_json({"model": model, "passed": passed, "checks": rows})
    else:
        bad = sum(not each.passed for each in checks)
        sys.stdout.write(
            f"{model}: {f'{bad} of {len(checks)} checks failed' if bad else f'all {len(checks)} checks passed'}\n"
        )
    return 0 if passed else 1

"""`bench check`: conformance of a model."""

from __future__ import annotations

import sys
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from bench.cli.console import emit_json, key_values


def check(
    model: str,
    *,
    set_: Annotated[list[str] | None, Parameter(name="--set")] = None,
    seed: int = 0,
    llm: str | None = None,
    llm_config: Path | None = None,
    out: Path = Path("results"),
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
    llm
        Language model, for models that ask one.
    llm_config
        Its configuration file, in litellm's format.
    out
        Folder of results; answers are cached in OUT/llm-cache.
    device
        Where the model computes.
    json
        One JSON document on stdout.
    """
    from bench import progress
    from bench.conformance import check_model
    from bench.language import open_language_model
    from bench.store import resolve_device

    checks = []
    with progress.for_terminal(quiet=json) as bars, ExitStack() as stack:
        asked = None if llm is None else stack.enter_context(closing(open_language_model(llm, llm_config, out)))
        for each in check_model(model, dict(key_values(set_)), resolve_device(device), bars, seed, asked):
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

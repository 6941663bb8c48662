"""`bench llm`: try a language model, and carry its requests and answers by hand."""

from __future__ import annotations

from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from bench.cli.console import console, dollars, emit_json
from bench.errors import CheckError, InputError

if TYPE_CHECKING:
    from bench.llm.cache import Cache

CACHE = "llm-cache"
SHOWN = 20
app = App(
    name="llm", help="Language models: try one, export its requests, import its answers.", result_action="return_value"
)


@app.command
def check(
    name: str,
    *,
    llm_config: Path | None = None,
    json_output: Annotated[bool, Parameter(name="--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Send one tiny request, and a few more that try JSON mode, n > 1, logprobs and seed.

    Parameters
    ----------
    name
        A model_name of the configuration, or hf:PATH or vllm:PATH.
    llm_config
        Configuration file in litellm's format.
    """
    from dataclasses import asdict

    from bench.llm.check import check_endpoint, check_model
    from bench.llm.config import load_endpoint
    from bench.llm.opening import ENGINES, open_llm

    if name.partition(":")[0] in ENGINES and ":" in name:
        with open_llm(name, None, cache_dir=None) as model:
            found = check_model(model)
    elif llm_config is None:
        raise InputError(f"bench llm check {name} needs --llm-config FILE (or a name like hf:PATH).")
    else:
        found = check_endpoint(load_endpoint(name, llm_config))
    if json_output:
        emit_json(asdict(found))
        return
    screen = console()
    rows = {
        "model": found.model,
        "address": found.api_base,
        "latency": f"{1000 * found.latency_s:.0f} ms",
        "tokens": f"{_known(found.prompt_tokens)} in, {_known(found.completion_tokens)} out",
        "price": dollars(found.price, 6),
        "answer": " ".join(found.answer.split())[:80] or "(no text)",
        **found.features,
    }
    for key, value in rows.items():
        if value:
            screen.print(f"  {key:<12}{value}", markup=False, soft_wrap=True)


@app.command(name="export")
def export_(file: Path, *, out: Path = Path("results"), llm: str | None = None) -> None:
    """Write pending requests as OpenAI batch requests, JSON lines.

    Parameters
    ----------
    file
        The file to write.
    out
        Folder of results; pending requests lie in OUT/llm-cache/pending.
    llm
        Requests of this model only.
    """
    from bench.llm.offline import export_file

    with results_cache(out) as cache:
        count = export_file(cache, file, llm)
    print(f"{count} requests in {file}")


@app.command(name="import")
def import_(file: Path, *, out: Path = Path("results")) -> int:
    """Put batch responses, JSON lines, into the cache of answers.

    Lines that are no response are told with their number and left out (exit code 1); the others count.

    Parameters
    ----------
    file
        The file to read.
    out
        Folder of results; the cache is OUT/llm-cache.
    """
    import sys

    from bench.llm.offline import import_file

    with results_cache(out) as cache:
        done = import_file(cache, file)
    print(f"{done.stored} answers stored, {done.known} known already, {done.failed} failed at the provider")
    for problem in done.problems[:SHOWN]:
        sys.stderr.write(f"{problem}\n")
    if done.problems:
        raise CheckError(f"{len(done.problems)} lines of {file} were left out, the first: {done.problems[0]}")
    return 0


def results_cache(out: Path) -> AbstractContextManager[Cache]:
    """The cache of answers of a folder of results, opened for the length of a block.

    Raises:
        InputError: there is none.
    """
    from bench.llm.cache import open_cache

    return closing(open_cache(cache_folder(out)))


def cache_folder(out: Path) -> Path:
    """Where the cache of a folder of results lies.

    Raises:
        InputError: there is none.
    """
    if not (out / CACHE).is_dir():
        raise InputError(f"there is no cache of answers in {out / CACHE}: give --out, the folder of the run's results.")
    return out / CACHE


def _known(value: int | None) -> str:
    return "unknown" if value is None else str(value)

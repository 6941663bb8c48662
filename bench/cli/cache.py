"""`bench cache`: the cached answers of language models."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from bench.cli.console import console, dollars, emit_json, table
from bench.cli.llm import CACHE, cache_folder, results_cache
from bench.errors import InputError

app = App(name="cache", help="Cached answers of language models.", result_action="return_value")
Out = Annotated[Path, Parameter(help="Folder of results; the cache is OUT/llm-cache.")]
AsJson = Annotated[bool, Parameter(name="--json", help="One JSON document on stdout.")]
DAY = 86_400.0


@app.command
def stats(*, out: Out = Path("results"), json_output: AsJson = False) -> None:
    """What is in the cache: entries, failures, tokens and price by model."""
    from bench.llm.explain import statistics

    with results_cache(out) as cache:
        found = statistics(cache)
    if json_output:
        emit_json(found)
        return
    made = table("model", "entries", "failures", "tokens in", "tokens out", "price")
    for name, row in found["models"].items():
        price = dollars(row["price"])
        made.add_row(
            name,
            str(row["entries"]),
            str(sum(row["failures"].values())),
            str(row["prompt_tokens"]),
            str(row["completion_tokens"]),
            price,
        )
    screen = console()
    screen.print(made)
    screen.print(f"{found['entries']} entries, {found['bytes'] / 2**20:.1f} MiB in {out / CACHE}", soft_wrap=True)


@app.command
def explain(what: str, *, out: Out = Path("results"), json_output: AsJson = False) -> None:
    """What a key is made of, and why a request is not in the cache.

    Parameters
    ----------
    what
        A key or its beginning, or a file with requests: pending ones (OUT/llm-cache/pending/NAME.jsonl) or an export;
        of a file, the first request is explained.
    """
    from dataclasses import asdict

    from bench.llm.explain import explain_key, explain_parts

    with results_cache(out) as cache:
        if Path(what).is_file():
            found = explain_parts(cache, _parts(Path(what), out))
        elif re.fullmatch(r"[0-9a-fA-F]{4,64}", what):
            found = explain_key(cache, what)
        else:
            raise InputError(f"{what!r} is neither a file nor a key (hexadecimal digits, at least four).")
    if json_output:
        emit_json(asdict(found))
        return
    print(f"key {found.key}: {'in the cache' if found.entry else 'not in the cache'}")
    print(json.dumps(found.parts, indent=2, ensure_ascii=False))
    if found.entry is not None:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(found.entry.get("time", 0)))
        print(f"answered {when} UTC: {json.dumps(found.entry['answer'], ensure_ascii=False)}")
    elif found.nearest is not None:
        print(f"nearest entry {found.nearest['key']}, which differs in:")
        for path in found.differing[:20]:
            print(f"  {path}: {_at(found.parts, path)!r} here, {_at(found.nearest['parts'], path)!r} there")
    else:
        print("the cache is empty")


@app.command
def prune(
    *,
    out: Out = Path("results"),
    model: Annotated[str | None, Parameter(help="Only entries of this model, as `bench cache stats` names it.")] = None,
    older_than_days: Annotated[float | None, Parameter(help="Only entries older than that.")] = None,
    failures: Annotated[bool, Parameter(help="Only refusals and unparseable answers.")] = False,
) -> None:
    """Drop entries and damaged lines; with no choice, damaged lines alone. Refuses while a run uses the cache."""
    from bench.llm import cache as store

    chosen = model is not None or older_than_days is not None or failures
    oldest = time.time() - DAY * (older_than_days or 0.0)

    def keep(entry: dict[str, Any]) -> bool:
        name = entry["parts"]["model"]
        fits = (
            (model is None or model in (name["model"], f"{name['model']} at {name['api_base']}"))
            and (older_than_days is None or entry.get("time", 0.0) < oldest)
            and (not failures or bool(entry["answer"].get("failure")))
        )
        return not (chosen and fits)

    kept, dropped = store.prune(cache_folder(out), keep)
    print(f"{dropped} lines dropped, {kept} entries kept")


def _parts(path: Path, out: Path) -> dict[str, Any]:
    """The parts of the first request of a file; an export's are looked up among the pending ones."""
    import jsonlines

    from bench.llm.offline import PENDING, read_pending

    try:
        with jsonlines.open(path) as reader:
            row = reader.read(type=dict)
    except (jsonlines.InvalidLineError, EOFError, UnicodeDecodeError):
        raise InputError(f"{path}, line 1: not a request in JSON.") from None
    if isinstance(row.get("parts"), dict):
        return row["parts"]
    for pending in sorted((out / CACHE / PENDING).glob("*.jsonl")):
        for other in read_pending(pending):
            if other["key"] == row.get("custom_id"):
                found: dict[str, Any] = other["parts"]
                return found
    raise InputError(f"{path}, line 1: neither a pending request nor the export of one.")


def _at(parts: Any, path: str) -> Any:
    """The value at a path such as "messages[1][1]"."""
    for name in re.findall(r"[^.\[\]]+", path):
        try:
            parts = parts[int(name)] if isinstance(parts, list) else parts[name]
        except (KeyError, IndexError, TypeError, ValueError):
            return None
    return parts

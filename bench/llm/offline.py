"""Requests that go out by hand and answers that come back the same way, in OpenAI's batch format.

A run with `offline="export"` writes what its cache lacks to `pending/NAME.jsonl` in the cache's folder. `export_file`
makes batch requests of it, for a provider's batch service, a colleague's cluster, anything; `import_file` takes batch
responses and puts them into the cache, where the next run finds them. A request's `custom_id` is its key in the cache.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jsonlines

from bench.atomic import atomic_path
from bench.errors import InputError
from bench.llm import structured
from bench.llm.cache import Cache
from bench.llm.config import Endpoint
from bench.llm.contracts import Answer, Capabilities, ChatRequest, Failure, Message, Sampling, Usage
from bench.llm.core import Core, Model, encode, read_reply
from bench.llm.failures import RequestError, Scrubber, from_status
from bench.llm.stats import price
from bench.llm.wire import ROUTE, payload
from bench.llm.wire import read_reply as read_wire
from bench.locks import file_lock

PENDING = "pending"
URL = f"/v1{ROUTE}"
_KEY = re.compile(r"[0-9a-f]{64}")


@dataclass
class Imported:
    """What an import did. `problems` are one line each, with file and line number."""

    stored: int = 0
    known: int = 0
    failed: int = 0
    problems: list[str] = field(default_factory=list)


class OfflineModel(Model):
    """Answers from the cache alone; what is missing is Failure.BUDGET and, with `export`, written down."""

    capabilities = Capabilities(json_schema=True, n=True, logprobs=True, seed=True)

    def __init__(self, core: Core, endpoint: Endpoint, *, export: bool) -> None:
        super().__init__(core)
        self._endpoint, self.exporting = endpoint, export
        assert core.cache is not None
        self.pending = pending_path(core.cache.directory, core.identity.name)

    def answer(self, requests: Iterable[ChatRequest]) -> Iterator[tuple[int, Answer]]:
        """See `Model.answer`. A request is on disk before its answer is yielded."""
        written = {row["key"] for row in read_pending(self.pending)} if self.exporting else set()
        said = "not asked: written for `bench llm export`" if self.exporting else "not asked: not in the cache"
        for place, request in enumerate(requests):
            if request.schema is not None:
                structured.check_schema(request.schema)
            key = self.core.keyer.key(request)
            found = self.core.lookup(key)
            if found is None:
                if self.exporting and key not in written:
                    written.add(key)
                    append_pending(self.pending, [pending_row(key, self.core, request, self._endpoint)])
                found = Answer(failure=Failure.BUDGET, detail=said, attempts=0)
            self.core.tally.count(found)
            yield place, found


def pending_path(directory: Path, name: str) -> Path:
    """The file of a model's pending requests."""
    return directory / PENDING / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name).strip('.') or 'model'}.jsonl"


def pending_row(key: str, core: Core, request: ChatRequest, endpoint: Endpoint) -> dict[str, Any]:
    """A pending request: its key's parts, and the body to send."""
    body = payload(request, endpoint, native_schema=request.schema is not None)
    return {"key": key, "parts": core.keyer.parts(request), "body": body}


def append_pending(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Add rows; a torn last line of a killed process is closed first."""
    with file_lock(path.with_suffix(".lock")), path.open("ab+") as stream:
        if stream.tell():
            stream.seek(-1, 2)
            if stream.read(1) != b"\n":
                stream.write(b"\n")
        writer = jsonlines.Writer(stream)
        for row in rows:
            writer.write(row)


def read_pending(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a pending file; lines that a kill tore are left out."""
    if not path.exists():
        return
    with path.open("rb") as stream:
        for row in jsonlines.Reader(stream).iter(type=dict, skip_invalid=True, skip_empty=True):
            if isinstance(row.get("key"), str) and isinstance(row.get("parts"), dict):
                yield row


def export_file(cache: Cache, path: Path, name: str | None = None) -> int:
    """Write the pending requests that the cache still lacks as batch requests.

    Args:
        cache: whose pending requests.
        path: the file to write, whole or not at all.
        name: of one model only; batch services take one model a file.

    Returns:
        How many.
    """
    seen: set[str] = set()
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        writer = jsonlines.Writer(stream)
        for row in _pending_rows(cache, name):
            if row["key"] not in cache and row["key"] not in seen:
                seen.add(row["key"])
                writer.write(batch_line(row))
    return len(seen)


def batch_line(row: Mapping[str, Any]) -> dict[str, Any]:
    """A pending request in OpenAI's batch format."""
    return {"custom_id": row["key"], "method": "POST", "url": URL, "body": row["body"]}


def import_file(cache: Cache, path: Path) -> Imported:
    """Put the batch responses of a file into the cache; lines that are none are told, the others still count.

    Raises:
        InputError: the file cannot be read.
    """
    rows = {row["key"]: row for row in _pending_rows(cache, None)}
    done = Imported()
    try:
        stream = path.open("rb")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
    with stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                value = jsonlines.Reader([line]).read(type=dict)
                take_line(cache, rows, value, done, None)
            except (jsonlines.InvalidLineError, ValueError, RecursionError) as error:
                reason = "not a JSON object" if isinstance(error, jsonlines.InvalidLineError) else str(error)
                done.problems.append(f"{path}:{number}: {reason}")
    _drop_done(cache)
    return done


def take_line(
    cache: Cache,
    rows: Mapping[str, Mapping[str, Any]],
    line: Mapping[str, Any],
    done: Imported,
    prices: tuple[float, float] | None,
) -> tuple[str, Answer]:
    """Take one batch response.

    Returns:
        The key and the answer, which is in the cache if it is one that is kept.

    Raises:
        ValueError: the line is no batch response, or answers nothing that was asked; the message says what.
    """
    key = line.get("custom_id")
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise ValueError("custom_id is missing or not one that `bench llm export` wrote")
    if key not in rows:
        if key in cache:
            done.known += 1
            return key, Answer(failure=Failure.BUDGET, detail="known already", cached=True)
        raise ValueError(f"custom_id {key[:12]}... is none of the pending requests")
    response = line.get("response")
    if not isinstance(response, Mapping):
        done.failed += 1
        told = line.get("error")
        return key, Answer(failure=Failure.SERVER, detail=Scrubber().line(f"the batch gave no response: {told}"))
    status = response.get("status_code", 200)
    if status != 200:
        done.failed += 1
        body = str(response.get("body", "")).encode("utf-8", "replace")
        error = from_status(status if isinstance(status, int) else 500, {}, body, Scrubber())
        return key, Answer(failure=error.failure, detail=error.detail)
    parts = rows[key]["parts"]
    request = request_of(parts)
    try:
        reply = read_wire(response.get("body") or {}, n=request.sampling.n)
    except RequestError as error:
        raise ValueError(f"response.body: {error.detail}") from None
    if len(reply.texts) < request.sampling.n:
        raise ValueError(f"response.body holds {len(reply.texts)} choices, {request.sampling.n} were asked for")
    tokens = (reply.prompt_tokens, reply.completion_tokens)
    answer, _ = read_reply(request, reply, Usage(*tokens, price(prices, *tokens)), 0.0, 1)
    if answer.failure not in (None, Failure.UNPARSEABLE, Failure.REFUSAL):
        done.failed += 1
    elif cache.put(key, dict(parts), encode(answer)):
        done.stored += 1
    else:
        done.known += 1
    return key, answer


def request_of(parts: Mapping[str, Any]) -> ChatRequest:
    """The request behind a key's parts."""
    sampling = dict(parts["sampling"])
    sampling["stop"] = tuple(sampling.get("stop") or ())
    messages = tuple(Message(role, content) for role, content in parts["messages"])
    return replace(ChatRequest(messages, Sampling(**sampling)), schema=parts.get("schema"))


def _pending_rows(cache: Cache, name: str | None) -> Iterator[dict[str, Any]]:
    folder = cache.directory / PENDING
    paths = sorted(folder.glob("*.jsonl")) if name is None else [pending_path(cache.directory, name)]
    for path in paths:
        yield from read_pending(path)


def _drop_done(cache: Cache) -> None:
    """Take out of the pending files what the cache has by now."""
    for path in sorted((cache.directory / PENDING).glob("*.jsonl")):
        with file_lock(path.with_suffix(".lock")):
            left = [row for row in read_pending(path) if row["key"] not in cache]
            with atomic_path(path) as temporary, jsonlines.open(temporary, "w") as writer:
                writer.write_all(left)

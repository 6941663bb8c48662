"""The OpenAI Batch API: half the price, within a day. Submit, poll, collect; a killed run finds its batches again.

What a run submits is noted in `batches/` of the cache's folder before and after the submission. The next run with the
same requests polls what is out and submits only the rest. Answers that meet no schema are not asked for once more.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

import jsonlines

from bench.atomic import atomic_write
from bench.contracts import Progress
from bench.llm import structured
from bench.llm.config import Endpoint
from bench.llm.contracts import Answer, Capabilities, ChatRequest, Failure
from bench.llm.core import Core, Model
from bench.llm.failures import RequestError, Scrubber, from_litellm
from bench.llm.offline import (
    URL,
    Imported,
    append_pending,
    batch_line,
    pending_path,
    pending_row,
    read_pending,
    take_line,
)
from bench.locks import file_lock

FOLDER = "batches"
# The service's own limits of a file.
MOST_LINES, MOST_BYTES = 50_000, 190 << 20
POLL_SECONDS = 30.0
_OVER = ("completed", "failed", "expired", "cancelled")


class BatchModel(Model):
    """See the module. Every request is drawn before the first answer that is not in the cache is given."""

    capabilities = Capabilities(json_schema=True, n=True, logprobs=True, seed=True)

    def __init__(
        self,
        core: Core,
        endpoint: Endpoint,
        *,
        max_requests: int | None = None,
        max_cost: float | None = None,
        progress: Progress | None = None,
    ) -> None:
        super().__init__(core)
        assert core.cache is not None
        self._cache, self._endpoint, self._progress = core.cache, endpoint, progress
        self._max_requests, self._max_cost = max_requests, max_cost
        self._folder = core.cache.directory / FOLDER
        self._pending = pending_path(core.cache.directory, core.identity.name)
        self._scrubber = Scrubber(endpoint.secrets)
        self._client: Any = None

    def answer(self, requests: Iterable[ChatRequest]) -> Iterator[tuple[int, Answer]]:
        """See `Model.answer`."""
        missing: dict[str, list[int]] = {}
        rows: dict[str, dict[str, Any]] = {}
        money = 0.0
        for place, request in enumerate(requests):
            if request.schema is not None:
                structured.check_schema(request.schema)
            key = self.core.keyer.key(request)
            found = self.core.lookup(key)
            if found is None and key not in rows:
                cost = self.core.most_expensive(request) or 0.0
                found = self._refused(len(rows), money + cost)
                if found is None:
                    money += cost
                    rows[key] = pending_row(key, self.core, request, self._endpoint)
            if found is not None:
                self.core.tally.count(found)
                yield place, found
            else:
                missing.setdefault(key, []).append(place)
        for key, answer in self._fetch(rows):
            for place in missing.pop(key, ()):
                self.core.tally.count(answer)
                yield place, answer

    def close(self) -> None:
        """Close the client and the cache."""
        if self._client is not None:
            self._client.close()
            self._client = None
        super().close()

    def _refused(self, count: int, money: float) -> Answer | None:
        if self._max_requests is not None and count >= self._max_requests:
            return Answer(
                failure=Failure.BUDGET, detail=f"not sent: --max-requests {self._max_requests} is reached", attempts=0
            )
        if self._max_cost is not None and money > self._max_cost:
            return Answer(
                failure=Failure.BUDGET, detail=f"not sent: --max-cost {self._max_cost:g} would be passed", attempts=0
            )
        return None

    def _fetch(self, rows: dict[str, dict[str, Any]]) -> Iterator[tuple[str, Answer]]:
        """Answers of all rows: from batches that are out, and from new ones for the rest."""
        if not rows:
            return
        left = dict(rows)
        try:
            # One run at a time submits: two would each send what neither has noted yet.
            with file_lock(self._folder / "submit.lock"):
                known = {row["key"] for row in read_pending(self._pending)}
                append_pending(self._pending, [row for key, row in rows.items() if key not in known])
                notes = self._notes()
                out = {key for note in notes for key in note["keys"]}
                for part in _parts([row for key, row in rows.items() if key not in out]):
                    notes.append(self._submit(part))
            for note in notes:
                if not left.keys() & set(note["keys"]):
                    continue
                for key, answer in self._collect(note, rows):
                    if left.pop(key, None) is not None:
                        yield key, answer
        except RequestError as error:
            for key in left:
                yield key, Answer(failure=error.failure, detail=error.detail)
            return
        for key in left:
            yield key, Answer(failure=Failure.SERVER, detail="the batch ended without an answer to this request")

    def _notes(self) -> list[dict[str, Any]]:
        """Batches that are out. One that was being submitted when its process died is looked for at the service."""
        notes = []
        for path in sorted(self._folder.glob("*.json")):
            note = json.loads(path.read_text("utf-8"))
            if note["model"] != self.core.keyer.model:
                continue
            if note["batch"] is None:
                listed = self._call(lambda client: list(client.batches.list(limit=100)))
                found = [one.id for one in listed if (one.metadata or {}).get("bench") == note["id"]]
                if not found:
                    path.unlink()
                    continue
                note["batch"] = found[0]
                atomic_write(path, json.dumps(note))
            notes.append(note)
        return notes

    def _submit(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        identity = uuid.uuid4().hex
        note: dict[str, Any] = {
            "id": identity,
            "model": self.core.keyer.model,
            "batch": None,
            "keys": [row["key"] for row in rows],
        }
        path = self._folder / f"{identity}.json"
        atomic_write(path, json.dumps(note))
        content = "".join(json.dumps(batch_line(row)) + "\n" for row in rows).encode()
        try:
            sent = self._call(lambda client: client.files.create(file=(f"{identity}.jsonl", content), purpose="batch"))
            made = self._call(
                lambda client: client.batches.create(
                    input_file_id=sent.id, endpoint=URL, completion_window="24h", metadata={"bench": identity}
                )
            )
        except RequestError:
            path.unlink(missing_ok=True)
            raise
        note["batch"] = made.id
        atomic_write(path, json.dumps(note))
        self.core.tally.sent += len(rows)
        self._note(f"batch {made.id}: {len(rows)} requests submitted; a run that is stopped goes on from here")
        return note

    def _collect(self, note: dict[str, Any], rows: dict[str, dict[str, Any]]) -> Iterator[tuple[str, Answer]]:
        """Wait for a batch, and take what it brought; its note goes when all of it is in the cache."""
        while True:
            batch = self._call(lambda client: client.batches.retrieve(note["batch"]))
            if batch.status in _OVER:
                break
            counts = batch.request_counts
            if counts is not None:
                self._note(f"batch {batch.id}: {batch.status}, {counts.completed} of {counts.total} done")
            time.sleep(POLL_SECONDS)
        # Requests of another run may be in the batch as well; they are among the pending ones.
        known = {row["key"]: row for row in read_pending(self._pending)} | rows
        for name in (batch.output_file_id, batch.error_file_id):
            if name is None:
                continue
            text = self._call(lambda client, name=name: client.files.content(name).text)
            for line in jsonlines.Reader(self._scrubber.text(text).splitlines()).iter(type=dict, skip_invalid=True):
                try:
                    key, answer = take_line(self._cache, known, line, Imported(), self.core.prices)
                except ValueError as error:
                    key, answer = str(line.get("custom_id")), Answer(failure=Failure.MALFORMED, detail=str(error))
                if answer.texts:
                    self.core.tally.paid(answer.usage, 0.0)
                yield key, answer
        if batch.status == "failed":
            told = [str(one.message) for one in (batch.errors.data or [])] if batch.errors is not None else []
            detail = self._scrubber.line(f"the batch failed: {'; '.join(told) or 'no reason given'}")
            (self._folder / f"{note['id']}.json").unlink(missing_ok=True)
            raise RequestError(Failure.BAD_REQUEST, detail)
        (self._folder / f"{note['id']}.json").unlink(missing_ok=True)

    def _call(self, work: Any) -> Any:
        """One call of the service; the `openai` client tries again what may heal."""
        try:
            if self._client is None:
                import openai

                endpoint = self._endpoint
                self._client = openai.OpenAI(
                    api_key=endpoint.api_key or "none",
                    base_url=endpoint.url or None,
                    default_headers=dict(endpoint.headers),
                    max_retries=5,
                )
            return work(self._client)
        except Exception as error:
            raise from_litellm(error, self._scrubber) from None

    def _note(self, text: str) -> None:
        if self._progress is not None:
            self._progress.note(text)


def _parts(rows: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Rows in files that the service takes."""
    part: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        length = len(json.dumps(batch_line(row))) + 1
        if part and (len(part) >= MOST_LINES or size + length > MOST_BYTES):
            yield part
            part, size = [], 0
        part.append(row)
        size += length
    if part:
        yield part

"""A model behind a network: requests run on an event loop in a thread of their own, answers come as they finish.

The caller's iterable is drawn in the caller's thread, and only as far ahead as requests can be under way. Requests that
are equal, in this process or another one on the same cache, are sent once.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from threading import Thread
from typing import Any

from bench.llm import structured
from bench.llm.asking import Asker, Patience
from bench.llm.budget import Budget
from bench.llm.config import Endpoint
from bench.llm.contracts import Answer, Capabilities, ChatRequest
from bench.llm.core import Core, Model
from bench.llm.limits import Limiter
from bench.llm.transport import Transport, open_transport

# How long `close` waits for requests that are paid already.
GRACE_SECONDS = 10.0
POLL_SECONDS = 0.05
# Requests go to the loop, and answers to the caller, so many at a time or after so many seconds.
CHUNK, CHUNK_SECONDS = 32, 0.005


@dataclass
class _Job:
    place: int
    request: ChatRequest
    key: str


@dataclass
class _Done:
    """What became of a job. `keep` tells whether its answer goes into the cache, `claimed` whether its key is held."""

    job: _Job
    outcome: Answer | BaseException
    earlier: tuple[str, ...] = ()
    keep: bool = False
    claimed: bool = False


@dataclass
class _Session:
    """One call of `answer`: finished answers on their way to the caller."""

    out: SimpleQueue[list[tuple[int, Answer | BaseException]]] = field(default_factory=SimpleQueue)
    cancelled: bool = False
    _ready: list[tuple[int, Answer | BaseException]] = field(default_factory=list)

    def give(self, answers: list[tuple[int, Answer | BaseException]]) -> None:
        """On the loop: hand over, but not one by one, since each time the two threads would wait for each other."""
        if not self._ready:
            asyncio.get_running_loop().call_later(CHUNK_SECONDS, self._flush)
        self._ready += answers
        if len(self._ready) >= CHUNK:
            self._flush()

    def _flush(self) -> None:
        if self._ready:
            self.out.put(self._ready)
            self._ready = []


class RemoteModel(Model):
    """See the module.

    Args:
        core: cache and counts.
        endpoint: where the model is.
        patience: attempts and deadlines.
        connections: requests under way at once, at most.
        max_requests: attempts that may be sent.
        max_cost: US dollars.
        transport: opens the way to the model, on the loop's thread.
    """

    capabilities = Capabilities(json_schema=True, n=True, logprobs=True, seed=True)

    def __init__(
        self,
        core: Core,
        endpoint: Endpoint,
        *,
        patience: Patience,
        connections: int,
        max_requests: int | None = None,
        max_cost: float | None = None,
        transport: Callable[[Endpoint], Transport] = open_transport,
    ) -> None:
        super().__init__(core)
        self._endpoint, self._patience, self._connections = endpoint, patience, connections
        self._budget, self._open_transport = Budget(max_requests, max_cost), transport
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: Thread | None = None
        self._transport: Transport | None = None
        self._asker: Asker | None = None
        self._flying: dict[str, list[tuple[_Session, int]]] = {}
        self._queue: deque[_Job] = deque()
        self._done: list[_Done] = []
        self._written: asyncio.Future[None]
        self._tasks: set[asyncio.Task[None]] = set()
        self._workers = 0
        self.limiter = Limiter(connections, endpoint.rpm, endpoint.tpm)

    def answer(self, requests: Iterable[ChatRequest]) -> Iterator[tuple[int, Answer]]:
        """See `Model.answer`."""
        loop = self._start()
        session, source = _Session(), enumerate(requests)
        window, under_way, more = 2 * self._connections, 0, True
        try:
            while more or under_way:
                jobs: list[_Job] = []
                since = 0.0
                while more and under_way < window:
                    drawn = next(source, None)
                    if drawn is None:
                        more = False
                        break
                    job = self._job(*drawn)
                    found = self.core.lookup(job.key)
                    if found is None:
                        since = since or time.monotonic()
                        jobs.append(job)
                        under_way += 1
                    if jobs and (found is not None or len(jobs) >= CHUNK or time.monotonic() - since > CHUNK_SECONDS):
                        loop.call_soon_threadsafe(self._submit, session, jobs)
                        jobs, since = [], 0.0
                    if found is not None:
                        self.core.tally.count(found)
                        yield job.place, found
                if jobs:
                    loop.call_soon_threadsafe(self._submit, session, jobs)
                if under_way:
                    for place, answer in session.out.get():
                        under_way -= 1
                        if isinstance(answer, BaseException):
                            raise answer
                        self.core.tally.count(answer)
                        yield place, answer
        finally:
            session.cancelled = True

    def report(self) -> dict[str, Any]:
        """See `Model.report`; with the largest number of requests at once, and how often a limit was met."""
        concurrency = {"most_at_once": self.limiter.highest, "rate_limited": self.limiter.decreases}
        return super().report() | concurrency

    def close(self) -> None:
        """Wait shortly for what is under way, since it is paid, then close connections and the cache."""
        if self._loop is not None and self._thread is not None:
            future = asyncio.run_coroutine_threadsafe(self._finish(), self._loop)
            future.result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self._loop = self._thread = None
        super().close()

    def _job(self, place: int, request: ChatRequest) -> _Job:
        if request.schema is not None:
            structured.check_schema(request.schema)
        return _Job(place, request, self.core.keyer.key(request))

    def _start(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = Thread(target=self._loop.run_forever, name="llm", daemon=True)
            self._thread.start()
        return self._loop

    def _submit(self, session: _Session, jobs: list[_Job]) -> None:
        """On the loop: start what is not under way already."""
        loop = asyncio.get_running_loop()
        try:
            if self._asker is None:
                self._transport = self._open_transport(self._endpoint)
                self._asker = Asker(self.core, self._transport, self.limiter, self._budget, self._patience)
        except Exception as error:
            session.out.put([(jobs[0].place, error)])
            return
        for job in jobs:
            waiting = self._flying.get(job.key)
            if waiting is not None:
                waiting.append((session, job.place))
                continue
            self._flying[job.key] = [(session, job.place)]
            self._queue.append(job)
        for _ in range(min(len(self._queue), self._connections - self._workers)):
            self._workers += 1
            task = loop.create_task(self._work(self._asker))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _work(self, asker: Asker) -> None:
        """One of as many workers as there may be connections: serves until the queue is empty."""
        try:
            while self._queue:
                await self._serve(self._queue.popleft(), asker)
        finally:
            # Counted here, in the step that saw the queue empty, and not by the task's end, which the loop tells later: a job
            # that came in between would be left to a worker that is gone.
            self._workers -= 1

    async def _serve(self, job: _Job, asker: Asker) -> None:
        """One request, for everybody who waits for it."""
        waiting = self._flying[job.key]
        done = _Done(job, RuntimeError("not asked"))
        try:
            await self._answer(done, asker, lambda: not all(session.cancelled for session, _ in waiting))
        except Exception as error:
            # A fault of ours: the caller's `for` raises it.
            done.outcome = error
        finally:
            written = self._finished(done)
        # The next request goes out when this one's answer is on disk: a kill loses no more than what is under way.
        await written

    def _finished(self, done: _Done) -> asyncio.Future[None]:
        """Done when the answer is written: at the end of this round of events, many with one write."""
        loop = asyncio.get_running_loop()
        if not self._done:
            self._written = loop.create_future()
            loop.call_soon(self._settle)
        self._done.append(done)
        return self._written

    async def _answer(self, done: _Done, asker: Asker, wanted: Callable[[], bool]) -> None:
        job, cache = done.job, self.core.cache
        while cache is not None and not cache.claim(job.key):
            # Another process, or another model object of this one, is asking the same.
            await asyncio.sleep(POLL_SECONDS)
            cache.refresh()
            found = self.core.lookup(job.key)
            if found is not None:
                done.outcome = found
                return
        done.claimed = cache is not None
        found = self.core.lookup(job.key)
        if found is not None:
            done.outcome = found
            return
        done.outcome, done.earlier, done.keep = await asker.ask(job.request, wanted)

    def _settle(self) -> None:
        """Write what has come since the last time, then let claims go, then hand the answers over."""
        finished, self._done = self._done, []
        try:
            self.core.store_many(
                (done.job.key, done.job.request, done.outcome, done.earlier)
                for done in finished
                if done.keep and isinstance(done.outcome, Answer)
            )
        except Exception as error:
            # A full disk: what is not written is not given.
            for done in finished:
                done.outcome = error
        given: dict[int, tuple[_Session, list[tuple[int, Answer | BaseException]]]] = {}
        for done in finished:
            if done.claimed and self.core.cache is not None:
                self.core.cache.release(done.job.key)
            for number, (session, place) in enumerate(self._flying.pop(done.job.key)):
                outcome = done.outcome
                if number and isinstance(outcome, Answer) and outcome.ok:
                    # Paid once, by the first.
                    outcome = replace(outcome, cached=True, latency_s=0.0)
                given.setdefault(id(session), (session, []))[1].append((place, outcome))
        for session, answers in given.values():
            session.give(answers)
        if finished:
            self._written.set_result(None)

    async def _finish(self) -> None:
        tasks = list(self._tasks)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=GRACE_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        self._settle()
        if self._transport is not None:
            await self._transport.close()


def run_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine to its end, also where the caller's thread has a loop that runs (a notebook)."""
    box: list[Any] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            box.append(asyncio.run(coroutine))
        except BaseException as error:
            errors.append(error)

    thread = Thread(target=work, daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return box[0]

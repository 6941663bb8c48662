"""Models that run in this process: drawn in batches, cached and read like remote ones. Engines load when first needed."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from bench.errors import InputError
from bench.llm import structured
from bench.llm.cache import Cache
from bench.llm.causal import Made
from bench.llm.contracts import Answer, Capabilities, ChatRequest, Failure, Identity
from bench.llm.core import Core, Model, add_usage, read_reply
from bench.llm.failures import RequestError

# Files up to this size are hashed whole; of larger ones (weights) the size and both ends.
WHOLE_BYTES, END_BYTES = 32 << 20, 1 << 20
_MODEL_FILES = (".json", ".txt", ".model", ".jinja", ".safetensors", ".bin", ".gguf")


class Engine(Protocol):
    """Generates in this process."""

    def generate(self, requests: list[ChatRequest]) -> list[Made]:
        """A reply, or why there is none, for each request, in their order."""

    def close(self) -> None:
        """Free its memory."""


@dataclass
class _Job:
    place: int
    request: ChatRequest
    key: str


class LocalModel(Model):
    """See the module.

    Args:
        core: cache and counts.
        capabilities: of the engine.
        load: makes the engine.
        max_requests: requests that may be generated.
        batch: requests that the engine gets at once.
    """

    def __init__(
        self,
        core: Core,
        capabilities: Capabilities,
        load: Callable[[], Engine],
        *,
        max_requests: int | None = None,
        batch: int = 64,
    ) -> None:
        super().__init__(core)
        self.capabilities = capabilities
        self._load = load
        self._engine: Engine | None = None
        self._max_requests, self._batch = max_requests, batch

    def answer(self, requests: Iterable[ChatRequest]) -> Iterator[tuple[int, Answer]]:
        """See `Model.answer`."""
        jobs: list[_Job] = []
        for place, request in enumerate(requests):
            _check(request)
            key = self.core.keyer.key(request)
            found = self.core.lookup(key)
            if found is not None:
                self.core.tally.count(found)
                yield place, found
                continue
            jobs.append(_Job(place, request, key))
            if len(jobs) >= self._batch:
                yield from self._run(jobs)
                jobs = []
        yield from self._run(jobs)

    def close(self) -> None:
        """Free the engine and the cache."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None
        super().close()

    def _run(self, jobs: list[_Job]) -> Iterator[tuple[int, Answer]]:
        first: dict[str, _Job] = {}
        for job in jobs:
            first.setdefault(job.key, job)
        if self._max_requests is not None:
            room = max(0, self._max_requests - self.core.tally.sent)
            allowed = dict(list(first.items())[:room])
        else:
            allowed = first
        answers = self._generate(list(allowed.values()))
        for job in jobs:
            answer = answers.get(job.key)
            if answer is None:
                answer = Answer(failure=Failure.BUDGET, detail="not generated: --max-requests is reached", attempts=0)
            elif first[job.key] is not job:
                answer = replace(answer, cached=answer.ok, latency_s=0.0)
            self.core.tally.count(answer)
            yield job.place, answer

    def _generate(self, jobs: list[_Job]) -> dict[str, Answer]:
        answers: dict[str, Answer] = {}
        again: list[tuple[_Job, str]] = []
        for job, answer, problem in self._ask(jobs, [job.request for job in jobs]):
            answers[job.key] = answer
            if problem is None:
                self.core.store(job.key, job.request, answer)
            else:
                again.append((job, problem))
        self.core.tally.reasked += len(again)
        second = [structured.reask(job.request, answers[job.key].texts[0], problem) for job, problem in again]
        for job, better, _ in self._ask([job for job, _ in again], second):
            earlier = answers[job.key]
            better = replace(better, usage=add_usage(earlier.usage, better.usage), attempts=2, repaired=better.ok)
            if better.failure not in (None, Failure.UNPARSEABLE):
                better = replace(earlier, attempts=2)
            answers[job.key] = better
            self.core.store(job.key, job.request, better, earlier.texts)
        return answers

    def _ask(self, jobs: list[_Job], requests: list[ChatRequest]) -> Iterator[tuple[_Job, Answer, str | None]]:
        if not jobs:
            return
        if self._engine is None:
            self._engine = self._load()
        start = time.monotonic()
        made = self._engine.generate(requests)
        # Requests of a batch share its time.
        latency = (time.monotonic() - start) / len(jobs)
        for job, request, reply in zip(jobs, requests, made, strict=True):
            self.core.tally.sent += 1
            if isinstance(reply, RequestError):
                yield job, Answer(failure=reply.failure, detail=reply.detail), None
                continue
            usage = self.core.usage(reply)
            self.core.tally.paid(usage, latency)
            answer, problem = read_reply(request, reply, usage, latency, 1)
            yield job, answer, problem


def open_local(
    engine: str,
    path: str,
    name: str,
    *,
    cache: Callable[[], Cache | None],
    max_requests: int | None,
    device: str,
    batch: int,
) -> LocalModel:
    """Open `vllm:PATH`, `vllm:PATH?tensor_parallel_size=2` or `hf:PATH`; arguments as of `open_llm`.

    Raises:
        InputError: the engine is not installed, there is no such model, or an option is wrong.
    """
    from importlib.util import find_spec

    from bench.llm.vllm_engine import EngineOptions

    path, mark, query = path.partition("?")
    options = EngineOptions.read(name, query)
    if mark and engine != "vllm":
        raise InputError(f"{name}: options behind a question mark are for vllm: models.")
    name = name.partition("?")[0]
    package = {"vllm": "vllm", "hf": "transformers"}[engine]
    if find_spec(package) is None:
        extra = " (pip install 'promptrec-bench[vllm]')" if engine == "vllm" else ""
        raise InputError(f"{name} needs {package}, which is not installed{extra}.")
    if not path:
        raise InputError(f"{name} names no model: write {engine}:PATH or {engine}:ORGANISATION/MODEL.")
    folder = _folder(path, name)
    if engine == "vllm":
        from bench.llm.vllm_engine import CAPABILITIES, VllmEngine, dtype_of

        dtype = dtype_of(device)
        load: Callable[[], Engine] = lambda: VllmEngine(folder, dtype, options)  # noqa: E731
    else:
        from bench.llm.hf_engine import CAPABILITIES, TransformersEngine, dtype_of

        dtype = dtype_of(device)
        load = lambda: TransformersEngine(folder, device, dtype)  # noqa: E731
    parameters = {"fingerprint": fingerprint(folder), "dtype": dtype}
    model = path if not Path(path).is_dir() else Path(path).name
    identity = Identity(name, model, "vllm" if engine == "vllm" else "transformers", "", parameters)
    return LocalModel(Core(identity, cache(), None), CAPABILITIES, load, max_requests=max_requests, batch=batch)


def fingerprint(folder: Path) -> str:
    """SHA-256 over the model's files: names, sizes and contents, of large weights the first and the last MiB."""
    total = hashlib.sha256()
    for path in sorted(found for found in folder.iterdir() if found.suffix in _MODEL_FILES):
        size = path.stat().st_size
        total.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as stream:
            total.update(stream.read(size if size <= WHOLE_BYTES else END_BYTES))
            if size > WHOLE_BYTES:
                stream.seek(-END_BYTES, 2)
                total.update(stream.read())
    return total.hexdigest()


def _folder(path: str, name: str) -> Path:
    if Path(path).is_dir():
        folder = Path(path)
    elif Path(path).is_absolute() or path.startswith(".") or path.count("/") != 1:
        raise InputError(f"{name}: there is no folder {path}.")
    else:
        from huggingface_hub import snapshot_download

        try:
            folder = Path(snapshot_download(path))
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{name}: {path} is neither a folder nor to be had from the hub: {reason}") from None
    if not (folder / "config.json").is_file():
        raise InputError(f"{name}: {path} holds no config.json, so it is no model in Hugging Face's format.")
    return folder


def _check(request: ChatRequest) -> None:
    if request.schema is not None:
        structured.check_schema(request.schema)
    if request.sampling.beams > 1 and request.sampling.n > request.sampling.beams:
        raise InputError(f"n={request.sampling.n} answers need at least as many beams, got {request.sampling.beams}.")

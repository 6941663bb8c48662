"""`bench perf llm`: the client against a server of fixed latency, beside the time that nothing could beat; and its memory.

The server and the client run in processes of their own, the client with its cache on disk, as in any run.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LATENCY_S, CONNECTIONS, REQUESTS = 0.05, 200, 5_000
MANY, SOME = 100_000, 20_000


def run(*, seconds: float = 30.0, rounds: int = 5, full: bool = False) -> dict[str, Any]:
    """Measure speed in rounds of 5,000 requests, and peak memory over one run of many.

    Args:
        seconds: no further round begins after so long.
        rounds: of the speed; the median and the best ratio are told.
        full: memory over 100,000 requests, not 20,000.
    """
    ideal = REQUESTS / CONNECTIONS * LATENCY_S
    start = time.monotonic()
    times: list[float] = []
    with server() as url:
        while len(times) < max(1, rounds) and (not times or time.monotonic() - start < seconds):
            times.append(measure(url, REQUESTS)["seconds"])
        many = measure(url, MANY if full else SOME)
    return {
        "requests": REQUESTS,
        "connections": CONNECTIONS,
        "latency_ms": 1000 * LATENCY_S,
        "ideal_s": ideal,
        "actual_s": statistics.median(times),
        "ratio": statistics.median(times) / ideal,
        "best_ratio": min(times) / ideal,
        "memory_requests": many["requests"],
        "memory_peak_mib": many["peak_mib"],
        "memory_requests_per_s": many["requests"] / many["seconds"],
    }


@contextmanager
def server() -> Iterator[str]:
    """The address of a server of fixed latency in a process of its own."""
    command = [sys.executable, "-m", "bench.llm.loopback", str(LATENCY_S)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            process.kill()


def measure(url: str, requests: int) -> dict[str, Any]:
    """Seconds and peak memory (MiB) of a client process that asks so many requests."""
    with tempfile.TemporaryDirectory(prefix="bench-perf-") as folder:
        config = Path(folder) / "llms.yaml"
        config.write_text(
            f"model_list: [{{model_name: m, litellm_params: {{model: hosted_vllm/m, api_base: '{url}'}}}}]\n"
        )
        command = [sys.executable, "-m", "bench.llm.perf", folder, str(requests)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    measured: dict[str, Any] = json.loads(done.stdout)
    return measured


def _client(folder: Path, requests: int) -> dict[str, Any]:
    from bench.llm import ChatRequest, Message, Sampling, open_llm

    prompt = "A person liked these films: " + ", ".join(f"Title number {place}" for place in range(20))
    sampling = Sampling(max_tokens=64)
    with open_llm("m", folder / "llms.yaml", cache_dir=folder / "cache", connections=CONNECTIONS) as model:
        start = time.perf_counter()
        answered = 0
        asked = (ChatRequest((Message("user", f"{prompt}. Question {n}"),), sampling) for n in range(requests))
        for _, answer in model.answer(asked):
            answered += answer.ok
        seconds = time.perf_counter() - start
    if answered != requests:
        raise RuntimeError(f"{requests - answered} of {requests} requests failed: {model.report()['failures']}")
    return {"requests": requests, "seconds": seconds, "peak_mib": _peak_mib()}


def _peak_mib() -> float:
    """Largest resident memory of this process in MiB."""
    try:
        for line in Path("/proc/self/status").read_text("utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_client(Path(sys.argv[1]), int(sys.argv[2]))))

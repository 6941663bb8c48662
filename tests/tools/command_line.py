"""The command line as a process of its own, which can be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sized
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]


def finished(*arguments: Any, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """`bench ARGUMENTS`, run to its end."""
    return subprocess.run(
        _command(arguments), cwd=cwd, env=_with(environment), capture_output=True, text=True, check=False
    )


def begun(*arguments: Any, cwd: Path | None = None, **environment: str) -> subprocess.Popen[bytes]:
    """`bench ARGUMENTS`, under way and silent."""
    silent = subprocess.DEVNULL
    return subprocess.Popen(_command(arguments), cwd=cwd, env=_with(environment), stdout=silent, stderr=silent)


def killed_after(asked: Sized, requests: int, *arguments: Any, cwd: Path | None = None, **environment: str) -> None:
    """`bench ARGUMENTS`, killed once a server's log `asked` has so many requests; it must not have ended by itself."""
    process = begun(*arguments, cwd=cwd, **environment)
    while process.poll() is None and len(asked) < requests:
        time.sleep(0.01)
    assert process.poll() is None, f"ended with {process.returncode} after {len(asked)} requests"
    process.send_signal(signal.SIGKILL)
    process.wait()


def _command(arguments: tuple[Any, ...]) -> list[str]:
    return [sys.executable, "-m", "bench.cli.main", *map(str, arguments)]


def _with(environment: dict[str, str]) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"} | environment

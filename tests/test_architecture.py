"""Imports point down, and nothing heavy is loaded to list what there is."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
FLOORS = {
    "bench": set(),
    "tasks": {"bench"},
    "baselines": {"tasks", "bench"},
    "judges": {"tasks", "bench"},
    "dpr": {"baselines", "tasks", "bench"},
}
HEAVY = (
    "torch",
    "transformers",
    "sentence_transformers",
    "litellm",
    "openai",
    "datasets",
    "faiss",
    "ray",
    "sklearn",
    "pandas",
)


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("package", FLOORS)
def test_imports_point_down(package: str) -> None:
    files = list((REPOSITORY / package).rglob("*.py"))
    assert files
    for path in files:
        upward = imported(path) & (set(FLOORS) - FLOORS[package] - {package})
        assert not upward, f"{path.relative_to(REPOSITORY)} imports {upward}"


@pytest.mark.parametrize("package", FLOORS)
def test_modules_stay_short(package: str) -> None:
    for path in (REPOSITORY / package).rglob("*.py"):
        assert len(path.read_text("utf-8").splitlines()) <= 400, path


@pytest.mark.parametrize("command", [["--help"], ["list"], ["run", "--help"], ["show", "dpr_sas"]])
def test_nothing_heavy_is_loaded_to_look_around(command: list[str]) -> None:
    code = (
        "import sys; from bench.cli.main import main\n"
        f"sys.argv = ['bench', *{command!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print('HEAVY', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=True)
    assert shown.stdout.splitlines()[-1] == "HEAVY []", shown.stdout[-300:] + shown.stderr[-600:]

"""Options of vLLM behind a model's path: checked, passed on, and no part of what a model is called."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bench.errors import InputError
from bench.llm.opening import open_llm
from bench.llm.vllm_engine import EngineOptions, VllmEngine


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("vllm:org/model?tensor_paralel_size=2", "Did you mean 'tensor_parallel_size'"),
        ("vllm:org/model?tensor_parallel_size=none", "setting tensor_parallel_size of vllm:org/model"),
        ("vllm:org/model?tensor_parallel_size", "KEY=VALUE"),
        ("vllm:org/model?tensor_parallel_size=2&tensor_parallel_size=4", "each once"),
        ("hf:org/model?tensor_parallel_size=2", "are for vllm"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_loaded(name: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        open_llm(name, cache_dir=None)


def test_only_given_options_reach_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    class LLM:
        def __init__(self, **options: Any) -> None:
            seen.update(options)
            raise ValueError("no GPU here")

    module = ModuleType("vllm")
    module.LLM = LLM  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", module)
    options = EngineOptions.read("vllm:m", "tensor_parallel_size=4&distributed_executor_backend=ray")
    with pytest.raises(InputError, match="no GPU here"):
        VllmEngine(Path("m"), "auto", options)
    assert seen["tensor_parallel_size"] == 4 and seen["distributed_executor_backend"] == "ray"
    assert "pipeline_parallel_size" not in seen and "gpu_memory_utilization" not in seen

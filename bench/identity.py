"""Who a run is: a hash of everything that changes its output, and of nothing else.

Same identity, same run: a finished one is shown, an interrupted one goes on.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import numpy.typing as npt

from bench import registry
from bench.contracts import Examples

# Raised when the meaning of saved rankings changes, so that no older run is mistaken for a new one.
IDENTITY_VERSION = 1


def canonical_json(value: Any) -> str:
    """One text for equal values: sorted keys, no spaces, no NaN.

    Raises:
        ValueError: NaN or an infinity is in the value.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON, hexadecimal."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def part_versions(entry: type[Any], values: dict[str, Any]) -> dict[str, Any]:
    """Versions of what a model answers through: its router, its encoder, and the models that it is built on.

    Args:
        entry: the registered class. One that stands on other models has a classmethod `built_on(values)` with their names.
        values: its settings.
    """
    versions: dict[str, Any] = {
        part: registry.get(f"{part}s", values[part]).card.version
        for part in ("router", "encoder")
        if values.get(part) in registry.names(f"{part}s")
    }
    named: tuple[str, ...] = entry.built_on(values) if hasattr(entry, "built_on") else ()
    for name in named:
        beneath = registry.get("models", name)
        versions[name] = {"version": beneath.card.version, **part_versions(beneath, {})}
    return versions


def run_identity(
    *,
    task: dict[str, Any],
    model: dict[str, Any],
    dataset: dict[str, Any],
    protocol: str,
    seed: int,
    limit: int | None,
    depth: int,
    llm: dict[str, Any] | None = None,
) -> str:
    """Identity of a run. Device, batch size, output folder, progress and paths are left out: they change no ranking.

    Args:
        task: name, card version and settings.
        model: name, card version and all settings.
        dataset: name and fingerprint.
        protocol: "paper" or "strict"; a task without two readings still belongs to one board.
        seed: seed of draws and of training.
        limit: number of users, None for all.
        depth: places of every ranking.
        llm: full identity of the language model and hashes of the prompts put to it, None for a model that asks none.
    """
    parts: dict[str, Any] = {
        "task": task,
        "model": model,
        "dataset": dataset,
        "protocol": protocol,
        "seed": seed,
        "limit": limit,
    }
    if llm is not None:
        parts["llm"] = llm
    return digest({"identity": IDENTITY_VERSION, **parts, "depth": depth})


def prompts_digest(prompts: tuple[str, ...] | None) -> str | None:
    """SHA-256 over the rendered prompts in order, each as its UTF-8 length (little-endian int64) and its bytes."""
    if prompts is None:
        return None
    total = hashlib.sha256()
    for prompt in prompts:
        coded = prompt.encode()
        total.update(len(coded).to_bytes(8, "little") + coded)
    return total.hexdigest()


def targets_digest(examples: Examples) -> str:
    """SHA-256 over users, targets, windows and rules as little-endian integers: equal where the questions are equal.

    The order of arrays is users, target offsets, target items, window, rule, polarity, allowed (its shape, then one byte
    a cell). Prompts are not in it, so that conditions which differ in words alone can be compared; but where no example has a
    target, the words are all that is asked, and are added.
    """
    targets, intent = examples.targets, examples.targets.intent
    arrays: tuple[npt.NDArray[Any], ...] = (
        examples.requests.users,
        targets.items.offsets,
        targets.items.values,
        targets.window,
        intent.rule,
        intent.polarity,
        np.array(intent.allowed.shape),
    )
    total = hashlib.sha256()
    for array in arrays:
        total.update(len(array).to_bytes(8, "little") + np.asarray(array).astype("<i8").tobytes())
    total.update(np.ascontiguousarray(intent.allowed, np.uint8).tobytes())
    if not len(targets.items.values):
        total.update((prompts_digest(examples.requests.prompts) or "").encode())
    return total.hexdigest()

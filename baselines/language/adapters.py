"""What was trained on top of a base model, as safetensors with a record of the base and the catalogue it belongs to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from bench.atomic import atomic_path
from bench.errors import InputError

ADAPTER = "adapter.safetensors"


def trained_state(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The weights of a module that are trained, by name."""
    return {name: weights.detach() for name, weights in module.named_parameters() if weights.requires_grad}


def load_trained(module: torch.nn.Module, state: dict[str, torch.Tensor], what: str) -> None:
    """Put weights of `trained_state` back.

    Raises:
        InputError: they are not those of this module.
    """
    own = trained_state(module)
    if {name: weights.shape for name, weights in own.items()} != {
        name: weights.shape for name, weights in state.items()
    }:
        odd = sorted(set(own) ^ set(state)) or [name for name in own if own[name].shape != state[name].shape]
        raise InputError(f"{what} does not fit the model: {odd[0]} differs, with {len(odd) - 1} others.")
    with torch.no_grad():
        for name, weights in own.items():
            weights.copy_(state[name])


def save_adapter(
    trained: torch.nn.Module | dict[str, torch.Tensor],
    directory: Path,
    *,
    base: str,
    catalogue: str,
    name: str = ADAPTER,
    **about: Any,
) -> None:
    """Write trained weights to `directory/name`.

    Args:
        trained: a PEFT model or a module of our own, of which frozen weights are left out; or what `trained_state` gave.
        directory: folder.
        base: identity of the base model.
        catalogue: fingerprint of the dataset.
        name: of the file.
        about: further entries of the record, plain values.
    """
    record = {"base": base, "catalogue": catalogue, **about}
    found = trained_state(trained) if isinstance(trained, torch.nn.Module) else trained
    state = {key: weights.cpu().contiguous() for key, weights in found.items()}
    with atomic_path(directory / name) as temporary:
        save_file(state, temporary, {"record": json.dumps(record)})


def load_adapter(
    module: torch.nn.Module, directory: Path, *, base: str, catalogue: str | None, name: str = ADAPTER
) -> dict[str, Any]:
    """Read what `save_adapter` wrote into a module of the same shape; returns the record.

    Args:
        module: as it was when it was saved.
        directory: folder.
        base: identity of the base model that it is laid over.
        catalogue: fingerprint of the dataset that it is to serve; None takes any.
        name: of the file.

    Raises:
        InputError: there is none, it is damaged, or belongs to another base model or catalogue.
    """
    path = directory / name
    record = read_record(path)
    if record["base"] != base:
        raise InputError(f"{path} was trained on the base model {record['base']}, not on {base}: train it again.")
    if catalogue is not None and record["catalogue"] != catalogue:
        raise InputError(
            f"{path} was trained on another catalogue (fingerprint {record['catalogue'][:12]}, this one is {catalogue[:12]}): "
            "its titles are not these; train it on this dataset."
        )
    with safe_open(path, "pt") as file:
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
    load_trained(module, state, str(path))
    return record


def read_record(path: Path) -> dict[str, Any]:
    """The record of an adapter's file.

    Raises:
        InputError: there is no such file, or it is none.
    """
    if not path.is_file():
        raise InputError(f"there is no adapter {path}.")
    try:
        with safe_open(path, "pt") as file:
            record: dict[str, Any] = json.loads((file.metadata() or {})["record"])
        record["base"], record["catalogue"]
    except (SafetensorError, KeyError, ValueError):
        raise InputError(f"{path} is no adapter of this project, or it is damaged.") from None
    return record

"""What a system is called where several of one model stand together: the model, and the settings that somebody chose."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from pydantic import ValidationError

from bench import registry
from bench.errors import CheckError, InputError
from bench.identity import canonical_json


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings within settings by the names that `--set` takes: `{"backbone": {"dim": 32}}` is `{"backbone.dim": 32}`."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def usual_settings(model: str, dataset: str | None = None) -> dict[str, Any]:
    """A model's settings where nobody sets any, flat: its defaults, and the dataset's own where one is named.

    Nothing where a package is not installed here, or the model cannot do without a choice.
    """
    with suppress(InputError, CheckError, ValidationError):
        found = registry.get("models", model).Settings
        suited = {} if dataset is None else registry.get("datasets", dataset).card.model_settings
        return flatten(found.parse(model, found.fitting(suited)).model_dump(mode="json"))
    return {}


def system_name(model: str, settings: dict[str, Any], dataset: str) -> str:
    """A model with those of its settings that a person gave, such as `dpr_sas prompt=mismatched backbone.dim=32`.

    Settings that are the class's defaults, or the dataset's own for such a model, are nobody's choice.
    """
    known = usual_settings(model, dataset)
    own = {
        name: value
        for name, value in flatten(settings).items()
        if name in known and canonical_json(value) != canonical_json(known[name])
    }
    return " ".join([model, *(f"{name}={_said(value)}" for name, value in own.items())])


def _said(value: Any) -> Any:
    """A value as somebody would write it: 1, not 1.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value

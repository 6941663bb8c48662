"""Fits or loads what the demo shows, exactly as a run would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import registry, scoring
from bench.contracts import Progress, Recommender
from bench.demo.conversation import Conversation, Desk
from bench.errors import InputError
from bench.runs import MODELS
from bench.store import Store, resolve_device

WARM_UP = ("something funny", "but not romantic")
DEFAULT_MODELS = ("sasrec", "filter_sas_parsed", "dpr_sas")


def open_desk(
    dataset: str,
    data_dir: Path | None,
    models: Sequence[str],
    out: Path,
    progress: Progress,
    seed: int = 0,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> Desk:
    """Load the data and the models; a model that is not in `out` yet is trained, as `bench run` would train it.

    Args:
        dataset: a registered dataset.
        data_dir: folder with its files, where they are not in the default place.
        models: registered models; the first is what the others are compared with and must hear no words.
        out: folder of results; fitted models lie in `out/models`.
        progress: told what is loaded and trained.
        seed: of the training.
        settings: model to settings that are not at their defaults.

    Raises:
        InputError: an unknown name or setting, the first model hears words, or one needs an oracle or a language model.
        CheckError: training failed, or a checkpoint is damaged.
    """
    cards = {name: registry.get("models", name).card for name in models}
    for name, card in cards.items():
        if card.information == "oracle" or "llm" in card.needs:
            told = "the task's own label" if card.information == "oracle" else "a language model"
            raise InputError(f"model {name!r} needs {told}, which the demo has not: choose another.")
    if not cards or cards[models[0]].information != "none":
        raise InputError(
            "the first --model is what the others are compared with: one that hears no words, such as sasrec."
        )
    suited = registry.get("datasets", dataset).card.model_settings
    data = scoring.load_dataset(dataset, data_dir, progress)
    store, device = Store(out / MODELS), resolve_device("cpu")
    fitted: dict[str, Recommender] = {}
    for name in models:
        known = registry.get("models", name).Settings
        values = known.fitting(suited) | dict((settings or {}).get(name, {}))
        fitted[name], _ = store.fitted(name, data, values, seed, device, progress)
    desk = Desk(data, fitted)
    # Encoders and routers load at the first words they read; nobody should wait for that with a request of their own.
    desk.answer(Conversation((0,), WARM_UP))
    return desk

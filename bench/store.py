"""Fitted models on disk, found by what went into them: trained once, shared by every run and by models built on them.

`ROOT/NAME-KEY/` is a complete checkpoint: it appears by one rename, with its marker `model.json` in it.
`ROOT/NAME-KEY.partial/` is the scratch folder of a fit under way; it outlives a kill, so the fit can go on.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from bench import parallel, registry
from bench.atomic import atomic_write, sync_directory, sync_file
from bench.cards import Settings
from bench.contracts import Dataset, FitContext, Progress, Recommender
from bench.errors import CheckError, InputError
from bench.identity import digest
from bench.locks import file_lock
from bench.precision import Precision, resolve_precision
from bench.progress import RichProgress

MARKER = "model.json"


class BuiltOn(BaseModel):
    """A fitted model that another one was built on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    version: int
    key: str


class Checkpoint(BaseModel):
    """The marker of a complete checkpoint: what went into it, and the SHA-256 of its files.

    `fit_seconds` is without the time of the models that it is built on, whether they were trained or there already.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: int = 1
    name: str
    version: int
    settings: dict[str, Any]
    dataset: str
    dataset_fingerprint: str
    seed: int
    key: str
    built_on: list[BuiltOn] = []
    fit_seconds: float
    # None in checkpoints of a time when it was not kept: they are fp32.
    precision: Precision | None = None
    files: dict[str, str]


@dataclass(frozen=True)
class Wanted:
    """One fitted model that somebody asks for."""

    name: str
    model: type[Any]
    settings: Settings
    dataset: Dataset
    seed: int
    device: str

    @property
    def trained_settings(self) -> dict[str, Any]:
        """The settings that change what is learned: all but the class's `serving_settings`."""
        serving: frozenset[str] = getattr(self.model, "serving_settings", frozenset())
        return {key: value for key, value in self.settings.model_dump(mode="json").items() if key not in serving}

    @property
    def key(self) -> str:
        """Name and hash of all that changes what is learned; the folder's name."""
        material = {
            "name": self.name,
            "version": self.model.card.version,
            "settings": self.trained_settings,
            "dataset": self.dataset.fingerprint,
            "seed": self.seed,
        }
        return f"{self.name}-{digest(material)[:16]}"


@dataclass
class Context:
    """What a model gets for its fit (`contracts.FitContext`)."""

    seed: int
    device: str
    progress: Progress
    scratch_folder: Path
    store: Store
    precision: Precision
    refit: bool = False
    built_on: list[BuiltOn] = field(default_factory=list)
    seconds_of_others: float = 0.0

    @property
    def scratch(self) -> Path:
        """Folder for epoch checkpoints; the same for the same fit."""
        self.scratch_folder.mkdir(parents=True, exist_ok=True)
        return self.scratch_folder

    def fitted(self, name: str, dataset: Dataset, settings: dict[str, Any]) -> Recommender:
        """Another model, fitted with the same seed on the same data; shared through the store."""
        began = time.perf_counter()
        model, checkpoint = self.store.fitted(
            name, dataset, settings, self.seed, self.device, self.progress, refit=self.refit
        )
        self.seconds_of_others += time.perf_counter() - began
        self.built_on.append(BuiltOn(name=name, version=checkpoint.version, key=checkpoint.key))
        return model


class Store:
    """The folder of fitted models."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._fitting: list[str] = []
        self._refitted: set[str] = set()

    def fitted(
        self,
        name: str,
        dataset: Dataset,
        settings: dict[str, Any],
        seed: int,
        device: str,
        progress: Progress,
        refit: bool = False,
    ) -> tuple[Recommender, Checkpoint]:
        """A fitted model: loaded where it exists, trained and kept where not. What is returned is what lies on disk.

        Args:
            name: a registered model.
            dataset: the data; the model is fitted on its training view.
            settings: the model's own settings; others are at their defaults.
            seed: seed of the training.
            device: "cpu" or "cuda".
            progress: told of training and of waiting for another process that trains the same model.
            refit: train again, and the models it is built on as well (each once in the life of this store).

        Raises:
            InputError: an unknown model or setting.
            CheckError: training failed, or the checkpoint is damaged.
        """
        model = registry.get("models", name)
        wanted = Wanted(name, model, model.Settings.parse(name, settings), dataset, seed, device)
        key = wanted.key
        if key in self._fitting:
            raise CheckError(f"model {name!r} is built on itself: {' -> '.join([*self._fitting, key])}.")

        def waiting() -> None:
            progress.note(f"waiting for another process that trains {key}")

        self._fitting.append(key)
        try:
            if parallel.rank():
                return self._load(wanted, checkpoint := self._lend_hands(wanted, progress, refit)), checkpoint
            with file_lock(self.root / ".locks" / key, waiting=waiting):
                if refit and key not in self._refitted:
                    shutil.rmtree(self.root / key, ignore_errors=True)
                    shutil.rmtree(self.root / f"{key}.partial", ignore_errors=True)
                    self._refitted.add(key)
                found = self._usable(wanted, progress)
                parallel.agree(found is None)
                checkpoint = parallel.agree(found or self._fit(wanted, progress, refit))
        finally:
            self._fitting.pop()
            # Training that stops early leaves its bar unfilled; take it away before the next step opens one.
            if not self._fitting and isinstance(progress, RichProgress):
                progress.close()
        return self._load(wanted, checkpoint), checkpoint

    def context(self, wanted: Wanted, progress: Progress, refit: bool = False) -> Context:
        """What to hand to `fit` of the wanted model."""
        scratch, precision = self.root / f"{wanted.key}.partial", resolve_precision(wanted.device)
        return Context(wanted.seed, wanted.device, progress, scratch, self, precision, refit)

    def _usable(self, wanted: Wanted, progress: Progress) -> Checkpoint | None:
        """The complete checkpoint, or None where there is none or what it was built on has a newer version by now."""
        folder = self.root / wanted.key
        if not (folder / MARKER).is_file():
            return None
        try:
            checkpoint = Checkpoint.model_validate_json((folder / MARKER).read_bytes())
        except (OSError, ValidationError):
            raise _damaged(folder, f"{MARKER} is not readable") from None
        for part in checkpoint.built_on:
            version = registry.get("models", part.name).card.version
            if version != part.version:
                progress.note(
                    f"{wanted.key} is built on {part.name} version {part.version}, now {version}: training again"
                )
                shutil.rmtree(folder)
                return None
        return checkpoint

    def _fit(self, wanted: Wanted, progress: Progress, refit: bool) -> Checkpoint:
        context: FitContext = (own := self.context(wanted, progress, refit))
        model = wanted.model(wanted.settings, device=wanted.device)
        progress.note(f"fitting {wanted.name} on {wanted.dataset.name} (seed {wanted.seed})")
        began = time.perf_counter()
        try:
            model.fit(wanted.dataset.for_training(), context)
            return self._keep(wanted, model, own, time.perf_counter() - began - own.seconds_of_others)
        except (InputError, CheckError):
            raise
        except Exception as error:
            raise CheckError(
                f"training {wanted.name} failed: {type(error).__name__}: {(str(error) or 'no message').splitlines()[0]}"
            ) from error

    def _lend_hands(self, wanted: Wanted, progress: Progress, refit: bool) -> Checkpoint:
        """What the other processes of a launcher do: train along with rank 0 where it trains, and keep nothing of it."""
        if parallel.agree(False):
            model = wanted.model(wanted.settings, device=wanted.device)
            model.fit(wanted.dataset.for_training(), self.context(wanted, progress, refit))
        return parallel.agree(cast(Checkpoint, None))

    def _keep(self, wanted: Wanted, model: Recommender, context: Context, seconds: float) -> Checkpoint:
        """Save beside the final place, put everything on the disk, then rename: a checkpoint is whole or absent."""
        folder, saving = self.root / wanted.key, self.root / f"{wanted.key}.saving"
        shutil.rmtree(saving, ignore_errors=True)
        saving.mkdir(parents=True)
        model.save(saving)
        for path in _files(saving):
            sync_file(path)
        checkpoint = Checkpoint(
            name=wanted.name,
            version=wanted.model.card.version,
            settings=wanted.trained_settings,
            dataset=wanted.dataset.name,
            dataset_fingerprint=wanted.dataset.fingerprint,
            seed=wanted.seed,
            key=wanted.key,
            built_on=context.built_on,
            fit_seconds=round(seconds, 3),
            precision=context.precision,
            files={path.relative_to(saving).as_posix(): sha256_of(path) for path in _files(saving)},
        )
        atomic_write(saving / MARKER, checkpoint.model_dump_json(indent=2) + "\n")
        shutil.rmtree(folder, ignore_errors=True)
        saving.rename(folder)
        sync_directory(self.root)
        shutil.rmtree(context.scratch_folder, ignore_errors=True)
        return checkpoint

    def _load(self, wanted: Wanted, checkpoint: Checkpoint) -> Recommender:
        folder = self.root / wanted.key
        for name, expected in checkpoint.files.items():
            if not (folder / name).is_file():
                raise _damaged(folder, f"{name} is missing")
            if sha256_of(folder / name) != expected:
                raise _damaged(folder, f"{name} has changed since it was saved")
        try:
            model: Recommender = wanted.model.load(folder, wanted.settings, wanted.device)
        except InputError:
            raise
        except Exception as error:
            raise _damaged(folder, f"{type(error).__name__}: {(str(error) or 'no message').splitlines()[0]}") from error
        return model


def resolve_device(device: str) -> str:
    """The device meant by "auto", "cpu" or "cuda", without loading torch where the machine shows no sign of a GPU.

    Raises:
        InputError: "cuda" was asked for and torch sees none.
    """
    if device == "cpu":
        return "cpu"
    signs = ("/dev/nvidiactl", "/dev/dxg", "/proc/driver/nvidia", "/dev/kfd")
    if device == "auto" and os.name == "posix" and not any(Path(sign).exists() for sign in signs):
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if device == "cuda":
        raise InputError("--device cuda: torch sees no GPU here; use --device cpu, or auto.")
    return "cpu"


def _damaged(folder: Path, what: str) -> CheckError:
    return CheckError(f"the checkpoint {folder} does not load ({what}): train it again with --refit.")


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

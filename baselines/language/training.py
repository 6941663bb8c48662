"""Training of everything that stands on a language model: transformers' Trainer, as this harness needs it.

A checkpoint is an epoch's end. What happens in epoch e hangs on the seed and e alone (order of the data, `set_epoch`) and on
random states that lie in the checkpoint (dropout), so a training that was killed goes on with the same losses as one that was not.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import EarlyStoppingCallback, PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from baselines.language.adapters import load_trained, trained_state
from baselines.language.extras import require
from baselines.language.settings import TrainingSettings
from baselines.training import seeded
from bench import parallel
from bench.contracts import FitContext
from bench.errors import InputError
from bench.rng import named_generator

EVENTS = "tensorboard"
WEIGHTS, WHOLE = "trained.safetensors", "complete"
# Batches among which examples of like length are put together: enough to spare padding, few enough to stay shuffled.
MIXED = 32


def train(
    name: str,
    module: torch.nn.Module,
    *,
    data: Any,
    collate: Callable[[list[Any]], dict[str, Any]],
    settings: TrainingSettings,
    context: FitContext,
    validation: Any = None,
    evaluate: Callable[[], float] | None = None,
    groups: list[dict[str, Any]] | None = None,
    figures: Callable[[], dict[str, float]] | None = None,
) -> list[dict[str, float]]:
    """Train the weights of `module` that require gradients; leaves those of the best epoch in it.

    Args:
        name: of the training: its checkpoints, random streams, progress bar and TensorBoard log.
        module: `module(**batch)` is a scalar loss, a mean over the examples of the batch, or has it as `.loss`.
        data: map-style dataset. Where it has `set_epoch(epoch)` that is called before each epoch, and where it has `lengths`,
            int [len(data)], examples of like length share a batch.
        collate: examples to the batch.
        settings: how to train.
        context: seed, device, progress and the scratch folder for checkpoints.
        validation: further examples; the best epoch is the one with the least loss on them.
        evaluate: in place of that, a value to maximise, called without gradients in evaluation mode.
        groups: parameter groups for AdamW; a group's `lr` is relative to the schedule (1 is the full rate).
        figures: more to be logged wherever there is a validation value, by name.

    Returns:
        A record an epoch: epoch, step, loss, learning_rate, and validation and figures where there are any.

    Raises:
        InputError: the batch cannot be divided among the processes, or accelerate or tensorboard are not installed.
        FloatingPointError: the loss is no number any more.
    """
    require("accelerate", "tensorboard")
    arguments = _arguments(name, settings, context, len(data), validated=validation is not None or evaluate is not None)
    if parallel.world() > 1:
        context.progress.note(f"{name}: trained by {parallel.world()} processes")
    value = evaluate
    if value is None and validation is not None:
        value = lambda: -mean_loss(module, validation, collate, arguments)  # noqa: E731
    with seeded(context.seed, name, device=context.device):
        trainer = _Trainer(name, module, arguments, data, collate, settings, context, value, figures, groups)
        resumed = _last_whole(Path(arguments.output_dir))
        if resumed is not None:
            context.progress.note(f"{name}: going on from {resumed.name}")
        trainer.train(resume_from_checkpoint=None if resumed is None else str(resumed))
    module.eval()
    return _by_epoch(trainer.state.log_history)


def mean_loss(
    module: torch.nn.Module, data: Any, collate: Callable[[list[Any]], dict[str, Any]], arguments: Any
) -> float:
    """Mean loss over the examples of `data`, in their order."""
    total, size = 0.0, arguments.per_device_train_batch_size
    for start in range(0, len(data), size):
        rows = range(start, min(start + size, len(data)))
        batch = {key: _to(value, arguments.device) for key, value in collate([data[row] for row in rows]).items()}
        total += float(_loss_of(module(**batch))) * len(rows)
    return total / max(len(data), 1)


def keep_events(scratch: Path, directory: Path) -> None:
    """Copy the TensorBoard logs of all trainings of a fit beside the model; where there are none, nothing."""
    if (scratch / EVENTS).is_dir():
        shutil.copytree(scratch / EVENTS, directory / EVENTS, dirs_exist_ok=True)


class _Trainer(Trainer):
    """Trains the weights with gradients only, keeps only those, and validates by a value of our own."""

    def __init__(
        self,
        name: str,
        module: torch.nn.Module,
        arguments: TrainingArguments,
        data: Any,
        collate: Callable[[list[Any]], dict[str, Any]],
        settings: TrainingSettings,
        context: FitContext,
        value: Callable[[], float] | None,
        figures: Callable[[], dict[str, float]] | None,
        groups: list[dict[str, Any]] | None,
    ) -> None:
        self._value, self._figures = value, figures or (lambda: {})
        self._order = _Order(data, name, context.seed, settings.batch_size)
        watchers: list[TrainerCallback] = [_Watch(name, context, self._order)]
        if value is not None:
            watchers.append(EarlyStoppingCallback(settings.patience))
        super().__init__(
            module,
            arguments,
            data_collator=collate,
            train_dataset=data,
            eval_dataset=data if value is not None else None,
            callbacks=watchers,
            optimizers=(_optimizer(module, settings, groups), None),
        )
        # Our losses are means of a batch, whatever the signature of `forward` looks like.
        self.model_accepts_loss_kwargs = False
        self.remove_callback(PrinterCallback)

    def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, **_: Any) -> Any:
        """The loss of a batch."""
        return _loss_of(model(**inputs))

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """The validation value, found by rank 0 for all."""
        assert self._value is not None
        self.model.eval()
        with torch.no_grad(), self.accelerator.autocast():
            value = parallel.agree(0.0 if parallel.rank() else float(self._value()))
        metrics = {"eval_value": value} | {f"eval_{name}": figure for name, figure in self._figures().items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return self._order

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        save_file({key: value.contiguous() for key, value in trained_state(self.model).items()}, folder / WEIGHTS)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        path = Path(resume_from_checkpoint) / WEIGHTS
        load_trained(self.model, load_file(path), str(path))

    def _load_best_model(self) -> None:
        assert self.state.best_model_checkpoint is not None
        self._load_from_checkpoint(self.state.best_model_checkpoint)


class _Order(torch.utils.data.Sampler[int]):
    """The order of an epoch's examples: shuffled, and in batches of like length where lengths are known."""

    def __init__(self, data: Any, name: str, seed: int, batch: int) -> None:
        self.data, self.epoch = data, 0
        self._name, self._seed, self._batch = name, seed, batch

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[int]:
        rng = named_generator(self._seed, self._name, f"order {self.epoch}")
        order = rng.permutation(len(self.data))
        lengths = getattr(self.data, "lengths", None)
        if lengths is not None:
            lengths, pool = np.asarray(lengths), self._batch * MIXED
            pools = [order[start : start + pool] for start in range(0, len(order), pool)]
            order = np.concatenate([rows[np.argsort(-lengths[rows], kind="stable")] for rows in pools])
            batches = [order[start : start + self._batch] for start in range(0, len(order), self._batch)]
            # The last one may be short, and stays last.
            whole = rng.permutation(len(batches) - 1)
            order = np.concatenate([*(batches[place] for place in whole), batches[-1]])
        return iter(order.tolist())


class _Watch(TrainerCallback):
    """Tells of progress, sets the epoch, writes the TensorBoard log, marks whole checkpoints, and stops at a loss that is no number."""

    def __init__(self, name: str, context: FitContext, order: _Order) -> None:
        self._name, self._context, self._order = name, context, order
        self._advance: Callable[[int], None] = lambda steps: None
        self._writer: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._advance = self._context.progress.track(self._name, state.max_steps, state.global_step)
        if parallel.rank() == 0:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(
                str(self._context.scratch / EVENTS / self._name.replace(" ", "-")), purge_step=state.global_step + 1
            )

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._order.epoch = round(state.epoch or 0)
        if hasattr(self._order.data, "set_epoch"):
            self._order.data.set_epoch(self._order.epoch)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._advance(1)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        if not math.isfinite((logs or {}).get("loss", 0.0)):
            raise FloatingPointError(
                f"{self._name}: the loss is {(logs or {})['loss']} at step {state.global_step}; lower the learning rate."
            )
        if self._writer is not None:
            for key, value in (logs or {}).items():
                self._writer.add_scalar(f"{self._name}/{key.removeprefix('eval_')}", value, state.global_step)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if parallel.rank() == 0:
            (Path(args.output_dir) / f"checkpoint-{state.global_step}" / WHOLE).touch()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._advance(state.max_steps - state.global_step)
        if self._writer is not None:
            self._writer.close()


def _arguments(
    name: str, settings: TrainingSettings, context: FitContext, examples: int, *, validated: bool
) -> TrainingArguments:
    parts = parallel.world() * settings.accumulate
    if settings.batch_size % parts:
        raise InputError(
            f"{name}: batch_size={settings.batch_size} cannot be divided into accumulate={settings.accumulate} parts "
            f"for {parallel.world()} processes."
        )
    precision = _precision(settings.precision, context.device)
    updates = math.ceil(examples / settings.batch_size) * settings.epochs
    warmup = settings.warmup if settings.warmup >= 1 else math.ceil(settings.warmup * updates)
    arguments = TrainingArguments(
        output_dir=str(context.scratch / name.replace(" ", "-")),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size // parts,
        gradient_accumulation_steps=settings.accumulate,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.schedule if settings.schedule != "constant" else "constant_with_warmup",
        lr_scheduler_kwargs={"power": 2.0, "lr_end": 0.0} if settings.schedule == "polynomial" else None,
        # A polynomial schedule that is all warm-up divides by zero.
        warmup_steps=min(int(warmup), updates - 1),
        max_grad_norm=settings.clip,
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        seed=int(named_generator(context.seed, name, "dropout").integers(2**31)),
        use_cpu=not context.device.startswith("cuda"),
        logging_strategy="epoch",
        logging_nan_inf_filter=False,
        save_strategy="epoch",
        save_total_limit=2,
        eval_strategy="epoch" if validated else "no",
        load_best_model_at_end=validated,
        metric_for_best_model="value" if validated else None,
        greater_is_better=True if validated else None,
        restore_callback_states_from_checkpoint=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        ddp_find_unused_parameters=False,
        ddp_timeout=int(parallel.PATIENCE.total_seconds()),
        disable_tqdm=True,
        log_level="error",
        report_to="none",
    )
    # One process, one device: transformers would spread a process's batch over all GPUs that it sees.
    arguments._n_gpu = min(arguments._n_gpu, 1)
    return arguments


def _precision(asked: str, device: str) -> str:
    if not device.startswith("cuda"):
        if asked == "fp16":
            raise InputError("precision=fp16 is for GPUs: use bf16 or no.")
        return "no" if asked == "auto" else asked
    if asked == "auto":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    return asked


def _optimizer(
    module: torch.nn.Module, settings: TrainingSettings, groups: list[dict[str, Any]] | None
) -> torch.optim.Optimizer:
    groups = groups or [{"params": [weights for weights in module.parameters() if weights.requires_grad]}]
    rated = [group | {"lr": settings.learning_rate * group.get("lr", 1.0)} for group in groups]
    return torch.optim.AdamW(rated, lr=settings.learning_rate, weight_decay=settings.weight_decay)


def _last_whole(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end, the same for all processes; others are taken away."""
    if parallel.rank() == 0 and folder.is_dir():
        for path in folder.glob("checkpoint-*"):
            if not (path / WHOLE).is_file():
                shutil.rmtree(path)
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    return parallel.agree(found[-1] if found else None)


def _by_epoch(history: list[dict[str, float]]) -> list[dict[str, float]]:
    records: dict[int, dict[str, float]] = {}
    for line in history:
        record = records.setdefault(round(line["epoch"]), {"epoch": round(line["epoch"]), "step": line["step"]})
        record |= {key: line[key] for key in ("loss", "learning_rate") if key in line}
        found = {key.removeprefix("eval_"): value for key, value in line.items() if key.startswith("eval_")}
        record |= {"validation" if key == "value" else key: value for key, value in found.items()}
    return [record for record in records.values() if "loss" in record]


def _loss_of(out: Any) -> torch.Tensor:
    loss: torch.Tensor = out if isinstance(out, torch.Tensor) else out.loss
    return loss


def _to(value: Any, device: Any) -> Any:
    return value.to(device) if isinstance(value, torch.Tensor) else value

"""MiniLM with low-rank adapters that tells a wish from a refusal (torch; import inside functions only).

The sentence vectors of a frozen encoder are mostly about topics and hold little of negation and irony. So the upper layers
get low-rank updates (LoRA, Hu et al. 2022, arXiv:2106.09685), trained on the router's pool; the mean of the last hidden
states goes through one linear output. Only the updates are stored, some hundred kilobytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from baselines.encoders import packaged_minilm
from bench.atomic import atomic_path
from bench.contracts import Floats, Progress
from bench.rng import named_generator
from bench.text_batches import BATCH, encoded_batches

RANK = 8
SCALE = 2.0
FROZEN_LAYERS = 2
MAX_TOKENS = 128
LABEL_SMOOTHING = 0.02

_ADAPTED = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)


class LowRank(nn.Module):
    """A frozen linear layer W plus a trained update of rank r: y = Wx + s B A x, with A [r, in] and B [out, r]."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear
        width = linear.in_features
        self.a = nn.Parameter(torch.randn(RANK, width) / width**0.5)
        self.b = nn.Parameter(torch.zeros(linear.out_features, RANK))

    def forward(self, states: Tensor) -> Tensor:
        """The layer's output, [..., out]."""
        output: Tensor = self.linear(states) + SCALE * (states @ self.a.T) @ self.b.T
        return output


class MembersLinear(nn.Module):
    """A frozen linear layer with the updates of M models at once: the m-th M-th of the rows goes through W + s B_m A_m.

    W is read once for all of them, which is most of what a single short prompt costs.

    Args:
        linear: the frozen layer.
        updates: A [r, in] and B [out, r] of each model.
    """

    def __init__(self, linear: nn.Linear, updates: list[tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.linear = linear
        self.a = torch.stack([SCALE * a.float().T for a, _ in updates])
        self.b = torch.stack([b.float().T for _, b in updates])

    def forward(self, states: Tensor) -> Tensor:
        """The layer's output, [M B, T, out], of states [M B, T, in]."""
        output: Tensor = self.linear(states)
        update = states.reshape(len(self.a), -1, states.shape[-1]) @ self.a @ self.b
        return output + update.view_as(output)


class PolarityModels:
    """Scores prompts with the adapted encoder: above zero for a wish, below for a refusal.

    M models trained from different seeds read a prompt in one pass; their log-odds are averaged, which evens out what each got
    by chance.

    Args:
        members: the tensors of each, as `fit_adapter` returns them.
    """

    def __init__(self, members: list[dict[str, Tensor]]) -> None:
        self._tokenizer, self._model = packaged_minilm()
        for index in range(FROZEN_LAYERS, len(self._model.encoder.layer)):
            for name in _ADAPTED:
                at = f"{index}.{name}"
                updates = [(member[f"{at}.a"], member[f"{at}.b"]) for member in members]
                _replace(self._model.encoder.layer[index], name, lambda linear, own=updates: MembersLinear(linear, own))
        self._weight = torch.stack([member["head.weight"].float()[0] for member in members])
        self._bias = torch.stack([member["head.bias"].float() for member in members])

    @classmethod
    def load(cls, path: Path) -> PolarityModels:
        """The models whose updates are in a safetensors file, each under its own prefix."""
        from safetensors.torch import load_file

        members: dict[str, dict[str, Tensor]] = {}
        for key, value in load_file(path).items():
            member, _, name = key.partition("/")
            members.setdefault(member, {})[name] = value
        return cls([members[member] for member in sorted(members)])

    def logits(self, prompts: list[str], progress: Progress | None = None) -> Floats:
        """Mean log-odds of a wish before calibration, float32 [B]; words past 128 tokens are not read."""
        out = np.empty(len(prompts), np.float32)
        for rows, values in encoded_batches(prompts, self._batch, progress):
            out[rows] = values
        return out

    def _batch(self, prompts: list[str]) -> Floats:
        count = len(self._weight)
        with torch.inference_mode():
            states, mask = _lower(self._tokenizer, self._model, prompts)
            mask = mask.repeat(count, 1)
            states = _through(self._model.encoder.layer[FROZEN_LAYERS:], states.repeat(count, 1, 1), mask)
            pooled = _mean(states, mask).view(count, len(prompts), -1)
            values: Floats = ((pooled @ self._weight[:, :, None])[:, :, 0] + self._bias).mean(0).numpy()
        return values


def fit_adapter(
    prompts: list[str],
    polarity: npt.NDArray[np.int8],
    *,
    seed: int = 0,
    epochs: int = 2,
    learning_rate: float = 2e-3,
    progress: Progress | None = None,
) -> dict[str, Tensor]:
    """Train the updates: binary cross-entropy, AdamW, linear decay. Takes some minutes on one core.

    Args:
        prompts: training prompts.
        polarity: +1 or -1, int8 [len(prompts)].
        seed: of the initial updates and the order of batches.
        epochs: passes over the prompts.
        learning_rate: its peak.
        progress: shown a step a batch.

    Returns:
        Tensors for `PolarityModel`, in half precision.
    """
    tokenizer, model = packaged_minilm()
    batches = list(_frozen_states(tokenizer, model, prompts))
    # Dropout draws from torch's global state, which is put back afterwards.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        upper, head = _with_updates(model), nn.Linear(model.config.hidden_size, 1)
        upper.train()
        trained = [value for value in [*upper.parameters(), *head.parameters()] if value.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=learning_rate, weight_decay=0.01)
        steps = epochs * len(batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min(1, (step + 1) / 20) * (1 - step / steps)
        )
        wanted = torch.from_numpy((polarity > 0).astype(np.float32)) * (1 - 2 * LABEL_SMOOTHING) + LABEL_SMOOTHING
        # The sides weigh the same whatever their number of patterns.
        balance = torch.tensor(float((polarity < 0).sum() / max(1, (polarity > 0).sum())))
        order = named_generator(seed, "router", "batches")
        advance = progress.track("training the router", steps) if progress is not None else None
        for _ in range(epochs):
            for place in order.permutation(len(batches)):
                rows, states, mask = batches[place]
                logits = head(_mean(_through(upper, states.float(), mask), mask))[:, 0]
                loss = nn.functional.binary_cross_entropy_with_logits(logits, wanted[rows], pos_weight=balance)
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(trained, 1.0)
                optimizer.step()
                schedule.step()
                if advance is not None:
                    advance(1)
    return _updates(upper, head)


def save_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Write the updates as safetensors; the file is there whole or not at all."""
    from safetensors.torch import save_file

    with atomic_path(path) as temporary:
        save_file(tensors, temporary)


def _lower(tokenizer: Any, model: Any, prompts: list[str]) -> tuple[Tensor, Tensor]:
    """What the untrained lower layers make of prompts, [B, T, d], and which places are tokens, [B, T]."""
    inputs = tokenizer(prompts, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
    mask: Tensor = inputs["attention_mask"]
    return _through(model.encoder.layer[:FROZEN_LAYERS], model.embeddings(input_ids=inputs["input_ids"]), mask), mask


def _mean(states: Tensor, mask: Tensor) -> Tensor:
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1)


def _frozen_states(tokenizer: Any, model: Any, prompts: list[str]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """What the untrained lower layers make of every batch, once: rows, hidden states in half precision, mask."""
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        with torch.no_grad():
            states, mask = _lower(tokenizer, model, [prompts[row] for row in rows])
        yield torch.tensor(rows), states.half(), mask


def _with_updates(model: Any) -> nn.ModuleList:
    for value in model.parameters():
        value.requires_grad_(False)
    upper = model.encoder.layer[FROZEN_LAYERS:]
    for layer in upper:
        for name in _ADAPTED:
            _replace(layer, name, LowRank)
    return upper


def _replace(layer: nn.Module, name: str, made: Callable[[Any], nn.Module]) -> None:
    """Put another module in the place of the named one, made from it."""
    parent, _, leaf = name.rpartition(".")
    setattr(layer.get_submodule(parent), leaf, made(layer.get_submodule(name)))


def _through(layers: nn.ModuleList, states: Tensor, mask: Tensor) -> Tensor:
    hidden = (1.0 - mask[:, None, None, :].float()) * torch.finfo(torch.float32).min
    for layer in layers:
        output = layer(states, hidden)
        states = output[0] if isinstance(output, tuple) else output
    return states


def _updates(upper: nn.ModuleList, head: nn.Linear) -> dict[str, Tensor]:
    tensors = {"head.weight": head.weight.detach().half(), "head.bias": head.bias.detach().half()}
    for index, layer in enumerate(upper):
        for name in _ADAPTED:
            update = layer.get_submodule(name)
            tensors[f"{index + FROZEN_LAYERS}.{name}.a"] = update.a.detach().half().contiguous()
            tensors[f"{index + FROZEN_LAYERS}.{name}.b"] = update.b.detach().half().contiguous()
    return tensors

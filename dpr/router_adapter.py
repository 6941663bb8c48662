"""MiniLM with low-rank adapters that tells a wish from a refusal (torch; import inside functions only).

The sentence vectors of a frozen encoder are mostly about topics and hold little of negation and irony. So the upper layers
get low-rank updates (LoRA, Hu et al. 2022, arXiv:2106.09685), trained on the router's pool; the mean of the last hidden
states goes through one linear output. Only the updates are stored, some hundred kilobytes.
"""

from __future__ import annotations

from collections.abc import Iterator
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


class PolarityModels:
    """Several models trained from different seeds; their log-odds are averaged, which evens out what each got by chance."""

    def __init__(self, members: list[PolarityModel]) -> None:
        self.members = members

    @classmethod
    def load(cls, path: Path) -> PolarityModels:
        """The models whose updates are in a safetensors file, each under its own prefix."""
        from safetensors.torch import load_file

        members: dict[str, dict[str, Tensor]] = {}
        for key, value in load_file(path).items():
            member, _, name = key.partition("/")
            members.setdefault(member, {})[name] = value
        return cls([PolarityModel(members[member]) for member in sorted(members)])

    def logits(self, prompts: list[str], progress: Progress | None = None) -> Floats:
        """Mean log-odds of a wish before calibration, float32 [B]."""
        return np.mean([member.logits(prompts, progress) for member in self.members], axis=0, dtype=np.float32)


class PolarityModel:
    """Scores prompts with the adapted encoder: above zero for a wish, below for a refusal."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        # Each member has an encoder of its own, since updates are added to the weights.
        self._tokenizer, self._model = packaged_minilm()
        layers = self._model.encoder.layer
        for index in range(FROZEN_LAYERS, len(layers)):
            for name in _ADAPTED:
                a, b = tensors[f"{index}.{name}.a"], tensors[f"{index}.{name}.b"]
                with torch.no_grad():
                    layers[index].get_submodule(name).weight += SCALE * b.float() @ a.float()
        self._weight, self._bias = tensors["head.weight"].float(), tensors["head.bias"].float()

    def logits(self, prompts: list[str], progress: Progress | None = None) -> Floats:
        """Log-odds of a wish before calibration, float32 [B]; words past 128 tokens are not read."""
        out = np.empty(len(prompts), np.float32)
        for rows, values in encoded_batches(prompts, self._batch, progress):
            out[rows] = values
        return out

    def _batch(self, prompts: list[str]) -> Floats:
        inputs = _tokens(self._tokenizer, prompts)
        with torch.inference_mode():
            states = self._model(**inputs).last_hidden_state
            pooled = _mean(states, inputs["attention_mask"])
            values: Floats = (pooled @ self._weight.T + self._bias)[:, 0].numpy()
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


def _tokens(tokenizer: Any, prompts: list[str]) -> Any:
    return tokenizer(prompts, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")


def _mean(states: Tensor, mask: Tensor) -> Tensor:
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1)


def _frozen_states(tokenizer: Any, model: Any, prompts: list[str]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """What the untrained lower layers make of every batch, once: rows, hidden states in half precision, mask."""
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        inputs = _tokens(tokenizer, [prompts[row] for row in rows])
        mask = inputs["attention_mask"]
        with torch.no_grad():
            embedded = model.embeddings(input_ids=inputs["input_ids"])
            states = _through(model.encoder.layer[:FROZEN_LAYERS], embedded, mask)
        yield torch.tensor(rows), states.half(), mask


def _with_updates(model: Any) -> nn.ModuleList:
    for value in model.parameters():
        value.requires_grad_(False)
    upper = model.encoder.layer[FROZEN_LAYERS:]
    for layer in upper:
        for name in _ADAPTED:
            parent, _, leaf = name.rpartition(".")
            setattr(layer.get_submodule(parent), leaf, LowRank(layer.get_submodule(name)))
    return upper


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

"""The RL stage: proximal policy optimisation with a reward on every title, through the training module of all contestants.

Written here because no maintained library does it. trl removed its PPO (pull request 7020, version 1.x has no `PPOTrainer`); the
last release with one takes one score a completion from a reward network, while these rewards lie on single newline tokens; its
GRPO and RLOO have no critic and one advantage a completion. So this is the step of the released code (`base/trainer.py`): two
rollouts a prompt, generalised advantages, clipped ratios and values, a KL penalty to the fine-tuned model.

Three things differ from that code. Its value head is in no optimiser; here it is trained. Its reference shares the output layer
that is being trained, so the penalty forgets the layer's change; here the actor trains a copy. Its rollouts are written anew as
clean text before they are learned from; here they are the tokens that were drawn. Rounds are larger, so that they can be kept.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from baselines.language.padding import IGNORED
from baselines.language.training import train
from baselines.reclm.rollouts import Prompts, Rollout, Writer
from baselines.reclm.settings import RLSettings
from baselines.reclm.sft import answer_logits, join, linear_layers
from baselines.training import seeded
from bench import parallel
from bench.atomic import atomic_path
from bench.contracts import FitContext
from bench.rng import named_generator

NAME = "reclm rl"
GAMMA, LAMBDA = 0.99, 1.0
CLIP = 0.2
HELD_OUT = 60
ACTOR, CRITIC = "actor", "critic"
Tensor = torch.Tensor


class ActorCritic(nn.Module):
    """One frozen language model with two adapters: the actor, with an output layer of its own, and the critic with a value head."""

    def __init__(self, model: Any, rank: int, alpha: int) -> None:
        super().__init__()
        from peft import LoraConfig, get_peft_model

        head = model.get_output_embeddings()
        own = [name for name, layer in model.named_modules() if layer is head]
        shared = {
            "r": rank,
            "lora_alpha": alpha,
            "target_modules": linear_layers(model, output=False),
            "task_type": "CAUSAL_LM",
        }
        self.model = get_peft_model(model, LoraConfig(**shared, modules_to_save=own), adapter_name=ACTOR)
        self.model.add_adapter(CRITIC, LoraConfig(**shared))
        self.value_head = nn.Sequential(nn.Linear(model.config.hidden_size, 64), nn.GELU(), nn.Linear(64, 1))
        for layer, gain in ((self.value_head[0], 2**0.5), (self.value_head[2], 1.0)):
            nn.init.orthogonal_(layer.weight, gain)
            nn.init.zeros_(layer.bias)
        self.value_head.to(next(model.parameters()).device)
        self._trained = [
            weights
            for name, weights in self.named_parameters()
            if f".{ACTOR}" in name or f".{CRITIC}" in name or name.startswith("value_head")
        ]
        # Of a base in half precision the trained weights are kept in single: small updates would be rounded away.
        for weights in self._trained:
            weights.data = weights.data.float()
        self.half = torch.autocast(model.device.type, model.dtype, enabled=model.dtype != torch.float32)
        self.use(ACTOR)

    def use(self, adapter: str) -> None:
        """Switch to an adapter; both go on being trained, which peft would stop for the idle one."""
        self.model.set_adapter(adapter)
        for weights in self._trained:
            weights.requires_grad_(True)

    def log_probabilities(self, batch: dict[str, Tensor], *, reference: bool = False) -> tuple[Tensor, Tensor]:
        """Of every written token its log-probability, and the entropy of the choice, [B, A]; of the actor or the fine-tuned model."""
        self.use(ACTOR)
        if reference:
            with self.model.disable_adapter():
                out = answer_logits(self.model, batch["input_ids"], batch["attention_mask"], batch["answers"].shape[1])
        else:
            out = answer_logits(self.model, batch["input_ids"], batch["attention_mask"], batch["answers"].shape[1])
        logs = out.logits.float().log_softmax(-1)
        chosen = logs.gather(-1, batch["answers"].clamp(min=0)[..., None]).squeeze(-1)
        return chosen, -(logs.exp() * logs).sum(-1)

    def values(self, batch: dict[str, Tensor]) -> Tensor:
        """What the critic expects before each written token, [B, A]."""
        self.use(CRITIC)
        length = batch["answers"].shape[1]
        out = answer_logits(self.model, batch["input_ids"], batch["attention_mask"], length, output_hidden_states=True)
        values: Tensor = self.value_head(out.hidden_states[-1][:, -length - 1 : -1].float()).squeeze(-1)
        return values


class PolicyGradient(nn.Module):
    """The loss of PPO: clipped ratios, clipped values, entropy; means over a rollout's tokens, averaged over rollouts."""

    def __init__(self, actor_critic: ActorCritic, value_weight: float, entropy_weight: float) -> None:
        super().__init__()
        self.actor_critic = actor_critic
        self._value_weight, self._entropy_weight = value_weight, entropy_weight

    def forward(
        self, old_logs: Tensor, old_values: Tensor, advantages: Tensor, returns: Tensor, **batch: Tensor
    ) -> Tensor:
        """The loss, a scalar; all arguments are [B, A] beside those of `sft.join`."""
        real = (batch["answers"] != IGNORED).float()
        logs, entropy = self.actor_critic.log_probabilities(batch)
        ratio = (logs - old_logs).exp()
        policy = torch.max(-advantages * ratio, -advantages * ratio.clamp(1 - CLIP, 1 + CLIP))
        values = self.actor_critic.values(batch)
        near = old_values + (values - old_values).clamp(-CLIP, CLIP)
        critic = 0.5 * torch.max((values - returns) ** 2, (near - returns) ** 2)
        loss = policy + self._value_weight * critic - self._entropy_weight * entropy
        return ((loss * real).sum(1) / real.sum(1)).mean()


def advantages_and_returns(rewards: Tensor, values: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimates (Schulman et al. 2016) with rewards scaled and advantages whitened over all tokens, [B, A].

    Args:
        rewards: of every token, the KL penalty in them.
        values: of the critic.
        real: 1 for written tokens, 0 for padding, which is on the right.
    """
    mean = (rewards * real).sum() / real.sum()
    spread = (((rewards - mean) ** 2 * real).sum() / real.sum()).sqrt()
    scaled = rewards / (spread + 1e-8) * real
    running, made = torch.zeros_like(rewards[:, 0]), []
    for at in reversed(range(rewards.shape[1])):
        following = values[:, at + 1] * real[:, at + 1] if at + 1 < rewards.shape[1] else torch.zeros_like(running)
        running = (scaled[:, at] + GAMMA * following - values[:, at] + GAMMA * LAMBDA * running) * real[:, at]
        made.append(running)
    raw = torch.stack(made[::-1], 1)
    mean = (raw * real).sum() / real.sum()
    spread = (((raw - mean) ** 2 * real).sum() / real.sum()).sqrt()
    return (raw - mean) / (spread + 1e-8) * real, (raw + values) * real


class Rounds:
    """The rollouts under way, as a dataset whose epochs are passes over them.

    A round ends after its passes, or sooner where the policy has moved too far from the one that wrote it. The rollouts lie in
    the scratch folder, so that a training which goes on after a kill learns from the same ones.
    """

    def __init__(
        self,
        actor_critic: ActorCritic,
        writer: Writer,
        prompts: Prompts,
        settings: RLSettings,
        seed: int,
        scratch: Path,
    ) -> None:
        self._actor_critic, self._writer, self._prompts, self._settings, self._seed = (
            actor_critic,
            writer,
            prompts,
            settings,
            seed,
        )
        self._path = scratch / "rollouts.safetensors"
        self._record: dict[str, int] = {}
        self._rows: list[dict[str, Tensor]] = []
        self.figures: dict[str, float] = {}

    def __len__(self) -> int:
        return 2 * self._settings.prompts

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return self._rows[index]

    def set_epoch(self, epoch: int) -> None:
        """Go on to another pass, or to another round."""
        if parallel.rank() == 0:
            if not self._rows and self._path.is_file():
                self._read()
            if self._record.get("epoch") != epoch:
                with self._actor_critic.half:
                    self._go_on(epoch)
        parallel.agree(None)
        if parallel.rank():
            self._read()

    def _go_on(self, epoch: int) -> None:
        record = self._record
        # Only what was written for the epoch before can be gone on with: other files are of an older training.
        fresh = not self._rows or record["epoch"] != epoch - 1
        if fresh or record["passes"] >= self._settings.passes or self._moved() > self._settings.stop_kl:
            number = 0 if fresh else record["round"] + 1
            self._rows, self._record = self._new_round(number), {"round": number, "passes": 0}
        self._record |= {"epoch": epoch, "passes": self._record["passes"] + 1}
        self._write()

    def _new_round(self, number: int) -> list[dict[str, Tensor]]:
        asked = self._prompts.of_round(number, self._settings.prompts)
        self._actor_critic.eval()
        self._actor_critic.use(ACTOR)
        seed = int(named_generator(self._seed, NAME, f"draws {number}").integers(2**31))
        model = self._actor_critic.model
        rollouts = [*self._writer.write(model, asked, None), *self._writer.write(model, asked, seed)]
        self.figures = {"reward": float(np.mean([each.whole for each in rollouts]))}
        return self._judged(rollouts)

    def _judged(self, rollouts: list[Rollout]) -> list[dict[str, Tensor]]:
        rows: list[dict[str, Tensor]] = [
            {"prompt": torch.tensor(each.prompt), "answer": torch.tensor(each.answer)} for each in rollouts
        ]
        with torch.no_grad():
            parts = []
            for places in self._batches(len(rows)):
                batch = self.collate([rows[place] for place in places])
                logs, _ = self._actor_critic.log_probabilities(batch)
                reference, _ = self._actor_critic.log_probabilities(batch, reference=True)
                parts.append((places, logs, reference, self._actor_critic.values(batch)))
        for places, logs, reference, values in parts:
            for at, place in enumerate(places):
                length = len(rollouts[place].answer)
                penalty = self._settings.kl * (logs - reference)[at, :length].cpu()
                rows[place] |= {
                    "old_logs": logs[at, :length].cpu(),
                    "old_values": values[at, :length].cpu(),
                    "rewards": torch.from_numpy(rollouts[place].rewards) - penalty,
                }
        pad = lambda name: nn.utils.rnn.pad_sequence([row[name] for row in rows], batch_first=True)  # noqa: E731
        real = nn.utils.rnn.pad_sequence([torch.ones(len(row["answer"])) for row in rows], batch_first=True)
        advantages, returns = advantages_and_returns(pad("rewards"), pad("old_values"), real)
        for row, advantage, result in zip(rows, advantages, returns, strict=True):
            row |= {"advantages": advantage[: len(row["answer"])], "returns": result[: len(row["answer"])]}
        return rows

    def _moved(self) -> float:
        """KL of the policy that wrote the rollouts from the present one, estimated on their tokens."""
        self._actor_critic.eval()
        total = tokens = 0.0
        with torch.no_grad():
            for places in self._batches(len(self._rows)):
                batch = self.collate([self._rows[place] for place in places])
                logs, _ = self._actor_critic.log_probabilities(batch)
                real = batch["answers"] != IGNORED
                total += float((batch["old_logs"] - logs)[real].sum())
                tokens += float(real.sum())
        return total / tokens

    def _batches(self, count: int) -> list[list[int]]:
        size = max(1, self._settings.batch_size // self._settings.accumulate)
        return [list(range(start, min(start + size, count))) for start in range(0, count, size)]

    def collate(self, rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """A batch as `sft.join` makes it, with what `PolicyGradient` needs beside it."""
        device = next(self._actor_critic.parameters()).device
        batch = join([row["prompt"].tolist() for row in rows], [row["answer"].tolist() for row in rows], 0)
        for name in ("old_logs", "old_values", "advantages", "returns"):
            if name in rows[0]:
                batch[name] = nn.utils.rnn.pad_sequence([row[name] for row in rows], batch_first=True)
        return {name: value.to(device) for name, value in batch.items()}

    def _write(self) -> None:
        tensors = {f"{place}/{name}": value for place, row in enumerate(self._rows) for name, value in row.items()}
        with atomic_path(self._path) as temporary:
            save_file(tensors, temporary, {"record": json.dumps(self._record)})

    def _read(self) -> None:
        rows: dict[int, dict[str, Tensor]] = {}
        with safe_open(self._path, "pt") as file:
            self._record = json.loads(file.metadata()["record"])
            for key in file.keys():  # noqa: SIM118 - no mapping
                place, name = key.split("/")
                rows.setdefault(int(place), {})[name] = file.get_tensor(key)
        self._rows = [rows[place] for place in range(len(rows))]


def improve(
    model: Any, writer: Writer, prompts: Prompts, settings: RLSettings, context: FitContext
) -> tuple[ActorCritic, list[dict[str, float]]]:
    """Train an actor on top of a fine-tuned model; keeps the pass with the best mean reward of held-out greedy lists."""
    with seeded(context.seed, NAME, "adapters", device=context.device):
        actor_critic = ActorCritic(model.requires_grad_(False), settings.rank, settings.alpha)
    rounds = Rounds(actor_critic, writer, prompts, settings, context.seed, context.scratch)
    held_out = prompts.held_out(HELD_OUT)

    def reward() -> float:
        actor_critic.use(ACTOR)
        with actor_critic.half:
            rollouts = writer.write(actor_critic.model, held_out, None)
        return float(np.mean([each.whole for each in rollouts]))

    log = train(
        NAME,
        PolicyGradient(actor_critic, settings.value_weight, settings.entropy_weight),
        data=rounds,
        collate=rounds.collate,
        settings=settings,
        context=context,
        evaluate=reward,
        figures=lambda: rounds.figures,
    )
    actor_critic.use(ACTOR)
    return actor_critic, log

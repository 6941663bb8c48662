"""Settings of RecLM-gen. The defaults are the published ones; a base model from scratch has its own."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from baselines.language.settings import BaseModelSettings, TrainingSettings
from baselines.sasrec import SASRecSettings


class PretrainingSettings(TrainingSettings):
    """How a base from scratch learns what the words of requests stand for, before it stands in for a pretrained one."""

    epochs: int = Field(9, ge=1, description="epochs; one has a request an item, with a list that answers it")
    batch_size: int = Field(4, ge=1, description="requests in an update, of all processes together")
    learning_rate: float = Field(3e-3, gt=0, description="peak learning rate of AdamW")


class SFTSettings(TrainingSettings):
    """Supervised fine-tuning."""

    epochs: int = Field(40, ge=1, description="most epochs; one has an example a user and user task, and one an item")
    batch_size: int = Field(64, ge=1, description="examples in an update, of all processes together")
    accumulate: int = Field(16, ge=1, description="parts in which an update is computed, to save memory")
    learning_rate: float = Field(1e-3, gt=0, description="peak learning rate of AdamW")
    schedule: Literal["linear", "cosine", "polynomial", "constant"] = Field(
        "polynomial", description="how the learning rate falls to zero (polynomial: with power 2)"
    )
    warmup: float = Field(0.0125, ge=0, description="updates of linear warm-up; below 1 their share of all")
    weight_decay: float = Field(0.01, ge=0, description="decoupled weight decay")
    rank: int = Field(16, ge=1, description="rank of LoRA on all linear layers of a pretrained model")
    alpha: int = Field(8, ge=1, description="scale of LoRA")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout of LoRA")
    users: int = Field(20_000, ge=1, description="users who give examples in an epoch, drawn anew where there are more")


class RLSettings(TrainingSettings):
    """Proximal policy optimisation on top of the fine-tuned model."""

    epochs: int = Field(200, ge=1, description="passes over rollouts, of all rounds together")
    batch_size: int = Field(16, ge=1, description="rollouts in an update, of all processes together")
    accumulate: int = Field(8, ge=1, description="parts in which an update is computed, to save memory")
    learning_rate: float = Field(5e-6, gt=0, description="peak learning rate of AdamW")
    schedule: Literal["linear", "cosine", "polynomial", "constant"] = Field(
        "polynomial", description="how the learning rate falls to zero (polynomial: with power 2)"
    )
    warmup: float = Field(50, ge=0, description="updates of linear warm-up; below 1 their share of all")
    clip: float = Field(0.5, gt=0, description="largest norm of the gradient")
    patience: int = Field(200, ge=1, description="passes without a better validation reward before training stops")
    prompts: int = Field(256, ge=1, description="prompts of a round, each with one greedy and one drawn rollout")
    passes: int = Field(4, ge=1, description="most passes over a round's rollouts")
    rank: int = Field(4, ge=1, description="rank of LoRA, of the actor and of the critic")
    alpha: int = Field(2, ge=1, description="scale of LoRA")
    kl: float = Field(0.3, ge=0, description="weight of the KL penalty to the fine-tuned model")
    stop_kl: float = Field(0.05, gt=0, description="KL from the rollouts' policy beyond which a round ends")
    value_weight: float = Field(0.1, ge=0, description="weight of the critic's loss")
    entropy_weight: float = Field(0.01, ge=0, description="weight of the entropy")
    balance: float = Field(
        0.5, ge=0, le=1, description="alpha of the rewards: 1 is the ranking alone, 0 the control alone"
    )


class RecLMSettings(BaseModelSettings):
    """Settings of RecLM-gen."""

    # A model that knows nothing needs larger steps than a pretrained one, and it is small: batches fit at once.
    suited: ClassVar[dict[str, Any]] = {
        "sft": {"epochs": 2, "batch_size": 8, "accumulate": 1, "learning_rate": 1e-3, "warmup": 0.05},
        "rl": {"epochs": 8, "learning_rate": 3e-4, "prompts": 48, "passes": 2, "warmup": 5},
    }
    suited_small: ClassVar[dict[str, Any]] = {"pretraining": {"learning_rate": 1e-3}}

    base_model: str = Field(
        "meta-llama/Llama-2-7b-chat-hf", description="name on the hub, folder, or from scratch: `tiny`, `small`"
    )
    stage: Literal["sft", "rl"] = Field("sft", description="supervised fine-tuning alone, or PPO on top of it")
    adapter: str | None = Field(
        None,
        description="folder of a RecLM-gen that was fitted elsewhere on the same dataset, taken in place of training",
    )
    tasks: str = Field("I0,I1,I2,I3,I3-re", description="tasks of the fine-tuning, with commas between them")
    sentences: Literal["published", "all"] = Field(
        "all",
        description="how control is said in training: the paper's 12 sentences, or also the benchmark's training templates",
    )
    pretraining: PretrainingSettings = Field(PretrainingSettings(), description="of a base from scratch")
    sft: SFTSettings = Field(SFTSettings(), description="supervised fine-tuning")
    rl: RLSettings = Field(RLSettings(), description="reinforcement learning")
    backbone: SASRecSettings = Field(SASRecSettings(), description="settings of sasrec, the teacher")
    max_tokens: int = Field(512, ge=16, description="most tokens of a list")
    batch: int = Field(32, ge=1, description="lists that are written at once")

    @model_validator(mode="after")
    def _known_tasks(self) -> RecLMSettings:
        unknown = set(self.task_names) - {"I0", "I1", "I2", "I3", "I3-re"}
        if unknown or not self.task_names:
            raise ValueError(f"tasks are I0, I1, I2, I3 and I3-re, not {', '.join(sorted(unknown)) or 'none'}")
        return self

    @property
    def task_names(self) -> tuple[str, ...]:
        """The tasks, one by one."""
        return tuple(name.strip() for name in self.tasks.split(",") if name.strip())

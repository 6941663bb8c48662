"""Settings of what stands on a language model: which one, and how it is trained. Loads nothing heavy: cards list them."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from bench.cards import Settings

FROM_SCRATCH = ("tiny", "small")


class BaseModelSettings(Settings):
    """Which language model a contestant stands on.

    `suited` are settings that suit a model from scratch, which knows nothing and is small, where nothing else is said;
    `suited_small` go before them for `small`, three times as deep as `tiny`: LANCER's did not learn at its rates.
    """

    suited: ClassVar[dict[str, Any]] = {}
    suited_small: ClassVar[dict[str, Any]] = {}

    base_model: str = Field("tiny", description="name on the hub, folder, or from scratch: `tiny`, `small`")
    revision: str | None = Field(None, description="branch, tag or commit on the hub")
    trust_remote_code: bool = Field(False, description="run Python code that comes with the model")

    @model_validator(mode="before")
    @classmethod
    def _suited(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        base = values.get("base_model", cls.model_fields["base_model"].default)
        filled = dict(values)
        for suits in ([cls.suited_small] if base == "small" else []) + ([cls.suited] if base in FROM_SCRATCH else []):
            for key, suited in suits.items():
                given = filled.setdefault(key, suited)
                if isinstance(suited, dict) and isinstance(given, dict):
                    filled[key] = suited | given
        return filled


class TrainingSettings(Settings):
    """How a model is trained."""

    epochs: int = Field(3, ge=1, description="most epochs")
    batch_size: int = Field(32, ge=1, description="examples in an update, of all processes together")
    accumulate: int = Field(1, ge=1, description="parts in which an update is computed, to save memory")
    learning_rate: float = Field(1e-4, gt=0, description="peak learning rate of AdamW")
    schedule: Literal["linear", "cosine", "polynomial", "constant"] = Field(
        "linear", description="how the learning rate falls to zero (polynomial: with power 2)"
    )
    warmup: float = Field(0.05, ge=0, description="updates of linear warm-up; below 1 their share of all")
    weight_decay: float = Field(0.0, ge=0, description="decoupled weight decay")
    clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    patience: int = Field(3, ge=1, description="epochs without a better validation value before training stops")
    precision: Literal["auto", "no", "bf16", "fp16"] = Field(
        "auto", description="mixed precision; auto: bf16 on a GPU that has it, fp16 on another, none on processors"
    )

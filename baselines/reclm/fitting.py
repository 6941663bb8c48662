"""The stages of RecLM-gen's training in their order, and what is kept of them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from baselines.language.adapters import load_adapter, save_adapter, trained_state
from baselines.language.base_model import Base, Needs, open_base, reopen
from baselines.language.extras import require
from baselines.language.histories import RequestsAnswered
from baselines.language.training import keep_events
from baselines.reclm.data import LENGTH, TOP, Builder, Instructions, held_out
from baselines.reclm.matching import TitleMatcher
from baselines.reclm.ppo import ACTOR, CRITIC, ActorCritic, improve
from baselines.reclm.prompts import Words
from baselines.reclm.rewards import Rewards
from baselines.reclm.rollouts import Prompts, Writer
from baselines.reclm.settings import RecLMSettings
from baselines.reclm.sft import READING, Coder, fine_tune, read, with_lora
from baselines.reclm.teacher import Teacher
from baselines.sequential import SequentialRecommender
from bench.atomic import atomic_write
from bench.contracts import Dataset, FitContext
from bench.errors import InputError

# Of a 7B model: LoRA of rank 16 on all linear layers, and the output layer that the actor trains.
LORA_SHARE, HEAD_SHARE = 0.006, 0.02
WORDS, LOG = "words.json", "training.json"
SFT, RL = "sft.safetensors", "rl.safetensors"
VALIDATED = 256


@dataclass
class Fitted:
    """A trained RecLM-gen.

    `base` serves, with everything that was trained merged into it; `adapters` are the trained weights of a pretrained base's
    stages, by the names of their files. `scratch` is where the training's logs lie until they are saved.
    """

    base: Base
    catalogue: str
    adapters: dict[str, dict[str, torch.Tensor]] = field(default_factory=dict)
    logs: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    scratch: Path | None = None


def needs(settings: RecLMSettings, *, trains: bool) -> Needs:
    """What RecLM-gen asks of its base model."""
    share = LORA_SHARE + (HEAD_SHARE if settings.stage == "rl" else 0.0)
    scratch = settings.base_model in ("tiny", "small")
    return Needs(chat_template=True, tokens=("eos", "pad"), trains=trains, trained_share=1.0 if scratch else share)


def fit(settings: RecLMSettings, words: Words, dataset: Dataset, context: FitContext) -> Fitted:
    """Train what the settings' stage asks for, or take what was trained elsewhere.

    Raises:
        InputError: a package is missing, the base model does not do, or the adapter is of another base or catalogue.
    """
    require("accelerate", "peft", "rapidfuzz", "tensorboard")
    if settings.adapter is not None:
        return taken(Path(settings.adapter), settings, dataset, context.device)
    stage = reinforced if settings.stage == "rl" else fine_tuned
    fitted = stage(settings, words, dataset, context)
    fitted.scratch = context.scratch
    return fitted


def fine_tuned(settings: RecLMSettings, words: Words, dataset: Dataset, context: FitContext) -> Fitted:
    """The first stage. The base model is opened before its teacher is trained, so that what does not do is told at once."""
    base = open_base(
        settings,
        texts=words.everything(),
        units=words.units(),
        seed=context.seed,
        device=context.device,
        needs=needs(settings, trains=True),
    )
    teacher, builder = _teaching(settings, words, dataset, context)
    logs: dict[str, list[dict[str, float]]] = {}
    if base.from_scratch:
        requests = RequestsAnswered(dataset, seed=context.seed, name=READING, most=TOP, length=LENGTH, ranked=True)
        logs["pretraining"] = read(base, requests, words, settings.pretraining, context)
    data = Instructions(dataset, teacher, builder, settings.task_names, context.seed, settings.sft.users)
    validation = held_out(dataset, teacher, builder, context.seed, VALIDATED)
    model, log = fine_tune(base, data, validation, words, settings.sft, context)
    fitted = Fitted(base, dataset.fingerprint, logs=logs | {"sft": log})
    if not base.from_scratch:
        fitted.adapters[SFT] = _copied(trained_state(model))
        base.model = model.merge_and_unload()
    return fitted


def reinforced(settings: RecLMSettings, words: Words, dataset: Dataset, context: FitContext) -> Fitted:
    """The second stage, on the first as it is kept for every run that needs it."""
    first = settings.model_dump(mode="json", exclude={"rl"}) | {"stage": "sft"}
    fitted: Fitted = context.fitted("reclm_gen", dataset, first).fitted  # type: ignore[attr-defined]
    teacher, builder = _teaching(settings, words, dataset, context)
    rewards = Rewards(TitleMatcher(words.titles), builder.has, settings.rl.balance)
    coder = Coder(fitted.base.tokenizer, words)
    writer = Writer(coder, fitted.base.tokenizer, rewards, settings.max_tokens, settings.batch)
    prompts = Prompts(dataset, teacher, builder, context.seed)
    actor_critic, log = improve(fitted.base.model, writer, prompts, settings.rl, context)
    fitted.logs["rl"] = log
    if not fitted.base.from_scratch:
        fitted.adapters[RL] = _copied(trained_state(actor_critic))
    fitted.base.model = merged(actor_critic)
    return fitted


def merged(actor_critic: ActorCritic) -> Any:
    """The fine-tuned model with the actor's changes in it, and with an output layer of its own."""
    actor_critic.use(ACTOR)
    actor_critic.model.delete_adapter(CRITIC)
    model = actor_critic.model.merge_and_unload()
    model.config.tie_word_embeddings = False
    return model.to(model.dtype).eval()


def taken(folder: Path, settings: RecLMSettings, dataset: Dataset, device: str) -> Fitted:
    """A RecLM-gen that was fitted elsewhere.

    Raises:
        InputError: the folder holds none, or one of another catalogue, base model or stage.
    """
    fitted, _ = load(folder, settings, device)
    if fitted.catalogue != dataset.fingerprint:
        raise InputError(
            f"adapter={folder} was trained on another catalogue (fingerprint {fitted.catalogue[:12]}, {dataset.name} has "
            f"{dataset.fingerprint[:12]}): its titles are not these; leave adapter out to train on this dataset."
        )
    return fitted


def save(fitted: Fitted, words: Words, directory: Path) -> None:
    """Write all that `load` needs."""
    fitted.base.save(directory)
    for name, state in fitted.adapters.items():
        save_adapter(state, directory, base=fitted.base.identity, catalogue=fitted.catalogue, name=name)
    kept = asdict(words) | {"catalogue": fitted.catalogue}
    atomic_write(directory / WORDS, json.dumps(kept, ensure_ascii=False))
    atomic_write(directory / LOG, json.dumps(fitted.logs, indent=1) + "\n")
    if fitted.scratch is not None:
        keep_events(fitted.scratch, directory)


def load(directory: Path, settings: RecLMSettings, device: str) -> tuple[Fitted, Words]:
    """Read what `save` wrote.

    Raises:
        InputError: the folder holds no RecLM-gen, or its parts do not belong together.
    """
    if not (directory / WORDS).is_file():
        raise InputError(f"{directory} holds no fitted RecLM-gen: it has no {WORDS}.")
    kept = json.loads((directory / WORDS).read_text("utf-8"))
    words = Words(tuple(kept["titles"]), tuple(kept["labels"]), kept["domain"])
    base = reopen(directory, device, needs(settings, trains=False))
    if base.origin["base_model"] != settings.base_model:
        raise InputError(
            f"{directory} was trained on {base.origin['base_model']}, not on base_model={settings.base_model}."
        )
    fitted = Fitted(base, kept["catalogue"], logs=json.loads((directory / LOG).read_text("utf-8")))
    if not base.from_scratch:
        model = with_lora(base.model, settings.sft.rank, settings.sft.alpha, settings.sft.dropout)
        _read(model, directory, SFT, fitted)
        base.model = model.merge_and_unload()
    if (directory / RL).is_file():
        actor_critic = ActorCritic(base.model.requires_grad_(False), settings.rl.rank, settings.rl.alpha)
        _read(actor_critic, directory, RL, fitted)
        base.model = merged(actor_critic)
    base.model.eval()
    return fitted, words


def _read(module: torch.nn.Module, directory: Path, name: str, fitted: Fitted) -> None:
    load_adapter(module, directory, base=fitted.base.identity, catalogue=fitted.catalogue, name=name)
    fitted.adapters[name] = _copied(trained_state(module))


def _copied(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: weights.cpu().clone() for name, weights in state.items()}


def _teaching(settings: RecLMSettings, words: Words, dataset: Dataset, context: FitContext) -> tuple[Teacher, Builder]:
    model = context.fitted("sasrec", dataset, settings.backbone.model_dump())
    assert isinstance(model, SequentialRecommender)
    builder = Builder(dataset.catalogue.label_matrix(), words, settings.sentences == "all")
    return Teacher(model), builder

"""The language model that a contestant stands on: from the hub, from a folder, or from scratch; checked before it is loaded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from baselines.language import scratch, sources
from baselines.language.settings import BaseModelSettings
from bench.atomic import atomic_write
from bench.errors import InputError
from bench.identity import digest

RECORD, FOLDER = "base.json", "base"
SPECIAL = Literal["bos", "eos", "pad"]
STORED_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True)
class Needs:
    """What a contestant cannot do without.

    `trained_share` is the share of the weights that get gradients where `trains`: 1 for all of them, about .01 for LoRA.
    """

    chat_template: bool = False
    tokens: tuple[SPECIAL, ...] = ("eos", "pad")
    trains: bool = False
    trained_share: float = 1.0


@dataclass
class Base:
    """A loaded causal language model.

    `identity` tells it from every other (hub name and commit, or size and digest of tokenizer and seed). `from_scratch`: its
    weights were random, so a contestant trains all of them.
    """

    model: Any
    tokenizer: Any
    identity: str
    from_scratch: bool
    device: str
    origin: dict[str, Any]

    @property
    def parameters(self) -> int:
        """Number of weights; tied ones count once."""
        return sum(weights.numel() for weights in self.model.parameters())

    def save(self, directory: Path) -> None:
        """Write what `reopen` needs: the model itself where it is from scratch, as it is now, and otherwise its name alone."""
        if self.from_scratch:
            from transformers.utils.logging import disable_progress_bar

            disable_progress_bar()
            self.model.save_pretrained(directory / FOLDER)
            self.tokenizer.save_pretrained(directory / FOLDER)
        atomic_write(directory / RECORD, json.dumps(self.origin | {"identity": self.identity}, indent=2) + "\n")


def open_base(
    settings: BaseModelSettings,
    *,
    texts: Sequence[str],
    seed: int,
    device: str,
    needs: Needs,
    shape: scratch.Shape = "llama",
    units: Sequence[str] = (),
) -> Base:
    """The base model of a contestant that is to be fitted.

    Args:
        settings: which one.
        texts: what the tokenizer of a model from scratch is trained on: the catalogue's words and the prompts'.
        seed: of the weights of a model from scratch.
        device: "cpu" or "cuda".
        needs: refused where they are not met.
        shape: of a model from scratch.
        units: strings that are a token each for the tokenizer of a model from scratch.

    Raises:
        InputError: no such model, or it lacks what is needed, or this machine cannot hold it.
    """
    if settings.base_model not in scratch.SIZES:
        return _pretrained(settings, device, needs)
    size = scratch.SIZES[settings.base_model]
    tokenizer = scratch.train_tokenizer(texts, size.vocabulary, units)
    model = scratch.build(shape, size, tokenizer, seed)
    made_of = {"tokenizer": tokenizer.backend_tokenizer.to_str(), "seed": seed, "shape": shape}
    identity = f"{settings.base_model}-{shape}-{digest(made_of)[:12]}"
    return _ready(model, tokenizer, identity, device, settings, from_scratch=True)


def reopen(directory: Path, device: str, needs: Needs) -> Base:
    """The base model that `Base.save` wrote.

    Raises:
        InputError: a pretrained one is not to be had any more, is another one by now, or does not fit here.
    """
    record = json.loads((directory / RECORD).read_text("utf-8"))
    identity = record.pop("identity")
    settings = BaseModelSettings.model_validate(record)
    if settings.base_model not in scratch.SIZES:
        base = _pretrained(settings, device, needs)
        if base.identity != identity:
            raise InputError(
                f"base_model={settings.base_model} has changed: {base.identity}, was {identity} in training."
            )
        return base
    tokenizer, model = _tokenizer(directory / FOLDER, False), _model(directory / FOLDER, "float32", False)
    return _ready(model, tokenizer, identity, device, settings, from_scratch=True)


def _pretrained(settings: BaseModelSettings, device: str, needs: Needs) -> Base:
    source = sources.find(settings.base_model, settings.revision)
    config = _config(source.folder, settings)
    tokenizer = _tokenizer(source.folder, settings.trust_remote_code)
    _refuse_unfit(settings.base_model, tokenizer, needs)
    stored = STORED_BYTES.get(str(getattr(config, "dtype", None)).removeprefix("torch."), 2)
    held = stored if device.startswith("cuda") else 4
    sources.refuse_too_large(source, stored, held, needs.trained_share if needs.trains else 0.0, device)
    folder = source.with_weights()
    model = _model(folder, "auto" if device.startswith("cuda") else "float32", settings.trust_remote_code)
    identity = f"{source.name}@{source.revision}" if source.revision else f"folder-{_fingerprint(folder)[:16]}"
    pinned = settings.model_copy(update={"revision": source.revision})
    return _ready(model, tokenizer, identity, device, pinned, from_scratch=False)


def _ready(
    model: Any, tokenizer: Any, identity: str, device: str, settings: BaseModelSettings, *, from_scratch: bool
) -> Base:
    origin = settings.model_dump(mode="json", include=set(BaseModelSettings.model_fields))
    return Base(model.to(device).eval(), tokenizer, identity, from_scratch, device, origin)


def _refuse_unfit(name: str, tokenizer: Any, needs: Needs) -> None:
    if needs.chat_template and not tokenizer.chat_template:
        raise InputError(
            f"base_model={name} has no chat template in its tokenizer: use an instruct or chat version of it."
        )
    if tokenizer.pad_token_id is None and "pad" in needs.tokens and tokenizer.eos_token_id is not None:
        # Padding is masked everywhere, so any token will do; decoder-only models rarely have one of their own.
        tokenizer.pad_token = tokenizer.eos_token
    missing = [token for token in needs.tokens if getattr(tokenizer, f"{token}_token_id") is None]
    if missing:
        raise InputError(
            f"base_model={name}: its tokenizer has no {' and no '.join(missing)} token; set it in its tokenizer_config.json."
        )


def _config(folder: Path, settings: BaseModelSettings) -> Any:
    from transformers import AutoConfig

    kept = json.loads((folder / "config.json").read_text("utf-8"))
    if "auto_map" in kept and not settings.trust_remote_code:
        raise InputError(
            f"base_model={settings.base_model} brings Python code of its own: read it, then say trust_remote_code=true."
        )
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=settings.trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise _unreadable(folder, error) from None


def _tokenizer(folder: Path, trust_remote_code: bool) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, padding_side="left", trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise _unreadable(folder, error) from None


def _model(folder: Path, dtype: str, trust_remote_code: bool) -> Any:
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    try:
        return AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, trust_remote_code=trust_remote_code, weights_only=True
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise _unreadable(folder, error) from None


def _unreadable(folder: Path, error: Exception) -> InputError:
    return InputError(f"{folder} does not load as a language model: {' '.join(str(error).split())[:240]}")


def _fingerprint(folder: Path) -> str:
    from bench.llm.local import fingerprint

    return fingerprint(folder)

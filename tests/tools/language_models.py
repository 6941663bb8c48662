"""Small pretrained-looking language models in folders, for tests of what opens them."""

from __future__ import annotations

import json
from pathlib import Path

from baselines.language import scratch

TEXTS = [f"A film called number {number}" for number in range(40)]


def write_model(folder: Path, *, chat_template: bool = True, shape: str = "llama", **tokens: str | None) -> Path:
    """A model from scratch in Hugging Face's format; `tokens` such as `eos_token=None` change its tokenizer."""
    tokenizer = scratch.train_tokenizer(TEXTS, 300)
    model = scratch.build(shape, scratch.Size(16, 1, 2, 300), tokenizer, seed=0)
    if not chat_template:
        tokenizer.chat_template = None
    for name, value in tokens.items():
        setattr(tokenizer, name, value)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def change_config(folder: Path, **values: object) -> None:
    """Change entries of a model's config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))

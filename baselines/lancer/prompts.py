"""The two learned prompts of LANCER: what a domain is about, and what a user's history makes of it."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

import torch
from torch import nn

# As released: places of the knowledge prompt, of the reasoning prompt (one for each history item), and dropout of the former.
KNOWLEDGE_LENGTH, HISTORY_LENGTH, DROPOUT = 20, 10, 0.2
KNOWLEDGE_BIAS, REASONING_BIAS = 0.1, 0.01


def going_on(prefix: Any) -> dict[str, Any]:
    """The argument of a GPT-2 that takes up a cache, as the installed transformers calls it."""
    return {_name_of_cache(): prefix}


@cache
def _name_of_cache() -> str:
    from transformers import GPT2LMHeadModel

    return "cache" if "cache" in inspect.signature(GPT2LMHeadModel.forward).parameters else "past_key_values"


class Shape:
    """What a prefix has to fit: layers, heads and width of a GPT-2."""

    def __init__(self, config: Any) -> None:
        self.layers, self.heads, self.width = config.num_hidden_layers, config.num_attention_heads, config.hidden_size


class KnowledgePrompt(nn.Module):
    """Twenty learned embeddings that prefix every layer of the knowledge model M_k."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embeddings = nn.Parameter(torch.empty(KNOWLEDGE_LENGTH, shape.width))
        self.hidden = nn.Sequential(nn.Linear(shape.width, shape.width), nn.Tanh())
        self.project = nn.Sequential(nn.Linear(shape.width, 2 * shape.layers * shape.width), nn.Dropout(DROPOUT))
        nn.init.uniform_(self.embeddings, -(KNOWLEDGE_LENGTH**-0.5), KNOWLEDGE_LENGTH**-0.5)
        _initialise(self, KNOWLEDGE_BIAS)

    def states(self) -> torch.Tensor:
        """Hidden states after the first layer, [20, d]: keys and values of the reasoning prompt."""
        states: torch.Tensor = self.hidden(self.embeddings)
        return states

    def prefix(self, rows: int) -> Any:
        """The cache of M_k for a batch of so many texts."""
        slots = self.project(self.states())
        return as_cache(slots.expand(rows, -1, -1), self.shape)


class ReasoningPrompt(nn.Module):
    """A user's items ask the knowledge prompt, and the answers prefix every layer of the reasoning model M_r.

    Single-head scaled dot-product attention; places of the history that are empty hold zeros and ask as well, as released.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.query, self.key, self.value = (nn.Linear(shape.width, shape.width) for _ in range(3))
        self.project = nn.Linear(shape.width, 2 * shape.layers * shape.width)
        _initialise(self, REASONING_BIAS)

    def forward(self, items: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        """Slots for every layer, [B, 10, 2 L d], of item vectors [B, 10, d] and the knowledge prompt's states [20, d]."""
        query, key, value = self.query(items), self.key(states), self.value(states)
        attention = torch.softmax(query @ key.T / self.shape.width**0.5, -1)
        slots: torch.Tensor = self.project(attention @ value)
        return slots

    def prefix(self, items: torch.Tensor, states: torch.Tensor) -> Any:
        """The cache of M_r for a batch of histories."""
        return as_cache(self(items, states), self.shape)


def as_cache(slots: torch.Tensor, shape: Shape) -> Any:
    """A cache with P places filled, of slots [B, P, 2 L d]: keys and values of every layer, [B, heads, P, d / heads]."""
    from transformers import DynamicCache

    rows, places = slots.shape[:2]
    parts = slots.view(rows, places, 2, shape.layers, shape.heads, shape.width // shape.heads).permute(3, 2, 0, 4, 1, 5)
    cache = DynamicCache()
    for layer, (keys, values) in enumerate(parts):
        cache.update(keys, values, layer)
    return cache


def _initialise(module: nn.Module, bias: float) -> None:
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_normal_(part.weight)
            nn.init.constant_(part.bias, bias)

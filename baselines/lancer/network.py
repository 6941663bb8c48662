"""The two language models of LANCER with the prompts between them, and the losses of its two phases."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from baselines.lancer.prompts import KNOWLEDGE_LENGTH, KnowledgePrompt, ReasoningPrompt, Shape, going_on
from baselines.language.padding import IGNORED, right_padded

# Texts that go through the knowledge model at once where no gradient is kept.
ROWS = 64
# Places of a padded text in the released code, whose last one is the query of `faithful`.
RELEASED_LENGTH = 512


class LancerNet(nn.Module):
    """M_k, M_r, the knowledge prompt and the reasoning prompt.

    Item vectors (queries of the reasoning prompt) are means of M_k's last layer over the text of an item, under the knowledge
    prompt; no gradient goes through them, as released. They are computed for all items whenever training and evaluation change
    places, so within an epoch of training they are those of its beginning.

    Args:
        knowing: M_k, which is never trained.
        reasoning: M_r, trained in phase 2.
        texts: tokens of the text about each item, V lists.
        pad: the padding token.
        faithful: the released query in place of the mean: the embedding of the padding token at the end of a text of 512
            places, the same for every item.
    """

    def __init__(self, knowing: Any, reasoning: Any, texts: list[list[int]], *, pad: int, faithful: bool) -> None:
        super().__init__()
        shape = Shape(knowing.config)
        self._pad = pad
        self.knowing, self.reasoning, self.faithful = knowing, reasoning, faithful
        self.knowledge_prompt, self.reasoning_prompt = KnowledgePrompt(shape), ReasoningPrompt(shape)
        self._texts, self._vectors = texts, torch.empty(0)
        self._stale, self.phase = True, 1
        self.set_phase(1)

    def set_phase(self, phase: int, *, knowledge: bool = True) -> None:
        """What is trained: the prompts, from phase 2 on M_r as well; M_k never, the knowledge prompt unless it is given."""
        self.phase, self._learns = phase, knowledge and phase == 1
        self.knowing.requires_grad_(False)
        self.reasoning.requires_grad_(phase == 2)
        self.knowledge_prompt.requires_grad_(knowledge)
        self.reasoning_prompt.requires_grad_(True)
        # In phase 2 nothing but its hidden states is used with gradients.
        self.knowledge_prompt.project.requires_grad_(self._learns)

    def read(self, texts: list[list[int]]) -> None:
        """Other texts about the same items, from now on."""
        self._texts, self._stale = texts, True

    def release(self) -> LancerNet:
        """Mark all but M_k as trained: what is saved, whatever phase it was trained in."""
        self.requires_grad_(True)
        self.knowing.requires_grad_(False)
        return self

    def train(self, mode: bool = True) -> LancerNet:
        """Training or evaluation mode; M_k has no dropout in either."""
        self._stale = self._stale or mode != self.training
        super().train(mode)
        self.knowing.eval()
        return self

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        labels: torch.Tensor,
        history: torch.Tensor,
        learned: torch.Tensor,
    ) -> torch.Tensor:
        """The loss of a batch.

        Args:
            input_ids: histories with the item that follows, padded on the right, int64 [B, T].
            attention_mask: which of them are tokens, [B, T].
            labels: tokens to be predicted, IGNORED elsewhere, int64 [B, T].
            history: items of the history, int64 [B, 10], -1 in empty places (on the left).
            learned: items whose texts teach the knowledge prompt in phase 1, int64 [M].
        """
        cache = self.prefix(history)
        loss: torch.Tensor = self.reasoning(
            input_ids=input_ids, attention_mask=_behind(cache, attention_mask), **going_on(cache), labels=labels
        ).loss
        if self._learns and self.training:
            loss = loss + self.knowledge_loss(learned)
        return loss

    def prefix(self, history: torch.Tensor) -> Any:
        """The cache of M_r: the reasoning prompt of histories int64 [B, 10]."""
        self._refresh()
        known = torch.nn.functional.embedding(history.clamp(min=0), self._vectors)
        items = known * (history >= 0)[:, :, None]
        return self.reasoning_prompt.prefix(items, self.knowledge_prompt.states())

    def knowledge_loss(self, items: torch.Tensor) -> torch.Tensor:
        """Loss of the language model M_k, under the knowledge prompt, on the texts of the items, int64 [M]."""
        ids, mask = self._padded(items.tolist())
        cache = self.knowledge_prompt.prefix(len(ids))
        labels = ids.masked_fill(mask == 0, IGNORED)
        loss: torch.Tensor = self.knowing(
            input_ids=ids, attention_mask=_behind(cache, mask), **going_on(cache), labels=labels
        ).loss
        return loss

    @torch.no_grad()
    def item_vectors(self) -> torch.Tensor:
        """Queries of the reasoning prompt, float32 [V, d]."""
        if self.faithful:
            place = torch.tensor([KNOWLEDGE_LENGTH + RELEASED_LENGTH - 1], device=self.knowing.device)
            pad = torch.tensor([self._pad], device=self.knowing.device)
            body = self.knowing.transformer
            return (body.wte(pad) + body.wpe(place)).float().expand(len(self._texts), -1)
        drops = self.knowledge_prompt.training
        self.knowledge_prompt.eval()
        vectors = torch.empty(len(self._texts), self.knowing.config.hidden_size, device=self.knowing.device)
        # Texts of like length together: less padding.
        order = np.argsort([len(text) for text in self._texts], kind="stable")
        for start in range(0, len(order), ROWS):
            rows = order[start : start + ROWS].tolist()
            ids, mask = self._padded(rows)
            cache = self.knowledge_prompt.prefix(len(ids))
            hidden = self.knowing.transformer(
                input_ids=ids, attention_mask=_behind(cache, mask), **going_on(cache)
            ).last_hidden_state
            weight = mask[:, :, None].to(hidden.dtype)
            vectors[rows] = ((hidden * weight).sum(1) / weight.sum(1)).float()
        self.knowledge_prompt.train(drops)
        return vectors

    def _refresh(self) -> None:
        if self._stale:
            self._vectors, self._stale = self.item_vectors(), False

    def _padded(self, items: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        ids, mask = right_padded([self._texts[item] for item in items])
        return ids.to(self.knowing.device), mask.to(self.knowing.device)


def _behind(cache: Any, mask: torch.Tensor) -> torch.Tensor:
    """The attention mask with the places of a cache before it, which are all attended to."""
    return torch.cat([mask.new_ones(len(mask), cache.get_seq_length()), mask], 1)

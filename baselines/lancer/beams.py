"""Beam search over a cache that already holds a prefix, which `generate` of transformers cannot go on from.

Scores and stopping are those of transformers' own search at its defaults (length penalty 1, no early stopping), so that without
a prefix both find the same beams.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import DynamicLayer

from baselines.lancer.prompts import going_on

IMPOSSIBLE = -1e9


@dataclass(frozen=True)
class Beams:
    """The best beams of B requests, best first.

    `tokens` are lists [B][n] of token lists without the end; `scores` float32 [B, n] are mean log-probabilities a token,
    the end included.
    """

    tokens: list[list[list[int]]]
    scores: torch.Tensor


@torch.inference_mode()
def beam_search(
    model: Any,
    cache: Any,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    *,
    beams: int,
    max_tokens: int,
    ends: Collection[int],
) -> Beams:
    """Search for the likeliest continuations.

    Args:
        model: a causal language model of transformers.
        cache: its cache with the prefix of every request, P places of it (0: none); it is used up.
        input_ids: the prompts, padded on the left, int64 [B, T].
        attention_mask: which places of the prompts are tokens, [B, T].
        beams: n, how many are followed and returned.
        max_tokens: most tokens of a continuation.
        ends: tokens at which a beam ends.
    """
    rows, device = len(input_ids), input_ids.device
    prefix = cache.get_seq_length()
    mask = torch.cat([attention_mask.new_ones(rows, prefix), attention_mask], 1).long()
    place = (mask.cumsum(1) - 1).clamp(min=0)
    logits = model(
        input_ids=input_ids,
        attention_mask=mask,
        position_ids=place[:, prefix:],
        **going_on(cache),
        use_cache=True,
        logits_to_keep=1,
    ).logits[:, -1]
    cache.layers = [_Shared(layer, beams, max_tokens) for layer in cache.layers]
    mask, place = mask.repeat_interleave(beams, 0), place[:, -1:].repeat_interleave(beams, 0)
    logits = logits.repeat_interleave(beams, 0)
    search = _Search(rows, beams, max_tokens, torch.tensor(sorted(ends), device=device), device)
    while True:
        rows_kept, token = search.step(logits)
        if search.done:
            return search.result()
        cache.reorder_cache(rows_kept)
        # Prompts of a row's beams are alike, so the mask needs no reordering.
        mask, place = torch.cat([mask, mask.new_ones(len(mask), 1)], 1), place + 1
        logits = model(
            input_ids=token[:, None], attention_mask=mask, position_ids=place, **going_on(cache), use_cache=True
        ).logits[:, -1]


class _Shared(DynamicLayer):  # type: ignore[misc]
    """A layer of the cache of B n beams: keys and values [B n, heads, P + more, d / heads], of which `length` places are filled.

    Beams of a row share the first P places, prefix and prompt, so a reordering moves what they wrote alone. The layer of
    transformers moves and copies everything in every step, which takes longer than the model does.

    Args:
        layer: that of B rows, with P places.
        beams: n.
        more: tokens that a beam may write.
    """

    def __init__(self, layer: Any, beams: int, more: int) -> None:
        super().__init__()
        self.shared = self.length = layer.keys.shape[2]
        self.device, self.is_initialized = layer.keys.device, True
        self.keys, self.values = (_with_room(states, beams, more) for states in (layer.keys, layer.values))

    def update(self, keys: torch.Tensor, values: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor, ...]:
        start, self.length = self.length, self.length + keys.shape[2]
        self.keys[:, :, start : self.length], self.values[:, :, start : self.length] = keys, values
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]

    def get_seq_length(self) -> int:
        return int(self.length)

    def reorder_cache(self, rows: torch.Tensor) -> None:
        for states in (self.keys, self.values):
            written = states[:, :, self.shared : self.length]
            written.copy_(written.index_select(0, rows))


def _with_room(states: torch.Tensor, beams: int, more: int) -> torch.Tensor:
    """[B, heads, P, w] for every beam, with so many empty places behind: [B n, heads, P + more, w]."""
    rows, heads, places, width = states.shape
    room = states.new_empty(rows, beams, heads, places + more, width)
    room[:, :, :, :places] = states[:, None]
    return room.flatten(0, 1)


class _Search:
    """What is known of the beams: running ones with their summed log-probabilities, and the best ended ones."""

    def __init__(self, rows: int, beams: int, max_tokens: int, ends: torch.Tensor, device: torch.device) -> None:
        self.rows, self.beams, self.max_tokens, self.ends = rows, beams, max_tokens, ends
        self.length = 0
        self.sums = torch.full((rows, beams), IMPOSSIBLE, device=device)
        # All beams of a row begin alike: only one of them may go on at first.
        self.sums[:, 0] = 0.0
        self.running = torch.zeros(rows, beams, max_tokens, dtype=torch.long, device=device)
        self.ended, self.best = self.running.clone(), torch.full((rows, beams), IMPOSSIBLE, device=device)
        self.lengths = torch.zeros(rows, beams, dtype=torch.long, device=device)
        self.open = torch.ones(rows, 1, dtype=torch.bool, device=device)

    @property
    def done(self) -> bool:
        """Whether no row can find anything better."""
        return self.length == self.max_tokens or not bool(self.open.any())

    def step(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """One token more.

        Args:
            logits: of the next token of every running beam, [B n, V].

        Returns:
            For the running beams of the next step, which of the present ones each goes on from (int64 [B n], into the flat
            batch) and its new token, int64 [B n].
        """
        size = logits.shape[-1]
        sums = torch.log_softmax(logits.float(), -1).view(self.rows, self.beams, size) + self.sums[:, :, None]
        # So many that n running ones are left even if every beam may end in every way.
        width = min((1 + max(1, len(self.ends))) * self.beams, self.beams * size)
        top, index = sums.view(self.rows, -1).topk(width)
        parent, token = index // size, index % size
        texts = self.running.gather(1, parent[:, :, None].expand(-1, -1, self.max_tokens)).clone()
        texts[:, :, self.length] = token
        self.length += 1
        ended = torch.isin(token, self.ends) | (self.length == self.max_tokens)
        self._collect(texts, top, token, ended)
        self.sums, chosen = (top + ended * IMPOSSIBLE).topk(self.beams)
        self.running = texts.gather(1, chosen[:, :, None].expand(-1, -1, self.max_tokens))
        worst = torch.where(self.best > IMPOSSIBLE / 2, self.best.min(1, keepdim=True)[0], IMPOSSIBLE)
        self.open &= (self.sums[:, :1] / self.length > worst).any(1, keepdim=True)
        first = torch.arange(self.rows, device=top.device)[:, None] * self.beams
        return (parent.gather(1, chosen) + first).view(-1), token.gather(1, chosen).view(-1)

    def _collect(self, texts: torch.Tensor, top: torch.Tensor, token: torch.Tensor, ended: torch.Tensor) -> None:
        """Keep the best ended beams; only those count that are among the n best of all, and of rows still open."""
        counts = ended & (torch.arange(ended.shape[1], device=top.device) < self.beams) & self.open
        score = torch.where(counts, top / self.length, IMPOSSIBLE)
        length = self.length - torch.isin(token, self.ends).long()
        self.best, chosen = torch.cat([self.best, score], 1).topk(self.beams)
        self.ended = torch.cat([self.ended, texts], 1).gather(1, chosen[:, :, None].expand(-1, -1, self.max_tokens))
        self.lengths = torch.cat([self.lengths, length], 1).gather(1, chosen)

    def result(self) -> Beams:
        """The ended beams, best first; a place for which there is none holds no tokens and the lowest score."""
        tokens = [
            [text[:length] for text, length in zip(texts, lengths, strict=True)]
            for texts, lengths in zip(self.ended.tolist(), self.lengths.tolist(), strict=True)
        ]
        return Beams(tokens, self.best.cpu())

"""Greedy answers and beams of a base model, against its probabilities taken by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from baselines.language.base_model import Needs, open_base
from baselines.language.generation import beams, greedy
from baselines.language.settings import BaseModelSettings
from bench.errors import CheckError
from tests.tools.language_models import TEXTS


@pytest.fixture(scope="module")
def base():
    return open_base(BaseModelSettings(base_model="tiny"), texts=TEXTS, seed=3, device="cpu", needs=Needs())


def next_token(base, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return base.model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)


def test_greedy_takes_the_likeliest_token_every_time(base):
    prompts = ["A film", "A film called number 7 and a film called number 8", "number"]
    written = greedy(base, prompts, max_tokens=6, batch=2)
    for prompt, text in zip(prompts, written, strict=True):
        ids = base.tokenizer(prompt, add_special_tokens=False).input_ids
        start = len(ids)
        while len(ids) < start + 6 and ids[-1] != base.tokenizer.eos_token_id:
            ids.append(int(next_token(base, ids).argmax()))
        assert text == base.tokenizer.decode(ids[start:], skip_special_tokens=True)
    assert greedy(base, [], max_tokens=3) == []


def test_greedy_stops_at_a_stop_string(base):
    (whole,) = greedy(base, ["A film"], max_tokens=8)
    stop = whole[2:4]
    assert greedy(base, ["A film"], max_tokens=8, stop=(stop,)) == [whole[: whole.index(stop)]]


def test_what_comes_once_is_neither_repeated_nor_taken_from_the_prompt(base):
    prompts = ["A film", "A film called number 7"]
    ids = base.tokenizer(prompts, add_special_tokens=False).input_ids
    everything = range(len(base.tokenizer))
    for prompt, text in zip(ids, greedy(base, prompts, max_tokens=12, once=everything), strict=True):
        written = list(prompt)
        while len(written) < len(prompt) + 12 and written[-1] != base.tokenizer.eos_token_id:
            scores = next_token(base, written)
            scores[[*written, base.tokenizer.pad_token_id]] = -torch.inf
            written.append(int(scores.argmax()))
        assert len(set(written)) == len(written)
        assert text == base.tokenizer.decode(written[len(prompt) :], skip_special_tokens=True)


def test_beams_carry_their_log_probabilities(base):
    texts, scores = beams(base, ["A film", "number"], beams=4, max_tokens=1)
    assert scores.shape == (2, 4) and [len(row) for row in texts] == [4, 4]
    for row, prompt in enumerate(["A film", "number"]):
        logs = next_token(base, base.tokenizer(prompt, add_special_tokens=False).input_ids)
        np.testing.assert_allclose(scores[row], logs.topk(4).values.numpy(), atol=1e-4)


def test_a_prompt_beyond_the_context_is_refused(base):
    with pytest.raises(CheckError, match="exceed 1024"):
        greedy(base, ["short", "number " * 1100], max_tokens=4)

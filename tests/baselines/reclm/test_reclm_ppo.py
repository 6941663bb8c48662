"""The RL stage: advantages worked by hand, what is trained and what stays frozen, and rounds that outlive a kill."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from baselines.language import scratch
from baselines.reclm import ppo
from baselines.reclm.data import Builder
from baselines.reclm.fitting import merged
from baselines.reclm.matching import TitleMatcher
from baselines.reclm.ppo import ActorCritic, PolicyGradient, Rounds, advantages_and_returns
from baselines.reclm.prompts import Words
from baselines.reclm.rewards import Rewards
from baselines.reclm.rollouts import Prompts, Writer
from baselines.reclm.settings import RLSettings
from baselines.reclm.sft import Coder, join
from tests.baselines.reclm.test_reclm_data import ByNumber
from tests.conftest import small_dataset

SETTINGS = RLSettings(
    epochs=3, batch_size=6, accumulate=1, learning_rate=1e-3, prompts=6, passes=2, warmup=0, patience=3
)


@pytest.fixture(scope="module")
def parts():
    """Dataset, words, tokenizer and an untrained model."""
    dataset = small_dataset()
    words = Words.of(dataset)
    tokenizer = scratch.train_tokenizer(words.everything(), 600)
    return dataset, words, tokenizer, scratch.build("llama", scratch.Size(16, 1, 2, 600), tokenizer, seed=0)


def writer_and_prompts(parts):
    dataset, words, tokenizer, _ = parts
    builder = Builder(dataset.catalogue.label_matrix(), words, harness=False)
    rewards = Rewards(TitleMatcher(words.titles), builder.has, 0.5)
    prompts = Prompts(dataset, ByNumber(40), builder, seed=0)
    return Writer(Coder(tokenizer, words), tokenizer, rewards, max_tokens=24, batch=4), prompts


def test_advantages_worked_by_hand(monkeypatch):
    monkeypatch.setattr(ppo, "GAMMA", 0.5)
    rewards = torch.tensor([[1.0, 2.0, 3.0], [2.0, 4.0, 99.0]])
    values = torch.tensor([[0.5, 1.0, 1.5], [1.0, 0.0, 99.0]])
    real = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
    spread = np.std([1.0, 2.0, 3.0, 2.0, 4.0])
    # With lambda 1 an advantage is the discounted sum of what follows, less the value.
    sums = np.array([1 + 2 / 2 + 3 / 4, 2 + 3 / 2, 3, 2 + 4 / 2, 4]) / spread
    raw = sums - np.array([0.5, 1.0, 1.5, 1.0, 0.0])
    advantages, returns = advantages_and_returns(rewards, values, real)
    np.testing.assert_allclose(returns[real.bool()].numpy(), sums, rtol=1e-5)
    np.testing.assert_allclose(advantages[real.bool()].numpy(), (raw - raw.mean()) / raw.std(), rtol=1e-5)
    assert advantages[1, 2] == returns[1, 2] == 0


def batch_of(parts):
    tokens = torch.arange(12).reshape(2, 6) + 5
    return join([row[:3].tolist() for row in tokens], [row[3:].tolist() for row in tokens], 0)


def test_the_actor_begins_as_the_fine_tuned_model_and_the_reference_stays_it(parts):
    model = copy.deepcopy(parts[3])
    batch = batch_of(parts)
    plain = model(input_ids=batch["input_ids"]).logits.log_softmax(-1)
    expected = plain[:, 2:-1].gather(-1, batch["answers"][..., None]).squeeze(-1)
    actor_critic = ActorCritic(model, 4, 2).eval()
    torch.testing.assert_close(actor_critic.log_probabilities(batch)[0], expected)
    trained = [weights for weights in actor_critic.parameters() if weights.requires_grad]
    frozen = {name: w.clone() for name, w in actor_critic.named_parameters() if not w.requires_grad}
    assert frozen
    loss = PolicyGradient(actor_critic, 0.1, 0.01)
    zeros = torch.zeros(2, 3)
    optimizer = torch.optim.SGD(trained, lr=1.0)
    for _ in range(2):
        optimizer.zero_grad()
        loss(
            old_logs=expected.detach(), old_values=zeros, advantages=zeros + 1.0, returns=zeros + 5.0, **batch
        ).backward()
        optimizer.step()
    assert all(weights.grad is not None for weights in trained)
    now = dict(actor_critic.named_parameters())
    assert all(torch.equal(now[name], weights) for name, weights in frozen.items())
    # Output layer, LoRA of both and the value head have moved, the reference has not.
    torch.testing.assert_close(actor_critic.log_probabilities(batch, reference=True)[0], expected)
    assert (actor_critic.log_probabilities(batch)[0] - expected).abs().max() > 1e-4
    assert {"actor", "critic", "value_head"} == {
        part for name in now if now[name].requires_grad for part in ("actor", "critic", "value_head") if part in name
    }


def test_the_loss_of_a_policy_that_has_not_moved(parts):
    actor_critic = ActorCritic(copy.deepcopy(parts[3]), 4, 2).eval()
    batch = batch_of(parts)
    with torch.no_grad():
        logs, entropy = actor_critic.log_probabilities(batch)
        values = actor_critic.values(batch)
        advantages, returns = torch.tensor([[1.0, -2.0, 0.5]] * 2), values + 0.1
        loss = PolicyGradient(actor_critic, 0.1, 0.01)(
            old_logs=logs, old_values=values, advantages=advantages, returns=returns, **batch
        )
    expected = -advantages.mean() + 0.1 * 0.5 * 0.1**2 - 0.01 * entropy.mean()
    torch.testing.assert_close(loss, expected)


def test_ratios_are_clipped(parts):
    actor_critic = ActorCritic(copy.deepcopy(parts[3]), 4, 2).eval()
    batch = batch_of(parts)
    with torch.no_grad():
        logs, _ = actor_critic.log_probabilities(batch)
        values = actor_critic.values(batch)
        gradient = PolicyGradient(actor_critic, 0.0, 0.0)
        ones = torch.ones_like(logs)
        # The policy has doubled every probability: a gain counts for 1.2 of it at the most, a loss in full.
        old = {"old_logs": logs - np.log(2), "old_values": values, "returns": values}
        torch.testing.assert_close(gradient(advantages=ones, **old, **batch), torch.tensor(-1.2))
        torch.testing.assert_close(gradient(advantages=-ones, **old, **batch), torch.tensor(2.0))


def test_what_was_better_than_expected_becomes_likelier(parts):
    actor_critic = ActorCritic(copy.deepcopy(parts[3]), 4, 2).eval()
    batch, gradient = batch_of(parts), PolicyGradient(actor_critic, 0.0, 0.0)
    with torch.no_grad():
        before = actor_critic.log_probabilities(batch)[0]
    old = {"old_logs": before, "old_values": torch.zeros(2, 3), "returns": torch.zeros(2, 3)}
    optimizer = torch.optim.AdamW([each for each in gradient.parameters() if each.requires_grad], lr=1e-3)
    gradient(advantages=torch.tensor([[1.0] * 3, [-1.0] * 3]), **old, **batch).backward()
    optimizer.step()
    moved = actor_critic.log_probabilities(batch)[0] - before
    assert moved[0].sum() > 0 > moved[1].sum()


def test_rounds_have_two_rollouts_a_prompt_and_outlive_a_kill(parts, tmp_path):
    writer, prompts = writer_and_prompts(parts)
    actor_critic = ActorCritic(copy.deepcopy(parts[3]), 4, 2)

    def rounds() -> Rounds:
        return Rounds(actor_critic, writer, prompts, SETTINGS, 0, tmp_path)

    first = rounds()
    first.set_epoch(0)
    rows = [first[at] for at in range(len(first))]
    assert len(rows) == 12
    assert all(torch.equal(rows[at]["prompt"], rows[at + 6]["prompt"]) for at in range(6))
    assert all(len(row["answer"]) == len(row["rewards"]) == len(row["advantages"]) for row in rows)
    assert any(not torch.equal(rows[at]["answer"], rows[at + 6]["answer"]) for at in range(6))
    again = rounds()
    again.set_epoch(0)
    assert all(torch.equal(rows[at][name], again[at][name]) for at in range(12) for name in rows[at])
    # The policy has not moved: a second pass over the same rollouts, then others.
    again.set_epoch(1)
    assert torch.equal(again[0]["answer"], rows[0]["answer"])
    again.set_epoch(2)
    assert not all(torch.equal(again[at]["prompt"], rows[at]["prompt"]) for at in range(6))


def test_a_base_in_half_precision_is_trained_in_single(parts, tmp_path):
    writer, prompts = writer_and_prompts(parts)
    actor_critic = ActorCritic(copy.deepcopy(parts[3]).bfloat16(), 4, 2)
    kinds = {weights.requires_grad: weights.dtype for weights in actor_critic.parameters()}
    assert kinds == {True: torch.float32, False: torch.bfloat16}
    settings = SETTINGS.model_copy(update={"prompts": 2})
    rounds = Rounds(actor_critic, writer, prompts, settings, 0, tmp_path)
    rounds.set_epoch(0)
    with actor_critic.half:
        loss = PolicyGradient(actor_critic, 0.1, 0.01)(**rounds.collate([rounds[0], rounds[1]]))
    loss.backward()
    assert torch.isfinite(loss)
    assert {weights.dtype for weights in merged(actor_critic).parameters()} == {torch.bfloat16}


def test_a_round_ends_when_the_policy_has_moved(parts, tmp_path):
    writer, prompts = writer_and_prompts(parts)
    actor_critic = ActorCritic(copy.deepcopy(parts[3]), 4, 2)
    rounds = Rounds(actor_critic, writer, prompts, SETTINGS, 0, tmp_path)
    rounds.set_epoch(0)
    before = rounds[0]["prompt"]
    with torch.no_grad():
        for name, weights in actor_critic.named_parameters():
            if "actor" in name:
                weights.add_(torch.randn_like(weights))
    rounds.set_epoch(1)
    assert not torch.equal(rounds[0]["prompt"], before)

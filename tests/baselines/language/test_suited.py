"""What suits a model from scratch is filled in where nothing else is said, and for published weights nothing is."""

from __future__ import annotations

import pytest

from baselines.lancer.adapter import LancerSettings
from baselines.recgpt import RecGPTSettings
from baselines.reclm.settings import RecLMSettings


@pytest.mark.parametrize(
    ("base", "rate", "loss"), [("tiny", 2e-3, "answer"), ("small", 1e-3, "answer"), ("gpt2", 2e-4, "sentence")]
)
def test_rates_fall_with_the_depth_of_a_model_from_scratch(base: str, rate: float, loss: str) -> None:
    settings = LancerSettings.parse("lancer", {"base_model": base})
    assert (settings.phase2.learning_rate, settings.loss) == (rate, loss)


def test_what_is_said_stands_and_the_rest_is_filled_in() -> None:
    settings = LancerSettings.parse("lancer", {"base_model": "small", "phase2.learning_rate": 5e-3, "phase2.epochs": 9})
    assert (settings.phase2.learning_rate, settings.phase2.epochs, settings.phase2.batch_size) == (5e-3, 9, 8)


def test_published_weights_keep_the_published_settings() -> None:
    assert RecLMSettings.parse("reclm_gen", {}).sft.epochs == 40
    assert RecLMSettings.parse("reclm_gen", {"base_model": "tiny"}).sft.epochs == 2
    assert RecGPTSettings.parse("recgpt", {}).titles == RecGPTSettings.model_fields["titles"].default
    assert RecGPTSettings.parse("recgpt", {"base_model": "small"}).titles == 5

"""Settings from `--set`: nested keys, suggestions, and defaults that a dataset brings along."""

from __future__ import annotations

import pytest

from baselines.sasrec import FilterSASParsed, SASRecSettings
from bench.errors import InputError
from dpr.adapter import DPRSAS


def test_dotted_keys_reach_into_nested_settings() -> None:
    parsed = DPRSAS.Settings.parse("dpr_sas", {"backbone.epochs": "3", "towers": "1", "noise": "0.1"})
    assert (parsed.backbone.epochs, parsed.towers, parsed.noise) == (3, 1, 0.1)
    assert parsed.backbone.dim == SASRecSettings().dim


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"epoch": "3"}, "unknown setting of dpr_sas 'epoch'. Did you mean 'epochs'?"),
        ({"backbone.epoch": "3"}, "unknown setting of dpr_sas.backbone 'epoch'. Did you mean 'epochs'?"),
        ({"epochs.fast": "3"}, "setting epochs of dpr_sas has no settings of its own"),
        ({"towers": "3"}, "setting towers of dpr_sas: Input should be less than or equal to 2 (got '3')"),
        ({"backbone.dropout": "2"}, "setting backbone.dropout of dpr_sas"),
    ],
)
def test_what_is_wrong_is_named(values: dict[str, str], said: str) -> None:
    with pytest.raises(InputError) as raised:
        DPRSAS.Settings.parse("dpr_sas", values)
    assert said in str(raised.value)


def test_which_settings_there_are() -> None:
    assert FilterSASParsed.Settings.has("backbone.epochs") and FilterSASParsed.Settings.has("match")
    assert not FilterSASParsed.Settings.has("epochs") and not FilterSASParsed.Settings.has("backbone.epoch")
    assert not FilterSASParsed.Settings.has("match.epochs")

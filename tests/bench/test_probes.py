"""Checks of a contestant's parts: variants against the first, paired; and the step from text to items, alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.errors import InputError
from bench.probing import probe_model, probe_variants
from bench.progress import SilentProgress
from bench.runner import RunConfig
from bench.runs import find


def config(tmp_path, model="plain", **options):
    return RunConfig.build(task="ask", model=model, dataset="tiny", out=tmp_path / "out", **options)


def test_variants_are_runs_compared_with_the_first(plugins, tmp_path):
    variants = {"as it is": {}, "backwards": {"strength": -1.0}, "served otherwise": {"flavour": "salt"}}
    report = probe_variants("templates", variants, config(tmp_path), metric=None, progress=SilentProgress())
    assert list(report["variants"]) == list(variants) and report["metric"] == "ndcg@10"
    first, other, same = report["variants"].values()
    assert first["against_first"] is None and same["against_first"]["difference"] == 0
    assert other["against_first"]["difference"] == pytest.approx(other["value"] - first["value"])
    assert find(other["run"], tmp_path / "out").name == other["run"]
    # Two trainings: a setting of serving alone needs none of its own.
    assert plugins.Plain.fits == 2
    assert json.loads(Path(report["file"]).read_text("utf-8"))["variants"] == report["variants"]
    again = probe_variants("templates", variants, config(tmp_path), metric=None, progress=SilentProgress())
    assert again["variants"] == report["variants"] and again["file"] == report["file"] and plugins.Plain.fits == 2


def test_another_metric_and_a_wrong_setting(plugins, tmp_path):
    variants = {"a": {}, "b": {"strength": 2.0}}
    report = probe_variants("x", variants, config(tmp_path), metric="recall@10", progress=SilentProgress())
    assert report["metric"] == "recall@10"
    with pytest.raises(InputError, match="unknown setting of plain 'strenth'"):
        probe_variants("x", {"a": {"strenth": 1}}, config(tmp_path), metric=None, progress=SilentProgress())


def test_a_fitted_model_is_questioned(plugins, tmp_path):
    def measure(model, dataset, *, seed, progress, samples):
        return {"kinds": {"as it is": {"n": samples, "items": len(model.counts)}}}

    options = {"settings": {}, "dataset": "tiny", "data_dir": None, "seed": 3, "device": "cpu", "out": tmp_path / "out"}
    report = probe_model("mapping", measure, model="plain", progress=SilentProgress(), samples=5, **options)
    assert report["kinds"] == {"as it is": {"n": 5, "items": 30}} and report["checkpoint"].startswith("plain-")
    assert plugins.Plain.fits == 1 and not (tmp_path / "out" / "runs").exists()
    assert json.loads(Path(report["file"]).read_text("utf-8"))["samples"] == 5

import json
import math

import pytest
from pydantic import ValidationError

from bench import results
from bench.errors import InputError
from bench.statistics import Estimate


def example(**changes):
    values = {
        "run": "pos-plain-tiny-0",
        "task": "pos",
        "task_version": 1,
        "model": "plain",
        "model_version": 1,
        "dataset": "tiny",
        "protocol": "paper",
        "condition": "tag",
        "source": "measured",
        "information": "none",
        "seed": 0,
        "examples": 2,
        "settings": {"task": {}, "model": {}},
        "dataset_fingerprint": "f",
        "targets_digest": "t",
        "metrics": {"ndcg@10": results.MetricValue.of(Estimate(0.5, 0.4, 0.6, 2, 0))},
        "per_window": {},
        "health": results.Health(),
        "provenance": {},
    }
    return results.Result(**values | changes)


def test_the_kept_schema_is_current():
    assert results.SCHEMA_FILE.read_text("utf-8") == results.schema(), (
        "write bench.results.schema() to bench/schemas/result.schema.json"
    )


def test_the_shape_has_what_the_command_line_promises():
    values = json.loads(example().to_json())
    promised = {"run", "task", "model", "dataset", "protocol", "condition", "source", "metrics", "per_window"}
    assert promised | {"provenance", "cost", "timing", "encoder", "health", "router", "judge"} <= values.keys()
    assert values["metrics"]["ndcg@10"] == {"value": 0.5, "low": 0.4, "high": 0.6, "n": 2, "failed": 0}


def test_nan_becomes_null_and_is_refused_elsewhere():
    empty = results.MetricValue.of(Estimate(math.nan, math.nan, math.nan, 0, 0))
    assert json.loads(example(metrics={"m": empty}).to_json())["metrics"]["m"]["value"] is None
    with pytest.raises(ValidationError):
        results.MetricValue(value=math.nan, low=None, high=None, n=0, failed=0)
    with pytest.raises(ValidationError):
        example(timing={"x": math.inf})
    assert json.loads(example(provenance={"x": math.nan}).to_json())["provenance"] == {"x": None}


def test_written_and_read_back(tmp_path):
    results.write_result(tmp_path / "metrics.json", example())
    assert results.read_result(tmp_path / "metrics.json") == example()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not readable as JSON"),
        ("[]", "the document"),
        ('{"schema_version": 2}', "upgrade"),
        (example().to_json().replace('"seed": 0', '"seed": "x"'), "seed: "),
        (example().to_json().replace('"seed": 0', '"sead": 0'), "sead|seed"),
    ],
)
def test_a_bad_file_is_named_with_its_key(tmp_path, text, said):
    path = tmp_path / "metrics.json"
    path.write_text(text)
    with pytest.raises(InputError, match=said) as caught:
        results.read_result(path)
    assert str(path) in str(caught.value)

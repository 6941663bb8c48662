import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.llm.contracts import Answer
from bench.llm.core import decode, encode
from bench.llm.quick_json import dump, load

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters()), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES)
def test_any_value_comes_back(value):
    assert load(dump(value)) == value == json.loads(dump(value))


@pytest.mark.parametrize(
    "value", [math.inf, {"logprobs": [-0.5, -math.inf], "parsed": None}, [{"id": -(2**63) - 1}, 2**64]]
)
def test_numbers_that_orjson_would_change(value):
    assert load(dump(value)) == value == load(dump(value).decode())
    assert dump({"parsed": None}) == b'{"parsed":null}' and math.isnan(load(dump([math.nan]))[0])


def test_what_orjson_refuses():
    assert load(dump({"title": "\ud800", "big": 2**70})) == {"title": "\ud800", "big": 2**70}
    assert math.isnan(load('{"logprob": NaN}')["logprob"]) and load(b'"\\ud800"') == "\ud800"
    with pytest.raises(ValueError):
        load(b'{"half": ')
    with pytest.raises(TypeError):
        dump({"set": {1}})


@pytest.mark.parametrize("parsed", [[], {}, "", 0, False, {"a": [1]}])
def test_an_empty_value_is_a_value_in_the_cache_too(parsed):
    answer = Answer(texts=("t",), parsed=parsed, latency_s=0.25, finish=("stop",))
    again = decode(json.loads(dump(encode(answer))))
    assert again.parsed == parsed and type(again.parsed) is type(parsed) and again.texts == ("t",) and again.cached

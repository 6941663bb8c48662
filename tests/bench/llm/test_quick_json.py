import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.llm.contracts import Answer
from bench.llm.core import decode, encode
from bench.llm.quick_json import dump, load

NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters()), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES)
def test_any_value_comes_back(value):
    assert load(dump(value)) == value == json.loads(dump(value))


def test_what_orjson_refuses():
    assert load(dump({"title": "\ud800", "big": 2**70})) == {"title": "\ud800", "big": 2**70}
    assert math.isnan(load('{"logprob": NaN}')["logprob"]) and load(b'"\\ud800"') == "\ud800"
    assert load(dump(-(2**63) - 1)) == float(-(2**63) - 1) and dump([math.inf, math.nan]) == b"[null,null]"
    with pytest.raises(ValueError):
        load(b'{"half": ')
    with pytest.raises(TypeError):
        dump({"set": {1}})


@pytest.mark.parametrize("parsed", [[], {}, "", 0, False, {"a": [1]}])
def test_an_empty_value_is_a_value_in_the_cache_too(parsed):
    answer = Answer(texts=("t",), parsed=parsed, latency_s=0.25, finish=("stop",))
    again = decode(json.loads(dump(encode(answer))))
    assert again.parsed == parsed and type(again.parsed) is type(parsed) and again.texts == ("t",) and again.cached

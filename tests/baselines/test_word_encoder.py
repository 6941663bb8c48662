import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baselines.word_encoder import BagOfWords
from bench.contracts import Encoder
from bench.encoding_cache import load_encoder

bag = BagOfWords()


def test_it_is_found_by_its_name_and_keeps_the_contract():
    assert isinstance(load_encoder("bag-of-words"), BagOfWords) and isinstance(bag, Encoder)
    assert bag.encode([]).shape == (0, 384) and bag.encode_tokens([])[0].shape == (0, 0, 384)


@given(st.lists(st.text(), min_size=1))
def test_unit_vectors_of_each_text_alone(texts):
    vectors = bag.encode(texts)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(vectors, np.concatenate([bag.encode([text]) for text in texts]))


@given(st.lists(st.sampled_from(["no", "horror", "please", "sci", "naïve", "7"]), min_size=1), st.randoms())
def test_words_count_and_neither_order_case_nor_punctuation(words, random):
    shuffled = [word.upper() for word in words]
    random.shuffle(shuffled)
    plain, other = bag.encode([" ".join(words), "... " + "-".join(shuffled) + "?"])
    np.testing.assert_allclose(plain, other, atol=1e-6)


def test_words_are_told_apart():
    names = [f"word{number}" for number in range(300)]
    cosines = bag.encode(names) @ bag.encode(names).T - np.eye(300)
    # 384 random signs: the largest of 44,850 cosines of deviation 1 / sqrt(384) stays below five of them and a half.
    assert abs(cosines).max() < 5.5 / 384**0.5
    horror, none = bag.encode(["no horror", "horror"])
    assert horror @ none == pytest.approx(0.5**0.5, abs=0.1)


def test_token_states_add_up_to_the_vector():
    texts = ["no horror, please", "", "drama"]
    states, real = bag.encode_tokens(texts)
    assert real.sum(1).tolist() == [3, 1, 1] and not states[~real].any()
    total = states.sum(1)
    np.testing.assert_allclose(total / np.linalg.norm(total, axis=1, keepdims=True), bag.encode(texts), atol=1e-6)


def test_directions_are_the_same_everywhere():
    assert "".join(str(int(sign > 0)) for sign in bag.encode(["Horror"])[0, :8]) == "11011110"

"""Prompt pools: 20 templates each, no overlap between training and evaluation, readable with any label."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.contracts import NEGATIVE, POSITIVE
from bench.errors import InputError
from tasks.prompt_pools import DOMAINS, SLOT, label_phrase, pool_hash, pool_version, render, templates

POOLS = [(domain, polarity) for domain in DOMAINS for polarity in (POSITIVE, NEGATIVE)]


def normalised(template: str) -> str:
    return " ".join(re.findall(r"[a-z]+", template.lower().replace("i'm", "i am")))


@pytest.mark.parametrize(("domain", "polarity"), POOLS)
@pytest.mark.parametrize("split", ["train", "eval"])
def test_twenty_templates_with_one_slot(domain, polarity, split):
    pool = templates(domain, polarity, split)
    assert len(pool) == 20 == len({normalised(template) for template in pool})
    for template in pool:
        assert template.count(SLOT) == 1 and template.count("{") == 1
        assert template[0].isupper() and template[-1] in ".?!" and template.strip() == template
        assert "an {label}" not in template


@pytest.mark.parametrize("domain", DOMAINS)
def test_no_template_is_in_two_pools(domain):
    pools = [templates(domain, polarity, split) for polarity in (POSITIVE, NEGATIVE) for split in ("train", "eval")]
    every = [normalised(template) for pool in pools for template in pool]
    assert len(set(every)) == 80


@pytest.mark.parametrize(("domain", "polarity"), POOLS)
def test_training_and_evaluation_templates_share_few_words(domain, polarity):
    for new in templates(domain, polarity, "eval"):
        for old in templates(domain, polarity, "train"):
            words = [set(normalised(template).split()) - {"label"} for template in (new, old)]
            assert len(words[0] & words[1]) / len(words[0] | words[1]) < 0.7, (new, old)


def test_the_examples_of_the_paper_are_there():
    wishes = templates("film", POSITIVE, "train") + templates("film", POSITIVE, "eval")
    refusals = templates("film", NEGATIVE, "train") + templates("film", NEGATIVE, "eval")
    assert "I feel like watching a {label} film. What should I see?" in wishes
    assert "I am in the mood for {label}." in wishes
    assert "Recommend a movie in the {label} genre." in wishes
    assert "I want to watch something different, so avoid the {label} type." in refusals
    assert "Do not show me {label} movies." in refusals
    assert "I don't want to watch a {label} movie tonight." in refusals


@pytest.mark.parametrize(
    ("label", "article"),
    [
        ("Comedy", "a"),
        ("Action", "an"),
        ("adventure", "an"),
        ("Horror", "a"),
        ("Sci-Fi", "a"),
        ("NFL", "an"),
        ("US politics", "a"),
        ("university", "a"),
        ("unusual", "an"),
        ("European", "a"),
        ("Western", "a"),
        ("IT", "an"),
    ],
)
def test_article(label, article):
    assert render("I feel like watching a {label} film.", [label]) == f"I feel like watching {article} {label} film."
    assert render("A {label} film.", [label]) == f"{article.capitalize()} {label} film."
    assert render("Show me {label}.", [label]) == f"Show me {label}."


def test_several_labels():
    labels = ["Animation", "Children's", "Comedy"]
    assert label_phrase(labels) == "Animation, Children's and Comedy"
    assert label_phrase(labels[:2]) == "Animation and Children's"
    assert label_phrase(["Comedy"], NEGATIVE) == "Comedy"
    assert label_phrase(labels, NEGATIVE) == "combined Animation, Children's and Comedy"
    assert render("Not a {label} film.", labels) == "Not an Animation, Children's and Comedy film."
    assert render("Not a {label} film.", labels, NEGATIVE).startswith("Not a combined Animation,")
    with pytest.raises(ValueError, match="at least one"):
        label_phrase([])


@given(st.lists(st.text(min_size=1), min_size=1, max_size=4), st.sampled_from(POOLS), st.integers(0, 19))
def test_every_label_stands_in_the_prompt(labels, pool, number):
    prompt = render(templates(*pool, "eval")[number], labels, pool[1])
    assert all(label in prompt for label in labels)


def test_unknown_names_are_refused():
    with pytest.raises(InputError, match="Did you mean 'film'"):
        templates("films", POSITIVE, "train")
    with pytest.raises(InputError, match="prompt polarity"):
        templates("film", 0, "train")
    with pytest.raises(InputError, match="prompt pool"):
        templates("film", POSITIVE, "test")


PINNED = {
    "book": "e0792266da9316a3d7ef753d23a03210d9ca301555094068589471fdd2012ed8",
    "film": "fcab574a546d641df66860b1874d008633a9252556bd41e6bc0dbaa275c550c0",
    "news": "4f15676439525d2d2a75c0618471ec546b892783615d7a654cc56dc8fdc934ca",
    "product": "aeffb50cb9f8c2dd5edea504ad14733e530db99a5c5b22ea19d91881a5ef04ba",
}


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_changed_template_needs_a_new_version(domain):
    assert pool_version(domain) == 1
    assert pool_hash(domain) == PINNED[domain], "raise the pool's version and pin the new hash"

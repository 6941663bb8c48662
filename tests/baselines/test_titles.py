"""Titles: read from whatever a language model writes, and found in the catalogue."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from baselines.grounding import Grounder, Kind, normal
from baselines.title_lists import read_titles
from bench.contracts import NO_ITEM
from tests.tools.fake_llm import Letters

# A machine that is busy with something else is no defect of ours.
calm = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
LIST = [
    "Matrix, The (1999)",
    "12 Angry Men (1957)",
    "2001: A Space Odyssey (1968)",
    "Heat (1995)",
    "Postino, Il (1994)",
]


def grounder(titles, threshold=0.95):
    return Grounder(tuple(titles), Letters().encode(titles), Letters(), threshold)


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(LIST),
        "\n\n".join(f"  {title}  " for title in LIST),
        "Sure! Here are five films:\n\n" + "\n".join(f"{n}. {title}" for n, title in enumerate(LIST, 1)) + "\n\nEnjoy!",
        "\n".join(f"{n}) **{title}**" for n, title in enumerate(LIST, 1)),
        "\n".join(f"- *{title}*" for title in LIST),
        "\n".join(f'[{n}] "{title}"' for n, title in enumerate(LIST, 1)),
        " ".join(f"{n}. {title}" for n, title in enumerate(LIST, 1)),
        json.dumps({"titles": LIST}),
        json.dumps(LIST),
        "```json\n" + json.dumps({"titles": LIST}, indent=1) + "\n```",
        "Here you are: " + json.dumps([{"rank": 1, "title": title} for title in LIST]) + " Enjoy.",
        "<think>1. Alien\n2. Aliens</think>\n" + "\n".join(LIST),
        "```\n" + "\n".join(LIST) + "\n```",
        "\r\n".join(f"{title}," for title in LIST),
    ],
)
def test_a_list_is_read_in_any_dress(text: str) -> None:
    assert read_titles(text) == LIST


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   \n\t\n",
        "```\n```",
        "<think>It could be Heat (1995), or",
        "Here is my list:",
        "[]",
        '{"titles": []}',
        "[" * 50_000,
    ],
)
def test_no_title_is_an_empty_list(text: str) -> None:
    assert read_titles(text) == []


@calm
@given(
    st.text(max_size=400)
    | st.lists(st.sampled_from(["1. ", "{", "[", '"', "Heat", "\n", "(1995)", "<think>", "- ", "```"])).map("".join)
)
def test_reading_never_raises_and_titles_are_clean(text: str) -> None:
    for title in read_titles(text):
        assert title and title == " ".join(title.split()) and len(title) <= 300


@calm
@given(st.lists(st.from_regex(r"[^\W_][\w &'.!?:-]{0,30}[^\W_.]", fullmatch=True), min_size=1, max_size=12))
def test_what_a_json_list_holds_comes_back(titles: list[str]) -> None:
    assert read_titles(json.dumps({"titles": titles})) == titles
    assert read_titles("\n".join(f"{n}. {title}" for n, title in enumerate(titles, 1))) == titles


@pytest.mark.parametrize(
    ("said", "title", "kind"),
    [
        ("Matrix, The (1999)", "Matrix, The (1999)", Kind.EXACT),
        ("The Matrix (1999)", "Matrix, The (1999)", Kind.NORMALISED),
        ("the matrix", "Matrix, The (1999)", Kind.NORMALISED),
        ("THE MATRIX (1998)", "Matrix, The (1999)", Kind.NORMALISED),
        ("The Matrix, 1999", "Matrix, The (1999)", Kind.NORMALISED),
        ("The Matrix (1999) - a hacker learns the truth", "Matrix, The (1999)", Kind.NORMALISED),
        ("The Matrix - a hacker learns the truth", "Matrix, The (1999)", Kind.NORMALISED),
        ("Twelve & a Half", "Twelve and a Half (1990)", Kind.NORMALISED),
        ("Il Postino (1994)", "Postino, Il (The Postman) (1994)", Kind.NORMALISED),
        ("The Postman (1994)", "Postino, Il (The Postman) (1994)", Kind.NORMALISED),
        ("The Postman (1997)", "Postman, The (1997)", Kind.NORMALISED),
        ("L'Appartement", "Appartement, L' (1996)", Kind.NORMALISED),
        ("Leon (1994)", "Léon (1994)", Kind.NORMALISED),
        ("Die Hard (1988)", "Die Hard (1988)", Kind.EXACT),
        ("Blade Runner 2049", "Blade Runner 2049 (2017)", Kind.NORMALISED),
        ("Blade Runner, 1982", "Blade Runner (1982)", Kind.NORMALISED),
        ("Schindlers List", "Schindler's List (1993)", Kind.NORMALISED),
        # The name alone says which only where a single item has it.
        ("Hamlet (1996)", "Hamlet (1996)", Kind.EXACT),
        ("hamlet, 1990", "Hamlet (1990)", Kind.NORMALISED),
        ("Schnidler's Lits (1993)", "Schindler's List (1993)", Kind.EMBEDDING),
    ],
)
def test_a_title_is_found_in_three_steps(said: str, title: str, kind: Kind) -> None:
    titles = [
        *("Matrix, The (1999)", "Postino, Il (The Postman) (1994)", "Postman, The (1997)", "Appartement, L' (1996)"),
        *("Hamlet (1990)", "Hamlet (1996)", "Léon (1994)", "Die Hard (1988)", "Blade Runner (1982)"),
        *("Blade Runner 2049 (2017)", "Schindler's List (1993)", "Twelve and a Half (1990)"),
    ]
    items, kinds = grounder(titles).ground([said])
    assert (titles[items[0]], Kind(kinds[0])) == (title, kind)


def test_what_is_near_nothing_is_out_of_the_catalogue() -> None:
    items, kinds = grounder(["Heat (1995)", "Alien (1979)"]).ground(["Zzyzx", "Heat (1995)", "", "!!!"])
    assert items.tolist() == [NO_ITEM, 0, NO_ITEM, NO_ITEM]
    assert kinds.tolist() == [Kind.OUT_OF_CATALOGUE, Kind.EXACT, Kind.OUT_OF_CATALOGUE, Kind.OUT_OF_CATALOGUE]
    assert grounder(["Heat (1995)"], threshold=-1.0).ground(["Zzyzx"])[0].tolist() == [0]


def test_hamlet_of_another_year_is_not_normalised_away() -> None:
    items, kinds = grounder(["Hamlet (1996)"], threshold=1.1).ground(["Hamlet (1948)", "Hamlet"])
    assert items.tolist() == [NO_ITEM, 0] and kinds.tolist() == [Kind.OUT_OF_CATALOGUE, Kind.NORMALISED]


@calm
@given(st.text(max_size=60))
def test_normal_forms_are_stable(text: str) -> None:
    once = normal(text)
    assert once == " ".join(once.split()) and all(letter.isalnum() or letter == " " for letter in once)


@calm
@given(st.lists(st.text(max_size=30), min_size=1, max_size=8, unique=True), st.text(max_size=40))
def test_grounding_takes_any_text_and_every_title_finds_itself(titles: list[str], said: str) -> None:
    found = grounder(titles)
    items, kinds = found.ground([said, *titles])
    assert set(kinds.tolist()) <= {1, 2, 3, 4} and (items[kinds == Kind.OUT_OF_CATALOGUE] == NO_ITEM).all()
    for title, item in zip(titles, items[1:], strict=True):
        assert titles[item].strip() == title.strip()

"""What things are called in each domain, for prompts that are written to language models."""

from __future__ import annotations

from dataclasses import dataclass

from bench.errors import unknown_name


@dataclass(frozen=True)
class DomainWords:
    """`thing` and `things` are what is recommended, `label` what its labels are called, `expert` who knows them, `fan` who loves
    them, `consume` what is done with one, `people` who does it.
    """

    thing: str
    things: str
    label: str
    labels: str
    expert: str
    fan: str
    consume: str
    people: str


DOMAINS = {
    "film": DomainWords(
        thing="movie",
        things="movies",
        label="genre",
        labels="genres",
        expert="film expert",
        fan="movie enthusiast",
        consume="watch",
        people="viewers",
    ),
    "news": DomainWords(
        thing="news article",
        things="news articles",
        label="category",
        labels="categories",
        expert="news editor",
        fan="news reader",
        consume="read",
        people="readers",
    ),
    "book": DomainWords(
        thing="book",
        things="books",
        label="genre",
        labels="genres",
        expert="literary expert",
        fan="avid reader",
        consume="read",
        people="readers",
    ),
    "product": DomainWords(
        thing="product",
        things="products",
        label="category",
        labels="categories",
        expert="product expert",
        fan="keen shopper",
        consume="buy",
        people="buyers",
    ),
}


def domain_words(domain: str) -> DomainWords:
    """The words of a domain.

    Raises:
        InputError: an unknown domain.
    """
    if domain not in DOMAINS:
        raise unknown_name("domain", domain, DOMAINS)
    return DOMAINS[domain]

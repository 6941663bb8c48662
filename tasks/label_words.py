"""How labels (genres, categories) are said in sentences, and which of them a text names."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Everyday names of labels whose own name people seldom say.
ALIASES = {
    "children's": ("children", "kids", "kids'"),
    "sci-fi": ("science fiction", "scifi", "sci fi"),
    "film-noir": ("noir", "film noir"),
    "animation": ("animated", "cartoon", "cartoons"),
}
# Aliases that speak of people far more often than of a genre: fine for reading a wish, no proof that a text names a label.
PEOPLE = frozenset({"children", "kids", "kids'"})
# What parts a label that is several in one: "Fantasy, Paranormal", "Health & Fitness", "Food and Drink".
JOINTS = re.compile(r"\s*[,/&|]\s*|\s+and\s+")


def forms(name: str) -> list[str]:
    """A label as it may stand in a sentence: its name, its plural, its aliases; lower case."""
    base = name.lower()
    plural = base[:-1] + "ies" if base.endswith("y") else base + "s"
    return [base, plural, *ALIASES.get(base, ())]


class LabelWords:
    """Finds labels by name in texts.

    Args:
        names: label names, L of them.
        proof: for checking a text that must name none: a part of a compound label ("Fantasy, Paranormal") counts, words
            that speak of people do not.
    """

    def __init__(self, names: Sequence[str], *, proof: bool = False) -> None:
        said = {form: label for label, name in enumerate(names) for form in forms(name)}
        if proof:
            pieces = ((piece, label) for label, name in enumerate(names) for piece in JOINTS.split(name) if piece)
            said = {form: label for piece, label in pieces for form in forms(piece)} | said
            said = {form: label for form, label in said.items() if form not in PEOPLE}
        self._said = said
        longest_first = sorted(said, key=len, reverse=True)
        # An alternation of nothing would match everywhere.
        any_of = "|".join(map(re.escape, longest_first)) or r"(?!)"
        self._pattern = re.compile(rf"(?<![\w-])({any_of})(?![\w-])", re.IGNORECASE)

    def labels(self, text: str) -> list[int]:
        """Labels that the text names, in label order."""
        return sorted({self._said[word.lower()] for word in self.words(text)})

    def words(self, text: str) -> list[str]:
        """The words of the text that name a label, as they stand there."""
        found: list[str] = self._pattern.findall(text)
        return found

"""From a written title to an item as RecLM-gen does it: exactly, or the first catalogue title within three edits."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from baselines.grounding import Kind

EDITS = 3


class TitleMatcher:
    """Finds items by title.

    The published code gives a title that several items share to the first of them, always. Here it goes to the first that is
    not ruled out, so that a namesake in the history costs no place.
    """

    def __init__(self, titles: tuple[str, ...]) -> None:
        self._titles = titles
        self._items: dict[str, list[int]] = {}
        for item, title in enumerate(titles):
            self._items.setdefault(title, []).append(item)
        self._found: dict[str, str | None] = {}

    def find(self, text: str, ruled_out: Collection[int] = ()) -> tuple[int | None, Kind]:
        """The item that is meant, None where no title is within three edits, and how it was found."""
        text = text.strip()
        exact = text in self._items
        title = text if exact else self._nearest(text)
        if title is None:
            return None, Kind.OUT_OF_CATALOGUE
        own = self._items[title]
        return next((item for item in own if item not in ruled_out), own[0]), Kind.EXACT if exact else Kind.NORMALISED

    def _nearest(self, text: str) -> str | None:
        if text not in self._found:
            from rapidfuzz.distance import Levenshtein
            from rapidfuzz.process import cdist

            edits = cdist([text], self._titles, scorer=Levenshtein.distance, score_cutoff=EDITS)[0]
            near = np.flatnonzero(edits <= EDITS)
            self._found[text] = self._titles[near[0]] if len(near) else None
        return self._found[text]

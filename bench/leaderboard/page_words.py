"""What the page says in words: of every task, protocol, condition and mark, so that a number is never alone.

Names that are not known here (a third party's task, say) are shown as they are, without a sentence.
"""

from __future__ import annotations

from typing import Any

TASKS = {
    "seq": "Nothing is asked. What counts as right is the user's next item.",
    "pos": (
        "A wish: “I'm in the mood for a Comedy”. What counts as right is one item, drawn among the user's closest N future "
        "items that have a genre which the last one lacks."
    ),
    "neg": (
        "A refusal: “no Horror tonight”. The avoided genre is that of the true next item; what counts as right are the closest "
        "N future items that comply."
    ),
    "nuanced": (
        "A wish in somebody's own words that names no genre: “slow dinner for one, a glass of wine”. Nobody knows what is right; "
        "a judge reads the list, and without one there is only how much the list follows the words at all."
    ),
}

PROTOCOLS = {
    "paper": (
        "Genres are read as the published tables do: a wish is about one of an item's genres, and a refusal avoids the next "
        "item's whole genre string, so that an item with a part of it still complies."
    ),
    "strict": "The sound reading: an item complies with a refusal only if it does not have the avoided genre at all.",
}

CONDITIONS = {
    "none": "The task has no words: everybody is told the history alone.",
    "genre": "The words name one genre.",
    "genres": "The words name all genres of the item that they are about.",
    "tag": "The words quote a description of an item, reworded so that it shares few words with the texts that models may read.",
    "oracle": "Systems that are told the task's own label behind the words. They mark what is possible and compete with nobody.",
    "free": "Free wording that names no genre.",
}

INFORMATION = {
    "none": "is told the history alone and hears no words",
    "prompt": "is told the history and the words, nothing else",
    "oracle": "is told the task's own label behind the words",
}

SOURCES = {
    "measured": "Measured with this project; rankings of every example are kept, and the numbers are recomputed from them.",
    "published": "Printed in the paper. Nobody here has the rankings, so there is no interval, no test and no rank.",
    "submitted": "Sent in as an archive; the numbers are recomputed from the rankings in it, on data that we hold.",
}

METRICS: dict[str, dict[str, Any]] = {
    "ndcg": {
        "label": "NDCG",
        "text": "1 where what is right stands first, less the lower it stands, 0 outside the first k.",
    },
    "recall": {"label": "Recall", "text": "Share of what is right among the first k."},
    "compliance": {"label": "Compliance", "text": "Share of the first k that have what was wished for."},
    "violation": {"label": "Violation", "text": "Share of the first k that have what was refused.", "lower": True},
    "first_violation_rank": {"label": "First violation", "text": "Place of the first item that has what was refused."},
    "history_alignment": {
        "label": "History alignment",
        "text": "A judge's score of how well the list fits the history.",
    },
    "intent_fulfillment": {
        "label": "Intent fulfilment",
        "text": "A judge's score of how well the list fits the request.",
    },
    "overall_score": {"label": "Overall score", "text": "A judge's score of the list as a whole."},
    "responsiveness": {
        "label": "Responsiveness",
        "text": "How much of a list changes with the words; 0 for who hears none, and nothing of whether it changes for the better.",
    },
}

# In this order wherever metrics stand side by side; others follow by name.
METRIC_ORDER = (
    "ndcg@10",
    "recall@10",
    "ndcg@20",
    "recall@20",
    "compliance@10",
    "violation@10",
    "first_violation_rank",
)


def metric(name: str) -> dict[str, Any]:
    """Label, explanation and direction of a metric: `label`, `text`, `lower` (whether less is better)."""
    stem, _, k = name.partition("@")
    known = METRICS.get(stem, {"label": stem.replace("_", " "), "text": ""})
    at = f"@{k}" if k else ""
    return {"label": f"{known['label']}{at}", "text": known["text"], "lower": bool(known.get("lower"))}


def in_order(names: set[str], first: str | None = None) -> list[str]:
    """Metric names as they stand side by side, `first` before all others."""
    place = {name: at for at, name in enumerate(METRIC_ORDER)}
    return sorted(names, key=lambda name: (name != first, place.get(name, len(place)), name))

"""Figures that describe a dataset."""

from __future__ import annotations

from typing import Any

from bench.contracts import Dataset

TEST_SLICES = (3, 5, 10)


def dataset_statistics(dataset: Dataset) -> dict[str, Any]:
    """Counts and shares, ready for JSON.

    Returns:
        `users`, `items`, `events` (all splits); `mean_length` (events a user); `density` (events over users times items);
        `fingerprint`; `labels` (label name to the number of items that have it, in the order of the dataset's labels; an
        item with several labels counts for each); `splits` (events in `train`, `valid` and `test`);
        `users_with_test_events` (number N, as text, to how many users have at least N test events).
    """
    users, items, events = len(dataset.user_ids), len(dataset.catalogue), len(dataset.events.values)
    test = dataset.events.lengths - dataset.valid_end
    counts = dataset.catalogue.label_matrix().sum(axis=0).tolist()
    return {
        "users": users,
        "items": items,
        "events": events,
        "mean_length": events / users,
        "density": events / (users * items),
        "fingerprint": dataset.fingerprint,
        "labels": dict(zip(dataset.catalogue.label_names, counts, strict=True)),
        "splits": {
            "train": int(dataset.train_end.sum()),
            "valid": int((dataset.valid_end - dataset.train_end).sum()),
            "test": int(test.sum()),
        },
        "users_with_test_events": {str(least): int((test >= least).sum()) for least in TEST_SLICES},
    }

"""Figures that describe a dataset."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.contracts import Dataset

TEST_SLICES = (3, 5, 10)
LEAKS = ("test_events_before_a_train_event", "train_events_after_a_test_event", "test_items_first_trained_later")


def dataset_statistics(dataset: Dataset) -> dict[str, Any]:
    """Counts and shares, ready for JSON.

    Returns:
        `users`, `items`, `events` (all splits); `mean_length` (events a user); `density` (events over users times items);
        `fingerprint`; `labels` (label name to the number of items that have it, in the order of the dataset's labels; an
        item with several labels counts for each); `splits` (events in `train`, `valid` and `test`);
        `users_with_test_events` (number N, as text, to how many users have at least N test events); where the data have a
        clock `leakage` (see there).
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
    } | ({} if dataset.times is None else {"leakage": leakage(dataset)})


def leakage(dataset: Dataset) -> dict[str, float]:
    """What a split that cuts each user's own sequence lets training know of the future; all 0 under a global split.

    Returns:
        `test_events_before_a_train_event`: share of test events after which some user still has a train event;
        `train_events_after_a_test_event`: share of train events later than a test event, mean over test events;
        `test_items_first_trained_later`: share of test events whose item every train event has later only.

    Raises:
        ValueError: the data have no clock.
    """
    if dataset.times is None:
        raise ValueError(f"{dataset.name} has no clock.")
    place = np.arange(len(dataset.events.values)) - np.repeat(dataset.events.offsets[:-1], dataset.events.lengths)
    train = place < np.repeat(dataset.train_end, dataset.events.lengths)
    test = place >= np.repeat(dataset.valid_end, dataset.events.lengths)
    if not test.any():
        return dict.fromkeys(LEAKS, 0.0)
    moments, items = dataset.times[test], dataset.events.values[test]
    trained = np.sort(dataset.times[train])
    first = np.full(len(dataset.catalogue), np.iinfo(np.int64).max)
    np.minimum.at(first, dataset.events.values[train], dataset.times[train])
    later = 1.0 - np.searchsorted(trained, moments, "right") / len(trained)
    shares = ((later > 0).mean(), later.mean(), (first[items] > moments).mean())
    return {name: float(share) for name, share in zip(LEAKS, shares, strict=True)}

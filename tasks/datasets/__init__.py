"""Datasets: one class each, found through the entry-point group `bench.datasets`."""

"""`bench augment`: texts that a language model writes about the items of a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cyclopts import App

from bench.cli.writing import WritingFlags, write_or_plan

app = App(
    name="augment",
    help="Texts that a language model writes about items: tags, rewordings, summaries.",
    result_action="return_value",
)


@app.command
def tags(
    *,
    dataset: str,
    data_dir: Path | None = None,
    batch_size: int = 20,
    temperature: float = 0.0,
    flags: WritingFlags | None = None,
) -> None:
    """Three train tags an item, of 5 to 12 words each: what happens, how it feels, why people like it. No tag names a genre.

    They go to tags.jsonl in the dataset's folder, where the dataset reads them from then on. Every answer is cached, so the
    same command goes on with an interrupted one.

    Parameters
    ----------
    dataset
        Whose items (`bench list datasets`).
    data_dir
        Folder with the dataset's files, where they are not in the default place.
    batch_size
        Items in one request.
    temperature
        Of the answers.
    flags
        Who writes and where it goes.
    """
    _write("tags", dataset, data_dir, flags, {"batch": batch_size, "temperature": temperature})


@app.command
def rewrite(
    *,
    dataset: str,
    data_dir: Path | None = None,
    batch_size: int = 20,
    temperature: float = 0.0,
    max_overlap: float = 0.34,
    flags: WritingFlags | None = None,
) -> None:
    """The train tags in other words, for prompts at evaluation; the share of content words that stay is measured and bounded.

    They go beside the train tags.

    Parameters
    ----------
    dataset
        Whose tags.
    data_dir
        Folder with the dataset's files, where they are not in the default place.
    batch_size
        Items in one request.
    temperature
        Of the answers.
    max_overlap
        Largest share of its content words that a rewording may have from its original; above it is asked for again.
    flags
        Who writes and where it goes.
    """
    _write(
        "rewrite",
        dataset,
        data_dir,
        flags,
        {"batch": batch_size, "temperature": temperature, "max_overlap": max_overlap},
    )


@app.command
def summaries(
    *,
    dataset: str,
    data_dir: Path | None = None,
    batch_size: int = 10,
    temperature: float = 0.0,
    flags: WritingFlags | None = None,
) -> None:
    """A summary of 40 to 50 words an item, for a judge to read.

    They go to summaries.jsonl in the dataset's folder; `bench judge RUN --llm NAME --set summaries=FILE` shows them to the
    judge.

    Parameters
    ----------
    dataset
        Whose items.
    data_dir
        Folder with the dataset's files, where they are not in the default place.
    batch_size
        Items in one request.
    temperature
        Of the answers.
    flags
        Who writes and where it goes.
    """
    _write("summaries", dataset, data_dir, flags, {"batch": batch_size, "temperature": temperature})


def _write(
    author: str, dataset: str, data_dir: Path | None, flags: WritingFlags | None, settings: dict[str, Any]
) -> None:
    write_or_plan(author, flags or WritingFlags(), dataset, data_dir, settings)

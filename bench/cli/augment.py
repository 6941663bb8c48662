"""`bench augment`: what a language model writes about the items of a dataset, and how it judges them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from cyclopts import App

from bench.cli.writing import WritingFlags, write_or_plan

app = App(
    name="augment",
    help="What a language model says about items: tags, rewordings, summaries, judgements.",
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


@app.command
def judgements(
    *,
    dataset: str,
    data_dir: Path | None = None,
    requests: int = 6000,
    free: Path | None = None,
    base: Literal["mf", "sasrec"] = "mf",
    seed: int = 0,
    temperature: float = 0.0,
    flags: WritingFlags | None = None,
) -> None:
    """Scores from 0 to 10 of 20 items for each request: what `ctrl_rec` learns from.

    Requests are training templates filled with labels, and training tags; their items are the nearest by text, those of a base
    model, and random ones. They go to OUT/judgements, and `bench run --model ctrl_rec --set judgements=FILE` reads them. Every
    answer is cached, so the same command goes on with an interrupted one.

    Parameters
    ----------
    dataset
        Whose items.
    data_dir
        Folder with the dataset's files, where they are not in the default place.
    requests
        How many are judged, drawn by the seed; one question to the language model each.
    free
        A request set of `bench simulate` whose statements are judged as well.
    base
        The model whose items are among the judged: trained where needed, and kept in OUT.
    seed
        Seed of the draws and of the base model.
    temperature
        Of the answers.
    flags
        Who judges and where it goes.
    """
    settings = {"requests": requests, "free": str(free or ""), "base": base, "seed": seed, "temperature": temperature}
    _write("judgements", dataset, data_dir, flags, settings)


def _write(
    author: str, dataset: str, data_dir: Path | None, flags: WritingFlags | None, settings: dict[str, Any]
) -> None:
    write_or_plan(author, flags or WritingFlags(), dataset, data_dir, settings)

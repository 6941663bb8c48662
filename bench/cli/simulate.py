"""`bench simulate`: a request set, made up by a language model for the users of a dataset."""

from __future__ import annotations

from pathlib import Path

from bench.cli.writing import WritingFlags, write_or_plan


def simulate(
    *,
    dataset: str = "mini",
    data_dir: Path | None = None,
    users: int = 200,
    history: int = 20,
    seed: int = 0,
    temperature: float = 0.0,
    flags: WritingFlags | None = None,
) -> None:
    """Three requests a user (mood, plot, occasion) from their last items, none of which names a genre.

    The set goes to OUT/request-sets, and `bench run --task nuanced --set task.requests=FILE` asks it. Every answer is cached,
    so the same command goes on with an interrupted one; a request that names a genre is asked for again.

    Parameters
    ----------
    dataset
        Whose users (`bench list datasets`).
    data_dir
        Folder with the dataset's files, where they are not in the default place.
    users
        How many, drawn by the seed.
    history
        Last items before the test split that the language model sees.
    seed
        Seed of the draw, and of answers where the temperature is above 0.
    temperature
        Of the answers.
    flags
        Who writes and where it goes.
    """
    from bench.cli.console import console

    flags = flags or WritingFlags()
    settings = {"users": users, "history": history, "seed": seed, "temperature": temperature}
    report = write_or_plan("simulate", flags, dataset, data_dir, settings)
    if report is not None and not flags.json:
        folder = "" if data_dir is None else f" --data-dir {data_dir}"
        console().print(
            f"Ask them:\n  bench run --task nuanced --model MODEL --dataset {dataset}{folder} --set task.requests={report['file']}",
            soft_wrap=True,
            markup=False,
        )

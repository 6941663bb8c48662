"""`bench score`: metrics again from the saved rankings."""

from __future__ import annotations

from pathlib import Path


def score(run: str, *, data_dir: Path | None = None, out: Path = Path("results"), json: bool = False) -> None:
    """Compute a run's metrics again from its saved rankings, without its model.

    Parameters
    ----------
    run
        Its id, the beginning of it, or its folder.
    data_dir
        Folder with the dataset's files, where they are not in the default place.
    out
        Folder of results.
    json
        Print the result as one JSON document on stdout.
    """
    from bench import progress, runs, scoring
    from bench.cli.run import show_run

    folder = runs.find(run, out)
    with progress.for_terminal(quiet=json) as bars:
        done = scoring.rescore(folder, data_dir, bars)
    show_run(done, out, json)

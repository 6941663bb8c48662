"""`bench submit`: a run as an archive for the board of somebody else."""

from __future__ import annotations

import sys
from pathlib import Path


def submit(
    run: str,
    *,
    to: Path | None = None,
    data_dir: Path | None = None,
    out: Path = Path("results"),
    json: bool = False,
) -> int:
    """Pack a run that `bench leaderboard verify` accepts, and print the line for a pull request.

    The archive holds rankings, scores, journal and metrics, items and users as numbers; no title, no key.

    Parameters
    ----------
    run
        Its id, the beginning of it, or its folder.
    to
        Folder for the archive; OUT/submissions when not given.
    data_dir
        Folder with the dataset's files, where they are not in the default place.
    out
        Folder of results.
    json
        One JSON document on stdout: the line.
    """
    from bench import progress, runs
    from bench.errors import CheckError
    from bench.leaderboard import archive, submissions
    from bench.leaderboard.entries import run_entries
    from bench.leaderboard.verify import Data, verify_run

    folder = runs.find(run, out)
    target = to or out / submissions.SUBMISSIONS
    with progress.for_terminal(quiet=json) as bars:
        data = Data(data_dir, bars)
        problems = verify_run(folder, data)
        if problems:
            raise CheckError(f"{folder.name} is not submitted: {'; '.join(problems)}")
        entries, _ = run_entries(folder)
        packed = archive.pack(folder, target, data.get(entries[0].row.dataset))
    line = submissions.line_of(packed, entries[0].row)
    sys.stdout.write(line + "\n")
    if not json:
        sys.stderr.write(
            f"packed {packed.path} ({packed.path.stat().st_size:,} bytes). For a pull request put it into results/submissions/ and "
            f"add the line above to results/submissions/{submissions.INDEX}.\n"
        )
    return 0

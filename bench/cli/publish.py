"""`bench publish`: the board to a Hugging Face dataset repository."""

from __future__ import annotations

from pathlib import Path

from bench.cli.console import console, emit_json


def publish(
    *,
    to: str,
    out: Path = Path("results"),
    data_dir: Path | None = None,
    dry_run: bool = False,
    json: bool = False,
) -> None:
    """Check the board, then push it, its page and its submissions as one commit.

    The token is that of `hf auth login`, or HF_TOKEN; it is never printed.

    Parameters
    ----------
    to
        hf://datasets/ORG/NAME.
    out
        Folder of results.
    data_dir
        Folder with the files of datasets, for the check, where they are not in the default place.
    dry_run
        Say what would be sent; send nothing.
    json
        One JSON document on stdout.
    """
    from bench import progress
    from bench.leaderboard.publish import publish as push

    with progress.for_terminal(quiet=json) as bars:
        done = push(out, to, data_dir=data_dir, dry_run=dry_run, progress=bars)
    sizes = {name: path.stat().st_size for name, path in done.files.items()}
    if json:
        emit_json(
            {"repository": done.repository, "sent": done.address is not None, "commit": done.address, "files": sizes}
        )
        return
    screen = console()
    for name, size in sizes.items():
        screen.print(f"  {size:>12,}  {name}", markup=False, soft_wrap=True)
    said = f"sent to {done.address}" if done.address else f"nothing was sent: {len(sizes)} files for {done.repository}"
    screen.print(said, markup=False, soft_wrap=True)

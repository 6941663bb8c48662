"""The board, its page and its submissions as one commit to a dataset repository of the Hugging Face Hub."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import provenance
from bench.contracts import Progress
from bench.errors import CheckError, InputError
from bench.leaderboard.check_board import verify_board
from bench.leaderboard.rows import EXAMPLES, FILE, FOLDER
from bench.leaderboard.submissions import INDEX, SUBMISSIONS, read_lines
from bench.leaderboard.verify import Data

ADDRESS = re.compile(r"hf://datasets/([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)/?")
MESSAGE = "Leaderboard of promptrec-bench"


@dataclass(frozen=True)
class Publication:
    """What a commit holds (path in the repository to file), and where it went (None: nowhere, it was a dry run)."""

    repository: str
    files: dict[str, Path]
    address: str | None


def publish(out: Path, to: str, *, data_dir: Path | None, dry_run: bool, progress: Progress) -> Publication:
    """Check the board and push it with its page and submissions; files that are there and no longer belong are removed.

    Args:
        out: folder of results.
        to: `hf://datasets/ORG/NAME`. The token is the one that `hf auth login` keeps, or HF_TOKEN; the endpoint HF_ENDPOINT.
        data_dir: where datasets lie, for the check.
        dry_run: check and collect, and send nothing.
        progress: told what happens.

    Raises:
        InputError: a wrong address, no such repository, no right to write to it, or examples that must stay private.
        CheckError: the board does not pass `bench leaderboard verify`, or the Hub cannot be reached.
    """
    repository = parse_address(to)
    progress.note("checking the board")
    problems = verify_board(out / FILE, Data(data_dir, progress)).problems
    if problems:
        raise CheckError(f"{out / FILE} is not published, it has {len(problems)} problems; the first: {problems[0]}.")
    files = collect(out)
    if dry_run:
        return Publication(repository, files, None)
    progress.note(f"sending {len(files)} files to {repository}")
    return Publication(repository, files, commit(repository, files))


def parse_address(to: str) -> str:
    """ORG/NAME of `hf://datasets/ORG/NAME`.

    Raises:
        InputError: it is no such address.
    """
    found = ADDRESS.fullmatch(to)
    if found is None:
        raise InputError(f"--to takes hf://datasets/ORG/NAME, got {to!r}.")
    return found[1]


def collect(out: Path) -> dict[str, Path]:
    """What is published: the board, everything in the page's folder, and the archives that the list of submissions names.

    Raises:
        InputError: an archive is missing, or examples are of a dataset that must not be passed on.
    """
    files = {FILE: out / FILE}
    for path in sorted((out / FOLDER).rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            files[path.relative_to(out).as_posix()] = path
    for path in sorted((out / FOLDER / EXAMPLES).glob("*.json")):
        if _is_private(path):
            raise InputError(
                f"{path} shows data that their licence keeps private: build the board again without --examples, then publish."
            )
    lines = read_lines(out / SUBMISSIONS)
    for name in [INDEX, *(line.file for line in lines)] if lines else []:
        path = out / SUBMISSIONS / name
        if not path.is_file():
            raise InputError(f"{path} is missing.")
        files[f"{SUBMISSIONS}/{name}"] = path
    return files


def _is_private(path: Path) -> bool:
    try:
        values: Any = json.loads(path.read_text("utf-8"))
    except ValueError:
        return True
    return not isinstance(values, dict) or values.get("private") is not False


def commit(repository: str, files: dict[str, Path]) -> str:
    """Send files as one commit that also removes what an earlier one left of page and submissions; gives its address.

    Raises:
        InputError, CheckError: as `publish`.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    try:
        there = api.list_repo_files(repository, repo_type="dataset")
        # Examples of rows that are gone must not stay behind; what else somebody keeps in the repository is theirs.
        stale = [name for name in there if name.startswith((f"{FOLDER}/", f"{SUBMISSIONS}/")) and name not in files]
        operations: list[CommitOperationAdd | CommitOperationCopy | CommitOperationDelete] = [
            *(CommitOperationAdd(name, str(path)) for name, path in files.items()),
            *(CommitOperationDelete(name) for name in stale),
        ]
        done = api.create_commit(repository, operations, commit_message=MESSAGE, repo_type="dataset")
    except RepositoryNotFoundError:
        raise InputError(
            f"there is no dataset repository {repository!r} that this token may see: make it with `hf repo create {repository} "
            "--repo-type dataset`, or log in with `hf auth login`."
        ) from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        line = provenance.redact(" ".join(str(error).split()))[:300]
        if status in (401, 403):
            raise InputError(f"the Hub does not let this token write to {repository} ({status}): {line}") from None
        raise CheckError(f"the Hub answered {status}: {line}") from None
    except (OSError, ValueError) as error:
        raise CheckError(f"the Hub cannot be reached: {provenance.redact(str(error))[:300]}") from None
    return str(done.commit_url)

"""The harness of the benchmark: `bench.run(task="pos", model="dpr_sas")` evaluates, training first where needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from bench.leaderboard.rows import Board
    from bench.runs import Run

__all__ = ["__version__", "load_leaderboard", "run"]


def run(*, task: str, model: str, **options: Any) -> Run:
    """Evaluate a model on a task, as `bench run` does; a finished run is read from disk.

    Args:
        task: a registered task ("seq", "pos", "neg").
        model: a registered model.
        **options: fields of `bench.runner.RunConfig`: dataset, data_dir, protocol, prompt_kind, windows, seed, limit,
            refit, out, settings, device, batch_size, and for models that ask a language model llm, llm_config, max_cost,
            max_requests, llm_batch.

    Returns:
        The run: its directory and its result.

    Raises:
        InputError: an unknown name, option or setting.
        CheckError: the model failed; what was ranked before is kept.
    """
    from bench.runner import RunConfig, execute

    return execute(RunConfig.build(task=task, model=model, **options))


def load_leaderboard(path: str | Path = "results") -> Board:
    """The board that `bench leaderboard build` wrote.

    Args:
        path: the file, or the folder of results that it lies in.

    Returns:
        The board; `to_pandas()` is a frame with a row for every row.

    Raises:
        InputError: the file is missing, of a newer version, or a key of it is wrong.
    """
    from pathlib import Path

    from bench.leaderboard.rows import FILE, read_board

    place = Path(path)
    return read_board(place / FILE if place.is_dir() else place)


def __getattr__(name: str) -> str:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("promptrec-bench")
        except PackageNotFoundError:
            return "0+unknown"
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

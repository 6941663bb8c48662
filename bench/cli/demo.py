"""`bench demo`: a page on this machine on which a person steers recommenders with words."""

from __future__ import annotations

import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from bench.errors import InputError


def demo(
    *,
    dataset: str = "mini",
    data_dir: Path | None = None,
    model: Annotated[list[str] | None, Parameter(name="--model")] = None,
    host: str = "127.0.0.1",
    port: int | None = None,
    seed: int = 0,
    out: Path = Path("results"),
) -> None:
    """Give yourself a history, type any request, and see side by side what recommenders make of it.

    Requests in a row compose, and each can be taken back. Nothing is sent anywhere; the page is for this machine alone unless
    --host says otherwise. Needs the extra `demo`.

    Parameters
    ----------
    dataset
        The data (`bench list datasets`).
    data_dir
        Folder with the dataset's files, where they are not in the default place.
    model
        Recommenders, sasrec, filter_sas_parsed and dpr_sas when not given. Repeatable; the first is what the others are compared
        with. One that is not in OUT/models yet is trained first, as `bench run` would.
    host
        Address to listen on. The default lets in nobody else.
    port
        Port to listen on; the first free one from 7860 on when not given.
    seed
        Seed of the training.
    out
        Folder of results; fitted models lie in OUT/models.
    """
    from bench import progress
    from bench.demo.loading import DEFAULT_MODELS, open_desk

    # Before anything is trained: what is missing is said at once.
    if find_spec("gradio") is None:
        raise InputError("bench demo needs Gradio: pip install 'promptrec-bench[demo]'.")
    models = tuple(model) if model else DEFAULT_MODELS
    with progress.for_terminal(quiet=False) as bars:
        desk = open_desk(dataset, data_dir, models, out, bars, seed)
    from bench.demo.app import serve

    about = f"{dataset}: {len(desk.catalogue):,} items. {', '.join(models)}, seed {seed}."
    _, url = serve(desk, about, host, port)
    print(f"open {url} (Ctrl-C ends it)", flush=True)
    # Gradio serves from threads of its own.
    threading.Event().wait()

"""The best candidates of a base model, kept on disk: every language model that reranks them finds them there.

One file a batch of requests, named by what it hangs on: the base's weights and settings, the versions of what it answers
through, and everything of the requests that it sees. A file is whole or absent; one that does not read is made anew.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.atomic import atomic_path
from bench.contracts import Ranking, Recommender, Requests
from bench.encoding_cache import default_cache_directory
from bench.identity import digest, part_versions

# Fewer are cut from these, so that K = 20 and K = 100 share a file.
DEPTH = 100


def identity_of(base: Recommender, directory: Path) -> str:
    """Who a fitted base is: SHA-256 of its files, card, settings and the versions behind them, hexadecimal."""
    values = base.settings.model_dump(mode="json")
    files = {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
    about = {"name": base.card.name, "version": base.card.version, "settings": values, "files": files}
    return digest(about | {"parts": part_versions(type(base), values)})


class RetrievalCache:
    """A base model behind its kept candidates.

    Args:
        base: the fitted base.
        identity: see `identity_of`; None keeps nothing.
        directory: the folder; beside the encodings of the person's cache unless given.
    """

    def __init__(self, base: Recommender, identity: str | None, directory: Path | None = None) -> None:
        self.base, self.identity = base, identity
        self.directory = directory or default_cache_directory().parent / "retrieval"

    def items(self, requests: Requests, k: int) -> npt.NDArray[np.int32]:
        """The base's k best for every request, int32 [B, k], filled up as the base fills them up."""
        depth = max(k, DEPTH)
        if self.identity is None:
            return self.base.rank(requests, k).items
        path = self.directory / f"{self._key(requests, depth)}.safetensors"
        kept = _read(path, len(requests))
        if kept is None:
            ranking: Ranking = self.base.rank(requests, depth)
            kept = ranking.items.astype(np.int32)
            _write(path, kept)
        return kept[:, :k]

    def _key(self, requests: Requests, depth: int) -> str:
        mark = hashlib.sha256(f"{self.identity} {depth} {len(requests)}\n".encode())
        arrays: tuple[npt.NDArray[Any], ...] = (requests.users, requests.history.offsets, requests.history.values)
        for array in arrays:
            mark.update(array.astype("<i8").tobytes())
        for prompt in requests.prompts or ():
            coded = prompt.encode()
            mark.update(f"{len(coded)} ".encode() + coded)
        return mark.hexdigest()


def _read(path: Path, rows: int) -> npt.NDArray[np.int32] | None:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        items: npt.NDArray[np.int32] = load_file(path)["items"]
    except (OSError, SafetensorError, KeyError):
        return None
    return items if items.ndim == 2 and len(items) == rows else None


def _write(path: Path, items: npt.NDArray[np.int32]) -> None:
    from safetensors.numpy import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        save_file({"items": np.ascontiguousarray(items)}, temporary)

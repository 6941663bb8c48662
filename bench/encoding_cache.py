"""Sentence encoders by name, and their encodings kept on disk, safe against killed and parallel processes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from bench import registry
from bench.cards import EncoderCard
from bench.contracts import Bools, Encoder, Floats, Progress
from bench.errors import InputError, unknown_name
from bench.text_batches import encoded_batches

# The entry for all other sentence-transformers models is a class that needs a name, so it is no name of its own.
BY_NAME = "sentence-transformers"


def load_encoder(name: str) -> Encoder:
    """The encoder of a name, not yet loaded.

    Args:
        name: a name registered under `bench.encoders`, or a sentence-transformers model: a hub name ("owner/model") or
            a folder.

    Raises:
        InputError: neither; the nearest registered name is suggested.
    """
    known = registry.names("encoders")
    if name in known and name != BY_NAME:
        encoder: Encoder = registry.get("encoders", name)()
        return encoder
    if "/" in name or Path(name).is_dir():
        named: Encoder = registry.get("encoders", BY_NAME)(name)
        return named
    raise unknown_name("encoder", name, [entry for entry in known if entry != BY_NAME])


def default_cache_directory() -> Path:
    """Where encodings are kept: `$BENCH_CACHE_DIR/encodings` if that is set, otherwise in the person's cache folder."""
    import platformdirs

    chosen = os.environ.get("BENCH_CACHE_DIR")
    root = Path(chosen) if chosen else platformdirs.user_cache_path("promptrec-bench")
    return root / "encodings"


class CachedEncoder:
    """Another encoder behind a cache on disk: every distinct text is encoded once, for all processes.

    One file holds the records of one encoder identity, each the SHA-256 of a text (32 bytes) and its vector (float32,
    little endian). Records are only ever appended, each batch under a lock and in one write, so a killed process loses
    at most its last batch and leaves at most one torn record, which readers ignore and the next writer cuts off.

    Args:
        encoder: an encoder, or the name of one as `load_encoder` takes it.
        directory: the folder of the cache files; `default_cache_directory()` unless given.
        unit: whether the vectors are of unit length, as those of sentence encoders are.
    """

    def __init__(self, encoder: Encoder | str, directory: Path | None = None, *, unit: bool = True) -> None:
        if isinstance(encoder, str):
            encoder = load_encoder(encoder)
        self._encoder, self._unit = encoder, unit
        self._directory = default_cache_directory() if directory is None else Path(directory)
        self._vectors: dict[bytes, Floats] = {}
        self._read_records = 0

    @property
    def card(self) -> EncoderCard:
        """The card of the encoder behind the cache."""
        return self._encoder.card

    @property
    def identity(self) -> str:
        """The identity of the encoder behind the cache."""
        return self._encoder.identity

    def encode(self, texts: list[str], progress: Progress | None = None) -> Floats:
        """The encoder's vectors, float32 [len(texts), dimension]; it loads only if a text is new.

        Raises:
            InputError: the cache cannot be written, or the encoder cannot be loaded.
        """
        keys = [_text_key(text) for text in texts]
        if any(key not in self._vectors for key in keys):
            self._read_new_records()
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._vectors}
        if missing:
            self._encode_missing(list(missing.values()), progress)
        if not texts:
            return self._encoder.encode([])
        return np.stack([self._vectors[key] for key in keys])

    def encode_tokens(self, texts: list[str]) -> tuple[Floats, Bools]:
        """The encoder's own token states; these are not kept."""
        found: tuple[Floats, Bools] = self._encoder.encode_tokens(texts)  # type: ignore[attr-defined]
        return found

    def _encode_missing(self, texts: list[str], progress: Progress | None) -> None:
        # A batch is on disk before the next one starts, so that a long encoding can be killed and taken up again.
        for rows, vectors in encoded_batches(texts, self._encoder.encode, progress):
            keys = [_text_key(texts[row]) for row in rows]
            self._vectors.update(zip(keys, vectors, strict=True))
            self._append(keys, vectors)

    def _file(self, dimension: int) -> Path:
        name = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in self.identity)
        # Two identities may look alike once made safe for a file name, so a part of their hash tells them apart.
        tail = hashlib.sha256(self.identity.encode()).hexdigest()[:8]
        return self._directory / f"{name}-{tail}-{dimension}.f32"

    def _existing_file(self) -> Path | None:
        pattern = self._file(0).name.removesuffix("0.f32") + "*.f32"
        return next(iter(sorted(self._directory.glob(pattern))), None)

    def _read_new_records(self) -> None:
        path = self._existing_file()
        if path is None:
            return
        dimension = int(path.stem.rpartition("-")[2])
        record = _record_type(dimension)
        with path.open("rb") as stream:
            stream.seek(self._read_records * record.itemsize)
            data = stream.read()
        # Whole records only: the rest is torn, or still being written.
        count = len(data) // record.itemsize
        found = np.frombuffer(data, record, count)
        vectors = found["vector"].astype(np.float32)
        # A crash of the whole machine may leave a record of the right length with no data in it.
        length = np.linalg.norm(vectors, axis=1)
        sound = np.abs(length - 1) < 1e-3 if self._unit else np.isfinite(length) & (length > 0)
        for place in np.flatnonzero(sound):
            self._vectors[found["key"][place].tobytes()] = vectors[place]
        self._read_records += count

    def _append(self, keys: list[bytes], vectors: Floats) -> None:
        record = _record_type(vectors.shape[1])
        rows = np.empty(len(keys), record)
        rows["key"] = np.frombuffer(b"".join(keys), "V32")
        rows["vector"] = vectors
        path = self._file(vectors.shape[1])
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _append_records(path, rows.tobytes(), record.itemsize)
        except OSError as error:
            raise InputError(
                f"cannot write the cache of encodings {path}: {error.strerror or error}. "
                "Set BENCH_CACHE_DIR to a folder that can be written."
            ) from None


def _append_records(path: Path, data: bytes, record_bytes: int) -> None:
    import fcntl

    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        # Under the lock nobody else is writing, so a ragged end is what a killed process left.
        size = os.fstat(handle).st_size
        if size % record_bytes:
            os.ftruncate(handle, size - size % record_bytes)
        while data:
            data = data[os.write(handle, data) :]
        # Not forced to the disk, since a request waits for it: what a crash of the machine tears is told apart when it is read.
    finally:
        os.close(handle)


def _record_type(dimension: int) -> np.dtype[Any]:
    return np.dtype([("key", "V32"), ("vector", "<f4", (dimension,))])


def _text_key(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()

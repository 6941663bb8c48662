"""Where a pretrained language model lies, and whether this machine can hold it: answered before any weights are loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import InputError

WEIGHTS = (".safetensors", ".bin")
# Configuration, tokenizer and templates; never the weights.
SMALL_FILES = ("*.json", "*.txt", "*.model", "*.jinja")
GIB = 1 << 30
# Bytes of a trained weight beside itself: gradient and AdamW's two moments in single precision, and a copy of the weight in it.
TRAINED_BYTES = 16
# Activations, the key-value cache and what the allocator cannot use.
OVERHEAD = 1.2


@dataclass(frozen=True)
class Source:
    """A pretrained model: its small files lie in `folder`; `weight_bytes` is what its weights take as they are stored.

    `name` is what a person typed, `revision` the commit of the hub, None for a folder.
    """

    name: str
    folder: Path
    weight_bytes: int
    revision: str | None = None

    def with_weights(self) -> Path:
        """The folder with the weights in it: the same, or downloaded now.

        Raises:
            InputError: the hub does not give them.
        """
        if self.revision is None or _weights_in(self.folder):
            return self.folder
        kind = "*.safetensors*" if any(name.endswith(".safetensors") for name in _hub_sizes(self)) else "*.bin*"
        return _snapshot(self.name, self.revision, allow_patterns=[*SMALL_FILES, "*.py", kind])


def find(base_model: str, revision: str | None) -> Source:
    """The folder or the hub's repository of that name.

    Raises:
        InputError: there is neither, or access to it is not granted.
    """
    if Path(base_model).is_dir():
        folder = Path(base_model).resolve()
        if not (folder / "config.json").is_file():
            raise InputError(
                f"base_model={base_model} holds no config.json, so it is no model in Hugging Face's format."
            )
        if not _weights_in(folder):
            raise InputError(f"base_model={base_model} holds no weights (*.safetensors or *.bin).")
        return Source(base_model, folder, _weights_in(folder))
    if Path(base_model).is_absolute() or base_model.startswith(".") or base_model.count("/") > 1:
        raise InputError(f"base_model={base_model}: there is no such folder.")
    return _on_hub(base_model, revision)


def _on_hub(name: str, revision: str | None) -> Source:
    from huggingface_hub import snapshot_download

    try:
        cached = Path(snapshot_download(name, revision=revision, local_files_only=True))
        if _weights_in(cached):
            return Source(name, cached, _weights_in(cached), cached.name)
    except Exception:
        pass
    folder = _snapshot(name, revision, allow_patterns=list(SMALL_FILES))
    source = Source(name, folder, 0, folder.name)
    sizes = _hub_sizes(source)
    safe = [size for file, size in sizes.items() if file.endswith(".safetensors")]
    return Source(name, folder, sum(safe or sizes.values()), folder.name)


def _hub_sizes(source: Source) -> dict[str, int]:
    """Weight files of a hub's repository, with their bytes."""
    from huggingface_hub import HfApi

    try:
        files = HfApi().model_info(source.name, revision=source.revision, files_metadata=True).siblings or []
    except Exception as error:
        raise _not_given(source.name, error) from None
    return {file.rfilename: file.size or 0 for file in files if Path(file.rfilename).suffix in WEIGHTS}


def _snapshot(name: str, revision: str | None, **options: Any) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, **options))
    except Exception as error:
        raise _not_given(name, error) from None


def _not_given(name: str, error: Exception) -> InputError:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    if isinstance(error, GatedRepoError):
        return InputError(
            f"base_model={name} is gated: accept its terms on its page of the hub, then set HF_TOKEN to a token of yours."
        )
    if isinstance(error, RepositoryNotFoundError):
        return InputError(
            f"base_model={name}: the hub has no such model, or not for you (HF_TOKEN); or name a folder, or tiny."
        )
    reason = " ".join(str(error).split())[:160]
    return InputError(
        f"base_model={name} is neither a folder nor to be had from the hub ({reason}): name a folder, or tiny."
    )


def _weights_in(folder: Path) -> int:
    """Bytes of the weights: of safetensors, or else of the older format."""
    sizes = {kind: sum(path.stat().st_size for path in folder.glob(f"*{kind}")) for kind in WEIGHTS}
    return sizes[".safetensors"] or sizes[".bin"]


@dataclass(frozen=True)
class Memory:
    """What holds a model: `bytes` of it, and its name as a person says it."""

    bytes: int
    name: str


def memory_of(device: str) -> Memory:
    """The memory of this machine that models on `device` have to fit into: the GPU's, or the machine's own."""
    import torch

    if device.startswith("cuda"):
        free, total = torch.cuda.mem_get_info()
        return Memory(int(free), f"{torch.cuda.get_device_name()} with {free / GIB:.1f} of {total / GIB:.0f} GiB free")
    total = _machine_bytes()
    return Memory(total, f"this machine has {total / GIB:.0f} GiB of memory and no GPU in use")


def _machine_bytes() -> int:
    """The memory of this machine, or of the container around it where that is less."""
    import os

    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else "max"
    return min(total, int(text)) if text.isdigit() else total


def refuse_too_large(source: Source, stored: int, held: int, trained: float, device: str) -> None:
    """Refuse a model that does not fit, before anything of it is loaded.

    Args:
        source: the model.
        stored: bytes of a weight on disk.
        held: bytes of a weight in memory.
        trained: share of the weights that are trained (0: none).
        device: "cpu" or "cuda".

    Raises:
        InputError: says how much it needs, how much there is, and the ways out.
    """
    weights = source.weight_bytes / stored
    needed = int(weights * (held + trained * TRAINED_BYTES) * OVERHEAD)
    memory = memory_of(device)
    if needed <= memory.bytes:
        return
    what = "training" if trained else "serving"
    raise InputError(
        f"{what} base_model={source.name} ({weights / 1e9:.1f} billion weights) needs about {needed / GIB:.0f} GiB; "
        f"{memory.name}: use a GPU with more than that, a smaller model, or base_model=tiny."
    )

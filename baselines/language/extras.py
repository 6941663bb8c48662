"""The packages of the extra `train`, asked for before any long work."""

from __future__ import annotations

from importlib.util import find_spec

from bench.errors import InputError


def require(*packages: str) -> None:
    """Refuse where a package is missing.

    Raises:
        InputError: says which, and what to install.
    """
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise InputError(f"this needs {' and '.join(missing)}: pip install 'promptrec-bench[train]'.")

"""Errors that a person caused and can mend: one clear line, exit code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class InputError(Exception):
    """Wrong input: the message names the file, line or key, and what to do. The CLI prints it alone and exits with 2."""


class CheckError(Exception):
    """The run or check itself failed (exit code 1): nothing is wrong with what the person typed."""


class BusyError(CheckError):
    """Another process holds what is asked for: it may be free, or done, later."""


def first_fault(error: ValidationError, whole: str) -> str:
    """Key and reason of the first thing that does not fit a shape; `whole` names what is wrong where no key of it is."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or whole}: {first['msg']}"


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InputError:
    """An error for a name that does not exist, with the nearest known one suggested.

    Args:
        kind: what was looked for, as a person says it ("model", "setting of dpr_sas").
        name: what was typed.
        known: every name that would have worked.
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return InputError(f"unknown {kind} {name!r}.{hint} Known: {', '.join(names) or 'none'}.")

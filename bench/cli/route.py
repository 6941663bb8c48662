"""`bench route`: the polarity of any text."""

from __future__ import annotations

import io
import json as jsonlib
import sys
from pathlib import Path

import jsonlines

from bench.cli.console import console, table
from bench.errors import InputError


def route(*text: str, file: Path | None = None, router: str = "offline", json: bool = False) -> None:
    """Polarity of any text: does it ask for something (positive) or refuse it (negative), and how sure is that?

    Parameters
    ----------
    text
        One or more prompts.
    file
        A file of JSON lines, each with the key "prompt".
    router
        A registered router (`bench list routers`).
    json
        JSON lines on stdout: prompt, polarity, confidence.
    """
    if bool(text) == (file is not None):
        raise InputError("bench route takes either prompts or --file FILE.")
    prompts = list(text) if file is None else read_prompts(file)
    from bench import registry

    polarity, confidence = registry.get("routers", router)().route(prompts)
    rows = [
        (prompt, "positive" if side > 0 else "negative", round(float(sure), 4))
        for prompt, side, sure in zip(prompts, polarity, confidence, strict=True)
    ]
    if json:
        for prompt, side, sure in rows:
            row = {"prompt": prompt, "polarity": side, "confidence": sure}
            sys.stdout.write(jsonlib.dumps(row, ensure_ascii=False) + "\n")
        return
    made = table("prompt", "polarity", "confidence", left=2)
    for prompt, side, sure in rows:
        made.add_row(prompt, side, f"{sure:.3f}")
    console().print(made, markup=False)


def read_prompts(file: Path) -> list[str]:
    """The prompts of a file of JSON lines; empty lines are passed over.

    Raises:
        InputError: the file is not readable, or a line is no object with a text `prompt`; names file and line.
    """
    try:
        text = file.read_text("utf-8")
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror or error}.") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not UTF-8 text (byte {error.start}).") from None
    prompts = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = jsonlines.Reader(io.StringIO(line)).read()
        except (jsonlines.InvalidLineError, EOFError):
            row = None
        prompt = row.get("prompt") if isinstance(row, dict) else None
        if not isinstance(prompt, str) or not prompt.strip():
            raise InputError(
                f'{file}, line {number}: expected a JSON object with a text "prompt", such as {{"prompt": "..."}}.'
            )
        prompts.append(prompt)
    if not prompts:
        raise InputError(f"{file} has no prompt in it.")
    return prompts

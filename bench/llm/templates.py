"""Chat prompts in `.j2` files: `### system`, `### user` and so on begin a message; `quoted` makes data of a text."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from bench.llm.contracts import Message

if TYPE_CHECKING:
    from jinja2 import Template

HEADING = re.compile(r"^### (system|user|assistant)\n", re.MULTILINE)


def render(path: Path, **values: Any) -> tuple[Message, ...]:
    """The messages of a template; ones that come out empty are left out.

    The file is cut into messages before anything is filled in, so no value can begin a message of its own.

    Raises:
        jinja2.UndefinedError: the template uses a name that is not among `values`.
    """
    made = [(role, template.render(**values).strip()) for role, template in _parts(path)]
    return tuple(Message(cast(Literal["system", "user", "assistant"], role), text) for role, text in made if text)


@cache
def _parts(path: Path) -> tuple[tuple[str, Template], ...]:
    from jinja2 import Environment, StrictUndefined

    from bench.llm.quoting import quoted

    # No HTML is made here: data goes through `quoted`, which escapes what matters to a language model.
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)
    environment.filters["quoted"] = quoted
    pieces = HEADING.split(path.read_text("utf-8"))
    return tuple((role, environment.from_string(text)) for role, text in zip(pieces[1::2], pieces[2::2], strict=True))

"""A browser for tests: a page that remembers what it asked of the network and what went wrong in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from bench import browser as installed


@dataclass
class Visit:
    """An open page with the requests that left the machine's own address, and errors of scripts and policy."""

    page: Any
    outside: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def watch(self) -> None:
        self.page.on("request", lambda request: self._asked(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda message: message.type == "error" and self.errors.append(message.text))

    def _asked(self, url: str) -> None:
        if not url.startswith(("file:", "data:", "blob:", "http://127.0.0.1:", "ws://127.0.0.1:")):
            self.outside.append(url)


@contextmanager
def visiting(browser: Any, width: int = 1280, height: int = 900, **options: Any) -> Iterator[Visit]:
    """A fresh page of a browser, in a context of its own (nothing is remembered from another test)."""
    context = browser.new_context(viewport={"width": width, "height": height}, **options)
    visit = Visit(context.new_page())
    visit.watch()
    try:
        yield visit
    finally:
        context.close()


def why_no_browser() -> str | None:
    """The reason to skip, None where a browser is there."""
    return installed.missing()

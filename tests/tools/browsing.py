"""A browser for tests: a page that remembers what it asked of the network and what went wrong in it.

A page answers an action when it comes to it, some of it only after the action is over. What a test reads after one is waited
for, with `becomes` or `expecting`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from bench import browser as installed

# A page that is right is so within a fraction of a second; this is for a machine that does much else.
PATIENCE_S = 20.0

Read = TypeVar("Read")


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


def becomes(read: Callable[[], Read], wanted: Read) -> None:
    """Read until it is what is wanted; fails with both where it never is."""
    until = time.monotonic() + PATIENCE_S
    while (found := read()) != wanted:
        assert time.monotonic() < until, f"after {PATIENCE_S:.0f} s it is {found!r}, not {wanted!r}"
        time.sleep(0.05)


def expecting(locator: Any) -> Any:
    """Playwright's assertions about a locator, which wait."""
    from playwright.sync_api import expect

    expect.set_options(timeout=1000 * PATIENCE_S)
    return expect(locator)


def why_no_browser() -> str | None:
    """The reason to skip, None where a browser is there."""
    return installed.missing()

"""A Chromium that is already on the machine, driven by Playwright: for the page's benchmark and for tests. Downloads nothing."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bench.errors import InputError

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# No sandbox, since containers seldom allow one, and nothing that a browser does on the network of its own accord.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def missing() -> str | None:
    """What is missing to drive a browser, as one sentence that says what to install; None where nothing is."""
    if importlib.util.find_spec("playwright") is None:
        return "Playwright is not installed: pip install playwright."
    if _executable() is None:
        return f"no Chromium was found ({', '.join(NAMES)}): install it, on Debian with apt-get install chromium."
    return None


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium for as long as the block lasts.

    Raises:
        InputError: Playwright or Chromium is missing.
    """
    lacking = missing()
    if lacking is not None:
        raise InputError(lacking)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_executable(), args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


def _executable() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)

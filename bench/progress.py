"""Progress of long steps: bars with rate and time left for a person, an occasional line for a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TextIO

NOTE_SECONDS = 30.0


class RichProgress:
    """Bars on stderr, drawn by rich. Bars vanish when full; notes stay. Use as a context manager."""

    def __init__(self) -> None:
        self._display: Any = None
        self._open = 0

    def track(self, description: str, total: int, done: int = 0) -> Callable[[int], None]:
        """Open a bar of `total` steps, `done` of them made before; the returned callable advances it."""
        display = self._shown()
        bar = display.add_task(description, total=total)
        self._open += 1
        begun, done = done, 0

        def advance(steps: int) -> None:
            nonlocal done
            before, done = done, done + steps
            display.update(bar, completed=done)
            if before < total <= done:
                display.update(bar, visible=False)
                self._open -= 1
                if self._open == 0:
                    self.close()

        advance(begun)  # The bar's speed leaves out its first report.
        return advance

    def note(self, message: str) -> None:
        """One line above the bars."""
        console = self._shown(start=False).console
        console.print(message, style="dim", highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Take the bars off the screen; the next `track` brings a new display."""
        if self._display is not None:
            self._display.stop()
            self._display, self._open = None, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _shown(self, start: bool = True) -> Any:
        if self._display is None:
            self._display = _rich_display()
        if start:
            self._display.start()
        return self._display


def pace(speed: float) -> str:
    """Steps per second in words; slow ones, such as epochs, by their seconds."""
    if 0 < speed < 0.5:
        return f"{1 / speed:,.0f} s each"
    return f"{speed:,.0f}/s" if speed >= 10 else f"{speed:.1f}/s"


def _rich_display() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars
    from rich.text import Text

    class Rate(ProgressColumn):
        """Steps per second."""

        def render(self, task: Any) -> Text:
            speed = task.finished_speed or task.speed
            return Text(pace(speed) if speed else "", style="cyan")

    return Bars(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=Console(stderr=True),
        transient=True,
    )


class QuietProgress:
    """For `--json` and logs: notes as plain lines on stderr, and of a step one line every half minute."""

    def __init__(self, stream: TextIO | None = None, seconds: float = NOTE_SECONDS) -> None:
        self._stream, self._seconds = stream, seconds

    def track(self, description: str, total: int, done: int = 0) -> Callable[[int], None]:
        """Report at most every `seconds` how far the step is; speed is that of the steps that were not `done` before."""
        start = told = time.monotonic()
        begun = done

        def advance(steps: int) -> None:
            nonlocal told, done
            done += steps
            now = time.monotonic()
            if now - told >= self._seconds:
                told = now
                speed = (done - begun) / (now - start)
                left = (now - start) * (total - done) / max(done - begun, 1)
                self.note(f"{description}: {done} of {total}, {pace(speed)}, {left:.0f} s left")

        return advance

    def note(self, message: str) -> None:
        """One line."""
        stream = self._stream or sys.stderr
        stream.write(message + "\n")
        stream.flush()

    def close(self) -> None:
        """Nothing to take away."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class SilentProgress(QuietProgress):
    """Says nothing at all: for tests and for use as a library."""

    def note(self, message: str) -> None:
        """Dropped."""


def for_terminal(quiet: bool = False) -> RichProgress | QuietProgress:
    """Bars where stderr is a terminal and nobody asked for quiet, plain lines elsewhere."""
    return QuietProgress() if quiet or not sys.stderr.isatty() else RichProgress()

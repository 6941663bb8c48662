"""Which cell may begin when: resources, slots of language models, one training at a time of what cells share, retries."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.sweep.plan import Cell
from bench.sweep.work import Outcome, Pool

# How long to leave a run alone that another process is writing, and how often to look at the clock.
BUSY_SECONDS, TICK_SECONDS = 2.0, 1.0


@dataclass
class State:
    """A cell on its way: attempts begun, and how the last one ended."""

    cell: Cell
    attempts: int = 0
    running: bool = False
    not_before: float = 0.0
    outcome: Outcome | None = None

    @property
    def status(self) -> str:
        """done, failed, running or waiting."""
        if self.running:
            return "running"
        if self.outcome is not None and self.outcome.ending in ("done", "failed"):
            return self.outcome.ending
        return "waiting"


@dataclass
class Scheduler:
    """Carries out cells in a pool.

    Attributes:
        pool: where they are carried out.
        llm_slots: slots of each language model; one where none are named.
        retries: attempts after the first, for a cell whose worker died.
        fitted: keys of models that are trained already; further ones are added.
        told: called with all states whenever one has changed.
    """

    pool: Pool
    llm_slots: dict[str, int]
    retries: int
    fitted: set[str]
    told: Callable[[list[State]], None]
    states: list[State] = field(default_factory=list)

    def run(self, cells: list[Cell]) -> list[State]:
        """Carry out every cell; returns how each ended, in their order. A cell that fails stops no other.

        Raises:
            InputError: a cell asks for more than the pool has; nothing was begun then.
        """
        self.states = [State(cell) for cell in cells]
        for cell in cells:
            self.pool.room(cell)
        try:
            while any(state.status in ("waiting", "running") for state in self.states):
                self._begin_what_may()
                for cell, outcome in self.pool.wait(TICK_SECONDS):
                    self._ended(next(state for state in self.states if state.cell is cell), outcome)
                    self.told(self.states)
        finally:
            self.pool.close()
        return self.states

    def _begin_what_may(self) -> None:
        now, begun = time.monotonic(), False
        for state in self.states:
            if state.status == "waiting" and state.not_before <= now and self._may(state.cell):
                state.attempts, state.running, begun = state.attempts + 1, True, True
                self.pool.submit(state.cell)
        if begun:
            self.told(self.states)

    def _may(self, cell: Cell) -> bool:
        """A training that is not there yet is left to one cell; the locks of the store guard it against other processes too."""
        running = [state.cell for state in self.states if state.running]
        missing = cell.trainings - self.fitted
        if any(missing & other.trainings for other in running):
            return False
        used = Counter[str | None]()
        for other in running:
            used[other.config.llm] += other.resources.llm_slots
        llm = cell.config.llm
        if llm is not None and used[llm] and used[llm] + cell.resources.llm_slots > self.llm_slots.get(llm, 1):
            return False
        return self.pool.room(cell)

    def _ended(self, state: State, outcome: Outcome) -> None:
        state.running, state.outcome = False, outcome
        if outcome.ending == "done":
            self.fitted |= state.cell.trainings
        elif outcome.ending == "busy":
            # Nothing was tried: whoever writes the run may finish it, and then it is read back.
            state.attempts -= 1
            state.not_before = time.monotonic() + BUSY_SECONDS
        elif outcome.ending == "died" and state.attempts > self.retries:
            state.outcome = Outcome("failed", f"{outcome.message}, {state.attempts} times", outcome.seconds)

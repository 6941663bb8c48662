"""Simulated users: a language model says what somebody with a given history would ask for (Section 4.4.1, Appendix B.4)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from bench import cards
from bench.cards import Settings
from bench.contracts import Dataset
from bench.errors import InputError
from bench.llm.contracts import ChatRequest, Sampling
from bench.llm.quoting import LONGEST, NOTICE
from bench.llm.templates import render
from bench.rng import uniform_draws
from bench.writing import WriteConfig
from tasks.domains import domain_words
from tasks.label_words import LabelWords
from tasks.request_sets import MODES, Origin, UserRequest, read_request_set, write_request_set

TEMPLATE = Path(__file__).with_name("simulator.j2")
FOLDER = "request-sets"
# Three statements, and room for a model that thinks aloud first.
MAX_TOKENS = 1024

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "requests": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "mode": {"type": "string", "enum": list(MODES)},
                    "implied_intent": {"type": "string"},
                    "statement": {"type": "string"},
                },
                "required": ["mode", "implied_intent", "statement"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["requests"],
    "additionalProperties": False,
}

Statements = tuple[UserRequest, ...]


class SimulatorSettings(Settings):
    """Settings of the simulator."""

    users: int = Field(200, ge=1, description="users, drawn by the seed")
    history: int = Field(20, ge=1, description="last items before the test split that the simulator sees")
    seed: int = Field(0, ge=0, description="seed of the draw")
    temperature: float = Field(0.0, ge=0, description="of its answers")


class Simulator:
    """Writes request sets: three requests a user (mood, plot, occasion), none of which may name a label."""

    command: ClassVar[str] = "bench simulate"
    templates: ClassVar[tuple[Path, ...]] = (TEMPLATE,)
    Settings: ClassVar[type[cards.Settings]] = SimulatorSettings

    def __init__(self, dataset: Dataset, settings: SimulatorSettings) -> None:
        """Draw the users.

        Raises:
            InputError: fewer users than are asked for have so long a history.
        """
        self.dataset, self.settings = dataset, settings
        able = np.flatnonzero(dataset.valid_end >= settings.history)
        if len(able) < settings.users:
            raise InputError(
                f"{len(able)} users of {dataset.name!r} have {settings.history} items before the test split, {settings.users} "
                "were asked for: give fewer --users or a shorter --history."
            )
        draws = uniform_draws(settings.seed, "simulator/users", len(dataset.user_ids))[able]
        drawn = np.sort(able[np.argsort(draws, kind="stable")[: settings.users]])
        self._rows = {dataset.user_ids[row]: row for row in drawn.tolist()}
        self._named = LabelWords(dataset.catalogue.label_names, proof=True)

    def batches(self) -> list[tuple[str, ...]]:
        """Every user alone, in the order of the dataset."""
        return [(user,) for user in self._rows]

    def request(self, units: Sequence[str], wrong: Mapping[str, str]) -> ChatRequest:
        """The prompt of Appendix B.4, with titles and labels as data."""
        (user,) = units
        catalogue, row = self.dataset.catalogue, self._rows[user]
        seen = self.dataset.events[row][: self.dataset.valid_end[row]][-self.settings.history :]
        names = catalogue.label_names
        history = [(catalogue.titles[v], ", ".join(names[label] for label in catalogue.labels[v])) for v in seen]
        messages = render(
            TEMPLATE,
            words=domain_words(self.dataset.card.domain),
            domain=self.dataset.card.domain,
            history=history,
            banned=", ".join(f'"{name}"' for name in names[:3]),
            longest=LONGEST,
            wrong=wrong.get(user, ""),
            notice=NOTICE,
        )
        drawn = self.settings.seed if self.settings.temperature else None
        sampling = Sampling(self.settings.temperature, max_tokens=MAX_TOKENS, seed=drawn)
        return ChatRequest(messages, sampling, SCHEMA, id=user)

    def read(self, units: Sequence[str], parsed: Any) -> tuple[dict[str, Statements], dict[str, str]]:
        """The user's three requests, in the order of the modes, or what is wrong with the first faulty one."""
        (user,) = units
        problem = self._problem(parsed["requests"])
        if problem is not None:
            return {}, {user: problem}
        by_mode = {each["mode"]: {key: value.strip() for key, value in each.items()} for each in parsed["requests"]}
        return {user: tuple(UserRequest.model_validate(by_mode[mode] | {"user_id": user}) for mode in MODES)}, {}

    def place(self, config: WriteConfig, asked: str) -> Path:
        """`--to`, or OUT/request-sets/DATASET-LLM-MARK.jsonl.

        Raises:
            InputError: another request set is there.
        """
        llm = re.sub(r"[^A-Za-z0-9._-]+", "-", config.llm or "").strip("-.")
        path = config.to or config.out / FOLDER / f"{self.dataset.name}-{llm}-{asked[:10]}.jsonl"
        if path.is_file() and not config.replace:
            there = read_request_set(str(path), self.dataset.name).origin
            if there.asked != asked:
                raise InputError(f"{path} is another request set: name another file with --to, or give --replace.")
        return path

    def save(self, path: Path, texts: Mapping[str, Statements], by: dict[str, Any]) -> dict[str, Any]:
        """Write the set."""
        origin = Origin(
            dataset=self.dataset.name,
            source="Simulated by `bench simulate`.",
            dataset_fingerprint=self.dataset.fingerprint,
            seed=self.settings.seed,
            history=self.settings.history,
            **by,
        )
        requests = [request for statements in texts.values() for request in statements]
        write_request_set(path, origin, requests)
        return {"requests": len(requests), "digest": read_request_set(str(path), self.dataset.name).digest}

    def _problem(self, requests: list[dict[str, str]]) -> str | None:
        modes = [each["mode"] for each in requests]
        if sorted(modes) != sorted(MODES):
            return (
                f"one request of each mode ({', '.join(MODES)}) was asked for, there were {', '.join(modes) or 'none'}"
            )
        for each in requests:
            statement = each["statement"].strip()
            named = self._named.words(statement)
            if named:
                return f'the {each["mode"]} request says "{named[0]}", which names a label'
            if not 1 <= len(statement) <= LONGEST:
                return f"the {each['mode']} request has {len(statement)} characters, 1 to {LONGEST} were asked for"
        if len({" ".join(each["statement"].lower().split()) for each in requests}) < len(MODES):
            return "two of the requests are the same"
        return None

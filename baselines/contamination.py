"""Does a language model know a data set by heart? Verbatim recall of titles, of the file's lines, and of users' histories.

A zero-shot number of a model that has read the test events says how well it remembers. The three questions follow
Di Palma et al. 2025 (Do LLMs Memorize Recommendation Datasets?, arXiv 2505.10212): title from id, next line, next item.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from baselines.asking import THINGS
from baselines.grounding import answer_readings, catalogue_readings
from baselines.title_lists import first_title, without_reasoning
from bench.contracts import Dataset, Progress
from bench.language import ask
from bench.llm.contracts import Answer, ChatRequest, LanguageModel, Sampling
from bench.llm.templates import render
from bench.rng import uniform_draws
from bench.statistics import wilson

TEMPLATE = Path(__file__).with_name("contamination.j2")
SHOTS, LINES, HISTORY = 3, 5, 10
# The mark: the data set was read if the lower end of an interval of verbatim recall is above this.
MARK = 0.05
RULE = (
    f"the lower end of the 95 % interval of recalled titles, lines or next items (less the best guess) is above {MARK}"
)


@dataclass(frozen=True)
class Question:
    """One request, and whether an answer recalls: in substance, and letter by letter."""

    request: ChatRequest
    recalled: Callable[[str], bool]
    verbatim: Callable[[str], bool]


def contamination(
    llm: LanguageModel, dataset: Dataset, data_dir: Path | None, *, samples: int, seed: int, progress: Progress
) -> dict[str, Any]:
    """Ask three sets of questions and count.

    Args:
        llm: who is asked.
        dataset: what it may know by heart.
        data_dir: where the data set's files lie, where that is not the default place.
        samples: questions of each kind, drawn by the seed (fewer where there are fewer).
        seed: of the draws.
        progress: told how far it is.

    Returns:
        `probes`: for each kind n, failed, recalled and verbatim (count, rate, low, high; Wilson's intervals), and for
        `sequences` the rate of a `guess` that knows no user, the most popular unseen item; `mark` and its `rule`.

    Raises:
        CheckError: nothing could be asked.
    """
    made: dict[str, tuple[list[Question], dict[str, Any]]] = {
        "titles": (_titles(dataset, samples, seed), {}),
        "lines": _lines(dataset, data_dir, samples, seed),
        "sequences": _sequences(dataset, samples, seed),
    }
    questions = [(name, question) for name, (mine, _) in made.items() for question in mine]
    counts = {name: {"n": len(mine), "failed": 0, "recalled": 0, "verbatim": 0} for name, (mine, _) in made.items()}
    advance = progress.track("asking from memory", len(questions))
    for position, answer in ask(llm, (question.request for _, question in questions)):
        name, question = questions[position]
        _count(counts[name], question, answer)
        advance(1)
    probes = {name: _rates(counts[name]) | about for name, (_, about) in made.items()}
    return {"probes": probes, "mark": _marked(probes), "rule": RULE}


def _count(counts: dict[str, int], question: Question, answer: Answer) -> None:
    if answer.failure is not None:
        counts["failed"] += 1
        return
    text = without_reasoning(answer.texts[0] if answer.texts else "")
    counts["recalled"] += question.recalled(text)
    counts["verbatim"] += question.verbatim(text)


def _rates(counts: dict[str, int]) -> dict[str, Any]:
    """Failed questions recalled nothing; they stay in n and are told beside it."""
    n = counts["n"]
    shown: dict[str, Any] = {"n": n, "failed": counts["failed"]}
    for name in ("recalled", "verbatim"):
        low, high = wilson(counts[name], n)
        rate = counts[name] / n if n else None
        shown[name] = {"count": counts[name], "rate": rate, "low": round(low, 6), "high": round(high, 6)}
    return shown


def _marked(probes: dict[str, dict[str, Any]]) -> bool:
    guess = probes["sequences"]["guess"] or 0.0
    lows = [probe["recalled"]["low"] - (guess if name == "sequences" else 0.0) for name, probe in probes.items()]
    return any(low > MARK for low in lows)


def _titles(dataset: Dataset, samples: int, seed: int) -> list[Question]:
    catalogue = dataset.catalogue
    order = _drawn(seed, "titles", len(catalogue))
    # The examples are none of the items that are asked for.
    shots = [(catalogue.ids[v], catalogue.titles[v]) for v in order[-SHOTS:]]
    asked = order[: min(samples, max(len(order) - SHOTS, 0))]
    return [
        _title_question(catalogue.titles[v], probe="titles", dataset=dataset, shots=shots, item=catalogue.ids[v])
        for v in asked
    ]


def _lines(dataset: Dataset, data_dir: Path | None, samples: int, seed: int) -> tuple[list[Question], dict[str, Any]]:
    """Lines of the published file where the data set has one, of user and item ids where it has not."""
    file, lines = _file_lines(dataset, data_dir)
    starts = _drawn(seed, "lines", max(len(lines) - LINES, 0))[:samples]

    def question(start: int) -> Question:
        wanted = lines[start + LINES]
        request = _request(probe="lines", dataset=dataset, file=file, lines=lines[start : start + LINES])

        def same_item(text: str) -> bool:
            """User and item are right; rating and time may be wrong."""
            return _first_line(text).split("::")[:2] == wanted.split("::")[:2]

        return Question(request, same_item, lambda text: _first_line(text) == wanted)

    return [question(start) for start in starts], {"file": file}


def _file_lines(dataset: Dataset, data_dir: Path | None) -> tuple[str, list[str]]:
    if dataset.name == "ml-1m":
        from tasks.datasets.movielens import RATINGS, find_files

        return RATINGS, (find_files(data_dir) / RATINGS).read_text("latin-1").split()
    ids, events = dataset.catalogue.ids, dataset.events
    lines = [f"{user}::{ids[v]}" for row, user in enumerate(dataset.user_ids) for v in events[row]]
    return "the events (user::item)", lines


def _sequences(dataset: Dataset, samples: int, seed: int) -> tuple[list[Question], dict[str, Any]]:
    titles, events = dataset.catalogue.titles, dataset.events
    users = [int(user) for user in _drawn(seed, "sequences", len(events)) if len(events[user]) > HISTORY][:samples]
    by_popularity = np.argsort(-np.bincount(events.values, minlength=len(titles)), kind="stable").tolist()
    questions, guessed = [], 0
    for user in users:
        seen, following = events[user][:HISTORY].tolist(), int(events[user][HISTORY])
        guessed += next(v for v in by_popularity if v not in set(seen)) == following
        history = [titles[v] for v in seen]
        words = {"user": dataset.user_ids[user], "things": THINGS[dataset.card.domain], "history": history}
        questions.append(_title_question(titles[following], probe="sequences", dataset=dataset, **words))
    return questions, {"guess": guessed / len(users) if users else None}


def _title_question(title: str, *, dataset: Dataset, **words: Any) -> Question:
    names = set(catalogue_readings(title))

    def same(text: str) -> bool:
        said = answer_readings(first_title(text))
        # A name without its year is recalled as well; another year is another film.
        return any(name == own and year in (None, its) for name, year in said for own, its in names)

    return Question(_request(dataset=dataset, **words), same, lambda text: _first_line(text).strip('"') == title)


def _request(*, dataset: Dataset, **words: Any) -> ChatRequest:
    name = {"ml-1m": "MovieLens-1M"}.get(dataset.name, dataset.name)
    return ChatRequest(render(TEMPLATE, dataset=name, **words), Sampling(max_tokens=64))


def _first_line(text: str) -> str:
    lines: Iterator[str] = (line.strip() for line in text.splitlines())
    return next((line for line in lines if line and not line.startswith("```")), "")


def _drawn(seed: int, name: str, n: int) -> list[int]:
    """All of `range(n)` in an order drawn by the seed."""
    order: list[int] = np.argsort(uniform_draws(seed, f"contamination/{name}", n), kind="stable").tolist()
    return order

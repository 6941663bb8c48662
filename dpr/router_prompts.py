"""The router's pools of prompts, and the composition of training prompts from patterns and fillers.

`train.jsonl` holds patterns: a prompt with slots such as {a} ("a western") or {m} ("horror"). Every pattern is filled with
random topics, also unpleasant or cheerful ones, and in part put behind or before random small talk that both sides share,
so that neither the topic nor the small talk tells the polarity. The small talk includes whole sentences of love or loathing
for other matters than what to watch or read. A few prompts are typed carelessly.

The training templates of the tasks are added, filled with labels; their evaluation templates are as unknown to the router as
held-out prompts are. So are train tags of MovieLens-1M and descriptions of news and books: alone they are wishes however
dark their words, and in the slot {tag} they are wished for or refused. Every twentieth item's tags are kept for development,
and no evaluation tag is used. `dev.jsonl` and `heldout.jsonl` are whole prompts.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.contracts import NEGATIVE, POSITIVE
from bench.rng import named_generator
from tasks.datasets.movielens import load_tags
from tasks.prompt_pools import render, templates

POOL = Path(__file__).parent / "router_pool"
DIFFICULTIES = ("plain", "conversational", "misleading")
POLARITIES = {"positive": POSITIVE, "negative": NEGATIVE}
COMPOSITION = 3
BARE_FILLS, FRAMED_FILLS = 2, 3
# Tags are far more varied than other topics, so patterns with a tag are filled more often.
TAG_FILLS = 8
BARE_TAGS = 2200
# One item in so many has its tags kept for development.
DEV_SHARE = 20

# Labels that training templates are filled with; combinations read like prompts that name all genres of an item.
_LABELS = {
    "film": ("Comedy", "Horror", "Drama", "Sci-Fi", "Children's", "War", "Film-Noir", "Western", "Romance", "Action"),
    "news": ("sports", "politics", "finance", "health", "travel", "crime", "weather", "music", "science", "war"),
    "book": ("Poetry", "Fantasy", "Mystery", "Horror", "Biography", "History", "Romance", "Humour", "War", "Classics"),
}
_COMBINED = 4

_LISTS = {"adj": "adjectives", "who": "people", "fate": "fates", "place": "places"}
_SLOT = re.compile(r"\{(a|n|s|m|adj|who|fate|place|tag)\}")
_LONG_WORD = re.compile(r"\b[A-Za-z][a-z]{5,}\b")


@dataclass(frozen=True)
class Pool:
    """Prompts with their side: `polarity` int8 [n] is +1 or -1; `difficulty` is one of DIFFICULTIES.

    `pattern` int64 [n] is the number of the pattern that a prompt was composed from.
    """

    prompts: tuple[str, ...]
    polarity: npt.NDArray[np.int8]
    difficulty: tuple[str, ...]
    pattern: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.prompts)


def read_pool(name: str) -> Pool:
    """The pool "train" (patterns with slots), "dev" or "heldout", in file order."""
    lines = (POOL / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    return Pool(
        tuple(record["prompt"] for record in records),
        np.array([POLARITIES[record["polarity"]] for record in records], np.int8),
        tuple(record["difficulty"] for record in records),
        np.arange(len(records)),
    )


@cache
def split_tags() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """MovieLens-1M's train tags without repeats, in file order: those to train on, and those kept for development."""
    training: dict[str, None] = {}
    kept: dict[str, None] = {}
    for item_id, (tags, _) in load_tags().items():
        (training if zlib.crc32(item_id.encode()) % DEV_SHARE else kept).update(dict.fromkeys(tags))
    return tuple(training), tuple(tag for tag in kept if tag not in training)


def dev_tags() -> Pool:
    """The tags kept for development as bare prompts: all of them wishes."""
    _, kept = split_tags()
    return Pool(kept, np.full(len(kept), POSITIVE, np.int8), ("plain",) * len(kept), np.arange(len(kept)))


def pool_sha256() -> str:
    """Hash of everything that training prompts are composed from."""
    numbers = f"{BARE_FILLS} {FRAMED_FILLS} {TAG_FILLS} {BARE_TAGS} {_COMBINED}"
    digest = hashlib.sha256(f"composition {COMPOSITION} {numbers} {_LABELS}\n".encode())
    digest.update("\n".join(split_tags()[0]).encode())
    for domain, side in _template_pools():
        digest.update("\n".join(templates(domain, side, "train")).encode())
    for name in ("train.jsonl", "fillers.json"):
        digest.update((POOL / name).read_bytes())
    return digest.hexdigest()


def read_report() -> dict[str, Any]:
    """What the shipped weights were trained on, their temperature, and their accuracy by pool and difficulty."""
    report: dict[str, Any] = json.loads((POOL / "report.json").read_text(encoding="utf-8"))
    return report


def training_prompts(seed: int = 0) -> Pool:
    """Prompts composed from every pattern of the training pool, the same for the same seed."""
    patterns = read_pool("train")
    fillers = json.loads((POOL / "fillers.json").read_text(encoding="utf-8"))
    fillers["tags"] = split_tags()[0]
    draw = named_generator(seed, "router", "composition")
    found: dict[str, int] = {}
    for row, pattern in enumerate(patterns.prompts):
        for _ in range(TAG_FILLS if "{tag}" in pattern else BARE_FILLS):
            found.setdefault(_varied(_capital(_fill(pattern, fillers, draw)), draw), row)
        # A bare description stands alone; small talk belongs to sentences.
        if pattern[0].isupper() or pattern.startswith("{"):
            for _ in range(FRAMED_FILLS):
                found.setdefault(_varied(_framed(pattern, fillers, draw), draw), row)
    rows = np.fromiter(found.values(), np.int64, len(found))
    more, sides = _from_templates(draw, set(found))
    bare = _bare_tags(fillers, draw, {*found, *more})
    more, sides = [*more, *bare], [*sides, *([POSITIVE] * len(bare))]
    numbers = len(patterns) + np.arange(len(more))
    return Pool(
        (*found, *more),
        np.concatenate([patterns.polarity[rows], np.array(sides, np.int8)]),
        (*(patterns.difficulty[row] for row in rows), *(["plain"] * len(more))),
        np.concatenate([rows, numbers]),
    )


def _template_pools() -> list[tuple[str, int]]:
    return [(domain, side) for domain in _LABELS for side in (POSITIVE, NEGATIVE)]


def _from_templates(draw: np.random.Generator, known: set[str]) -> tuple[list[str], list[int]]:
    """The tasks' training templates, each with every label of its domain and some combinations: prompts and polarity."""
    prompts, sides = [], []
    for domain, side in _template_pools():
        names = _LABELS[domain]
        for template in templates(domain, side, "train"):
            several = [list(draw.choice(names, int(draw.integers(2, 5)), replace=False)) for _ in range(_COMBINED)]
            for labels in [*([name] for name in names), *several]:
                prompt = render(template, [str(label) for label in labels], side)
                if prompt not in known:
                    known.add(prompt)
                    prompts.append(prompt)
                    sides.append(side)
    return prompts, sides


def _bare_tags(fillers: dict[str, Any], draw: np.random.Generator, known: set[str]) -> list[str]:
    """Descriptions that stand alone: every one of news and books, and tags drawn at random, in part two of an item's kind."""
    kept = set(split_tags()[1])
    prompts = dict.fromkeys(fillers["phrases"])
    while len(prompts) < BARE_TAGS:
        text = _tag(fillers, draw)
        if draw.random() < 0.2:
            text = f"{text}{_pick([', ', '; ', '. '], draw)}{_tag(fillers, draw)}"
        prompts[text + "." if draw.random() < 0.2 else text] = None
    return [_capital(prompt) for prompt in prompts if _capital(prompt) not in known and prompt not in kept]


def _tag(fillers: dict[str, Any], draw: np.random.Generator) -> str:
    tag = str(_pick(fillers["phrases" if draw.random() < 0.2 else "tags"], draw))
    parts = [part for part in tag.split(", ") if " " in part]
    # People also type half a description.
    return str(_pick(parts, draw)) if parts and draw.random() < 0.3 else tag


def _pick(options: Sequence[Any], draw: np.random.Generator) -> Any:
    return options[int(draw.integers(len(options)))]


def _fill(pattern: str, fillers: dict[str, Any], draw: np.random.Generator) -> str:
    item = _pick(fillers["count"], draw)
    one, many = item["one"], item["many"]
    mass = _pick(fillers["mass"], draw) if draw.random() < 0.7 else many
    if draw.random() < 0.25:
        adjective = _pick(fillers["adjectives"], draw)
        one, many = f"{adjective} {one}", f"{adjective} {many}"

    def value(match: re.Match[str]) -> str:
        slot = match[1]
        if slot == "tag":
            return _tag(fillers, draw)
        if slot in _LISTS:
            return str(_pick(fillers[_LISTS[slot]], draw))
        article = "an" if one[0].lower() in "aeiou" else "a"
        # Where a pattern names a topic twice, two topics are meant.
        if slot == "m" and pattern.count(match[0]) > 1:
            return str(_pick(fillers["mass"], draw))
        return {"a": f"{article} {one}", "n": one, "s": many, "m": mass}[slot]

    return _SLOT.sub(value, pattern)


def _framed(pattern: str, fillers: dict[str, Any], draw: np.random.Generator) -> str:
    core, place = _fill(pattern, fillers, draw), draw.random()
    if draw.random() < 0.33:
        return _among_decoys(core, fillers, draw)
    if place < 0.75:
        opening = _fill(_pick(fillers["openings"], draw), fillers, draw)
        core = f"{opening} {core if opening[-1] in '!.' else _lower(core)}"
    if place > 0.55:
        closing = _pick(fillers["closings"], draw)
        core = f"{core} {_capital(closing)}" if core.endswith("?") else f"{core.rstrip('.!')}, {closing}"
    return _capital(core)


def _among_decoys(core: str, fillers: dict[str, Any], draw: np.random.Generator) -> str:
    """Small talk in whole sentences: their likes and dislikes concern other matters and must not count."""
    before, after = ((1, 0), (2, 0), (0, 1), (1, 1))[int(draw.choice(4, p=[0.5, 0.2, 0.15, 0.15]))]
    decoys = [str(decoy) for decoy in draw.choice(fillers["decoys"], before + after, replace=False)]
    ended = core if core[-1] in "?!." else f"{core}."
    return " ".join([*decoys[:before], _capital(ended), *decoys[before:]])


def _varied(prompt: str, draw: np.random.Generator) -> str:
    # People leave out the full stop, so its absence must not be a sign; the same goes for careless typing.
    if draw.random() < 0.3:
        prompt = prompt.rstrip(".")
    careless = draw.random()
    if careless < 0.08:
        return prompt.replace("'", "")
    words = list(_LONG_WORD.finditer(prompt)) if careless < 0.16 else []
    if not words:
        return prompt
    word = _pick(words, draw)
    at = int(draw.integers(word.start() + 1, word.end() - 1))
    return f"{prompt[:at]}{prompt[at + 1]}{prompt[at]}{prompt[at + 2 :]}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _lower(text: str) -> str:
    return text if re.match(r"I\b|[A-Z]\w*[A-Z]", text) else text[:1].lower() + text[1:]

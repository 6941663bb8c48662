"""A judge whose answers are planted: a server on loopback that scores lists by a known rule, with known faults.

The rule: an item is relevant where one of its labels is named in the request. With c relevant items of ten, intent and overall are
2 + c / 2 (rounded down) + leniency + primacy (where the first item is relevant and the last is not) + wordiness (where items come
with descriptions) + noise (-1, 0 or 1, each with probability 1/3, drawn anew for every other request). History alignment is 5 + noise.
"""

from __future__ import annotations

import hashlib
import json
import re

from bench.contracts import ASPECTS
from bench.llm.loopback import Response, completion
from tests.tools.openai_server import Behaviour

LINE = re.compile(r'^\d+\. ("(?:[^"\\]|\\.)*")(?: \(("(?:[^"\\]|\\.)*")\))?(: .*)?$', re.MULTILINE)
NOISE_VARIANCE = 2 / 3


def relevant(labels: str, prompt: str) -> bool:
    """Whether a label is named in the request."""
    return any(label.lower() in prompt.lower() for label in labels.split(", ") if label)


def base(flags: list[bool], primacy: float = 0.0) -> float:
    """The rule without leniency and noise."""
    return 2 + sum(flags) // 2 + primacy * (flags[0] and not flags[-1])


class Planted(Behaviour):
    """`favours_first` is the share of comparisons in which the list shown first wins whatever is in it."""

    def __init__(self, *, leniency=0, primacy=0, wordiness=0, noise=True, favours_first=0.0, **options):
        super().__init__(**options)
        self.leniency, self.primacy, self.wordiness = leniency, primacy, wordiness
        self.noise, self.favours_first = noise, favours_first

    def chat(self, request):
        self.seen.append(request)
        prompt = request["messages"][-1]["content"]
        key = prompt + str(request.get("seed", ""))
        self.log.append(key)
        if self.answered is not None:
            self.answered.write(hashlib.sha256(key.encode()).hexdigest() + "\n")
            self.answered.flush()
        answer = self.compared(prompt, key) if "<second>" in prompt else self.scored(prompt, key)
        return Response(completion([json.dumps(answer)], 900, 60), delay_s=self.delay_s)

    def scored(self, prompt, key):
        said, flags, told = self.read(prompt, "recommendations")
        score = base(flags, self.primacy) + self.leniency + self.wordiness * told + self.drawn(key, "intent")
        history = 5 + self.drawn(key, "history")
        scores = dict(zip(ASPECTS, (history, score, score), strict=True))
        return {
            "scores": {name: int(value) for name, value in scores.items()},
            "reasoning": dict.fromkeys(ASPECTS, said[:20]),
        }

    def compared(self, prompt, key):
        if uniform(key, "position") < self.favours_first:
            return {"better": "first", "reasoning": "it comes first"}
        one, other = (base(self.read(prompt, side)[1]) for side in ("first", "second"))
        return {"better": "first" if one > other else "second" if other > one else "tie", "reasoning": "counted"}

    def read(self, prompt, part):
        """The request, which items of a list are relevant, and whether they are described."""
        said = json.loads(re.search(r"<request>\n(.*?)\n</request>", prompt, re.DOTALL)[1])
        listed = LINE.findall(re.search(rf"<{part}>\n(.*?)</{part}>", prompt, re.DOTALL)[1])
        flags = [relevant(json.loads(labels) if labels else "", said) for _, labels, _ in listed]
        return said, flags, any(about for _, _, about in listed)

    def drawn(self, key, what):
        return int(uniform(key, what) * 3) - 1 if self.noise else 0


def uniform(key: str, what: str) -> float:
    """In [0, 1), by the request."""
    return int(hashlib.sha256(f"{what}/{key}".encode()).hexdigest()[:12], 16) / 16**12

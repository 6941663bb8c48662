"""A language model on loopback that writes what it is asked to: requests of users, tags, rewordings, summaries; some of it faulty."""

from __future__ import annotations

import json
import re

from bench.llm.loopback import Response, completion
from tests.tools.openai_server import Behaviour

# Word lists that share nothing, and no name of a genre.
PLAIN = ["lonely", "keeper", "guards", "silver", "harbour", "through", "stormy", "midnight", "hours", "alone"]
OTHER = [
    "solitary",
    "warden",
    "protects",
    "argent",
    "port",
    "across",
    "tempestuous",
    "nocturnal",
    "times",
    "unaccompanied",
]
MODES = ("mood", "plot", "occasion")


class Writes(Behaviour):
    """Answers with good texts, but for what `faults` makes of a first answer (a function of the parsed answer, or None)."""

    def __init__(self, faults=None, **options):
        super().__init__(**options)
        self.faults = faults

    def chat(self, request):
        prompt = request["messages"][-1]["content"]
        self.log.append(prompt)
        text = self.text(prompt, request, 0)
        return Response(completion([text], len(prompt) // 4, len(text) // 4), delay_s=self.delay_s)

    def text(self, prompt, request, place):
        value = self.requests(prompt) if "<history>" in prompt else self.items(prompt)
        if self.faults is not None and "refused" not in prompt:
            value = self.faults(value, prompt)
        return value if isinstance(value, str) else json.dumps(value)

    def requests(self, prompt):
        mark = sum(map(ord, prompt)) % 1000
        said = [f"Tonight I feel like number {mark} in a {mode} way." for mode in MODES]
        rows = zip(MODES, said, strict=True)
        return {"requests": [{"mode": mode, "implied_intent": "calm", "statement": text} for mode, text in rows]}

    def items(self, prompt):
        numbers = [int(number) for number in re.findall(r"^(\d+)\. ", prompt.split("</items>")[0], re.MULTILINE)]
        if "summary" in prompt:
            key, made = "summary", [" ".join((PLAIN * 6)[:45]) for _ in numbers]
        else:
            words = OTHER if "Original Description" in prompt else PLAIN
            tag = [" ".join(words[start:] + words[:start]) for start in range(3)]
            key, made = "tags", [tag for _ in numbers]
        return {"items": [{"id": number, key: text} for number, text in zip(numbers, made, strict=True)]}


def write_config(folder, url):
    """A litellm configuration for the server, with a price; gives the flags that name it."""
    prices = "input_cost_per_token: 0.000001, output_cost_per_token: 0.000002"
    params = f'{{model: openai/tiny-model, api_base: "{url}", api_key: os.environ/TINY_KEY, {prices}}}'
    (folder / "llms.yaml").write_text(f"model_list:\n  - model_name: tiny\n    litellm_params: {params}\n")
    return ("--llm", "tiny", "--llm-config", str(folder / "llms.yaml"))

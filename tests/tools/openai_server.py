"""A server on loopback that speaks the OpenAI protocol and misbehaves as it is told, in a thread or a process of its own.

What it does with a request is told by the request: a word of the prompt such as `<429>` names a behaviour and how often
it happens to that prompt before a proper answer comes. `<503x2>` is two times; without a number it is once; `x*` always.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import re
import sys
import threading
from collections import Counter
from pathlib import Path

from bench.llm.loopback import Response, completion, serve

KEY = "sk-test-0123456789abcdefSECRET"
SCRIPT = re.compile(r"<(\w+?)(?:x(\d+|\*))?>")


def error(status, message, headers=None, **more):
    body = json.dumps({"error": {"message": message, "type": "error", "code": None, **more}}).encode()
    return Response(body, status, headers or {})


class Behaviour:
    """Counts and answers. `log` holds every prompt that was answered properly, `seen` every request's body."""

    def __init__(self, delay_s=0.0, key=None, answered=None, schema="ignore", n="ignore"):
        self.delay_s, self.key, self.answered = delay_s, key, answered
        self.schema, self.n = schema, n
        self.tries, self.log, self.seen = Counter(), [], []
        self.active = self.most = 0
        self.batches = {}
        self.files = {}

    def __call__(self, method, path, headers, body):
        if self.key is not None and headers.get("authorization") != f"Bearer {self.key}":
            given = headers.get("authorization", "nothing")
            return error(401, f"Incorrect API key provided: {given}. You can find your key at example.com.")
        if not path.endswith("/chat/completions"):
            return error(404, "Not Found")
        return self.chat(json.loads(body))

    def chat(self, request):
        self.seen.append(request)
        prompt = request["messages"][-1]["content"]
        if request["model"] == "unknown":
            return error(404, "The model `unknown` does not exist", code="model_not_found")
        for kind, times in SCRIPT.findall(prompt):
            most = float("inf") if times == "*" else int(times or 1)
            if self.tries[prompt, kind] < most:
                self.tries[prompt, kind] += 1
                return self.misbehave(kind, prompt)
        if self.schema == "refuse" and "response_format" in request:
            return error(400, "Invalid parameter: response_format is not supported by this model")
        self.log.append(prompt)
        if self.answered is not None:
            self.answered.write(hashlib.sha256(prompt.encode()).hexdigest() + "\n")
            self.answered.flush()
        count = request.get("n", 1) if self.n == "heed" else 1
        texts = [self.text(prompt, request, place) for place in range(count)]
        return Response(completion(texts, len(prompt) // 4, 5), delay_s=self.delay_s)

    def text(self, prompt, request, place):
        said = re.search(r"say:(.*)", prompt, re.DOTALL)
        if said:
            return said.group(1)
        again = re.search(r"again:(\S+)", request["messages"][0]["content"])
        if again and prompt.startswith("That answer could not be read"):
            return again.group(1)
        tail = f" {place} {request.get('seed', '')}" if request.get("temperature") else ""
        return "answer to " + prompt + tail

    def misbehave(self, kind, prompt):
        good = completion(["answer to " + prompt])
        if kind == "429":
            return error(429, "slow down")
        if kind == "wait":
            return error(429, "slow down", {"retry-after": "1"})
        if kind == "long":
            return error(429, "slow down", {"retry-after": "3600"})
        if kind == "quota":
            return error(429, "You exceeded your current quota", code="insufficient_quota")
        if kind == "hang":
            return Response(good, delay_s=30.0)
        if kind == "cut":
            head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(good)}\r\n\r\n".encode()
            return Response(raw=head + good[:40], cut=True)
        if kind == "drop":
            return Response(raw=b"", cut=True)
        if kind == "half":
            return Response(good[: len(good) // 2])
        if kind == "html":
            return Response(b"<html>busy</html>")
        if kind == "garbage":
            return Response(raw=b"\x00\x01\x02 what\r\n\r\n", cut=True)
        if kind == "nochoice":
            return Response(b'{"choices": []}')
        if kind == "nomessage":
            return Response(b'{"choices": [{"finish_reason": "stop"}]}')
        if kind == "list":
            return Response(b"[1, 2]")
        if kind == "empty":
            return Response(completion([""]))
        if kind == "two":
            return Response(completion(["first", "second"]))
        if kind == "refusal":
            return Response(completion([""], refusal="I can't help with that."))
        if kind == "filter":
            return error(400, "The response was filtered", code="content_filter")
        if kind == "chunked":
            parts = [good[:10], good[10:11], good[11:]]
            chunks = b"".join(f"{len(part):x}\r\n".encode() + part + b"\r\n" for part in parts) + b"0\r\n\r\n"
            return Response(raw=b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunks)
        if kind == "unsized":
            return Response(raw=b"HTTP/1.0 200 OK\r\n\r\n" + good, cut=True)
        if kind == "echo":
            return Response(completion([f"your key is {self.key}"]))
        if kind.isdigit():
            return error(int(kind), f"status {kind}")
        raise AssertionError(kind)


class Running:
    """The server in a thread of this process: `url`, and `behaviour` to look into."""

    def __init__(self, behaviour):
        self.behaviour, ready = behaviour, threading.Event()
        self.loop = asyncio.new_event_loop()

        def told(port):
            self.port = port
            self.url = f"http://127.0.0.1:{port}/v1"
            ready.set()

        self.task = None

        def work():
            self.task = self.loop.create_task(serve(behaviour, ready=told))
            with contextlib.suppress(asyncio.CancelledError):
                self.loop.run_until_complete(self.task)

        self.thread = threading.Thread(target=work, daemon=True)
        self.thread.start()
        assert ready.wait(20)

    def close(self):
        self.loop.call_soon_threadsafe(self.task.cancel)
        self.thread.join(10)


def main():
    """`python -m tests.tools.openai_server DELAY LOG`: a process of its own; prints its port, writes what it answered."""
    with Path(sys.argv[2]).open("a", encoding="utf-8") as log:

        def ready(port):
            sys.stdout.write(f"{port}\n")
            sys.stdout.flush()

        asyncio.run(serve(Behaviour(float(sys.argv[1]), answered=log), ready=ready))


if __name__ == "__main__":
    main()

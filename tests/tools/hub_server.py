"""As much of the Hugging Face Hub as a commit to a dataset repository needs, on loopback, with the requests that it saw."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import threading

from bench.llm.loopback import Response, serve

TOKEN = "hf_abcdefghijklmnopqrstuvwxyz0123"


class Hub:
    """A repository `ORG/NAME` with files; `files` changes with every commit, `seen` are methods and paths."""

    def __init__(self, repository="org/board", files=None, status=None):
        self.repository, self.files, self.status = repository, dict(files or {}), status
        self.seen, self.deleted = [], []

    def __call__(self, method, path, headers, body):
        self.seen.append((method, path))
        if headers.get("authorization") != f"Bearer {TOKEN}":
            return self.say({"error": f"Invalid token {headers.get('authorization')}"}, 401)
        place = f"/api/datasets/{self.repository}"
        if not path.startswith(place):
            return self.say({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        rest = path[len(place) :].partition("?")[0]
        if self.status is not None and method == "POST":
            return self.say({"error": f"no, {TOKEN}"}, self.status)
        if rest.startswith("/tree/"):
            tree = [{"type": "file", "path": name, "size": 1, "oid": "0" * 40} for name in self.files]
            return self.say(tree)
        if rest.startswith("/preupload/"):
            files = json.loads(body)["files"]
            return self.say(
                {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]}
            )
        if rest.startswith("/commit/"):
            return self.commit(body)
        siblings = [{"rfilename": name} for name in self.files]
        about = {
            "_id": "0",
            "id": self.repository,
            "private": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "sha": "0" * 40,
        }
        return self.say({**about, "siblings": siblings})

    def commit(self, body):
        for line in body.decode().splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                self.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            elif entry["key"] == "deletedFile":
                self.deleted.append(entry["value"]["path"])
                self.files.pop(entry["value"]["path"], None)
        return self.say(
            {
                "commitUrl": f"https://huggingface.co/datasets/{self.repository}/commit/1",
                "commitOid": "1",
                "pullRequestUrl": None,
            }
        )

    @staticmethod
    def say(value, status=200, headers=None):
        return Response(json.dumps(value).encode(), status, headers or {})


@contextlib.contextmanager
def running(hub):
    """Serve a hub from a thread; gives its address."""
    loop, ready, port = asyncio.new_event_loop(), threading.Event(), []

    def started(number):
        port.append(number)
        ready.set()

    task = loop.create_task(serve(hub, ready=started))

    def work():
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(task)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert ready.wait(10)
    yield f"http://127.0.0.1:{port[0]}"
    loop.call_soon_threadsafe(task.cancel)
    thread.join(10)
    loop.close()

"""Tiny runs on `mini` for judges, an encoder that needs no weights, and a server."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import bench
from bench.cli import main as cli
from tests.tools.openai_server import KEY, Running


class Genres:
    """An encoder that knows nothing but genres: those that a text names, and those of the item that a tag belongs to."""

    card, identity = None, "genres"

    def __init__(self, catalogue):
        self.names = [name.lower() for name in catalogue.label_names]
        self.known = {
            tag: ", ".join(catalogue.label_names[label] for label in catalogue.labels[item])
            for item, tags in enumerate(catalogue.train_tags)
            for tag in tags
        }

    def encode(self, texts, progress=None):
        read = [self.known.get(text, text).lower() for text in texts]
        found = np.array([[text.count(name) for name in self.names] + [0.1] for text in read], np.float32)
        return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.fixture(scope="session")
def mini():
    from tasks.datasets.mini import Mini

    return Mini().load()


@pytest.fixture(scope="session")
def results(tmp_path_factory, mini) -> Path:
    """Runs of two models on 40 users of `mini`, told a genre; one of a task without words, one of refusals."""
    from tasks.datasets.mini import Mini

    out = tmp_path_factory.mktemp("judged") / "results"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Mini, "load", lambda self, data_dir=None, progress=None: mini)
        for model in ("popularity", "random"):
            bench.run(task="pos", model=model, dataset="mini", windows=(3,), limit=40, out=out)
        bench.run(task="seq", model="popularity", dataset="mini", limit=10, out=out)
        bench.run(task="neg", model="popularity", dataset="mini", windows=(3,), limit=10, out=out)
    return out


@pytest.fixture
def own(results, tmp_path) -> Path:
    """A copy of the runs, so that a test's judgements are its own."""
    import shutil

    shutil.copytree(results, tmp_path / "results")
    return tmp_path / "results"


class Servers:
    """Starts behaviours and writes a configuration with them under the given names."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.running = folder, []

    def __call__(self, **behaviours) -> Path:
        rows = []
        for name, behaviour in behaviours.items():
            self.running.append(Running(behaviour))
            params = f'{{model: openai/{name}-1, api_base: "{self.running[-1].url}", api_key: {KEY}, '
            params += "input_cost_per_token: 0.000001, output_cost_per_token: 0.000002}"
            rows.append(f"  - model_name: {name}\n    litellm_params: {params}\n")
        path = self.folder / "llms.yaml"
        path.write_text("model_list:\n" + "".join(rows))
        return path

    def close(self) -> None:
        for server in self.running:
            server.close()


@pytest.fixture
def serve(tmp_path):
    """`serve(name=Behaviour(...))` starts servers that end with the test, and gives the path of a configuration."""
    servers = Servers(tmp_path)
    yield servers
    servers.close()


@pytest.fixture(scope="module")
def module_serve(tmp_path_factory):
    """The same, with servers that end with the module."""
    servers = Servers(tmp_path_factory.mktemp("servers"))
    yield servers
    servers.close()


@pytest.fixture
def call(capsys):
    """The command line in this process: exit code, stdout, stderr."""

    def run(*arguments):
        capsys.readouterr()
        code = cli.main([*map(str, arguments)])
        seen = capsys.readouterr()
        return code, seen.out, seen.err

    return run


@pytest.fixture(scope="module")
def light(mini):
    """No weights are loaded, and `mini` is generated once."""
    from judges import audit
    from judges.proxy import Proxy
    from tasks.datasets.mini import Mini

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Mini, "load", lambda self, data_dir=None, progress=None: mini)
        patch.setattr(Proxy, "encoder", Genres(mini.catalogue))
        patch.setattr(audit, "CachedEncoder", lambda name: Genres(mini.catalogue))
        yield

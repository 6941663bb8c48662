import sys
from pathlib import Path

import pytest

from bench import listing, registry

HERE = Path(__file__).parent


@pytest.fixture
def plugins(tmp_path, monkeypatch):
    """The tiny plugin as the only one that is installed, so that tests do not hang on what else the machine has."""
    import fake_plugins

    folder = fake_plugins.install(tmp_path / "plugins")
    monkeypatch.setattr(registry, "entry_points", lambda: _only(folder))
    monkeypatch.setattr(listing, "entry_points", lambda: _only(folder))
    monkeypatch.setattr(listing, "_place", lambda: tmp_path / "listing.json")
    registry.clear()
    fake_plugins.Plain.fits = 0
    fake_plugins.Slow.interrupt_at, fake_plugins.Slow.trained = None, ()
    fake_plugins.Crashing.users_that_work = 20
    yield fake_plugins
    monkeypatch.undo()
    registry.clear()


def _only(folder):
    from importlib.metadata import DistributionFinder, EntryPoints, MetadataPathFinder

    context = DistributionFinder.Context(path=[str(folder)])
    return EntryPoints(
        entry for found in MetadataPathFinder.find_distributions(context) for entry in found.entry_points
    )


@pytest.fixture
def bench_command(tmp_path):
    """Run the command line in a process of its own in which the tiny plugin is installed."""
    import os
    import subprocess

    import fake_plugins

    folder = fake_plugins.install(tmp_path / "site")
    # The project's own pos and seq are installed as well; two owners of one name would be a collision.
    text = "\n".join(line for line in fake_plugins.ENTRY_POINTS.splitlines() if line[:4] not in ("pos ", "seq "))
    (folder / "fake_plugins-1.0.dist-info" / "entry_points.txt").write_text(text)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(HERE)]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "bench.cli.main"]

    def call(*arguments, start=False, **options):
        if start:
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            return subprocess.Popen([*command, *map(str, arguments)], env=environment, cwd=tmp_path, **quiet)
        return subprocess.run(
            [*command, *map(str, arguments)],
            env=environment | options.pop("env", {}),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            **options,
        )

    return call

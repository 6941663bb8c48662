import json
import subprocess
import sys
import threading

import numpy as np
import pytest

from bench.errors import CheckError, InputError
from bench.precision import resolve_precision
from bench.progress import SilentProgress
from bench.store import MARKER, Store, resolve_device

QUIET = SilentProgress()


class Notes(SilentProgress):
    def __init__(self):
        super().__init__()
        self.lines = []

    def note(self, message):
        self.lines.append(message)


@pytest.fixture
def tiny(plugins):
    return plugins.Tiny().load(None)


def fitted(store, tiny, name="plain", settings=None, seed=0, **options):
    return store.fitted(name, tiny, settings or {}, seed, "cpu", options.pop("progress", QUIET), **options)


def test_trained_once_and_then_loaded(plugins, tiny, tmp_path):
    first, checkpoint = fitted(Store(tmp_path), tiny)
    again, _ = fitted(Store(tmp_path), tiny)
    assert plugins.Plain.fits == 1 and np.array_equal(first.counts, again.counts)
    folder = tmp_path / checkpoint.key
    assert json.loads((folder / MARKER).read_text())["dataset_fingerprint"] == tiny.fingerprint
    assert not list(tmp_path.glob("*.partial")) and not list(tmp_path.glob("*.saving"))


def test_what_changes_training_makes_another_checkpoint_and_what_does_not_shares_it(plugins, tiny, tmp_path):
    store = Store(tmp_path)
    base = fitted(store, tiny)[1].key
    assert fitted(store, tiny, settings={"strength": 3})[1].key != base
    assert fitted(store, tiny, seed=1)[1].key != base
    assert plugins.Plain.fits == 3
    model, checkpoint = fitted(store, tiny, settings={"flavour": "sweet"})
    assert checkpoint.key == base and plugins.Plain.fits == 3 and model.settings.flavour == "sweet"


def test_models_built_on_others_share_them(plugins, tiny, tmp_path):
    store = Store(tmp_path)
    _, checkpoint = fitted(store, tiny, "stacked")
    assert plugins.Plain.fits == 1
    assert [(part.name, part.version) for part in checkpoint.built_on] == [("plain", 1)]
    fitted(store, tiny, "plain", {"strength": 2.0})
    assert plugins.Plain.fits == 1


def test_a_newer_version_of_what_it_is_built_on_trains_again(plugins, tiny, tmp_path, monkeypatch):
    fitted(Store(tmp_path), tiny, "stacked")
    monkeypatch.setattr(plugins.Plain, "card", plugins.Plain.card.model_copy(update={"version": 2}))
    notes = Notes()
    _, checkpoint = fitted(Store(tmp_path), tiny, "stacked", progress=notes)
    assert checkpoint.built_on[0].version == 2 and any("training again" in line for line in notes.lines)


def test_refit_trains_again_with_what_it_is_built_on(plugins, tiny, tmp_path):
    fitted(Store(tmp_path), tiny, "stacked")
    fitted(Store(tmp_path), tiny, "stacked", refit=True)
    assert plugins.Plain.fits == 2


def test_an_interrupted_fit_goes_on_from_its_scratch_folder(plugins, tiny, tmp_path):
    plugins.Slow.interrupt_at = 2
    with pytest.raises(KeyboardInterrupt):
        fitted(Store(tmp_path), tiny, "slow")
    assert list(tmp_path.glob("*.partial"))
    fitted(Store(tmp_path), tiny, "slow")
    assert plugins.Slow.trained == (0, 1, 2)
    assert not list(tmp_path.glob("*.partial"))


def test_a_failing_fit_is_one_line(plugins, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(plugins.Plain, "fit", lambda *_: 1 / 0)
    with pytest.raises(CheckError, match="training plain failed: ZeroDivisionError"):
        fitted(Store(tmp_path), tiny)


def damage_missing(folder):
    (folder / "counts.json").unlink()


def damage_changed(folder):
    (folder / "counts.json").write_text("[1, 2]")


def damage_marker(folder):
    (folder / MARKER).write_text("{")


@pytest.mark.parametrize("damage", [damage_missing, damage_changed, damage_marker])
def test_a_damaged_checkpoint_says_what_to_do_and_refit_mends_it(plugins, tiny, tmp_path, damage):
    checkpoint = fitted(Store(tmp_path), tiny)[1]
    damage(tmp_path / checkpoint.key)
    with pytest.raises(CheckError, match=r"does not load .*--refit"):
        fitted(Store(tmp_path), tiny)
    fitted(Store(tmp_path), tiny, refit=True)
    fitted(Store(tmp_path), tiny)


def test_a_folder_without_marker_is_no_checkpoint(plugins, tiny, tmp_path):
    checkpoint = fitted(Store(tmp_path), tiny)[1]
    (tmp_path / checkpoint.key / MARKER).unlink()
    fitted(Store(tmp_path), tiny)
    assert plugins.Plain.fits == 2


def test_two_at_once_train_once(plugins, tiny, tmp_path):
    notes = Notes()
    workers = [
        threading.Thread(
            target=fitted, args=(Store(tmp_path), tiny, "slow", {"delay": 0.1}), kwargs={"progress": notes}
        )
        for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert plugins.Slow.trained == (0, 1, 2) and any("waiting" in line for line in notes.lines)


def test_a_model_built_on_itself_is_refused(plugins, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(plugins.Stacked, "fit", lambda self, data, context: context.fitted("stacked", data, {}))
    with pytest.raises(CheckError, match="built on itself"):
        fitted(Store(tmp_path), tiny, "stacked")


def test_wrong_settings_are_refused_before_anything_is_done(plugins, tiny, tmp_path):
    with pytest.raises(InputError, match="Did you mean 'strength'"):
        fitted(Store(tmp_path), tiny, settings={"strenght": 2})


def test_the_device_is_found_without_torch_where_there_is_no_gpu():
    script = "from bench.store import resolve_device; import sys; resolve_device('cpu'); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "False\n"
    assert resolve_device("cpu") == "cpu"


def test_a_checkpoint_says_in_which_precision_it_was_trained(plugins, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_PRECISION", "bf16")
    _, checkpoint = fitted(Store(tmp_path), tiny)
    assert checkpoint.precision == json.loads((tmp_path / checkpoint.key / MARKER).read_text())["precision"] == "bf16"
    monkeypatch.setenv("BENCH_PRECISION", "fp32")
    assert fitted(Store(tmp_path), tiny)[1] == checkpoint and plugins.Plain.fits == 1
    monkeypatch.setenv("BENCH_PRECISION", "fp16")
    with pytest.raises(InputError, match="BENCH_PRECISION=fp16: give fp32 or bf16"):
        fitted(Store(tmp_path), tiny, seed=1)


def test_the_precision_is_single_where_bfloat16_would_be_emulated(monkeypatch):
    import torch

    monkeypatch.delenv("BENCH_PRECISION", raising=False)
    for native, found in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda native=native: native, raising=False)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, native=native: native)
        assert resolve_precision("cpu") == resolve_precision("cuda:0") == found

"""Generated data: the layouts that the loaders read, at any size, with the structure that recommenders live on."""

import numpy as np
import pytest

from bench.cli.main import main
from bench.errors import InputError
from bench.progress import SilentProgress
from bench.scoring import load_dataset
from tasks.datasets.amazon import AmazonReviews2023
from tasks.datasets.goodreads import Goodreads
from tasks.datasets.mind import MIND
from tasks.datasets.simulate import LEAST, make_world, sequences
from tasks.statistics import dataset_statistics

USERS = 1_500


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("generated")
    return {
        entry.card.name: entry.generate(folder / entry.card.name, USERS)
        for entry in (MIND, Goodreads, AmazonReviews2023)
    }


@pytest.mark.parametrize("entry", [MIND, Goodreads, AmazonReviews2023])
def test_every_layout_is_read_by_its_loader(root, entry):
    dataset = entry().load(root[entry.card.name])
    figures = dataset_statistics(dataset)
    assert 0.9 * USERS <= figures["users"] <= USERS and figures["items"] > 300
    assert 40 <= figures["mean_length"] <= 55
    assert figures["users_with_test_events"]["3"] > 0.9 * figures["users"]
    assert 0 < figures["leakage"]["test_events_before_a_train_event"] <= 1
    assert all(len(labels) for labels in (dataset.catalogue.labels[v] for v in range(len(dataset.catalogue))))
    later = entry().load(root[entry.card.name], split="global")
    assert not any(dataset_statistics(later)["leakage"].values())


def test_same_seed_same_files_another_seed_others(tmp_path):
    first, again = (MIND.generate(tmp_path / name, 60, seed=3) for name in ("a", "b"))
    other = MIND.generate(tmp_path / "c", 60, seed=4)
    for part in ("train/behaviors.tsv", "dev/behaviors.tsv", "train/news.tsv"):
        data = (first / part).read_bytes()
        assert data == (again / part).read_bytes() != (other / part).read_bytes()


def test_popularity_is_skewed_and_the_last_item_tells_the_next():
    world = make_world([3, 2, 1], 4_000, 0)
    ((_, events, lengths),) = sequences(world, 4_000, 0)
    flat = events[events >= 0]
    assert len(flat) == lengths.sum() and lengths.min() < LEAST < lengths.max()
    counts = np.sort(np.bincount(flat, minlength=len(world.category)))[::-1]
    top = len(counts) // 10
    assert counts[:top].sum() > 0.3 * counts.sum() and (counts < 20).any()
    pairs = events[:, :-1][events[:, 1:] >= 0], events[:, 1:][events[:, 1:] >= 0]
    follows = (world.successors[pairs[0]] == pairs[1][:, None]).any(1).mean()
    stays = (world.category[pairs[0]] == world.category[pairs[1]]).mean()
    # Every third step goes to one of four successors, and every other one would stay in its category by chance alone less often.
    shares = np.bincount(world.category[flat]) / len(flat)
    assert follows > 0.3 and stays > (shares**2).sum() + 0.2


def test_every_draw_stays_in_its_category():
    world = make_world([1, 1], 100, 0)
    category = np.array([0, 1, -1, 1])
    for uniform in (0.0, 0.5, 1 - 2.0**-53):
        item = world.draw(category, np.full(4, uniform))
        assert (world.category[item][[0, 1, 3]] == [0, 1, 1]).all() and 0 <= item[2] < len(world.category)


def test_made_up_data_are_called_so(root):
    notes = []

    class Told(SilentProgress):
        def note(self, message):
            notes.append(message)

    load_dataset("mind", root["mind"], Told())
    assert f"{root['mind']} holds made-up data (`bench data generate`): results say nothing about mind" in notes


def test_the_command_makes_a_new_folder_or_refuses(tmp_path, capsys):
    out = tmp_path / "made"
    assert main(["data", "generate", "mind", "--users", "40", "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["GENERATED.json", "dev", "train"]
    assert main(["data", "generate", "mind", "--users", "40", "--out", str(out)]) == 2
    assert "is there already and not empty" in capsys.readouterr().err
    assert main(["data", "generate", "mind", "--users", "0", "--out", str(tmp_path / "x")]) == 2
    assert main(["data", "generate", "ml-1m", "--out", str(tmp_path / "x")]) == 2
    assert "has no generator; amazon-2023, goodreads, mind have one" in capsys.readouterr().err
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot write to"):
        MIND.generate(tmp_path / "file" / "data", 40)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "made"]

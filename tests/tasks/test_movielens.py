"""The MovieLens-1M loader: layout, order, split, and one clear line for whatever is wrong with a file."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.contracts import Ragged
from bench.errors import InputError
from tasks.datasets.base import Item, assemble, item_text, split_points
from tasks.datasets.movielens import MovieLens1M, find_files, load_tags, read_movies, read_ratings
from tasks.statistics import dataset_statistics

PUBLISHED = Path(__file__).parents[3] / "shared" / "data" / "ml-1m"
MOVIES = [
    "1::Toy Story (1995)::Animation|Children's|Comedy",
    "7::Misérables, Les (1995)::Drama|Musical",
    "3::Never Rated (1999)::Drama",
    "4::Heat (1995)::Action",
    "9::Only Tested (2000)::Western",
]


def write(folder: Path, ratings: list[str], movies: list[str] = MOVIES, end: str = "\n") -> Path:
    (folder / "ratings.dat").write_bytes((end.join(ratings) + end).encode("latin-1"))
    (folder / "movies.dat").write_bytes((end.join(movies) + end).encode("latin-1"))
    return folder


def ratings_of(user: int, movies: list[int], start: int = 100) -> list[str]:
    return [f"{user}::{movie}::5::{start + place}" for place, movie in enumerate(movies)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path, [*ratings_of(12, [7, 1, 4]), *ratings_of(2, [4, 7, 9])])


def load(folder: Path):
    return MovieLens1M().load(folder)


def test_layout_order_and_compaction(folder):
    dataset = load(folder)
    assert dataset.user_ids == ("2", "12")
    # Films 3 and 9 are in no train slice; the order of the file is kept, not that of the numbers. Of user 12's events
    # the third is film 4, which user 2 has in train; user 2's third is film 9 and is dropped.
    assert dataset.catalogue.ids == ("1", "7", "4")
    assert [dataset.events[user].tolist() for user in range(2)] == [[2, 1], [1, 0, 2]]
    assert dataset.train_end.tolist() == [2, 2]
    assert dataset.valid_end.tolist() == [2, 2]
    assert dataset.catalogue.titles[1] == "Misérables, Les (1995)"
    assert dataset.catalogue.label_names == ("Action", "Animation", "Children's", "Comedy", "Drama", "Musical")
    names = dataset.catalogue.label_names
    assert [names[label] for label in dataset.catalogue.labels[0]] == ["Animation", "Children's", "Comedy"]


def test_ties_keep_the_order_of_the_file(tmp_path):
    rows = ["1::4::5::200", "1::7::5::200", "1::1::5::100"]
    for order, expected in (([0, 1, 2], ["1", "4"]), ([1, 0, 2], ["1", "7"])):
        dataset = load(write(tmp_path, [rows[place] for place in order]))
        assert [dataset.catalogue.ids[item] for item in dataset.events[0]] == expected


def test_tags_and_text(folder):
    catalogue = load(folder).catalogue
    train, evaluation = load_tags()["1"]
    assert catalogue.train_tags[0] == train and catalogue.eval_tags[0] == evaluation and len(train) == 3
    assert catalogue.texts[0] == f"Toy Story (1995). Animation, Children's, Comedy. {'; '.join(train)}."
    assert not set(evaluation) & set(train)
    assert item_text("Title", ("Drama",), ()) == "Title. Drama."


def test_films_without_tags_have_empty_tags(tmp_path):
    movies = [*MOVIES, "99999::Unknown (2001)::Drama"]
    dataset = load(write(tmp_path, ratings_of(1, [99999, 1, 4]), movies))
    assert dataset.catalogue.train_tags[-1] == () == dataset.catalogue.eval_tags[-1]


def test_line_ends_encodings_and_parent_folder_do_not_matter(folder, tmp_path):
    reference = load(folder).fingerprint
    rows = [*ratings_of(12, [7, 1, 4]), *ratings_of(2, [4, 7, 9])]
    assert load(write(tmp_path, rows, end="\r\n")).fingerprint == reference
    (tmp_path / "movies.dat").write_text("\n".join(MOVIES), "utf-8")
    assert load(tmp_path).fingerprint == reference
    parent = tmp_path / "parent"
    (parent / "ml-1m").mkdir(parents=True)
    write(parent / "ml-1m", rows)
    assert load(parent).fingerprint == reference


def test_fingerprint_sees_every_kind_of_change(folder):
    reference = load(folder).fingerprint
    assert load(folder).fingerprint == reference
    rows = [*ratings_of(12, [7, 1, 4]), *ratings_of(2, [4, 7, 9])]
    changes = [
        ([*rows, "2::1::5::99"], MOVIES),
        ([rows[1], rows[0].replace("100", "102"), *rows[2:]], MOVIES),
        ([row.replace("12::", "13::", 1) for row in rows], MOVIES),
        (rows, [MOVIES[0].replace("Toy", "Boy"), *MOVIES[1:]]),
        (rows, [MOVIES[0].replace("Animation|Children's", "Children's|Animation"), *MOVIES[1:]]),
    ]
    marks = {load(write(folder, *change)).fingerprint for change in changes}
    assert len(marks | {reference}) == len(changes) + 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1::1::5", "expected UserID::MovieID::Rating::Timestamp, found 3 field"),
        ("1::1::5::9::9", "found 5 field"),
        ("", "found 1 field"),
        ("one::1::5::9", "UserID must be a whole number, found 'one'"),
        ("1::1.5::5::9", "MovieID must be a whole number, found '1.5'"),
        ("1::-1::5::9", "MovieID must be a whole number"),
        ("1::1::5:: 9", "Timestamp must be a whole number"),
        ("1::1::5::" + "9" * 19, "Timestamp must be a whole number"),
        ("1::1::6::9", "Rating must be 1 to 5, found '6'"),
        ("1::1::05::9", "Rating must be 1 to 5"),
        ("1::8::5::9", "MovieID 8 is not in movies.dat"),
        ("1::10000000::5::9", "MovieID 10000000 is not in movies.dat"),
        ("2::4::5::9", "rated this film before"),
    ],
)
def test_a_wrong_rating_is_named_with_its_line(tmp_path, line, message):
    rows = ratings_of(2, [4, 7])
    with pytest.raises(InputError, match=r"ratings\.dat, line 3: .*") as caught:
        load(write(tmp_path, [*rows, line, *ratings_of(3, [1, 7])]))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("5::Title (1990)", "expected MovieID::Title::Genre|Genre, found 2 field"),
        ("x::Title (1990)::Drama", "MovieID must be a whole number, found 'x'"),
        ("5::::Drama", "the title is empty"),
        ("5::Title (1990)::", "genres must be non-empty"),
        ("5::Title (1990)::Drama|Drama", "genres must be non-empty and different"),
        ("5::Ti\x07tle (1990)::Drama", "control character"),
        ("5::Ti\x93tle\x94 \xff(1990)::Drama", "control character"),
        ("1::Again (1990)::Drama", "MovieID 1 stands there twice"),
    ],
)
def test_a_wrong_film_is_named_with_its_line(tmp_path, line, message):
    with pytest.raises(InputError, match=r"movies\.dat, line 6: .*") as caught:
        load(write(tmp_path, ratings_of(1, [4, 7]), [*MOVIES, line]))
    assert message in str(caught.value)


def test_missing_and_empty_files(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"ratings\.dat is missing.*--data-dir DIR.*bench data prepare ml-1m"):
        load(tmp_path)
    write(tmp_path, ratings_of(1, [4, 7]))
    (tmp_path / "movies.dat").unlink()
    with pytest.raises(InputError, match=r"movies\.dat is missing"):
        load(tmp_path)
    (tmp_path / "movies.dat").write_bytes(b"\r\n")
    with pytest.raises(InputError, match=r"movies\.dat is empty"):
        load(tmp_path)
    monkeypatch.setenv("BENCH_CACHE_DIR", str(tmp_path / "cache"))
    with pytest.raises(InputError, match=r"not downloaded.*bench data prepare ml-1m.*--data-dir DIR"):
        MovieLens1M().load(None)
    (tmp_path / "cache" / "datasets" / "ml-1m").mkdir(parents=True)
    write(tmp_path / "cache" / "datasets" / "ml-1m", ratings_of(1, [4, 7]))
    assert len(MovieLens1M().load(None).user_ids) == 1
    assert find_files(None) == MovieLens1M().prepare(None)


def test_no_train_event_is_refused(tmp_path):
    with pytest.raises(InputError, match="no train event"):
        load(write(tmp_path, ["1::4::5::1"]))


def test_split_points_are_exact_for_every_length():
    lengths = np.arange(0, 3000)
    train_end, valid_end = split_points(lengths)
    # Integer arithmetic and the protocol's int(.8n), int(.9n) agree for every length that occurs.
    assert train_end.tolist() == [int(0.8 * n) for n in range(3000)]
    assert valid_end.tolist() == [int(0.9 * n) for n in range(3000)]


def test_split_points_are_taken_before_items_are_dropped():
    items = [Item(str(number), f"T{number}", f"T{number}", ("L",)) for number in range(12)]
    events = Ragged.of([list(range(10)), [0, 10, 1, 2, 3, 4, 5, 6, 11, 7]])
    dataset = assemble(MovieLens1M.card, items, ["a", "b"], events)
    # Item 8, 9 and 11 occur after train only, item 10 in b's train.
    assert dataset.catalogue.ids == ("0", "1", "2", "3", "4", "5", "6", "7", "10")
    assert dataset.train_end.tolist() == [8, 8]
    assert dataset.valid_end.tolist() == [8, 8]
    assert dataset.events.lengths.tolist() == [8, 9]
    assert dataset.events[1].tolist() == [0, 8, 1, 2, 3, 4, 5, 6, 7]


IDS = st.integers(0, 10**9)
EVENTS = st.dictionaries(st.tuples(IDS, st.integers(0, 30)), st.tuples(st.integers(1, 5), IDS), min_size=1, max_size=40)


@settings(deadline=None, max_examples=60)
@given(rows=EVENTS)
def test_random_ratings_round_trip(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("ratings") / "ratings.dat"
    lines = [(user, movie, rating, when) for (user, movie), (rating, when) in rows.items()]
    path.write_text("\n".join("::".join(map(str, line)) for line in lines))
    user_ids, events, _ = read_ratings(path, np.arange(30, -1, -1))
    expected: dict[int, list[tuple[int, int, int]]] = {}
    for place, (user, movie, _, when) in enumerate(lines):
        expected.setdefault(user, []).append((when, place, 30 - movie))
    assert user_ids == [str(user) for user in sorted(expected)]
    for row, user in enumerate(sorted(expected)):
        assert events[row].tolist() == [item for _, _, item in sorted(expected[user])]


VALID = "\n".join([*ratings_of(1, [4, 7, 1]), *ratings_of(2, [1, 4])]).encode()
BYTES = st.sampled_from([b"", b":", b"::", b"\n", b"\r", b"5", b" ", b"-", b"x", b"\xff", b"0" * 19])


@settings(deadline=None, max_examples=200)
@given(place=st.integers(0, len(VALID)), cut=st.integers(0, 3), put=BYTES)
def test_a_damaged_ratings_file_is_read_right_or_refused(tmp_path_factory, place, cut, put):
    path = tmp_path_factory.mktemp("damaged") / "ratings.dat"
    data = VALID[:place] + put + VALID[place + cut :]
    path.write_bytes(data)
    try:
        _, events, _ = read_ratings(path, np.array([1, 4, 7]))
    except InputError as error:
        assert "ratings.dat" in str(error)
    else:
        rows = [[int(field) for field in line.split(b"::")] for line in data.rstrip(b"\r\n").splitlines()]
        assert all(len(row) == 4 and 1 <= row[2] <= 5 and row[1] in (1, 4, 7) for row in rows)
        assert len(events.values) == len(rows)


TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="|:"), min_size=1).map(str.strip)
FILMS = st.dictionaries(
    st.integers(0, 10**9),
    st.tuples(TEXT.filter(bool), st.lists(TEXT.filter(bool), min_size=1, unique=True)),
    min_size=1,
)


@settings(deadline=None, max_examples=60)
@given(films=FILMS, noise=st.one_of(st.none(), st.binary(max_size=12)))
def test_random_films_round_trip_and_noise_is_refused(tmp_path_factory, films, noise):
    path = tmp_path_factory.mktemp("movies") / "movies.dat"
    text = "\n".join(f"{key}::{title}::{'|'.join(genres)}" for key, (title, genres) in films.items())
    path.write_text(text)
    items = read_movies(path, {})
    assert [(int(item.id), item.title, list(item.labels)) for item in items] == [
        (key, title, genres) for key, (title, genres) in films.items()
    ]
    if noise is not None:
        path.write_bytes(text.encode() + noise)
        try:
            read_movies(path, {})
        except InputError as error:
            assert "movies.dat" in str(error)


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="MovieLens-1M is not beside the checkout")
def test_published_data_gives_the_counts_of_the_protocol():
    dataset = MovieLens1M().load(PUBLISHED)
    statistics = dataset_statistics(dataset)
    assert (statistics["users"], statistics["items"], statistics["events"]) == (6040, 3666, 1_000_153)
    assert sum(statistics["splits"].values()) == 1_000_153
    assert len(statistics["labels"]) == 18 and statistics["labels"]["Drama"] == 1468
    assert all(len(tags) == 3 for tags in dataset.catalogue.train_tags + dataset.catalogue.eval_tags)
    assert dataset.events.values.max() == 3665
    assert np.unique(dataset.train_events().values).tolist() == list(range(3666))

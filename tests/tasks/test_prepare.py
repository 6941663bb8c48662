"""`prepare` against a real server on the loopback interface: what arrives whole is kept, anything else leaves nothing."""

import hashlib
import io
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from bench.errors import CheckError, InputError
from tasks.datasets import download
from tasks.datasets.movielens import MovieLens1M

RATINGS = b"1::1::5::100\n1::2::5::101\n"
MOVIES = "1::Amélie (2001)::Romance\n2::Heat (1995)::Action\n".encode("latin-1")


def archive(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for name, data in members.items():
            target.writestr(name, data)
    return buffer.getvalue()


WHOLE = {"ml-1m/": b"", "ml-1m/README": b"read me", "ml-1m/ratings.dat": RATINGS, "ml-1m/movies.dat": MOVIES}


class Server:
    """Serves `body`; `cut` bounds how much of one answer is sent; `ranges` says whether ranges are honoured."""

    def __init__(self) -> None:
        self.body = archive(WHOLE)
        self.status, self.cut, self.ranges = 200, None, True
        self.requests: list[str | None] = []
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self.http.server_port}/ml-1m.zip"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def _handler(server) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = self.headers.get("Range")
                server.requests.append(wanted)
                start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and server.ranges else 0
                if start and start >= len(server.body):
                    self.send_error(416)
                    return
                self.send_response(206 if start else server.status)
                body = server.body[start:]
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: server.cut])

            def log_message(self, *_: Any) -> None:
                pass

        return Handler

    def entry(self, sha256: str | None = None) -> MovieLens1M:
        class Local(MovieLens1M):
            url = self.url
            archive_sha256 = sha256 or hashlib.sha256(self.body).hexdigest()

        return Local()


class Recorder:
    def __init__(self) -> None:
        self.bars: list[list[int]] = []

    def track(self, description: str, total: int, done: int = 0):
        self.bars.append([total, done])
        bar = self.bars[-1]

        def advance(steps: int) -> None:
            bar[1] += steps

        return advance

    def note(self, message: str) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.http.shutdown()
    running.http.server_close()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BENCH_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "datasets"


def left(cache: Path) -> list[str]:
    return sorted(str(path.relative_to(cache)) for path in cache.rglob("*")) if cache.exists() else []


def test_downloads_once_unpacks_and_loads(server, cache):
    progress = Recorder()
    entry = server.entry()
    assert entry.prepare(None, progress) == cache / "ml-1m"
    assert left(cache) == ["ml-1m", "ml-1m/movies.dat", "ml-1m/ratings.dat"]
    assert (cache / "ml-1m" / "ratings.dat").read_bytes() == RATINGS
    assert progress.bars == [[len(server.body), len(server.body)]]
    assert entry.load(None).catalogue.titles == ("Amélie (2001)",)
    assert entry.prepare(None) == cache / "ml-1m"
    assert len(server.requests) == 1


def test_a_wrong_digest_keeps_nothing(server, cache):
    with pytest.raises(CheckError, match=r"SHA-256 is [0-9a-f]{64}, expected 0{64}"):
        server.entry("0" * 64).prepare(None)
    assert left(cache) == []
    with pytest.raises(InputError, match="not downloaded"):
        server.entry().load(None)


@pytest.mark.parametrize(
    "name", ["../ratings.dat", "/tmp/ratings.dat", "ml-1m/../../ratings.dat", "..\\x/../ratings.dat"]
)
def test_an_entry_that_climbs_out_is_refused(server, cache, name):
    server.body = archive({name: RATINGS, "ml-1m/movies.dat": MOVIES})
    with pytest.raises(CheckError, match="not a plain file"):
        server.entry().prepare(None)
    assert not list(cache.parent.parent.rglob("*.dat"))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"ml-1m/ratings.dat": RATINGS}, r"expected one movies\.dat in the archive, found 0"),
        ({**WHOLE, "other/movies.dat": MOVIES}, r"expected one movies\.dat in the archive, found 2"),
    ],
)
def test_a_missing_or_doubled_member_is_refused(server, cache, members, message):
    server.body = archive(members)
    with pytest.raises(CheckError, match=message):
        server.entry().prepare(None)
    assert not (cache / "ml-1m").exists()


def test_other_members_are_not_unpacked(server, cache):
    server.body = archive({**WHOLE, "../evil.txt": b"x", "ml-1m/users.dat": b"y"})
    server.entry().prepare(None)
    assert left(cache) == ["ml-1m", "ml-1m/movies.dat", "ml-1m/ratings.dat"]
    assert not list(cache.parent.parent.rglob("evil.txt"))


@pytest.mark.parametrize("ranges", [True, False])
def test_a_truncated_download_is_reported_and_continued(server, cache, ranges):
    server.cut, server.ranges = 100, ranges
    with pytest.raises(CheckError, match=rf"broke off at 100 of {len(server.body)} bytes.*continues"):
        server.entry().prepare(None)
    assert left(cache) == ["ml-1m.zip.part"]
    server.cut = None
    progress = Recorder()
    assert server.entry().prepare(None, progress) == cache / "ml-1m"
    assert server.requests == [None, "bytes=100-"]
    assert progress.bars == [[len(server.body), len(server.body)]]
    assert left(cache) == ["ml-1m", "ml-1m/movies.dat", "ml-1m/ratings.dat"]


def test_a_part_that_is_whole_already_is_used(server, cache):
    cache.mkdir(parents=True)
    (cache / "ml-1m.zip.part").write_bytes(server.body)
    assert server.entry().prepare(None) == cache / "ml-1m"


def test_a_part_of_another_file_is_thrown_away(server, cache):
    cache.mkdir(parents=True)
    (cache / "ml-1m.zip.part").write_bytes(b"x" * 50)
    with pytest.raises(CheckError, match="SHA-256"):
        server.entry().prepare(None)
    assert left(cache) == []
    assert server.entry().prepare(None) == cache / "ml-1m"


def test_a_folder_without_the_files_is_replaced(server, cache):
    (cache / "ml-1m").mkdir(parents=True)
    (cache / "ml-1m" / "stray.txt").write_text("x")
    server.entry().prepare(None)
    assert left(cache) == ["ml-1m", "ml-1m/movies.dat", "ml-1m/ratings.dat"]


def test_what_is_not_a_zip_archive_is_one_line(server, cache):
    server.body = b"<html>moved</html>"
    with pytest.raises(CheckError, match="not a readable zip archive") as caught:
        server.entry().prepare(None)
    assert "\n" not in str(caught.value)
    assert not (cache / "ml-1m").exists()


def test_network_errors_are_one_line(server, cache):
    server.status = 404
    with pytest.raises(CheckError, match="the server answered 404"):
        server.entry().prepare(None)

    class Closed(MovieLens1M):
        url = "http://127.0.0.1:1/ml-1m.zip"

    with pytest.raises(CheckError, match="the download failed") as caught:
        Closed().prepare(None)
    assert "\n" not in str(caught.value)


def test_too_large_is_refused(server, cache):
    digest = hashlib.sha256(server.body).hexdigest()
    with pytest.raises(CheckError, match="more than 100 bytes"):
        download.fetch_archive(server.url, digest, cache / "ml-1m", ("ratings.dat",), max_bytes=100)
    assert left(cache) == []
    server.body = archive({"ml-1m/ratings.dat": b"1" * 10_000})
    digest = hashlib.sha256(server.body).hexdigest()
    with pytest.raises(CheckError, match="unpacks to 10000 bytes"):
        download.fetch_archive(server.url, digest, cache / "ml-1m", ("ratings.dat",), max_bytes=5_000)


def test_a_folder_that_cannot_be_written_is_one_line(server, tmp_path):
    (tmp_path / "file").write_text("x")
    digest = hashlib.sha256(server.body).hexdigest()
    with pytest.raises(CheckError, match="cannot write to"):
        download.fetch_archive(server.url, digest, tmp_path / "file" / "ml-1m", ("ratings.dat",))


def test_with_a_folder_only_the_layout_is_checked(server, tmp_path):
    with pytest.raises(InputError, match=r"ratings\.dat is missing"):
        server.entry().prepare(tmp_path)
    (tmp_path / "ratings.dat").write_bytes(RATINGS)
    (tmp_path / "movies.dat").write_bytes(MOVIES)
    assert server.entry().prepare(tmp_path) == tmp_path
    assert not server.requests


def test_the_published_archive_is_pinned():
    assert MovieLens1M.url.startswith("https://files.grouplens.org/")
    assert len(MovieLens1M.archive_sha256) == 64 and MovieLens1M.card.sha256 == MovieLens1M.archive_sha256


def test_a_single_file_is_fetched_once_continued_and_checked(server, tmp_path):
    server.body = bytes(range(256)) * 40
    target = tmp_path / "files" / "books.json.gz"
    server.cut = 1000
    with pytest.raises(CheckError, match=r"broke off at 1000 of 10240 bytes.*continues"):
        download.fetch_file(server.url, target)
    server.cut = None
    with pytest.raises(CheckError, match=r"SHA-256 is [0-9a-f]{64}, expected 0{64}; nothing was kept"):
        download.fetch_file(server.url, target, sha256="0" * 64)
    assert left(target.parent) == []
    digest = hashlib.sha256(server.body).hexdigest()
    assert download.fetch_file(server.url, target, sha256=digest).read_bytes() == server.body
    asked = len(server.requests)
    assert download.fetch_file(server.url, target) == target and len(server.requests) == asked
    assert left(target.parent) == ["books.json.gz"]
    with pytest.raises(CheckError, match="more than 100 bytes"):
        download.fetch_file(server.url, tmp_path / "other", max_bytes=100)

"""Downloads from a server on this machine that does what servers do: gives ranges or not, breaks off, sends rubbish."""

import hashlib
import io
import re
import socket
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath

import numpy as np
import pytest

from trackerlib import fetch as fetching
from trackerlib.data import BENCHMARKS
from trackerlib.data.benchmark import list_names
from trackerlib.fetch import archives_of, fetch

NOISE = np.random.default_rng(0).bytes(5000)


def zipped(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as z:
        for name, content in members.items():
            z.writestr(name, content)
    return buffer.getvalue()


DEER = zipped({"Deer/img/0001.jpg": NOISE, "Deer/groundtruth_rect.txt": b"1,2,3,4\n"})
SHA = hashlib.sha256(DEER).hexdigest()


class Server(ThreadingHTTPServer):
    """`files` by path; what is under /whole/ knows no ranges, /short/ breaks off; `asked`: (path, Range header)."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.asked = {}, []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        span = self.headers.get("Range")
        self.server.asked.append((self.path, span))
        data = self.server.files.get(self.path)
        if data is None:
            return self.send_error(404)
        start = int(re.match(r"bytes=(\d+)-$", span)[1]) if span and not self.path.startswith("/whole/") else 0
        if start >= len(data):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(data)}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.send_header("Content-Type", "text/html" if self.path.endswith(".html") else "application/zip")
        self.send_header("Content-Encoding", "x-gzip")  # as servers say of a .gz that is to stay one
        self.end_headers()
        self.wfile.write(data[start : len(data) // 2 if self.path.startswith("/short/") else None])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(fetching, "_PATIENCE", (2, 2))
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join(5)


@pytest.fixture
def register(tmp_path, monkeypatch):
    """A registry of the test's own: rows (file, unpack, bytes, sha256, urls), all of the dataset `mine`."""
    monkeypatch.setattr(fetching, "resource", lambda *parts: tmp_path / "registry.csv")

    def write(*rows):
        lines = (",".join(["mine", *map(str, row)]) for row in rows)
        (tmp_path / "registry.csv").write_text("\n".join(["datasets,file,unpack,bytes,sha256,urls", *lines]))
        return tmp_path / "root"

    return write


@pytest.fixture
def dead():
    """A URL of a port where nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}/Deer.zip"


def row(*urls, sha=SHA, size=""):
    return "Deer.zip", "Deer", size, sha, " ".join(urls)


def whole(root):
    return (root / "Deer/img/0001.jpg").read_bytes() == NOISE


def test_a_dataset_is_fetched_checked_and_unpacked_once(server, register):
    server.files["/Deer.zip"] = DEER
    root, said = register(row(f"{server.url}/Deer.zip", size=len(DEER))), []
    assert fetch("mine", root, said.append) == root
    assert whole(root)
    assert sorted(file.name for file in (root / "downloads").iterdir()) == [".lock", "Deer.zip"]
    fetch("mine", root, said.append)
    assert server.asked == [("/Deer.zip", None)]
    assert said == []


def test_a_partial_file_is_completed_by_a_range(server, register):
    server.files["/Deer.zip"] = DEER
    root = register(row(f"{server.url}/Deer.zip"))
    partial = root / "downloads/Deer.zip.partial"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(DEER[:2000])
    fetch("mine", root)
    assert server.asked == [("/Deer.zip", "bytes=2000-")]
    assert whole(root)
    assert not partial.exists()


def test_what_broke_off_is_kept_and_completed_by_the_next_mirror(server, register):
    server.files = {"/short/Deer.zip": DEER, "/Deer.zip": DEER}
    root = register(row(f"{server.url}/short/Deer.zip"))
    with pytest.raises(FileNotFoundError, match=rf"short/Deer.zip \(broke off after {len(DEER) // 2:,} bytes\)"):
        fetch("mine", root)
    assert (root / "downloads/Deer.zip.partial").read_bytes() == DEER[: len(DEER) // 2]
    register(row(f"{server.url}/gone/Deer.zip", f"{server.url}/Deer.zip"))
    fetch("mine", root)
    half = f"bytes={len(DEER) // 2}-"
    assert server.asked == [("/short/Deer.zip", None), ("/gone/Deer.zip", half), ("/Deer.zip", half)]
    assert whole(root)


def test_a_mirror_that_breaks_off_late_is_asked_for_the_rest(server, register, monkeypatch):
    monkeypatch.setattr(fetching, "_WORTH", 1000)
    server.files["/short/Deer.zip"] = DEER
    with pytest.raises(FileNotFoundError, match="broke off"):
        fetch("mine", register(row(f"{server.url}/short/Deer.zip")))
    assert [span for _, span in server.asked] == [None, f"bytes={len(DEER) // 2}-"]


def test_a_server_without_ranges_sends_all_again(server, register):
    server.files["/whole/Deer.zip"] = DEER
    root = register(row(f"{server.url}/whole/Deer.zip"))
    partial = root / "downloads/Deer.zip.partial"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"of something else")
    fetch("mine", root)
    assert server.asked == [("/whole/Deer.zip", f"bytes={len(b'of something else')}-")]
    assert whole(root)


@pytest.mark.parametrize(("there", "asked"), [(DEER, 1), (DEER + b"of something longer", 2)])
def test_a_partial_file_that_lacks_nothing_is_taken_or_fetched_anew(server, register, there, asked):
    server.files["/Deer.zip"] = DEER
    root = register(row(f"{server.url}/Deer.zip"))
    partial = root / "downloads/Deer.zip.partial"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(there)
    fetch("mine", root)
    assert [span for _, span in server.asked] == [f"bytes={len(there)}-", None][:asked]
    assert whole(root)


@pytest.mark.parametrize("size", ["", len(DEER)])
def test_a_file_with_another_sha256_is_put_aside_and_the_next_mirror_asked(server, register, size):
    server.files = {"/bad/Deer.zip": DEER[:-1] + b"!", "/Deer.zip": DEER}
    root = register(row(f"{server.url}/bad/Deer.zip", f"{server.url}/Deer.zip", size=size))
    fetch("mine", root)
    assert (root / "downloads/Deer.zip.corrupt").read_bytes() == server.files["/bad/Deer.zip"]
    assert (root / "downloads/Deer.zip").read_bytes() == DEER
    assert whole(root)


def test_both_digests_are_named(server, register):
    server.files["/Deer.zip"] = b"other"
    with pytest.raises(FileNotFoundError) as told:
        fetch("mine", register(row(f"{server.url}/Deer.zip")))
    other = hashlib.sha256(b"other").hexdigest()
    assert f"sha256 {other} where {SHA} is registered; kept as Deer.zip.corrupt" in str(told.value)
    with pytest.raises(FileNotFoundError, match="5 bytes where 7 are registered"):
        fetch("mine", register(row(f"{server.url}/Deer.zip", size=7)))


def test_a_file_that_nobody_vouches_for_is_named_with_its_sha256(server, register):
    server.files["/Deer.zip"] = DEER
    said = []
    root = register(row(f"{server.url}/Deer.zip", sha=""))
    fetch("mine", root, said.append)
    assert said == [f"{root / 'downloads/Deer.zip'}: sha256 {SHA}; none is registered: nobody vouches for this file"]


def test_a_damaged_or_hostile_archive_is_put_aside_and_named(server, register):
    server.files = {"/Deer.zip": DEER[:-30], "/evil/Deer.zip": zipped({"../evil": b""})}
    root = register(row(f"{server.url}/Deer.zip", f"{server.url}/evil/Deer.zip", sha=""))
    with pytest.raises(FileNotFoundError, match=r"damaged or cut short .*; http.*/evil/.* leads out of the folder"):
        fetch("mine", root)
    assert sorted(file.name for file in root.rglob("*")) == [".lock", "Deer.zip.corrupt", "downloads"]
    register(("Deer.zip", "Dog", "", "", f"{server.url}/dog"))
    server.files["/dog"] = DEER
    with pytest.raises(FileNotFoundError, match="held no Dog"):
        fetch("mine", root)


def test_where_nothing_can_be_had_every_url_its_cause_and_the_place_are_named(server, register, dead):
    server.files["/login.html"] = b"<html>"
    urls = (dead, f"{server.url}/gone/Deer.zip", f"{server.url}/login.html")
    server.files["/Dog.zip"] = zipped({"Dog/x": b""})
    dog = ("Dog.zip", "Dog", "", "", f"{dead[:-8]}Dog.zip {server.url}/Dog.zip")
    root = register(row(*urls), dog)
    with pytest.raises(FileNotFoundError) as told:
        fetch("mine", root, lambda _: None)
    first, line = str(told.value).split("\n")
    counts = "mine: 1 of 2 archives could not be fetched"
    assert first == f"{counts}; put each file by hand where its line says, and run again"
    causes = ("no connection", "404 Not Found", "a web page instead of the file")
    tried = "; ".join(f"{url} ({cause})" for url, cause in zip(urls, causes, strict=True))
    assert line == f"  {root / 'downloads/Deer.zip'}: {tried}"
    assert (root / "Dog/x").exists()


def test_a_host_that_is_silent_is_asked_once(register, dead, monkeypatch):
    tried, real = [], fetching._download
    monkeypatch.setattr(fetching, "_download", lambda url, place: tried.append(url) or real(url, place))
    with pytest.raises(FileNotFoundError, match=r"2 of 2 archives(.|\n)*\(no connection before\)"):
        fetch("mine", register(row(dead), ("Dog.zip", "Dog", "", "", dead)))
    assert tried == [dead]


def test_an_archive_put_there_by_hand_needs_no_network(server, register):
    server.files["/Deer.zip"] = DEER
    root = register(row(f"{server.url}/Deer.zip"))
    (root / "downloads").mkdir(parents=True)
    (root / "downloads/Deer.zip").write_bytes(DEER)
    stale = root / ".Deer.zip.0a1b2c3d.unpack/Deer"
    stale.mkdir(parents=True)
    fetch("mine", root)
    assert server.asked == []
    assert whole(root)
    assert sorted(file.name for file in root.iterdir()) == ["Deer", "downloads"]


def test_one_put_there_by_hand_that_is_not_the_registered_one_is_put_aside(server, register):
    server.files["/Deer.zip"] = DEER
    root = register(row(f"{server.url}/Deer.zip"))
    (root / "downloads").mkdir(parents=True)
    (root / "downloads/Deer.zip").write_bytes(b"other")
    fetch("mine", root)
    assert (root / "downloads/Deer.zip.corrupt").read_bytes() == b"other"
    assert whole(root)


def test_a_full_disk_is_told_and_the_partial_file_is_kept(server, register, monkeypatch):
    server.files["/Deer.zip"] = DEER
    root = register(row(f"{server.url}/Deer.zip", f"{server.url}/other/Deer.zip"))

    class Full(io.FileIO):
        def write(self, data):
            super().write(data[:100])
            raise OSError(28, "No space left on device")

    def full(path, mode="r", **options):
        return Full(path, mode) if mode == "wb" else open(path, mode, **options)

    monkeypatch.setattr(fetching, "open", full, raising=False)
    with pytest.raises(OSError, match=r"Deer.zip.partial: No space left on device; what has come is kept"):
        fetch("mine", root)
    assert (root / "downloads/Deer.zip.partial").read_bytes() == DEER[:100]
    assert len(server.asked) == 1


def test_two_processes_share_one_download(server, register):
    server.files["/Deer.zip"] = DEER
    root, said, ends = register(row(f"{server.url}/Deer.zip")), [], []
    (root / "downloads").mkdir(parents=True)
    hold = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); input()"
    command = [sys.executable, "-c", hold, str(root / "downloads/.lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        waits = threading.Event()
        say = lambda line: said.append(line) or waits.set()  # noqa: E731
        both = [threading.Thread(target=lambda: ends.append(fetch("mine", root, say))) for _ in range(2)]
        for thread in both:
            thread.start()
        assert waits.wait(5)
        assert server.asked == []
        other.communicate(b"\n", timeout=5)
    for thread in both:
        thread.join(5)
    assert ends == [root, root]
    assert "waiting for another process" in said[0]
    assert server.asked == [("/Deer.zip", None)]


def test_a_dataset_without_a_direct_link_says_where_it_is_had(tmp_path):
    with pytest.raises(ValueError, match=r"got10k-val: no direct link is known; get it at http://got-10k\S+, as ROOT"):
        fetch("got10k-val", tmp_path)
    with pytest.raises(ValueError, match="rendered: needs no download"):
        fetch("rendered", tmp_path)
    with pytest.raises(ValueError, match="otb10: unknown; near: otb100"):
        fetch("otb10", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_registry_holds_what_it_can_hold():
    named = {"otb", "otb2013", "otb50", "otb100", *(f"vot{year}" for year in range(2013, 2018))}
    assert named <= set(BENCHMARKS)
    for name in {*named, "imagenet-vid-train", "imagenet-vid-val"}:
        archives = archives_of(name)
        assert len({archive.file for archive in archives}) == len(archives)
        for archive in archives:
            assert re.search(r"^\w+(\.zip|\.tar\.gz)$", archive.file)
            assert not PurePosixPath(archive.unpack).is_absolute()
            assert ".." not in archive.unpack
            assert re.fullmatch(r"|[0-9a-f]{64}", archive.sha256)
            assert archive.urls
            assert all(re.fullmatch(rf"https?://\S+/{re.escape(archive.file)}", url) for url in archive.urls)
        assert len({PurePosixPath(archive.unpack).parent for archive in archives}) == 1


@pytest.mark.parametrize(("short", "count"), [("2013", 50), ("50", 49), ("100", 98)])
def test_the_registry_has_an_archive_for_every_otb_target(short, count):
    videos = {archive.unpack for archive in archives_of(f"otb{short}")}
    assert len(videos) == count
    assert {re.sub("-[12]$", "", target) for target in list_names("otb", short)} == videos

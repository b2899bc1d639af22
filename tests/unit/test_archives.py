"""Archives that hurt, made here: whatever is wrong with one, it is named and nothing is left of it."""

import gzip
import io
import stat
import tarfile
import zipfile

import numpy as np
import pytest

from trackerlib.data import archives
from trackerlib.data.archives import extract

FILES = {"Deer/img/0001.jpg": np.random.default_rng(0).bytes(6000), "Deer/groundtruth_rect.txt": b"1,2,3,4\n" * 500}
MODES = {".tar": "w", ".tar.gz": "w:gz", ".tgz": "w:gz", ".tar.bz2": "w:bz2", ".tar.xz": "w:xz"}
KINDS = [".zip", *MODES]


def pack(path, members):
    """An archive of (name or TarInfo or ZipInfo, content) pairs."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
            for name, content in members:
                z.writestr(name, content)
        return path
    with tarfile.open(path, next(mode for end, mode in MODES.items() if path.name.endswith(end))) as t:
        for name, content in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content) if info.isreg() else 0
            t.addfile(info, io.BytesIO(content))
    return path


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def left(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def assert_refused(path, match, **limits):
    """Extraction is refused in one line that names the archive, and leaves nothing, beside it neither."""
    before = left(path.parent)
    with pytest.raises(ValueError, match=match) as told:
        extract(path, path.parent / "out", **limits)
    assert str(told.value).startswith(f"{path}: ")
    assert "\n" not in str(told.value)
    assert left(path.parent) == before


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_packed_is_unpacked_with_plain_modes_and_without_junk(tmp_path, kind):
    loud = (zipfile.ZipInfo if kind == ".zip" else tarfile.TarInfo)("Deer/run")
    setattr(loud, *(("external_attr", (stat.S_IFREG | 0o6777) << 16) if kind == ".zip" else ("mode", 0o6777)))
    junk = [("__MACOSX/Deer/._0001.jpg", b"?"), ("Deer/.DS_Store", b"?")]
    path = pack(tmp_path / f"Deer{kind}", [*FILES.items(), *junk, (loud, b"x")])
    assert extract(path, tmp_path / "new/out") == ["Deer"]
    out = tmp_path / "new/out"
    found = {str(file.relative_to(out)): file.read_bytes() for file in out.rglob("*") if file.is_file()}
    assert found == {**FILES, "Deer/run": b"x"}
    assert not (out / "Deer/run").stat().st_mode & 0o7111
    assert left(tmp_path / "new")[0] == "out"


def test_a_second_archive_joins_the_first_and_overwrites_nothing(tmp_path):
    path = pack(tmp_path / "Deer.zip", FILES.items())
    extract(path, tmp_path / "out")
    extract(pack(tmp_path / "Dog.zip", [("./Dog/a", b"1"), ("Dog//b", b"2")]), tmp_path / "out")
    assert (tmp_path / "out/Dog/b").read_bytes() == b"2"
    (tmp_path / "out/Deer/groundtruth_rect.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="out/Deer: stands already"):
        extract(path, tmp_path / "out")
    assert (tmp_path / "out/Deer/groundtruth_rect.txt").read_text() == "mine"


UNFIT = {
    "/etc/passwd": "leads out",
    "C:/x": "leads out",
    "Deer/../../x": "leads out",
    "..": "leads out",
    "Deer\\x": "backslash",
    "Deer/a\nb": "cannot be written",
    "n" * 256: "cannot be written",
    "d/" * 600 + "x": "cannot be written",
    "__MACOSX/../../x": "leads out",
}


@pytest.mark.parametrize("kind", [".zip", ".tar.gz"])
@pytest.mark.parametrize("name", UNFIT)
def test_a_name_that_is_unfit_is_refused(tmp_path, kind, name):
    assert_refused(pack(tmp_path / f"a{kind}", [*FILES.items(), (name, b"x")]), UNFIT[name])


def test_a_zip_name_that_goes_on_behind_a_nul_is_refused(tmp_path):
    path = pack(tmp_path / "a.zip", [("Deer/aXb", b"x")])
    path.write_bytes(path.read_bytes().replace(b"Deer/aXb", b"Deer/a\0b"))
    assert_refused(path, "cannot be written")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path, kind):
    path = pack(tmp_path / "a.tar", [*FILES.items(), (special("Deer/x", kind, "groundtruth_rect.txt"), b"")])
    assert_refused(path, "'Deer/x': a link or a device")


def test_links_and_encrypted_members_of_a_zip_are_refused(tmp_path):
    link = zipfile.ZipInfo("Deer/x")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    assert_refused(pack(tmp_path / "link.zip", [(link, "/etc/passwd")]), "'Deer/x': a link or a device")
    path = pack(tmp_path / "a.zip", [("Deer/x", b"x")])
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    assert_refused(path, "'Deer/x': encrypted")


TWICE = [("a/x", "a/x"), ("a/X", "A/x"), ("a", "a/x"), ("a/x", "a"), ("a/x", "./a//x")]


@pytest.mark.parametrize("names", TWICE)
@pytest.mark.parametrize("kind", [".zip", ".tar"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_comes_twice_is_refused(tmp_path, kind, names):
    assert_refused(pack(tmp_path / f"a{kind}", [(name, b"1") for name in names]), "comes twice")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_larger_than_expected_is_refused_before_it_is_unpacked(tmp_path, kind):
    path = pack(tmp_path / f"bomb{kind}", [("zeros", bytes(3 << 20))])
    assert_refused(path, "more than the 1,000,000 bytes", limit_bytes=1_000_000)
    assert_refused(pack(tmp_path / f"many{kind}", [(str(n), b"") for n in range(11)]), "10 files", limit_files=10)
    extract(path, tmp_path / "out", limit_bytes=3 << 20)


def test_what_follows_the_end_of_a_tar_counts_too(tmp_path):
    path = pack(tmp_path / "a.tar", FILES.items())
    bomb = tmp_path / "a.tgz"
    bomb.write_bytes(gzip.compress(path.read_bytes() + bytes(3 << 20)))
    assert_refused(bomb, "more bytes than expected", limit_bytes=1_000_000, limit_files=10)


def test_a_tar_header_that_wants_the_memory_is_refused(tmp_path):
    assert_refused(pack(tmp_path / "a.tgz", [(special("x" * 3_000_000, tarfile.REGTYPE), b"")]), "excessive size")


def test_a_lying_size_is_refused(tmp_path):
    path = pack(tmp_path / "a.zip", [("Deer/x", bytes(100_000))])
    data = bytearray(path.read_bytes())
    size = data.index(b"PK\1\2") + 24
    for lie in (10, 200_000):  # fewer than there are: cut there, and the checksum is not met; more: they do not come
        data[size : size + 4] = lie.to_bytes(4, "little")
        path.write_bytes(data)
        assert_refused(path, "'Deer/x': (damaged|not as long)")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", [0.0, 0.02, 0.3, 0.6, 0.9, 0.998])
def test_an_archive_that_is_cut_short_is_refused(tmp_path, kind, part):
    path = pack(tmp_path / f"a{kind}", FILES.items())
    size = sum(map(len, FILES.values())) if kind == ".tar" else path.stat().st_size  # a tar ends in kilobytes of zeros
    path.write_bytes(path.read_bytes()[: int(size * part)])
    assert_refused(path, "fetch it again")


@pytest.mark.parametrize("kind", [".zip", ".tar.gz", ".tar.bz2", ".tar.xz"])
def test_a_byte_that_changed_is_noticed(tmp_path, kind):
    path = pack(tmp_path / f"a{kind}", [("noise", np.random.default_rng(1).bytes(5000))])
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert_refused(path, "damaged or cut short")


def test_a_broken_header_in_the_middle_of_a_tar_is_not_taken_for_its_end(tmp_path):
    path = pack(tmp_path / "a.tar", FILES.items())
    data = bytearray(path.read_bytes())
    data[data.index(b"Deer/groundtruth")] ^= 1
    path.write_bytes(data)
    assert_refused(path, "no end mark")


def test_what_is_no_archive_is_refused(tmp_path):
    for name, match in (("page.zip", "damaged or cut short"), ("page.html", "known by its name")):
        (tmp_path / name).write_text("<html>moved</html>")
        assert_refused(tmp_path / name, match)
    assert_refused(pack(tmp_path / "empty.zip", [("__MACOSX/x", b"")]), "holds no file")


@pytest.fixture
def fails_at_the_second_file(monkeypatch):
    def arm(error):
        opened = []

        def fails(path, mode):
            opened.append(path)
            if len(opened) == 2:
                raise error
            return open(path, mode)

        monkeypatch.setattr(archives, "open", fails, raising=False)
        return opened

    return arm


def test_a_full_disk_half_way_leaves_nothing(tmp_path, fails_at_the_second_file):
    path = pack(tmp_path / "a.zip", FILES.items())
    opened = fails_at_the_second_file(OSError(28, "No space left on device"))
    with pytest.raises(OSError, match=r"'Deer/groundtruth_rect.txt': No space left on device; nothing was unpacked"):
        extract(path, tmp_path / "out")
    assert len(opened) == 2
    assert left(tmp_path) == ["a.zip"]


@pytest.mark.parametrize("there", [False, True])
def test_a_kill_half_way_leaves_nothing_that_looks_whole(tmp_path, monkeypatch, fails_at_the_second_file, there):
    path, out = pack(tmp_path / "a.zip", FILES.items()), tmp_path / "out"
    if there:
        out.mkdir()
    fails_at_the_second_file(KeyboardInterrupt())
    monkeypatch.setattr(archives.shutil, "rmtree", lambda *_, **__: None)  # nobody cleans up after SIGKILL
    with pytest.raises(KeyboardInterrupt):
        extract(path, out)
    hidden = next((out if there else tmp_path).glob(".a.zip.*.unpack"))
    assert (hidden / "Deer").exists()
    assert {file for file in tmp_path.rglob("*") if not file.is_relative_to(hidden)} == {path, *[out] * there}


def test_a_disk_that_is_too_small_is_told_before(tmp_path, monkeypatch):
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: archives.shutil._ntuple_diskusage(10, 10, 9_999))
    with pytest.raises(OSError, match="unpacks to 10,000 bytes, the disk has 9,999"):
        extract(pack(tmp_path / "a.zip", FILES.items()), tmp_path / "out")

"""Unpacking archives that somebody else made: .zip, .tar, .tar.gz, .tgz, .tar.bz2 and .tar.xz.

Every member is checked before anything is written. Refused are names that lead out of the folder or cannot be written,
links and devices, two files of one name (upper and lower case are one: not every disk tells them apart), encrypted
members, more bytes or files than expected, and whatever is damaged or cut short. What is unpacked is written beside its
place and renamed into it, so that a kill or a full disk leaves nothing behind that looks whole."""

import bz2
import errno
import gzip
import lzma
import os
import re
import secrets
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_STREAMS = {".tar": open, ".tar.gz": gzip.open, ".tgz": gzip.open, ".tar.bz2": bz2.open, ".tar.xz": lzma.open}
_AT_ONCE = 1 << 20  # bytes
_HEADER = 4096  # bytes of a tar that a member may take beside its content
_BLOCK = bytes(tarfile.BLOCKSIZE)


class _RefusedError(ValueError):
    """An archive's fault in one line, which is told as it stands."""


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    is_folder: bool
    fault: str
    open: Callable[[], BinaryIO]

    @property
    def path(self) -> str:
        return "/".join(part for part in self.name.split("/") if part not in ("", "."))

    @property
    def is_junk(self) -> bool:
        """What macOS adds to archives, and `./` itself."""
        parts = self.path.split("/")
        return "__MACOSX" in parts or parts[-1] in ("", ".DS_Store")


def extract(archive: Path, into: Path, limit_bytes: int = 1 << 38, limit_files: int = 4_000_000) -> list[str]:
    """Unpack an archive into a folder; gives back the names that are new in it, sorted.

    Where there is no folder `into`, it comes into being with everything in it at once; else each file or folder at the
    archive's top is renamed into it. limit_bytes, limit_files: what the archive may hold. Files get plain modes.
    Raises ValueError for an archive that is refused, naming it and the member; FileExistsError where something of a
    name at its top stands already (nothing is overwritten); OSError for a disk that is full. Nothing is left then."""
    archive, into = Path(archive), Path(into)
    room = limit_bytes + _HEADER * limit_files
    with _told(archive):
        tops, total = _checked(archive, room, limit_bytes, limit_files)
    for top in tops:
        if os.path.lexists(into / top):
            raise FileExistsError(f"{into / top}: stands already, and {archive} would replace it; move it away")
    home = into if into.exists() else into.parent
    home.mkdir(parents=True, exist_ok=True)
    if (free := shutil.disk_usage(home).free) < total:
        raise OSError(f"{home}: {archive} unpacks to {total:,} bytes, the disk has {free:,}; make room and run again")
    temporary = home / f".{archive.name}.{secrets.token_hex(4)}.unpack"
    try:
        temporary.mkdir()
        _write(archive, temporary, room)
        if home != into:
            temporary.rename(into)
        else:
            for top in tops:
                (temporary / top).rename(into / top)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return tops


@contextmanager
def _told(archive: Path, member: str = "") -> Iterator[None]:
    """Whatever the readers of archives raise, as one line; there is no list of what hostile bytes make them raise."""
    where = f"{archive}: {member!r}" if member else f"{archive}"
    try:
        yield
    except _RefusedError:
        raise
    except Exception as error:
        # no number: bz2's and gzip's word for damage; EINVAL: a zip that sends its reader before the file's start
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise OSError(error.errno, f"{where}: {error.strerror}; nothing was unpacked, run again") from None
        why = str(error) or type(error).__name__
        raise _RefusedError(f"{where}: damaged or cut short ({why}); fetch it again") from None


def _checked(archive: Path, room: int, limit_bytes: int, limit_files: int) -> tuple[list[str], int]:
    """The names at an archive's top, sorted, and how many bytes it declares."""
    kinds: dict[str, bool] = {}  # of every path, case folded: whether it is a file
    tops, total = set(), 0
    for count, member in enumerate(_members(archive, room), 1):
        total += member.size
        why = _unfit(member.name) or ("" if member.is_junk else member.fault)
        if not (why or member.is_junk):
            tops.add(member.path.split("/")[0])
            why = "comes twice" if _comes_twice(kinds, member) else ""
        if total > limit_bytes or count > limit_files:
            why = f"more than the {limit_bytes:,} bytes or {limit_files:,} files that are expected of it"
        if why:
            raise _RefusedError(f"{archive}: {member.name[:200]!r}: {why}; nothing was unpacked, fetch it elsewhere")
    if not tops:
        raise _RefusedError(f"{archive}: holds no file; fetch it again")
    return sorted(tops), total


def _unfit(name: str) -> str:
    """Why a member may not have this name."""
    if re.match("/|[A-Za-z]:", name) or ".." in name.split("/"):
        return "a path that leads out of the folder"
    if "\\" in name:
        return "a backslash in a name"
    unwritable = re.search("[\0-\x1f\x7f\ud800-\udfff]", name) or len(name) > 1000
    if unwritable or any(len(part.encode()) > 255 for part in name.split("/")):
        return "a name that cannot be written"
    return ""


def _comes_twice(kinds: dict[str, bool], member: _Member) -> bool:
    """Whether a file has another's name, or is another's folder; notes the member in `kinds`."""
    key = member.path.casefold()
    taken = key in kinds and (kinds[key] or not member.is_folder)
    kinds[key] = not member.is_folder
    while (key := key.rpartition("/")[0]) and key not in kinds:
        kinds[key] = False
    return taken or kinds.get(key, False)


def _write(archive: Path, folder: Path, room: int) -> None:
    for member in _members(archive, room):
        if member.is_junk:
            continue
        target, left = folder / member.path, member.size
        (target if member.is_folder else target.parent).mkdir(parents=True, exist_ok=True)
        if member.is_folder:
            continue
        with _told(archive, member.name), member.open() as source, open(target, "xb") as out:
            while left >= 0 and (chunk := source.read(_AT_ONCE)):
                left -= len(chunk)
                out.write(chunk)
        if left:
            raise _RefusedError(f"{archive}: {member.name!r}: not as long as it declares; get it from its authors")


def _members(archive: Path, room: int) -> Iterator[_Member]:
    """What an archive holds, in its order. room: bytes, headers too, that a tar may unpack to."""
    name = archive.name.lower()
    if name.endswith(".zip"):
        yield from _zip_members(archive)
    elif opener := next((opener for suffix, opener in _STREAMS.items() if name.endswith(suffix)), None):
        with opener(archive, "rb") as stream:
            yield from _tar_members(_Bounded(stream, room))
    else:
        raise _RefusedError(f"{archive}: no archive that is known by its name; wanted: .zip, {', '.join(_STREAMS)}")


def _zip_members(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as pack:
        for info in pack.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            fault = "" if kind in (0, stat.S_IFREG, stat.S_IFDIR) else "a link or a device"
            if info.flag_bits & 0x41:
                fault = "encrypted"
            # the name as it is stored: zipfile's own ends at the first NUL
            yield _Member(info.orig_filename, info.file_size, info.is_dir(), fault, lambda info=info: pack.open(info))


def _tar_members(stream: "_Bounded") -> Iterator[_Member]:
    with tarfile.open(fileobj=stream, mode="r:") as pack:
        while info := pack.next():
            fault = "" if info.isdir() or info.isreg() else "a link or a device"
            if info.issparse() or info.size < 0:
                fault = "a file with holes"
            yield _Member(info.name, info.size, info.isdir(), fault, lambda info=info: pack.extractfile(info))
            pack.members.clear()  # of millions
        if stream.last != _BLOCK:  # tarfile takes a broken header for the end
            raise tarfile.ReadError("no end mark")
        while stream.read(_AT_ONCE):  # up to the checksum that ends a gzip
            pass


class _Bounded:
    """A tar's bytes, unpacked: no more than `room`, and none of the headers that want the whole memory."""

    def __init__(self, stream: BinaryIO, room: int):
        self.stream, self.room, self.last, self.tell = stream, room, b"", stream.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _AT_ONCE or self.tell() > self.room:
            raise tarfile.ReadError("a header of excessive size, or more bytes than expected")
        self.last = self.stream.read(size)
        return self.last

    def seek(self, place: int) -> None:
        if place > self.room:
            raise tarfile.ReadError("more bytes than expected")
        self.stream.seek(place)

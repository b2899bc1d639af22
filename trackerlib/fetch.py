"""Datasets fetched, checked and unpacked: `python -m trackerlib data fetch NAME --root DIR`.

    ROOT/downloads/FILE            an archive; one that was put there by hand is used as it is, without a network
    ROOT/downloads/FILE.partial    what has come of one so far: the next run asks for the rest
    ROOT/downloads/FILE.corrupt    one that failed its check, or could not be unpacked
    ROOT/...                       what was in them (see `data.archives`)

`data/registry.csv` lists the archives that have a direct link: `datasets` they belong to; `unpack`, what stands when
the archive is unpacked into the folder of that; `bytes` and `sha256` where somebody published them; `urls` in the order
they are tried. Mirrors share a `.partial`: that its parts fit together is shown by the sha256, or else by the checksums
inside the archive. A dataset that is handed out by a form or from a drive is named with the page where it is had."""

import csv
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pooch
import requests
from urllib3.exceptions import HTTPError as BrokenOff

from .config import near
from .data import BENCHMARKS, DATASETS
from .data.archives import extract
from .progress import counter
from .provenance import alone, file_sha256
from .resources import resource

_PATIENCE = (10, 60)  # seconds until there is a connection, and between two pieces
_WORTH = 1 << 20  # bytes that must have come for a mirror that broke off to be asked again


@dataclass(frozen=True)
class Archive:
    """A row of the registry; `size` 0 and `sha256` "" where nobody published them."""

    file: str
    unpack: str
    size: int
    sha256: str
    urls: tuple[str, ...]


def archives_of(name: str) -> list[Archive]:
    """The archives of a dataset. Raises ValueError for one that has no direct link, saying where it is had."""
    with open(resource("data", "registry.csv"), newline="") as f:
        rows = list(csv.DictReader(f))
    if not (own := [row for row in rows if name in row["datasets"].split()]):
        if benchmark := BENCHMARKS.get(name):
            how = f"no direct link is known; get it at {benchmark.home}, as {benchmark.wanted}"
            raise ValueError(f"{name}: {how}; then: python -m trackerlib data check {name} --root ROOT")
        known = {dataset for row in rows for dataset in row["datasets"].split()}
        raise ValueError(f"{name}: " + ("needs no download" if name in DATASETS else f"unknown{near(name, known)}"))
    return [
        Archive(row["file"], row["unpack"], int(row["bytes"] or 0), row["sha256"], tuple(row["urls"].split()))
        for row in own
    ]


def fetch(name: str, root: str | Path, say: Callable[[str], None] = print) -> Path:
    """Get every archive of a dataset that is not unpacked yet; gives back the folder to load the dataset from.

    say: is told of files that no registered sha256 vouches for. Raises ValueError as `archives_of` does;
    FileNotFoundError naming, for each archive that could not be had, every URL with the cause, and where to put the
    file by hand; OSError for a full disk. What has come by then is kept, and a second call goes on from there."""
    root, archives = Path(root), archives_of(name)
    downloads = root / "downloads"
    downloads.mkdir(parents=True, exist_ok=True)
    failed, silent = [], {}
    with alone(downloads, say=say):
        for archive in archives:
            if not (root / archive.unpack).exists():
                causes = _obtain(archive, downloads, silent, say)
                failed += [f"{downloads / archive.file}: {'; '.join(causes)}"] if causes else []
    if failed:
        counts = f"{len(failed)} of {len(archives)} archives could not be fetched"
        remedy = "put each file by hand where its line says, and run again"
        shown = failed[:5]
        if len(failed) > 5:
            (downloads / "missing.txt").write_text("\n".join([*failed, ""]))
            shown.append(f"... and {len(failed) - 5} more: {downloads / 'missing.txt'}")
        raise FileNotFoundError(f"{name}: {counts}; {remedy}\n  " + "\n  ".join(shown))
    return (root / archives[0].unpack).parent


def _obtain(archive: Archive, downloads: Path, silent: dict[str, str], say: Callable[[str], None]) -> list[str]:
    """Unpack an archive from where it lies, or from the first mirror that gives it whole; else the causes.

    silent: hosts that gave no answer, which are not asked again for every archive, and what they did instead."""
    place, target = downloads / archive.file, downloads.parent / archive.unpack
    causes = []
    for url in ["", *archive.urls] if place.exists() else archive.urls:
        host = urlsplit(url).netloc
        try:
            if host in silent:
                raise requests.RequestException(f"{silent[host]} before")
            if url:
                _download(url, place)
            _check(archive, place, say)
            for left in downloads.parent.glob(f".{archive.file}.*.unpack"):  # by a process that was killed
                shutil.rmtree(left)
            extract(place, target.parent, limit_bytes=(1 << 28) + 20 * place.stat().st_size)  # images hardly shrink
            if not target.exists():
                raise ValueError(f"{place}: held no {archive.unpack}")
            return []
        except requests.RequestException as error:
            causes.append(f"{url} ({_in_few_words(error)})")
            if isinstance(error, requests.ConnectionError):
                silent[host] = _in_few_words(error)
        except ValueError as error:
            corrupt = place.with_name(f"{place.name}.corrupt")
            place.replace(corrupt)
            causes.append(f"{url or place} ({str(error).removeprefix(f'{place}: ')}; kept as {corrupt.name})")
    return causes


def _in_few_words(error: requests.RequestException) -> str:
    if error.response is not None:
        return f"{error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.Timeout):
        return "no answer"
    return "no connection" if isinstance(error, requests.ConnectionError) else str(error)


def _check(archive: Archive, place: Path, say: Callable[[str], None]) -> None:
    if archive.size and (size := place.stat().st_size) != archive.size:
        raise ValueError(f"{place}: {size} bytes where {archive.size} are registered")
    digest = file_sha256(place)
    if not archive.sha256:
        say(f"{place}: sha256 {digest}; none is registered: nobody vouches for this file")
    elif digest != archive.sha256:
        raise ValueError(f"{place}: sha256 {digest} where {archive.sha256} is registered")


def _download(url: str, place: Path) -> None:
    """Pooch's part: the file is there whole or not at all. Its hash is left to `_check`, which keeps what fails."""
    store = pooch.create(place.parent, base_url="", registry={place.name: None}, urls={place.name: url})
    pooch.get_logger().setLevel("WARNING")  # progress says what it would
    store.fetch(place.name, downloader=_resume(place.with_name(f"{place.name}.partial")))


def _resume(partial: Path) -> Callable[[str, str, pooch.Pooch], None]:
    """A downloader for pooch that goes on where `partial` ends, and renames it once it is whole."""

    def download(url: str, output: str, _: pooch.Pooch) -> None:
        while True:
            before = _size(partial)
            try:
                _receive(url, partial)
                break
            except BrokenOff as error:
                if _size(partial) < before + _WORTH:
                    raise requests.RequestException(f"broke off after {_size(partial):,} bytes") from error
        partial.replace(output)

    return download


def _receive(url: str, partial: Path) -> None:
    """Ask for what `partial` lacks. A server that knows no ranges (200) sends everything again; 416 says that there is
    no more than we have, or that what we have belongs to something longer."""
    have = _size(partial)
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=_PATIENCE) as response:
        span, _, total = response.headers.get("Content-Range", "").rpartition("/")
        if response.status_code == 416 and have and total in ("", "*", str(have)):
            return  # whole, as far as the server tells
        elsewhere = response.status_code == 206 and not span.startswith(f"bytes {have}-")
        if have and (elsewhere or response.status_code == 416):
            partial.unlink()
            return _receive(url, partial)
        response.raise_for_status()
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise requests.RequestException("a web page instead of the file")
        start = have if response.status_code == 206 else 0
        length = response.headers.get("Content-Length", "")
        whole = start + int(length) if length.isdecimal() else None
        tell = counter(f"{partial.stem} from {urlsplit(url).netloc}, bytes")
        try:
            with open(partial, "ab" if start else "wb") as f:
                for piece in response.raw.stream(1 << 18, decode_content=False):  # as sent: a .gz stays one
                    f.write(piece)
                    tell(None, f.tell(), whole)
        except OSError as error:
            kept = "what has come is kept, make room and run again"
            raise OSError(error.errno, f"{partial}: {error.strerror}; {kept}") from None
    if whole not in (None, _size(partial)):
        raise BrokenOff


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0

"""Whatever bytes a file holds, its reader gives what it promises, or one line that names the file.

Inputs are valid files with a few edits (bytes flipped, cut, copied, moved; words replaced by what readers trip over),
such words strung together, and random bytes. A reader may answer with data of the shape it promises, or with a plain
ValueError or FileNotFoundError (no subclass: a UnicodeDecodeError is a traceback from the depths) of one line. It may
not hang, or take memory for what a header only claims: the process is given little more than it has."""

import io
import json
import re
import resource
import shutil
import struct
import tempfile
import warnings
import zlib
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trackerlib.bench.layouts import LAYOUTS
from trackerlib.bench.results import RunSet
from trackerlib.data import load_dataset
from trackerlib.data.formats import read_rows, read_trajectory
from trackerlib.images import read_image
from trackerlib.nn.checkpoints import provenance, read_tensors
from trackerlib.nn.yolo import YOLO, read_darknet, write_darknet
from trackerlib.parameters import code_cells, declared
from trackerlib.stages import Graph, code_hash, load_graph

IMAGE = np.add.outer(np.arange(12) * 9, np.arange(16) * 7)[..., None].repeat(3, 2).astype(np.uint8)
JPEG, PNG, BMP = (cv2.imencode(suffix, IMAGE)[1].tobytes() for suffix in (".jpg", ".png", ".bmp"))


@dataclass(frozen=True)
class Target:
    """A reader, and the file that is fuzzed among the valid ones it also reads.

    file:   below the root that `read` is given; `valid`: contents it takes
    read:   reads it, and asserts what holds of an answer
    others: the other files, name to content
    named:  what else than the path may name the fault in a refusal"""

    name: str
    file: str
    valid: tuple[bytes, ...]
    read: Callable[[Path], None]
    others: tuple[tuple[str, bytes], ...] = ()
    named: str = ""


def _rows(columns: int) -> Target:
    def read(root: Path) -> None:
        rows = read_rows(root / "rows.txt", columns)
        assert rows.dtype == np.float64
        assert rows.shape == (len(rows), columns)
        assert len(rows)

    line = ",".join(f"{n + 1.5:g}" for n in range(columns))
    texts = (f"{line}\n" * 3, line.replace(",", "\t"), f"{line}\r\n{line.replace('1.5', 'NaN')}\r\n")
    return Target(f"read_rows-{columns}", "rows.txt", tuple(t.encode() for t in texts), read)


def _trajectory(root: Path) -> None:
    found = read_trajectory(root / "run_001.txt")
    assert found.rows.dtype == np.float64
    assert len(found.rows) == len(found.codes) > 0
    assert found.rows.shape[1] >= 4
    assert set(found.codes.tolist()) <= {-1, 0, 1, 2}
    assert np.isnan(found.rows[found.codes != -1]).all()


TRAJECTORIES = (b"1\n1.5,2,3,4\n2\n0\n0\n1\n5,6,7,8\n", b"1.000000\n1,2,3,4,5,6,7,8\n1,2,3,4\n", b"1\n2\n")


def _layout(name: str) -> Target:
    def read(root: Path) -> None:
        layout = LAYOUTS[name]
        path = layout.path(root, "a_001")
        found = layout.read(path)
        assert len(found.rows) == len(found.codes) > 0
        if found.rows.shape[1] == 4:
            assert layout.read_boxes(path).shape == (len(found.rows), 4)

    valid = TRAJECTORIES if LAYOUTS[name].coded else (b"1,2,3,4\n5,6,7,8\n",)
    return Target(f"layout-{name}", str(LAYOUTS[name].path(Path(), "a_001")), valid, read)


def _manifest(root: Path) -> None:
    runs = RunSet(root)
    assert isinstance(runs.manifest, dict)
    assert isinstance(runs.protocol, str)
    assert runs.layout.name in LAYOUTS


def _has(root: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # says why a run is done again
        assert RunSet(root).has("a", 2) in (True, False)


def _times(root: Path) -> None:
    times = RunSet(root).times("a")
    assert times.shape == (len(times),)


def _maps(root: Path) -> None:
    assert all(isinstance(array, np.ndarray) for array in RunSet(root).maps("a").values())


def _npz() -> tuple[bytes, ...]:
    for save in (np.savez, np.savez_compressed):
        save(buffer := io.BytesIO(), response=np.eye(3, dtype=np.float32), heat=np.zeros((2, 2, 2)))
        yield buffer.getvalue()


def _dataset(name: str, *names: str) -> Callable[[Path], None]:
    """Loads a benchmark and holds every sequence to the contract of `Sequence`."""

    def read(root: Path) -> None:
        for sequence in load_dataset(name, root, names=names or None).values():
            count = len(sequence.frames)
            assert sequence.boxes.shape == (count, 4)
            assert sequence.boxes.dtype == np.float64
            assert len(sequence.raw) == count > 0
            assert sequence.absent.shape == (count,)
            assert all(flags.shape == (count,) for flags in sequence.tags.values())
            known = np.isfinite(sequence.boxes).all(1)
            assert (sequence.boxes[known][:, 2:] > 0).all()
            assert np.isnan(sequence.boxes[~known]).any(1).all()
            assert sequence.size is None or min(sequence.size) > 0
            assert all(isinstance(a, str) for a in (sequence.name, sequence.category, *sequence.attributes))

    return read


def _tree(name: str, files: dict[str, bytes], read: Callable, *fuzzed: str, named: str = "") -> list[Target]:
    """A target for each file of a tree that is to be fuzzed, the others as they are."""
    rest = {file: tuple((f, d) for f, d in files.items() if f != file) for file in fuzzed}
    return [Target(f"{name}-{Path(file).name}", file, (files[file],), read, rest[file], named) for file in fuzzed]


GOT10K = {
    "val/list.txt": b"A_1\n",
    **{f"val/A_1/{n:08d}.jpg": JPEG for n in (1, 2)},
    "val/A_1/groundtruth.txt": b"1.0000,2.0000,3.0000,4.0000\n2,3,4,5\n",
    "val/A_1/cover.label": b"8\n0\n",
    "val/A_1/absence.label": b"0\n1\n",
    "val/A_1/meta_info.ini": b"[METAINFO]\nurl: a=50%\nobject_class: dog\nmotion_class: run\nresolution: (16, 12)\n",
}
VOT = {
    "list.txt": b"a\n",
    **{f"a/color/{n:08d}.jpg": JPEG for n in (1, 2)},
    "a/groundtruth.txt": b"2,2,5,2,5,5,2,5\n1,2,3,4\n",
    "a/occlusion.tag": b"1\n0\n",
    "a/size_change.label": b"0\n",
    "a/practical.value": b"0.1\n0.2\n",
    "a/sequence": b"channels.color=color/%08d.jpg\nwidth=16\nheight=12\nfps=30\n",
}
RECORD = {
    "img_names": ["a/1.jpg", "a/2.jpg"],
    "gt_rect": [[2, 2, 5, 2, 5, 5, 2, 5], [1, 2, 3, 4]],
    "occlusion": [0, 1],
    "width": 640,
    "height": 480,
}
UAV = {
    "anno/UAV123/uav4.txt": b"1,2,3,4\n" * 156 + b"NaN,NaN,NaN,NaN\n",
    "anno/UAV123/att/uav4.txt": b"1,0,0,1,0,0,0,0,0,0,0,1\n",
}
TLP = {"Mine/groundtruth_rect.txt": b"1,5,2,5,6,0\n2,6,2,5,6,1\n3,6,2,5,6,0\n"}
OTB = {"Mine/groundtruth_rect.txt": b"1,1,5,6\n2\t3\t5\t6\nNaN NaN NaN NaN\n", "Mine/img/1.jpg": JPEG}
OTB |= {f"Mine/img/{n}.jpg": JPEG for n in (2, 3)}
OBJECT = """<object><trackid>{}</trackid><name>n02084071</name><bndbox><xmax>9</xmax><xmin>2</xmin><ymax>8</ymax>
<ymin>1</ymin></bndbox><occluded>0</occluded><generated>1</generated></object>"""
XML = f"<annotation><size><width>16</width><height>12</height></size>{OBJECT.format(0)}{OBJECT.format(1)}</annotation>"
VID = {
    "Annotations/VID/val/a/000000.xml": f'<?xml version="1.0" encoding="utf-8"?>\n{XML}\n'.encode(),
    "Annotations/VID/val/a/000001.xml": XML.encode(),
    **{f"Data/VID/val/a/{n:06d}.JPEG": JPEG for n in range(3)},
}


def _json(**content) -> bytes:
    return json.dumps(content, indent=1).encode()


def _tensors(root: Path) -> None:
    (path,) = (p for p in root.iterdir() if p.stem == "weights")
    found = read_tensors(path)
    assert all(type(name) is str and isinstance(value, torch.Tensor) for name, value in found.items())


def _torch_file(**how) -> bytes:
    torch.save({"module.a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2).half()}, file := io.BytesIO(), **how)
    return file.getvalue()


def _mat_file(compressed: bool = False) -> bytes:
    from scipy.io import savemat

    params = [("adjust_b", np.ones((1, 1)))]
    for i in range(1, 6):
        params += [(f"conv{i}f", np.ones((1, 1, 2, 2))), (f"conv{i}b", np.ones((2, 1)))]
        params += [(f"bn{i}m", np.ones((2, 1))), (f"bn{i}b", np.ones((2, 1))), (f"bn{i}x", np.ones((2, 2)))]
    records = np.empty((1, len(params)), dtype=[("name", object), ("value", object)])
    records[0, :] = params
    savemat(file := io.BytesIO(), {"net": {"meta": {}, "params": records}}, do_compression=compressed)
    return file.getvalue()


TINY = YOLO("small", 1 / 64, 64, 2, (2, 2), 1)


def _darknet_file() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        write_darknet(TINY, Path(folder) / "a.weights")
        return (Path(folder) / "a.weights").read_bytes()


CELL = 'out_dir: str = ""\ninputs: dict = {}\nlr: float = 1e-3  # help\nsome: list[str] | None = None\n'
NOTEBOOK = _json(
    cells=[
        {"cell_type": "markdown", "metadata": {}, "source": "text"},
        {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": CELL},
        {"cell_type": "code", "metadata": {}, "source": ["import trackerlib.boxes\n", "print(lr)"]},
    ]
)
GRAPH = {
    "stages.yaml": b"p/a: {for: {lr: [1.0, 2.0]}, timeout: 60}\np/b:\n  needs: [p/a]\n  files: [o]\nc: {needs: all}\n",
    "p/profiles.yaml": b"a:\n  small: {lr: 1.0e-4, some: [a, b]}\nb:\n  small:\n",
    **dict.fromkeys(("p/a.ipynb", "p/b.ipynb", "c.ipynb"), NOTEBOOK),
}


def _declared(root: Path) -> None:
    assert all(type(cell.source) is str for cell in code_cells(root / "p/a.ipynb"))
    assert "out_dir" in declared(root / "p/a.ipynb")
    assert len(code_hash(root / "p/a.ipynb")) == 64


def _graph(root: Path) -> None:
    graph = load_graph("small", [], root)
    assert graph.keys.keys() == graph.stages.keys()
    assert all(len(key) == 64 for key in graph.keys.values())


def _state(root: Path) -> None:
    assert Graph("smoke", {}, {"a": "0"}).state("a", root) in ("fresh", "stale", "damaged", "unfinished")


def _image(suffix: str) -> Callable[[Path], None]:
    def read(root: Path) -> None:
        image = read_image(root / f"image{suffix}")
        assert image.dtype == np.uint8
        assert image.ndim == 3
        assert image.shape[2] == 3
        assert image.size

    return read


def _provenance(root: Path) -> None:
    assert isinstance(provenance(root / "w.safetensors"), dict)


TARGETS = [
    *map(_rows, (1, 4, 6, 8)),
    Target("read_trajectory", "run_001.txt", TRAJECTORIES, _trajectory),
    *map(_layout, LAYOUTS),
    Target("manifest", "manifest.json", (_json(tracker="a", key="0" * 8, layout="otb", protocol="OPE"),), _manifest),
    Target("has", "a.txt", (b"1,2,3,4\n5,6,7,8\n",), _has),
    Target("times", "times/a_time.txt", (b"0.1\nNaN\n",), _times),
    Target("maps", "maps/a.npz", tuple(_npz()), _maps),
    *_tree("got10k", GOT10K, _dataset("got10k-val"), *(file for file in GOT10K if not file.endswith(".jpg"))),
    *_tree("vot", VOT, _dataset("vot"), *(file for file in VOT if not file.endswith(".jpg"))),
    Target("vot-json", "VOT2018.json", (_json(a=RECORD),), _dataset("vot")),
    *_tree("uav-anno", UAV, _dataset("uav123", "uav4"), "anno/UAV123/uav4.txt"),
    *_tree("uav-att", UAV, _dataset("uav123", "uav4"), "anno/UAV123/att/uav4.txt"),
    *_tree("tlp", TLP, _dataset("tlp", "Mine"), *TLP),
    *_tree("tinytlp", TLP, _dataset("tinytlp", "Mine"), *TLP),
    *_tree("otb", OTB, _dataset("otb"), "Mine/groundtruth_rect.txt"),
    Target("otb-anno", "anno/Tiger1.txt", (b"1,1,5,6\n2,2,2,2\n",), _dataset("otb")),
    *_tree("vid", VID, _dataset("imagenet-vid-val"), "Annotations/VID/val/a/000000.xml"),
    Target("provenance", "w.json", (_json(seen=["a", "b"], sha256="0"),), _provenance),
    Target("safetensors", "weights.safetensors", (safetensors.torch.save({"a": torch.ones(2, 3)}),), _tensors),
    Target("pth", "weights.pth", (_torch_file(), _torch_file(_use_new_zipfile_serialization=False)), _tensors),
    *([Target("mat", "weights.mat", (_mat_file(), _mat_file(True)), _tensors)] if find_spec("scipy") else []),
    Target("darknet", "w.weights", (_darknet_file(),), lambda root: read_darknet(TINY, root / "w.weights")),
    *_tree("notebook", GRAPH, _declared, "p/a.ipynb"),
    *_tree(
        "graph",
        GRAPH,
        _graph,
        "stages.yaml",
        "p/profiles.yaml",
        "p/b.ipynb",
        named=r"^((stages|profiles)\.yaml|p/[ab]|c|no profile)\b",
    ),
    Target("state", "a/manifest.json", (_json(key="0", outputs=["manifest.json"]),), _state),
    *(Target(f"image{s}", f"image{s}", (d,), _image(s)) for s, d in ((".jpg", JPEG), (".png", PNG), (".bmp", BMP))),
]

# fmt: off
WORDS = [
    "nan", "NaN", "inf", "-inf", "1e999", "-1e999", "1e308", "-1e308", "1e-400", "0", "-0", "-1", "1", "2", "3.5",
    "0x10", "9" * 5000, "9" * 20, "1e5", "+", "-", ".", "e", ",", ",,", ";", "\t", " ", "\n", "\n\n", "\r", "\r\n",
    "\x85", "\u2028", "\x1c", "\x1f", "\x0b", "\x0c", "\x1a", "\xa0", "\ufeff", "\u0661", "\u00b2", "\uff11", "#", "%",
    '"', "'", "\\", "\\u0000", "\\ud800", "[", "]", "{", "}", "(", ")", "[]", "{}", "null", "true", "false", '"a"', ":",
    "[" * 1100, "{" * 300, "(" * 300, '{"a":' * 2000, "<a>" * 2000, "1," * 3000, "- " * 2000, "1 " * 70000,
    "<", ">", "</", "/>", "&", "&x;", "&#0;", "&#x110000;", "<!DOCTYPE a>", "<!ENTITY a 'b'>", "<![CDATA[", "<!--",
    "!!python/object/apply:os.system [ls]", "!!binary a", "&a [*a]", "*a", "<<", "? ", "- ", "---", "...", "|", ">",
    "2020-01-01", "all", "needs", "for", "../../x", "/", "a/b", ".", "..", "x" * 300, "[METAINFO]", "[x]", "%(x)s",
    "__import__('os')", "1 if 1 else 2", "lambda: 0", "a = 1", "\ttab", "  indent", "def f(", "int", "list[", "*", "=",
    "1_0", "\0", "1\n" * 3000, "<?", "@", "16",
]
# fmt: on
TOKENS = [word.encode() for word in WORDS] + [b"\xff", b"\xfe\xff", b"\xff\xfe", b"\x80", b"\xc3", b"\xed\xa0\x80"]
WORD = re.compile(rb"[\w.+-]+")
CAP = 400_000


def _flip(data: bytes, at: int, size: int, token: bytes) -> bytes:
    return data[:at] + bytes([data[at] ^ (1 << size % 8)]) + data[at + 1 :] if at < len(data) else data


def _word(data: bytes, at: int, size: int, token: bytes) -> bytes:
    """The first word behind a place replaced: a near-valid file of any text format."""
    return data[:at] + WORD.sub(lambda m: token, data[at:], count=1)


def _spliced(data: bytes, at: int, size: int, token: bytes) -> bytes:
    return data[:at] + data[(at * 7919) % (len(data) + 1) :][:size] + data[at:]


def _number(data: bytes, at: int, size: int, token: bytes) -> bytes:
    """A binary number overwritten with one that a header may claim."""
    value = (0, 1, 0x7F, 0xFF, 0xFFFF, 0x7FFF, 2**31 - 1, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)[size % 11]
    form = ("B", "<H", ">H", "<I", ">I", "<Q", ">Q")[size % 7]
    packed = struct.pack(form, value & (256 ** struct.calcsize(form) - 1))
    return data[:at] + packed + data[at + len(packed) :]


EDITS = {
    "word": _word,
    "flip": _flip,
    "cut": lambda data, at, size, token: data[:at] + data[at + size :],
    "insert": lambda data, at, size, token: data[:at] + token + data[at:],
    "splice": _spliced,
    "number": _number,
    "end": lambda data, at, size, token: data[:at],
    "line": lambda data, at, size, token: data[:at] + data[at : at + size] * 50 + data[at:],
}
CODECS = {
    "utf-16": lambda data: data.decode("latin-1").encode("utf-16"),
    "bom": lambda data: b"\xef\xbb\xbf" + data,
    "crlf": lambda data: data.replace(b"\n", b"\r\n"),
    "cr": lambda data: data.replace(b"\n", b"\r"),
    "twice": lambda data: data * 2,
}
EDIT = st.tuples(st.sampled_from(list(EDITS)), st.integers(0, 65535), st.integers(0, 40), st.sampled_from(TOKENS))


@st.composite
def contents(draw, valid: tuple[bytes, ...]) -> bytes:
    """What a fuzzed file may hold."""
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return draw(st.binary(max_size=80))
    if kind == 1:
        return b"".join(draw(st.lists(st.sampled_from(TOKENS), max_size=12)))[:CAP]
    data = draw(st.sampled_from(valid))
    for edit, at, size, token in draw(st.lists(EDIT, min_size=1, max_size=4)):
        data = EDITS[edit](data, at * (len(data) + 1) // 65536, size, token)[:CAP]
    return CODECS[draw(st.sampled_from(list(CODECS)))](data) if kind == 9 else data


@contextmanager
def _little_memory(spare: int = 2 * 2**30):
    """At most so much more than the process has taken so far: a lying header is then a MemoryError, and no answer."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + spare, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@pytest.fixture(scope="module")
def place():
    """A folder in memory, where there is one."""
    path = Path(tempfile.mkdtemp(prefix="fuzz", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    with _little_memory():
        yield path
    shutil.rmtree(path)


def build(target: Target, place: Path) -> Path:
    root = place / re.sub(r"\W", "_", target.name)
    for name, data in (*target.others, (target.file, target.valid[0])):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def fuzz(target: Target, root: Path, data: bytes) -> bool:
    """Whether the reader took the content; asserts that it refuses as it should."""
    (root / target.file).write_bytes(data)
    try:
        target.read(root)
    except (ValueError, OSError) as error:
        refusal = error
    else:
        return True
    said = str(refusal)
    assert type(refusal) in (ValueError, FileNotFoundError), f"{type(refusal).__name__}: {said}"
    assert len(said.splitlines()) == 1, f"more than a line: {said!r}"
    assert str(root) in said or (target.named and re.search(target.named, said)), f"names no file: {said}"
    return False


def _assert_read_or_refused(target: Target, place: Path, examples: int, derandomize: bool) -> None:
    root = build(target, place)

    @settings(
        max_examples=examples,
        deadline=timedelta(seconds=10),
        derandomize=derandomize,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(contents(target.valid))
    def run(data: bytes) -> None:
        fuzz(target, root, data)

    run()


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_valid_files_are_read(target, place):
    root = build(target, place)
    for data in target.valid:
        assert fuzz(target, root, data)


@pytest.mark.parametrize("side", [5_000, 30_000, 60_000])
def test_a_header_alone_makes_no_image(side, place):
    """OpenCV alone gives 5000 x 5000 grey pixels for these 600 bytes, and takes 6 GiB for 30,000 x 30,000."""
    jpeg, png, bmp = map(bytearray, (JPEG, PNG, BMP))
    at = jpeg.find(b"\xff\xc0") + 5
    jpeg[at : at + 4] = struct.pack(">2H", side, side)
    png[16:24] = struct.pack(">2I", side, side)
    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    bmp[18:26] = struct.pack("<2i", side, side)
    for data in (jpeg, png, bmp):
        (place / "claims").write_bytes(data)
        with pytest.raises(ValueError, match=r"claims: (not a decodable image|\d+ x \d+ pixels cannot stand in)"):
            read_image(place / "claims")


def test_a_large_flat_jpeg_is_an_image(place):
    """The fewest bytes that an encoder makes of many pixels."""
    flat = np.full((3000, 4000), 128, np.uint8)
    for options in ([cv2.IMWRITE_JPEG_OPTIMIZE, 1, cv2.IMWRITE_JPEG_PROGRESSIVE, how] for how in (0, 1)):
        (place / "flat.jpg").write_bytes(cv2.imencode(".jpg", flat, [*options, cv2.IMWRITE_JPEG_QUALITY, 1])[1])
        assert read_image(place / "flat.jpg").shape == (3000, 4000, 3)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_any_content_is_read_or_refused_in_a_line(target, place):
    _assert_read_or_refused(target, place, 200, derandomize=True)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_hundred_thousand_contents_are_read_or_refused(target, place):
    _assert_read_or_refused(target, place, -(-100_000 // len(TARGETS)), derandomize=False)

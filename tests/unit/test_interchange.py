"""Interchange without the other toolkits: small stand-ins speak their interfaces (tests/real runs the real ones)."""

import sys
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import cv2
import numpy as np
import pytest
import torch

from trackerlib.bench.engine import evaluate, manifest
from trackerlib.bench.protocols import OPE
from trackerlib.bench.results import RunSet
from trackerlib.data import Dataset, Sequence, load_dataset
from trackerlib.data.folder import load_clip
from trackerlib.data.formats import FAILURE, INIT, REGION, UNKNOWN
from trackerlib.interchange import InitUpdate, as_got10k, convert, serve_trax
from trackerlib.siamfc import SiamFC, SiamFCTracker
from trackerlib.tracker import track_sequence
from trackerlib.trackers import load_tracker


@pytest.fixture(scope="module")
def tracker():
    return SiamFCTracker(SiamFC(0.125).initialise(torch.Generator().manual_seed(0)).eval())


@pytest.fixture(scope="module")
def data():
    """Three rendered sequences of 6, 9 and 12 frames."""
    return Dataset("short", [_cut(s, 6 + 3 * i) for i, s in enumerate(load_dataset("rendered")[:3].values())])


def _cut(sequence, length):
    return Sequence(sequence.name, _Frames(sequence.frames[t] for t in range(length)), sequence.boxes[:length])


class _Frames(list):
    def digest(self):
        return f"{len(self)} frames"

    __hash__ = object.__hash__


@pytest.fixture
def clip(data, tmp_path):
    """A sequence as image files."""
    files = []
    for t, image in enumerate(data[0].frames):
        files.append(tmp_path / f"{t:04d}.png")
        cv2.imwrite(str(files[-1]), image[..., ::-1])
    return files


class Drift:
    """A tracker as one writes it for got10k: it moves its box by `step` pixels a frame and remembers what it was given;
    `fails` is the size of a target that it loses at the third frame."""

    made: ClassVar[list] = []

    def __init__(self, step=1.0, fails=None):
        self.step, self.fails, self.calls = np.array([step, 0, 0, 0]), fails, 0
        Drift.made.append(self)

    def init(self, image, box):
        self.image, self.first, self.box = image, box, np.array(box)

    def update(self, image):
        self.calls += 1
        if self.calls == 3 and np.allclose(self.first[2:], self.fails or 0):
            raise RuntimeError("lost my mind")
        self.box = self.box + self.step
        return self.box


@pytest.fixture(autouse=True)
def _forget():
    Drift.made.clear()


def test_got10k_gets_and_gives_its_own_coordinates(tracker, data, clip):
    theirs, first = as_got10k(tracker), data[0].boxes[0] + [1, 1, 0, 0]
    boxes, times = theirs.track([str(file) for file in clip], first)
    assert (theirs.name, theirs.is_deterministic) == ("siamfc-3s", True)
    np.testing.assert_allclose(boxes - [1, 1, 0, 0], track_sequence(tracker, data[0]), atol=1e-9)
    assert (times > 0).all()


def test_got10k_hands_over_pil_images(tracker, data):
    image = pytest.importorskip("PIL.Image")
    theirs = as_got10k(tracker, origin=0)
    theirs.init(image.fromarray(data[0].frames[0]), data[0].boxes[0])
    box = theirs.update(image.fromarray(data[0].frames[1]))
    np.testing.assert_allclose(box, track_sequence(tracker, data[0])[1], atol=1e-9)


@pytest.mark.parametrize("lanes", [1, 4])
def test_there_and_back_is_the_same_tracker(tracker, data, tmp_path, lanes):
    """A tracker of ours, dressed as got10k's and taken back, writes the bytes it writes itself."""
    ours = evaluate(tracker, data, results=tmp_path / "ours", lanes=1)
    back = evaluate(InitUpdate(lambda: as_got10k(tracker)), data, results=tmp_path / "back", lanes=lanes)
    for name in data:
        assert (back.folder / f"{name}.txt").read_bytes() == (ours.folder / f"{name}.txt").read_bytes()


def test_what_a_tracker_of_got10ks_kind_is_given(data, tmp_path):
    runs = evaluate(InitUpdate(Drift), data, results=tmp_path)
    probe, *objects = sorted(Drift.made, key=lambda made: made.calls)
    assert (probe.calls, [o.calls for o in objects]) == (0, [5, 8, 11])
    np.testing.assert_allclose(objects[0].first, data[0].boxes[0] + [1, 1, 0, 0], atol=1e-4)
    np.testing.assert_array_equal(np.asarray(objects[0].image), data[0].frames[0])
    assert objects[0].image.mode == "RGB"
    steps = np.arange(len(data[0]))[:, None] * [1, 0, 0, 0]
    np.testing.assert_allclose(runs.read(data[0].name), data[0].boxes[0] + steps, atol=1e-4)


def test_a_step_is_taken_once_though_another_lane_raises(data, tmp_path):
    """Lanes that are copies, idle or tried again: every object sees every frame of its run once, and no other."""
    made = InitUpdate(Drift, {"fails": data[1].boxes[0, 2:].tolist()}, images="numpy")
    runs = evaluate(made, data, results=tmp_path, lanes=5)
    assert set(runs.failures()) == {data[1].name}
    assert "lost my mind" in runs.failures()[data[1].name]
    assert sorted(o.calls for o in Drift.made) == [0, 3, 5, 11]
    assert isinstance(Drift.made[1].image, np.ndarray)


def test_results_depend_on_class_and_arguments(data):
    def key(*given):
        return manifest(InitUpdate(*given), data, OPE(), 0)["key"]

    assert key(Drift) == key(Drift)
    assert key(Drift) != key(Drift, {"step": 2.0})
    assert key(lambda: Drift()) != key(lambda: Drift())  # unknown code: never taken up again


@pytest.mark.parametrize(
    ("body", "message"),
    [("pass", "no init"), ("def init(self, image, box): pass", "no init"), ("update = init = 3", "no init")],
)
def test_what_is_no_tracker_is_refused(body, message):
    scope = {}
    exec(f"class Odd:\n    {body}", scope)
    with pytest.raises(ValueError, match=message):
        InitUpdate(scope["Odd"])


def test_an_answer_that_is_no_box_names_itself(data, tmp_path):
    class Short(Drift):
        def update(self, image):
            return (1, 2, 3)

    runs = evaluate(InitUpdate(Short), data[:1], results=tmp_path)
    assert "want a box x, y, w, h" in runs.failures()[data[0].name]


def test_a_class_of_got10ks_kind_is_loaded_by_name(tmp_path, monkeypatch):
    """As the toolkit has it: a `track` over image files, beside `init` and `update`, does not make it batch-first."""
    (tmp_path / "theirs.py").write_text(
        "class Base:\n"
        "    def __init__(self, pace=0): self.name = 'still'\n"
        "    def track(self, img_files, box, visualize=False): pass\n"
        "class Still(Base):\n"
        "    def init(self, image, box): self.box = box\n"
        "    def update(self, image): return self.box\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    still = load_tracker("theirs:Still", pace=1)
    assert isinstance(still, InitUpdate)
    assert (still.name, still.config["arguments"]) == ("still", {"pace": 1})


class _Trax(ModuleType):
    """The part of vot-trax that a tracker sees, fed with a list of requests."""

    Region = SimpleNamespace(RECTANGLE="rectangle", POLYGON="polygon")
    Image = SimpleNamespace(PATH="path")
    Rectangle = SimpleNamespace(create=lambda *box: box)

    def __init__(self, requests):
        super().__init__("trax")
        self.requests, self.replies = iter([*requests, SimpleNamespace(type="quit")]), []

    def Server(self, regions, images, tracker_name=""):  # noqa: N802
        self.hello = regions, images, tracker_name
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def wait(self):
        return next(self.requests)

    def status(self, objects):
        self.replies.append(objects[0][0])


def _request(kind, file, region=None):
    image = {"color": SimpleNamespace(path=lambda: str(file))}
    return SimpleNamespace(type=kind, image=image, objects=[(region, {})] if region else None)


class _Polygon(list):
    type = "polygon"


def test_trax_starts_from_polygons_and_answers_in_rectangles(tracker, data, clip, monkeypatch):
    """An upright polygon whose corners lie on the box's first and last pixels starts the box itself; twice over."""
    x, y, w, h = data[0].boxes[0]
    polygon = _Polygon([(x, y), (x + w - 1, y), (x + w - 1, y + h - 1), (x, y + h - 1)])
    rectangle = SimpleNamespace(type="rectangle", bounds=lambda: (x, y, w, h))
    asked = [_request("initialize", clip[0], polygon), *(_request("frame", f) for f in clip[1:])]
    asked += [_request("initialize", clip[0], rectangle), *(_request("frame", f) for f in clip[1:])]
    trax = _Trax(asked)
    monkeypatch.setitem(sys.modules, "trax", trax)
    serve_trax(tracker)
    assert trax.hello == (["rectangle", "polygon"], ["path"], "siamfc-3s")
    expected = track_sequence(tracker, load_clip(clip[0].parent, data[0].boxes[0]))
    np.testing.assert_allclose(trax.replies, [*expected, *expected], atol=1e-3)


def test_layouts_there_and_back(tracker, data, tmp_path):
    """OTB to got10k to VOT to pysot to OTB: the same bytes, seconds and marks of training too."""
    tracker.seen = (data[0].name,)
    ours = evaluate(tracker, data, results=tmp_path / "ours")
    got10k = convert(ours, tmp_path / "got10k", "got10k")
    vot = convert(got10k, tmp_path / "vot", "vot")
    pysot = convert(vot, tmp_path / "pysot", "pysot", data)
    back = convert(pysot, tmp_path / "otb", "otb")
    name = data[0].name
    assert (tmp_path / "got10k" / name / f"{name}_001.txt").is_file()
    assert (tmp_path / "vot/baseline" / name / f"{name}_001.txt").read_text().startswith("1\n")
    for name in data:
        assert (back.folder / f"{name}.txt").read_bytes() == (ours.folder / f"{name}.txt").read_bytes()
        np.testing.assert_array_equal(back.times(name), ours.times(name))
    assert back.manifest["seen"] == [data[0].name]


def test_what_a_layout_cannot_hold_is_refused(data, tmp_path):
    boxes = data[0].boxes.copy()
    codes = np.full(len(boxes), REGION, np.int8)
    codes[[0, 2, 3, 4]] = INIT, FAILURE, UNKNOWN, INIT
    RunSet(tmp_path / "lost", "vot").write("a_001", boxes, codes=codes)
    with pytest.raises(ValueError, match="a_001 was restarted; only the layout 'vot'"):
        convert(tmp_path / "lost", tmp_path / "out", "otb", data)
    codes[:] = REGION
    codes[0] = INIT
    RunSet(tmp_path / "fine", "vot").write("a_001", boxes, codes=codes)
    with pytest.raises(ValueError, match="no first box; give the dataset"):
        convert(tmp_path / "fine", tmp_path / "out", "otb")
    with pytest.raises(FileNotFoundError, match="no results there in the layout"):
        convert(tmp_path / "nothing", tmp_path / "out", "otb")
    assert not (tmp_path / "out").exists()

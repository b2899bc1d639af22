"""The lane engine: the equalities of the design, sharing, failures, restarts."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from trackerlib.bench.engine import evaluate, manifest
from trackerlib.bench.protocols import OPE, PROTOCOLS, protocol
from trackerlib.data.sequence import Dataset, Sequence
from trackerlib.resources import resource
from trackerlib.siamfc import SiamFC, SiamFCTracker
from trackerlib.tracker import Frames, OneTarget, Output, State, track_sequence
from trackerlib.trackers import load_tracker


class Video:
    """A textured patch that wanders over noise; decoding is counted, and can be made to fail."""

    def __init__(self, count, seed, size=(96, 80), broken=None):
        rng = np.random.default_rng(seed)
        self.background = rng.integers(60, 120, (size[1], size[0], 3), np.uint8)
        self.patch = rng.integers(0, 256, (16, 16, 3), np.uint8)
        steps = rng.integers(-2, 3, (count, 2)).cumsum(0)
        self.at = np.clip(steps + 35, 0, [size[0] - 16, size[1] - 16])
        self.seed, self.broken = seed, broken

    def __len__(self):
        return len(self.at)

    def __getitem__(self, t):
        if t == self.broken:
            raise ValueError(f"frame {t} is broken")
        image = self.background.copy()
        x, y = self.at[t]
        image[y : y + 16, x : x + 16] = self.patch
        return image

    def digest(self):
        return f"video {self.seed} {len(self)}"

    @property
    def boxes(self):
        return np.column_stack([self.at, np.full((len(self), 2), 16)]).astype(float)


def dataset(lengths=(9, 14, 5, 11, 7), **options):
    videos = {f"v{i}": Video(n, i, **options) for i, n in enumerate(lengths)}
    return Dataset("toy", [Sequence(name, v, v.boxes) for name, v in videos.items()])


@pytest.fixture(scope="module")
def tracker():
    return SiamFCTracker(SiamFC(0.125).initialise(torch.Generator().manual_seed(0)).eval())


def files(store):
    return {p.name: p.read_bytes() for p in store.folder.glob("*.txt")}


def test_one_lane_equals_the_one_target_loop(tracker, tmp_path):
    data = dataset()
    store = evaluate(tracker, data, results=tmp_path)
    assert store.names() == sorted(data)
    for name in data:
        np.testing.assert_allclose(store.read(name), track_sequence(tracker, data[name]), atol=1e-4)
        assert (store.times(name) > 0).all()


def test_order_and_restart_change_no_byte(tracker, tmp_path):
    """At three lanes: the runs in another order, and the rest after an interruption, give the same files."""
    data = dataset()
    whole = files(evaluate(tracker, data, results=tmp_path / "a", lanes=3))
    backwards = Dataset("toy", [data[n] for n in reversed(list(data))])
    assert files(evaluate(tracker, backwards, results=tmp_path / "b", lanes=3)) == whole
    interrupted = evaluate(tracker, data, results=tmp_path / "c", lanes=3)
    (interrupted.folder / "v1.txt").unlink()
    (interrupted.folder / "v2.txt").unlink()
    assert files(evaluate(tracker, data, results=tmp_path / "c", lanes=3)) == whole


def test_lanes_agree(tracker, tmp_path):
    """Between different numbers of lanes boxes agree to 0.01 pixel over 50 frames."""
    data = dataset((50, 50, 50, 50))
    one = evaluate(tracker, data, results=tmp_path / "1")
    four = evaluate(tracker, data, results=tmp_path / "4", lanes=4)
    assert four.folder.name == one.folder.name  # lanes are recorded, not keyed
    for name in data:
        assert np.abs(one.read(name) - four.read(name)).max() < 0.01
    assert np.isnan(four.times("v0")).all()  # not a frame's own


class Twice(OPE):
    """A protocol that starts two targets on every sequence, in lock-step."""

    name = "twice"

    def runs(self, dataset):
        for run in super().runs(dataset):
            x, y, w, h = run.box
            yield run
            yield replace(run, name=f"{run.name}_shifted", box=(x + 3, y, w, h))


def test_lanes_on_one_sequence_share_its_frames(tracker, tmp_path, monkeypatch):
    """Two targets of one video: every frame is decoded once, and each target's boxes are its own."""
    monkeypatch.setitem(PROTOCOLS, "twice", Twice)
    decoded = []
    monkeypatch.setattr(Video, "__getitem__", lambda v, t, get=Video.__getitem__: decoded.append(t) or get(v, t))
    alone = evaluate(tracker, dataset((8,)), "twice", tmp_path / "1")
    decoded.clear()
    together = evaluate(tracker, dataset((8,)), "twice", tmp_path / "2", lanes=2)
    assert sorted(decoded) == list(range(8))
    assert files(together) == files(alone)
    assert (together.read("v0") != together.read("v0_shifted")).any()


def test_stored_runs_are_not_done_again(tracker, tmp_path):
    data, seen = dataset(), []
    evaluate(tracker, data, results=tmp_path, on_done=lambda run, done, of: seen.append((run.name, done, of)))
    assert [d for _, d, _ in seen] == [1, 2, 3, 4, 5]
    seen.clear()
    evaluate(tracker, data, results=tmp_path, on_done=lambda *a: seen.append(a))
    assert seen == []


def test_another_config_goes_to_another_folder(tracker, tmp_path):
    other = SiamFCTracker(SiamFC(0.125).initialise(torch.Generator().manual_seed(0)).eval(), name="siamfc-3s")
    other.config = type(other.config)(window=0.3)
    a = evaluate(tracker, dataset((5,)), results=tmp_path)
    b = evaluate(other, dataset((5,)), results=tmp_path)
    assert a.folder != b.folder


def test_maps_and_regions_are_kept_on_request(tracker, tmp_path):
    store = evaluate(tracker, dataset((6,)), results=tmp_path, keep_maps=True)
    maps = store.maps("v0")
    assert maps["response"].shape == (5, 17, 17)
    assert maps["region"].shape == (5, 4)


def test_a_frame_that_cannot_be_decoded_fails_its_run_only(tracker, tmp_path):
    data = dataset()
    data["v1"].frames.broken = 6
    store = evaluate(tracker, data, results=tmp_path, lanes=2)
    assert set(store.names()) == set(data) - {"v1"}
    assert "frame 6 is broken" in store.failures()["v1"]
    data["v1"].frames.broken = None
    assert evaluate(tracker, data, results=tmp_path, lanes=2).failures() == {}


class Moody(SiamFCTracker):
    """Raises whenever a lane's target is the marked one."""

    victim = None

    def track(self, state, frames):
        if any(frames.ids[u] == self.victim for u in frames.lane):
            raise RuntimeError("out of luck")
        return super().track(state, frames)


def test_a_step_that_raises_is_replayed_lane_by_lane(tracker, tmp_path):
    net = SiamFC(0.125).initialise(torch.Generator().manual_seed(0)).eval()
    moody, data = Moody(net), dataset()
    calm = evaluate(Moody(net), data, results=tmp_path / "calm", lanes=3)
    moody.victim = ("v1", 4)
    store = evaluate(moody, data, results=tmp_path / "moody", lanes=3)
    assert "out of luck" in store.failures()["v1"]
    want = files(calm)
    want.pop("v1.txt")
    assert files(store) == want


def test_first_box_without_area_is_refused(tracker, tmp_path):
    video = Video(5, 0)
    for bad in ([np.nan] * 4, [3, 3, 0, 5]):
        boxes = video.boxes
        boxes[0] = bad
        with pytest.raises(ValueError, match="first box"):
            evaluate(tracker, Dataset("toy", [Sequence("v", video, boxes)]), results=tmp_path)


def test_one_frame_sequence(tracker, tmp_path):
    store = evaluate(tracker, dataset((1, 4)), results=tmp_path, lanes=2)
    assert store.read("v0").shape == (1, 4)


def test_unknown_protocol_names_the_known():
    with pytest.raises(ValueError, match="OPE"):
        protocol("OPEN")
    assert [len(r) for r in OPE().runs(dataset())] == [9, 14, 5, 11, 7]


def test_state_take_and_put(tracker):
    data = dataset((3, 3))
    images = [torch.from_numpy(s.frames[0]).permute(2, 0, 1) for s in data.values()]
    boxes = torch.tensor(np.stack([s.boxes[0] for s in data.values()])).float()
    state = tracker.init(Frames(images, [0, 1], [("v0", 0), ("v1", 0)]), boxes)
    copy = state.take([1, 1])
    assert torch.equal(copy.template[0], state.template[1])
    copy.put([0], state.take([0]))
    for leaf in ("template", "fill", "centre", "size", "side", "first_side"):
        assert torch.equal(getattr(copy, leaf), getattr(state, leaf))


def test_once_is_evaluated_once_an_image():
    calls = []
    image = torch.zeros(3, 4, 4, dtype=torch.uint8)
    frames = Frames([image, image + 1], [0, 1, 1, 0], [("a", 0), ("b", 0)])
    values = frames.once("sum", lambda i: calls.append(1) or int(i.sum()))
    assert values == [0, 48, 48, 0]
    assert len(calls) == 2
    frames.once("sum", lambda i: calls.append(1))
    assert len(calls) == 2


@dataclass
class StillState(State):
    boxes: torch.Tensor


class Still:
    """Never moves."""

    name = "still"

    def init(self, frames, boxes):
        return StillState(boxes)

    def track(self, state, frames):
        return state, Output(state.boxes, torch.ones(len(state.boxes)))


def test_opencv_style():
    one = OneTarget(Still())
    with pytest.raises(RuntimeError, match="before init"):
        one.update(np.zeros((4, 4, 3), np.uint8))
    one.init(np.zeros((4, 4, 3), np.uint8), (1, 2, 3, 4))
    assert one.update(np.zeros((4, 4, 3), np.uint8)).tolist() == [1, 2, 3, 4]


def test_a_tracker_without_maps_is_not_run_again_for_them(tmp_path):
    done = []
    for _ in range(2):
        evaluate(Still(), dataset((4,)), results=tmp_path, keep_maps=True, on_done=lambda *a: done.append(a))
    assert len(done) == 1


def test_a_user_s_own_code_is_part_of_the_key(tmp_path, monkeypatch):
    source = (
        "class Mine:\n    name = 'mine'\n\n    def init(self, frames, boxes):\n        return boxes\n\n"
        "    def track(self, state, frames):\n        return state, None\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    keys = []
    for text in (source, "# a comment\n" + source, source.replace("return boxes", "return 2 * boxes")):
        (tmp_path / "mine_tracker.py").write_text(text)
        keys.append(manifest(load_tracker("mine_tracker:Mine"), dataset((3,)), OPE(), 0)["key"])
    assert keys[0] == keys[1] != keys[2]


def test_the_readme_s_tracker_runs(tmp_path, monkeypatch):
    text = (resource("README.md")).read_text()
    (block,) = [b for b in text.split("```python\n")[1:] if "class StayPut" in b]
    (tmp_path / "readme_tracker.py").write_text(block.split("```")[0])
    monkeypatch.syspath_prepend(tmp_path)
    data = dataset((6, 4))
    store = evaluate(load_tracker("readme_tracker:StayPut"), data, results=tmp_path / "results", lanes=2)
    np.testing.assert_allclose(store.read("v0"), np.tile(data["v0"].boxes[0], (6, 1)))


def test_boxes_of_a_wrong_shape_are_named(tmp_path):
    class Flat(Still):
        name = "flat"

        def track(self, state, frames):
            return state, Output(state.boxes[:, :3], torch.ones(1))

    store = evaluate(Flat(), dataset((4,)), results=tmp_path)
    assert "flat: track gave boxes of shape (1, 3), want (1, 4)" in store.failures()["v0"]

"""The equalities of the design that every registered tracker keeps: what runs beside a run does not change it."""

import numpy as np
import pytest
import torch

from trackerlib.bench.engine import evaluate
from trackerlib.bench.protocols import Supervised
from trackerlib.bench.score import score
from trackerlib.data import Dataset, load_dataset
from trackerlib.data.sequence import Sequence
from trackerlib.nn.checkpoints import save_weights
from trackerlib.nn.vgg import VGG19
from trackerlib.tracker import track_sequence
from trackerlib.trackers import TRACKERS, load_tracker

SMALL = {name: "siamfc-quarter" for name in TRACKERS if name.startswith(("siamfc", "dsiam"))}


class First:
    """The first frames of a video."""

    def __init__(self, frames, count):
        self.frames, self.count = frames, count

    def __len__(self):
        return self.count

    def __getitem__(self, frame):
        return self.frames[frame]

    def digest(self):
        return self.frames.digest()


@pytest.fixture(scope="session")
def narrow_vgg19(tmp_path_factory):
    """Random weights of a sixteenth of the width: the real ones are a download of 500 MB."""
    path = tmp_path_factory.mktemp("weights") / "vgg19.safetensors"
    save_weights(VGG19(1 / 16).initialise(torch.Generator().manual_seed(0)), path, {})
    return path


@pytest.fixture(scope="module", params=TRACKERS)
def tracker(request):
    if request.param.endswith("vgg19"):
        return load_tracker(request.param, request.getfixturevalue("narrow_vgg19"))
    return load_tracker(request.param, SMALL.get(request.param))


def cut(lengths):
    sequences = load_dataset("rendered").values()
    return Dataset("cut", [Sequence(s.name, First(s.frames, n), s.boxes[:n]) for s, n in zip(sequences, lengths)])  # noqa: B905


def files(store):
    return {p.name: p.read_bytes() for p in store.folder.glob("*.txt")}


def test_order_restarts_and_idle_lanes_change_no_byte(tracker, tmp_path):
    data = cut((7, 12, 4, 9))
    whole = files(evaluate(tracker, data, results=tmp_path / "a", lanes=3))
    backwards = Dataset("cut", [data[n] for n in reversed(list(data))])
    assert files(evaluate(tracker, backwards, results=tmp_path / "b", lanes=3)) == whole
    interrupted = evaluate(tracker, data, results=tmp_path / "c", lanes=3)
    for name in list(data)[1:3]:
        (interrupted.folder / f"{name}.txt").unlink()
    assert files(evaluate(tracker, data, results=tmp_path / "c", lanes=3)) == whole


def test_numbers_of_lanes_agree_to_a_hundredth_of_a_pixel_over_fifty_frames(tracker, tmp_path):
    data = cut((50, 50, 50))
    alone = evaluate(tracker, data, results=tmp_path / "1")
    three = evaluate(tracker, data, results=tmp_path / "3", lanes=3)
    for name in data:
        assert np.abs(alone.read(name) - three.read(name)).max() < 0.01
    auc = [score(runs, data).mean(runs.folder.name)["success_auc"] for runs in (alone, three)]
    assert auc[0] == pytest.approx(auc[1], abs=0.002)


def test_a_supervised_run_is_the_same_in_every_lane(tracker, tmp_path):
    data, once = cut((20, 12)), Supervised(repetitions=1)
    alone, both = (evaluate(tracker, data, once, tmp_path / str(n), lanes=n) for n in (1, 2))
    for name in alone.names():
        assert (alone.trajectory(name).codes == both.trajectory(name).codes).all()
        np.testing.assert_allclose(alone.read(name), both.read(name), atol=0.01)


def test_one_lane_is_the_tracker_s_own_loop(tracker, tmp_path):
    data = cut((10,))
    boxes = evaluate(tracker, data, results=tmp_path).read(data[0].name)
    np.testing.assert_allclose(boxes, track_sequence(tracker, data[0]), atol=1e-4)

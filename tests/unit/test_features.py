"""What is made of whole frames is made once, and kept: in memory and on disk, within bounds, without changing a bit."""

import pytest
import torch

import trackerlib as tl
from trackerlib.bench.engine import Engine
from trackerlib.bench.features import FeatureCache
from trackerlib.tracker import Frames
from trackerlib.trackers import load_tracker

VIDEOS = {"a": "digest-of-a", "b": "digest-of-b"}


def values(number: float, size: int = 100) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.full((size,), number), torch.tensor([True, False])


def test_values_come_back_from_memory_and_from_disk(tmp_path):
    cache = FeatureCache(VIDEOS, tmp_path)
    cache.put("f", ("a", 3), values(1.5))
    cache.put("one", ("a", 3), torch.arange(4))
    for again in (cache, FeatureCache(VIDEOS, tmp_path)):
        assert all(torch.equal(x, y) for x, y in zip(again.get("f", ("a", 3)), values(1.5), strict=True))
        assert torch.equal(again.get("one", ("a", 3)), torch.arange(4))
        assert again.get("f", ("a", 4)) is again.get("g", ("a", 3)) is again.get("f", ("b", 3)) is None


def test_another_video_of_the_same_name_is_another(tmp_path):
    FeatureCache(VIDEOS, tmp_path).put("f", ("a", 3), values(1.5))
    assert FeatureCache({"a": "digest-of-c"}, tmp_path).get("f", ("a", 3)) is None
    assert FeatureCache({"x": "digest-of-a"}, tmp_path).get("f", ("x", 3)) is not None


def test_a_frame_of_no_known_video_is_kept_in_memory_alone(tmp_path):
    cache = FeatureCache({}, tmp_path)
    cache.put("f", ("live 1", 0), values(1))
    assert cache.get("f", ("live 1", 0)) is not None
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_damaged_file_is_made_anew(tmp_path):
    FeatureCache(VIDEOS, tmp_path).put("f", ("a", 3), values(1.5))
    (file,) = tmp_path.rglob("*.safetensors")
    file.write_bytes(file.read_bytes()[:40])
    cache = FeatureCache(VIDEOS, tmp_path)
    assert cache.get("f", ("a", 3)) is None
    cache.put("f", ("a", 3), values(2.5))
    assert FeatureCache(VIDEOS, tmp_path).get("f", ("a", 3))[0][0] == 2.5


def test_the_least_recently_used_go_first(tmp_path):
    FeatureCache(VIDEOS, tmp_path / "one").put("f", ("a", 0), values(0))
    (one,) = (tmp_path / "one").rglob("*.safetensors")
    room = 3 * one.stat().st_size
    cache = FeatureCache(VIDEOS, tmp_path / "all", memory=1, disk=room)
    for t in range(3):
        cache.put("f", ("a", t), values(t))
    cache.get("f", ("a", 0))
    cache.put("f", ("a", 3), values(3))
    assert [cache.get("f", ("a", t)) is not None for t in range(4)] == [True, False, True, True]
    assert sum(f.stat().st_size for f in (tmp_path / "all").rglob("*.safetensors")) == room


def test_memory_is_bounded():
    cache = FeatureCache(VIDEOS, memory=1000)
    for t in range(10):
        cache.put("f", ("a", t), torch.zeros(100))
    assert [cache.get("f", ("a", t)) is not None for t in range(10)] == [False] * 8 + [True] * 2


def test_only_what_is_new_is_made_and_in_one_batch():
    seen, cache = [], FeatureCache(VIDEOS)

    def f(images):
        seen.append(len(images))
        return [image.float().sum() for image in images]

    images = [torch.full((3, 4, 4), k, dtype=torch.uint8) for k in range(3)]
    step = Frames(images[:2], [0, 1, 0], [("a", 0), ("b", 0)], cache)
    assert [int(v) for v in step.together("f", f)] == [0, 48, 0]
    step.together("f", f)
    later = Frames(images[1:], [0, 1], [("b", 0), ("a", 1)], cache)
    assert [int(v) for v in later.together("f", f)] == [48, 96]
    assert seen == [2, 1]


def test_results_are_the_same_with_and_without(tmp_path):
    data = tl.load_dataset("rendered")[:2]

    def boxes(out, **options):
        tracker = load_tracker("rolo", "random")
        looked = []
        inner = tracker.detector._detections
        tracker.detector._detections = lambda images: looked.append(len(images)) or inner(images)
        (runs,) = tl.evaluate(tracker, data, ["OPE"], tmp_path / out, **options)
        return [runs.trajectory(name).rows.tobytes() for name in data], sum(looked)

    plain, all_frames = boxes("plain", lanes=2)
    kept, first = boxes("kept", lanes=2, cache=tmp_path / "cache")
    again, second = boxes("again", lanes=2, cache=tmp_path / "cache")
    _, one = boxes("alone", lanes=1, cache=tmp_path / "cache")
    assert plain == kept == again
    assert (all_frames, first, second, one) == (120, 120, 0, 120)  # with one lane times are a frame's own


def test_who_sees_the_ground_truth_is_not_evaluated(tmp_path):
    tracker = load_tracker("rolo", "random")
    tracker.sees_ground_truth = True
    with pytest.raises(ValueError, match="sees the ground truth"):
        tl.evaluate(tracker, tl.load_dataset("rendered")[:1], "OPE", tmp_path)


def test_the_engine_knows_each_video_by_its_frames(tmp_path):
    data = tl.load_dataset("rendered")[:2]
    engine = Engine(load_tracker("rolo", "random"), data, 2, lambda *_: None, cache=tmp_path)
    assert engine.features.videos == {name: s.frames.digest() for name, s in data.items()}

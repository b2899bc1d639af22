"""Whole frames with all their objects: what the renderer tells, what is packed, where augmentation puts the boxes."""

import numpy as np
import pytest

from trackerlib import boxes as B
from trackerlib.data import Dataset, Sequence, load_dataset
from trackerlib.data.frames import MOST, FrameStore, SceneSampler, keep_frames, pack_frames, seen_in
from trackerlib.data.rendered import lookalikes, objects
from trackerlib.data.samplers import Augmentation

CALM = Augmentation(stretch=0, shift=0, lighting=0)


@pytest.fixture(scope="module")
def scenes():
    return load_dataset("rendered-train", start=20, count=12, frames=4)


def test_the_target_is_among_the_objects_with_its_own_box(scenes):
    for sequence in scenes.values():
        found = objects(sequence.frames, 0)  # in the first frame nothing hides it
        clipped = B.from_corners(B.corners(sequence.boxes[0]).clip(0, np.tile(sequence.size, 2)))
        assert max(B.iou(box, clipped) for kind, box in found if kind == sequence.category) == pytest.approx(1)
        for _, box in found:
            assert (box[:2] >= 0).all()
            assert (box[:2] + box[2:] <= sequence.size).all()


def test_what_is_hidden_is_no_object(scenes):
    shown = {
        least: sum(len(objects(s.frames, t, least)) for s in scenes.values() for t in range(4)) for least in (0.3, 0.99)
    }
    assert shown[0.3] > shown[0.99] > len(scenes)


def test_lookalikes_are_objects_and_not_the_target():
    sequence = load_dataset("rendered-long", start=7, count=1, frames=40)[0]
    for t in (0, 20):
        alike, all_of = lookalikes(sequence.frames, t), objects(sequence.frames, t)
        assert 1 <= len(alike) <= 3
        for box in alike:
            assert max(B.iou(box, other) for kind, other in all_of if kind == sequence.category) == pytest.approx(1)
        assert B.iou(alike, sequence.boxes[t]).max() < 0.9
    assert lookalikes(sequence.frames, 0, least=1.01).shape == (0, 4)


def test_kept_frames_are_the_datasets_own(scenes, tmp_path):
    kept = keep_frames(scenes, tmp_path, every=3)
    assert list(kept) == list(scenes)
    assert kept.digest() == scenes.digest()
    for name, sequence in scenes.items():
        for t in (0, 3):
            np.testing.assert_array_equal(kept[name].frames[t], sequence.frames[t])
        with pytest.raises(ValueError, match="frame 2 was not kept"):
            kept[name].frames[2]
    before = (tmp_path / "frames.npy").stat().st_mtime_ns
    keep_frames(scenes, tmp_path, every=3)
    assert (tmp_path / "frames.npy").stat().st_mtime_ns == before
    keep_frames(scenes, tmp_path, every=2)
    assert (tmp_path / "frames.npy").stat().st_mtime_ns > before
    other = Sequence("wide", [np.zeros((20, 50, 3), np.uint8)], np.array([[1.0, 1, 5, 5]]))
    with pytest.raises(ValueError, match="2 sizes"):
        keep_frames(Dataset("mixed", [*scenes.values(), other]), tmp_path)


def test_other_data_tell_the_target_where_they_know_what_it_is():
    sequence = load_dataset("rendered")[0]
    bare = type(sequence)("bare", [np.zeros((4, 4, 3), np.uint8)] * 60, sequence.boxes, category="cup")
    assert seen_in(bare, 3)[0][0] == "cup"
    np.testing.assert_array_equal(seen_in(bare, 3)[0][1], sequence.boxes[3])
    assert seen_in(type(sequence)("bare", bare.frames, sequence.boxes), 3) == []


def test_a_store_is_made_once_and_told_by_its_content(scenes, tmp_path):
    store = pack_frames(scenes, tmp_path, 64, every=2)
    assert store.frames.shape == (24, 64, 64, 3)
    made, told = (tmp_path / "frames.npy").stat().st_mtime_ns, store.digest()
    assert pack_frames(scenes, tmp_path, 64, every=2).digest() == told
    assert (tmp_path / "frames.npy").stat().st_mtime_ns == made
    (tmp_path / "complete").unlink()  # as after a kill: made anew
    pack_frames(scenes, tmp_path, 64, every=2)
    assert (tmp_path / "frames.npy").stat().st_mtime_ns != made
    assert pack_frames(scenes, tmp_path, 64, every=1).digest() != told


def painted(tmp_path, boxes, side=96) -> FrameStore:
    """A store of one frame: grey, with a white rectangle for every box (in shares)."""
    image = np.full((1, side, side, 3), 100, np.uint8)
    for x, y, w, h in (np.array(boxes) * side).round().astype(int):
        image[0, y : y + h, x : x + w] = 255
    np.save(tmp_path / "frames.npy", image)
    rows = [f"0,s,0,thing,{x},{y},{w},{h}" for x, y, w, h in boxes]
    (tmp_path / "objects.csv").write_text("\n".join(["row,sequence,frame,category,x,y,w,h", *rows]) + "\n")
    (tmp_path / "complete").write_text("by hand")
    return FrameStore(tmp_path)


@pytest.mark.parametrize("flip", [False, True])
def test_boxes_go_with_the_picture(tmp_path, flip):
    calm = Augmentation(stretch=0, shift=0, lighting=0, flip=flip)
    samples = SceneSampler(painted(tmp_path, [(0.25, 0.5, 0.25, 0.125)]), ["thing"], calm)
    for index in range(20):
        sample = samples[index]
        ((_, *box),) = sample["objects"][sample["objects"][:, 0] >= 0]
        rows, columns = np.nonzero(sample["x"][..., 0] > 177)
        seen = np.array([columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]) / 96
        np.testing.assert_allclose(box, seen, atol=1.1 / 96)


def test_what_is_cut_in_half_is_left_out(tmp_path):
    samples = SceneSampler(painted(tmp_path, [(0, 0, 0.125, 0.125)]), ["thing"], CALM)
    shown = [(samples[index]["objects"][:, 0] >= 0).sum() for index in range(60)]
    assert 0 < sum(shown) < 60
    for index in np.flatnonzero(shown):
        ((_, *box),) = samples[index]["objects"][:1]
        assert min(box[2:]) > 0


def test_most_objects_and_their_order(tmp_path):
    many = [(0.06 * k, 0.4, 0.05, 0.05) for k in range(15)]
    samples = SceneSampler(painted(tmp_path, many), ["thing"], CALM, jitter=0.0)
    told = [samples[index]["objects"] for index in range(4)]
    assert all((of[:, 0] == 0).sum() == MOST for of in told)
    assert not np.array_equal(told[0], told[1])  # drawn: the first in a cell counts, and it is not always the same
    with pytest.raises(ValueError, match="no object is one of cup"):
        SceneSampler(painted(tmp_path, many), ["cup"])

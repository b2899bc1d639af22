"""The rendered sequences: exact boxes, attributes that are really in the pixels, and frozen test and long sets.

`python tests/unit/test_rendered.py` rewrites the golden file; that is for a new VERSION of the pictures only (`long`
was written anew once more, when its targets learned to come back elsewhere: no result on it had been published)."""

import base64
import copy
import hashlib
import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest

from trackerlib.data import rendered as R
from trackerlib.data.rendered import RenderedFrames, rendered, textures
from trackerlib.data.rendered.sprites import coverage
from trackerlib.data.rendered.staging import ATTRIBUTES, VERSION

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "rendered.json"


@cache
def fixed(split):
    return rendered(split)


def marked(attribute):
    """The test sequences that carry an attribute, each with the frames where it is tagged."""
    return [(s, np.flatnonzero(s.tags[attribute])) for s in fixed("test").having(attribute).values()]


def film(sequence):
    """What a sequence is made from, its scene painted."""
    made = R._film(sequence.frames)
    made.paint()
    return made


def changed(thing, **fields):
    """A copy with other fields."""
    other = copy.copy(thing)
    vars(other).update(fields)
    return other


def mask_of(sequence, t):
    """`(H, W)` share of the target in each pixel, without what is hidden or outside."""
    plan = film(sequence).plan
    return coverage(plan.target, plan.front, t, sequence.frames.size, sharp=False)


def target_of(sequence, t):
    """The target alone, unhidden, sharp and uncut: `(h, w, 4)` colours times coverage, coverage; and where it lies."""
    return film(sequence).plan.target.at(t)


def shot_without(sequence, t, **tracks):
    """Frame t as it would be with other tracks of the target, and recorded with no noise or compression; beside it the
    frame with its own tracks, recorded in the same way."""
    made = film(sequence)
    same = changed(made.plan, recorder=changed(made.plan.recorder, noise=0.0, jpeg=0))
    other = changed(same, target=changed(made.plan.target, **tracks))
    return [changed(made, plan=plan).shoot(t).astype(float) for plan in (same, other)]


def pixel_box(alpha, x, y):
    rows, columns = np.flatnonzero((alpha > 127.5).any(1)), np.flatnonzero((alpha > 127.5).any(0))
    return np.array([x + columns[0], y + rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1])


def test_names_sizes_and_ranges():
    data = rendered("train", start=7, count=2, size=(96, 64), frames=5)
    assert data.name == "rendered-train"
    assert list(data) == ["train-0007", "train-0008"]
    assert data[0].frames[4].shape == (64, 96, 3)
    assert data[0].frames[4].dtype == np.uint8
    assert {split: len(rendered(split, frames=2, size=(48, 32))) for split in ("val", "test", "long")} == {
        "val": 20, "test": 40, "long": 6,
    }  # fmt: skip
    assert len(rendered("train", start=123456, count=1, frames=2)) == 1
    assert list(rendered("long", start=30, count=2, frames=2)) == ["long-0030", "long-0031"]


@pytest.mark.parametrize(
    ("split", "start", "count"), [("tests", 0, 1), ("test", 39, 2), ("val", -1, 1), ("test", 0, 0)]
)
def test_what_a_split_does_not_have_is_refused(split, start, count):
    with pytest.raises(ValueError, match="rendered"):
        rendered(split, start, count)


@pytest.mark.parametrize("options", [{"frames": 0}, {"size": (31, 64)}])
def test_frames_too_few_or_too_small_are_refused(options):
    with pytest.raises(ValueError, match="32 x 32"):
        rendered("train", count=1, **options)


def test_frames_depend_on_the_spec_alone():
    frames = RenderedFrames("val", 3)
    forwards = [frames[t] for t in (0, 20, 59)]
    R._film.cache_clear()
    copy = pickle.loads(pickle.dumps(frames))
    assert len(pickle.dumps(frames)) < 200
    with ThreadPoolExecutor(4) as pool:
        backwards = list(pool.map(copy.__getitem__, (59, 20, 0, 59, 20, 0)))
    for t, image in enumerate(forwards):
        np.testing.assert_array_equal(image, backwards[2 - t])
        np.testing.assert_array_equal(image, backwards[5 - t])
    assert copy.digest() == frames.digest() != RenderedFrames("val", 4).digest()
    np.testing.assert_array_equal(frames[-1], frames[59])
    with pytest.raises(IndexError):
        frames[60]


def test_splits_share_neither_surface_nor_picture():
    for number in range(30):
        a, b = (textures.tile(split, number).ravel() for split in ("train", "test"))
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.6
    first = {
        split: [cv2.resize(s.frames[0], (16, 16), interpolation=cv2.INTER_AREA).astype(float) for s in d.values()]
        for split, d in (("train", rendered("train", count=40)), ("test", fixed("test")))
    }
    assert min(np.abs(a - b).mean() for a in first["train"] for b in first["test"]) > 5


@pytest.mark.parametrize("split", ["test", "long"])
def test_boxes_are_those_of_the_target_alone(split):
    for sequence in fixed(split).values():
        for t in np.flatnonzero(~sequence.absent)[:: 13 if split == "test" else 97]:
            patch, x, y = target_of(sequence, int(t))
            box, pixels = sequence.boxes[t], pixel_box(patch[..., 3], x, y)
            edges = np.concatenate([box[:2] - pixels[:2], (box[:2] + box[2:]) - (pixels[:2] + pixels[2:])])
            assert np.abs(edges).max() <= 0.5 + 1e-9, (sequence.name, t)


def test_the_mask_says_which_pixels_are_the_targets():
    """Take the target away: pixels outside its mask (and its cast shadow) do not change, those inside do."""
    inside = []
    for sequence in fixed("test").values():
        made = film(sequence)
        away = made.plan.target.centre + np.array([10000, 0])
        plain = {"noise": 0.0, "jpeg": 0, "soft": 0.0, "sharpen": 0.0, "shrink": 1.0, "grey": False, "tint": np.ones(3)}
        plan = changed(made.plan, recorder=changed(made.plan.recorder, **plain), sun=(0, 0.2, 0))
        plans = (changed(plan, target=changed(plan.target, centre=c)) for c in (plan.target.centre, away))
        here, gone = (changed(made, plan=p).shoot(30).astype(float) for p in plans)
        change, mask = np.abs(here - gone).max(-1), mask_of(sequence, 30)
        assert change[mask < 1 / 512].max(initial=0) <= 1, sequence.name
        if (mask > 0.9).sum() > 30:
            inside.append((change[mask > 0.9] > 4).mean())
    assert np.mean(inside) > 0.8


@pytest.mark.parametrize("split", ["val", "test", "long"])
def test_the_first_frame_shows_the_whole_target(split):
    contrast = []
    for sequence in fixed(split).values():
        x, y, w, h = sequence.boxes[0]
        width, height = sequence.frames.size
        assert x >= 0, sequence.name
        assert y >= 0, sequence.name
        assert x + w <= width, sequence.name
        assert y + h <= height, sequence.name
        patch, *_ = target_of(sequence, 0)
        mask, image = mask_of(sequence, 0), sequence.frames[0].astype(float)
        assert mask.sum() > 0.98 * patch[..., 3].sum() / 255, sequence.name
        assert 0.2 < w / h < 5
        assert w * h > 60
        if "BC" not in sequence.attributes:
            ring = cv2.dilate(mask, np.ones((13, 13))) - cv2.dilate(mask, np.ones((3, 3))) > 0.5
            target, around = image[mask > 0.7], image[ring]
            gap = np.abs(np.sort(target.mean(1))[:, None] - np.quantile(around.mean(1), [0.1, 0.5, 0.9])).mean()
            contrast.append(gap)
    if contrast:
        assert np.mean(np.array(contrast) > 15) >= 0.8


def test_each_attribute_is_had_by_at_least_four_test_sequences():
    have = {a: sum(a in s.attributes for s in fixed("test").values()) for a in ATTRIBUTES}
    assert min(have.values()) >= 4, have
    for sequence in fixed("test").values():
        assert set(sequence.tags) == set(ATTRIBUTES)
        assert sequence.attributes == tuple(a for a in ATTRIBUTES if sequence.tags[a].any())
        assert not sequence.absent.any()
        assert np.isfinite(sequence.boxes).all()


def test_sv_lr_and_fm_are_otbs_definitions_on_the_boxes():
    for sequence in fixed("test").values():
        w, h = sequence.boxes[:, 2:].T
        ratio = w * h / (w[0] * h[0])
        centres = sequence.boxes[:, :2] + sequence.boxes[:, 2:] / 2
        steps = np.linalg.norm(centres[1:] - centres[:-1], axis=1)
        assert ("SV" in sequence.attributes) == bool(((ratio > 2) | (ratio < 0.5)).any())
        assert ("LR" in sequence.attributes) == bool((w * h < 400).any())
        assert ("FM" in sequence.attributes) == bool((steps > 0.05 * 240).any())


def test_occlusion_hides_the_target_and_out_of_view_cuts_it():
    for sequence, frames in marked("OCC"):
        t = int(frames[len(frames) // 2])
        patch, x, y = target_of(sequence, t)
        whole = patch[max(-y, 0) : 160 - y, max(-x, 0) : 240 - x, 3].sum() / 255
        assert mask_of(sequence, t).sum() < 0.75 * whole, sequence.name
    for sequence, frames in marked("OV"):
        boxes = sequence.boxes[frames]
        outside = np.maximum.reduce(
            [-boxes[:, 0], -boxes[:, 1], boxes[:, 0] + boxes[:, 2] - 240, boxes[:, 1] + boxes[:, 3] - 160]
        )
        assert outside.min() > 0, sequence.name
        assert outside.max() > 1, sequence.name


def test_illumination_changes_on_the_targets_own_pixels():
    def brightest_change(sequence, frames):
        masks = [(t, mask_of(sequence, int(t)) > 0.6) for t in frames]
        light = [sequence.frames[int(t)][m].mean() for t, m in masks if m.sum() > 8]
        first = sequence.frames[0][mask_of(sequence, 0) > 0.6].mean()
        return max(abs(np.log((v + 2) / (first + 2))) for v in light)

    changes = [brightest_change(s, frames[:: max(len(frames) // 6, 1)]) for s, frames in marked("IV")]
    assert np.mean(np.array(changes) > np.log(1.2)) >= 0.9, changes


@pytest.mark.parametrize(("attribute", "track"), [("IPR", "angle"), ("OPR", "turn"), ("DEF", "phase")])
def test_turns_and_deformation_change_the_pixels(attribute, track):
    """Against the same frame with the target posed as in the first: the change on it is well above noise."""
    changes = []
    for sequence, frames in marked(attribute):
        t = int(frames[np.argmax(np.abs(getattr(film(sequence).plan.target, track)[frames]))])
        if mask_of(sequence, t).sum() < 40:
            continue
        own = getattr(film(sequence).plan.target, track)
        a, b = shot_without(sequence, t, **{track: np.full_like(own, own[0])})
        changes.append(np.abs(a - b)[mask_of(sequence, t) > 0.3].mean())
    assert len(changes) >= 4
    assert np.median(changes) > 8
    assert np.mean(np.array(changes) > 2) >= 0.9, changes


def test_motion_blur_takes_gradient_energy_from_the_target():
    def energy(image, mask):
        grey = image.mean(-1).astype(np.float32)
        gradient = cv2.Sobel(grey, cv2.CV_32F, 1, 0) ** 2 + cv2.Sobel(grey, cv2.CV_32F, 0, 1) ** 2
        return gradient[mask].mean()

    ratios = []
    for sequence, frames in marked("MB"):
        target = film(sequence).plan.target
        t = int(
            frames[np.argmax([np.hypot(*target.smear[f]) * (mask_of(sequence, int(f)).sum() > 40) for f in frames])]
        )
        blurred, sharp = shot_without(sequence, t, smear=np.zeros_like(target.smear))
        mask = mask_of(sequence, t) > 0.5
        if mask.sum() > 20:
            ratios.append(energy(blurred, mask) / energy(sharp, mask))
    assert len(ratios) >= 4
    assert np.median(ratios) < 0.6
    assert max(ratios) < 0.95, ratios


def test_background_clutter_looks_like_the_target():
    """Bhattacharyya similarity of the colours on the target and around it, in the first frame."""

    def similarity(sequence):
        mask, image = mask_of(sequence, 0), sequence.frames[0]
        reach = int(sequence.boxes[0, 2:].max())
        around = (cv2.dilate(mask, np.ones((reach, reach))) > 0.5) & (mask < 0.05)
        a, b = (
            cv2.GaussianBlur(np.histogramdd(image[m] / 32.0, bins=8, range=[(0, 8)] * 3)[0], (3, 3), 0.8).ravel()
            for m in (mask > 0.7, around)
        )
        return np.sqrt(a / a.sum() * b / b.sum()).sum()

    with_clutter = [similarity(s) for s in fixed("test").values() if "BC" in s.attributes]
    without = [similarity(s) for s in fixed("test").values() if "BC" not in s.attributes]
    assert np.mean(with_clutter) > np.mean(without) + 0.05


def test_the_long_set_loses_and_finds_its_target_among_look_alikes():
    for sequence in fixed("long").values():
        assert len(sequence) == 600
        lost = np.flatnonzero(np.diff(sequence.absent.astype(int)) == 1)
        found = np.flatnonzero(np.diff(sequence.absent.astype(int)) == -1)
        assert len(lost) >= 3
        assert len(found) >= 3
        np.testing.assert_array_equal(np.isnan(sequence.boxes).all(1), sequence.absent)
        np.testing.assert_array_equal(np.isnan(sequence.boxes).any(1), sequence.absent)
        plan = film(sequence).plan
        alike = [a for a in (*plan.behind, *plan.front) if a.sprite.kind == plan.target.sprite.kind]
        for t in lost[:3] + 1:
            patch, *_ = target_of(sequence, int(t))
            assert mask_of(sequence, int(t)).sum() < 0.1 * patch[..., 3].sum() / 255
            inside = [(a.centre[t] > 0).all() and (a.centre[t] < (240, 160)).all() for a in alike]
            assert any(inside), (sequence.name, t)


def test_every_other_time_the_target_comes_back_elsewhere():
    """Out of sight it goes to another border; the way there leaves no smear in the picture."""
    leaps = {sequence.name: film(sequence).plan.leaps for sequence in fixed("long").values()}
    assert sum(map(len, leaps.values())) >= 10
    for sequence in fixed("long").values():
        plan = film(sequence).plan
        for t in leaps[sequence.name]:
            assert sequence.absent[t - 1 : t + 1].all()
            assert np.linalg.norm(plan.target.centre[t] - plan.target.centre[t - 1]) > 40
            assert (plan.target.smear[t] == 0).all()


def _thumbnail(image):
    return cv2.resize(image, (8, 8), interpolation=cv2.INTER_AREA)


def _facts(sequence):
    """What is frozen of a sequence. `tracks` does not depend on the image library, boxes and thumbnails slightly do."""
    target = film(sequence).plan.target
    tracks = np.column_stack([target.centre, target.scale, target.angle, target.phase, target.turn, target.smear])
    shown = [0, 2 * len(sequence) // 3]
    return {
        "tracks": hashlib.sha256((np.round(tracks, 3) + 0.0).tobytes()).hexdigest(),
        "boxes": [[None if np.isnan(v) else round(v, 3) for v in b] for b in sequence.boxes[:: len(sequence) // 10]],
        "attributes": " ".join(sequence.attributes),
        "absent": int(sequence.absent.sum()),
        "thumbnails": {str(t): base64.b64encode(_thumbnail(sequence.frames[t]).tobytes()).decode() for t in shown},
    }


@pytest.mark.parametrize("split", ["test", "long"])
def test_the_published_sets_are_frozen(split):
    golden = json.loads(GOLDEN.read_text())
    assert golden["version"] == VERSION
    assert list(golden[split]) == list(fixed(split))
    for name, sequence in fixed(split).items():
        want, got = golden[split][name], _facts(sequence)
        for key in ("tracks", "attributes", "absent"):
            assert got[key] == want[key], (name, key)
        boxes = [np.array(f["boxes"], float) for f in (got, want)]
        np.testing.assert_allclose(*boxes, atol=0.05, err_msg=name)
        for t, code in want["thumbnails"].items():
            old = np.frombuffer(base64.b64decode(code), np.uint8).astype(int)
            new = _thumbnail(sequence.frames[int(t)]).ravel().astype(int)
            assert np.abs(old - new).max() <= 2, (name, t)


def write_golden():
    """One line a sequence."""
    sets = {
        split: ",\n".join(f"{json.dumps(n)}: {json.dumps(_facts(s))}" for n, s in fixed(split).items())
        for split in ("test", "long")
    }
    body = ",\n".join(f'"{split}": {{\n{lines}\n}}' for split, lines in sets.items())
    GOLDEN.write_text(f'{{"version": {VERSION},\n{body}\n}}\n')


if __name__ == "__main__":
    write_golden()

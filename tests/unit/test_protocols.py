"""Which runs protocols ask for, and what follows a lost target. Official starts and boxes: tests/golden."""

import numpy as np
import pytest

from trackerlib.bench.protocols import SRE, TRE, Go, Restart, Supervised, protocol
from trackerlib.data.formats import FAILURE, INIT, REGION, Trajectory
from trackerlib.data.sequence import Dataset, Sequence


class Grey:
    """Frames of one colour, 200 x 100."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, frame):
        return np.full((100, 200, 3), 128, np.uint8)

    def digest(self):
        return f"grey {self.count}"


def sequence(count, name="s", box=(20, 30, 40, 20), **options):
    return Sequence(name, Grey(count), np.tile(np.array(box, float), (count, 1)), **options)


def test_tre_starts_spread_to_the_last_that_leaves_twenty_frames():
    starts = TRE().starts(sequence(400))
    assert len(starts) == 20
    assert (starts[0], starts[-1]) == (0, 380)
    assert max(np.diff(starts)) - min(np.diff(starts)) <= 1


def test_tre_never_starts_where_the_list_or_the_annotation_forbids():
    omit = np.zeros(200, bool)
    omit[:50] = True
    boxes = np.tile([20.0, 30, 40, 20], (200, 1))
    boxes[100:110] = np.nan
    boxes[120, 0] = -1.0  # 0 for OTB, which counts from 1: not positive
    starts = TRE().starts(Sequence("s", Grey(200), boxes, omit=omit))
    assert min(starts) == 50
    assert not set(starts) & {*range(100, 110), 120}


def test_tre_of_a_short_video_has_fewer_starts_and_some_twice():
    starts = TRE().starts(sequence(25))  # six frames leave twenty: floor(1 : 6/19 : 6), 16 of them, and the sixth
    assert len(starts) == 17
    assert sorted(set(starts)) == list(range(6))
    assert TRE().starts(sequence(10)) == [0]
    assert [run.name for run in TRE(segments=3).runs(Dataset("d", [sequence(60)]))] == ["s_01", "s_02", "s_03"]


def test_sre_boxes_by_hand():
    """shiftInitBB.m on the 1-based box 21,31,45,25: a tenth is 4.5 and 2.5, both halves rounded away from zero."""
    boxes = SRE().boxes(np.array([21.0, 31, 45, 25]), (200, 100))
    assert boxes["left"] == (16, 31, 45, 25)
    assert boxes["down"] == (21, 34, 45, 25)
    assert boxes["topLeft"] == (17, 29, 49, 27)  # 16.5 and 28.5 up; 65 and 55 stay
    assert boxes["bottomRight"] == (21, 31, 50, 28)  # 69.5 and 57.5 up
    assert boxes["scale_8"] == (26, 34, 36, 20)  # 25.5 and 33.5 up
    assert len(boxes) == 12


def test_sre_boxes_are_cut_at_the_image():
    boxes = SRE().boxes(np.array([1.0, 1, 190, 99]), (200, 100))
    assert boxes["left"] == (1, 1, 190, 99)  # moved back, its size kept
    assert boxes["right"] == (20, 1, 181, 99)


def test_supervised_restarts_five_frames_after_the_target_is_lost():
    s = sequence(30)
    (run, *_) = Supervised().runs(Dataset("d", [s]))
    # VOT draws a box of 40 columns from x to x + 39, the last one left out: 20 .. 58, and one of them is shared.
    assert Supervised().after(s, run, 10, np.array([58.0, 30, 40, 20])) is Go.ON
    assert Supervised().after(s, run, 10, np.array([59.0, 30, 40, 20])) == Restart(15, (20, 30, 40, 20))
    assert Supervised().after(s, run, 10, np.full(4, np.nan)) == Restart(15, (20, 30, 40, 20))
    assert Supervised().after(s, run, 27, np.zeros(4)).frame > run.last


def test_frames_without_annotation_lose_no_target_and_start_none():
    boxes = np.tile([20.0, 30, 40, 20], (30, 1))
    boxes[14:17] = np.nan
    s = Sequence("s", Grey(30), boxes)
    (run, *_) = Supervised().runs(Dataset("d", [s]))
    assert Supervised().after(s, run, 15, np.zeros(4)) is Go.ON
    assert Supervised().after(s, run, 10, np.zeros(4)).frame == 17


def test_bounds_decide_over_what_overlaps_outside_the_image():
    s = sequence(30, box=(180, 30, 40, 20))
    outside = np.array([205.0, 30, 40, 20])
    (run, *_) = Supervised().runs(Dataset("d", [s]))
    assert Supervised().after(s, run, 3, outside) is Go.ON
    assert isinstance(Supervised(bounded=True).after(s, run, 3, outside), Restart)


def test_repetitions_stop_at_three_that_are_alike():
    data, p = Dataset("d", [sequence(4)]), Supervised(repetitions=6)
    assert [run.name for run in p.runs(data)] == ["s_001", "s_002", "s_003"]
    rows = np.tile([20.0, 30, 40, 20], (4, 1))
    codes = np.array([INIT, REGION, REGION, REGION], np.int8)
    same = dict.fromkeys(["s_001", "s_002", "s_003"], Trajectory(rows, codes))
    assert not list(p.more(data, same.get))
    for other in (
        Trajectory(rows + np.array([0.5, 0, 0, 0]), codes),
        Trajectory(rows, np.array([INIT, REGION, FAILURE, 0], np.int8)),
    ):
        assert [r.name for r in p.more(data, (same | {"s_002": other}).get)] == ["s_004", "s_005", "s_006"]
    assert not list(p.more(data, (same | {"s_002": None}).get))


def test_protocols_by_name_and_parameters():
    assert protocol("supervised:bounded=true,repetitions=1") == Supervised(repetitions=1, bounded=True)
    assert protocol("TRE", segments=10) == TRE(segments=10)
    with pytest.raises(ValueError, match="near: OPE"):
        protocol("OPEN")
    with pytest.raises(ValueError, match="no field 'repetition'; near: repetitions"):
        protocol("supervised:repetition=1")
    with pytest.raises(ValueError, match="not PARAMETER=VALUE"):
        protocol("supervised:bounded")

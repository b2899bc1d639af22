"""SORT: its constants, its filter against the written-out equations, its rules for tracks, and the tracker."""

import numpy as np
import pytest

from trackerlib.baselines import sort
from trackerlib.baselines.sort import SORT, KalmanTrack, SORTConfig, boxed, measured
from trackerlib.data import load_dataset
from trackerlib.tracker import track_sequence
from trackerlib.trackers import load_tracker


def test_constants_are_those_of_the_release():
    np.testing.assert_array_equal(sort.F @ [1, 2, 3, 4, 10, 20, 30], [11, 22, 33, 4, 10, 20, 30])
    np.testing.assert_array_equal(sort.H @ np.arange(7), [0, 1, 2, 3])
    assert np.diag(sort.P).tolist() == [10, 10, 10, 10, 10_000, 10_000, 10_000]
    assert np.diag(sort.R).tolist() == [1, 1, 10, 10]
    assert np.diag(sort.Q).tolist() == [1, 1, 1, 1, 0.01, 0.01, 0.0001]
    config = SORTConfig()
    assert (config.iou, config.max_age, config.min_hits) == (0.3, 1, 3)


def test_a_box_and_its_state():
    box = np.array([10.0, 20, 30, 40])
    np.testing.assert_allclose(measured(box), [25, 40, 1200, 0.75])
    np.testing.assert_allclose(boxed(np.append(measured(box), [0, 0, 0])), box)
    assert np.isnan(boxed(np.array([5.0, 6, -1, 2, 0, 0, 0]))).any()


def test_one_step_is_the_written_out_filter():
    """Position and velocity of u alone, a filter of two numbers: the others do not reach it."""
    box = np.array([10.0, 20, 30, 40])
    track = KalmanTrack.begun(box).predicted().updated(np.array([13.0, 20, 30, 40]))
    P = np.diag([10.0, 10_000])
    F = np.array([[1.0, 1], [0, 1]])
    x, P = F @ [25, 0], F @ P @ F.T + np.diag([1, 0.01])
    K = P[:, 0] / (P[0, 0] + 1)
    x = x + K * (28 - x[0])
    np.testing.assert_allclose(track.x[[0, 4]], x)
    np.testing.assert_allclose(track.P[np.ix_([0, 4], [0, 4])], P - np.outer(K, P[0]))


def test_a_constant_velocity_is_learned_and_carried_on():
    track = KalmanTrack.begun(np.array([0.0, 0, 20, 10]))
    for t in range(1, 40):
        track = track.predicted().updated(np.array([3.0 * t, -2.0 * t, 20, 10]))
    np.testing.assert_allclose(track.x[4:6], [3, -2], atol=0.02)
    ahead = track.predicted().predicted()
    np.testing.assert_allclose(boxed(ahead.x), [3 * 41, -2 * 41, 20, 10], atol=0.3)


def test_an_area_cannot_become_negative():
    shrinking = KalmanTrack(np.array([0.0, 0, 5, 1, 0, 0, -9]), sort.P)
    assert shrinking.predicted().x[2] == 5


def run(boxes, config=SORTConfig()):
    sorts, told = SORT(), []
    for box in boxes:
        sorts, answer = sorts.step(None if box is None else np.array(box, float), config)
        told.append(answer)
    return sorts, told


HERE, THERE = [10, 10, 20, 20], [200, 10, 20, 20]


def test_the_first_frames_need_no_confirmation_and_later_ones_do():
    _, told = run([HERE] * 3 + [THERE] * 5)
    assert [answer is not None for answer in told] == [True] * 3 + [False] * 3 + [True] * 2


def test_a_track_lives_one_frame_without_a_detection():
    sorts, told = run([HERE] * 5 + [None, HERE])
    assert len(sorts.tracks) == 1
    assert told[5] is None  # nothing is answered for a frame without one
    assert told[6] is None  # hits in a row begin anew
    sorts, _ = run([HERE] * 5 + [None, None])
    assert sorts.tracks == ()


def test_two_places_are_two_tracks_until_the_first_is_forgotten():
    sorts, _ = run([HERE] * 4 + [THERE])
    assert len(sorts.tracks) == 2
    sorts, _ = run([HERE] * 4 + [THERE] * 2)
    assert len(sorts.tracks) == 1


def test_what_is_answered_without_a_track():
    sequence = load_dataset("rendered")[0]
    last = track_sequence(load_tracker("yolo-sort", "random", threshold=1.0), sequence)
    np.testing.assert_allclose(last, np.tile(sequence.boxes[0], (len(sequence), 1)), rtol=1e-5)
    nothing = track_sequence(load_tracker("yolo-sort", "random", threshold=1.0, unsure="nothing"), sequence)
    assert (nothing[1:] == 0).all()
    with pytest.raises(ValueError, match="unsure is"):
        load_tracker("yolo-sort", "random", unsure="maybe")

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trackerlib import boxes as B
from trackerlib.bench import metrics
from trackerlib.bench.conventions import CONVENTIONS, convention_named
from trackerlib.bench.metrics import Truth

OTB = CONVENTIONS["otb"]
BOX = np.array([[10.0, 20, 40, 30]])


@pytest.mark.parametrize("name", CONVENTIONS)
def test_identical_boxes_score_best_but_for_a_threshold_that_nothing_passes(name):
    rule = CONVENTIONS[name]
    got = rule.measured(rule.score(BOX.repeat(7, 0), Truth(BOX.repeat(7, 0), size=(100, 100))))
    if name not in ("rolo", "got10k"):
        assert got.pop("success_auc") == pytest.approx(20 / 21, abs=1e-15)
    assert set(got.values()) == {1.0}


def test_thresholds_are_octaves_doubles_not_k_over_20():
    thresholds = OTB.curve("success").thresholds
    assert np.flatnonzero(thresholds != np.arange(21) / 20).tolist() == [3, 6, 7, 12, 14, 17, 19]
    assert OTB.curve("precision").thresholds.tolist() == list(range(51))
    got10k = CONVENTIONS["got10k"].curve("success").thresholds
    assert got10k[[50, 75, 100]].tolist() == [0.5, 0.75, 1.0]


def test_counts_are_strict_where_the_toolkits_are():
    values = np.array([0.5, 0.50001, np.nan])
    assert metrics.count_above(values, np.array([0.0, 0.5, 1.0])).tolist() == [2, 1, 0]
    assert metrics.count_reaching(values, np.array([0.5, 0.50001, 0.6])).tolist() == [2, 1, 0]
    assert metrics.count_reaching_but_the_last(values, np.array([0.5, 0.50001])).tolist() == [2, 0]
    assert metrics.count_within(np.array([20.0, 20.00001, np.nan]), np.array([20.0, 21.0])).tolist() == [1, 2]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(st.floats(-1, 1), st.just(np.nan), st.sampled_from(list(np.linspace(0, 1, 21))))))
def test_counts_equal_comparison_by_comparison(values):
    values, thresholds = np.array(values, float), np.linspace(0, 1, 21)
    assert metrics.count_above(values, thresholds).tolist() == (values[:, None] > thresholds).sum(0).tolist()
    assert metrics.count_within(values, thresholds).tolist() == (values[:, None] <= thresholds).sum(0).tolist()
    assert metrics.count_reaching(values, thresholds).tolist() == (values[:, None] >= thresholds).sum(0).tolist()


def test_a_broken_row_takes_the_row_before_it_already_repaired():
    truth = np.array([[10.0, 10, 5, 5]] * 5)
    result = truth + np.array([[9, 0, 0, 0], [1, 0, 0, 0], [np.nan] * 4, [0, 0, -9, 0], [np.nan, 0, 0, 0]])
    repaired = metrics.otb_repaired(result.T.copy(), truth.T).T
    np.testing.assert_array_equal(repaired[:4], [truth[0], result[1], result[1], result[1]])
    np.testing.assert_array_equal(repaired[4], result[4])  # a single NaN is no broken row


@pytest.mark.parametrize("name", CONVENTIONS)
def test_what_is_judged_is_left_as_it_was(name):
    for rows in (np.full((1, 4), 7.0), np.array([[1, 2, 3, 4.5], [-5, 5, 50, 0], [np.nan] * 4])):
        result, truth = rows + 1, rows.copy()
        before = result.copy(), truth.copy()
        CONVENTIONS[name].tally(result, Truth(truth, size=(20, 20)))
        np.testing.assert_array_equal((result, truth), before)


box = st.tuples(*[st.floats(1, 300)] * 2, *[st.floats(0.5, 200)] * 2)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(box, box), min_size=1, max_size=20), st.floats(0, 100))
def test_overlap_and_error_agree_with_plain_geometry_and_ignore_a_common_shift(pairs, shift):
    a, b = (np.array(side) for side in zip(*pairs, strict=True))
    moved = [(boxes + np.array([shift, shift, 0, 0])).T for boxes in (a, b)]
    for overlap in (metrics.otb_overlap, metrics.plain_overlap):
        np.testing.assert_allclose(overlap(a.T, b.T), B.iou(a, b), atol=1e-9)
        np.testing.assert_allclose(overlap(*moved), overlap(a.T, b.T), atol=1e-9)
    np.testing.assert_allclose(metrics.centre_error(a.T, b.T), B.centre_error(a, b), atol=1e-9)


def test_got10k_moves_a_negative_corner_and_keeps_the_width():
    """Of 50 x 50 at -10, -10, what is in the image is 40 x 40; the toolkit leaves 50 x 50."""
    cut = metrics.got10k_cut(np.array([[-10.0, -10, 50, 50], [90, 10, 50, 20], [200, 10, 5, 5]]).T, (100, 60)).T
    assert cut.tolist() == [[0, 0, 50, 50], [90, 10, 10, 20], [100, 10, 0, 5]]


def test_got10k_leaves_out_the_first_frame_and_the_absent_ones():
    truth = Truth(BOX.repeat(4, 0), absent=np.array([False, False, True, False]), size=(100, 100))
    far = BOX + np.array([50, 0, 0, 0])
    frames, sums = CONVENTIONS["got10k"].tally(np.vstack([far, BOX, far, BOX]), truth)
    assert (frames, sums["overlap"].tolist(), sums["success"][50]) == (2, [2.0], 2)


def test_matlab_rounds_half_away_from_zero():
    assert metrics.matlab_round(np.array([0.5, 1.5, -0.5, -2.5, 2.4])).tolist() == [1, 2, -1, -3, 2]


def test_sre_is_rescaled_in_sre_runs_alone():
    """50 x 20 of scale 0.8: 62.5 x 25 rounds to 63 x 25; centres 44.5, 29.5, less 31.25 and 12.5: 13.25 and 17."""
    result, truth = np.array([[20.0, 20, 50, 20]] * 2), np.array([[13.0, 17, 63, 25]] * 2)
    rule = CONVENTIONS["otb-rescaled"]
    assert rule.measured(rule.score(result, Truth(truth, scale=0.8)))["success_auc"] == pytest.approx(20 / 21)
    assert rule.score(result, truth)["success"].tolist() == OTB.score(result, truth)["success"].tolist()


def test_a_truth_is_cut_with_all_it_holds():
    truth = Truth(np.arange(20.0).reshape(5, 4), np.arange(5) == 3, (64, 48))
    part = truth.cut(1, 3, scale=1.1)
    assert (len(part), part.rows[0, 0], part.absent.tolist()) == (3, 4.0, [False, False, True])
    assert (part.size, part.scale) == ((64, 48), 1.1)


def test_bootstrap_interval_has_the_width_of_the_normal_theory():
    values = np.random.default_rng(3).normal(0.6, 0.2, 100)
    low, high = metrics.bootstrap_interval(values, np.random.default_rng(0))
    half = 1.96 * values.std() / 10
    assert low == pytest.approx(values.mean() - half, abs=0.004)
    assert high == pytest.approx(values.mean() + half, abs=0.004)
    assert (low, high) == metrics.bootstrap_interval(values, np.random.default_rng(0))
    assert np.isnan(metrics.bootstrap_interval(values[:1], np.random.default_rng(0))).all()
    weights = np.full(100, 3.0)
    assert metrics.bootstrap_interval(values, np.random.default_rng(0), weights=weights) == pytest.approx((low, high))


def test_sign_flip_p_is_that_of_all_signs():
    """Ten differences have 1024 signings, which can be gone through."""
    differences = np.array([0.3, 0.1, -0.05, 0.2, 0.02, 0.15, -0.1, 0.25, 0.4, -0.02])
    totals = np.abs([np.dot(signs, differences) for signs in itertools.product((-1, 1), repeat=10)])
    exact = (totals >= abs(differences.sum()) - 1e-12).mean()
    assert metrics.sign_flip_p(differences, np.random.default_rng(0)) == exact
    assert metrics.sign_flip_p(differences, np.random.default_rng(0), 1000) == pytest.approx(exact, abs=0.03)
    assert metrics.sign_flip_p(np.zeros(5), np.random.default_rng(0)) == 1
    assert metrics.sign_flip_p(np.full(40, 0.1), np.random.default_rng(0)) == pytest.approx(1e-4, rel=1e-3)


def test_unknown_names_are_answered_with_the_near_ones():
    with pytest.raises(ValueError, match=r"'obt'; near: otb"):
        convention_named("obt")
    with pytest.raises(ValueError, match=r"otb has no measure 'auc'.*; it has success_auc, precision_20, success_50"):
        OTB.measure("auc")


def test_verdicts():
    told = [
        metrics.verdict(*of)
        for of in ((0.1, 0.2, 6), (-0.2, -0.1, 6), (-0.1, 0.1, 40), (0.1, 0.2, 5), (np.nan, np.nan, 9))
    ]
    assert told == ["holds", "fails", "undecided", "undecided", "undecided"]

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trackerlib import boxes as B
from trackerlib.bench import metrics
from trackerlib.bench.conventions import CONVENTIONS, convention_named

OTB = CONVENTIONS["otb"]


def measured(result, truth):
    got = OTB.measured(OTB.score(result, truth))
    return round(got["success_auc"], 4), round(got["precision_20"], 4)


def test_identical_boxes_score_20_of_21_and_1():
    boxes = np.array([[10.0, 20, 40, 30]] * 7)
    got = OTB.measured(OTB.score(boxes, boxes))
    assert got["success_auc"] == pytest.approx(20 / 21, abs=1e-15)  # an overlap above 1 there is none
    assert got["precision_20"] == 1


def scenario(kind):
    """1000 boxes of which every tenth is affected: the comparison that ten published definitions were run on."""
    rng = np.random.default_rng(0)
    columns = [rng.integers(*limits, 1000) for limits in ((40, 200), (40, 150), (20, 80), (20, 80))]
    clean = np.stack(columns, 1).astype(float)
    rng = np.random.default_rng(1)
    noisy = clean + np.hstack([rng.normal(0, 6, (1000, 2)), rng.normal(0, 5, (1000, 2))])
    noisy[:, 2:] = np.maximum(noisy[:, 2:], 4)
    truth, hit = clean.copy(), np.arange(1000) % 10 == 5
    if kind == "NaN":
        truth[hit] = np.nan
    elif kind == "zero":
        truth[hit] = 0
    elif kind == "x<=0":
        truth[hit, 0] = -truth[hit, 2] / 4
        clean[hit] = noisy[hit] = truth[hit]
    return truth, clean, noisy


@pytest.mark.parametrize(
    ("kind", "perfect", "noise"),
    [
        ("clean", (0.9524, 1.0), (0.6206, 0.9880)),
        ("NaN", (0.8571, 1.0), (0.5603, 0.9890)),
        ("zero", (0.8571, 1.0), (0.5603, 0.9890)),
        ("x<=0", (0.8571, 1.0), (0.5603, 0.9890)),
    ],
)
def test_invalid_annotations_cost_what_the_matlab_toolkit_says(kind, perfect, noise):
    truth, clean, noisy = scenario(kind)
    assert measured(clean, truth) == perfect
    assert measured(noisy, truth) == noise


def test_thresholds_are_octaves_doubles_not_k_over_20():
    thresholds = OTB.curve("success").thresholds
    assert np.flatnonzero(thresholds != np.arange(21) / 20).tolist() == [3, 6, 7, 12, 14, 17, 19]
    assert OTB.curve("precision").thresholds.tolist() == list(range(51))


def test_success_is_strict_and_precision_is_not():
    assert metrics.count_above(np.array([0.5, 0.50001, np.nan]), np.array([0.0, 0.5, 1.0])).tolist() == [2, 1, 0]
    assert metrics.count_within(np.array([20.0, 20.00001, np.nan]), np.array([20.0, 21.0])).tolist() == [1, 2]


def test_a_broken_row_takes_the_row_before_it_already_repaired():
    truth = np.array([[10.0, 10, 5, 5]] * 5)
    result = truth + np.array([[9, 0, 0, 0], [1, 0, 0, 0], [np.nan] * 4, [0, 0, -9, 0], [np.nan, 0, 0, 0]])
    repaired = metrics.otb_repaired(result, truth)
    np.testing.assert_array_equal(repaired[:4], [truth[0], result[1], result[1], result[1]])
    np.testing.assert_array_equal(repaired[4], result[4])  # a single NaN is no broken row


box = st.tuples(*[st.floats(1, 300)] * 2, *[st.floats(0.5, 200)] * 2)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(box, box), min_size=1, max_size=20), st.floats(0, 100))
def test_overlap_and_error_agree_with_plain_geometry_and_ignore_a_common_shift(pairs, shift):
    a, b = (np.array(side) for side in zip(*pairs, strict=True))
    np.testing.assert_allclose(metrics.otb_overlap(a, b), B.iou(a, b), atol=1e-9)
    np.testing.assert_allclose(metrics.otb_centre_error(a, b), B.centre_error(a, b), atol=1e-9)
    moved = [boxes + np.array([shift, shift, 0, 0]) for boxes in (a, b)]
    np.testing.assert_allclose(metrics.otb_overlap(*moved), metrics.otb_overlap(a, b), atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(st.floats(-1, 1), st.just(np.nan), st.sampled_from(list(np.linspace(0, 1, 21))))))
def test_counts_equal_comparison_by_comparison(values):
    values, thresholds = np.array(values, float), np.linspace(0, 1, 21)
    assert metrics.count_above(values, thresholds).tolist() == (values[:, None] > thresholds).sum(0).tolist()
    assert metrics.count_within(values, thresholds).tolist() == (values[:, None] <= thresholds).sum(0).tolist()


def test_bootstrap_interval_has_the_width_of_the_normal_theory():
    values = np.random.default_rng(3).normal(0.6, 0.2, 100)
    low, high = metrics.bootstrap_interval(values, np.random.default_rng(0))
    half = 1.96 * values.std() / 10
    assert low == pytest.approx(values.mean() - half, abs=0.004)
    assert high == pytest.approx(values.mean() + half, abs=0.004)
    assert (low, high) == metrics.bootstrap_interval(values, np.random.default_rng(0))
    assert np.isnan(metrics.bootstrap_interval(values[:1], np.random.default_rng(0))).all()


def test_unknown_convention_names_the_near_ones():
    with pytest.raises(ValueError, match=r"'obt'; near: otb"):
        convention_named("obt")

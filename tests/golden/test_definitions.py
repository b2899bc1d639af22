"""One set of boxes under five published definitions, and ROLO's own by hand.

1000 boxes of which every tenth is affected. The MATLAB row was made with a port, the others with the toolkits' own
functions."""

import numpy as np
import pytest

from trackerlib.bench.conventions import CONVENTIONS

# AUC and precision at 20 px of the annotation itself, and of the annotation with noise
ANSWERS = {
    "clean": {
        "otb": (0.9524, 1.0, 0.6206, 0.9880),
        "got10k-otb": (0.9524, 1.0, 0.6206, 0.9880),
        "got10k-uav": (0.9524, 1.0, 0.6206, 0.9880),
        "pysot": (0.9524, 1.0, 0.6203, 0.9880),
        "rolo": (1.0, None, 0.6606, None),
    },
    "NaN": {
        "otb": (0.8571, 1.0, 0.5603, 0.9890),
        "got10k-otb": (0.8571, 0.9, 0.5603, 0.8890),
        "got10k-uav": (0.9524, 1.0, 0.6225, 0.9878),
        "pysot": (0.8571, 1.0, 0.5600, 0.9890),
        "rolo": (0.9, None, 0.5969, None),
    },
    "zero": {
        "otb": (0.8571, 1.0, 0.5603, 0.9890),
        "got10k-otb": (0.8571, 0.9, 0.5603, 0.8890),
        "got10k-uav": (0.8571, 0.9, 0.5603, 0.8890),
        "pysot": (0.8571, 1.0, 0.5600, 0.9890),
        "rolo": (0.9, None, 0.5969, None),
    },
    "x<=0": {
        "otb": (0.8571, 1.0, 0.5603, 0.9890),
        "got10k-otb": (0.9524, 1.0, 0.6206, 0.9880),
        "got10k-uav": (0.9524, 1.0, 0.6206, 0.9880),
        "pysot": (0.8571, 1.0, 0.5600, 0.9880),
        "rolo": (1.0, None, 0.6608, None),
    },
}


def scenario(kind):
    """Annotation, the same boxes as a result, and those with noise."""
    rng = np.random.default_rng(0)
    columns = [rng.integers(*limits, 1000) for limits in ((40, 200), (40, 150), (20, 80), (20, 80))]
    result = np.stack(columns, 1).astype(float)
    truth, hit = result.copy(), np.arange(1000) % 10 == 5
    if kind == "NaN":
        truth[hit] = np.nan
    elif kind == "zero":
        truth[hit] = 0
    elif kind == "x<=0":
        result[hit, 0] = truth[hit, 0] = -truth[hit, 2] / 4
    rng = np.random.default_rng(1)
    noisy = result + np.hstack([rng.normal(0, 6, (1000, 2)), rng.normal(0, 5, (1000, 2))])
    noisy[:, 2:] = np.maximum(noisy[:, 2:], 4)
    return truth, result, noisy


@pytest.mark.parametrize("kind", ANSWERS)
@pytest.mark.parametrize("convention", ANSWERS["clean"])
def test_invalid_annotations_cost_what_each_definition_says(convention, kind):
    truth, *results = scenario(kind)
    rule, got = CONVENTIONS[convention], []
    for result in results:
        measured = rule.measured(rule.score(result, truth))
        got += [round(measured["success_auc"], 4), round(measured["precision_20"], 4) if rule.name != "rolo" else None]
    assert tuple(got) == ANSWERS[kind][convention]


def rolo(result, truth, name="rolo"):
    rule = CONVENTIONS[name]
    return rule.measured(rule.score(np.array([result], float), np.array([truth], float)))


def test_rolo_reaches_1_and_as_drawn_20_of_21():
    assert rolo([5, 6, 7, 8], [5, 6, 7, 8]) == {"success_auc": 1.0, "average_overlap": 1.0}
    assert rolo([5, 6, 7, 8], [5, 6, 7, 8], "rolo-drawn")["success_auc"] == pytest.approx(20 / 21)


def test_rolo_takes_corners_for_centres():
    """Both boxes lie in the large one and cover a quarter of it. With x, y as centres the first is concentric, which
    changes nothing; the second reaches from 5 to 15 where the large one reaches from -10 to 10: 5 x 5 are shared."""
    assert rolo([0, 0, 10, 10], [0, 0, 20, 20])["average_overlap"] == 0.25
    assert rolo([10, 10, 10, 10], [0, 0, 20, 20])["average_overlap"] == pytest.approx(25 / 475)


def test_rolo_drops_fractions_and_reads_nan_as_zero():
    assert rolo([10.9, 10.9, 8.9, 8.9], [10, 10, 8, 8])["average_overlap"] == 1
    assert rolo([np.nan, 0, 8, 8], [0.9, -0.9, 8, 8])["average_overlap"] == 1
    assert rolo([np.nan] * 4, [10, 10, 8, 8])["average_overlap"] == 0


def test_rolo_counts_an_overlap_that_reaches_the_threshold():
    curve = CONVENTIONS["rolo"].score(np.array([[0.0, 0, 10, 5]]), np.array([[0.0, 0, 10, 10]]))["success"]
    assert curve.tolist() == [1.0] * 10 + [0.0] * 10  # 0.5 lies below the threshold 0.5001
    np.testing.assert_allclose(CONVENTIONS["rolo"].curve("success").thresholds, [0.0001 + 0.05 * k for k in range(20)])

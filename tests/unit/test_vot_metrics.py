"""VOT's raster and the measures of the supervised experiment: closed forms, definitions spelled out, faulty files."""

import json

import numpy as np
import pytest

from trackerlib.bench import raster as R
from trackerlib.bench import supervised as S
from trackerlib.bench.vot import SUPERVISED, score_supervised, speeds
from trackerlib.data import Dataset, Sequence
from trackerlib.data.formats import FAILURE, INIT, REGION, UNKNOWN, Trajectory, format_trajectory
from trackerlib.data.sequence import NoFrames

RASTERS = [R.LEGACY, R.TRAX, R.PYTHON]


def iou(a, b, less=0):
    """Of upright rectangles `(T, 4)`, each `less` shorter and narrower."""
    a, b = ([*r[:, :2].T, *(r[:, :2] + r[:, 2:] - less).T] for r in (a, b))
    sides = [np.maximum(np.minimum(a[i + 2], b[i + 2]) - np.maximum(a[i], b[i]), 0) for i in (0, 1)]
    shared = sides[0] * sides[1]
    return shared / (sum((r[2] - r[0]) * (r[3] - r[1]) for r in (a, b)) - shared)


def rectangles(rng, count):
    return np.concatenate([rng.integers(0, 30, (count, 2)), rng.integers(2, 30, (count, 2))], 1).astype(float)


def quadrangles(rng, count):
    """Rotated rectangles, and among them any four points, `(count, 8)`."""
    centre, turn = rng.uniform(0, 60, (count, 1, 2)), rng.uniform(0, 2 * np.pi, count)
    u, v = np.stack([np.cos(turn), np.sin(turn)], 1), np.stack([-np.sin(turn), np.cos(turn)], 1)
    a, b = rng.uniform(1, 25, (2, count, 1))
    rotated = centre + np.stack([-a * u - b * v, a * u - b * v, a * u + b * v, -a * u + b * v], 1)
    any_four = centre + rng.uniform(-20, 20, (count, 4, 2))
    return np.where(rng.random((count, 1, 1)) < 0.7, rotated, any_four).reshape(count, 8)


@pytest.mark.parametrize(("raster", "less"), [(R.LEGACY, 1), (R.TRAX, 0), (R.PYTHON, 0)])
def test_rectangles_on_whole_pixels(raster, less):
    """The older rule loses a row and a column of each; the newer one still asks whether those would touch."""
    a, b = (rectangles(np.random.default_rng(k), 300) for k in (0, 1))
    expected = np.where(iou(a, b, 1) > 0, iou(a, b, less), 0) if raster is R.TRAX else iou(a, b, less)
    np.testing.assert_allclose(R.raster_overlap(a, b, raster=raster), expected, rtol=1e-6)


@pytest.mark.parametrize("raster", RASTERS)
def test_rectangles_as_polygons(raster):
    a, b = (rectangles(np.random.default_rng(k), 100) for k in (0, 1))
    x, y, w, h = a.T
    corners = np.stack([x, y, x + w - 1, y, x + w - 1, y + h - 1, x, y + h - 1], 1)
    np.testing.assert_array_equal(R.raster_overlap(corners, b, raster=raster), R.raster_overlap(a, b, raster=raster))
    turned = np.roll(corners, 2, 1)  # begins at another corner: no longer recognised as a rectangle
    np.testing.assert_array_equal(R.raster_overlap(turned, b, raster=raster), R.raster_overlap(a, b, raster=raster))


@pytest.mark.parametrize("bounds", [None, (50, 40)])
@pytest.mark.parametrize("raster", RASTERS)
def test_two_nodes_a_row_are_as_good_as_every_edge(raster, bounds, monkeypatch):
    """The quick way through simple polygons and rectangles, against the way that serves any polygon."""
    rng = np.random.default_rng(2)
    a, b = quadrangles(rng, 400), quadrangles(rng, 400)
    a[::3, 4:] = np.nan
    a[::3, :4] = rectangles(rng, 134) + 0.37
    quick = R.raster_overlap(a, b, bounds, raster)
    monkeypatch.setattr(R, "_simple", lambda y, rows, raster: np.zeros(y.shape[1], bool))
    monkeypatch.setattr(R, "_is_box", lambda vertices: np.zeros(vertices.shape[2], bool))
    np.testing.assert_array_equal(quick, R.raster_overlap(a, b, bounds, raster))
    assert 0.2 < (quick > 0).mean() < 0.9


@pytest.mark.parametrize("raster", RASTERS)
def test_overlap_is_symmetric_and_each_pair_is_alone(raster, monkeypatch):
    rng = np.random.default_rng(3)
    a, b = quadrangles(rng, 60), quadrangles(rng, 60)
    together = R.raster_overlap(a, b, (50, 40), raster)
    np.testing.assert_array_equal(together, R.raster_overlap(b, a, (50, 40), raster))
    alone = [R.raster_overlap(p[None], q[None], (50, 40), raster)[0] for p, q in zip(a, b, strict=True)]
    np.testing.assert_array_equal(together, alone)
    monkeypatch.setattr(R, "_ROWS", 64)
    np.testing.assert_array_equal(together, R.raster_overlap(a, b, (50, 40), raster))


def test_bounds_cut_and_may_differ_by_frame():
    a, b = np.array([[-5.0, 0, 20, 10]] * 3), np.array([[0.0, 0, 40, 10]] * 3)
    bounds = np.array([[99, 99], [19, 99], [9, 99]])
    np.testing.assert_allclose(R.raster_overlap(a, b, bounds, R.PYTHON), [15 / 40, 15 / 20, 1])
    assert R.raster_overlap(a[:1], b[:1], raster=R.PYTHON) == pytest.approx(15 / 45)


def test_regions_that_are_none_or_huge():
    small = np.array([[100.0, 100, 51, 41]] * 5)
    nan, inf = np.full(4, np.nan), np.array([0, 0, np.inf, np.inf])
    others = np.array([nan, inf, [0, 0, 1e9, 1e9], [-1e4, -1e4, 2e4 + 1, 2e4 + 1], [500, 500, 10, 10]])
    found = R.raster_overlap(others, small)
    np.testing.assert_allclose(found, [np.nan, np.nan, 0, 50 * 40 / 4e8, 0])
    beyond = np.array([[-1e12, -1e12, 2e12, 2e12]])
    assert R.raster_overlap(beyond, small[:1], (199, 199)) == pytest.approx(50 * 40 / (199 * 200))  # a column is lost
    tilted = np.array([[100.0, 100, 150, 101, 151, 141, 101, 140]])
    assert R.raster_overlap(np.array([[-3e6, -3e6, 3e6, -2.9e6, 3.1e6, 3e6, -2.9e6, 3.1e6]]), tilted) < 1e-9


@pytest.mark.slow
def test_raster_of_vot_toolkit():
    shapes = pytest.importorskip("vot.region.shapes", reason="needs vot-toolkit 0.9.0 (attributee<0.1.10)")
    overlap = pytest.importorskip("vot.region.raster").calculate_overlap
    rng = np.random.default_rng(4)
    a, b = np.round(quadrangles(rng, 3000), 2), np.round(quadrangles(rng, 3000))
    theirs = [
        overlap(*(shapes.Polygon(r.reshape(4, 2).tolist()) for r in pair), (50, 40)) for pair in zip(a, b, strict=True)
    ]
    np.testing.assert_array_equal(R.raster_overlap(a, b, (49, 39), R.PYTHON), theirs)


CODES = np.array([1, -1, -1, 2, 0, 0, 0, 0, 1, -1, -1, 2, 0, 0, 0, 0])


def test_fragments_of_the_three_toolkits():
    """Failures at frames 3 and 11 of 16: the second restart would be frame 16, the first that there is not."""
    assert S.matlab_fragments(CODES) == [(0, 9, True), (8, 16, False)]
    assert S.pysot_fragments(CODES) == [(0, 9, True), (8, 17, True)]
    assert S.python_fragments(CODES) == [(0, 3, True), (8, 11, True)]
    calm = np.array([INIT, REGION, REGION])
    assert {tuple(f(calm)) for f in (S.matlab_fragments, S.pysot_fragments, S.python_fragments)} == {((0, 3, False),)}


def runs_of(codes, overlap) -> S.Runs:
    codes = np.array(codes, np.int8)
    overlap = np.where(codes == REGION, overlap, np.nan)
    return S.Runs(codes, np.full(len(codes), codes.shape[1]), overlap, overlap)


def test_expected_overlap_is_what_its_definition_says():
    """Mean over the fragments that have one of the mean overlap of frames 2 ... L, spelled out."""
    rng, longest = np.random.default_rng(5), 40
    codes = np.full((4, 30), REGION)
    codes[:, 0] = INIT
    for run, failures in enumerate([(), (4,), (7, 13), (2, 20, 26)]):
        for f in failures:
            codes[run, f : f + 6] = [FAILURE, 0, 0, 0, 0, INIT][: 30 - f]
    runs = runs_of(codes, rng.random((4, 30)))
    sums, weights = S.expected_overlap(runs, S.matlab_fragments, longest)
    for length in range(2, longest + 1):
        means = []
        for run in range(4):
            for start, stop, lost in S.matlab_fragments(codes[run]):
                values = np.nan_to_num(runs.expected[run, start:stop])
                if lost:
                    values = np.append(values, np.zeros(longest))
                if len(values) >= length:
                    means.append(values[1:length].mean())
        assert weights[length - 1] == pytest.approx(len(means) / 4)
        if means:
            assert sums[length - 1] / weights[length - 1] == pytest.approx(np.mean(means))


def test_burn_in_counts_frames_of_the_tag():
    """The tag is on every second of 30 frames: ten of its frames are twenty of the sequence's."""
    codes = np.full((1, 30), REGION)
    codes[0, 0] = INIT
    runs = runs_of(codes, 0.5)
    assert np.isfinite(S.frame_accuracy(runs)).sum() == 20
    even, odd = np.arange(30) % 2 == 0, np.arange(30) % 2 == 1
    assert np.isfinite(S.frame_accuracy(runs, even)).sum() == 5
    assert np.isfinite(S.frame_accuracy(runs, odd)).sum() == 15  # the start is no frame of this tag


def test_accuracy_is_averaged_over_runs_first():
    codes = np.full((2, 12), REGION)
    codes[:, 0] = INIT
    codes[1, 11] = UNKNOWN
    runs = runs_of(codes, np.array([[0.2] * 12, [0.6] * 12]))
    np.testing.assert_allclose(S.frame_accuracy(runs), [*[np.nan] * 10, 0.4, 0.2])


def test_interval_holds_half_of_the_lengths():
    lengths = np.random.default_rng(6).integers(50, 400, 60)
    low, high, peak = S.evaluation_interval(lengths)
    assert 50 <= low < peak < high <= 400
    assert 0.35 < ((lengths >= low) & (lengths <= high)).mean() < 0.65
    assert S.evaluation_interval(lengths, mass=1.0)[:2] == (1, lengths.max())


def test_speed_without_failure_is_the_ratio_of_times():
    assert S.normalised_speed(np.array([0.02, 0.02]), np.zeros(2), 100, unit=0.2) == pytest.approx((50, 10))
    slow = S.normalised_speed(np.array([0.02]), np.array([5]), 100, unit=0.2)  # 20 of 100 frames were not tracked
    assert slow == pytest.approx((50, 8))
    with pytest.raises(ValueError, match="one lane"):
        S.normalised_speed(np.array([0.02, np.nan]), np.zeros(2), 100, unit=0.2)


def test_rank_tests():
    """Values of scipy 1.17: wilcoxon(correction=False, method="asymptotic"), mannwhitneyu(method="asymptotic")."""
    rng = np.random.default_rng(7)
    differences, a, b = rng.normal(0.3, 1, 40), rng.poisson(2.0, 30), rng.poisson(3.0, 25)
    differences[:6] = [0, 0, 0.5, -0.5, 0.5, 1]
    assert S.signed_rank_p(differences) == pytest.approx(0.913382708641, rel=1e-9)
    assert S.rank_sum_p(a, b) == pytest.approx(0.0638536017994, rel=1e-9)
    assert S.signed_rank_p(np.zeros(5)) == S.rank_sum_p(np.ones(5), np.ones(5)) == 1
    scipy = pytest.importorskip("scipy.stats")
    assert S.signed_rank_p(differences) == pytest.approx(
        scipy.wilcoxon(differences, correction=False, method="asymptotic").pvalue
    )
    assert S.rank_sum_p(a, b) == pytest.approx(scipy.mannwhitneyu(a, b, method="asymptotic").pvalue)


def test_practical_difference_makes_trackers_equal():
    differences = np.random.default_rng(8).normal(0.05, 0.01, 100)
    assert S.accuracies_differ(differences, None, 0.05)
    assert S.accuracies_differ(differences, np.full(100, 0.04), 0.05)
    assert not S.accuracies_differ(differences, np.full(100, 0.06), 0.05)
    assert S.accuracies_differ(np.zeros(24), None, 0.05)  # too few to call them equal


def test_adapted_rank_is_the_mean_over_those_that_do_not_differ():
    differ = np.array([[0, 0, 1], [0, 0, 0], [1, 0, 0]], bool)
    np.testing.assert_allclose(S.adapted_ranks(np.array([0.1, 0.2, 0.3]), differ), [1.5, 2, 2.5])


FRAMES = 60


@pytest.fixture
def dataset():
    boxes = np.tile([10.0, 10, 40, 30], (FRAMES, 1))
    sequences = [
        Sequence(
            name,
            NoFrames(FRAMES, "nowhere"),
            boxes,
            origin=0,
            size=(100, 80),
            tags={"occlusion": np.arange(FRAMES) > 30},
        )
        for name in ("a", "b", "c")
    ]
    return Dataset("made", sequences, layout="vot")


def write(folder, sequence, shift=0.0, failures=(), repetition=1, rows=FRAMES):
    codes = np.full(FRAMES, REGION, np.int8)
    codes[0] = INIT
    for f in failures:
        codes[f : f + 6] = [FAILURE, 0, 0, 0, 0, INIT]
    boxes = np.where(codes[:, None] == REGION, [10.0 + shift, 10, 40, 30], np.nan)
    path = folder / f"baseline/{sequence}/{sequence}_{repetition:03d}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(format_trajectory(Trajectory(boxes[:rows], codes[:rows])))
    return path


@pytest.fixture
def folders(tmp_path):
    for name in "abc":
        write(tmp_path / "exact", name)
        write(tmp_path / "shifted", name, shift=10, failures=(20,) if name == "a" else ())
    return [tmp_path / "exact", tmp_path / "shifted"]


@pytest.fixture
def scores(folders, dataset, monkeypatch):
    monkeypatch.setitem(SUPERVISED, "short", S.Supervised("short", "made up", (10, 50)))
    return score_supervised(folders, dataset, "short")


def test_means_of_made_up_runs(scores):
    perfect = {"eao": 1, "accuracy": 1, "failures": 0, "robustness": 0, "reliability": 1}
    assert scores.mean("exact") == pytest.approx(perfect)
    shifted = scores.mean("shifted")
    assert shifted["accuracy"] == pytest.approx(30 / 50)
    assert shifted["failures"] == 1
    assert shifted["robustness"] == pytest.approx(1 / (3 * FRAMES))
    assert shifted["reliability"] == pytest.approx(np.exp(-30 / (3 * FRAMES)))
    lengths, curve = scores.eao_curve("shifted")
    # b and c survive all the way, a's first fragment has 19 frames and then zeros, its second ends after 35
    assert curve[49] == pytest.approx((0.6 + 0.6 + 0.6 * 19 / 49) / 3)
    assert (lengths[0], lengths[-1], curve[0]) == (1, FRAMES, 1)
    tags = scores.tags().set_index(["tag", "tracker", "metric"]).value
    assert tags["all", "shifted", "failures"] == tags["empty", "shifted", "failures"] == 1
    assert tags["occlusion", "shifted", "failures"] == 0
    assert "camera_motion" not in tags.index.unique("tag")  # no frame has it
    assert scores.averages().set_index(["average", "tracker", "metric"]).value["mean", "shifted", "failures"] == 0.5


def test_summary_intervals_hold_the_mean_and_repeat(scores):
    summary = scores.summary(seed=3)
    assert summary.tracker[0] == "exact"
    of = summary[summary.tracker == "shifted"]
    assert ((of.low <= of["mean"] + 1e-12) & (of["mean"] <= of.high + 1e-12)).all()
    assert of.set_index("metric").high["failures"] == 3
    assert summary.equals(scores.summary(seed=3))


def test_unseen_leaves_sequences_out_of_eao_too(folders, dataset, monkeypatch):
    monkeypatch.setitem(SUPERVISED, "short", S.Supervised("short", "made up", (10, 50)))
    (folders[1] / "manifest.json").write_text(json.dumps({"seen": ["a"], "layout": "vot"}))
    scores = score_supervised(folders[1], dataset, "short")
    assert scores.mean("shifted", unseen=True)["eao"] == pytest.approx(0.6)
    assert scores.json()["trackers"]["shifted"]["seen"] == ["a"]
    assert scores.frame[scores.frame.seen].sequence.unique().tolist() == ["a"]


def test_json_has_null_where_there_is_no_number(folders, dataset):
    """VOT2018's interval begins at 100; no sequence is that long."""
    scores = score_supervised(folders, dataset, "vot2018")
    assert scores.json()["trackers"]["exact"]["mean"]["eao"] is None
    assert "NaN" not in json.dumps(scores.json())


def test_ranking_parts_what_differs(scores):
    ranks = scores.ranking().set_index("tracker")
    assert ranks.accuracy_rank.to_dict() == {"exact": 1, "shifted": 2}
    assert ranks.robustness_rank["exact"] < ranks.robustness_rank["shifted"]


def test_short_files_are_scored_and_named(folders, dataset):
    write(folders[0], "a", rows=50)
    for convention in ("vot2015", "vot-python"):
        scores = score_supervised(folders[0], dataset, convention)
        assert scores.notes == ("exact: a_001.txt has 50 rows for 60 frames",)
        assert scores.mean("exact")["accuracy"] == pytest.approx(1)


def test_faulty_results_are_refused_by_name(folders, dataset, tmp_path):
    path = folders[0] / "baseline/b/b_001.txt"
    path.write_text(path.read_text() + "1,2,3,4\n")
    with pytest.raises(ValueError, match=r"b_001\.txt: 61 rows for the 60 frames of b"):
        score_supervised(folders[0], dataset)
    path.write_text("1\n" + "0,0,9,0,9,9,0,9,4,4\n" * 59)
    with pytest.raises(ValueError, match=r"b_001\.txt: polygons of 5 corners"):
        score_supervised(folders[0], dataset)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"no result for 1 of the 3 sequences of made: b"):
        score_supervised(folders[0], dataset)
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat/a.txt").write_text("1,2,3,4\n" * FRAMES)
    with pytest.raises(ValueError, match="not supervised results"):
        score_supervised(tmp_path / "flat", dataset)
    with pytest.raises(ValueError, match="no supervised convention is called 'vot208'; near: vot2018"):
        score_supervised(folders[1], dataset, "vot208")


def test_speed_is_read_from_the_toolkits_files(folders, dataset):
    for name in "abc":
        (folders[0] / f"baseline/{name}/{name}_time.txt").write_text("0.05,0\n" * FRAMES)
    with pytest.raises(FileNotFoundError, match="nonlinear_native"):
        speeds(folders[0], dataset)
    (folders[0] / "performance.txt").write_text("reading=1\nnonlinear_native=0.25\n")
    assert speeds(folders[0], dataset)[["fps", "efo"]].mean().tolist() == pytest.approx([20, 5])
    (folders[0] / "baseline/b/b_time.txt").write_text("NaN,0\n" * FRAMES)
    with pytest.raises(ValueError, match="b: times were not measured"):
        speeds(folders[0], dataset)


def test_paired_differences_are_those_of_the_means(scores):
    a, b = scores.trackers[:2]
    for metric in ("accuracy", "failures"):
        paired = scores.paired(a, b, metric)
        assert paired.difference == pytest.approx(scores.mean(a)[metric] - scores.mean(b)[metric])
        assert paired.low <= paired.difference <= paired.high
        assert scores.paired(b, a, metric).difference == pytest.approx(-paired.difference)
        assert 0 < paired.p <= 1
    assert scores.paired(a, a, "accuracy").p == 1

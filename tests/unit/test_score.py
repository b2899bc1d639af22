import json

import numpy as np
import pandas as pd
import pytest

from trackerlib.bench.results import RunSet
from trackerlib.bench.score import score
from trackerlib.data.sequence import Dataset, NoFrames, Sequence

TRUTH = np.tile([10.0, 20, 40, 30], (10, 1))


@pytest.fixture
def dataset():
    return Dataset("mine", [Sequence(name, NoFrames(10, ""), TRUTH) for name in ("Alpha-1", "Beta")])


def stored(root, name, shifts, **manifest):
    """A run set of the annotation moved right by a number of pixels, a sequence each, but for the first frame."""
    runs = RunSet.open(root, {"tracker": name, "key": "0" * 16, **manifest})
    for run, shift in shifts.items():
        runs.write(run, TRUTH + shift * np.array([1, 0, 0, 0]))
    return runs


def auc(shift):
    """Of nine frames out of ten at overlap (40 - s) / (40 + s), and the first at 1."""
    overlap = (40 - shift) / (40 + shift)
    return np.mean([(0.9 * (overlap > t)) + 0.1 * (t < 1) for t in np.linspace(0, 1, 21)])


def test_the_json_object_is_the_one_others_rely_on(tmp_path, dataset):
    runs = stored(tmp_path, "moved", {"Alpha-1": 10, "Beta": 25})
    value = json.loads(json.dumps(score([runs], dataset).json()))
    assert set(value) == {"convention", "dataset", "protocol", "trackers"}
    assert (value["convention"], value["dataset"], value["protocol"]) == ("otb", "mine", "OPE")
    (name, got), *others = value["trackers"].items()
    assert (name, others, set(got)) == ("moved-00000000", [], {"mean", "sequences"})
    assert set(got["sequences"]) == {"Alpha-1", "Beta"}
    assert got["sequences"]["Alpha-1"]["success_auc"] == pytest.approx(auc(10))
    assert got["sequences"]["Beta"]["precision_20"] == pytest.approx(0.1)
    assert got["mean"]["success_auc"] == pytest.approx((auc(10) + auc(25)) / 2)
    assert got["mean"]["precision_20"] == pytest.approx(0.55)


def test_somebody_elses_folder_under_their_names_and_delimiters(tmp_path, dataset):
    folder = tmp_path / "THEIRS"
    folder.mkdir()
    for name in ("alpha.1", "BETA"):
        (folder / f"{name}.txt").write_text("11\t21\t40\t30\n" * 10)
    scores = score(folder, dataset)
    assert scores.trackers == ["THEIRS"]
    assert scores.mean("THEIRS")["success_auc"] == pytest.approx(20 / 21)


def test_frame_is_tidy_and_curves_have_their_thresholds(tmp_path, dataset):
    scores = score(
        [stored(tmp_path, "a", {"Alpha-1": 0, "Beta": 0}), stored(tmp_path, "b", {"Alpha-1": 5, "Beta": 9})], dataset
    )
    assert list(scores.frame) == ["tracker", "sequence", "seen", "metric", "value"]
    assert len(scores.frame) == 2 * 2 * 3
    assert scores.curves["b-00000000"]["Beta"]["success"].shape == (21,)
    assert scores.curves["b-00000000"]["Beta"]["precision"].shape == (51,)


def test_what_was_seen_in_training_is_left_out_of_the_second_mean(tmp_path, dataset):
    half = stored(tmp_path, "half", {"Alpha-1": 0, "Beta": 20}, seen=["Alpha-1", "Elsewhere"])
    all_seen = stored(tmp_path, "all", {"Alpha-1": 0, "Beta": 20}, seen=["Alpha-1", "Beta"])
    scores = score([half, all_seen], dataset)
    value = scores.json()["trackers"]
    assert value["half-00000000"]["seen"] == ["Alpha-1"]
    assert value["half-00000000"]["mean_unseen"]["success_auc"] == pytest.approx(auc(20))
    assert value["half-00000000"]["mean"]["success_auc"] == pytest.approx((auc(0) + auc(20)) / 2)
    assert value["all-00000000"]["mean_unseen"]["success_auc"] is None
    assert scores.frame.groupby("tracker").seen.sum().to_dict() == {"all-00000000": 6, "half-00000000": 3}


def test_summary_ranks_and_brackets_the_mean(tmp_path, dataset):
    scores = score(
        [stored(tmp_path, "bad", {"Alpha-1": 15, "Beta": 20}), stored(tmp_path, "good", {"Alpha-1": 0, "Beta": 9})],
        dataset,
    )
    summary = scores.summary(seed=1)
    assert summary.tracker.tolist() == ["good-00000000"] * 3 + ["bad-00000000"] * 3
    success = summary[summary.metric == "success_auc"].set_index("tracker")
    assert success.loc["bad-00000000", ["low", "high"]].tolist() == pytest.approx([auc(20), auc(15)])
    assert (success.sequences == 2).all()
    pd.testing.assert_frame_equal(summary, scores.summary(seed=1))


def test_faults_name_folder_file_and_counts(tmp_path, dataset):
    runs = stored(tmp_path, "part", {"Alpha-1": 0})
    runs.fail("Beta", "Traceback")
    with pytest.raises(
        FileNotFoundError, match=r"part-00000000: no result for 1 of the 2 runs on mine: Beta; 1 failed"
    ):
        score(runs, dataset)
    (runs.folder / "Beta.txt").write_text("1,2,3,4\n" * 9)
    with pytest.raises(ValueError, match=r"Beta\.txt: 9 rows for the 10 frames of Beta"):
        score(runs.folder, dataset)
    (runs.folder / "Beta.txt").write_text("1,2,3,4\n1,2,3\n")
    with pytest.raises(ValueError, match=r"Beta\.txt, line 2: 3 numbers"):
        score(runs.folder, dataset)
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such result folder"):
        score(tmp_path / "nowhere", dataset)
    with pytest.raises(ValueError, match="two result folders have one name"):
        score([runs, runs.folder], dataset)


@pytest.fixture
def long():
    """60 frames, of which TRE with three segments starts at 0, 20 and 40."""
    return Dataset("long", [Sequence("A", NoFrames(60, ""), TRUTH.repeat(6, 0), attributes=("OCC",))])


def tre(root, name, shifts, **manifest):
    runs = RunSet.open(root, {"tracker": name, "key": "1" * 16, "protocol": "TRE"} | manifest)
    for (run, length), shift in zip((("A_01", 60), ("A_02", 40), ("A_03", 20)), shifts, strict=True):
        runs.write(run, TRUTH[:1].repeat(length, 0) + shift * np.array([1, 0, 0, 0]))
    return runs


def test_tre_pools_the_frames_of_its_segments_but_rolo_averages_them(tmp_path, long):
    """Segments of 60, 40 and 20 frames, the first frame of each being the annotation's (ROLO: the tracker's own)."""
    runs = tre(tmp_path, "t", (0, 40, 0), protocol_parameters={"segments": 3})
    scores = score(runs, long)
    assert scores.protocol == "TRE"
    assert scores.frames["t-11111111"] == {"A": 120}
    assert scores.mean("t-11111111")["success_50"] == pytest.approx((60 + 1 + 20) / 120)
    assert score(runs, long, "rolo").mean("t-11111111")["success_auc"] == pytest.approx(2 / 3)


def test_protocols_are_not_mixed(tmp_path, long):
    short = tre(tmp_path, "t", (0, 0, 0), protocol_parameters={"segments": 3})
    with pytest.raises(ValueError, match="protocols TRE: score each apart"):
        score([short, tre(tmp_path / "other", "u", (0, 0, 0))], long)
    supervised = RunSet.open(tmp_path, {"tracker": "v", "key": "2" * 16, "protocol": "supervised"})
    with pytest.raises(ValueError, match="convention otb is not for the protocol supervised"):
        score(supervised, long, "otb")


def test_an_attribute_of_one_sequence_has_no_mean(tmp_path):
    labels = {"A": ("OCC", "SV"), "B": ("OCC",), "C": ()}
    dataset = Dataset("d", [Sequence(n, NoFrames(10, ""), TRUTH, attributes=a) for n, a in labels.items()])
    table = score(stored(tmp_path, "t", {"A": 0, "B": 40, "C": 0}), dataset).by_attribute()
    (row,) = table.to_dict("records")
    assert (row["attribute"], row["metric"], row["sequences"]) == ("OCC", "success_auc", 2)
    assert row["mean"] == pytest.approx((auc(0) + auc(40)) / 2)
    assert (row["low"], row["high"]) == pytest.approx((auc(40), auc(0)))


def test_two_trackers_are_compared_sequence_by_sequence(tmp_path):
    names = [f"S{i}" for i in range(12)]
    dataset = Dataset("d", [Sequence(n, NoFrames(10, ""), TRUTH) for n in names])
    better = stored(tmp_path, "a", {n: i for i, n in enumerate(names)})
    worse = stored(tmp_path, "b", {n: i + 12 for i, n in enumerate(names)})
    scores = score([better, worse], dataset)
    forth, back = scores.paired("a-00000000", "b-00000000"), scores.paired("b-00000000", "a-00000000", "success_auc")
    differences = [auc(i) - auc(i + 12) for i in range(12)]
    assert forth.difference == pytest.approx(np.mean(differences))
    assert min(differences) < forth.low < forth.difference < forth.high < max(differences)
    assert forth.p == pytest.approx(2 / 4096, abs=5e-4)  # all signs alike
    assert (back.difference, back.low, back.p) == pytest.approx((-forth.difference, -forth.high, forth.p))
    assert scores.paired("a-00000000", "a-00000000").p == 1


def test_got10k_weighs_frames_alike(tmp_path):
    long = Sequence("L", NoFrames(30, ""), TRUTH.repeat(3, 0), size=(99, 99), origin=0)
    dataset = Dataset("d", [long, Sequence("S", NoFrames(10, ""), TRUTH, size=(99, 99), origin=0)], layout="got10k")
    runs = RunSet.open(tmp_path, {"tracker": "t", "key": "3" * 16, "layout": "got10k"})
    runs.write("L", TRUTH.repeat(3, 0))
    runs.write("S", TRUTH + np.array([40, 0, 0, 0]))
    scores = score(runs, dataset, "got10k")
    assert scores.mean("t-33333333") == pytest.approx({"ao": 29 / 38, "sr_50": 29 / 38, "sr_75": 29 / 38})
    assert scores.summary().set_index("metric").loc["ao", ["low", "high"]].tolist() == [0, 1]


@pytest.mark.parametrize("layout", ["otb", "pysot", "got10k"])
def test_results_of_any_origin_are_judged_in_the_benchmarks_own(tmp_path, dataset, layout):
    runs = RunSet.open(tmp_path, {"tracker": "t", "key": "4" * 16, "layout": layout})
    for name in dataset:
        runs.write(name, TRUTH)
    assert score(runs, dataset).mean("t-44444444")["precision_20"] == 1
    assert score(runs, dataset).curves["t-44444444"]["Beta"]["precision"][0] == 1


def test_a_sequence_without_a_frame_that_counts_is_named(tmp_path):
    absent = np.array([False] + [True] * 9)
    dataset = Dataset("d", [Sequence("A", NoFrames(10, ""), TRUTH, absent=absent, size=(99, 99))])
    with pytest.raises(ValueError, match="A: no frame that counts under the got10k convention"):
        score(stored(tmp_path, "t", {"A": 0}), dataset, "got10k")


def test_a_target_at_the_first_pixel_counts_where_pixels_count_from_0(tmp_path):
    """OTB's rule wants four positive numbers of boxes that count from 1."""
    boxes = np.tile([0.0, 5, 10, 10], (6, 1))
    data = Dataset("zero", [Sequence("a", NoFrames(6, ""), boxes, raw=boxes, origin=0)])
    runs = RunSet.open(tmp_path, {"tracker": "exact", "key": "3" * 16, "layout": "otb"})
    runs.write("a", boxes)
    assert score(runs, data).mean("exact")["success_auc"] == pytest.approx(20 / 21)

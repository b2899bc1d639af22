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
    assert set(value) == {"convention", "dataset", "trackers"}
    assert (value["convention"], value["dataset"]) == ("otb", "mine")
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
        FileNotFoundError, match=r"part-00000000: no result for 1 of the 2 sequences of mine: Beta; 1 failed"
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

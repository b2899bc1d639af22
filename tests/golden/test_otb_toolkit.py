"""Our `otb` numbers against the official MATLAB toolkit's, published curves, and scores of published result files."""

import json
from pathlib import Path

import numpy as np
import pytest

from trackerlib.bench import metrics
from trackerlib.bench.conventions import CONVENTIONS
from trackerlib.bench.score import score
from trackerlib.data import load_dataset
from trackerlib.data.formats import read_rows
from trackerlib.data.otb import entries, match_rows, otb_list

OTB = CONVENTIONS["otb"]
EDGES = json.loads((Path(__file__).parent / "otb_edge_cases.json").read_text())


@pytest.mark.parametrize("case", EDGES)
def test_edge_case_answers_as_the_matlab_toolkit(case, tmp_path):
    rows = {}
    for kind in ("truth", "result"):
        (tmp_path / f"{kind}.txt").write_text(EDGES[case][kind])
        rows[kind] = read_rows(tmp_path / f"{kind}.txt")
    matlab = EDGES[case]["otb_matlab"]
    if "error" in matlab:  # the toolkit reads past the end of a short result; we say so
        with pytest.raises(ValueError, match=r"7 result rows for 10"):
            OTB.score(rows["result"], rows["truth"])
        return
    overlap, error = OTB.frames(rows["result"], rows["truth"])
    np.testing.assert_allclose(overlap, np.array(matlab["overlap"], float), rtol=1e-5)
    np.testing.assert_allclose(error, np.array(matlab["err"], float), rtol=1e-5)
    got = OTB.measured(OTB.score(rows["result"], rows["truth"]))
    assert got["success_auc"] == pytest.approx(matlab["auc"], abs=6e-9)  # printed with eight decimals
    assert got["precision_20"] == pytest.approx(matlab["p20"], abs=6e-9)


@pytest.mark.real
def test_integer_counts_of_all_246_one_pass_files_equal_the_matlab_toolkits(shared):
    golden = shared / "golden" / "otb"
    answers = json.loads((golden / "golden_matlab_octave.json").read_text())["values"]
    jobs = {k: v for k, v in json.loads((golden / "jobs.json").read_text()).items() if k.startswith("OPE/")}
    assert len(jobs) == 246
    wrong = []
    for key, (sequence, file, first) in jobs.items():
        result = read_rows(golden / file)
        truth = read_rows(golden / "anno" / f"{sequence}.txt")[first - 1 :][: answers[key]["n"]]
        counts = OTB.counts(result, truth)
        same = [counts[c].tolist() == answers[key][f"{c}_counts"] for c in ("success", "precision")]
        wrong += [key] if not all(same) or len(truth) != answers[key]["n"] else []
    assert wrong == []


@pytest.mark.real
@pytest.mark.parametrize(("tracker", "auc", "p20"), [("MEEM", 0.458377, 0.684157), ("MUSTer", 0.518777, 0.703863)])
def test_published_tb50_curves_are_met_to_every_printed_digit(shared, tracker, auc, p20):
    golden = shared / "golden" / "otb"
    published = json.loads((golden / "published_scores.json").read_text())["scores"][f"OPE/tb50/{tracker}"]["ALL"]
    scores = score(golden / "results_OPE" / tracker, load_dataset("otb50", golden))
    for curve in ("success", "precision"):
        half_a_digit = 5e-7 + 1e-12
        np.testing.assert_allclose(scores.mean_curve(tracker, curve), published[curve], rtol=0, atol=half_a_digit)
    assert round(scores.mean(tracker)["success_auc"], 6) == auc
    assert round(scores.mean(tracker)["precision_20"], 6) == p20


@pytest.mark.real
def test_struck_differs_from_the_published_curve_by_its_thresholds_alone(shared):
    """The published curve was made with k / 20, which is not MATLAB's 0:0.05:1 to the last bit, and one frame's overlap
    is a threshold exactly. ClifBar's published run has 329 of 472 rows."""
    golden = shared / "golden" / "otb"
    published = json.loads((golden / "published_scores.json").read_text())["scores"]["OPE/tb50/STRUCK"]["ALL"]
    curves = []
    for name, sequence in load_dataset("otb50", golden).items():
        result, truth, _ = match_rows(sequence, read_rows(golden / "results_OPE" / "STRUCK" / f"{name}.txt"))
        overlap, _ = metrics.otb_frames(result, truth)
        curves.append(
            [metrics.count_above(overlap, at) / len(truth) for at in (np.arange(21) / 20, np.linspace(0, 1, 21))]
        )
    theirs, matlab = np.mean(curves, 0)
    np.testing.assert_allclose(theirs, published["success"], rtol=0, atol=5e-7 + 1e-12)
    assert np.flatnonzero(theirs != matlab).tolist() == [6]


@pytest.mark.real
@pytest.mark.parametrize(
    ("tracker", "auc", "p20"),
    [
        ("SiamFC-3s", 0.5821, 0.7705),
        ("SRDCF", 0.5976, 0.7881),
        ("KCF_GaussHog", 0.4771, 0.6954),
        ("DSST", 0.4705, 0.6934),
        ("Struck", 0.4294, 0.5837),
        ("TLD", 0.4056, 0.5457),
    ],
)
def test_published_otb100_result_files(shared, tracker, auc, p20):
    published = shared / "data" / "published" / "otb100"
    mean = score(published / "results" / tracker, load_dataset("otb100", published)).mean(tracker)
    assert (round(mean["success_auc"], 4), round(mean["precision_20"], 4)) == (auc, p20)


@pytest.mark.real
def test_lists_attributes_and_ranges_are_the_benchmarks(shared):
    meta = json.loads((shared / "golden" / "otb" / "meta.json").read_text())
    for ours, theirs in (("otb2013", "cvpr13"), ("otb50", "tb50"), ("otb100", "tb100")):
        assert otb_list(ours) == meta["lists"][theirs]
    columns = meta["matlab_att_columns"]
    for name, entry in entries().items():
        flags = (
            (shared / "data" / "published" / "otb100" / "anno" / "att" / f"{name}.txt").read_text().strip().split(",")
        )
        assert list(entry.attributes) == [c for c, flag in zip(columns, flags, strict=True) if flag == "1"]
    for name, (first, last) in meta["frame_ranges"].items():
        assert (entries()[name].first, entries()[name].last) == (first, last)

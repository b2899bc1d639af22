"""VOT's supervised experiment against the answers of the MATLAB toolkit, pysot-toolkit and vot-toolkit 0.9.

`vot2018` is the official report's: toolkit 7.0 rasterised by the newer rule (golden `bounded_nonlegacy`). The golden
`vot2018mode`, made from toolkit-legacy's defaults, has the older rule: our `vot2018-legacy`.
"""

import dataclasses
import functools
import json
from pathlib import Path

import numpy as np
import pytest

from trackerlib.bench.raster import LEGACY, raster_overlap
from trackerlib.bench.supervised import evaluation_interval, normalised_speed
from trackerlib.bench.vot import VotScores, score_supervised, speeds
from trackerlib.data import Dataset, load_dataset
from trackerlib.data.formats import read_trajectory

TRACKERS = ["ADT", "CCOT", "DSiam", "FoT", "KCF", "LGT", "MEEM", "SiamFC", "SiamRPN"]
MATLAB = {"vot2015": "vot2015mode", "vot2018-legacy": "vot2018mode", "vot2018": "bounded_nonlegacy"}
INTERVALS = {"eao_100_356": (100, 356), "eao_108_371": (108, 371)}


def sized(folder: Path) -> Dataset:
    """The folder's sequences; without images their sizes stand in a file of their own."""
    sizes = json.loads((folder / "image_sizes.json").read_text())
    found = load_dataset("vot", folder)
    return Dataset("vot", [dataclasses.replace(s, size=tuple(sizes[s.name])) for s in found.values()], layout="vot")


def over(scores: VotScores, interval: tuple[int, int]) -> VotScores:
    return dataclasses.replace(scores, convention=dataclasses.replace(scores.convention, interval=interval))


@pytest.fixture(scope="module")
def real(shared):
    """Scores of nine real trackers on eight sequences, by convention."""
    folder = shared / "golden/vot"
    dataset = sized(folder)
    return functools.cache(lambda name: score_supervised([folder / "results" / t for t in TRACKERS], dataset, name))


@pytest.fixture(scope="module")
def edges(shared):
    folder = shared / "golden/edge_vot"
    dataset = sized(folder)
    return functools.cache(lambda name: score_supervised(sorted((folder / "results").iterdir()), dataset, name))


@pytest.fixture(scope="module")
def official(shared):
    return json.loads((shared / "golden/vot/official_vot2018_report.json").read_text())


def golden(shared: Path, name: str) -> dict:
    return json.loads((shared / f"golden/vot/golden_{name}.json").read_text())["values"]


def test_legacy_raster_is_bit_exact(shared):
    """320 runs, each without bounds and cut at the last pixel: all 244,168 overlaps of the toolkit's C code."""
    folder = shared / "golden/vot"
    dataset, checked = sized(folder), 0
    with np.load(folder / "overlaps_legacy_c.npz") as found:
        for key in found:
            tracker, name, repetition = key.split("/")
            result = read_trajectory(folder / f"results/{tracker}/baseline/{name}/{name}_{repetition}.txt").rows
            truth, last = dataset[name].raw[: len(result)], np.array(dataset[name].size) - 1
            overlap = np.stack([raster_overlap(result, truth, bounds, LEGACY) for bounds in (None, last)])
            np.testing.assert_array_equal(overlap, found[key][:, : len(result)])
            checked += overlap.size
    assert checked > 244_000


@pytest.mark.parametrize("name", MATLAB)
@pytest.mark.parametrize("tracker", TRACKERS)
def test_matlab_expected_overlap(shared, real, name, tracker):
    answer, scores = golden(shared, f"matlab_octave_{MATLAB[name]}")[tracker], real(name)
    for key, interval in INTERVALS.items():
        assert over(scores, interval).mean(tracker)["eao"] == pytest.approx(answer[key], abs=1e-9)
    np.testing.assert_allclose(scores.eao_curve(tracker)[1], answer["curve"], atol=1e-8)


@pytest.mark.parametrize("name", MATLAB)
def test_matlab_by_tag_and_sequence(shared, real, name):
    scores = over(real(name), (100, 356))
    by_tag = scores.tags().pivot_table(index=["tracker", "tag"], columns="metric", values="value")
    by_sequence = scores.frame.pivot_table(index=["tracker", "sequence"], columns="metric", values="value")
    for tracker, answer in golden(shared, f"matlab_octave_{MATLAB[name]}").items():
        for key, (accuracy, failures, rate, _) in (answer["ar_tags"] | answer["ar_sequences"]).items():
            kind, _, of = key.partition("_")
            found = (by_tag if kind == "tag" else by_sequence).loc[tracker, of]
            assert [found.accuracy, found.failures, found.robustness] == pytest.approx(
                [accuracy, failures, rate], rel=1e-9, abs=1e-9
            ), (tracker, key)
        for tag, eao in answer["eao_100_356_per_tag"].items():
            if eao is not None:  # NaN where no fragment of some length has the tag; we leave such lengths out
                assert by_tag.eao[tracker, tag] == pytest.approx(eao, abs=1e-9), (tracker, tag)


@pytest.mark.parametrize("tracker", TRACKERS)
def test_pysot(shared, real, tracker):
    """Its curves are float32."""
    answer, scores = golden(shared, "pysot")[tracker], real("pysot-vot")
    for key, interval in INTERVALS.items():
        assert over(scores, interval).mean(tracker)["eao"] == pytest.approx(answer[key], abs=1e-8)
    mean = scores.mean(tracker)
    assert mean["accuracy"] == pytest.approx(answer["accuracy"], abs=1e-12)
    assert mean["failures"] == pytest.approx(answer["lost_number"])
    assert 100 * mean["robustness"] == pytest.approx(answer["robustness_percent"])


@pytest.mark.parametrize("tracker", TRACKERS)
def test_vot_toolkit(shared, real, tracker):
    """Its curves are float32. DSiam's basketball is 12 rows short, which the toolkit itself refuses."""
    answer, scores = golden(shared, "vot_toolkit_py")[tracker], real("vot-python")
    for key, interval in INTERVALS.items():
        assert over(scores, interval).mean(tracker)["eao"] == pytest.approx(answer[key], abs=2e-8)
    mean = scores.mean(tracker)
    assert mean["accuracy"] == pytest.approx(answer["accuracy"], abs=1e-12)
    assert mean["failures"] == pytest.approx(answer["failures_len_weighted"])
    assert mean["reliability"] == pytest.approx(answer["reliability_S30"])
    curve = scores.eao_curve(tracker)[1][: len(answer["curve"])]
    np.testing.assert_allclose(curve, answer["curve"], atol=2e-6)


@pytest.fixture(scope="module")
def challenge(shared):
    """Three trackers' raw results on all 60 sequences of VOT2018."""
    folder = shared / "data/published/vot2018"
    dataset = load_dataset("vot2018", folder)
    return score_supervised([folder / "results" / t for t in ("SiamFC", "DSiam", "KCF")], dataset, "vot2018")


def test_official_report_of_vot2018(challenge, official):
    """Every number to the last digit; the curves as printed, to eight."""
    assert {t: round(official["eao"][t], 4) for t in challenge.trackers} == {
        "SiamFC": 0.1875,
        "DSiam": 0.1952,
        "KCF": 0.1351,
    }
    for tracker in challenge.trackers:
        column, mean = official["trackers"].index(tracker), challenge.mean(tracker)
        assert mean["eao"] == pytest.approx(official["eao"][tracker], abs=1e-14)
        assert mean["accuracy"] == pytest.approx(official["accuracy"][0][column], abs=1e-14)
        assert mean["failures"] == official["failures"][0][column]
        np.testing.assert_allclose(challenge.eao_curve(tracker)[1], official["curve"][tracker], atol=6e-9)


def test_official_report_of_vot2018_by_tag(challenge, official):
    """All but `empty`: pysot's file of the annotation lacks a tag that 64 of the frames carry."""
    found = challenge.tags().pivot_table(index=["tracker", "tag"], columns="metric", values="value")
    for tracker in challenge.trackers:
        column = official["trackers"].index(tracker)
        for row, tag in enumerate(official["tags"]):
            if tag != "empty":
                values = [official[what][row][column] for what in ("accuracy", "failures", "failure_rate")]
                row_found = found.loc[tracker, tag]
                assert [row_found.accuracy, row_found.failures, row_found.robustness] == pytest.approx(
                    values, rel=1e-12
                )
    averages = challenge.averages().set_index(["average", "metric", "tracker"]).value
    for average in ("mean", "weighted_mean"):
        for tracker in challenge.trackers:
            answer = official[f"{average}_accuracy"][official["trackers"].index(tracker)]
            assert averages[average, "accuracy", tracker] == pytest.approx(answer, abs=5e-4)


def test_official_curves_average_to_the_official_eao(official):
    low, high = official["eao_interval"]
    for tracker, curve in official["curve"].items():
        assert np.mean(curve[low - 1 : high]) == pytest.approx(official["eao"][tracker], abs=1e-9)


def test_official_interval(official):
    interval = evaluation_interval(official["sequence_lengths"])
    assert interval == (*official["eao_interval"], official["eao_peak"]) == (100, 356, 160)


def test_efo_of_seven_trackers_on_60_sequences(shared):
    """420 official values, printed with four decimals; the means of each tracker too."""
    trackers = json.loads((shared / "golden/vot/efo_vot2018_60seq.json").read_text())["trackers"]
    checked = 0
    for about in trackers.values():
        found = []
        for s in about["sequences"].values():
            unit, startup = about["nonlinear_native"], about["startup"]
            found.append(normalised_speed(s["mean_time"], s["failures"], s["length"], unit, startup))
            assert found[-1] == pytest.approx((s["fps"], s["efo"]), rel=1e-7)
            assert found[-1][1] == pytest.approx(s["efo_official"], abs=5.01e-5)
            checked += 1
        printed = about["average_fps_official"], about["average_efo_official"]
        assert np.mean(found, 0) == pytest.approx(printed, abs=5.01e-5)
    assert checked == 420


def test_efo_from_raw_files(shared):
    folder = shared / "data/published/vot2018"
    dataset = load_dataset("vot2018", folder)
    trackers = json.loads((shared / "golden/vot/efo_vot2018_60seq.json").read_text())["trackers"]
    for tracker in ("SiamFC", "DSiam", "KCF"):
        found = speeds(folder / "results" / tracker, dataset)[["fps", "efo"]].mean()
        answer = trackers[tracker]
        assert found.fps == pytest.approx(answer["average_fps_official"], abs=5.01e-5)
        assert found.efo == pytest.approx(answer["average_efo_official"], abs=5.01e-5)


CASES = {
    "t01_plain": "no failure",
    "t02_fail_mid": "vot-toolkit: curve and interval end with the longest fragment; others: with the sequence",
    "t03_fail_last3": "MATLAB, pysot: a failure without a restart is forgiven in EAO",
    "t04_reinit_on_last": "a last fragment of one frame",
    "t05_reinit_just_past": "pysot: a restart one past the end counts; MATLAB forgives the failure",
    "t06_unknown": "MATLAB: EAO is NaN; pysot: lengths that no run has count as 0; vot-toolkit: overlap 0",
    "t07_short": "MATLAB, pysot: the rows that are there; vot-toolkit refuses (its answer here: filled up as unknown)",
    "t08_outside": "cut at the image by all",
    "t09_zero_area": "MATLAB, pysot: w = 0 still covers a column of pixels; vot-toolkit: nothing",
    "t10_polygon": "polygons",
    "t11_uneven_reps": "MATLAB, vot-toolkit: a sequence counts as the mean of its runs; pysot stops with a ValueError",
    "t12_fail_early": "failures within burn-in",
    "t13_nan_row": "MATLAB: EAO is NaN; pysot: overlap 0, in accuracy too; vot-toolkit: unknown",
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    ("name", "owner", "failures"),
    [
        ("vot2015", "matlab", "failures"),
        ("vot2018-legacy", "matlab", "failures"),
        ("pysot-vot", "pysot", "lost_number"),
        ("vot-python", "votpy", "failures_len_weighted"),
    ],
)
def test_edge_cases(shared, edges, case, name, owner, failures):
    assert set(CASES) == set(json.loads((shared / "golden/edge_vot/cases.json").read_text()))
    answer = json.loads((shared / "golden/edge_vot/edge_vot_values.json").read_text())[case][owner]
    scores = edges(name)
    if "error" in answer:  # pysot-toolkit stops; we share a sequence's weight among its runs, as MATLAB does
        assert (owner, case) == ("pysot", "t11_uneven_reps")
        assert scores.mean(case)["failures"] == pytest.approx(edges("vot2015").mean(case)["failures"])
        return
    for key, interval in INTERVALS.items():
        assert over(scores, interval).mean(case)["eao"] == pytest.approx(answer[key], abs=2e-8, nan_ok=True)
    mean = scores.mean(case)
    assert mean["accuracy"] == pytest.approx(answer["accuracy"], abs=1e-9)
    assert mean["failures"] == pytest.approx(answer[failures], abs=1e-9)
    if owner == "matlab":
        curve = scores.eao_curve(case)[1]
        assert [curve[99], curve[369]] == pytest.approx(
            [answer["curve_100"], answer["curve_370"]], abs=1e-8, nan_ok=True
        )

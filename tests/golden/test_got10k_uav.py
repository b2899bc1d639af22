"""GOT-10k's AO and SR, and UAV123's scores with absent targets, as the got10k toolkit and the MATLAB rule give them."""

import json

import numpy as np
import pytest

from trackerlib.bench.conventions import CONVENTIONS
from trackerlib.bench.metrics import Truth
from trackerlib.bench.score import score
from trackerlib.data.formats import read_rows
from trackerlib.data.sequence import Dataset, NoFrames, Sequence

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def golden(shared):
    return shared / "golden"


def measured(convention, result, truth):
    rule = CONVENTIONS[convention]
    return rule.measured(rule.score(result, truth))


def test_got10k_of_each_sequence_and_of_all_frames(golden):
    """On OTB's annotations, with image sizes and frames of cover 0 that the makers of the answers chose."""
    answers = json.loads((golden / "got10k" / "golden_got10k.json").read_text())
    for tracker, overall in answers["overall"].items():
        stated = {k.split("/")[1]: v for k, v in answers["sequences"].items() if k.startswith(f"{tracker}/")}
        dataset = Dataset("stated", [_stated(golden, name, *v["bound"]) for name, v in stated.items()])
        scores = score(golden / "otb" / "results_OPE" / tracker, dataset, "got10k")
        for name, v in stated.items():
            assert scores.frames[tracker][name] == v["frames"]
            assert scores.json()["trackers"][tracker]["sequences"][name] == pytest.approx(
                {"ao": v["ao"], "sr_50": v["sr50"], "sr_75": v["sr75"]}, abs=1e-12
            )
        pooled = {"ao": "ao", "sr_50": "sr50", "sr_75": "sr75"}
        assert scores.mean(tracker) == pytest.approx(
            {ours: overall[f"{theirs}_frame_pooled"] for ours, theirs in pooled.items()}, abs=1e-12
        )


def _stated(golden, name, width, height):
    rows = read_rows(golden / "otb" / "anno" / f"{name}.txt")
    absent = np.append(False, np.isin(np.arange(len(rows) - 1) % 37, (5, 6, 7)))
    return Sequence(name, NoFrames(len(rows), ""), rows, raw=rows, absent=absent, size=(width, height))


def test_uav_with_annotations_made_absent(golden):
    answers = json.loads((golden / "uav" / "golden_uav_nan.json").read_text())["values"]
    assert len(answers) == 24
    for key, answer in answers.items():
        truth = read_rows(golden / "otb" / "anno" / f"{key.split('/')[1]}.txt")
        truth[30:45] = truth[49::50] = np.nan
        result = read_rows(golden / "otb" / "results_OPE" / f"{key}.txt")
        for convention, toolkit in (("got10k-uav", "got10k"), ("uav", "matlab_rule")):
            got = measured(convention, result, Truth(truth))
            assert got["success_auc"] == pytest.approx(answer[f"{toolkit}_auc"], abs=1e-12)
            assert got["precision_20"] == pytest.approx(answer[f"{toolkit}_p20"], abs=1e-12)


def test_uav_on_its_own_annotations(golden):
    answers = json.loads((golden / "uav" / "golden_uav_real_anno.json").read_text())["values"]
    for key, answer in answers.items():
        truth = read_rows(golden / "uav" / "anno" / f"{key.split('/')[1]}.txt")
        result = read_rows(golden / "uav" / "results" / f"{key}.txt")
        for convention, toolkit in (("got10k-uav", "got10k"), ("uav", "matlab_octave")):
            got = measured(convention, result, Truth(truth))
            assert got["success_auc"] == pytest.approx(answer[toolkit]["auc"], abs=1e-12)
            assert got["precision_20"] == pytest.approx(answer[toolkit]["p20"], abs=1e-12)

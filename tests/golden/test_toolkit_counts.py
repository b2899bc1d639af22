"""How many frames pass each threshold, as four programs count them: 246 one-pass, 240 TRE and 108 SRE result files."""

import json

import pytest

from trackerlib.bench.conventions import CONVENTIONS
from trackerlib.bench.metrics import Truth
from trackerlib.data.formats import read_rows

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def golden(shared):
    return shared / "golden" / "otb"


@pytest.fixture(scope="module")
def runs(golden):
    """Result and annotation by key: OPE/<tracker>/<sequence>, TRE/IVT/<sequence>/<segment>, SREnoscale/IVT/..."""
    jobs = json.loads((golden / "jobs.json").read_text())
    lengths = {key: answer["n"] for key, answer in answers(golden, "matlab_octave").items()}
    truths = {sequence: read_rows(golden / "anno" / f"{sequence}.txt") for sequence, _, _ in jobs.values()}
    return {
        key: (read_rows(golden / file)[: lengths[key]], truths[sequence][first - 1 :][: lengths[key]])
        for key, (sequence, file, first) in jobs.items()
    }


def answers(golden, program):
    return json.loads((golden / f"golden_{program}.json").read_text())["values"]


def agree(tally, answer):
    frames, counts = tally
    return frames == answer["n"] and all(
        counts[name].tolist() == answer[f"{name}_counts"] for name in ("success", "precision")
    )


@pytest.mark.parametrize(
    ("program", "convention"),
    [("matlab_octave", "otb"), ("got10k", "got10k-otb"), ("got10k_git", "got10k-otb"), ("pysot", "pysot")],
)
def test_all_594_files(golden, runs, program, convention):
    theirs, rule = answers(golden, program), CONVENTIONS[convention]
    assert len(runs) == 594
    assert [key for key, run in runs.items() if not agree(rule.tally(*run), theirs[key])] == []


def test_normalised_precision_of_all_594_files(golden, runs):
    theirs, rule = answers(golden, "pysot"), CONVENTIONS["pysot"]
    for key, run in runs.items():
        curve = rule.score(*run)["normalized_precision"]
        assert curve[20] == pytest.approx(theirs[key]["norm_precision20"], abs=1e-12)
        assert curve.mean() == pytest.approx(theirs[key]["norm_precision_auc"], abs=1e-12)


def test_the_other_official_scoring_of_108_sre_files(golden, runs):
    """rstEval/calcSeqErrRobust.m divides the boxes by the scale of the shift and rounds."""
    theirs, rule, wrong = answers(golden, "matlab_octave"), CONVENTIONS["otb-rescaled"], []
    sre = {key.split("/", 1)[1]: run for key, run in runs.items() if key.startswith("SREnoscale/")}
    assert len(sre) == 108
    for key, (result, truth) in sre.items():
        kind, _, tenths = key.split("/")[-1].partition("_")
        scale = int(tenths) / 10 if kind == "scale" else 1.0
        wrong += [] if agree(rule.tally(result, Truth(truth, scale=scale)), theirs[f"SRE/{key}"]) else [key]
    assert wrong == []

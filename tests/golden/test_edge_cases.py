"""19 odd inputs, and what four programs answer (otb_edge_cases.json); what we answer where one of them crashes."""

import json
from pathlib import Path

import numpy as np
import pytest

from trackerlib.bench.conventions import CONVENTIONS
from trackerlib.bench.metrics import Truth
from trackerlib.data.formats import read_rows

EDGES = json.loads((Path(__file__).parent / "otb_edge_cases.json").read_text())
TOOLKITS = {
    "otb": "otb_matlab",
    "uav": "otb_matlab",
    "got10k-otb": "got10k_otb",
    "got10k-uav": "got10k_uav",
    "pysot": "pysot",
}
LENGTHS = ("09_res_short", "10_res_long")
# got10k and pysot-toolkit read commas only, got10k no single row: we read all, and go by their rules
OURS = dict.fromkeys(("13_tab_gt", "14_space_gt"), EDGES["01_plain"]["pysot"]) | {
    "12_one_frame": {"auc": 20 / 21, "p20": 1.0}  # the first row is the annotation's
}


@pytest.fixture
def rows(tmp_path):
    def read(case):
        for kind in ("truth", "result"):
            (tmp_path / f"{kind}.txt").write_text(EDGES[case][kind])
        return read_rows(tmp_path / "result.txt"), read_rows(tmp_path / "truth.txt")

    return read


@pytest.mark.parametrize("case", EDGES)
@pytest.mark.parametrize("convention", TOOLKITS)
def test_we_answer_as_the_toolkit(convention, case, rows):
    rule, answer = CONVENTIONS[convention], EDGES[case][TOOLKITS[convention]]
    if "error" in answer and case in LENGTHS:
        with pytest.raises(ValueError, match=r"(7|12) result rows for 10"):
            rule.score(*rows(case))
        return
    answer = OURS[case] if "error" in answer else answer
    got = rule.measured(rule.score(*rows(case)))
    printed = 6e-9 if TOOLKITS[convention] == "otb_matlab" else 1e-12  # MATLAB's with eight decimals
    assert got["success_auc"] == pytest.approx(answer["auc"], abs=printed)
    assert got["precision_20"] == pytest.approx(answer["p20"], abs=printed)
    if "normalized_precision_20" in got:
        assert got["normalized_precision_20"] == pytest.approx(answer["norm_p20"], abs=printed)


@pytest.mark.parametrize("case", [c for c in EDGES if "error" not in EDGES[c]["otb_matlab"]])
def test_overlap_and_error_of_each_frame_are_the_matlab_toolkits(case, rows):
    result, truth = rows(case)
    got, matlab = CONVENTIONS["otb"].frames(result, Truth(truth)), EDGES[case]["otb_matlab"]
    np.testing.assert_allclose(got["overlap"], np.array(matlab["overlap"], float), rtol=1e-5)
    np.testing.assert_allclose(got["error"], np.array(matlab["err"], float), rtol=1e-5)

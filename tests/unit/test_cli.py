"""The command line as a user meets it: what it prints on stdout, its exit codes, and one clear line for a mistake."""

import json
import subprocess
import sys
import zipfile

import cv2
import numpy as np
import pytest

from trackerlib import __main__ as command_line
from trackerlib.data.folder import load_clip

STILL = """
from dataclasses import dataclass
import torch
from trackerlib.tracker import Output, State

@dataclass
class Box(State):
    box: torch.Tensor

class Still:
    "A tracker that never moves its box."
    name = "still"
    def init(self, frames, boxes):
        return Box(boxes.clone())
    def track(self, state, frames):
        return state, Output(state.box.clone(), torch.ones(len(state.box)))
"""


@pytest.fixture
def trackerlib(monkeypatch, capsys, tmp_path):
    """Run a command in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["trackerlib", *map(str, arguments)])
        try:
            command_line.main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def otb(tmp_path):
    """Two sequences in OTB's layout, five frames each: in `still` the target rests, in `gone` it jumps far away."""
    root = tmp_path / "OTB"
    for name, away in (("still", 0), ("gone", 40)):
        (root / name / "img").mkdir(parents=True)
        boxes = np.array([[11, 11, 20, 20]] + [[11 + away, 11 + away, 20, 20]] * 4)
        np.savetxt(root / name / "groundtruth_rect.txt", boxes, "%d", ",")
        for frame in range(1, 6):
            cv2.imwrite(str(root / name / f"img/{frame:04d}.jpg"), np.full((80, 96, 3), 40 * frame, np.uint8))
    return root


def mistake(result: tuple[int, str, str]) -> str:
    """The one line of a refused command."""
    code, out, err = result
    assert code == 2
    assert out == ""
    assert "Traceback" not in err
    assert err.count("\n") == 1
    return err


def test_mistakes_are_one_line_that_names_the_remedy(trackerlib, otb, tmp_path):
    assert "near: otb2013" in mistake(trackerlib("data", "check", "otb2012"))
    missing = mistake(trackerlib("evaluate", "--dataset", "otb", "--root", "nowhere"))
    assert "nowhere" in missing
    assert "groundtruth_rect.txt" in missing
    assert "near: siamfc" in mistake(trackerlib("evaluate", "--tracker", "siamfx", "--dataset", "otb", "--root", otb))
    assert "near" in mistake(trackerlib("evaluate", "--dataset", "otb", "--root", otb, "--convention", "otp"))
    assert "no such folder or video" in mistake(trackerlib("track", "a.mp4", "--box", "1,2,3,4", "--out", "b.mp4"))
    assert "want four numbers" in mistake(trackerlib("track", otb, "--box", "1;2;3;4", "--out", "b.mp4"))
    assert "near: siamfc" in mistake(trackerlib("run", "siamfd", "--dry-run"))
    assert "near: seed" in mistake(trackerlib("run", "--set", "quickstart.sed=1", "--dry-run"))
    assert "want int" in mistake(trackerlib("run", "--set", "quickstart.seed=one", "--dry-run"))
    assert "near: smoke" in mistake(trackerlib("run", "--profile", "smok", "--dry-run"))
    assert "nothing there yet" in mistake(trackerlib("report"))


def test_a_dry_run_of_the_papers_settings_names_missing_data_and_starts_nothing(trackerlib, tmp_path):
    code, out, _ = trackerlib("run", "--profile", "paper", "--dry-run")
    assert code == 0
    assert "siamfc/2_otb" in out
    assert "missing data: dataset 'otb2013'" in out
    assert not (tmp_path / "results").exists()
    code, out, err = trackerlib("run", "--profile", "paper")
    assert code == 2
    assert "nothing was started" in err


def test_evaluate_prints_one_json_object_and_a_rerun_adds_nothing(trackerlib, otb, tmp_path):
    (tmp_path / "mine.py").write_text(STILL)
    arguments = ("evaluate", "--tracker", "mine:Still", "--dataset", "otb", "--root", otb, "--results", "out")
    code, out, err = trackerlib(*arguments, "--format", "json")
    assert code == 0, err
    told = json.loads(out)
    assert (told["convention"], told["dataset"]) == ("otb", "otb")
    (tracker,) = told["trackers"].values()
    assert tracker["sequences"]["still"]["success_auc"] == pytest.approx(20 / 21)  # perfect: OTB's `>` misses IoU 1
    assert tracker["sequences"]["gone"]["success_auc"] == pytest.approx(20 / 21 / 5)  # the first frame alone
    assert tracker["mean"]["precision_20"] == pytest.approx((1 + 1 / 5) / 2)
    (folder,) = (tmp_path / "out").iterdir()
    files = {path: path.stat().st_mtime_ns for path in folder.glob("*.txt")}
    assert len(files) == 2
    assert trackerlib(*arguments, "--format", "json")[1] == out
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*.txt")} == files

    scored = ("score", folder, "--dataset", "otb", "--root", otb, "--convention", "otb")
    assert json.loads(trackerlib(*scored, "--format", "json")[1])["trackers"] == {folder.name: tracker}
    assert "still" in trackerlib(*scored)[1]
    assert "sequence" in trackerlib(*scored, "--format", "csv")[1].splitlines()[0]
    assert trackerlib(*scored, "--format", "latex")[1].startswith(r"\begin{table}")


def test_track_writes_a_clip_with_the_box_drawn(trackerlib, otb, tmp_path):
    (tmp_path / "mine.py").write_text(STILL)
    out = tmp_path / "clips/out.mp4"
    code, _, err = trackerlib("track", otb / "gone", "--box", "10,10,20,20", "--tracker", "mine:Still", "--out", out)
    assert code == 0, err
    clip = load_clip(out)
    assert len(clip) == 5
    assert clip.frames[0].shape == (80, 96, 3)
    red, green, blue = clip.frames[2][20, 10].astype(int)  # on the box's left edge; the frame itself is grey
    assert red > green + 40
    assert red > blue + 40
    assert np.ptp(clip.frames[2][60, 70].astype(int)) < 20
    assert [p.name for p in out.parent.iterdir()] == ["out.mp4"]


def test_data_check_counts_and_decodes(trackerlib, otb):
    code, out, _ = trackerlib("data", "check", "otb", "--root", otb)
    assert code == 0
    assert out.startswith("otb: 2 sequences, 10 frames, digest ")
    broken = otb / "still/img/0005.jpg"
    broken.write_bytes(broken.read_bytes()[:300])
    code, _, err = trackerlib("data", "check", "otb", "--root", otb)
    assert code == 2
    assert "0005.jpg: truncated image" in err


def test_the_command_line_starts_without_torch_and_papermill():
    code = (
        "import sys, trackerlib.__main__, trackerlib.stages; print({'torch', 'papermill', 'pandas'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_got10k_s_test_split_ends_in_the_server_s_archive(trackerlib, tmp_path):
    """It has one box a sequence: tracked, not scored; the server wants times, so one lane."""
    folder = tmp_path / "got/test/GOT-10k_Test_000001"
    folder.mkdir(parents=True)
    for frame in range(3):
        cv2.imwrite(str(folder / f"{frame + 1:08d}.jpg"), np.full((40, 60, 3), 99, np.uint8))
    (folder / "groundtruth.txt").write_text("5,6,10,12\n")
    (tmp_path / "mine.py").write_text(STILL)
    arguments = ("evaluate", "--tracker", "mine:Still", "--dataset", "got10k-test", "--root", "got")
    code, out, _ = trackerlib(*arguments)
    assert code == 0
    with zipfile.ZipFile(out.strip()) as archive:
        boxes = archive.read("GOT-10k_Test_000001/GOT-10k_Test_000001_001.txt").decode().splitlines()
    assert [float(v) for v in boxes[2].split(",")] == [5, 6, 10, 12]
    assert trackerlib(*arguments, "--lanes", "2")[0] == 2


def test_protocols_side_by_side_are_one_csv_and_one_json(trackerlib, tmp_path):
    (tmp_path / "mine.py").write_text(STILL)
    arguments = (
        "evaluate",
        "--tracker",
        "mine:Still",
        "--dataset",
        "rendered",
        "--sequences",
        "1",
        "--protocol",
        "OPE",
    )
    _, sheet, _ = trackerlib(*arguments, "--protocol", "TRE:segments=2", "--format", "csv")
    lines = sheet.splitlines()
    assert [line.startswith("convention,") for line in lines] == [True] + [False] * (len(lines) - 1)
    assert {line.split(",")[2] for line in lines[1:]} == {"OPE", "TRE"}
    _, text, _ = trackerlib(*arguments, "--protocol", "TRE:segments=2", "--format", "json")
    assert [scores["protocol"] for scores in json.loads(text)] == ["OPE", "TRE"]

import cv2
import numpy as np
import pytest

from trackerlib.data import BENCHMARKS, DATASETS
from trackerlib.data.benchmark import list_names
from trackerlib.data.check import check, survey


def make(root, name="Mine", frames=3, sizes=None, box="2,2,5,6"):
    """A sequence in OTB's layout; `sizes` the (width, height) of every frame."""
    (root / name / "img").mkdir(parents=True)
    (root / name / "groundtruth_rect.txt").write_text(f"{box}\n" * frames)
    for frame, (width, height) in enumerate(sizes or [(16, 12)] * frames, 1):
        cv2.imwrite(str(root / name / f"img/{frame:04d}.jpg"), np.zeros((height, width, 3), np.uint8))
    return root


def test_the_survey_says_what_is_there_what_is_missing_and_where_to_get_it(tmp_path):
    for name in ("Deer", "Crossing"):
        make(tmp_path / "OTB", name)
    told = dict(line.split(maxsplit=1) for line in survey(tmp_path))
    assert list(told) == list(DATASETS)
    assert told["otb"] == f"2 sequences in {tmp_path / 'OTB'}"
    assert told["otb50"].startswith(f"1 of 50 sequences in {tmp_path / 'OTB'}; missing: Basketball, Biker, Bird1")
    assert told["otb50"].endswith("get them at http://cvlab.hanyang.ac.kr/tracker_benchmark/datasets.html")
    assert told["uav20l"].startswith(f"not under {tmp_path}; wanted: ROOT/anno/UAV20L/NAME.txt")
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        list(survey(tmp_path / "nowhere"))


def test_without_a_root_every_dataset_says_where_it_comes_from():
    told = dict(line.split(maxsplit=1) for line in survey())
    assert told["rendered"] == "made in memory"
    for name, benchmark in BENCHMARKS.items():
        assert benchmark.home in told[name]


def test_lists_are_as_long_as_the_benchmarks_say(tmp_path):
    for benchmark in BENCHMARKS.values():
        names = benchmark.names(tmp_path)
        assert names is None or len(names) == len(set(names)) == benchmark.sequences
    assert set(list_names("vot", "2018")) - set(list_names("vot", "2015")) >= {"ants1", "zebrafish1"}


def test_a_whole_copy_is_counted(tmp_path):
    assert check("otb", make(tmp_path)).startswith("otb: 1 sequences, 3 frames, digest ")


def test_every_fault_of_a_copy_is_named(tmp_path):
    make(tmp_path, "Resized", sizes=[(16, 12), (16, 12), (20, 12)])
    make(tmp_path, "Outside", box="30,2,5,6")
    make(tmp_path, "Torn")
    torn = tmp_path / "Torn/img/0002.jpg"
    torn.write_bytes(torn.read_bytes()[:100])
    with pytest.raises(ValueError, match="otb: 3 faults") as told:
        check("otb", tmp_path)
    text = str(told.value)
    assert "Resized, frame 3: 20 x 12 pixels where 16 x 12 are due" in text
    assert "Outside: the first box lies outside the 16 x 12 image" in text
    assert "0002.jpg: truncated image" in text


@pytest.mark.real
def test_published_annotations_have_the_benchmarks_counts(shared):
    for name, frames in (("otb2013", 29486), ("otb50", 26972), ("otb100", 59035)):
        assert f"{frames} frames" in check(name, shared / "golden/otb")
    assert "20 without images" in check("uav20l", shared / "data/published/uav20l")
    assert "21356 frames" in check("vot2018", shared / "data/published/vot2018")

import zipfile

import cv2
import numpy as np
import pytest

from trackerlib.data import load_dataset
from trackerlib.data.got10k import write_submission

JPEG = cv2.imencode(".jpg", np.zeros((12, 16, 3), np.uint8))[1].tobytes()
META = """[METAINFO]
url: https://youtu.be/x?a=50%
object_class: mallard
motion_class: swimming
resolution: (16, 12)
"""
NAME = "GOT-10k_Val_000001"


def make(root, split="val", name=NAME, groundtruth="1,2,3,4\n2,3,4,5\n3,4,5,6\n", images=3, **files):
    folder = root / split / name
    folder.mkdir(parents=True)
    (folder / "groundtruth.txt").write_text(groundtruth)
    for frame in range(1, images + 1):
        (folder / f"{frame:08d}.jpg").write_bytes(JPEG)
    for file, text in ({"meta_info__ini": META, "cover__label": "8\n0\n3\n"} | files).items():
        (folder / file.replace("__", ".")).write_text(text)
    return root


def test_boxes_cover_and_meta(tmp_path):
    make(tmp_path, absence__label="0\n1\n0\n", cut_by_image__label="1\n0\n0\n")
    dataset = load_dataset("got10k-val", tmp_path)
    sequence = dataset[NAME]
    assert dataset.layout == "got10k"
    np.testing.assert_array_equal(sequence.boxes, [[0, 1, 3, 4], [1, 2, 4, 5], [2, 3, 5, 6]])
    assert sequence.absent.tolist() == [False, True, False]
    assert {tag: flags.tolist() for tag, flags in sequence.tags.items()} == {
        "absence": [False, True, False],
        "cut_by_image": [True, False, False],
    }
    assert (sequence.origin, sequence.size, sequence.attributes) == (1, (16, 12), ("mallard", "swimming"))


def test_the_list_of_a_copy_names_what_is_missing(tmp_path):
    make(tmp_path)
    (tmp_path / "val/list.txt").write_text(f"{NAME}\nGOT-10k_Val_000002\n")
    with pytest.raises(FileNotFoundError, match=r"1 of 2 sequences are not under .*: GOT-10k_Val_000002; .*http"):
        load_dataset("got10k-val", tmp_path)


def test_a_list_written_on_windows(tmp_path):
    make(tmp_path)
    (tmp_path / "val/list.txt").write_bytes(b"\xef\xbb\xbf" + NAME.encode() + b"\r\n\r\n")
    assert list(load_dataset("got10k-val", tmp_path)) == [NAME]
    (tmp_path / "val/list.txt").write_bytes(NAME.encode("utf-16"))
    with pytest.raises(ValueError, match=r"list.txt: byte 1 is no UTF-8; write it again as plain text"):
        load_dataset("got10k-val", tmp_path)


def test_what_a_copy_may_lack_or_have_too_much(tmp_path):
    make(tmp_path, meta_info__ini="[METAINFO]\nobject_class: dog\nresolution: (16, 12, 3)\n")
    folder = tmp_path / "val" / NAME
    (folder / "cover.label").unlink()
    for odd in ("Thumbs.db", "._00000001.jpg", "00000001.txt"):
        (folder / odd).write_bytes(b"\0")
    sequence = load_dataset("got10k-val", tmp_path)[NAME]
    assert (len(sequence), sequence.size, sequence.attributes, sequence.category) == (3, None, ("dog",), "dog")
    assert not sequence.absent.any()  # nobody says so


def test_the_test_split_has_one_box_a_sequence(tmp_path):
    name = "GOT-10k_Test_000001"
    make(tmp_path, "test", name, "1.5,2,3,4\n", images=5, cover__label="8\n" * 5)
    sequence = load_dataset("got10k-test", tmp_path)[name]
    assert len(sequence) == 5
    np.testing.assert_array_equal(sequence.boxes[0], [0.5, 1, 3, 4])
    assert np.isnan(sequence.boxes[1:]).all()
    assert not sequence.absent.any()  # nobody says so
    make(tmp_path / "bare", "test", name, "1.5,2,3,4\n", images=0, cover__label="8\n")
    assert len(load_dataset("got10k-test", tmp_path / "bare")[name]) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": 2}, r"groundtruth.txt has 3 rows for 2 images"),
        ({"cover__label": "8\n8\n"}, r"cover.label: 2 rows for 3 frames"),
        ({"groundtruth": "NaN,1,1,1\n1,1,1,1\n1,1,1,1\n"}, r"groundtruth.txt, line 1: a tracker cannot start"),
        ({"groundtruth": "1,1,1,1\n1,1,1\n1,1,1,1\n"}, r"groundtruth.txt, line 2: 3 numbers where 4"),
        ({"meta_info__ini": "no section\n"}, r"meta_info.ini: .*fetch the sequence again"),
    ],
)
def test_faults_are_named(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        load_dataset("got10k-val", make(tmp_path, **options))


def write_results(folder, name, boxes, times):
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / f"{name}_001.txt").write_text(boxes)
    (folder / name / f"{name}_time.txt").write_text(times)


def test_the_submission_holds_boxes_and_times_and_the_same_results_give_the_same_bytes(tmp_path):
    dataset = load_dataset("got10k-val", make(tmp_path))
    runs = tmp_path / "runs"
    write_results(runs, NAME, "1,2,3,4\n" * 3, "0.1\n" * 3)
    archive = write_submission(runs, dataset, tmp_path / "a.zip")
    with zipfile.ZipFile(archive) as pack:
        assert pack.namelist() == [f"{NAME}/{NAME}_001.txt", f"{NAME}/{NAME}_time.txt"]
        assert pack.read(f"{NAME}/{NAME}_001.txt") == b"1,2,3,4\n" * 3
    assert write_submission(runs, dataset, tmp_path / "b.zip").read_bytes() == archive.read_bytes()


@pytest.mark.parametrize(
    ("boxes", "times", "message"),
    [
        ("1,2,3,4\n" * 2, "0.1\n" * 3, r"_001.txt: want 3 rows of numbers"),
        ("1,2,3,4\n" * 3, "NaN\n" * 3, r"_time.txt: want 3 rows of numbers; run with --lanes 1"),
    ],
)
def test_a_submission_that_the_server_would_refuse_is_not_written(tmp_path, boxes, times, message):
    dataset = load_dataset("got10k-val", make(tmp_path))
    with pytest.raises(ValueError, match="1 of 1 sequences have no result"):
        write_submission(tmp_path / "runs", dataset, tmp_path / "a.zip")
    write_results(tmp_path / "runs", NAME, boxes, times)
    with pytest.raises(ValueError, match=message):
        write_submission(tmp_path / "runs", dataset, tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()

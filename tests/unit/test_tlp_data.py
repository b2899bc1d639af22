import cv2
import numpy as np
import pytest

from trackerlib.data import load_dataset

JPEG = cv2.imencode(".jpg", np.zeros((12, 16, 3), np.uint8))[1].tobytes()


def make(root, name, lines):
    (root / name / "img").mkdir(parents=True)
    (root / name / "groundtruth_rect.txt").write_text("\n".join(lines) + "\n")
    for frame in range(1, len(lines) + 1):
        (root / name / f"img/{frame:05d}.jpg").write_bytes(JPEG)
    return root


def lines(count, lost=()):
    return [f"{i},{i},2,5,6,{int(i in lost)}" for i in range(1, count + 1)]


def test_boxes_and_lost_frames(tmp_path):
    sequence = load_dataset("tlp", make(tmp_path, "Mine", lines(3, lost=[2])), names=["Mine"])["Mine"]
    assert (sequence.origin, sequence.absent.tolist()) == (0, [False, True, False])
    np.testing.assert_array_equal(sequence.boxes[2], [3, 2, 5, 6])
    assert np.isnan(sequence.boxes[1]).all()
    np.testing.assert_array_equal(sequence.raw[1], [2, 2, 5, 6])


def test_a_target_lost_without_a_box_and_annotations_alone(tmp_path):
    make(tmp_path, "Mine", ["1,1,2,5,6,0", "2,0,0,0,0,1", "3,1,2,0,6,0", "4,1,2,5,6,0"])
    for image in (tmp_path / "Mine/img").iterdir():
        image.unlink()
    sequence = load_dataset("tlp", tmp_path, names=["Mine"])["Mine"]
    assert sequence.absent.tolist() == [False, True, False, False]  # the third is in view, its box is wrong
    assert np.isnan(sequence.boxes[1:3]).all()
    with pytest.raises(FileNotFoundError, match=r"img: no images there"):
        sequence.frames[0]


def test_tinytlp_is_the_first_600_frames_of_either_tree(tmp_path):
    make(tmp_path, "Sam", lines(601))
    sequence = load_dataset("tinytlp", tmp_path, names=["Sam"])["Sam"]
    assert (len(sequence), sequence.frames.paths[-1].name) == (600, "00600.jpg")
    with pytest.raises(ValueError, match=r"rect.txt: 601 rows where TLP has 4628 frames; is this TinyTLP\?"):
        load_dataset("tlp", tmp_path, names=["Sam"])


def test_faults_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"line 2: frame 3 where 2 is due"):
        load_dataset("tlp", make(tmp_path / "a", "Mine", [*lines(1), "3,1,1,5,6,0"]), names=["Mine"])
    with pytest.raises(ValueError, match=r"line 1: a tracker cannot start"):
        load_dataset("tlp", make(tmp_path / "b", "Mine", ["1,1,1,0,6,0"]), names=["Mine"])
    with pytest.raises(FileNotFoundError, match=r"tlp: 49 of 50 sequences are not under .*Alladin"):
        load_dataset("tlp", make(tmp_path / "c", "Sam", lines(2)))

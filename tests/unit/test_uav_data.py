import cv2
import numpy as np
import pytest

from trackerlib.data import load_dataset
from trackerlib.data.benchmark import list_names, listed
from trackerlib.data.uav import ATTRIBUTES

JPEG = cv2.imencode(".jpg", np.zeros((12, 16, 3), np.uint8))[1].tobytes()
FLAGS = "1,0,0,1,0,0,0,0,0,0,0,1"


def rows(count):
    return "".join(f"{i},2,5,6\n" for i in range(1, count + 1))


def make(root, version="UAV123", images=(), **texts):
    """The benchmark's tree: annotations by name, and images (numbers) of the video bird1."""
    folder = root / "anno" / version
    (folder / "att").mkdir(parents=True)
    for name, text in texts.items():
        (folder / f"{name}.txt").write_text(text)
        (folder / "att" / f"{name}.txt").write_text(FLAGS + "\n")
    video = root / "data_seq/UAV123/bird1"
    video.mkdir(parents=True, exist_ok=True)
    for number in images:
        (video / f"{number:06d}.jpg").write_bytes(JPEG)
    return root


def test_targets_that_share_a_video_have_their_own_part_of_it(tmp_path):
    make(tmp_path, images=range(1, 1478), bird1_1=rows(253), bird1_2=rows(703))
    dataset = load_dataset("uav123", tmp_path, names=["bird1_1", "uav_bird1_2"])
    ends = {name: [s.frames.paths[i].name for i in (0, -1)] for name, s in dataset.items()}
    assert ends == {"bird1_1": ["000001.jpg", "000253.jpg"], "uav_bird1_2": ["000775.jpg", "001477.jpg"]}
    assert dataset[0].attributes == ("SV", "FM", "SOB")
    assert dataset[0].frames[3].shape == (12, 16, 3)


def test_one_based_rows_and_absent_ones(tmp_path):
    text = rows(251) + "NaN,NaN,NaN,NaN\n0,0,0,0\n"
    sequence = load_dataset("uav123", make(tmp_path, bird1_1=text), names=["bird1_1"])["bird1_1"]
    np.testing.assert_array_equal(sequence.boxes[1], [1, 1, 5, 6])
    assert sequence.absent[-3:].tolist() == [False, True, True]
    assert (sequence.origin, sequence.raw[1, 0]) == (1, 2)
    with pytest.raises(FileNotFoundError, match=r"bird1: no images there"):
        sequence.frames[0]


def test_a_target_without_flags_and_images_of_other_names(tmp_path):
    make(tmp_path, images=range(1, 254), bird1_1=rows(253))
    (tmp_path / "anno/UAV123/att/bird1_1.txt").unlink()
    for odd in ("cover.jpg", "Thumbs.db", "._000001.jpg"):
        (tmp_path / "data_seq/UAV123/bird1" / odd).write_bytes(b"\0")
    (tmp_path / "anno/UAV123/readme.txt").write_text("no boxes")
    sequence = load_dataset("uav123", tmp_path, names=["bird1_1"])["bird1_1"]
    assert (sequence.attributes, len(sequence.frames)) == ((), 253)


def test_the_lists():
    assert (len(list_names("uav", "123")), len(list_names("uav", "20L"))) == (123, 20)


def test_faults_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"bird1_1.txt: 252 rows where the benchmark has 253 frames"):
        load_dataset("uav123", make(tmp_path / "a", bird1_1=rows(252)), names=["bird1_1"])
    with pytest.raises(ValueError, match=r"bird1: 1 of 253 images are not there: 000253.jpg"):
        load_dataset("uav123", make(tmp_path / "b", images=range(1, 253), bird1_1=rows(253)), names=["bird1_1"])
    with pytest.raises(ValueError, match=r"bird1_1.txt, line 1: a tracker cannot start"):
        load_dataset("uav123", make(tmp_path / "c", bird1_1="NaN,NaN,NaN,NaN\n" + rows(252)), names=["bird1_1"])
    root = make(tmp_path / "d", bird1_1=rows(253))
    (root / "anno/UAV123/att/bird1_1.txt").write_text("1,0,1\n")
    with pytest.raises(ValueError, match=r"att/bird1_1.txt, line 1: 3 numbers where 12 are wanted"):
        load_dataset("uav123", root, names=["bird1_1"])
    with pytest.raises(FileNotFoundError, match=r"uav20l: no sequence under .*anno/UAV20L/NAME.txt.*https"):
        load_dataset("uav20l", tmp_path)


# The candidate orders of the twelve columns, as public readers of the benchmark have them.
ORDERS = {
    "UAV123_10fps toolkit": " ".join(ATTRIBUTES),
    "object trackers' reports": "IV SV POC FOC OV FM CM BC SOB ARC VC LR",
    "alphabetical": "ARC BC CM FM FOC IV LR OV POC SOB SV VC",
}


def computed(raw):
    """The attributes that boxes define; `(SV, ARC, LR, FM, FOC)`."""
    present = np.isfinite(raw).all(1)
    w, h = raw[:, 2], raw[:, 3]
    area, aspect = w * h, w / h
    out = [np.any((v < v[0] / 2) | (v > v[0] * 2)) for v in (area, aspect)]
    step = np.linalg.norm(np.diff(raw[:, :2] + raw[:, 2:] / 2, axis=0), axis=1)
    return [*out, np.any(area < 400), np.nanmax(step) > 20, not present.all()]


@pytest.mark.real
def test_the_boxes_decide_the_order_of_the_attribute_columns(shared):
    root = shared / "data/published/uav20l"
    dataset = load_dataset("uav20l", root)
    assert (len(dataset), sum(map(len, dataset.values()))) == (20, 58670)
    facts = np.array([computed(s.raw) for s in dataset.values()])
    flags = np.array([np.loadtxt(root / "att" / f"{name}.txt", delimiter=",") for name in dataset])
    agree = {}
    for reader, order in ORDERS.items():
        columns = [order.split().index(a) for a in ("SV", "ARC", "LR", "FM", "FOC")]
        agree[reader] = (flags[:, columns] == facts).sum(0).tolist()
    assert agree == {
        "UAV123_10fps toolkit": [19, 20, 20, 20, 20],
        "object trackers' reports": [16, 15, 11, 7, 12],
        "alphabetical": [19, 17, 10, 20, 20],
    }
    assert [a for a in ATTRIBUTES if a in dataset["person2"].attributes] == ["POC", "OV", "CM"]


@pytest.mark.real
def test_frame_ranges_fit_the_annotations_at_ten_frames_a_second(shared):
    frames = {row["name"]: int(row["last"]) - int(row["first"]) + 1 for row in listed("uav")}
    for file in (shared / "golden/uav/anno").glob("*.txt"):
        assert len(file.read_text().split()) == -(-frames[file.stem] // 3)

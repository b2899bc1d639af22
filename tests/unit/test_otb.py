import json

import cv2
import numpy as np
import pytest

from trackerlib.data import load_dataset
from trackerlib.data.formats import name_key
from trackerlib.data.otb import entries, match_rows, otb_list
from trackerlib.data.sequence import NoFrames, Sequence

JPEG = cv2.imencode(".jpg", np.zeros((12, 16, 3), np.uint8))[1].tobytes()


def rows(count, box="10,20,30,40"):
    return f"{box}\n" * count


def make(root, name, images, annotations):
    """A sequence folder: image file names (or a count), and annotation file name to text."""
    (root / name / "img").mkdir(parents=True)
    names = [f"{i:04d}.jpg" for i in range(1, images + 1)] if isinstance(images, int) else images
    for image in names:
        (root / name / "img" / image).write_bytes(JPEG)
    texts = {"groundtruth_rect.txt": annotations} if isinstance(annotations, str) else annotations
    for file, text in texts.items():
        (root / name / file).write_text(text)
    return root


def load_otb(root, **options):
    return load_dataset("otb", root, **options)


def numbers(sequence):
    return [int(path.stem) for path in sequence.frames.paths]


def test_one_based_rows_become_boxes_and_stay_in_raw(tmp_path):
    text = "1,1,5,6\n2\t3\t5\t6\nNaN NaN NaN NaN\n0,0,0,0\n-3,1,5,6\n"
    sequence = load_otb(make(tmp_path, "Mine", 5, text))["Mine"]
    np.testing.assert_array_equal(sequence.boxes[:2], [[0, 0, 5, 6], [1, 2, 5, 6]])
    assert sequence.absent.tolist() == [False, False, True, True, False]
    np.testing.assert_array_equal(sequence.raw[3:], [[0, 0, 0, 0], [-3, 1, 5, 6]])
    assert sequence.frames[4].shape == (12, 16, 3)


def test_frames_come_in_numeric_order(tmp_path):
    make(tmp_path, "Mine", ["10.jpg", "9.jpg", "100.jpg", "._9.jpg"], rows(3))
    assert numbers(load_otb(tmp_path)["Mine"]) == [9, 10, 100]


def test_odd_files_and_line_ends(tmp_path):
    make(tmp_path, "Mine", 3, {})
    (tmp_path / "Mine/groundtruth_rect.txt").write_bytes(b"\xef\xbb\xbf1,1,5,6\r\n2\t3\t5\t6\r\n\xa03;4;5;6 \r\n\r\n")
    for odd in ("Mine/img/Thumbs.db", "Mine/img/notes.txt", "Mine/attrs.txt", "list.txt"):
        (tmp_path / odd).write_bytes(b"\0")
    (tmp_path / "scripts").mkdir()
    (tmp_path / ".cache/img").mkdir(parents=True)
    dataset = load_otb(tmp_path)
    assert list(dataset) == ["Mine"]
    np.testing.assert_array_equal(dataset["Mine"].boxes, [[0, 0, 5, 6], [1, 2, 5, 6], [2, 3, 5, 6]])


def test_two_targets_and_the_withdrawn_one_of_human4(tmp_path):
    make(tmp_path, "Jogging", 2, {"groundtruth_rect.1.txt": rows(2), "groundtruth_rect.2.txt": rows(2, "5,5,5,5")})
    make(tmp_path, "Human4", 2, {"groundtruth_rect.1.txt": "", "groundtruth_rect.2.txt": rows(2)})
    dataset = load_otb(tmp_path)
    assert list(dataset) == ["Human4-2", "Jogging-1", "Jogging-2"]
    assert dataset["Jogging-2"].raw[0].tolist() == [5, 5, 5, 5]
    assert list(load_otb(tmp_path, names=["jogging.2", "Human4"])) == ["jogging.2", "Human4"]


@pytest.mark.parametrize(
    ("name", "images", "boxes", "first", "last"),
    [
        ("David", 770, 471, 300, 770),
        ("Football1", 80, 74, 1, 74),
        ("Freeman3", 465, 460, 1, 460),
        ("Tiger1", 354, 354, 6, 354),
    ],
)
def test_known_frame_ranges(tmp_path, name, images, boxes, first, last):
    sequence = load_otb(make(tmp_path, name, images, rows(boxes)))[name]
    assert (numbers(sequence)[0], numbers(sequence)[-1], len(sequence)) == (first, last, last - first + 1)


def test_a_copy_may_start_at_the_ranges_own_number(tmp_path):
    make(tmp_path, "BlurCar3", [f"{i:04d}.jpg" for i in range(3, 362)], rows(357))
    assert numbers(load_otb(tmp_path)["BlurCar3"])[::356] == [3, 359]


@pytest.mark.parametrize(
    ("images", "boxes", "message"),
    [
        (10, 9, r"groundtruth_rect\.txt has 9 rows for 10 images in .*: a missing row\?"),
        (9, 10, r"has 10 rows for 9 images in .*: more boxes than frames"),
    ],
)
def test_counts_that_fit_nothing_are_errors(tmp_path, images, boxes, message):
    with pytest.raises(ValueError, match=message):
        load_otb(make(tmp_path, "David", images, rows(boxes)))


@pytest.mark.parametrize("box", ["NaN,NaN,NaN,NaN", "10,10,0,5"])
def test_a_first_box_that_is_none_is_refused(tmp_path, box):
    with pytest.raises(ValueError, match=r"groundtruth_rect\.txt, line 1: a tracker cannot start"):
        load_otb(make(tmp_path, "Mine", 2, f"{box}\n{rows(1)}"))


def test_a_missing_dataset_says_where_what_and_whence(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere; wanted: ROOT/NAME/img.*http"):
        load_dataset("otb100", tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"no sequence under .*; wanted"):
        load_dataset("otb", tmp_path)
    make(tmp_path, "David", 2, rows(2))
    with pytest.raises(FileNotFoundError, match=r"otb100: 99 of 100 sequences are not under .*Basketball, Biker"):
        load_dataset("otb100", tmp_path)
    (tmp_path / "Bare" / "img").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"Bare: images but no groundtruth_rect"):
        load_dataset("otb", tmp_path)


def test_annotations_alone_can_be_scored_not_tracked(tmp_path):
    (tmp_path / "anno").mkdir()
    (tmp_path / "anno" / "Tiger1.txt").write_text(rows(354))
    sequence = load_otb(tmp_path)["Tiger1"]
    assert len(sequence) == 349
    with pytest.raises(FileNotFoundError, match=r"Tiger1.*no images there"):
        sequence.frames[0]


def test_the_lists_of_the_benchmark():
    assert [len(otb_list(name)) for name in ("otb2013", "otb50", "otb100")] == [51, 50, 100]
    assert {"Jogging-1", "Jogging-2"} <= set(otb_list("otb2013"))
    assert len({name_key(name) for name in entries()}) == 100
    # sequences an attribute, as the legends of the toolkit's OTB-100 plots print them
    legends = {
        "IV": 38,
        "OPR": 63,
        "SV": 64,
        "OCC": 49,
        "DEF": 44,
        "MB": 29,
        "FM": 39,
        "IPR": 51,
        "OV": 14,
        "BC": 31,
        "LR": 9,
    }
    assert {a: sum(a in e.attributes for e in entries().values()) for a in legends} == legends


def omitted(sequence):
    return (np.flatnonzero(sequence.omit) + 1).tolist()


def test_init_omit_counts_the_rows_of_the_whole_annotation(tmp_path):
    make(tmp_path, "Jogging", 100, {"groundtruth_rect.1.txt": rows(100), "groundtruth_rect.2.txt": rows(50) + rows(50)})
    make(tmp_path, "Tiger1", 354, rows(354))
    dataset = load_otb(tmp_path)
    assert omitted(dataset["Jogging-1"]) == [*range(61, 84)]
    assert omitted(dataset["Jogging-2"]) == [*range(40, 64)]
    assert omitted(dataset["Tiger1"])[:8] == [4, 5, 6, 7, 8, 9, 10, 13]  # of 1-5, 9-15, 18-29 after five rows are gone
    (tmp_path / "cut").mkdir()
    assert omitted(load_otb(make(tmp_path / "cut", "Tiger1", 349, rows(349)))["Tiger1"]) == omitted(dataset["Tiger1"])
    assert omitted(load_otb(make(tmp_path / "cut", "Mine", 9, rows(9)))["Mine"]) == []


def annotated(name, count):
    raw = np.arange(count * 4, dtype=float).reshape(-1, 4) + 1
    return Sequence(name, NoFrames(count, ""), raw, raw=raw)


def test_results_of_tiger1_and_clifbar_are_matched_with_the_frames_they_belong_to():
    tiger, clifbar = annotated("Tiger1", 349), annotated("ClifBar", 472)
    whole = np.arange(354 * 4, dtype=float).reshape(-1, 4)
    result, truth, note = match_rows(tiger, whole)
    assert (result[0, 0], len(truth), note) == (20, 349, "Tiger1: 354 rows, scored from frame 6")
    result, truth, note = match_rows(clifbar, whole[:329])
    assert len(result) == len(truth) == 329
    assert note
    assert match_rows(tiger, whole[:349])[2] == ""
    for sequence, count in ((tiger, 348), (clifbar, 330), (annotated("ClifBar", 400), 329), (annotated("Mine", 9), 10)):
        with pytest.raises(ValueError, match=f"{count} rows for the {len(sequence)} frames of {sequence.name}"):
            match_rows(sequence, np.ones((count, 4)))


def test_load_dataset_names_the_near_ones(tmp_path):
    with pytest.raises(ValueError, match=r"'otb10'; near: .*otb100"):
        load_dataset("otb10", tmp_path)
    with pytest.raises(ValueError, match=r"'otb' lies in files"):
        load_dataset("otb")
    with pytest.raises(ValueError, match=r"'rendered' is made in memory"):
        load_dataset("rendered", tmp_path)


@pytest.mark.real
def test_init_omit_is_the_matlab_toolkits(shared):
    ours = {e.name: [[span.start, span.stop - 1] for span in e.omit] for e in entries().values() if e.omit}
    assert ours == json.loads((shared / "golden/otb/meta.json").read_text())["init_omit_v1_0"]
    assert len(ours) == 27


@pytest.mark.real
def test_the_development_sequences_load(shared):
    train, val = (load_dataset("otb", shared / "data" / "sequences" / split) for split in ("train", "val"))
    assert (len(train), len(val)) == (14, 7)
    assert sum(map(len, train.values())) == 5071
    assert [len(val[name]) for name in ("Couple", "Crossing", "Jogging-1", "Jogging-2")] == [140, 120, 307, 307]
    assert val["Jogging-1"].frames == val["Jogging-2"].frames  # so the engine decodes them once
    assert val["Couple"].frames[139].ndim == 3

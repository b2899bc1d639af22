import time

import cv2
import numpy as np
import pytest

from trackerlib.data import BENCHMARKS, load_dataset
from trackerlib.data.benchmark import listed
from trackerlib.data.check import check, survey

JPEG = cv2.imencode(".jpg", np.zeros((12, 16, 3), np.uint8))[1].tobytes()
SNIPPET = "ILSVRC2015_train_00000000"
BATCH = "train/ILSVRC2015_VID_train_0000"
SIZE = "<size><width>16</width><height>12</height></size>"


def thing(track=0, box=(2, 3, 7, 9), name="n02084071", occluded=0, generated=0):
    """An <object>; `box`: xmin, ymin, xmax, ymax."""
    xmin, ymin, xmax, ymax = box
    edges = f"<xmax>{xmax}</xmax><xmin>{xmin}</xmin><ymax>{ymax}</ymax><ymin>{ymin}</ymin>"
    flags = f"<occluded>{occluded}</occluded><generated>{generated}</generated>"
    return f"<object><trackid>{track}</trackid><name>{name}</name><bndbox>{edges}</bndbox>{flags}</object>"


def xml(*things, size=SIZE):
    return f"<annotation><folder>{SNIPPET}</folder><filename>000000</filename>{size}{''.join(things)}</annotation>"


def make(root, *files, snippet=SNIPPET, place=BATCH, images=None, suffix=".JPEG"):
    """A snippet of files, None for a frame without one; `images`: how many, by default one a frame."""
    annotations, data = (root / kind / "VID" / place / snippet for kind in ("Annotations", "Data"))
    annotations.mkdir(parents=True)
    for number, text in enumerate(files):
        if text is not None:
            (annotations / f"{number:06d}.xml").write_bytes(text if isinstance(text, bytes) else text.encode())
    for number in range(len(files) if images is None else images):
        data.mkdir(parents=True, exist_ok=True)
        (data / f"{number:06d}{suffix}").write_bytes(JPEG)
    return root


def load(root, split="train"):
    return load_dataset(f"imagenet-vid-{split}", root)


def only(root):
    """The one sequence under a root."""
    (sequence,) = load(root).values()
    return sequence


def test_a_track_is_a_sequence_of_edge_form_boxes(tmp_path):
    dataset = load(make(tmp_path, xml(thing(1, (0, 0, 16, 12), "n01503061"), thing(0)), xml(thing(0, (3, 3, 8, 9)))))
    assert list(dataset) == [f"{SNIPPET}-0", f"{SNIPPET}-1"]
    dog, bird = dataset.values()
    np.testing.assert_array_equal(dog.boxes, [[2, 3, 5, 6], [3, 3, 5, 6]])
    np.testing.assert_array_equal(dog.raw, dog.boxes)
    np.testing.assert_array_equal(bird.boxes, [[0, 0, 16, 12]])
    assert (dog.origin, dog.size, dog.category, bird.category) == (0, (16, 12), "dog", "bird")
    assert dog.frames[1].shape == (12, 16, 3)


def test_a_track_spans_its_first_to_its_last_appearance_and_is_absent_between(tmp_path):
    empty, late = xml(), xml(thing(7))
    root = make(tmp_path, empty, xml(thing(3)), late, xml(thing(7), thing(3, (0, 0, 4, 4))), None, late, empty)
    early, other = load(root).values()
    assert [path.stem for path in early.frames.paths] == ["000001", "000002", "000003"]
    assert early.absent.tolist() == [False, True, False]
    assert np.isnan(early.boxes[1]).all()
    np.testing.assert_array_equal(early.boxes[2], [0, 0, 4, 4])
    assert [path.stem for path in other.frames.paths] == ["000002", "000003", "000004", "000005"]
    assert other.absent.tolist() == [False, False, True, False]  # the third has no file at all


def test_tags_of_each_frame(tmp_path):
    sequence = only(make(tmp_path, xml(thing(occluded=1)), xml(), xml(thing(generated=1))))
    assert {tag: flags.tolist() for tag, flags in sequence.tags.items()} == {
        "occluded": [True, False, False],
        "generated": [False, False, True],
    }


def test_a_degenerate_box_is_a_row_that_is_no_box_and_starts_nothing(tmp_path):
    flat, turned = xml(thing(box=(5, 5, 5, 9))), xml(thing(box=(7, 5, 3, 9)))
    sequence = only(make(tmp_path, flat, xml(thing()), turned, xml(thing()), flat))
    assert [path.stem for path in sequence.frames.paths] == ["000001", "000002", "000003"]
    np.testing.assert_array_equal(sequence.raw[1], [7, 5, -4, 4])
    assert np.isnan(sequence.boxes[1]).all()
    assert not sequence.absent.any()  # it is in view, its box is wrong


def test_snippets_without_any_track_give_no_sequence(tmp_path):
    make(tmp_path, xml(), xml())
    make(tmp_path, xml(thing(box=(5, 5, 5, 5))), snippet="flat")
    make(tmp_path, snippet="bare", images=2)
    make(tmp_path, xml(thing(4)), snippet="full")
    assert list(load(tmp_path)) == ["full-4"]


def test_boxes_may_reach_beyond_the_image_and_be_no_integers(tmp_path):
    sequence = only(make(tmp_path, xml(thing(box=(-3.5, 2, 17, 1.4e1)))))
    np.testing.assert_array_equal(sequence.boxes, [[-3.5, 2, 20.5, 12]])


@pytest.mark.parametrize(
    "text",
    [
        '<?xml version="1.0" encoding="utf-8"?>\n' + xml(thing()),
        '<?xml version="1.0" encoding="utf-16"?>' + xml(thing()),
        "\ufeff" + xml(thing()),
        xml(thing()).replace("><", ">\r\n\t<").replace("<xmin>2<", "<xmin>\n 2 <"),
        xml(thing()).replace("<object>", '<object id="9" kind="a">').replace("<xmin>", '<xmin unit="px">'),
        xml(thing()).replace("<object>", "<!-- drawn --><object><pose>Frontal</pose>"),
    ],
)
def test_every_way_to_write_a_file_reads_alike(tmp_path, text):
    data = text.encode("utf-16" if "utf-16" in text else "utf-8")
    sequence = only(make(tmp_path, data))
    np.testing.assert_array_equal(sequence.boxes, [[2, 3, 5, 6]])
    assert (sequence.size, sequence.category) == ((16, 12), "dog")


@pytest.mark.parametrize("size", ["", "<size/>", "<size><width>0</width><height>12</height></size>"])
def test_without_a_size_the_first_frame_tells(tmp_path, size):
    sequence = only(make(tmp_path, xml(thing(), size=size)))
    assert (sequence.size, sequence.image_size()) == (None, (16, 12))


@pytest.mark.parametrize("suffix", [".jpeg", ".jpg", ".JPG"])
def test_images_have_any_suffix(tmp_path, suffix):
    assert only(make(tmp_path, xml(thing()), suffix=suffix)).frames[0].shape == (12, 16, 3)


def test_hidden_and_foreign_files_are_passed_over(tmp_path):
    root = make(tmp_path, xml(thing()))
    (root / "Annotations/VID" / BATCH / SNIPPET / "._000000.xml").write_bytes(b"\0\5\x16\7")
    (root / "Annotations/VID" / BATCH / SNIPPET / "notes.xml").write_bytes(b"no xml")
    assert len(load(root)) == 1


def test_validation_has_no_folder_between_and_a_root_may_hold_the_unpacked_archive(tmp_path):
    make(tmp_path / "ILSVRC2015", xml(thing()), place="val", snippet="ILSVRC2015_val_00000000")
    for root in (tmp_path, tmp_path / "ILSVRC2015"):
        assert list(load(root, "val")) == ["ILSVRC2015_val_00000000-0"]
    with pytest.raises(FileNotFoundError, match=r"imagenet-vid-train: no sequence under .*ROOT/Annotations/VID/train/"):
        load(tmp_path)


def test_some_snippets_by_name(tmp_path):
    for snippet in ("b", "a"):
        make(tmp_path, xml(thing(1), thing(2)), snippet=snippet)
    assert list(load(tmp_path)) == ["a-1", "a-2", "b-1", "b-2"]
    assert list(load_dataset("imagenet-vid-train", tmp_path, names=["b"])) == ["b-1", "b-2"]
    with pytest.raises(FileNotFoundError, match=r"1 of 2 snippets are not under .*: gone; wanted: "):
        load_dataset("imagenet-vid-train", tmp_path, names=["b", "gone"])


def test_annotations_alone_are_looked_at_not_tracked(tmp_path):
    sequence = only(make(tmp_path, xml(thing()), xml(thing()), images=0))
    assert (len(sequence), sequence.image_size()) == (2, (16, 12))
    with pytest.raises(FileNotFoundError, match=rf"{SNIPPET}: no images there"):
        sequence.frames[0]


BOMB = '<!DOCTYPE a [<!ENTITY x "0"><!ENTITY y "&x;&x;&x;">]>'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (xml(thing(5), thing(6), thing(5)), r"000000.xml: two objects of the trackid 5; remove one"),
        (BOMB + xml(thing("&y;")), r"000000.xml: a DOCTYPE, which these files never have; fetch the snippet again"),
        ((BOMB + xml(thing("&y;"))).encode("utf-16"), r"000000.xml: a DOCTYPE"),
        (xml(thing("&y;")), r"000000.xml, line 1: no XML \(undefined entity"),
        ("<annotation>\n<object>\n</annotation>", r"000000.xml, line 3: no XML \(mismatched tag"),
        (xml(thing())[:-9], r"000000.xml, line 1: no XML"),
        ("", r"000000.xml, line 1: no XML \(no element found"),
        ('<?xml version="1.0" encoding="klingon"?><annotation/>', r"000000.xml: unknown encoding: klingon"),
        (xml(thing()).replace("xmax", "right"), r"000000.xml: the bndbox of trackid 0 lacks one of the numbers xmin, "),
        (xml(thing(box=(1, "two", 3, 4))), r"000000.xml: the bndbox of trackid 0 lacks one of the numbers"),
        (xml(thing(track="a/b")), r"000000.xml: an object with the trackid 'a/b', want a number"),
        (xml("<object/>"), r"000000.xml: an object with the trackid None"),
        ("<html/>", r"000000.xml: <html> where <annotation> is due; fetch the snippet again"),
    ],
)
def test_faults_are_named(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        load(make(tmp_path, text))


def test_missing_images_are_named(tmp_path):
    root = make(tmp_path, *[xml(thing())] * 4, images=2)
    with pytest.raises(ValueError, match=r"2 images of .* are not there: 000002.JPEG, 000003.JPEG; fetch the snippet"):
        load(root)


def test_the_thirty_classes_and_what_an_unlisted_one_is_called(tmp_path):
    rows = listed("imagenet_vid")
    assert len({row["wnid"] for row in rows}) == len({row["name"] for row in rows}) == 30
    assert only(make(tmp_path, xml(thing(name="n00000001")))).category == "n00000001"


def test_tracks_are_checked_and_snippets_surveyed(tmp_path):
    make(tmp_path / "VID", xml(thing(0), thing(1)), xml(thing(1)))
    assert check("imagenet-vid-train", tmp_path / "VID").startswith("imagenet-vid-train: 2 sequences, 3 frames, digest")
    told = dict(line.split(maxsplit=1) for line in survey(tmp_path))
    assert told["imagenet-vid-train"] == f"1 snippets in {tmp_path / 'VID'}"
    assert "3,862 snippets" in BENCHMARKS["imagenet-vid-train"].title


def test_a_long_snippet_is_read_in_no_time(tmp_path):
    text = xml(*(thing(track, (track, 1, track + 5, 9)) for track in range(3))).replace("><", ">\n  <")
    root = make(tmp_path, *[text] * 300)
    load(root)
    start = time.perf_counter()
    dataset = load(root)
    assert time.perf_counter() - start < 0.5  # 0.04 s on one idle core
    assert [len(sequence) for sequence in dataset.values()] == [300] * 3

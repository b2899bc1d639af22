import json

import cv2
import numpy as np
import pytest

from trackerlib.data import load_dataset
from trackerlib.data.vot import boxes_of, corners

JPEG = cv2.imencode(".jpg", np.zeros((12, 16, 3), np.uint8))[1].tobytes()
SQUARE = "2,2,5,2,5,5,2,5"


def make(root, name, groundtruth, images="color", count=None, **files):
    """A sequence folder; `images`: where below it the frames lie."""
    folder = root / name
    (folder / images).mkdir(parents=True)
    (folder / "groundtruth.txt").write_text("\n".join(groundtruth) + "\n")
    for frame in range(1, (len(groundtruth) if count is None else count) + 1):
        (folder / images / f"{frame:08d}.jpg").write_bytes(JPEG)
    for file, text in files.items():
        (folder / file.replace("__", ".")).write_text(text)
    return root


def rotated(width, height, degrees, centre=(50.0, 40.0)):
    turn = np.radians(degrees)
    x, y = np.array([-1, 1, 1, -1]) * width / 2, np.array([-1, -1, 1, 1]) * height / 2
    points = np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], 1) + centre
    return points.reshape(1, 8)


def test_a_rectangle_is_its_own_box_and_so_are_its_corners():
    rectangles = np.array([[3.0, 4, 10, 20], [0, 0, 1, 1], [-2.5, 7.25, 3, 6.5]])
    np.testing.assert_array_equal(boxes_of(rectangles), rectangles)
    np.testing.assert_array_equal(corners(rectangles[:1]), [[3, 4, 12, 4, 12, 23, 3, 23]])
    np.testing.assert_allclose(boxes_of(corners(rectangles)), rectangles, atol=1e-12)


@pytest.mark.parametrize("degrees", [0, 17, 45, 90, 123])
def test_a_polygons_box_keeps_centre_and_area_and_the_shape_of_the_bounding_box(degrees):
    polygon = rotated(30, 12, degrees)
    x, y, w, h = boxes_of(polygon)[0]
    assert (x + w / 2 - 0.5, y + h / 2 - 0.5) == pytest.approx((50, 40))
    assert (w - 1) * (h - 1) == pytest.approx(30 * 12)
    extent = np.ptp(polygon.reshape(4, 2), axis=0)
    assert (w - 1) / (h - 1) == pytest.approx(extent[0] / extent[1])


def test_a_square_on_its_tip_in_closed_form():
    np.testing.assert_allclose(boxes_of(rotated(10, 10, 45)), [[50.5 - 5.5, 40.5 - 5.5, 11, 11]], atol=1e-9)


def test_a_flat_polygon_is_a_pixel_wide():
    np.testing.assert_allclose(boxes_of(np.array([[2.0, 3, 6, 3, 6, 3, 2, 3]])), [[2, 3, 5, 1]])


def test_polygons_rectangles_and_codes_in_one_file(tmp_path):
    make(tmp_path, "mixed", [SQUARE, "1,2,3,4", "0", SQUARE])
    sequence = load_dataset("vot", tmp_path)["mixed"]
    assert (sequence.origin, sequence.size, sequence.image_size()) == (0, None, (16, 12))
    np.testing.assert_array_equal(sequence.raw[0], [2, 2, 5, 2, 5, 5, 2, 5])
    np.testing.assert_array_equal(sequence.raw[1], [1, 2, 3, 4, *[np.nan] * 4])
    np.testing.assert_allclose(sequence.boxes[[0, 1]], [[2, 2, 4, 4], [1, 2, 3, 4]])
    np.testing.assert_array_equal(sequence.polygons[1], [1, 2, 3, 2, 3, 5, 1, 5])
    assert sequence.absent.tolist() == [False, False, True, False]


def test_rectangles_alone_are_four_columns(tmp_path):
    sequence = load_dataset("vot", make(tmp_path, "plain", ["1,2,3,4", "2,3,4,5"], images="."))["plain"]
    np.testing.assert_array_equal(sequence.raw, [[1, 2, 3, 4], [2, 3, 4, 5]])
    np.testing.assert_array_equal(sequence.boxes, sequence.raw)
    assert sequence.polygons is None
    assert sequence.frames[1].shape == (12, 16, 3)


def test_tags_practical_and_metadata(tmp_path):
    about = "channels.color=rgb/%08d.jpg\nwidth=16\nheight=12\nfps=30\n"
    files = {
        "occlusion__tag": "1\n0\n0\n",
        "size_change__tag": "0\n1\n",  # short: the rest is 0
        "camera_motion__label": "",
        "practical__value": "0.1\n0.2\n0.3\n",
        "sequence": about,
    }
    sequence = load_dataset("vot", make(tmp_path, "tagged", [SQUARE] * 3, images="rgb", **files))["tagged"]
    assert {tag: flags.tolist() for tag, flags in sequence.tags.items()} == {
        "camera_motion": [False, False, False],
        "occlusion": [True, False, False],
        "size_change": [False, True, False],
        "empty": [False, False, True],
    }
    assert sequence.practical.tolist() == [0.1, 0.2, 0.3]
    assert sequence.size == (16, 12)


def test_tags_too_long_are_cut_and_odd_files_passed_over(tmp_path):
    files = {
        "occlusion__tag": "1\r\n0\r\n1\r\n1\r\n",
        "practical__txt": "\n",
        "sequence": "width=2e9\nheight=12\nno line\n=",
    }
    make(tmp_path, "odd", [SQUARE] * 2, **files)
    (tmp_path / "odd/color/Thumbs.db").write_bytes(b"\0")
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfodd\r\n")
    sequence = load_dataset("vot", tmp_path)["odd"]
    assert sequence.tags["occlusion"].tolist() == [True, False]
    assert (sequence.practical.tolist(), sequence.size) == ([0, 0], None)


def test_a_workspace_and_its_own_list(tmp_path):
    for name in ("b", "a", "unlisted"):
        make(tmp_path / "sequences", name, [SQUARE])
    (tmp_path / "sequences/list.txt").write_text("b\na\n")
    assert list(load_dataset("vot", tmp_path)) == ["b", "a"]
    assert list(load_dataset("vot", tmp_path, names=["unlisted"])) == ["unlisted"]


def test_annotations_without_images_are_scored_not_tracked(tmp_path):
    sequence = load_dataset("vot", make(tmp_path, "bare", [SQUARE] * 2, count=0))["bare"]
    with pytest.raises(FileNotFoundError, match=r"color: no images there; .* can be scored, not tracked"):
        sequence.image_size()


def write_json(root, **changes):
    record = {
        "video_dir": "book",
        "img_names": ["book/color/00000001.jpg", "book/color/00000002.jpg"],
        "gt_rect": [[2, 2, 5, 2, 5, 5, 2, 5], [1, 2, 3, 4]],
        "occlusion": [0, 1],
        "width": 640,
        "height": 480,
    } | changes
    (root / "VOT2018.json").write_text(json.dumps({"book": {k: v for k, v in record.items() if v is not None}}))
    return root


def test_pysots_one_file_has_sizes_and_tags(tmp_path):
    sequence = load_dataset("vot2018", write_json(tmp_path), names=["book"])["book"]
    assert (sequence.size, len(sequence)) == ((640, 480), 2)
    assert sequence.tags["empty"].tolist() == [True, False]
    assert np.isnan(sequence.raw[1, 4:]).all()
    with pytest.raises(FileNotFoundError, match="vot2016: no sequence under"):
        load_dataset("vot2016", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"vot2018: 59 of 60 sequences are not under .*https"):
        load_dataset("vot2018", tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": None}, r"VOT2018.json: book has no 'width'"),
        ({"gt_rect": [[1, 2, 3, 4]]}, r"VOT2018.json: book has 1 boxes and 2 img_names"),
        ({"occlusion": [0]}, r"VOT2018.json: book has 2 boxes and 1 occlusion"),
        ({"occlusion": 1}, r"VOT2018.json: book cannot be read \('int' object is not iterable\); fetch the file again"),
        ({"width": "wide"}, r"VOT2018.json: book cannot be read \(invalid literal"),
        ({"img_names": [1, 2]}, r"VOT2018.json: book cannot be read"),
        ({"img_names": [], "gt_rect": []}, r"VOT2018.json: book has 0 boxes and 0 img_names"),
        (
            {"gt_rect": [[1, 2, 3, 4], [1, 2, 3, 4, 5, 6]]},
            r"book, frame 2: 6 numbers where x,y,w,h or the four",
        ),
    ],
)
def test_a_faulty_record_is_named(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        load_dataset("vot", write_json(tmp_path, **changes))


def test_a_broken_json_file_is_named_with_its_line(tmp_path):
    (tmp_path / "VOT2018.json").write_text('{\n"book": [}')
    with pytest.raises(ValueError, match=r"VOT2018.json, line 2: .*fetch the file again"):
        load_dataset("vot", tmp_path)


@pytest.mark.parametrize("name", ["\x85", "a\nb", "\u2028"])
def test_a_name_that_would_break_a_line_is_refused(tmp_path, name):
    (tmp_path / "VOT2018.json").write_text(json.dumps({name: {}}))
    with pytest.raises(ValueError, match=r"VOT2018.json: '.*' cannot name a sequence; fetch the file again") as told:
        load_dataset("vot", tmp_path)
    assert len(str(told.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("groundtruth", "message"),
    [
        ([SQUARE, "1,2,3,4,5,6,7,8,9,10"], r"groundtruth.txt, line 2: 10 numbers where x,y,w,h or the four corners"),
        ([SQUARE, "1,2,3,4,5,6"], r"line 2: 6 numbers"),
        ([SQUARE, "1,2,3,4,5"], r"line 2: "),
        (["NaN,NaN,NaN,NaN", SQUARE], r"line 1: a tracker cannot start from this region"),
        (["1,2,0,4", SQUARE], r"line 1: a tracker cannot start from this region"),
        (["0", SQUARE], r"line 1: a tracker cannot start from this region"),
    ],
)
def test_a_faulty_row_is_named_with_file_and_line(tmp_path, groundtruth, message):
    with pytest.raises(ValueError, match=message):
        load_dataset("vot", make(tmp_path, "faulty", groundtruth))


@pytest.mark.parametrize(("count", "remedy"), [(1, "fetch the missing images"), (3, "complete the annotation")])
def test_counts_that_differ_are_an_error(tmp_path, count, remedy):
    with pytest.raises(ValueError, match=rf"groundtruth.txt has 2 rows for {count} images in .*color: {remedy}"):
        load_dataset("vot", make(tmp_path, "short", [SQUARE] * 2, count=count))


@pytest.mark.real
def test_the_published_file_of_2018_and_the_sequences_in_vots_layout_agree(shared):
    published = load_dataset("vot2018", shared / "data/published/vot2018")
    official = json.loads((shared / "data/published/vot2018/official_vot2018_report.json").read_text())
    assert sorted(map(len, published.values())) == sorted(official["sequence_lengths"])
    sizes = json.loads((shared / "golden/vot/image_sizes.json").read_text())
    folders = load_dataset("vot", shared / "golden/vot")
    assert {name: list(published[name].size) for name in sizes} == sizes
    for name, sequence in folders.items():
        np.testing.assert_array_equal(sequence.raw, published[name].raw)
        for tag in published[name].tags.keys() & sequence.tags.keys():
            np.testing.assert_array_equal(sequence.tags[tag], published[name].tags[tag], err_msg=f"{name} {tag}")
    real = load_dataset("vot", shared / "data/sequences/vot2018")
    assert {name: s.image_size() for name, s in real.items()} == {name: published[name].size for name in real}
    assert all(s.practical is not None for s in real.values())

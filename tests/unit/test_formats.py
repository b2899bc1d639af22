import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trackerlib.bench.layouts import LAYOUTS
from trackerlib.data.formats import format_rows, name_key, read_rows

ROWS = np.array([[198, 214, 34, 81], [197.5, -214, 34, 81.25]])


@pytest.fixture
def file(tmp_path):
    def write(data):
        path = tmp_path / "boxes.txt"
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    return write


@pytest.mark.parametrize(
    "text",
    [
        "198,214,34,81\n197.5,-214,34,81.25\n",
        "198\t214\t34\t81\n197.5\t-214\t34\t81.25",
        "198 214  34 81\r\n197.5 -214 34 81.25\r\n",
        "198;214;34;81\n197.5, -214 ,34\t8.125e1\n\n\n",
        "\ufeff198,214,34,81\n  197.5,-214,34,81.25  \n",
    ],
)
def test_every_delimiter_reads_alike(file, text):
    np.testing.assert_array_equal(read_rows(file(text)), ROWS)


def test_nan_is_a_value(file):
    assert np.isnan(read_rows(file("1,2,3,4\nNaN,nan,NaN,NaN\n"))[1]).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2,3,4\n1,2,3\n", r"boxes\.txt, line 2: 3 numbers where 4"),
        ("1,2,3\n1,2,3,4,5\n", r"line 1: 3 numbers where 4"),
        ("1,2,3,4\n1,2,,4\n", r"line 2: 3 numbers where 4"),
        ("1,2,3,4\n\n1,2,3,4\n", r"line 2: blank line"),
        ("1,2,3,4\n1,2,x3,4\n", r"line 2: 'x3' is not a number"),
        ("1,2,3,4\n1,2,1_0,4\n", r"line 2: '1_0' is not a number"),
        (b"1,2,3,4\n1,2,\xff,4\n", r"line 2: .* is not a number"),
        ("", r"boxes\.txt: empty file"),
        ("\n\n", r"empty file"),
    ],
)
def test_a_fault_is_named_by_file_and_line(file, text, message):
    with pytest.raises(ValueError, match=message):
        read_rows(file(text))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.txt: no such file"):
        read_rows(tmp_path / "gone.txt")


def test_other_column_counts(file):
    assert read_rows(file("1\n2\n"), columns=1).shape == (2, 1)
    with pytest.raises(ValueError, match="line 1: 5 numbers where 8"):  # a polygon cut short
        read_rows(file("1,2,3,4,5\n"), columns=8)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(*[st.one_of(st.floats(-1e5, 1e5), st.just(np.nan))] * 4), min_size=1, max_size=9))
def test_written_rows_read_back_to_four_decimals(rows):
    text = format_rows(np.array(rows))
    assert "-0.0000" not in text
    back = np.array([[float(word) for word in line.split(",")] for line in text.splitlines()])
    np.testing.assert_allclose(back, rows, rtol=0, atol=5.1e-5)
    assert format_rows(back) == text


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("Jogging-1", ["jogging-1", "jogging_1", "Jogging.1", "Jogging-1"]),
        ("Skating2-2", ["Skating2.2", "skating2_2"]),
        ("Human4-2", ["Human4.2", "Human4", "human4_2"]),
        ("FaceOcc1", ["faceocc1", "faceOcc1"]),
        ("Jogging-2", ["Jogging2", "Jogging.2"]),
        ("uav1_1", ["uav_uav1_1", "uav1-1"]),
    ],
)
def test_a_target_is_known_by_every_toolkits_name(name, published):
    assert {name_key(p) for p in published} == {name_key(name)}


def test_two_files_of_one_target_are_refused(tmp_path):
    for name in ("Jogging-1.txt", "jogging_1.txt"):
        (tmp_path / name).write_text("1,2,3,4\n")
    with pytest.raises(ValueError, match=r"Jogging-1\.txt and jogging_1\.txt"):
        LAYOUTS["otb"].files(tmp_path)

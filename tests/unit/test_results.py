import json

import numpy as np
import pytest

from trackerlib.bench.results import RunSet

MANIFEST = {"tracker": "siamfc-3s", "key": "0123456789abcdef", "seed": 0}
BOXES = np.array([[0.0, 0, 10, 20], [1.23456, -0.00001, 10, 20], [np.nan] * 4])


@pytest.fixture
def runs(tmp_path):
    return RunSet.open(tmp_path, MANIFEST)


def test_files_are_the_benchmarks_own(runs):
    runs.write("David", BOXES, times=[np.nan, 0.25, 0.5], maps={"response": np.eye(3, dtype=np.float32)})
    assert runs.folder.name == "siamfc-3s-01234567"
    assert json.loads((runs.folder / "manifest.json").read_text()) == MANIFEST
    assert (runs.folder / "David.txt").read_text() == (
        "1.0000,1.0000,10.0000,20.0000\n2.2346,1.0000,10.0000,20.0000\nNaN,NaN,NaN,NaN\n"
    )
    assert (runs.folder / "times" / "David_time.txt").read_text() == "NaN\n0.250000\n0.500000\n"
    np.testing.assert_allclose(runs.read("David"), BOXES, atol=5e-5)
    np.testing.assert_array_equal(runs.times("David"), [np.nan, 0.25, 0.5])
    np.testing.assert_array_equal(runs.maps("David")["response"], np.eye(3))
    assert runs.names() == ["David"]


def test_equal_values_are_equal_bytes(tmp_path):
    maps = {"response": np.random.default_rng(0).random((3, 17, 17))}
    bytes_of = []
    for folder in ("a", "b"):
        runs = RunSet.open(tmp_path / folder, MANIFEST)
        runs.write("David", BOXES, times=np.ones(3), maps=maps)
        bytes_of.append({p.relative_to(runs.folder): p.read_bytes() for p in runs.folder.rglob("*") if p.is_file()})
    assert bytes_of[0] == bytes_of[1]
    assert len(bytes_of[0]) == 5  # boxes and their sum, times, maps, manifest


def test_another_key_is_never_mixed_in(tmp_path, runs):
    runs.write("David", BOXES)
    assert RunSet.open(tmp_path, MANIFEST).names() == ["David"]
    assert RunSet.open(tmp_path, {**MANIFEST, "key": "fedcba98"}).names() == []
    with pytest.raises(ValueError, match="made under key 0123456789abcdef, not 01234567ffff"):
        RunSet.open(tmp_path, {**MANIFEST, "key": "01234567ffff"})
    (runs.folder / "manifest.json").unlink()
    with pytest.raises(ValueError, match=r"results without a manifest\.json"):
        RunSet.open(tmp_path, MANIFEST)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("1,1,10,20\n2,1,10,20\n", r"David\.txt: 2 rows for 3 frames"),
        ("1,1,10,20\n2,1,10,20\n3,1,1", r"David\.txt, line 3: 3 numbers"),
        ("", r"David\.txt: empty file"),
    ],
)
def test_a_damaged_file_is_named_and_its_run_done_again(runs, text, named):
    runs.write("David", BOXES)
    assert runs.has("David", length=3)
    (runs.folder / "David.txt").write_text(text)
    with pytest.warns(UserWarning, match=f"{named}.*the run is done again"):
        assert not runs.has("David", length=3)


def test_maps_that_are_wanted_and_absent_make_a_run_undone(runs):
    runs.write("David", BOXES)
    assert runs.has("David", 3)
    assert not runs.has("David", 3, maps=True)
    assert runs.maps("David") is None
    assert runs.times("David") is None


def test_a_failure_is_kept_until_the_run_is_done(runs):
    runs.fail("David", "Traceback ...\nValueError: no\n")
    assert runs.failures() == {"David": "Traceback ...\nValueError: no\n"}
    assert not runs.has("David")
    runs.write("David", BOXES)
    assert runs.failures() == {}


def test_bad_writes_are_refused(runs):
    with pytest.raises(ValueError, match=r"must be \(T, 4\)"):
        runs.write("David", np.zeros((3, 5)))
    with pytest.raises(ValueError, match="2 times for 3 boxes"):
        runs.write("David", BOXES, times=[0, 1])
    with pytest.raises(ValueError, match="cannot name a file"):
        runs.write("../David", BOXES)
    assert runs.names() == []

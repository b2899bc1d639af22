"""The toolkits themselves, on real sequences: ours inside theirs, and what they find in results that we wrote.

They have no place beside our own dependencies (a second OpenCV, pins on each other), so in an environment of its own:

    python -m venv peers && . peers/bin/activate
    pip install got10k==0.1.3 vot-toolkit==0.9.0 'attributee<0.1.10' vot-trax pytest -e .
    python -m pytest tests/real/test_peers.py
"""

import json
import subprocess
import sys

import numpy as np
import pytest

import trackerlib as tl
from trackerlib.bench.layouts import LAYOUTS
from trackerlib.bench.protocols import protocol
from trackerlib.bench.speed_peers import otb_jobs, vot_jobs, vot_toolkit
from trackerlib.data.formats import FAILURE, read_rows
from trackerlib.interchange import as_got10k, convert

pytestmark = [pytest.mark.real, pytest.mark.slow]
FRAMES = 40
TRACKERS_INI = """[quarter]
label = quarter
protocol = traxpython
command = from trackerlib.trackers import load_tracker
    from trackerlib.interchange import serve_trax
    serve_trax(load_tracker('siamfc-3s', weights='siamfc-quarter'))
"""


@pytest.fixture(autouse=True)
def _text(monkeypatch):
    """vot-toolkit writes text where it is told to (and asks only once, when it is imported)."""
    monkeypatch.setenv("VOT_RESULTS_BINARY", "0")


@pytest.fixture(scope="module")
def tracker():
    return tl.load_tracker("siamfc-3s", weights="siamfc-quarter")


@pytest.fixture
def experiments():
    return pytest.importorskip("got10k.experiments", reason="got10k is not installed: see the top of this file")


@pytest.fixture
def otb(shared, tmp_path, experiments):
    """`FRAMES` frames of two sequences as OTB's tree; the empty folders keep got10k from downloading the others."""
    root = tmp_path / "OTB"
    for name in experiments.ExperimentOTB.__init__.__globals__["OTB"]._OTB__otb13_seqs:
        (root / name).mkdir(parents=True)
    for name in ("Couple", "Crossing"):
        source = shared / "data/sequences/val" / name
        rows = (source / "groundtruth_rect.txt").read_text().splitlines()[:FRAMES]
        (root / name / "groundtruth_rect.txt").write_text("\n".join(rows))
        link(sorted((source / "img").iterdir())[:FRAMES], root / name / "img")
    return root


@pytest.fixture
def got10k(shared, tmp_path):
    """The same sequences as GOT-10k's validation split; the target is out of view in every seventh frame."""
    root = tmp_path / "GOT-10k"
    for name in ("Couple", "Crossing"):
        source, home = shared / "data/sequences/val" / name, root / "val" / name
        link(sorted((source / "img").iterdir())[:FRAMES], home)
        np.savetxt(home / "groundtruth.txt", read_rows(source / "groundtruth_rect.txt")[:FRAMES], "%.4f", ",")
        np.savetxt(home / "cover.label", np.arange(FRAMES) % 7, "%d")
        for label in ("absence", "cut_by_image"):
            np.savetxt(home / f"{label}.label", np.zeros(FRAMES), "%d")
        height, width = tl.load_dataset("folder", source / "img", box=(0, 0, 9, 9))[0].frames[0].shape[:2]
        (home / "meta_info.ini").write_text(f"[METAINFO]\nresolution: ({width}, {height})\n")
    (root / "val/list.txt").write_text("Couple\nCrossing\n")
    return root


def link(images, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for image in images:
        (folder / image.name).symlink_to(image)


@pytest.fixture
def workspace(shared, tmp_path):
    """A workspace of vot-toolkit with two real sequences, cut, and a stack like VOT2018's."""
    pytest.importorskip("vot", reason="vot-toolkit is not installed: see the top of this file")
    for name, frames in (("book", 120), ("traffic", 60)):
        source, home = shared / "data/sequences/vot2018" / name, tmp_path / "sequences" / name
        link(sorted((source / "color").iterdir())[:frames], home / "color")
        size = "width={1}\nheight={0}\n".format(*tl.load_dataset("vot", source.parent)[name].frames[0].shape)
        (home / "sequence").write_text((source / "sequence").read_text().strip() + f"\nlength={frames}\n{size}")
        for file in (*source.glob("*.tag"), source / "groundtruth.txt"):
            rows = file.read_text().splitlines()[:frames]
            (home / file.name).write_text("".join(f"{row}\n" for row in rows))
    (tmp_path / "sequences/list.txt").write_text("book\ntraffic\n")
    baseline = {"type": "supervised", "repetitions": 1, "skip_initialize": 5}
    stack = {"title": "two", "experiments": {"baseline": baseline, "unsupervised": {"type": "unsupervised"}}}
    (tmp_path / "stack.yaml").write_text(json.dumps(stack))
    (tmp_path / "config.yaml").write_text(json.dumps({"stack": "stack.yaml", "registry": ["trackers.ini"]}))
    (tmp_path / "trackers.ini").write_text(TRACKERS_INI)
    (tmp_path / "results").mkdir()
    return tmp_path


def test_ours_inside_got10k_finds_what_our_engine_finds(tracker, otb, experiments, tmp_path):
    """OTB: boxes 1-based there and back, three decimals in its files; and Crossing is tracked, so it means much."""
    experiment = experiments.ExperimentOTB(str(otb), 2013, str(tmp_path / "results"), str(tmp_path / "reports"))
    experiment.run(as_got10k(tracker))
    runs = tl.evaluate(tracker, tl.load_dataset("otb", otb, names=("Couple", "Crossing")), results=tmp_path / "ours")
    for name in ("Couple", "Crossing"):
        theirs = read_rows(tmp_path / f"results/OTB2013/siamfc-3s/{name}.txt")
        np.testing.assert_allclose(theirs - [1, 1, 0, 0], runs.read(name), atol=6e-4)
    report = experiment.report(["siamfc-3s"])["siamfc-3s"]
    assert report["seq_wise"]["Crossing"]["success_score"] > 0.6
    assert report["overall"]["speed_fps"] > 1


def test_ours_inside_got10ks_own_benchmark(tracker, got10k, experiments, tmp_path):
    experiment = experiments.ExperimentGOT10k(str(got10k), "val", str(tmp_path / "results"), str(tmp_path / "reports"))
    data = tl.load_dataset("got10k-val", got10k)
    experiment.run(as_got10k(tracker, origin=data[0].origin))
    runs = tl.evaluate(tracker, data, results=tmp_path / "ours")
    for name in data:
        theirs = read_rows(tmp_path / f"results/GOT-10k/siamfc-3s/{name}/{name}_001.txt")
        np.testing.assert_allclose(theirs, runs.trajectory(name).rows, atol=6e-4)


def test_got10k_reads_what_we_wrote_and_agrees(tracker, otb, got10k, experiments, tmp_path):
    """ExperimentOTB.report and ExperimentGOT10k.report on files of our engine, batched runs too, and on converted ones:
    the values that we print under their conventions."""
    data = tl.load_dataset("otb", otb, names=("Couple", "Crossing"))
    experiment = experiments.ExperimentOTB(str(otb), 2013, str(tmp_path / "results"), str(tmp_path / "reports"))
    experiment.dataset.seq_names, found = list(data), {}
    for lanes in (1, 2):
        runs = tl.evaluate(tracker, data, results=tmp_path / f"results/OTB2013/{lanes}", lanes=lanes)
        name = f"{lanes}/{runs.folder.name}"
        found[lanes] = experiment.report([name])[name]
        ours = tl.score(runs, data, "got10k-otb").json()["trackers"][runs.folder.name]
        agree_on_otb(found[lanes], ours)

    data = tl.load_dataset("got10k-val", got10k)
    experiment = experiments.ExperimentGOT10k(str(got10k), "val", str(tmp_path / "results"), str(tmp_path / "reports"))
    for lanes in (1, 2):
        runs = tl.evaluate(tracker, data, results=tmp_path / f"results/GOT-10k/{lanes}", lanes=lanes)
        name = f"{lanes}/{runs.folder.name}"
        theirs = experiment.report([name])[name]
        ours = tl.score(runs, data, "got10k").json()["trackers"][runs.folder.name]
        agree_on_got10k(theirs, ours)
    flat = convert(runs, tmp_path / "flat", "otb")
    again = convert(flat, tmp_path / "results/GOT-10k/again", "got10k")
    assert experiment.report(["again"])["again"]["overall"]["ao"] == theirs["overall"]["ao"]
    assert again.names() == runs.names()


def agree_on_otb(theirs, ours):
    for name, keys in {
        "success_auc": "success_score",
        "precision_20": "precision_score",
        "success_50": "success_rate",
    }.items():
        assert ours["mean"][name] == pytest.approx(theirs["overall"][keys], abs=1e-12)
        for sequence, values in ours["sequences"].items():
            assert values[name] == pytest.approx(theirs["seq_wise"][sequence][keys], abs=1e-12)


def agree_on_got10k(theirs, ours):
    assert ours["mean"]["ao"] == pytest.approx(theirs["overall"]["ao"], abs=1e-12)
    assert ours["mean"]["sr_50"] == pytest.approx(theirs["overall"]["sr"], abs=1e-12)
    assert ours["mean"]["sr_75"] == pytest.approx(theirs["overall"]["succ_curve"][75], abs=1e-12)


def test_ours_inside_vot_toolkit_unsupervised(tracker, workspace):
    """`vot evaluate`, its shell and all: TraX over a pipe, and a box for every frame as our one-pass run has it."""
    shell = [sys.executable, "-m", "vot", "evaluate", "--workspace", ".", "--experiments", "unsupervised", "quarter"]
    done = subprocess.run(shell, cwd=workspace, capture_output=True)
    assert b"Evaluation concluded" in done.stderr + done.stdout
    data = tl.load_dataset("vot", workspace)
    runs = tl.evaluate(tracker, data, results=workspace / "ours")
    for name in data:
        theirs = LAYOUTS["vot"].read(workspace / f"results/quarter/unsupervised/{name}/{name}_001.txt")
        np.testing.assert_allclose(theirs.rows[1:], runs.read(name)[1:], atol=1e-3)


@pytest.fixture
def mended(monkeypatch):
    """vot-toolkit 0.9.0 can run no tracker in its supervised experiment: that hands a runtime one object and wants one
    back, but the runtimes take and give lists ("'list' object has no attribute 'properties'"). Here the two meet."""
    from vot.tracker.trax import TraxTrackerRuntime

    initialize, update = TraxTrackerRuntime.initialize, TraxTrackerRuntime.update

    def update_one(self, frame, new=None, properties=None):
        objects, elapsed = update(self, frame, [], properties)
        return objects[0], elapsed

    monkeypatch.setattr(TraxTrackerRuntime, "initialize", lambda self, frame, new: initialize(self, frame, [new]))
    monkeypatch.setattr(TraxTrackerRuntime, "update", update_one)


def test_ours_inside_vot_toolkit_supervised(tracker, workspace, mended):
    """The same failures and the same boxes as our own supervised run, through several restarts from turned polygons."""
    from vot.experiment import run_experiment
    from vot.workspace import Workspace

    theirs = Workspace.load(str(workspace))
    run_experiment(theirs.stack["baseline"], theirs.registry["quarter"], theirs.dataset)
    data = tl.load_dataset("vot", workspace)
    ours = tl.evaluate(tracker, data, protocol("supervised", repetitions=1, bounded=True), results=workspace / "ours")
    failures = 0
    for name in data:
        found = LAYOUTS["vot"].read(workspace / f"results/quarter/baseline/{name}/{name}_001.txt")
        run = ours.trajectory(f"{name}_001")
        np.testing.assert_array_equal(found.codes, run.codes)
        np.testing.assert_allclose(found.rows, run.rows, atol=1e-3)
        failures += int((run.codes == FAILURE).sum())
    assert failures > 0


def test_vot_toolkit_reads_what_we_wrote_and_agrees(tracker, workspace):
    """Accuracy, failures and EAO of our supervised results by its analyses, and by us under vot-python. Two short
    sequences leave nothing of VOT2018's interval: EAO is taken over shorter lengths."""
    data = tl.load_dataset("vot", workspace)
    runs = tl.evaluate(tracker, data, protocol("supervised", bounded=True), results=workspace / "results")
    scores = tl.score(runs, data, "vot-python")
    (name,), low, high = scores.trackers, 10, 40
    mean, (_, curve) = scores.mean(name), scores.eao_curve(name)
    theirs = vot_toolkit(workspace, name, low, high)()
    np.testing.assert_allclose([mean["accuracy"], mean["failures"], curve[low : high + 1].mean()], theirs, rtol=1e-5)


def test_the_benched_jobs_find_the_same(experiments, tmp_path):
    """What `bench` times: made-up results, many odd cases among them."""
    for ours, theirs in otb_jobs(tmp_path / "otb", sequences=4, trackers=2, frames=50):
        np.testing.assert_allclose(ours(), theirs(), rtol=1e-12)
    pytest.importorskip("vot", reason="vot-toolkit is not installed: see the top of this file")
    ours, theirs = vot_jobs(tmp_path / "vot", sequences=3, repetitions=2)
    np.testing.assert_allclose(ours(), theirs(), rtol=1e-5)

"""What breaks around the work: full disks, damaged files, data that changes, clocks that go back. Nothing is lost,
nothing is counted twice, and the end is as if nothing had been."""

import copy
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from test_engine_faults import Drift, blank_dataset, stored
from test_stages import OUT, notebook
from test_training import Line, moving_square, square

from trackerlib import runner
from trackerlib.bench.engine import FailedRuns, evaluate
from trackerlib.bench.features import FeatureCache
from trackerlib.bench.score import score
from trackerlib.data.crops import cut_crops
from trackerlib.data.sequence import Dataset, ImageFiles, Sequence
from trackerlib.nn.checkpoints import load_into, read_tensors, save_weights
from trackerlib.stages import load_graph
from trackerlib.training.loop import FitConfig, _Run, fit

# A full disk: a file system of a few pages


@pytest.fixture
def small(tmp_path):
    """A folder on a disk of its own, and what makes that larger."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs a disk that can be filled: mounting a tmpfs wants root")
    grow = lambda: subprocess.run(["mount", "-o", "remount,size=64m", str(folder)], check=True)  # noqa: E731
    yield folder, grow
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_results_on_a_full_disk(small, tmp_path):
    folder, grow = small
    data = blank_dataset(20)
    with pytest.raises(OSError, match=r"No space left on device: '.*small/drift-.*'"):
        evaluate(Drift(), data, results=folder, lanes=2)
    grow()
    store = evaluate(Drift(), data, results=folder, lanes=2)
    assert stored(store) == stored(evaluate(Drift(), data, results=tmp_path / "calm", lanes=2))
    assert not list(folder.rglob(".*.part"))
    assert not list(folder.rglob("claims/*"))


def train(folder, epochs=4):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(1, 3000), torch.nn.Linear(3000, 1))  # 36 kB, and its momenta
    fit(model, square, Line(), FitConfig(epochs, 3, 2, 1e-4, checkpoint_minutes=0.0), folder, "toy")
    return model.state_dict()


def test_a_checkpoint_on_a_full_disk(small, tmp_path):
    folder, grow = small
    with pytest.raises(OSError, match=r"No space left on device: '.*checkpoint"):
        train(folder)
    grow()
    once, calm = train(folder), train(tmp_path / "calm")
    assert all(torch.equal(once[name], calm[name]) for name in calm)


def test_crops_on_a_full_disk(small, tmp_path):
    folder, grow = small
    data = Dataset("toy", [moving_square("a"), moving_square("b", seed=1)])
    with pytest.raises(OSError, match="No space left on device"):
        cut_crops(data, folder)
    assert [path.name for path in folder.iterdir()] == [".lock"]
    grow()
    assert cut_crops(data, folder).digest() == cut_crops(data, tmp_path / "calm").digest()


def test_features_that_find_no_room_are_computed_again(small):
    folder, _ = small
    cache = FeatureCache({"v": "0" * 16}, folder, memory=1)
    with pytest.warns(UserWarning, match=r"no longer kept there \(No space left on device\)"):
        cache.put("f", ("v", 0), torch.zeros(100_000))
    assert not list(folder.rglob("*.part"))
    cache.put("f", ("v", 1), torch.ones(3))
    assert cache.get("f", ("v", 1)).tolist() == [1, 1, 1]


# Damaged files


def test_a_result_with_another_digit_is_named_not_scored_and_done_again(tmp_path):
    data = blank_dataset(3)
    store = evaluate(Drift(), data, results=tmp_path)
    whole, path = stored(store), store.folder / "b001.txt"
    path.write_text(path.read_text().replace("3.0000", "8.0000", 1))
    with pytest.raises(ValueError, match=r"b001.txt: not as it was written; delete it and run again"):
        score(store, data)
    with pytest.warns(UserWarning, match=r"b001.txt: not as it was written; the run is done again"):
        again = evaluate(Drift(), data, results=tmp_path)
    assert stored(again) == whole


@pytest.mark.parametrize("content", ["{", "[]", '{"layout": 3}', ""])
def test_a_damaged_manifest_is_named_and_written_anew(tmp_path, content):
    data = blank_dataset(3)
    store = evaluate(Drift(), data, results=tmp_path)
    manifest = store.folder / "manifest.json"
    before, stamp = json.loads(manifest.read_text()), (store.folder / "b001.txt").stat().st_mtime_ns
    manifest.write_text(content)
    with pytest.warns(UserWarning, match=r"manifest.json: damaged; it is written anew"):
        evaluate(Drift(), data, results=tmp_path)
    assert json.loads(manifest.read_text()) == before
    assert (store.folder / "b001.txt").stat().st_mtime_ns == stamp  # the runs stand


@pytest.mark.parametrize("both", [False, True])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_continued(tmp_path, monkeypatch, both):
    begun, resume = [], _Run.resume
    monkeypatch.setattr(_Run, "resume", lambda run: begun.append(resume(run)) or begun[-1])
    train(tmp_path / "a", epochs=2)
    calm = train(tmp_path / "calm", epochs=2)
    for name in ("checkpoint.pt", "checkpoint.before.pt")[: 1 + both]:
        data = bytearray((tmp_path / "a" / name).read_bytes())
        data[len(data) // 2] ^= 1  # which torch.load itself does not notice
        (tmp_path / "a" / name).write_bytes(data)
    with pytest.warns(UserWarning, match=r"checkpoint.pt: damaged \(.*\), kept as checkpoint.damaged"):
        again = train(tmp_path / "a", epochs=2)
    assert begun == [0, 0, 0 if both else 5]  # of six steps, each of which leaves a checkpoint
    assert all(torch.equal(again[name], calm[name]) for name in calm)


def test_a_checkpoint_cut_short_is_one_too(tmp_path):
    calm = train(tmp_path, epochs=2)
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.warns(UserWarning, match=r"checkpoint.pt: damaged"):
        again = train(tmp_path, epochs=2)
    assert all(torch.equal(again[name], calm[name]) for name in calm)


def test_weights_that_changed_since_they_were_saved_are_refused(tmp_path):
    layer, path = torch.nn.Linear(50, 50), tmp_path / "w.safetensors"
    save_weights(layer, path, {"seed": 0})
    load_into(copy.deepcopy(layer), read_tensors(path), "w")
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    with pytest.raises(
        ValueError, match=r"w.safetensors: not as it was saved, by the sha256 in w.json; copy both again"
    ):
        read_tensors(path)


@pytest.mark.parametrize("file", ["manifest.json", "params.json"])
def test_a_stage_with_a_damaged_manifest_is_done_again(tmp_path, monkeypatch, file):
    monkeypatch.setattr(runner, "_hardware", dict)
    book = notebook(tmp_path / "notebooks", "p/1_a", OUT, "open(out_dir + '/product.txt', 'w').write('x')")
    (book.parents[1] / "stages.yaml").write_text("p/1_a:\n")
    graph, results = load_graph("smoke", (), book.parents[1]), tmp_path / "results"
    assert runner.run(graph, (), results).ok
    folder = results / "smoke/p/1_a"
    before = (folder / "manifest.json").read_text()
    (folder / file).write_text("{")
    if file == "manifest.json":
        assert graph.state("p/1_a", results / "smoke") == "damaged"
    else:
        (folder / "manifest.json").unlink()
    assert runner.run(graph, (), results).done == ["p/1_a"]
    assert (folder / "manifest.json").read_text() == before


# Data that changes, or cannot be read


def clip(folder: Path, name: str, count: int = 8) -> Sequence:
    (folder / name).mkdir(parents=True, exist_ok=True)
    paths = tuple(folder / name / f"{t:04d}.png" for t in range(count))
    for t, path in enumerate(paths):
        cv2.imwrite(str(path), np.full((20, 30, 3), 10 * t, np.uint8))
    return Sequence(name, ImageFiles(paths), np.tile([1.0, 2, 3, 4], (count, 1)))


def test_a_frame_that_cannot_be_decoded_fails_its_run_alone(tmp_path):
    good, bad = clip(tmp_path, "good"), clip(tmp_path, "bad")
    bad.frames.paths[5].write_bytes(bad.frames.paths[5].read_bytes()[:50])
    with pytest.warns(FailedRuns, match="1 runs failed; bad: .*0005.png"):
        store = evaluate(Drift(), Dataset("d", [good, bad]), results=tmp_path / "r", lanes=2)
    assert store.names() == ["good"]
    assert store.failures()["bad"].startswith("frame 5\n")


class Meddling(Drift):
    """While it tracks, somebody exchanges a frame."""

    def track(self, state, frames):
        if frames.ids[0] == ("a", 4):
            cv2.imwrite(str(Meddling.victim), np.zeros((90, 90, 3), np.uint8))
        return super().track(state, frames)


def test_data_that_changes_under_way_gives_no_result_under_the_old_key(tmp_path):
    data = Dataset("d", [clip(tmp_path, "a"), clip(tmp_path, "b")])
    Meddling.victim = data["a"].frames.paths[2]
    with pytest.warns(FailedRuns, match="a: its files changed while it was tracked; run again"):
        first = evaluate(Meddling(), data, results=tmp_path / "r")
    assert first.names() == ["b"]
    second = evaluate(Meddling(), data, results=tmp_path / "r")  # they are what they are now: another key
    assert second.names() == ["a", "b"]
    assert second.folder != first.folder


def test_data_that_goes_away_under_way(tmp_path):
    data = Dataset("d", [clip(tmp_path, "a"), clip(tmp_path, "b")])

    def gone(run, done, of):
        shutil.rmtree(tmp_path / "b", ignore_errors=True)

    with pytest.warns(FailedRuns, match="1 runs failed; b"):
        store = evaluate(Drift(), data, results=tmp_path / "r", on_done=gone)
    assert store.names() == ["a"]
    clip(tmp_path, "b")
    assert evaluate(Drift(), data, results=tmp_path / "r").names() == ["a", "b"]


# A clock that goes back


def test_no_clock_decides_what_is_done(tmp_path, monkeypatch):
    """Files from the future and from 1980, and a wall clock that runs backwards, change nothing."""
    data, now = blank_dataset(4), [2e9]

    def backwards():
        now[0] -= 3600
        return now[0]

    calm = stored(evaluate(Drift(), data, results=tmp_path / "calm"))
    trained = train(tmp_path / "calm-fit", epochs=3)
    monkeypatch.setattr(time, "time", backwards)
    store = evaluate(Drift(), data, results=tmp_path / "r")
    train(tmp_path / "fit", epochs=3)
    for when, path in enumerate([*store.folder.rglob("*"), *(tmp_path / "fit").rglob("*")]):
        os.utime(path, (3e8, 3e8) if when % 2 else (4e9, 4e9))
    stamp = (store.folder / "b001.txt").stat().st_mtime_ns
    assert stored(evaluate(Drift(), data, results=tmp_path / "r")) == calm
    assert (store.folder / "b001.txt").stat().st_mtime_ns == stamp
    again = train(tmp_path / "fit", epochs=3)
    assert all(torch.equal(again[name], trained[name]) for name in trained)

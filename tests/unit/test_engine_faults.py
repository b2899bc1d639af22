"""What a benchmark run survives: trackers that raise, kill -9, company on the results folder, long videos."""

import fcntl
import os
import resource
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pytest
import torch

from trackerlib.bench.engine import FailedRuns, evaluate, manifest
from trackerlib.bench.protocols import OPE, TRE, Go, Restart, Supervised
from trackerlib.bench.results import RunSet
from trackerlib.data.formats import FAILURE, INIT, REGION, UNKNOWN
from trackerlib.data.sequence import Dataset, Sequence
from trackerlib.tracker import Output, State, dataclass


class Blank:
    """Frames that say which they are: the red of every pixel is the frame's number, of 256."""

    def __init__(self, count, name="blank", size=(8, 8)):
        self.count, self.name, self.size = count, name, size

    def __len__(self):
        return self.count

    def __getitem__(self, frame):
        image = np.zeros((*self.size, 3), np.uint8)
        image[..., 0] = frame % 256
        return image

    def digest(self):
        return f"{self.name} {self.count}"


@dataclass
class Boxes(State):
    boxes: torch.Tensor


def test_a_first_box_outside_the_frame_is_told_and_the_others_go_on(tmp_path):
    places = (("in", [1.0, 1, 2, 2]), ("out", [8.0, 1, 2, 2]))  # frames are 8 pixels wide
    inside, outside = (Sequence(name, Blank(3, name), np.tile(box, (3, 1))) for name, box in places)
    with pytest.warns(FailedRuns, match="1 runs failed; out: ValueError: out: the first box .* lies outside the frame"):
        runs = evaluate(Drift(), Dataset("two", [inside, outside]), "OPE", tmp_path)
    assert runs.names() == ["in"]
    assert list(runs.failures()) == ["out"]


class Drift:
    """Moves right by the frame's red; raises at one frame of one video."""

    name = "drift"

    def __init__(self, victim=("", -1)):
        self.victim = victim

    def init(self, frames, boxes):
        return Boxes(boxes)

    def track(self, state, frames):
        if self.victim in [frames.ids[u] for u in frames.lane]:
            raise RuntimeError("out of luck")
        red = torch.tensor([float(frames.images[u][0, 0, 0]) for u in frames.lane])
        boxes = state.boxes + torch.stack([red / 256, red * 0, red * 0, red * 0], 1)
        return Boxes(boxes), Output(boxes, red)


def blank_dataset(count, length=6):
    return Dataset("blank", [_blank(f"b{i:03d}", length + i % 5) for i in range(count)])


def _blank(name, length):
    return Sequence(name, Blank(length, name), np.tile([1.0, 2, 3, 4], (length, 1)))


def stored(store):
    return {p.name: p.read_bytes() for p in store.folder.rglob("*.txt") if p.parent.name != "times"}


def test_one_of_five_hundred_that_raises_is_named_and_the_rest_is_right(tmp_path):
    data = blank_dataset(500)
    want = stored(evaluate(Drift(), data, results=tmp_path / "calm", lanes=16))
    store = evaluate(Drift(victim=("b250", 3)), data, results=tmp_path / "unlucky", lanes=16)
    assert list(store.failures()) == ["b250"]
    assert "out of luck" in store.failures()["b250"]
    assert store.failures()["b250"].startswith("frame 3\n")
    got = {name: text for name, text in stored(store).items() if "out of luck" not in text.decode()}
    assert len(got) == 499
    assert got == {name: text for name, text in want.items() if name != "b250.txt"}


class Doomed(Drift):
    """Cannot step once the target is right of 1.2, whatever it looks at: an idle lane's state would raise for ever."""

    calls = 0

    def track(self, state, frames):
        Doomed.calls += 1
        if (state.boxes[:, 0] > 90).any():
            raise RuntimeError("gone")
        return super().track(state, frames)


def test_what_ended_a_run_does_not_raise_on_in_an_idle_lane(tmp_path):
    lost = Sequence("lost", Blank(40, "lost"), np.tile([100.0, 2, 3, 4], (40, 1)))
    data = Dataset("blank", [lost, *(_blank(f"b{i}", 40) for i in range(3))])
    store = evaluate(Doomed(), data, results=tmp_path, lanes=4)
    assert list(store.failures()) == ["lost"]
    assert Doomed.calls < 50  # 39 steps, one of them replayed for four lanes


def test_what_a_tracker_holds_and_what_a_protocol_does_is_in_the_key(tmp_path):
    data = Dataset("blank", [_blank("a", 9)])
    s = data["a"]
    keys = [manifest(Drift(), data, OPE(), 0)["key"], manifest(Drift(("x", 3)), data, OPE(), 0)["key"]]
    keys += [manifest(Drift(), data, p, 0)["key"] for p in (Supervised(), Nervous())]
    for other in (replace(s, boxes=s.boxes + 1), replace(s, origin=0), replace(s, size=(9, 9))):
        keys.append(manifest(Drift(), Dataset("blank", [other]), OPE(), 0)["key"])
    assert len(set(keys)) == len(keys)


class Nervous(Supervised):
    """Fails wherever the frame's number is 4 of 10."""

    def after(self, sequence, run, frame, box):
        return Restart(frame + self.skip, tuple(sequence.boxes[0])) if frame % 10 == 4 else Go.ON


def test_a_trajectory_with_its_resets_is_one_file(tmp_path):
    data = Dataset("blank", [_blank("a", 27), _blank("b", 16)])
    one = evaluate(Drift(), data, Nervous(repetitions=1), tmp_path / "1")
    assert one.names() == ["a_001", "b_001"]
    codes = one.trajectory("a_001").codes
    want = [INIT, *[REGION] * 3, FAILURE, *[UNKNOWN] * 4, INIT, *[REGION] * 4, FAILURE, *[UNKNOWN] * 4, INIT]
    assert codes.tolist() == [*want, *[REGION] * 4, FAILURE, UNKNOWN, UNKNOWN]
    boxes = one.read("a_001")
    assert np.isnan(boxes[4:10]).all()
    assert boxes[10].tolist() == [1 + round(10 / 256, 4), 2, 3, 4]  # from the annotation again, by frame 10's red
    many = evaluate(Drift(), data, Nervous(repetitions=1), tmp_path / "3", lanes=3)
    assert stored(many) == stored(one)


class Fussy(Supervised):
    def after(self, sequence, run, frame, box):
        return Go.STOP if frame == 3 else Go.ON


def test_a_protocol_may_stop_a_run(tmp_path):
    store = evaluate(Drift(), blank_dataset(2), Fussy(repetitions=1), tmp_path)
    assert store.trajectory("b001_001").codes.tolist() == [INIT, REGION, REGION, REGION, UNKNOWN, UNKNOWN, UNKNOWN]


class Wavering(Drift):
    """Another answer each time."""

    calls = 0

    def track(self, state, frames):
        Wavering.calls += 1
        state, output = super().track(state, frames)
        output.boxes = output.boxes + (Wavering.calls % 7) / 10
        return state, output


def test_what_differs_between_three_repetitions_is_repeated_to_the_end(tmp_path):
    data = blank_dataset(1, length=12)
    assert len(evaluate(Drift(), data, Supervised(repetitions=5), tmp_path).names()) == 3
    assert len(evaluate(Wavering(), data, Supervised(repetitions=5), tmp_path).names()) == 5


def test_two_targets_of_one_video_and_late_starts_decode_each_frame_once(tmp_path, monkeypatch):
    decoded = []
    monkeypatch.setattr(Blank, "__getitem__", lambda b, t, get=Blank.__getitem__: decoded.append(t) or get(b, t))
    video = Blank(60)
    boxes = np.tile([1.0, 2, 3, 4], (60, 1))
    data = Dataset("pair", [Sequence("left", video, boxes), Sequence("right", video, boxes + 1)])
    stores = evaluate(Drift(), data, ["OPE", TRE(segments=4)], tmp_path, lanes=3)
    assert [len(s.names()) for s in stores] == [2, 8]
    assert sorted(decoded) == list(range(60))
    assert stores[1].read("left_04")[-1, 0] == pytest.approx(1 + sum(range(41, 60)) / 256, abs=1e-4)


def test_a_small_budget_decodes_again_but_changes_nothing(tmp_path):
    from trackerlib.bench.engine import Engine, Job, manifest

    data, found = Dataset("d", [_blank("a", 50)]), []
    for budget in (1, 1 << 30):
        chosen = TRE(segments=5)
        store = RunSet.open(tmp_path / str(budget), manifest(Drift(), data, chosen, 0))
        tracker = Drift()
        tracker.keep_maps = False
        engine = Engine(tracker, data, 2, lambda *_: None, budget)
        engine.run([Job(chosen, store, run) for run in chosen.runs(data)])
        found.append((engine.decoded, stored(store)))
    assert found[0][0] > 50 == found[1][0]
    assert found[0][1] == found[1][1]


SCRIPT = """
    import os, sys, time
    sys.path[:0] = {path!r}
    from test_engine_faults import Drift, blank_dataset
    from trackerlib.bench.engine import evaluate

    class Slow(Drift):
        def init(self, frames, boxes):
            print("began", frames.ids[0][0], flush=True)
            return super().init(frames, boxes)

        def track(self, state, frames):
            time.sleep(0.002)
            return super().track(state, frames)

    def killed(source, target, rename=os.replace, left=[int((sys.argv + ["0"])[2])]):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), 9)
        rename(source, target)

    os.replace = killed
    Slow.__module__, Slow.__qualname__ = Drift.__module__, Drift.__qualname__
    evaluate(Slow(), blank_dataset(120), results=sys.argv[1], lanes=2)
"""


def start(folder, *arguments):
    code = textwrap.dedent(SCRIPT).format(path=[os.path.dirname(__file__)])
    return subprocess.Popen([sys.executable, "-c", code, str(folder), *arguments], stdout=subprocess.PIPE, text=True)


def began(process):
    """The runs that a process took up; it must end well."""
    lines = process.communicate()[0].splitlines()
    assert process.returncode == 0
    return [line.removeprefix("began ") for line in lines]


def only_folder(root):
    (folder,) = root.iterdir()
    return RunSet(folder)


def test_kill_9_loses_the_runs_in_flight_only(tmp_path):
    process = start(tmp_path / "killed")
    for _ in range(22):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = stored(only_folder(tmp_path / "killed"))
    assert 20 <= len(before) < 120
    assert len(began(start(tmp_path / "killed"))) == 120 - len(before)
    began(start(tmp_path / "calm"))
    assert stored(only_folder(tmp_path / "killed")) == stored(only_folder(tmp_path / "calm"))
    assert not list(tmp_path.rglob("claims/*"))


def test_kill_9_in_the_middle_of_writing_leaves_whole_files_or_none(tmp_path):
    """Killed between a result's bytes and its name, the fortieth time a file is renamed."""
    process = start(tmp_path / "killed", "40")
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    began(start(tmp_path / "killed"))
    began(start(tmp_path / "calm"))
    assert stored(only_folder(tmp_path / "killed")) == stored(only_folder(tmp_path / "calm"))


def test_two_processes_share_a_results_folder(tmp_path):
    """No run is done twice, none is lost, and both return when all is done."""
    shares = [began(process) for process in [start(tmp_path) for _ in range(2)]]
    assert min(map(len, shares)) > 0
    assert sorted(shares[0] + shares[1]) == list(blank_dataset(120))
    assert len(only_folder(tmp_path).names()) == 120


def test_a_claim_on_a_file_that_its_holder_removed_is_none(tmp_path, monkeypatch):
    """Between another's opening and locking, the holder lets go and a third makes the file anew."""
    a, b, c = (RunSet.open(tmp_path, {"tracker": "t", "key": "0" * 16}) for _ in range(3))
    assert a.claim("x")
    lock = fcntl.flock

    def late(handle, how):
        monkeypatch.setattr(fcntl, "flock", lock)
        a.release("x")
        assert c.claim("x")
        lock(handle, how)

    monkeypatch.setattr(fcntl, "flock", late)
    assert not b.claim("x")


def test_a_claim_is_held_by_one_and_ends_with_its_holder(tmp_path):
    a, b = (RunSet.open(tmp_path, {"tracker": "t", "key": "0" * 16}) for _ in range(2))
    assert a.claim("x")
    assert not b.claim("x")
    a.release("x")
    assert b.claim("x")


def test_memory_stays_flat_over_a_long_video(tmp_path):
    """Twenty thousand frames of 1.2 MB: no more than the frames ahead are ever held."""
    video = Blank(20_000, size=(640, 640))
    data = Dataset("long", [Sequence("long", video, np.tile([1.0, 2, 3, 4], (20_000, 1)))])
    evaluate(
        Drift(), Dataset("short", [Sequence("short", Blank(50, size=(640, 640)), np.ones((50, 4)))]), results=tmp_path
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    evaluate(Drift(), data, results=tmp_path)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < 100, f"{grown:.0f} MiB more"

"""The pickers, and drawing and tracking, without a browser: controls are set from Python."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import trackerlib as tl
from trackerlib.bench.protocols import TRE
from trackerlib.bench.results import RunSet
from trackerlib.data.formats import format_rows, read_rows
from trackerlib.data.sequence import Dataset, Sequence
from trackerlib.provenance import write_text
from trackerlib.show.live import DrawAndTrack
from trackerlib.show.video import write_clip
from trackerlib.show.viewer import Viewer
from trackerlib.tracker import Output


class Grey:
    def __init__(self, count: int):
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, frame: int) -> np.ndarray:
        return np.full((48, 64, 3), frame, np.uint8)

    def digest(self) -> str:
        return "grey"


def sequence_of(name: str, count: int, attributes=()) -> Sequence:
    return Sequence(name, Grey(count), np.tile([10.0, 10, 20, 20], (count, 1)), attributes=attributes)


@pytest.fixture
def dataset() -> Dataset:
    return Dataset(
        "mine", [sequence_of("one", 30), sequence_of("two", 40, ("OCC",)), sequence_of("three", 50, ("OCC",))]
    )


def stored(
    root, tracker: str, dataset: Dataset, protocol: str = "OPE", runs: dict[str, int] | None = None, **more
) -> RunSet:
    """A run set with boxes at x = 1, one more in each run."""
    facts = {"tracker": tracker, "key": f"{abs(hash((tracker, protocol))):016x}", "dataset": dataset.name}
    found = RunSet.open(
        root, facts | {"protocol": protocol, "layout": "vot" if protocol == "supervised" else "otb"} | more
    )
    for x, (run, length) in enumerate((runs or {name: len(s) for name, s in dataset.items()}).items(), 1):
        found.write(run, np.tile([x, 5.0, 20, 20], (length, 1)))
    return found


def faults(viewer) -> str:
    return viewer.said.value


def test_pickers_offer_what_there_is_and_show_it(tmp_path, dataset):
    for name in ("siamfc", "dsiam"):
        stored(tmp_path / "deep" / "er", name, dataset)
    stored(tmp_path, "elsewhere", Dataset("another", dataset.values()))
    viewer = Viewer(dataset, results=tmp_path)
    assert list(viewer.sequence.options) == ["one", "two", "three"]
    assert viewer.trackers.value == ("dsiam", "siamfc")
    assert (viewer.player.sequence.name, list(viewer.player.results)) == ("one", ["dsiam", "siamfc"])
    assert viewer.player.results["siamfc"][7].tolist() == [1, 5, 20, 20]
    viewer.trackers.value = ("siamfc",)
    viewer.sequence.value = "two"
    assert (viewer.player.sequence.name, list(viewer.player.results)) == ("two", ["siamfc"])  # the choice stays
    viewer.attribute.value = "OCC"
    assert list(viewer.sequence.options) == ["two", "three"]
    assert viewer.player.sequence.name == "two"
    assert faults(viewer) == ""


def test_it_begins_with_the_sequence_named(tmp_path, dataset):
    assert Viewer(dataset, results=tmp_path, sequence="three").player.sequence.name == "three"
    viewer = Viewer(dataset, results=tmp_path, sequence="thee")
    assert "mine has no sequence &#x27;thee&#x27;" in faults(viewer)
    assert viewer.player.sequence.name == "one"


def test_another_tracker_is_shown_at_the_same_frame(tmp_path, dataset):
    for name in ("siamfc", "dsiam"):
        stored(tmp_path, name, dataset)
    viewer = Viewer(dataset, results=tmp_path)
    player = viewer.player
    viewer.trackers.value = ("siamfc",)
    player.frame, player.selection, player.speed, player.shown = 12, [3, 9], 5.0, ["siamfc"]
    viewer.trackers.value = ("siamfc", "dsiam")
    assert (player.frame, player.selection, player.speed) == (12, [3, 9], 5)
    assert set(player.shown) == {"siamfc", "dsiam"}  # the truth stays hidden
    viewer.sequence.value = "two"
    assert (player.frame, player.selection) == (0, [])


def test_one_run_of_each_tracker_is_chosen_and_the_choice_stays(tmp_path, dataset):
    for name in ("a", "b"):
        stored(
            tmp_path, name, dataset, "supervised", {f"{s}_{k:03d}": len(dataset[s]) for s in dataset for k in (1, 2, 3)}
        )
    viewer = Viewer(dataset, results=tmp_path)
    assert viewer.trackers.value == ("a supervised one_001", "b supervised one_001")
    viewer.trackers.value = ("b supervised one_002",)
    viewer.sequence.value = "two"
    assert viewer.trackers.value == ("b supervised two_002",)


def test_two_run_sets_of_one_tracker_are_told_apart(tmp_path, dataset):
    stored(tmp_path / "a", "siamfc", dataset)
    stored(tmp_path / "b", "siamfc", dataset, key="0123456789abcdef")
    assert any(name.endswith("-01234567") for name in Viewer(dataset, results=tmp_path).trackers.options)


def test_runs_of_other_protocols_are_offered_at_their_frames(tmp_path, dataset):
    short = dataset[:1]
    starts = list(TRE().runs(short))
    stored(tmp_path, "siamfc", short, "TRE", {run.name: len(run) for run in starts})
    runs = stored(tmp_path, "siamfc", short, "supervised", {"one_001": 30})
    viewer = Viewer(short, results=tmp_path)
    last, first = f"siamfc TRE {starts[-1].name}", starts[-1].first
    assert {"siamfc TRE one_01", last, "siamfc supervised one_001"} <= set(viewer.trackers.options)
    viewer.trackers.value = (last,)
    boxes = viewer.player.results[last]
    assert first == 10
    assert np.isnan(boxes[:first]).all()
    assert boxes[first].tolist() == [len(starts), 5, 20, 20]
    viewer.trackers.value = ("siamfc supervised one_001",)
    assert np.isnan(viewer.player.results["siamfc supervised one_001"][0]).all()  # VOT's file has a code there
    assert runs.names() == ["one_001"]


def test_maps_that_were_kept_are_shown(tmp_path, dataset):
    runs = stored(tmp_path, "siamfc", dataset[:1])
    maps = {"response": np.random.default_rng(0).random((29, 17, 17)), "region": np.ones((29, 4))}
    runs.write("one", np.ones((30, 4)), maps=maps)
    assert Viewer(dataset, results=tmp_path).player.map_names == ["siamfc: response"]


def test_maps_of_another_layout_and_maps_that_do_not_fit(tmp_path, dataset):
    rng = np.random.default_rng(0)
    fit = {"response": rng.random((29, 17, 17)), "region": np.ones((29, 4))}
    for name, layout, maps in (
        ("g", "got10k", fit),
        ("bare", "otb", {"response": fit["response"]}),
        ("cut", "otb", fit),
    ):
        runs = stored(tmp_path, name, dataset[:1], layout=layout)
        runs.write("one", np.ones((30, 4)), maps=maps)
    (runs.folder / "maps" / "one.npz").write_bytes(b"PK cut off")
    viewer = Viewer(dataset, results=tmp_path)
    assert set(viewer.player.results) == {"g", "bare", "cut"}  # their boxes are shown all the same
    assert viewer.player.map_names == ["g: response"]
    assert "the maps of bare are not shown" in faults(viewer)
    assert "the maps of cut are not shown" in faults(viewer)


def test_a_sequence_without_truth_has_its_results(tmp_path):
    bare = Dataset("mine", [Sequence("one", Grey(30), np.full((30, 4), np.nan))])
    stored(tmp_path, "siamfc", bare)
    viewer = Viewer(bare, results=tmp_path)
    assert (list(viewer.player.results), faults(viewer)) == (["siamfc"], "")


def test_parameters_of_a_protocol_and_further_repetitions(tmp_path, dataset):
    short = dataset[:1]
    protocol = TRE(segments=4)
    starts = {run.name: len(run) for run in protocol.runs(short)}
    stored(tmp_path, "siamfc", short, "TRE", starts, protocol_parameters={"segments": 4})
    runs = stored(tmp_path, "siamfc", short, "supervised", {f"one_{k:03d}": 30 for k in range(1, 6)})
    runs.write("one_002", np.tile([9, 5.0, 30, 20], (30, 1)))  # not a deterministic tracker: 15 are asked for
    viewer = Viewer(short, results=tmp_path)
    offered = {name.split(" ", 1)[1] for name in viewer.trackers.options}
    assert offered == {*(f"TRE {name}" for name in starts), *(f"supervised one_{k:03d}" for k in range(1, 6))}
    viewer.trackers.value = viewer.trackers.options
    assert faults(viewer) == ""


def test_one_odd_run_set_hides_no_other(tmp_path, dataset):
    stored(tmp_path, "good", dataset)
    stored(tmp_path, "own", dataset, "relay")
    viewer = Viewer(dataset, results=tmp_path)
    assert list(viewer.player.results) == ["good"]
    assert "no protocol is called &#x27;relay&#x27;" in faults(viewer)


def test_folders_in_a_run_set_are_no_trackers(tmp_path, dataset):
    runs = stored(tmp_path, "good", dataset)
    runs.fail("two", "frame 3\nTraceback")
    assert list(Viewer(dataset, results=runs.folder).trackers.options) == ["good"]
    short = dataset[:1]
    theirs = stored(tmp_path / "vot", "KCF", short, "supervised", {f"one_{k:03d}": 30 for k in (1, 2, 3)})
    (theirs.folder / "manifest.json").unlink()
    options = Viewer(short, results=theirs.folder).trackers.options
    assert {name.split(" supervised")[0] for name in options} == {theirs.folder.name.rsplit("-", 1)[0]}


def test_no_results_yet_is_no_mistake(tmp_path, dataset, monkeypatch):
    monkeypatch.setattr("trackerlib.show.viewer.results_root", lambda: tmp_path / "none")
    viewer = Viewer(dataset)
    assert (faults(viewer), viewer.trackers.options) == ("", ())
    assert "mine: no sequences in it" in faults(Viewer(Dataset("mine", [])))


def test_files_that_others_published(tmp_path, dataset):
    write_text(
        tmp_path / "KCF" / "One.txt", format_rows(np.tile([11.0, 11, 20, 20], (30, 1)))
    )  # their first pixel is 1
    viewer = Viewer(dataset, results=tmp_path)
    assert viewer.player.results["KCF"][3].tolist() == [10, 10, 20, 20]
    assert viewer.player.scene.overlaps[0].min() == 1


def test_results_of_another_length_are_told_and_left_out(tmp_path, dataset):
    stored(tmp_path, "good", dataset[:1])
    stored(tmp_path, "short", dataset[:1], runs={"one": 12})
    viewer = Viewer(dataset, results=tmp_path)
    assert list(viewer.player.results) == ["good"]
    assert "short is not shown" in faults(viewer)
    assert "one.txt has 12 rows for 30 frames" in faults(viewer)
    viewer.trackers.value = ("good",)
    assert faults(viewer) == ""


def test_wrong_choices_are_told_and_what_was_shown_stays(tmp_path, dataset):
    stored(tmp_path, "good", dataset)
    viewer = Viewer(dataset, results=tmp_path)
    for control, value, message in (
        (viewer.datasets, "otb1OO", "no dataset is called &#x27;otb1OO&#x27;"),
        (viewer.datasets, "vot2018", "say where with root"),
        (viewer.root, "/no/such", "wanted:"),
        (viewer.results, "/no/such", "/no/such: no such folder of results"),
    ):
        control.value = value
        assert message in faults(viewer)
        assert viewer.player.sequence.name == "one"
    viewer.datasets.value, viewer.root.value, viewer.results.value = "mine", "", str(tmp_path)
    assert (faults(viewer), list(viewer.player.results)) == ("", ["good"])


def test_a_results_file_that_is_no_text_is_told(tmp_path, dataset):
    runs = stored(tmp_path, "siamfc", dataset[:1])
    (runs.folder / "one.txt").write_text("1,2,3,4\n1,2\n")
    viewer = Viewer(dataset, results=tmp_path)
    assert "one.txt, line 2" in faults(viewer)
    assert list(viewer.player.results) == []


def test_headless_it_is_a_contact_sheet(tmp_path, dataset, monkeypatch):
    monkeypatch.setenv("TRK_HEADLESS", "1")
    bundle, _ = Viewer(dataset, results=tmp_path)._repr_mimebundle_()
    assert set(bundle) == {"text/html", "text/plain"}
    assert bundle["text/html"].count("<img") == 8
    bundle, _ = Viewer("vot2018")._repr_mimebundle_()
    assert "say where with root" in bundle["text/html"]


# Draw and track


class Mover:
    """Moves one pixel to the right a frame; `hold` stops it before a frame, and `breaks` there."""

    name = "mover"

    def __init__(self):
        self.at, self.hold, self.breaks = 0, threading.Event(), None
        self.hold.set()

    def init(self, frames, boxes):
        self.at = frames.ids[0][1]
        return boxes

    def track(self, state, frames):
        self.hold.wait(10)
        if frames.ids[0][1] == self.breaks:
            raise RuntimeError("no memory left")
        state = state + state.new_tensor([1, 0, 0, 0])
        return state, Output(state, state[:, 0])


@pytest.fixture
def mover(monkeypatch) -> Mover:
    tracker = Mover()
    monkeypatch.setattr("trackerlib.show.live.load_tracker", lambda name, weights: tracker)
    return tracker


@pytest.fixture
def clip(tmp_path):
    return write_clip(tmp_path / "clip.mp4", (Grey(1)[0] + np.uint8(5 * t) for t in range(20)))


def test_a_box_is_drawn_tracked_corrected_and_saved(mover, clip, tmp_path):
    draw = DrawAndTrack(clip, folder=tmp_path)
    assert draw.player.drawing
    draw.player._handle_custom_msg({"drawn": [5, 6, 10, 12], "at": 2, "clip": 1}, [])  # as the browser says it
    draw.wait()
    assert not draw.player.drawing
    assert np.isnan(draw.boxes[:2]).all()
    assert draw.boxes[2:, 0].tolist() == [*range(5, 23)]
    draw.begin(10, np.array([30, 6, 10, 12]))
    draw.wait()
    assert draw.boxes[[9, 10, 19], 0].tolist() == [12, 30, 39]
    draw._save()
    rows = read_rows(tmp_path / "clip.txt")
    np.testing.assert_allclose(rows, draw.boxes + np.array([1, 1, 0, 0]))  # OTB's first pixel is 1
    assert "20 rows, 2 of them without a box" in draw.said.value


def test_stop_keeps_what_was_found_and_track_goes_on(mover, clip):
    draw = DrawAndTrack(clip)
    mover.hold.clear()
    draw.begin(0, np.array([5, 6, 10, 12.0]))
    assert draw.tracking.disabled
    threading.Timer(0.2, mover.hold.set).start()
    draw.stop()
    assert not draw.tracking.disabled
    known = int(np.isfinite(draw.boxes).all(1).sum())
    assert 1 <= known < 20
    assert "stopped at frame" in draw.said.value
    draw.player.frame = 19
    draw.track()
    draw.wait()
    assert draw.boxes[:, 0].tolist() == [*range(5, 25)]
    assert not draw.tracking.disabled


def test_a_tracker_that_fails_is_told(mover, clip):
    mover.breaks = 4
    draw = DrawAndTrack(clip)
    draw.begin(0, np.array([5, 6, 10, 12.0]))
    draw.wait()
    assert "siamfc-3s: no memory left; what was found before stays" in draw.said.value
    assert np.isfinite(draw.boxes).all(1).sum() == 4
    assert not draw.tracking.disabled


def test_nothing_to_track_or_save_is_told(clip):
    draw = DrawAndTrack(clip)
    draw.track()
    assert "There is no box at or before this frame" in draw.said.value
    draw._save()
    assert "Not saved: nothing to save yet" in draw.said.value


def test_boxes_are_not_written_over_the_video(mover, clip):
    draw = DrawAndTrack(clip)
    draw.begin(0, np.array([5, 6, 10, 12.0]))
    draw.wait()
    before = clip.read_bytes()
    draw.out.value = str(clip)
    draw._save()
    assert "boxes are written as .txt" in draw.said.value
    assert clip.read_bytes() == before


def test_a_box_drawn_while_it_tracks_takes_over(mover, clip):
    draw = DrawAndTrack(clip)
    mover.hold.clear()
    draw.begin(0, np.array([5, 6, 10, 12.0]))
    draw.begin(8, np.array([40, 6, 10, 12.0]))  # returns at once, though the tracker hangs
    mover.hold.set()
    draw.wait()
    assert draw.boxes[[8, 19], 0].tolist() == [40, 51]
    assert np.isnan(draw.boxes[3:8]).all()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [("gone.mp4", None, "no such folder or video"), ("broken.mp4", b"no video", "OpenCV can read no frame")],
)
def test_a_video_that_cannot_be_opened_is_told(clip, tmp_path, name, content, message):
    if content:
        (tmp_path / name).write_bytes(content)
    assert message in DrawAndTrack(tmp_path / name).said.value
    draw = DrawAndTrack(clip)
    draw.path.value = str(tmp_path / name)
    draw.open()
    assert message in draw.said.value
    assert draw.player.sequence.name == "clip"  # what was open stays
    draw.path.value = " "
    draw.open()
    assert "type the path of a video" in draw.said.value


def test_a_shipped_tracker_follows_a_rendered_target(tmp_path, monkeypatch):
    sequence = tl.load_dataset("rendered")[1]
    write_clip(tmp_path / "clip.mp4", (sequence.frames[t] for t in range(12)))
    draw = DrawAndTrack(tmp_path / "clip.mp4", weights="siamfc-quarter")
    draw.begin(0, sequence.boxes[0])
    draw.wait()
    assert "done at frame 11" in draw.said.value
    centres = draw.boxes[:, :2] + draw.boxes[:, 2:] / 2
    truth = sequence.boxes[:12, :2] + sequence.boxes[:12, 2:] / 2
    assert np.hypot(*(centres - truth).T).max() < 20
    assert draw.player.map_names == ["tracked: response"]
    monkeypatch.setenv("TRK_HEADLESS", "1")
    assert draw._repr_mimebundle_()[0]["text/html"].count("<img") == 8


def test_boxes_that_were_not_saved_are_not_dropped_at_once(mover, clip, tmp_path):
    draw = DrawAndTrack(clip, folder=tmp_path)
    draw.begin(0, np.array([5, 6, 10, 12.0]))
    draw.wait()
    draw.open()
    assert "press Open again to drop them" in draw.said.value
    assert np.isfinite(draw.boxes).all()
    draw.open()
    assert np.isnan(draw.boxes).all()
    draw.begin(0, np.array([5, 6, 10, 12.0]))
    draw.wait()
    draw._save()
    draw.open()
    assert np.isnan(draw.boxes).all()


@pytest.mark.parametrize(
    ("tracker", "maps"), [("kcf", ["tracked: heat map"]), ("goturn", []), ("siamemory", None), ("rolo", None)]
)
def test_a_tracker_that_has_no_such_weights_does_without_those_chosen(tmp_path, tracker, maps):
    sequence = tl.load_dataset("rendered")[1]
    write_clip(tmp_path / "clip.mp4", (sequence.frames[t] for t in range(5)))
    draw = DrawAndTrack(tmp_path / "clip.mp4", tracker, "siamfc-quarter")
    draw.begin(0, sequence.boxes[0])
    draw.wait()
    assert f"{tracker}: done at frame 4" in draw.said.value
    assert maps is None or draw.player.map_names == maps


def test_a_tracker_that_is_not_offered_is_refused():
    with pytest.raises(ValueError, match="no tracker is called 'siamfc3s'; near: siamfc-3s"):
        DrawAndTrack(tracker="siamfc3s")

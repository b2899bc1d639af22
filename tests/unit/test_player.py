"""The player without a browser: what it sends, what it is told, what it draws and saves."""

from __future__ import annotations

import base64
import json
import re

import cv2
import nbformat
import numpy as np
import pytest
from nbconvert import HTMLExporter
from traitlets import TraitError

from trackerlib.data.folder import load_clip
from trackerlib.data.sequence import NoFrames, Sequence
from trackerlib.show.export import GIF_MOST, save
from trackerlib.show.page import MOST
from trackerlib.show.player import Player
from trackerlib.show.scene import LARGEST


class Grey:
    """Frames of one grey each; reading `broken` fails as a damaged file does."""

    def __init__(self, count: int, broken: int | None = None, size: tuple[int, int] = (640, 480)):
        self.count, self.broken, self.size, self.read = count, broken, size, []

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, frame: int) -> np.ndarray:
        self.read.append(frame)
        if frame == self.broken:
            raise ValueError("img/0003.jpg: truncated image <12 bytes>")
        return np.full((*self.size[::-1], 3), 20 + frame % 200, np.uint8)

    def digest(self) -> str:
        return "grey"


def sequence_of(count: int = 50, broken: int | None = None, **facts) -> Sequence:
    return Sequence("Grey", Grey(count, broken), np.tile([100.0, 100, 200, 100], (count, 1)), **facts)


def is_near(pixel: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool(np.abs(pixel.astype(int) - colour).max() < 60)  # JPEG smears colour at a thin line


class Browser:
    """Asks as player.js does, and keeps what comes."""

    def __init__(self, player: Player, monkeypatch):
        self.player, self.messages = player, []
        monkeypatch.setattr(player, "send", lambda content, buffers=None: self.messages.append((content, buffers)))

    def tell(self, **content):
        self.player._handle_custom_msg(content, [])
        return self.messages[-1] if self.messages else None

    def frame(self, t: int):
        content, buffers = self.tell(want=t, clip=self.player._clip["id"])
        return content["image"], buffers

    def series(self) -> dict[str, np.ndarray]:
        """As class Series of player.js unpacks it."""
        clip, values = self.player._clip, np.frombuffer(self.player._series, np.float32)
        count, trackers = clip["count"], len(clip["trackers"])
        boxes, rest = np.split(values, [4 * count * (trackers + 1)])
        overlap, error, lost = rest.reshape(3, trackers, count)
        return {"boxes": boxes.reshape(trackers + 1, count, 4), "overlap": overlap, "error": error, "lost": lost}


@pytest.fixture
def asked(monkeypatch):
    return lambda *arguments, **options: Browser(Player(*arguments, **options), monkeypatch)


def test_a_frame_comes_as_jpeg_without_boxes(asked):
    sequence = sequence_of()
    about, (jpeg,) = asked(sequence, {"mine": sequence.boxes}).frame(30)
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (480, 640, 3)
    assert np.abs(image.astype(int) - 50).max() <= 1
    assert about == {"frame": 30, "size": [640, 480], "maps": [], "clip": 1}


def test_boxes_overlap_error_and_losses_come_as_numbers(asked):
    sequence = sequence_of(4)
    boxes = sequence.boxes + np.array([100, 0, 0, 0])
    boxes[2], boxes[3] = np.nan, (500, 400, 20, 20)
    numbers = asked(sequence, {"mine": boxes, "exact": sequence.boxes}).series()
    np.testing.assert_array_equal(numbers["boxes"], np.float32([sequence.boxes, boxes, sequence.boxes]))
    np.testing.assert_allclose(numbers["overlap"], [[1 / 3, 1 / 3, np.nan, 0], [1, 1, 1, 1]], rtol=1e-6)
    np.testing.assert_allclose(numbers["error"][0], [100, 100, np.nan, np.hypot(310, 260)], rtol=1e-6)
    np.testing.assert_array_equal(numbers["lost"], [[0, 0, 1, 1], [0, 0, 0, 0]])  # no box, and no overlap


def test_an_absent_target_is_not_lost(asked):
    absent = np.array([False, False, True])
    sequence = sequence_of(3, absent=absent)
    browser = asked(sequence, {"mine": np.full((3, 4), 0.5)})
    np.testing.assert_array_equal(browser.series()["lost"], [[1, 1, 0]])
    assert np.isnan(browser.series()["overlap"][0, 2])
    assert browser.player._clip["tags"] == {"target out of view": [[2, 2]]}


def test_a_tracker_is_not_lost_before_it_begins(asked):
    boxes = np.tile([100.0, 100, 200, 100], (6, 1))
    boxes[:2] = boxes[4] = np.nan  # a run of TRE that starts at 2, and a restart at 4
    np.testing.assert_array_equal(asked(sequence_of(6), {"mine": boxes}).series()["lost"], [[0, 0, 0, 0, 1, 0]])


def test_frames_are_read_one_at_a_time(asked):
    sequence = sequence_of(20_000)
    browser = asked(sequence, {"mine": sequence.boxes})
    browser.frame(19_999)
    browser.frame(0)
    assert sequence.frames.read == [0, 19_999, 0]  # the first one for its size
    assert len(browser.player._series) == 4 * 20_000 * (2 * 4 + 3)  # all there is to send: 0.9 MB


def test_what_the_browser_asks_out_of_range_or_of_another_sequence(asked):
    browser = asked(sequence_of(), {})
    assert browser.frame(10**6)[0]["frame"] == 49
    browser.messages.clear()
    assert browser.tell(want=3, clip=99) is None


def test_large_frames_are_scaled_and_their_size_is_told(asked):
    sequence = Sequence("Wide", Grey(2, size=(3840, 2160)), np.tile([400.0, 800, 400, 400], (2, 1)))
    about, (jpeg,) = asked(sequence, {}).frame(0)
    assert about["size"] == [3840, 2160]
    assert cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).shape == (720, LARGEST, 3)


def test_what_the_browser_knows_of_a_sequence_is_plain_json(asked):
    tags = {"occlusion": np.array([0, 1, 1, 0, 1], bool), "blur": np.zeros(5, bool)}
    browser = asked(sequence_of(5, tags=tags), {"a": np.ones((5, 4)), "b": np.ones((5, 4))}, dataset="rendered")
    clip = json.loads(json.dumps(browser.player._clip))
    assert (clip["count"], clip["fps"], clip["tags"]) == (5, 25.0, {"occlusion": [[1, 2], [4, 4]]})
    assert [tracker["name"] for tracker in clip["trackers"]] == ["a", "b"]
    assert [tracker["colour"] for tracker in clip["trackers"]] == ["#0072B2", "#D55E00"]  # Okabe and Ito
    assert clip["statement"] == "rendered (synthetic), Grey, 5 frames; continuous IoU, no repairs"


def test_maps_come_with_the_place_that_they_cover(asked):
    sequence = sequence_of(4)
    response = np.zeros((3, 17, 17))  # from the second frame on: the first was given, not searched
    response[:, 8, 8] = 1
    region = np.tile([0.0, 0, 255, 255], (3, 1))
    heat = np.linspace(0, 2, 3 * 32 * 32).reshape(3, 32, 32)
    maps = {"mine": {"response": response, "region": region}, "whole": {"heat map": heat}}
    browser = asked(sequence, dict.fromkeys(maps, sequence.boxes), maps=maps)
    assert browser.player.map_names == ["mine: response", "whole: heat map"]
    assert browser.frame(0)[0]["maps"] == []
    about, (_, values, hot) = browser.frame(1)
    assert about["maps"][0] == {
        "name": "mine: response",
        "tracker": "mine",
        "place": [59.5, 59.5, 136, 136],  # 17 cells of stride 8 in the middle of 255 pixels
        "rows": 17,
        "columns": 17,
        "searched": [0, 0, 255, 255],
    }
    assert about["maps"][1]["place"] == [0, 0, 640, 480]  # no region: the whole frame
    levels = np.frombuffer(values, np.uint8).reshape(17, 17)
    assert (levels[8, 8], levels.sum()) == (255, 255)
    assert (hot[0], hot[-1], len(hot)) == (0, 255, 1024)


def test_a_map_is_drawn_into_pictures_where_it_is_chosen():
    sequence = sequence_of(4)
    response = np.zeros((3, 17, 17))
    response[:, 8, 8] = 1
    maps = {"mine": {"response": response, "region": np.tile([0.0, 0, 480, 480], (3, 1))}}
    player = Player(sequence, {"mine": sequence.boxes}, maps)
    assert is_near(player.drawn(1)[240, 240], (21, 21, 21))
    player.overlay = "mine: response"
    assert player.drawn(1)[240, 240].sum() > 300
    assert is_near(player.drawn(0)[240, 240], (20, 20, 20))


def test_a_map_that_is_not_there_yet_leaves_the_picture(recwarn):
    sequence = sequence_of(4)
    maps = {"mine": {"response": np.full((3, 17, 17), np.nan), "region": np.full((3, 4), np.nan)}}
    player = Player(sequence, {"mine": sequence.boxes}, maps)
    player.overlay = "mine: response"
    assert is_near(player.drawn(2)[400, 500], (22, 22, 22))
    assert not recwarn.list


def test_pictures_have_the_boxes_that_are_shown():
    sequence = sequence_of()
    player = Player(sequence, {"mine": sequence.boxes + np.array([100, 0, 0, 0])})
    image = player.drawn(30)
    assert is_near(image[150, 400], (0, 114, 178))  # right edge of mine, Okabe-Ito blue
    assert (image > 200).all(2).sum() > 300  # white dashes of the truth
    player.shown = ["mine"]
    assert (player.drawn(30) > 200).all(2).sum() == 0
    player.shown = []
    assert (player.drawn(30) == 50).all()


def test_tall_frames_are_scaled_with_their_boxes():
    sequence = Sequence("Tall", Grey(2, size=(1080, 1920)), np.tile([400.0, 800, 400, 400], (2, 1)))
    image = Player(sequence, {"mine": sequence.boxes}).drawn(0, 640)
    assert image.shape == (480, 270, 3)
    edges = np.abs(image.astype(int) - 20).max(2) > 30
    ys, xs = np.nonzero(edges)
    assert (xs.min() + xs.max()) / 2 == pytest.approx(150, abs=1)  # centre 600 of 1080, a quarter of it
    assert (ys.min() + ys.max()) / 2 == pytest.approx(250, abs=1)


def test_static_sheet_headless_and_live(monkeypatch):
    sequence = sequence_of()
    player = Player(sequence, {"<mine>": sequence.boxes})
    monkeypatch.delenv("TRK_HEADLESS", raising=False)
    live, _ = player._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in live
    monkeypatch.setenv("TRK_HEADLESS", "1")
    still, _ = player._repr_mimebundle_()
    assert set(still) == {"text/html", "text/plain"}
    assert still["text/html"] == live["text/html"]
    thumbnails = re.findall(r"base64,([^']+)", still["text/html"])
    assert len(thumbnails) == 8
    last = cv2.imdecode(np.frombuffer(base64.b64decode(thumbnails[-1]), np.uint8), cv2.IMREAD_COLOR)
    assert is_near(last[5, 5], (69, 69, 69))  # frame 49
    assert "&lt;mine&gt; IoU 1.00" in still["text/html"]
    assert "<mine>" not in still["text/html"]
    assert not hasattr(Player, "_ipython_display_")


def test_pages_that_nbconvert_makes_are_not_blank(monkeypatch):
    monkeypatch.delenv("TRK_HEADLESS", raising=False)
    bundle, _ = Player(sequence_of(), {})._repr_mimebundle_()
    output = nbformat.v4.new_output("execute_result", bundle, execution_count=1)
    cell = nbformat.v4.new_code_cell("player", execution_count=1, outputs=[output])
    page, _ = HTMLExporter().from_notebook_node(nbformat.v4.new_notebook(cells=[cell]))
    assert page.count("<img alt=") == 8


def test_sequence_without_ground_truth_plays(asked):
    sequence = Sequence("Clip", Grey(10), np.full((10, 4), np.nan))
    player = asked(sequence, {"mine": np.tile([5.0, 5, 50, 50], (10, 1))}).player
    assert (player._clip["truth"], player.shown) == (None, ["mine"])
    assert not player.scene.lost.any()
    assert player._clip["tags"] == {}
    assert "mine IoU –" in player.contact_sheet()
    assert "ground truth" not in player.contact_sheet()


def test_unreadable_frame_is_told_and_the_others_play(asked):
    browser = asked(sequence_of(broken=3), {})
    about, buffers = browser.frame(3)
    assert about["error"] == "img/0003.jpg: truncated image <12 bytes>"
    assert buffers == [b""]
    assert "error" not in browser.frame(4)[0]
    assert "frame 3 cannot be shown:</b> img/0003.jpg: truncated image &lt;12 bytes&gt;" in (
        Player(sequence_of(4, broken=3), {}).contact_sheet()
    )


def test_annotations_without_images_say_where_they_were_looked_for(asked):
    sequence = Sequence("Bare", NoFrames(5, "OTB/Bare/img"), np.ones((5, 4)))
    assert "OTB/Bare/img: no images there" in asked(sequence, {}).frame(0)[0]["error"]


def test_another_sequence_is_loaded_in_its_place(asked):
    browser = asked(sequence_of(), {"mine": np.ones((50, 4))})
    player = browser.player
    player.frame, player.selection = 30, [3, 9]
    with pytest.raises(ValueError, match="another sequence"):
        player.load(sequence_of(20), {"mine": np.ones((50, 4))})
    assert (len(player.sequence), player.frame) == (50, 30)  # as it was
    player.load(sequence_of(20), {"yours": np.ones((20, 4))})
    assert (player.frame, player.selection, player.shown) == (0, [], ["yours", "ground truth"])
    assert (player._clip["id"], player._clip["count"]) == (2, 20)


def test_boxes_of_a_tracker_at_work_are_put_one_by_one(asked):
    mine = np.full((5, 4), np.nan)
    browser = asked(sequence_of(5), {"mine": mine})
    maps, region = {"response": np.eye(17)}, np.array([0, 0, 255, 255.0])
    browser.player.put("mine", 2, np.array([100, 100, 200, 50]), maps, region)
    content, (values,) = browser.messages[-1]
    row = content["row"]
    assert (row["row"], row["frame"], row["box"]) == (0, 2, [100, 100, 200, 50])
    assert row["measured"] == [0.5, 25, 0]
    assert browser.player._clip["maps"] == []
    assert (row["maps"][0]["name"], len(values)) == ("mine: response", 289)
    assert np.isnan(mine).all()  # the caller's own array stays as it was
    assert np.isnan(browser.series()["boxes"][1]).all()
    browser.player.settle()
    assert (browser.player._clip["maps"], browser.player._clip["id"]) == (["mine: response"], 1)
    np.testing.assert_array_equal(browser.series()["boxes"][1, 2], [100, 100, 200, 50])
    assert browser.frame(2)[0]["maps"] == row["maps"]  # also to who asks later
    assert browser.frame(3)[0]["maps"] == []  # not searched yet


def test_a_drawn_box_is_handed_on(asked):
    browser, drawn = asked(sequence_of(), {}), []
    browser.player.on_drawn = lambda frame, box: drawn.append((frame, box.tolist()))
    browser.tell(drawn=[1.5, 2, 30, 40], at=7, clip=1)
    browser.tell(drawn=[1.5, 2, 30, 40], at=-1, clip=1)  # before there was a frame
    browser.tell(drawn=[1.5, 2, 30, 40], at=7, clip=0)  # on another sequence
    assert drawn == [(7, [1.5, 2, 30, 40])]


def test_clips_hold_the_frames_chosen(tmp_path):
    player = Player(sequence_of(), {"mine": np.tile([5.0, 5, 50, 50], (50, 1))})
    clip = load_clip(player.save(tmp_path / "a.mp4", range(10, 20)))
    assert (len(clip), clip.image_size(), clip.frames.fps) == (10, (640, 480), 25)
    assert is_near(clip.frames[0][400, 600], (30, 30, 30))
    player.save(tmp_path / "a.gif", range(10, 13))
    ok, frames = cv2.imreadmulti(str(tmp_path / "a.gif"))
    assert ok
    assert len(frames) == 3
    assert is_near(frames[2][400, 600], (32, 32, 32))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gif", "a.mp4"]  # and no part of one


@pytest.mark.parametrize("kind", ["png", "pdf"])
def test_a_sheet_is_a_figure_of_what_is_shown(tmp_path, kind):
    player = Player(sequence_of(), {"mine": np.ones((50, 4)), "other": np.ones((50, 4))})
    with_all = player.save(tmp_path / f"all.{kind}").read_bytes()
    player.shown = ["other"]
    assert player.save(tmp_path / f"one.{kind}").read_bytes() != with_all


def test_a_page_holds_its_frames_and_numbers_and_nothing_from_elsewhere(tmp_path):
    sequence = sequence_of(tags={"late": np.arange(50) > 15})
    player = Player(sequence, {"</script><b>mine": sequence.boxes}, dataset="rendered")
    page = player.save(tmp_path / "a.html", range(10, 20)).read_text()
    assert page.count("</script>") == 1
    assert not re.findall(r"https?://", page)
    data = re.search(r"const data = \{ state: (\{.*\}), frames: \[\n(.*)\]\};\n", page, re.DOTALL)
    state, frames = json.loads(data[1]), [json.loads(line.rstrip(",")) for line in data[2].strip().split("\n")]
    assert (state["frame"], state["_clip"]["count"], state["_clip"]["offset"]) == (0, 10, 10)
    assert state["_clip"]["tags"] == {"late": [[6, 9]]}
    assert "rendered (synthetic)" in state["_clip"]["statement"]
    assert len(base64.b64decode(state["_series"])) == 4 * 10 * (2 * 4 + 3)
    assert [about["frame"] for about, *_ in frames] == list(range(10))
    jpeg = cv2.imdecode(np.frombuffer(base64.b64decode(frames[3][1]), np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(jpeg.astype(int) - 33).max() <= 1


@pytest.mark.parametrize(
    ("name", "frames", "message"),
    [
        ("a.mp4", [], "Grey: no frames to save; select"),
        ("a.mp4", [3, 50], "Grey has frames 0 to 49, not 50"),
        ("a.avi", None, r"clips are written as \.mp4 or \.gif"),
        ("a.html", [1, 3], "frames that follow one another"),
        ("a.gif", [2, 3], r"truncated image"),
    ],
)
def test_what_cannot_be_saved_is_told_and_leaves_nothing(tmp_path, name, frames, message):
    with pytest.raises(ValueError, match=message):
        Player(sequence_of(broken=3), {}).save(tmp_path / name, frames)
    assert list(tmp_path.iterdir()) == []


def test_a_page_of_too_many_frames_is_refused(tmp_path):
    with pytest.raises(ValueError, match=f"holds at most {MOST}"):
        Player(sequence_of(MOST + 1), {}).save(tmp_path / "a.html")


def test_a_gif_of_too_many_frames_is_refused(tmp_path):
    with pytest.raises(ValueError, match=f"a GIF holds at most {GIF_MOST}"):
        Player(sequence_of(GIF_MOST + 1), {}).save(tmp_path / "a.gif")


def test_the_video_itself_is_not_overwritten(tmp_path):
    path = Player(sequence_of(5), {}).save(tmp_path / "a.mp4")
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"a\.mp4: that is the video itself; choose another name"):
        Player(load_clip(path), {}).save(path)
    assert path.read_bytes() == before


def test_what_is_saved_stays_what_was_shown(asked, tmp_path):
    """The thread that writes sees nothing of what is loaded or toggled meanwhile."""
    mine = np.tile([200.0, 100, 200, 100], (50, 1))
    player = asked(sequence_of(), {"mine": mine}, folder=tmp_path).player
    still = player.still()
    player.shown = []
    player.results["mine"][:] = np.nan
    player.load(Sequence("Other", Grey(3), np.ones((3, 4))), {})
    assert is_near(still.drawn(30)[150, 400], (0, 114, 178))
    assert len(load_clip(save(still, tmp_path / "a.mp4"))) == 50


def test_the_buttons_save_the_selection_and_say_so(asked, tmp_path):
    browser = asked(sequence_of(broken=3), {}, folder=tmp_path)
    player = browser.player
    for selection, kind, told in (
        ([10, 19], "mp4", rf"Saved {tmp_path}/Grey_00010-00019\.mp4 \(10 frames, \d\.\d MB\)"),
        ([], "html", rf"Saved {tmp_path}/Grey_00000-00049\.html \(50 frames"),
        ([2, 5], "gif", "Not saved: .*truncated image"),
        ([9, 3], "mp4", "Not saved: Grey: no frames to save"),
        ([0, 1], "exe", "Not saved: .*clips are written as"),
    ):
        player.selection = selection
        browser.tell(save=kind)
        player._saving.join()
        assert re.match(told, player.told["text"])
        assert player.told["fault"] == told.startswith("Not")


@pytest.mark.parametrize(("trait", "value"), [("selection", [5]), ("speed", 0.0), ("selection", [1, 2, 3])])
def test_what_a_trait_cannot_be_is_refused(trait, value):
    with pytest.raises(TraitError, match=f"{trait} is "):
        setattr(Player(sequence_of(), {}), trait, value)


def test_a_source_that_breaks_in_its_own_way_is_told(asked):
    class Odd(Grey):
        def __getitem__(self, frame):
            if frame:
                raise KeyError("no such key")
            return super().__getitem__(frame)

    about, _ = asked(Sequence("Odd", Odd(3), np.ones((3, 4))), {}).frame(2)
    assert about["error"] == "'no such key'"


@pytest.mark.parametrize(
    ("results", "maps", "message"),
    [
        ({"mine": np.ones((49, 4))}, None, r"Grey has 50 frames, but the boxes of mine are \(49, 4\)"),
        ({"mine": np.ones((50, 8))}, None, r"the boxes of mine are \(50, 8\), not \(50, 4\)"),
        (np.ones((50, 4)), None, "results must map a tracker's name to its boxes, not be ndarray"),
        ({"ground truth": np.ones((50, 4))}, None, "no tracker can be called 'ground truth'"),
        ({"siamfc-3s": np.ones((50, 4))}, {"siamfc-3": {}}, "maps of 'siamfc-3', .* boxes of siamfc-3s"),
        (
            {"mine": np.ones((50, 4))},
            {"mine": {"response": np.ones((49, 17, 17)), "region": np.ones((50, 4))}},
            "the maps of mine need 'region' for the 49 frames after the first, have 50 rows",
        ),
    ],
)
def test_wrong_input_is_told_at_once(results, maps, message):
    with pytest.raises(ValueError, match=message):
        Player(sequence_of(), results, maps)


def test_empty_sequence_is_an_error():
    with pytest.raises(ValueError, match="Grey: no frames to play"):
        Player(Sequence("Grey", Grey(0), np.zeros((0, 4))), {})

"""The player without a browser: its controls are set from Python."""

from __future__ import annotations

import base64
import re

import cv2
import numpy as np
import pytest

from trackerlib.data.sequence import NoFrames, Sequence
from trackerlib.show.player import WIDTH, Player


class Grey:
    """Frames of one grey each; reading one past `broken` fails as a damaged file does."""

    def __init__(self, count: int, broken: int | None = None):
        self.count, self.broken, self.read = count, broken, []

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, frame: int) -> np.ndarray:
        self.read.append(frame)
        if frame == self.broken:
            raise ValueError("img/0003.jpg: truncated image <12 bytes>")
        return np.full((480, 640, 3), 20 + frame % 200, np.uint8)

    def digest(self) -> str:
        return "grey"


def sequence_of(count: int = 50, broken: int | None = None) -> Sequence:
    return Sequence("Grey", Grey(count, broken), np.tile([100.0, 100, 200, 100], (count, 1)))


def picture(player: Player) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(player.image.value, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def is_near(pixel: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool(np.abs(pixel.astype(int) - colour).max() < 60)  # JPEG smears colour at a thin line


def test_slider_shows_its_frame_with_boxes_and_overlap():
    sequence = sequence_of()
    player = Player(sequence, {"mine": sequence.boxes + np.array([100, 0, 0, 0])})
    player.slider.value = 30
    image = picture(player)
    assert image.shape == (480, WIDTH, 3)
    assert is_near(image[10, 10], (50, 50, 50))
    assert is_near(image[150, 400], (0, 114, 178))  # right edge of mine, Okabe-Ito blue
    assert is_near(image[150, 300], (50, 50, 50)) or is_near(image[150, 300], (255, 255, 255))
    assert "<b>30</b> / 49" in player.label.value
    assert "mine IoU 0.33" in player.label.value  # half of each: 1 / 3


def test_ground_truth_can_be_hidden():
    sequence = sequence_of()
    player = Player(sequence, {})
    white = (picture(player) > 200).all(2).sum()
    player.truth.value = False
    assert white > 300
    assert (picture(player) > 200).sum() == 0


def test_frames_are_read_one_at_a_time_and_kept():
    sequence = sequence_of(20_000)
    player = Player(sequence, {"mine": sequence.boxes})
    player.slider.value = 19_999
    player.slider.value = 0
    assert sequence.frames.read == [0, 19_999]


def test_cache_is_bounded(monkeypatch):
    monkeypatch.setattr("trackerlib.show.player.KEPT", 3)
    player = Player(sequence_of(), {})
    for frame in (1, 2, 3, 4):
        player.slider.value = frame
    assert len(player._encoded) == 3
    player.slider.value = 4
    player.slider.value = 0
    assert player.sequence.frames.read == [0, 1, 2, 3, 4, 0]


def test_large_and_tall_frames_are_scaled_with_their_boxes():
    class Tall(Grey):
        def __getitem__(self, frame):
            return np.full((1920, 1080, 3), 50, np.uint8)

    sequence = Sequence("Tall", Tall(2), np.tile([400.0, 800, 400, 400], (2, 1)))
    image = picture(Player(sequence, {"mine": sequence.boxes}))
    assert image.shape == (480, 270, 3)
    edges = np.abs(image.astype(int) - 50).max(2) > 30
    ys, xs = np.nonzero(edges)
    assert (xs.min() + xs.max()) / 2 == pytest.approx(150, abs=1)  # centre 600 of 1080, a quarter of it
    assert (ys.min() + ys.max()) / 2 == pytest.approx(250, abs=1)


def test_static_sheet_headless_and_live(monkeypatch):
    sequence = sequence_of()
    player = Player(sequence, {"<mine>": sequence.boxes})
    monkeypatch.delenv("TRK_HEADLESS", raising=False)
    live = player._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in live
    monkeypatch.setenv("TRK_HEADLESS", "1")
    still = player._repr_mimebundle_()
    assert set(still) == {"text/html", "text/plain"}
    assert still["text/html"] == live["text/html"]
    thumbnails = re.findall(r"base64,([^']+)", still["text/html"])
    assert len(thumbnails) == 8
    last = cv2.imdecode(np.frombuffer(base64.b64decode(thumbnails[-1]), np.uint8), cv2.IMREAD_COLOR)
    assert is_near(last[5, 5], (69, 69, 69))  # frame 49
    assert "&lt;mine&gt; IoU 1.00" in still["text/html"]
    assert "<mine>" not in still["text/html"]
    assert not hasattr(Player, "_ipython_display_")


def test_sequence_without_ground_truth_plays():
    sequence = Sequence("Clip", Grey(10), np.full((10, 4), np.nan))
    player = Player(sequence, {"mine": np.tile([5.0, 5, 50, 50], (10, 1))})
    assert player.truth.disabled
    assert "mine IoU –" in player.label.value
    assert "ground truth" not in player.contact_sheet()


def test_frames_without_target_or_box_have_no_overlap():
    sequence = sequence_of(3)
    boxes = sequence.boxes.copy()
    boxes[1] = np.nan
    sequence.absent[2] = True
    player = Player(sequence, {"mine": boxes})
    shown = []
    for frame in range(3):
        player.slider.value = frame
        shown.append(player.label.value.rsplit("IoU ", 1)[1])
    assert shown == ["1.00", "–", "–"]


def test_response_is_laid_over_on_request():
    sequence = sequence_of(4)
    response = np.zeros((3, 17, 17))  # from the second frame on: the first was given, not searched
    response[:, 8, 8] = 1
    region = np.tile([0.0, 0, 480, 480], (3, 1))
    player = Player(sequence, {"mine": sequence.boxes}, maps={"mine": {"response": response, "region": region}})
    player.slider.value = 1
    assert is_near(picture(player)[240, 240], (21, 21, 21))
    player.map.value = "mine"
    assert picture(player)[240, 240].sum() > 300
    player.slider.value = 0
    assert is_near(picture(player)[240, 240], (20, 20, 20))


def test_unreadable_frame_is_told_and_the_others_play():
    player = Player(sequence_of(broken=3), {})
    player.slider.value = 3
    assert player.label.value == ("<b>frame 3 cannot be shown:</b> img/0003.jpg: truncated image &lt;12 bytes&gt;")
    assert "frame 3 cannot" in Player(sequence_of(4, broken=3), {}).contact_sheet()
    player.slider.value = 4
    assert "<b>4</b> / 49" in player.label.value


def test_annotations_without_images_say_where_they_were_looked_for():
    sequence = Sequence("Bare", NoFrames(5, "OTB/Bare/img"), np.ones((5, 4)))
    assert "OTB/Bare/img: no images there" in Player(sequence, {}).label.value


@pytest.mark.parametrize(
    ("results", "maps", "message"),
    [
        ({"mine": np.ones((49, 4))}, None, r"Grey has 50 frames, but the boxes of mine are \(49, 4\)"),
        ({"mine": np.ones((50, 8))}, None, r"the boxes of mine are \(50, 8\), not \(50, 4\)"),
        (np.ones((50, 4)), None, "results must map a tracker's name to its boxes, not be ndarray"),
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

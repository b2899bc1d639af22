"""viewer.ipynb in JupyterLab and Chromium, as a user has it: run all, then mouse and keyboard.

Each test says what must be on the screen (frame number, pixels of the canvas, a text) or on disk, and waits for it. The
tests of viewer.ipynb share one page, and each leaves the viewer's sequence, trackers and map as it found them."""

from __future__ import annotations

import re

import cv2
import numpy as np
import pytest
from books import changed
from nbclient import NotebookClient

from trackerlib.data.formats import read_rows
from trackerlib.resources import resource
from trackerlib.show.browser import book_of, page_in
from trackerlib.show.speed_viewer import WATCH, write_numbered

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
WAIT = 30_000  # milliseconds, long enough for a busy machine


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("viewer")


@pytest.fixture(scope="module")
def notebook(opened, folder):
    page = opened(changed(resource("notebooks", "viewer.ipynb"), out_dir=str(folder)))
    page.locator(".trk-player").nth(2).wait_for(timeout=120_000)
    yield page
    assert page.locator('[data-mime-type="application/vnd.jupyter.stderr"]').count() == 0, "no traceback"


class Shown:
    """One of the players on the page; the viewer's, the one alone, and the one to draw on."""

    def __init__(self, page, index: int = 0):
        self.page, self.root = page, page.locator(".trk-player").nth(index)
        self.canvas = self.root.locator(".trk-canvas")
        self.root.scroll_into_view_if_needed()

    def at(self, frame: int) -> Shown:
        """Wait until the frame is painted."""
        painted = f"(root) => root.querySelector('.trk-canvas').dataset.frame === '{frame}'"
        self.page.wait_for_function(painted, arg=self.root.element_handle(), timeout=WAIT)
        assert self.root.locator(".trk-number").inner_text().startswith(f"frame {frame} /")
        return self

    def go(self, frame: int) -> Shown:
        self.root.locator(".trk-slider").evaluate(
            "(slider, t) => { slider.value = t; slider.dispatchEvent(new Event('input')) }", frame
        )
        return self.at(frame)

    def frame(self) -> int:
        return int(self.canvas.get_attribute("data-frame"))

    def pixels(self, canvas: str = ".trk-canvas", other_than: tuple[str, ...] = ()) -> str:
        """A canvas as a text; waits until it is none of those given."""
        self.page.wait_for_function(
            "([root, canvas, known]) => !known.includes(root.querySelector(canvas).toDataURL())",
            arg=[self.root.element_handle(), canvas, list(other_than)],
            timeout=WAIT,
        )
        return self.root.locator(canvas).evaluate("(canvas) => canvas.toDataURL()")

    def colour(self, x: float, y: float) -> np.ndarray:
        """RGB on the frame at x, y in its own pixels."""
        look = """(canvas, [x, y]) => {
            const scale = canvas.width / Number(canvas.dataset.width);
            return [...canvas.getContext('2d').getImageData(x * scale, y * scale, 1, 1).data].slice(0, 3) }"""
        return np.array(self.canvas.evaluate(look, [x, y]))

    def is_blue(self, x: float, y: float) -> bool:
        """Whether the first tracker's colour is there, Okabe and Ito's #0072B2."""
        return bool(np.abs(self.colour(x, y) - (0, 114, 178)).max() < 40)

    def told(self, pattern: str, within=".trk-told") -> str:
        line = self.root.locator(within).filter(has_text=re.compile(pattern))
        line.wait_for(timeout=WAIT)
        return line.inner_text()

    def click(self, name: str) -> Shown:
        self.root.locator(f".trk-{name}").click()
        return self

    def drag(self, canvas: str, start: tuple[float, float], end: tuple[float, float]) -> None:
        """From and to shares of an element's width and height."""
        box = self.root.locator(canvas).bounding_box()
        points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (start, end)]
        self.page.mouse.move(*points[0])
        self.page.mouse.down()
        self.page.mouse.move(*points[1], steps=8)
        self.page.mouse.up()


@pytest.fixture
def player(notebook) -> Shown:
    return Shown(notebook).go(0)


def test_play_and_pause(player):
    before = player.pixels()
    player.click("play")
    player.page.wait_for_function("document.querySelector('.trk-canvas').dataset.frame > 5", timeout=WAIT)
    player.click("play")
    player.page.wait_for_function("document.querySelector('.trk-play').textContent === '▶'", timeout=WAIT)
    stopped = player.frame()
    assert stopped > 5
    assert player.pixels() != before
    player.page.evaluate("() => new Promise((done) => setTimeout(done, 300))")
    assert player.frame() == stopped


def test_dragging_the_slider_shows_its_frame(player):
    before = player.pixels()
    player.drag(".trk-slider", (0.01, 0.5), (0.75, 0.5))
    wanted = int(player.root.locator(".trk-slider").input_value())
    assert 40 <= wanted <= 48
    player.at(wanted)
    assert player.pixels() != before


def test_a_tracker_is_toggled(player):
    player.go(20)
    entry = player.root.locator(".trk-entry[data-name='siamfc-3s']")
    assert re.search(r"IoU 0\.\d\d, \d+ px", entry.inner_text())
    with_it, curves = player.pixels(), player.pixels(".trk-curves")
    entry.click()
    player.page.wait_for_selector(".trk-entry[data-name='siamfc-3s'][aria-pressed=false]", timeout=WAIT)
    without = player.pixels(other_than=(with_it,))
    assert player.pixels(".trk-curves") != curves
    entry.click()
    player.page.wait_for_selector(".trk-entry[data-name='siamfc-3s'][aria-pressed=true]", timeout=WAIT)
    assert player.pixels(other_than=(without,)) == with_it
    assert player.pixels(".trk-curves") == curves


def test_a_click_on_the_curves_goes_there(player):
    cursor = player.pixels(".trk-cursor")
    player.drag(".trk-cursor", (0.5, 0.4), (0.5, 0.4))
    player.page.wait_for_function("document.querySelector('.trk-canvas').dataset.frame > 25", timeout=WAIT)
    assert 28 <= player.frame() <= 32
    assert player.pixels(".trk-cursor") != cursor


def test_jumps_to_failures_the_lowest_overlap_and_an_attribute(player):
    player.click("failure").at(14)  # siamfc-3s loses the target
    assert "IoU 0.00" in player.root.locator(".trk-entry[data-name='siamfc-3s']").inner_text()
    player.click("failure").at(16)  # dsiam
    player.click("failure").at(39)
    player.click("failure").at(44)
    player.click("failure").at(14)  # from the start again
    player.go(0).click("lowest").at(14)  # the first of those where it is 0
    player.root.locator(".trk-tag").select_option("OCC")
    player.go(0).click("tagged").at(7)


def test_keys(player):
    player.root.focus()
    for keys, frame in (("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("Shift+ArrowRight", 11), ("End", 59)):
        player.page.keyboard.press(keys)
        player.at(frame)
    player.page.keyboard.press("n")
    player.at(14)
    player.page.keyboard.press("Home")
    player.at(0)
    player.page.keyboard.press("Space")
    player.page.wait_for_function("document.querySelector('.trk-canvas').dataset.frame > 2", timeout=WAIT)
    player.page.keyboard.press("Space")
    player.page.keyboard.press("1")
    player.page.wait_for_selector(".trk-entry[data-name='dsiam'][aria-pressed=false]", timeout=WAIT)
    player.page.keyboard.press("1")
    player.page.wait_for_selector(".trk-entry[data-name='dsiam'][aria-pressed=true]", timeout=WAIT)
    cells = "jupyterapp.shell.currentWidget.content.widgets.length"
    count = player.page.evaluate(cells)
    for key in ("a", "b", "x"):  # which are Lab's own: insert above, below, cut
        player.page.keyboard.press(key)
    assert player.page.evaluate(cells) == count


def test_maps_and_regions_are_laid_over(player):
    player.go(10)
    plain = player.pixels()
    player.root.locator(".trk-map").select_option("dsiam: response")
    mapped = player.pixels(other_than=(plain,))
    player.root.locator(".trk-search").check()
    searched = player.pixels(other_than=(plain, mapped))
    player.root.locator(".trk-search").uncheck()
    assert player.pixels(other_than=(searched,)) == mapped
    player.root.locator(".trk-map").select_option("")
    assert player.pixels(other_than=(mapped,)) == plain


def test_the_pickers_show_another_sequence_and_say_what_is_wrong(notebook, player):
    inputs = notebook.locator(".widget-text input")
    notebook.locator(".widget-dropdown select").nth(0).select_option("test-0001")
    player.page.wait_for_function("document.querySelector('.trk-tag').textContent.includes('FM')", timeout=WAIT)
    statement = player.root.locator(".trk-statement")
    assert statement.inner_text().startswith("rendered-test (synthetic), test-0001, 60 frames")
    player.go(3)
    alert = notebook.locator(".widget-html [role=alert]")
    for index, value, message in ((0, "vot2O18", "no dataset is called"), (2, "/no/such", "no such folder of results")):
        kept = inputs.nth(index).input_value()
        inputs.nth(index).fill(value)
        inputs.nth(index).press("Enter")
        alert.filter(has_text=message).wait_for(timeout=WAIT)
        assert "test-0001" in statement.inner_text()  # what was shown stays
        inputs.nth(index).fill(kept)
        inputs.nth(index).press("Enter")
        alert.filter(has_text=message).wait_for(state="detached", timeout=WAIT)
    notebook.locator(".widget-dropdown select").nth(0).select_option("test-0000")
    player.page.wait_for_function("document.querySelector('.trk-tag').textContent.includes('OCC')", timeout=WAIT)
    assert "test-0000" in statement.inner_text()
    assert alert.count() == 0
    player.go(1)


def test_selected_frames_are_saved_as_clips_sheet_and_page(notebook, folder, chromium):
    player = Shown(notebook, 1).go(0)
    player.root.locator(".trk-first").fill("5")
    player.root.locator(".trk-last").fill("14")
    player.root.locator(".trk-last").press("Tab")
    for kind in ("mp4", "gif", "png", "html"):
        player.click(f"save-{kind}")
        player.told(rf"Saved .*test-0000_00005-00014\.{kind} \(10 frames")
    clip = cv2.VideoCapture(str(folder / "test-0000_00005-00014.mp4"))
    assert clip.get(cv2.CAP_PROP_FRAME_COUNT) == 10
    assert cv2.imread(str(folder / "test-0000_00005-00014.png")) is not None
    with page_in(chromium) as page:
        page.context.set_offline(True)
        page.goto((folder / "test-0000_00005-00014.html").as_uri())
        page.locator(".trk-canvas[data-frame='0']").wait_for(timeout=WAIT)
        alone = Shown(page)
        assert alone.root.locator(".trk-number").inner_text() == "frame 5 / 14"
        before = alone.pixels()
        alone.click("play")
        page.locator(".trk-canvas[data-frame='9']").wait_for(timeout=WAIT)
        assert alone.root.locator(".trk-number").inner_text() == "frame 14 / 14"
        assert alone.pixels() != before


def test_an_empty_selection_is_told(notebook, folder):
    player, before = Shown(notebook, 1).go(0), set(folder.iterdir())
    notebook.keyboard.down("Shift")
    player.drag(".trk-cursor", (0.5, 0.4), (0.5, 0.4))
    notebook.keyboard.up("Shift")
    player.told("The selection is empty")
    player.root.locator(".trk-first").fill("30")
    player.root.locator(".trk-last").fill("20")
    player.root.locator(".trk-last").press("Tab")
    player.told("The selection is empty: frame 30 comes after frame 20")
    for kind in ("mp4", "gif", "png", "html"):
        player.click(f"save-{kind}").told("Not saved: .* no frames to save")
        player.go(1).page.evaluate("document.querySelectorAll('.trk-told').forEach((line) => (line.textContent = ''))")
    assert set(folder.iterdir()) == before  # nothing is written
    assert player.go(2).frame() == 2  # and it goes on


def test_draw_a_box_track_correct_and_save(notebook, folder):
    player = Shown(notebook, 2).go(0)
    said = notebook.locator(".widget-html [role=status]").last
    player.told("Drag a box", ".trk-note")
    before = player.pixels()
    player.drag(".trk-canvas", (0.3, 0.3), (0.5, 0.55))
    said.filter(has_text="done at frame 59").wait_for(timeout=120_000)
    assert player.at(59).go(0).pixels() != before  # it went along; and there is the box
    assert player.root.locator(".trk-map").inner_text().split()[-2:] == ["tracked:", "response"]
    first = saved(notebook, folder)
    width, height = 240, 160  # of the frame; the file counts from 1
    np.testing.assert_allclose(first[0], [0.3 * width + 1, 0.3 * height + 1, 0.2 * width, 0.25 * height], atol=1)
    player.go(20)
    notebook.get_by_role("button", name="Draw a box").click()
    player.told("Drag a box", ".trk-note")
    player.drag(".trk-canvas", (0.6, 0.6), (0.8, 0.8))
    player.at(59)  # which it leaves frame 20 for only with the new track
    said.filter(has_text="done at frame 59").wait_for(timeout=120_000)
    rows = saved(notebook, folder)
    np.testing.assert_array_equal(rows[:20], first[:20])
    np.testing.assert_allclose(rows[20], [0.6 * width + 1, 0.6 * height + 1, 0.2 * width, 0.2 * height], atol=1)
    assert np.abs(rows[21:] - first[21:]).max(1).min() > 0


def saved(notebook, folder) -> np.ndarray:
    """The boxes that "Save boxes" writes."""
    (folder / "clip.txt").unlink(missing_ok=True)
    notebook.get_by_role("button", name="Save boxes").click()
    notebook.locator(".widget-html [role=status]").last.filter(has_text="Saved").wait_for(timeout=WAIT)
    return read_rows(folder / "clip.txt")


def test_a_video_that_cannot_be_opened_is_told_and_another_one_opens(notebook, folder):
    (folder / "broken.mp4").write_bytes(b"no video")
    field = notebook.locator(".widget-text input").nth(3)
    kept, player = field.input_value(), Shown(notebook, 2)
    field.fill(str(folder / "broken.mp4"))
    notebook.get_by_role("button", name="Open").click()
    notebook.locator(".widget-html [role=alert]").filter(has_text="OpenCV can read no frame").wait_for(timeout=WAIT)
    assert player.root.locator(".trk-statement").inner_text() == "clip, 60 frames"  # what was open stays
    assert player.go(7).frame() == 7
    field.fill(kept)
    notebook.get_by_role("button", name="Open").click()
    notebook.locator(".widget-html [role=status]").filter(has_text="Drag a box around").wait_for(timeout=WAIT)
    assert player.at(0).root.locator(".trk-note").inner_text() == "Drag a box around the target"


KNOWN = """
import numpy as np
from trackerlib.data.sequence import Sequence
from trackerlib.show.player import Player

class Grey:
    sizes = [(320, 180), (320, 180), (320, 180), (320, 180), (320, 320), (160, 90)]
    def __len__(self):
        return len(self.sizes)
    def __getitem__(self, frame):
        return np.full((*self.sizes[frame][::-1], 3), 100, np.uint8)
    def digest(self):
        return "grey"

boxes = np.tile([40.0, 30, 80, 40], (6, 1))
heat = np.zeros((5, 20, 20))
heat[:, 10:] = 1
maps = {"mine": {"heat map": heat, "region": np.tile([200.0, 60, 60, 60], (5, 1))}}
player = Player(Sequence("Grey", Grey(), np.full((6, 4), np.nan)), {"mine": boxes}, maps)
def go_on(change):
    if change["new"] == 2:
        player.put("mine", 3, np.array([150.0, 100, 60, 50]))
    player.drawing = change["new"] == 4
player.observe(go_on, "frame")
player"""


@pytest.fixture(scope="module")
def grey(opened):
    return Shown(opened(book_of(KNOWN)))


@pytest.mark.parametrize("frame", [0, 4, 5])
def test_boxes_are_drawn_where_they_are_whatever_the_frame_s_size(grey, frame):
    grey.go(1)
    grey.go(frame)
    assert [grey.is_blue(*at) for at in ((40, 50), (120, 50), (80, 30), (80, 70))] == [True] * 4  # its edges
    assert not any(grey.is_blue(*at) for at in ((80, 50), (30, 50), (130, 50), (80, 20), (80, 80)))
    assert np.abs(grey.colour(80, 50) - 100).max() <= 3


def test_maps_and_regions_are_drawn_where_they_are(grey):
    grey.go(1)
    plain = grey.pixels()
    grey.root.locator(".trk-map").select_option("mine: heat map")
    mapped = grey.pixels(other_than=(plain,))
    assert np.abs(grey.colour(230, 70) - 100).max() <= 3  # low, in the upper half
    assert np.abs(grey.colour(230, 110) - 100).max() > 60  # high, in the lower one
    assert np.abs(grey.colour(230, 125) - 100).max() <= 3  # below the region
    grey.root.locator(".trk-search").check()
    searched = grey.pixels(other_than=(mapped,))
    edge = [np.abs(grey.colour(200, y) - 100).max() for y in range(65, 115, 2)]
    assert min(edge) > 30  # its left side, dashes on a light ground
    grey.root.locator(".trk-search").uncheck()
    assert grey.pixels(other_than=(searched,)) == mapped
    grey.root.locator(".trk-map").select_option("")
    assert grey.pixels(other_than=(mapped,)) == plain


def test_a_view_goes_along_with_a_tracker_at_work(grey):
    grey.go(0)
    grey.root.locator(".trk-slider").evaluate(
        "(slider) => { slider.value = 2; slider.dispatchEvent(new Event('input')) }"
    )
    grey.at(3)  # for a box was put there while it stood at 2
    assert grey.is_blue(150, 125)
    assert not grey.is_blue(40, 50)


def test_a_drawing_that_is_left_leaves_nothing(grey):
    grey.go(1)
    grey.go(4).told("Drag a box", ".trk-note")
    plain, box = grey.pixels(), grey.canvas.bounding_box()
    grey.page.mouse.move(box["x"] + 200, box["y"] + 200)
    grey.page.mouse.down()
    grey.page.mouse.move(box["x"] + 300, box["y"] + 300, steps=5)
    drawn = grey.pixels(other_than=(plain,))
    grey.page.keyboard.press("Escape")
    assert grey.pixels(other_than=(drawn,)) == plain
    grey.page.mouse.move(box["x"] + 350, box["y"] + 350, steps=5)
    grey.page.mouse.up()
    assert grey.pixels() == plain
    assert grey.root.locator(".trk-note").inner_text() == ""


def test_only_the_first_button_plays_and_the_slider_leaves_keys(grey):
    grey.go(1)
    grey.canvas.click(button="right")
    grey.page.keyboard.press("Escape")  # Lab's menu
    assert grey.frame() == 1
    assert grey.root.locator(".trk-play").inner_text() == "▶"
    grey.root.locator(".trk-slider").focus()
    grey.page.keyboard.press("Space")  # plays from the slider too
    grey.at(5)


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_text_is_readable_and_nothing_overlaps_narrow_and_wide(opened, theme):
    page = opened(book_of(KNOWN), f"JupyterLab {theme}", scheme=theme.lower())
    for width in (520, 1500):
        page.set_viewport_size({"width": width, "height": 1000})
        page.wait_for_function("document.querySelector('.trk-curves').clientWidth < innerWidth", timeout=WAIT)
        player = Shown(page).go(1)
        for name in ("number", "statement", "entry", "play", "map"):
            assert contrast(player.root.locator(f".trk-{name}").first) >= 4.5, (width, name)
        controls = [c for c in player.root.locator("button, select, input, .trk-number").all() if c.is_visible()]
        boxes = [c.bounding_box() for c in controls]
        whole = player.root.bounding_box()
        for i, a in enumerate(boxes):
            assert a["x"] >= whole["x"] - 1
            assert a["x"] + a["width"] <= whole["x"] + whole["width"] + 1
            for b in boxes[:i]:
                apart = a["x"] + a["width"] <= b["x"] + 1 or b["x"] + b["width"] <= a["x"] + 1
                assert apart or a["y"] + a["height"] <= b["y"] + 1 or b["y"] + b["height"] <= a["y"] + 1


def contrast(element) -> float:
    """WCAG's ratio of an element's text to its ground."""
    colours = element.evaluate(
        """(element) => {
            let ground = element;
            while (getComputedStyle(ground).backgroundColor === 'rgba(0, 0, 0, 0)') ground = ground.parentElement;
            return [getComputedStyle(element).color, getComputedStyle(ground).backgroundColor] }"""
    )
    light = []
    for colour in colours:
        values = np.array([int(v) for v in re.findall(r"\d+", colour)[:3]]) / 255
        linear = np.where(values <= 0.03928, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
        light.append(float(linear @ (0.2126, 0.7152, 0.0722)))
    return (max(light) + 0.05) / (min(light) + 0.05)


def test_playing_paints_every_frame_once(opened, tmp_path):
    """A frame is painted at every step of the display at the most, and one that is late is waited for."""
    write_numbered(tmp_path / "clip", 80, (320, 180))
    cell = f"""
from trackerlib.data.folder import load_clip
from trackerlib.show.player import Player
Player(load_clip({str(tmp_path / "clip")!r}), {{}})"""
    page = opened(book_of(cell))
    page.evaluate(WATCH, ".trk-canvas[data-frame]")
    for _ in range(2):  # as frames come, and from the browser's own store
        Shown(page).go(0)
        page.evaluate("painted.splice(0)")
        page.locator(".trk-play").click()
        page.wait_for_function("painted.at(-1)?.[1] === 79", timeout=WAIT)
        assert [number for _, number in page.evaluate("painted")] == list(range(80))


BROKEN = """
import numpy as np
from pathlib import Path
from trackerlib.data.folder import load_clip
from trackerlib.show.player import Player
folder = Path({folder!r})
(folder / "00007.jpg").write_bytes((folder / "00007.jpg").read_bytes()[:500])
clip = load_clip(folder)
Player(clip, {{"mine": np.tile([5.0, 5, 50, 50], (len(clip), 1))}})"""


def test_a_frame_that_cannot_be_read_is_told_and_a_clip_without_truth_plays(opened, tmp_path):
    write_numbered(tmp_path / "clip", 20, (320, 180))
    page = opened(book_of(BROKEN.format(folder=str(tmp_path / "clip"))))
    player = Shown(page).at(0)
    assert not player.root.locator(".trk-failure").is_visible()
    assert player.root.locator(".trk-entry").count() == 1  # no ground truth among them
    player.go(7).told("Frame 7 cannot be shown: .*truncated image", ".trk-note")
    player.go(6)
    assert player.root.locator(".trk-note").inner_text() == ""
    player.click("play").at(19)  # past the broken one


def test_an_untrusted_notebook_shows_the_contact_sheet(opened, tmp_path):
    """One that was run elsewhere and is opened without a kernel that knows its widgets."""
    write_numbered(tmp_path / "clip", 12, (320, 180))
    cell = f"""
from trackerlib.data.folder import load_clip
from trackerlib.show.player import Player
Player(load_clip({str(tmp_path / "clip")!r}), {{}})"""
    done = NotebookClient(book_of(cell), timeout=120).execute()
    assert "application/vnd.jupyter.widget-view+json" in done.cells[0].outputs[0].data
    page = opened(done, run=False)
    picture = page.locator(".jp-OutputArea img[alt='frame 11']")
    picture.wait_for(timeout=WAIT)
    assert picture.evaluate("(image) => image.naturalWidth") == 240

"""viewer.ipynb in JupyterLab and Chromium, as a user has it: run all, then mouse and keyboard.

Each test says what must be on the screen (frame number, pixels of the canvas, a text) or on disk. None depends on how
fast the machine is, or on another test."""

from __future__ import annotations

import re

import cv2
import numpy as np
import pytest
from books import book_of, changed
from nbclient import NotebookClient

from trackerlib.data.formats import read_rows
from trackerlib.resources import resource
from trackerlib.show.browser import page_in
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

    def pixels(self, canvas: str = ".trk-canvas") -> str:
        return self.root.locator(canvas).evaluate("(canvas) => canvas.toDataURL()")

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
    player.page.wait_for_timeout(300)
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
    assert player.pixels() != with_it
    assert player.pixels(".trk-curves") != curves
    entry.click()
    player.page.wait_for_selector(".trk-entry[data-name='siamfc-3s'][aria-pressed=true]", timeout=WAIT)
    assert (player.pixels(), player.pixels(".trk-curves")) == (with_it, curves)


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
    player.click("lowest")
    assert player.frame() in (14, 15, 16, 17, 39, 40, 44)
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
    player.page.wait_for_timeout(200)
    mapped = player.pixels()
    player.root.locator(".trk-search").check()
    player.page.wait_for_timeout(200)
    assert len({plain, mapped, player.pixels()}) == 3
    player.root.locator(".trk-search").uncheck()
    player.root.locator(".trk-map").select_option("")
    player.page.wait_for_timeout(200)
    assert player.pixels() == plain


def test_the_pickers_show_another_sequence_and_say_what_is_wrong(notebook, player):
    inputs = notebook.locator(".widget-text input")
    notebook.locator(".widget-dropdown select").nth(0).select_option("test-0001")
    player.go(3)
    assert player.root.locator(".trk-tag").inner_text().split()[-1] != "OCC"
    alert = notebook.locator(".widget-html [role=alert]")
    for index, value, message in ((0, "vot2O18", "no dataset is called"), (2, "/no/such", "no such folder of results")):
        kept = inputs.nth(index).input_value()
        inputs.nth(index).fill(value)
        inputs.nth(index).press("Enter")
        alert.filter(has_text=message).wait_for(timeout=WAIT)
        inputs.nth(index).fill(kept)
        inputs.nth(index).press("Enter")
        alert.filter(has_text=message).wait_for(state="detached", timeout=WAIT)
    notebook.locator(".widget-dropdown select").nth(0).select_option("test-0000")
    player.page.wait_for_function("document.querySelector('.trk-tag').textContent.includes('OCC')", timeout=WAIT)
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


def test_an_empty_selection_is_told(notebook):
    player = Shown(notebook, 1).go(0)
    notebook.keyboard.down("Shift")
    player.drag(".trk-cursor", (0.5, 0.4), (0.5, 0.4))
    notebook.keyboard.up("Shift")
    player.told("The selection is empty")
    player.root.locator(".trk-first").fill("30")
    player.root.locator(".trk-last").fill("20")
    player.root.locator(".trk-last").press("Tab")
    player.told("The selection is empty: frame 30 comes after frame 20")
    player.click("save-mp4").told("Not saved: .* no frames to save")
    player.go(2)  # and it goes on


def test_draw_a_box_track_correct_and_save(notebook, folder):
    player = Shown(notebook, 2).go(0)
    said = notebook.locator(".widget-html [role=status]").last
    player.told("Drag a box", ".trk-note")
    before = player.pixels()
    player.drag(".trk-canvas", (0.3, 0.3), (0.5, 0.55))
    said.filter(has_text="done at frame 59").wait_for(timeout=120_000)
    assert player.go(0).pixels() != before  # the box
    assert player.root.locator(".trk-map").inner_text().split()[-2:] == ["tracked:", "response"]
    player.go(20)
    notebook.get_by_role("button", name="Draw a box").click()
    player.told("Drag a box", ".trk-note")
    player.drag(".trk-canvas", (0.6, 0.6), (0.8, 0.8))
    said.filter(has_text="tracking from frame 20").or_(said.filter(has_text="done")).wait_for(timeout=WAIT)
    said.filter(has_text="done at frame 59").wait_for(timeout=120_000)
    notebook.get_by_role("button", name="Save boxes").click()
    said.filter(has_text="Saved").wait_for(timeout=WAIT)
    rows = read_rows(folder / "clip.txt")
    assert rows.shape == (60, 4)
    width, height = 240, 160  # of the frame; the file counts from 1
    np.testing.assert_allclose(rows[0], [0.3 * width + 1, 0.3 * height + 1, 0.2 * width, 0.25 * height], atol=1)
    np.testing.assert_allclose(rows[20], [0.6 * width + 1, 0.6 * height + 1, 0.2 * width, 0.2 * height], atol=1)


def test_a_video_that_cannot_be_opened_is_told_and_another_one_opens(notebook, folder):
    (folder / "broken.mp4").write_bytes(b"no video")
    field = notebook.locator(".widget-text input").nth(3)
    kept = field.input_value()
    field.fill(str(folder / "broken.mp4"))
    notebook.get_by_role("button", name="Open").click()
    notebook.locator(".widget-html [role=alert]").filter(has_text="OpenCV can read no frame").wait_for(timeout=WAIT)
    field.fill(kept)
    notebook.get_by_role("button", name="Open").click()
    notebook.locator(".widget-html [role=status]").filter(has_text="Drag a box around").wait_for(timeout=WAIT)
    Shown(notebook, 2).go(5)


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

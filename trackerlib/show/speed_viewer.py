"""How fast the player paints in a real browser, beside a plain player of ipywidgets on the same frames.

Each frame carries its number as sixteen black or white squares. What was painted is read back from the pixels on the
screen at every step of the display, so that a frame skipped or painted late cannot be missed. Wants playwright and
Chromium; JupyterLab and browser are started here and speak over loopback."""

from __future__ import annotations

import tempfile
from importlib.util import find_spec
from pathlib import Path

import cv2
import nbformat
import numpy as np

from ..provenance import write_bytes
from .browser import CHROMIUM, book_of, chromium, lab, page_in, run_all

SIZES = {"640x360": (640, 360), "1280x720": (1280, 720)}
COUNT, MOVES = 160, 40
LONGEST = 5000  # milliseconds that a move is waited for
PLAYERS = {"player": "the player", "image": "a plain ipywidgets.Image with Play and slider"}
VIEWER_FIGURES = {
    f"{name}_{size}_{figure}": f"{label}, {size}: {of}"
    for size in SIZES
    for name, label in PLAYERS.items()
    for figure, of in {
        "shown": f"frames painted of {COUNT}, played a second time at 25 a second",
        "fps": "frames painted a second then",
        "move_ms": f"milliseconds from a press on the slider to its frame, 95th percentile of {MOVES} frames new to it",
    }.items()
} | {
    f"player_vs_image_{size}_{figure}": f"{of}, {size}: the player over the plain one"
    for size in SIZES
    for figure, of in {"fps": "frames painted a second", "move": "time to paint after a press on the slider"}.items()
}
_CELL = """
from trackerlib.data.folder import load_clip
clip = load_clip({folder!r})
"""
_OURS = """
from trackerlib.show.player import Player
Player(clip, {})
"""
_PLAIN = """
import cv2
import ipywidgets as widgets
image, last = widgets.Image(format="jpeg"), len(clip) - 1
play, slider = widgets.Play(min=0, max=last, interval=40), widgets.IntSlider(0, 0, last)
widgets.jslink((play, "value"), (slider, "value"))
def show(change):
    jpeg = cv2.imencode(".jpg", clip.frames[change["new"]][..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])
    image.value = jpeg[1].tobytes()
slider.observe(show, "value")
show({"new": 0})
widgets.VBox([image, widgets.HBox([play, slider])])
"""

# Logs [time, number of the frame on the screen] at each change. The squares fill the top row's first 16 fortieths.
WATCH = """
(selector) => {
  const strip = document.createElement("canvas");
  Object.assign(strip, { width: 32, height: 1 });
  const c = strip.getContext("2d", { willReadFrequently: true });
  const log = (window.painted = []);
  const look = () => {
    requestAnimationFrame(look);
    const source = document.querySelector(selector);
    const w = source.naturalWidth ?? source.width, h = source.naturalHeight ?? source.height;
    if (!w || source.complete === false) return;
    c.drawImage(source, 0, h / 60, (16 * w) / 40, 1, 0, 0, 32, 1);
    const { data } = c.getImageData(0, 0, 32, 1);
    let number = 0;
    for (let bit = 0; bit < 16; bit++) number += (data[4 * (2 * bit + 1)] > 127) << bit;
    if (number !== log.at(-1)?.[1]) log.push([performance.now(), number]);
  };
  look();
  addEventListener("pointerdown", (event) => (window.pressed = event.timeStamp), true);
}
"""


def bench_viewer() -> dict[str, float | str]:
    """Figures by name (see `VIEWER_FIGURES`); one line that says what is missing where there is no browser."""
    if not find_spec("playwright"):
        return {"viewer": "not measured: pip install playwright"}
    if not CHROMIUM:
        return {"viewer": "not measured: no Chromium here (Debian: apt install chromium)"}
    found: dict[str, float | str] = {}
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        for size, pixels in SIZES.items():
            write_numbered(Path(folder) / size, COUNT, pixels)
            for name, cell in (("player", _OURS), ("image", _PLAIN)):
                measured = _measured(browser, Path(folder), Path(folder) / size, name, cell)
                found |= {f"{name}_{size}_{figure}": value for figure, value in measured.items()}
            for figure, of in (("fps", "fps"), ("move", "move_ms")):
                ratio = found[f"player_{size}_{of}"] / found[f"image_{size}_{of}"]
                found[f"player_vs_image_{size}_{figure}"] = ratio
    return found


def write_numbered(folder: Path, count: int, size: tuple[int, int]) -> None:
    """Images of a moving texture that carry their numbers as squares: 16 bits, the lowest first."""
    width, height = size
    noise = np.random.default_rng(0).integers(0, 256, (height // 4 + count, width // 4 + count, 3), np.uint8)
    texture = cv2.resize(noise, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    side = width // 40
    for t in range(count):
        image = texture[t : t + height, 2 * t : 2 * t + width].copy()
        for bit in range(16):
            image[:side, bit * side : (bit + 1) * side] = 255 * (t >> bit & 1)
        write_bytes(folder / f"{t:05d}.jpg", cv2.imencode(".jpg", image)[1].tobytes())


def _measured(browser, root: Path, frames: Path, name: str, cell: str) -> dict[str, float]:
    nbformat.write(book_of(_CELL.format(folder=str(frames)) + cell), root / f"{name}.ipynb")
    ours = name == "player"
    picture = ".trk-canvas[data-frame]" if ours else "img.widget-image"
    slider = ".trk-slider" if ours else ".widget-slider .slider"
    with tempfile.TemporaryDirectory() as own, lab(root, Path(own)) as address, page_in(browser, 1600, 1100) as page:
        run_all(page, address(f"{name}.ipynb"))
        page.locator(picture).first.wait_for(timeout=60_000)
        page.locator(slider).scroll_into_view_if_needed()
        page.evaluate(WATCH, picture)
        moves = _moves(page, slider)
        page.wait_for_timeout(500)
        for _ in range(2):  # the first time brings the frames here
            _press_at(page, slider, 0.0)
            page.wait_for_timeout(1500)
            page.evaluate("painted.splice(0, painted.length - 1)")
            page.locator(".trk-play" if ours else ".widget-play button").first.click()
            page.wait_for_function(f"painted.at(-1)[1] >= {COUNT - 2}", timeout=60_000)
            page.wait_for_timeout(500)
        times, numbers = np.array(page.evaluate("painted")).T
    started = np.flatnonzero(numbers == 0)[-1] if (numbers == 0).any() else 0
    times, numbers = times[started:], numbers[started:]
    in_order = bool((np.diff(numbers) > 0).all())
    return {
        "shown": float(len(numbers)) if in_order else float("nan"),
        "fps": float((len(times) - 2) / (times[-1] - times[1]) * 1000),  # from the first one after the press
        "move_ms": float(np.percentile(moves, 95)),
    }


def _moves(page, slider: str) -> list[float]:
    """Milliseconds from presses on the slider to the frame that it names; `LONGEST` where it does not come.

    From the last frame backwards: what a player fetches ahead of one is never the next."""
    from playwright.sync_api import TimeoutError as Late

    found = []
    for frame in np.linspace(COUNT - 1, COUNT // 2, MOVES):
        _press_at(page, slider, frame / (COUNT - 1))
        page.wait_for_timeout(100)  # what the slider names has changed by then
        named = f"document.querySelector({slider!r}).value ?? document.querySelector('.widget-readout').textContent"
        wanted = int(page.evaluate(named))
        try:
            page.wait_for_function(f"painted.at(-1)[1] === {wanted}", timeout=LONGEST)
        except Late:
            found.append(LONGEST)
            continue
        found.append(page.evaluate("painted.at(-1)[0] - pressed"))
    return found


def _press_at(page, slider: str, share: float) -> None:
    box = page.locator(slider).first.bounding_box()
    page.mouse.click(box["x"] + 8 + share * (box["width"] - 16), box["y"] + box["height"] / 2)

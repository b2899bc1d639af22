"""The player's script, and a player as a web page: frames, numbers and script in one file, which plays in any browser,
offline and without a kernel."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from ..provenance import write_chunks
from .scene import Scene

_FOLDER = Path(__file__).parent
# One script, in four files that are read in this order.
SCRIPT = "\n".join((_FOLDER / name).read_text() for name in ("frames.js", "curves.js", "view.js", "controls.js"))
STYLE = (_FOLDER / "player.css").read_text()
PALETTE = np.rint(matplotlib.colormaps["inferno"](np.arange(256))[:, :3] * 255).astype(np.uint8).tobytes()
MOST = 2000  # frames; a browser holds the page in memory
WIDTH = 640  # pixels of its frames

# What the script knows as its model, with the answers of a kernel ready.
_MODEL = """
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const listeners = [], state = data.state;
for (const name of ["_series", "_palette"]) state[name] = new DataView(bytes(state[name]).buffer);
const fire = (event, ...given) => listeners.filter(([of]) => of === event).forEach(([, act]) => act(...given));
const model = {
  get: (name) => state[name],
  set: (name, value) => { state[name] = value; fire(`change:${name}`); },
  save_changes: () => {},
  on: (event, act) => listeners.push([event, act]),
  off: (event, act) => listeners.splice(listeners.findIndex(([of, done]) => of === event && done === act), 1),
  send: ({ want }) => setTimeout(() => {
    const [about, ...buffers] = data.frames[want];
    fire("msg:custom", { image: about }, buffers.map((b) => new DataView(bytes(b).buffer)));
  }),
};
render({ model, el: document.getElementById("player") });
"""

_STYLE = """
:root { --jp-ui-font-color1: #212121; --jp-ui-font-color2: #5f5f5f; --jp-layout-color1: #fff;
  --jp-border-color2: #d0d0d0; background: #fff; }
h1 { font: 600 16px sans-serif; color: var(--jp-ui-font-color1); overflow-wrap: anywhere; }
@media (prefers-color-scheme: dark) {
  :root { --jp-ui-font-color1: #e8e8e8; --jp-ui-font-color2: #b4b4b4; --jp-layout-color1: #181818;
    --jp-border-color2: #555; --jp-error-color0: #ff8a80; color-scheme: dark; background: #181818; }
}
body { margin: 12px auto; padding: 0 12px; max-width: 1000px; }
"""


def write_page(path: str | Path, scene: Scene, frames: list[int]) -> Path:
    """Write frames that follow one another, with all that is known of them, as one HTML file.

    Raises ValueError for frames with gaps, and for more than 2,000 of them."""
    if frames != list(range(frames[0], frames[0] + len(frames))):
        raise ValueError(f"{path}: a page wants frames that follow one another")
    if len(frames) > MOST:
        raise ValueError(f"{path}: {len(frames)} frames; a page holds at most {MOST}: select fewer")
    write_chunks(path, (text.encode() for text in _parts(scene, frames)))
    return Path(path)


def _parts(scene: Scene, frames: list[int]) -> Iterator[str]:
    title = f"{scene.title}, frames {frames[0]} to {frames[-1]}"
    yield f"<!DOCTYPE html>\n<html lang='en'>\n<meta charset='utf-8'>\n<title>{html.escape(title)}</title>\n"
    yield "<meta name='viewport' content='width=device-width'>\n"
    yield f"<style>{_STYLE}{STYLE}</style>\n<h1>{html.escape(title)}</h1>\n"
    yield "<div id='player'></div>\n<script type='module'>\n"
    yield SCRIPT.replace("export default { render };", "")
    yield f"const data = {{ state: {_json(_state(scene, frames))}, frames: [\n"
    for frame in frames:
        about, buffers = scene.encoded(frame, WIDTH)
        about |= {"frame": frame - frames[0], "clip": 0}
        yield f"{_json([about, *map(_text, buffers)])},\n"
    yield f"]}};\n{_MODEL}</script>\n</html>\n"


def _state(scene: Scene, frames: list[int]) -> dict[str, Any]:
    """The player's traits, of these frames."""
    clip, first, last = scene.described(), frames[0], frames[-1]
    spans = {
        name: [[max(a, first) - first, min(b, last) - first] for a, b in of if a <= last and b >= first]
        for name, of in clip["tags"].items()
    }
    statement = clip["statement"].replace(f"{len(scene.sequence)} frames", f"frames {first} to {last}")
    cut = {"id": 0, "count": len(frames), "offset": first, "offline": True, "statement": statement}
    return {
        "frame": 0,
        "playing": False,
        "speed": scene.fps,
        "shown": list(scene.shown),
        "overlay": scene.overlay,
        "searched": False,
        "drawing": False,
        "selection": [],
        "told": {},
        "_clip": clip | cut | {"tags": {name: of for name, of in spans.items() if of}},
        "_series": _text(scene.packed(slice(first, last + 1))),
        "_palette": _text(PALETTE),
    }


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _json(value: Any) -> str:
    """JSON that may stand in a script: no text of the user's ends it."""
    return json.dumps(value).replace("<", "\\u003c")

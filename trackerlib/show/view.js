// Plays a tracked video. The kernel sends frames as JPEG, a few at a time and ahead of the one shown; they stay here, so
// that what was seen once plays without the kernel. Boxes, maps and curves are drawn here, from numbers. Nothing is
// fetched from a network. player.py says what the traits hold; page.py plays the same script without a kernel.

const PATIENCE = 5000; // milliseconds without an answer, after which the kernel is asked again and the user told
const SPEEDS = [0.25, 0.5, 1, 2];
const BLACK = "#000000"; // the palette's black would vanish on a dark page

function make(tag, properties = {}, ...children) {
  const { aria = {}, ...rest } = properties, element = Object.assign(document.createElement(tag), rest);
  if (element.matches("button, input, select, .trk-player")) element.dataset.lmSuppressShortcuts = "true"; // else Lab takes the keys
  for (const [name, value] of Object.entries(aria)) element.setAttribute(name === "role" ? name : `aria-${name}`, value);
  element.append(...children);
  return element;
}

class View {
  constructor(model, el) {
    Object.assign(this, { model, el, at: 0, painted: -1, turn: 0, shownTurn: 0, seeking: null, box: null, range: null });
    this.offline = Boolean(model.get("_clip").offline);
    this.frames = new Frames(model, (content) => this.send(content), (t) => this.arrived(t));
    this.build();
    this.listen();
    this.load();
  }

  remove() {
    this.off.forEach((stop) => stop());
    clearInterval(this.timer);
    clearTimeout(this.reporting);
    cancelAnimationFrame(this.wake);
    this.frames.remove();
  }

  build() {
    const button = (name, text, title, act) => make("button",
      { type: "button", className: `trk-${name}`, textContent: text, title, onclick: act, aria: { label: title } });
    const select = (name, title) => make("select", { className: `trk-${name}`, title, aria: { label: title } });
    const limit = (name) => make("input", { type: "number", className: `trk-${name}`, min: 0, aria: { label: `${name} frame` } });
    const row = (name, ...children) => make("div", { className: `trk-row trk-${name}` }, ...children);
    this.canvas = make("canvas", { className: "trk-canvas", aria: { role: "img", label: "frame with boxes" } });
    this.context = this.canvas.getContext("2d", { alpha: false });
    this.note = make("div", { className: "trk-note" });
    this.stage = make("div", { className: "trk-stage" }, this.canvas, this.note);
    this.toggle = button("play", "▶", "play or pause (space)", () => this.set("playing", !this.model.get("playing")));
    this.slider = make("input", { type: "range", className: "trk-slider", min: 0, value: 0, aria: { label: "frame" } });
    this.number = make("span", { className: "trk-number" });
    this.speed = select("speed", "speed");
    this.legend = row("legend");
    this.judged = [
      button("failure", "Next failure", "next frame where a tracker shown loses the target (n)", () => this.jumpToFailure()),
      button("lowest", "Lowest overlap", "frame where the overlap is lowest (l)", () => this.jumpToLowest()),
    ];
    this.tag = select("tag", "frames that carry an attribute");
    this.onward = button("tagged", "Next", "next stretch of frames with this attribute (a)", () => this.jumpToTag());
    this.map = select("map", "lay a map over the frame");
    this.search = make("input", { type: "checkbox", className: "trk-search" });
    this.searchLabel = make("label", {}, this.search, " search region");
    this.tools = row("tools", ...this.judged, this.tag, this.onward, this.map, this.searchLabel);
    this.curves = new Curves();
    this.statement = make("div", { className: "trk-statement" });
    [this.first, this.last] = [limit("first"), limit("last")];
    const saves = Object.entries({ mp4: "MP4", gif: "GIF", png: "Sheet", html: "Page" }).map(([kind, text]) =>
      button(`save-${kind}`, text, `save these frames as .${kind}`, () => this.send({ save: kind })));
    this.exporting = row("export", "frames", this.first, "to", this.last, ...saves);
    this.told = make("div", { className: "trk-told", aria: { role: "status" } });
    this.root = make("div", { className: "trk-player", tabIndex: 0, aria: { role: "group", label: "video player" } },
      this.stage,
      row("controls", button("back", "◂", "one frame back (left)", () => this.step(-1)), this.toggle,
        button("next", "▸", "one frame on (right)", () => this.step(1)), this.slider, this.number, this.speed),
      this.legend, this.tools, this.curves.element, this.statement, this.exporting, this.told);
    this.el.append(this.root);
  }

  listen() {
    const { model } = this, on = (event, act) => (model.on(event, act), () => model.off(event, act));
    const resized = new ResizeObserver(() => this.fit());
    const themed = new MutationObserver(() => (this.buildLegend(), this.restyle()));
    resized.observe(this.el);
    themed.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name"] });
    const traits = {
      _clip: () => (this.model.get("_clip").id === this.frames.id ? this.listMaps() : this.load()),
      _series: () => this.refresh(),
      frame: () => this.model.get("frame") !== this.at && this.seek(this.model.get("frame")),
      playing: () => this.playOrPause(),
      speed: () => this.showSpeed(),
      shown: () => this.restyle(),
      overlay: () => this.restyle(),
      searched: () => this.restyle(),
      selection: () => this.showSelection(),
      told: () => this.tell(model.get("told")),
      drawing: () => this.showNote(),
    };
    this.off = [
      ...Object.entries(traits).map(([trait, act]) => on(`change:${trait}`, () => act())),
      on("msg:custom", (content, buffers) => content.row && this.extend(content.row, buffers)),
      () => resized.disconnect(),
      () => themed.disconnect(),
    ];
    this.slider.oninput = () => this.seek(Number(this.slider.value));
    this.speed.onchange = () => this.set("speed", Number(this.speed.value));
    this.map.onchange = () => this.set("overlay", this.map.value);
    this.search.onchange = () => this.set("searched", this.search.checked);
    this.tag.onchange = () => this.drawCurves();
    this.first.onchange = this.last.onchange = () => this.select(Number(this.first.value), Number(this.last.value));
    this.root.addEventListener("keydown", (event) => this.key(event));
    this.follow(this.canvas, (event, phase) => this.press(event, phase));
    this.follow(this.curves.top, (event, phase) => this.pointed(event, phase));
    this.timer = setInterval(() => this.waitNoMore(), 1000);
  }

  // Tell `act` of a press on an element, of each move until it is let go, and of the end.
  follow(element, act) {
    element.onpointerdown = (event) => {
      if (event.button !== 0) return;
      this.root.focus({ preventScroll: true });
      element.setPointerCapture(event.pointerId);
      element.onpointermove = (moved) => act(moved, "move");
      element.onpointerup = (ended) => act(ended, "up");
      element.onlostpointercapture = () => {
        element.onpointermove = element.onpointerup = null;
        this.corner = this.range = null;
      };
      act(event, "down");
    };
  }

  set(trait, value) {
    this.model.set(trait, value);
    this.reach(() => this.model.save_changes());
  }

  send(content) {
    this.reach(() => this.model.send(content));
  }

  // A kernel that was restarted knows nothing of this widget.
  reach(act) {
    try {
      act();
    } catch {
      this.tell({ text: "The kernel was restarted or is gone: run the cell again.", fault: true });
    }
  }

  load() {
    const clip = (this.clip = this.model.get("_clip"));
    this.frames.clear();
    Object.assign(this, { size: clip.size, fault: "", seeking: null, painted: -1, box: null, corner: null });
    this.at = clamp(this.model.get("frame"), 0, clip.count - 1);
    for (const input of [this.slider, this.first, this.last]) input.max = clip.count - 1;
    this.mapNames = new Set();
    fillOptions(this.tag, "attribute …", Object.keys(clip.tags));
    this.tag.hidden = this.onward.hidden = !Object.keys(clip.tags).length;
    for (const button of this.judged) button.hidden = !clip.truth || !clip.trackers.length;
    this.exporting.hidden = this.offline;
    this.statement.textContent = clip.statement;
    this.series = new Series(this.model);
    this.showSpeed();
    this.buildLegend();
    this.listMaps();
    this.showSelection();
    this.tell(this.model.get("told"));
    this.showNote();
    this.fit();
    this.seek(this.at);
    this.playOrPause();
  }

  refresh() {
    this.series = new Series(this.model);
    this.drawCurves();
    this.again();
  }

  // The kernel's list of maps, and those that came with rows since.
  listMaps(more = []) {
    for (const name of [...this.model.get("_clip").maps, ...more]) this.mapNames.add(name);
    fillOptions(this.map, "no map", [...this.mapNames]);
    this.map.hidden = this.searchLabel.hidden = !this.mapNames.size;
    this.tools.hidden = [...this.tools.children].every((child) => child.hidden);
    this.restyle();
  }

  // A box that a tracker at work has found; who stands at the frame before goes along.
  extend(row, buffers) {
    if (row.clip !== this.frames.id) return;
    this.series.put(row);
    const kept = this.frames.stored.get(row.frame), maps = withValues(row.maps, buffers);
    if (kept) kept.maps = [...kept.maps.filter((map) => map.tracker !== row.tracker), ...maps];
    if (maps.some(({ name }) => !this.mapNames.has(name))) this.listMaps(maps.map(({ name }) => name));
    this.stale = true; // curves are drawn again with the next frame
    const free = !this.corner && !this.model.get("playing") && !this.model.get("drawing");
    if (row.frame === this.at + 1 && free) this.seek(row.frame);
    else if (row.frame === this.painted) this.again();
  }

  buildLegend() {
    const names = [...this.clip.trackers, ...(this.clip.truth ? [this.clip.truth] : [])];
    this.entries = names.map(({ name, colour, dash }, i) => {
      const line = `<svg width="30" height="12" aria-hidden="true"><path d="M1 6h28" class="under"/>` +
        `<path d="M1 6h28" stroke-dasharray="${dash.join(" ")}"/></svg>`; // no text of the user's in it
      const judged = make("span", { className: "trk-value" }), key = i < this.clip.trackers.length ? i + 1 : "g";
      const entry = make("button", { type: "button", className: "trk-entry", title: `show or hide ${name} (${key})`,
        onclick: () => this.flip(name) }, make("span", { innerHTML: line }), make("b", { textContent: name }), judged);
      entry.dataset.name = name;
      entry.querySelector("path:last-child").style.stroke = this.ink(colour);
      return Object.assign(entry, { judged });
    });
    this.legend.replaceChildren(...this.entries);
  }

  ink(colour) {
    return colour === BLACK ? getComputedStyle(this.root).color : colour;
  }

  flip(name) {
    const shown = this.model.get("shown");
    this.set("shown", shown.includes(name) ? shown.filter((n) => n !== name) : [...shown, name]);
  }

  isShown(name) {
    return this.model.get("shown").includes(name);
  }

  restyle() {
    this.map.value = this.model.get("overlay");
    this.search.checked = this.model.get("searched");
    this.drawCurves();
    this.again();
  }

  drawCurves() {
    if (!this.series) return;
    this.stale = false;
    const { trackers, truth, count, offset = 0, tags } = this.clip, { overlap, error } = this.series;
    const lines = trackers.map(({ name, colour, dash }, i) =>
      ({ name, colour: this.ink(colour), dash, overlap: overlap[i], error: error[i] })).filter(({ name }) => this.isShown(name));
    const note = !truth ? "no ground truth: no overlap, no failures" : trackers.length ? "" : "no tracker's results to compare";
    this.curves.draw({ count, offset, lines, note, spans: tags[this.tag.value] ?? [], frameWidth: this.size[0] });
    this.drawCursor();
  }

  drawCursor() {
    this.curves.mark(this.painted, this.range ?? this.model.get("selection"));
  }

  // The stage as wide as there is room, small videos enlarged to 640 pixels at the most, large ones within the window.
  // Whether the canvas changed, and is empty now.
  resize() {
    const [width, height] = this.size, room = this.el.clientWidth || 640, ratio = window.devicePixelRatio || 1;
    const shown = Math.max(Math.floor(Math.min(room, Math.max(width, 640), (0.7 * window.innerHeight * width) / height)), 40);
    const [w, h] = [shown * ratio, (shown * ratio * height) / width].map(Math.round);
    this.stage.style.width = `${shown}px`;
    if (this.canvas.width === w && this.canvas.height === h) return false;
    Object.assign(this.canvas, { width: w, height: h });
    return true;
  }

  fit() {
    if (this.resize()) this.again();
    this.drawCurves();
  }

  seek(t) {
    this.at = clamp(Math.round(t) || 0, 0, this.clip.count - 1);
    this.slider.value = this.at;
    this.request();
    if (!this.model.get("playing")) this.report();
  }

  step(by) {
    this.set("playing", false);
    this.seek(this.at + by);
  }

  // Show the frame wanted, or ask for it; one jump is under way at a time, and each that arrives is shown: a slider that
  // is dragged shows frames as fast as the kernel gives them.
  request() {
    if (this.frames.stored.has(this.at)) this.show(this.at);
    else if (this.seeking === null || !this.frames.asked.has(this.seeking)) {
      this.seeking = this.at;
      this.frames.ask(this.at);
    }
  }

  arrived(t) {
    if (this.silent) this.tell({});
    this.silent = false;
    if (t === this.seeking) {
      this.seeking = null;
      if (t !== this.at && !this.model.get("playing")) this.show(t);
      this.request();
    } else if (t === this.at && this.painted !== t) this.show(t);
    if (this.seeking === null) this.frames.fill(this.at);
  }

  waitNoMore() {
    if (performance.now() - Math.min(...this.frames.asked.values()) > PATIENCE) {
      this.silent = true;
      this.tell({ text: "The kernel does not answer (busy, or stopped): frames that are already here still play.", fault: true });
      this.frames.asked.clear();
      this.seeking = null;
    }
    if (this.painted !== this.at) this.request();
  }

  async show(t) {
    const turn = ++this.turn, entry = this.frames.decode(t);
    if (!entry.ready) await entry.done;
    if (turn > this.shownTurn && this.frames.images.get(t) === entry) {
      this.shownTurn = turn;
      this.paint(t, entry.image);
      if (this.seeking === null) this.frames.fill(this.at);
    }
  }

  again() {
    if (this.painted >= 0 && this.frames.stored.has(this.painted)) this.show(this.painted);
  }

  // The kernel is told of the frame, but not of each while a video plays or a slider moves.
  report() {
    clearTimeout(this.reporting);
    this.reporting = setTimeout(() => this.model.get("frame") !== this.at && this.set("frame", this.at), 80);
  }

  playOrPause() {
    const playing = this.model.get("playing");
    this.toggle.textContent = playing ? "❚❚" : "▶";
    cancelAnimationFrame(this.wake);
    if (!playing) return this.report();
    if (this.at >= this.clip.count - 1) this.seek(0);
    this.due = performance.now();
    const tick = (now) => {
      this.wake = requestAnimationFrame(tick);
      this.advance(now);
    };
    this.wake = requestAnimationFrame(tick);
  }

  // One frame on when it is due, never past one that is not there: what plays slower than it should skips nothing.
  advance(now) {
    const next = this.at + 1, interval = 1000 / this.model.get("speed");
    if (next >= this.clip.count) return this.set("playing", false);
    for (let u = next; u < next + DECODED && this.frames.stored.has(u); u++) this.frames.decode(u);
    if (now < this.due - 4) return; // the display's own step is 17 ms: a quarter of it early is in time
    const entry = this.frames.stored.has(next) && this.frames.decode(next);
    if (!entry?.ready) return this.frames.fill(next);
    this.at = next;
    this.slider.value = next;
    this.shownTurn = ++this.turn;
    this.paint(next, entry.image);
    this.frames.fill(next);
    this.due = Math.max(this.due + interval, now - interval);
  }

  showSpeed() {
    const { fps } = this.clip, current = this.model.get("speed");
    const rates = [...new Set([...SPEEDS.map((s) => s * fps), 1, current])].sort((a, b) => a - b);
    this.speed.replaceChildren(...rates.map((rate) =>
      new Option(`${Number(rate.toPrecision(3))} frames/s`, rate, false, rate === current)));
  }

  paint(t, image) {
    const { canvas, context: c, series } = this, kept = this.frames.seen(t);
    if (image && (kept.size[0] !== this.size[0] || kept.size[1] !== this.size[1])) {
      this.size = kept.size;
      this.resize();
    }
    this.scale = canvas.width / this.size[0];
    c.setLineDash([]);
    c.fillStyle = "#555";
    if (image) c.drawImage(image, 0, 0, canvas.width, canvas.height);
    else c.fillRect(0, 0, canvas.width, canvas.height);
    this.fault = image ? "" : `Frame ${this.named(t)} cannot be shown: ${kept.error}`;
    for (const map of kept.maps) if (map.name === this.model.get("overlay")) this.paintMap(map);
    this.clip.trackers.forEach(({ name, colour, dash }, i) => {
      if (!this.isShown(name)) return;
      const region = this.model.get("searched") && kept.maps.find((map) => map.tracker === name)?.searched;
      if (region) this.outline(region, colour, [8, 6], 2, "#ffffff90");
      this.outline(series.box(series.boxes[i], t), colour, dash, 2.5);
    });
    const { truth } = this.clip;
    if (truth && this.isShown(truth.name)) this.outline(series.box(series.truth, t), truth.colour, truth.dash, 2);
    this.outline(this.box, "#FFFFFF", [4, 3], 2);
    this.painted = t;
    Object.assign(canvas.dataset, { frame: t, width: this.size[0] });
    this.showNote();
    this.showNumbers(t);
    if (this.stale) this.drawCurves();
    else this.drawCursor();
  }

  // A rectangle on the box's edge, on a border that shows it on any ground; no box, no rectangle.
  outline(box, colour, dash, width, under = colour === BLACK ? "#ffffffb0" : "#000000a0") {
    const { context: c, scale } = this, ratio = window.devicePixelRatio || 1;
    for (const [style, thickness, pattern] of box ? [[under, width + 2, []], [colour, width, dash]] : []) {
      Object.assign(c, { strokeStyle: style, lineWidth: thickness * ratio });
      c.setLineDash(pattern.map((v) => v * ratio));
      c.strokeRect(...box.map((v) => v * scale));
    }
  }

  // A map in inferno's colours at its place, the more opaque the higher.
  paintMap({ rows, columns, place, values }) {
    const { buffer, byteOffset } = this.model.get("_palette"), palette = new Uint8Array(buffer, byteOffset);
    const pixels = new ImageData(columns, rows), small = make("canvas", { width: columns, height: rows });
    values.forEach((v, i) => pixels.data.set([...palette.subarray(3 * v, 3 * v + 3), 0.6 * v], 4 * i));
    small.getContext("2d").putImageData(pixels, 0, 0);
    this.context.drawImage(small, ...place.map((v) => v * this.scale));
  }

  // A frame's number: a page may hold a part of a sequence.
  named(t) {
    return t + (this.clip.offset ?? 0);
  }

  showNumbers(t) {
    this.number.textContent = `frame ${this.named(t)} / ${this.named(this.clip.count - 1)}`;
    this.slider.setAttribute("aria-valuetext", this.number.textContent);
    this.entries.forEach((entry, i) => {
      entry.setAttribute("aria-pressed", this.isShown(entry.dataset.name));
      const overlap = this.series.overlap[i]?.[t], error = this.series.error[i]?.[t];
      if (i < this.clip.trackers.length && this.clip.truth) {
        entry.judged.textContent = Number.isFinite(overlap) ? `IoU ${overlap.toFixed(2)}, ${error.toFixed(0)} px` : "IoU –";
      }
    });
  }

  tell({ text = "", fault = false }) {
    this.told.textContent = text;
    this.told.classList.toggle("trk-fault", fault);
    this.told.setAttribute("role", fault ? "alert" : "status");
  }

  showNote() {
    const drawing = this.model.get("drawing");
    if (!drawing && this.box) {
      this.box = this.corner = null; // left in the middle of it
      this.again();
    }
    this.note.textContent = this.fault || (drawing ? "Drag a box around the target" : "");
    this.canvas.classList.toggle("trk-drawing", drawing);
  }
}

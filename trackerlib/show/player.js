// Plays a tracked video. The kernel sends frames as JPEG, a few at a time and ahead of the one shown; they stay here, so
// that what was seen once plays without the kernel. Boxes, maps and curves are drawn here, from numbers. Nothing is
// fetched from a network. player.py says what the traits hold; show/page.py plays the same script without a kernel.

const AHEAD = 64; // frames asked for ahead of the one shown
const IN_FLIGHT = 3; // of them at a time while a video plays, else one: a jump waits for no more than these
const DECODED = 12; // raw images kept, the nearest
const KEPT = 256 * 2 ** 20; // bytes of JPEG kept, the last seen
const PATIENCE = 5000; // milliseconds without an answer, after which the kernel is asked again and the user told
const SPEEDS = [0.25, 0.5, 1, 2];
const NEAR = 20; // pixels of centre error that OTB's precision counts as a hit

const clamp = (v, low, high) => Math.min(Math.max(v, low), high);

function make(tag, properties = {}, ...children) {
  const { data = {}, aria = {}, ...rest } = properties;
  const element = Object.assign(document.createElement(tag), rest);
  if (["button", "input", "select"].includes(tag)) element.dataset.lmSuppressShortcuts = "true"; // else Lab takes the keys
  Object.assign(element.dataset, data);
  for (const [name, value] of Object.entries(aria)) element.setAttribute(`aria-${name}`, value);
  element.append(...children);
  return element;
}

// Maps with the bytes that came beside them, in their order.
const withValues = (maps, buffers) => maps.map((map, i) => {
  const { buffer, byteOffset, byteLength } = buffers[i];
  return { ...map, values: new Uint8Array(buffer, byteOffset, byteLength).slice() };
});

// The frames of one sequence: JPEGs by number, least recently seen first, and the raw images of those near the last one.
class Frames {
  constructor(model, arrived) {
    Object.assign(this, { model, arrived, stored: new Map(), asked: new Map(), images: new Map() });
    this.receive = (content, buffers) => content.image && this.take(content.image, buffers);
    model.on("msg:custom", this.receive);
    this.clear();
  }

  clear() {
    for (const { image } of this.images.values()) image?.close();
    for (const map of [this.stored, this.asked, this.images]) map.clear();
    Object.assign(this, { bytes: 0, id: this.model.get("_clip").id, count: this.model.get("_clip").count });
  }

  remove() {
    this.model.off("msg:custom", this.receive);
    this.clear();
  }

  ask(t) {
    if (this.stored.has(t) || this.asked.has(t)) return;
    this.asked.set(t, performance.now());
    this.model.send({ want: t, clip: this.id });
  }

  // Ask for what is not there yet, from t on.
  fill(t) {
    const end = Math.min(t + AHEAD, this.count);
    const most = this.model.get("playing") ? IN_FLIGHT : 1;
    for (let u = t; u < end && this.asked.size < most; u++) this.ask(u);
  }

  take({ frame, clip, maps, ...rest }, buffers) {
    if (clip !== this.id) return; // of the sequence before this one
    this.asked.delete(frame);
    const [jpeg, ...of] = buffers, blob = rest.error ? null : new Blob([jpeg], { type: "image/jpeg" });
    const kept = { ...rest, blob, maps: withValues(maps, of) };
    kept.bytes = buffers.reduce((sum, b) => sum + b.byteLength, 0);
    this.bytes += kept.bytes - (this.stored.get(frame)?.bytes ?? 0);
    this.stored.delete(frame);
    this.stored.set(frame, kept);
    for (const [old, { bytes: size }] of this.stored) {
      if (this.bytes <= KEPT) break;
      this.stored.delete(old);
      this.bytes -= size;
    }
    this.arrived(frame);
  }

  // What is stored of frame t, which now counts as seen last.
  seen(t) {
    const kept = this.stored.get(t);
    if (kept) {
      this.stored.delete(t);
      this.stored.set(t, kept);
    }
    return kept;
  }

  // The raw image of a stored frame: {image, done}, the image null until `done` resolves, and where none can be made.
  decode(t) {
    if (this.images.has(t)) return this.images.get(t);
    const kept = this.stored.get(t);
    const entry = { image: null, ready: false };
    entry.done = (kept.blob ? createImageBitmap(kept.blob) : Promise.resolve(null))
      .catch(() => ((kept.error = "this browser cannot decode the image"), null))
      .then((image) => {
        Object.assign(entry, { image, ready: true });
        if (this.images.get(t) !== entry) image?.close(); // no longer wanted
      });
    this.images.set(t, entry);
    const far = [...this.images.keys()].sort((a, b) => Math.abs(b - t) - Math.abs(a - t));
    for (const u of far.slice(0, Math.max(far.length - 2 * DECODED, 0))) {
      this.images.get(u).image?.close();
      this.images.delete(u);
    }
    return entry;
  }
}

// The numbers of one sequence: boxes (truth first), IoU, centre error and whether the target is lost, a row a tracker.
class Series {
  constructor(model) {
    const { count: T, trackers } = model.get("_clip"), N = trackers.length, view = model.get("_series");
    const all = new Float32Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
    const part = (start, rows, width) => Array.from({ length: rows }, (_, i) =>
      all.subarray(start + i * T * width, start + (i + 1) * T * width));
    const [truth, ...boxes] = part(0, N + 1, 4), after = 4 * T * (N + 1);
    Object.assign(this, { T, truth, boxes });
    [this.overlap, this.error, this.lost] = [0, 1, 2].map((k) => part(after + k * N * T, N, 1));
  }

  put({ row, frame, box, measured }) {
    this.boxes[row].set(box.map((v) => v ?? NaN), 4 * frame);
    [this.overlap, this.error, this.lost].forEach((of, k) => (of[row][frame] = measured[k] ?? NaN));
  }

  box(of, t) {
    const box = of.subarray(4 * t, 4 * t + 4);
    return box.every(Number.isFinite) ? box : null;
  }
}

class View {
  constructor(model, el) {
    Object.assign(this, { model, el, at: 0, painted: -1, turn: 0, seeking: null, due: 0, box: null, range: null });
    this.offline = Boolean(model.get("_clip").offline);
    this.frames = new Frames(model, (t) => this.arrived(t));
    this.build();
    this.listen();
    this.load();
  }

  remove() {
    this.off.forEach((stop) => stop());
    clearInterval(this.timer);
    cancelAnimationFrame(this.wake);
    this.frames.remove();
  }

  // --- what there is to see

  build() {
    const button = (name, text, title, act) => make("button", {
      type: "button", className: `trk-${name}`, textContent: text, title, onclick: act, aria: { label: title },
    });
    this.canvas = make("canvas", { className: "trk-canvas", aria: { label: "frame with boxes" } });
    this.note = make("div", { className: "trk-note" });
    this.stage = make("div", { className: "trk-stage" }, this.canvas, this.note);
    this.context = this.canvas.getContext("2d", { alpha: false });
    this.toggle = button("play", "▶", "play or pause (space)", () => this.set("playing", !this.model.get("playing")));
    this.slider = make("input", { type: "range", className: "trk-slider", min: 0, value: 0, aria: { label: "frame" } });
    this.number = make("output", { className: "trk-number" });
    this.speed = make("select", { className: "trk-speed", title: "speed", aria: { label: "speed" } });
    this.controls = make("div", { className: "trk-row" },
      button("back", "◂", "one frame back (left)", () => this.step(-1)), this.toggle,
      button("next", "▸", "one frame on (right)", () => this.step(1)), this.slider, this.number, this.speed);
    this.legend = make("div", { className: "trk-row trk-legend" });
    this.tag = make("select", { className: "trk-tag", title: "frames that carry an attribute", aria: { label: "attribute" } });
    this.map = make("select", { className: "trk-map", title: "lay a map over the frame", aria: { label: "map" } });
    this.search = make("input", { type: "checkbox", className: "trk-search" });
    this.searchLabel = make("label", {}, this.search, " search region");
    this.judged = [
      button("failure", "Next failure", "next frame where a tracker shown loses the target (n)", () => this.jumpToFailure()),
      button("lowest", "Lowest overlap", "frame where the overlap is lowest (l)", () => this.jumpToLowest()),
    ];
    this.onward = button("tagged", "Next", "next stretch of frames with this attribute (a)", () => this.jumpToTag());
    this.tools = make("div", { className: "trk-row" }, ...this.judged, this.tag, this.onward, this.map, this.searchLabel);
    this.curves = make("canvas", { className: "trk-curves" });
    this.cursor = make("canvas", { className: "trk-cursor", aria: { label: "overlap and centre error by frame" } });
    this.plot = make("div", { className: "trk-plot" }, this.curves, this.cursor);
    this.statement = make("div", { className: "trk-statement" });
    const limit = (name) => make("input", { type: "number", className: `trk-${name}`, min: 0, aria: { label: `${name} frame` } });
    [this.first, this.last] = [limit("first"), limit("last")];
    const exports = ["mp4", "gif", "png", "html"].map((kind) =>
      button(`save-${kind}`, { png: "Sheet", html: "Page" }[kind] ?? kind.toUpperCase(), `save these frames as .${kind}`,
        () => this.send({ save: kind })));
    this.exporting = make("div", { className: "trk-row trk-export" }, make("span", {}, "frames"), this.first,
      make("span", {}, "to"), this.last, ...exports);
    this.told = make("div", { className: "trk-told", role: "status" });
    this.root = make("div", { className: "trk-player", tabIndex: 0, data: { lmSuppressShortcuts: "true" } }, this.stage,
      this.controls, this.legend, this.tools, this.plot, this.statement, this.exporting, this.told);
    this.el.append(this.root);
  }

  listen() {
    const { model } = this, on = (trait, act) => {
      const call = () => act();
      model.on(`change:${trait}`, call);
      return () => model.off(`change:${trait}`, call);
    };
    const live = (content, buffers) => content.row && this.extend(content.row, buffers);
    model.on("msg:custom", live);
    const watch = new ResizeObserver(() => this.fit());
    watch.observe(this.el);
    const theme = new MutationObserver(() => this.drawCurves());
    theme.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name"] });
    this.off = [
      on("_clip", () => this.load()),
      on("_series", () => this.refresh()),
      on("frame", () => this.model.get("frame") !== this.at && this.seek(this.model.get("frame"))),
      on("playing", () => this.playOrPause()),
      on("speed", () => this.showSpeed()),
      ...["shown", "overlay", "searched"].map((trait) => on(trait, () => this.restyle())),
      on("selection", () => this.showSelection()),
      on("told", () => this.tell(model.get("told"))),
      on("drawing", () => this.showNote()),
      () => model.off("msg:custom", live),
      () => watch.disconnect(),
      () => theme.disconnect(),
    ];
    this.slider.oninput = () => this.seek(Number(this.slider.value));
    this.speed.onchange = () => this.set("speed", Number(this.speed.value));
    this.map.onchange = () => this.set("overlay", this.map.value);
    this.search.onchange = () => this.set("searched", this.search.checked);
    this.tag.onchange = () => this.drawCurves();
    this.first.onchange = this.last.onchange = () => this.select(Number(this.first.value), Number(this.last.value));
    this.root.addEventListener("keydown", (event) => this.key(event));
    this.follow(this.canvas, (event, phase) => this.press(event, phase));
    this.follow(this.cursor, (event, phase) => this.pointed(event, phase));
    this.timer = setInterval(() => this.waitNoMore(), 1000);
  }

  // Tell `act` of a press on an element, of each move until it is let go, and of the end.
  follow(element, act) {
    element.onpointerdown = (event) => {
      this.root.focus({ preventScroll: true });
      element.setPointerCapture(event.pointerId);
      element.onpointermove = (moved) => act(moved, "move");
      element.onpointerup = (ended) => ((element.onpointermove = element.onpointerup = null), act(ended, "up"));
      act(event, "down");
    };
  }

  set(trait, value) {
    this.model.set(trait, value);
    this.model.save_changes();
  }

  send(content) {
    this.model.send(content);
  }

  // --- what is shown

  load() {
    const clip = this.model.get("_clip");
    this.clip = clip;
    this.frames.clear();
    Object.assign(this, { size: null, seeking: null, painted: -1, at: clamp(this.model.get("frame"), 0, clip.count - 1) });
    for (const input of [this.slider, this.first, this.last]) input.max = clip.count - 1;
    const choices = (select, first, names) =>
      select.replaceChildren(...[first, ...names].map((name, i) => new Option(name, i ? name : "")));
    choices(this.tag, "attribute …", Object.keys(clip.tags));
    choices(this.map, "no map", clip.maps);
    this.tag.hidden = this.onward.hidden = !Object.keys(clip.tags).length;
    this.map.hidden = this.searchLabel.hidden = !clip.maps.length;
    for (const button of this.judged) button.hidden = !clip.truth || !clip.trackers.length;
    this.exporting.hidden = this.offline;
    this.statement.textContent = clip.statement;
    this.tools.hidden = [...this.tools.children].every((child) => child.hidden);
    this.showSpeed();
    this.buildLegend();
    this.refresh();
    this.restyle();
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

  extend(row, buffers) {
    if (row.clip !== this.clip.id) return;
    this.series.put(row);
    const kept = this.frames.stored.get(row.frame), maps = withValues(row.maps, buffers);
    if (kept) kept.maps = [...kept.maps.filter((map) => map.tracker !== row.tracker), ...maps];
    for (const { name } of maps.filter((map) => !this.clip.maps.includes(map.name))) {
      this.clip.maps.push(name);
      this.map.append(new Option(name, name));
      this.map.hidden = this.searchLabel.hidden = this.tools.hidden = false;
    }
    this.stale = true; // curves are drawn again with the next frame
    if (row.frame === this.painted) this.again();
  }

  buildLegend() {
    const names = [...this.clip.trackers, ...(this.clip.truth ? [this.clip.truth] : [])];
    this.entries = names.map(({ name, colour, dash }) => {
      const line = `<svg width="30" height="12" aria-hidden="true"><path d="M1 6h28" class="under"/>` +
        `<path d="M1 6h28" stroke-dasharray="${dash.join(" ")}"/></svg>`; // no text of the user's in it
      const value = make("span", { className: "trk-value" });
      const entry = make("button", { type: "button", className: "trk-entry", data: { name },
        onclick: () => this.flip(name) }, make("span", { innerHTML: line }), make("b", { textContent: name }), value);
      entry.querySelector("path:last-child").style.stroke = this.ink(colour);
      entry.title = name === this.clip.truth?.name ? "show or hide it (g)" : "show or hide it (its number)";
      return Object.assign(entry, { judged: value });
    });
    this.legend.replaceChildren(...this.entries);
  }

  // A tracker's colour; the palette's black would vanish on a dark page.
  ink(colour) {
    return colour === "#000000" ? getComputedStyle(this.root).color : colour;
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

  // The stage as wide as there is room, small videos enlarged to 640 pixels at the most, large ones within the window.
  fit() {
    if (!this.clip) return;
    const [width, height] = this.size ?? this.clip.size, room = this.el.clientWidth || 640;
    const shown = Math.floor(Math.min(room, Math.max(width, 640), (0.7 * window.innerHeight * width) / height));
    const ratio = window.devicePixelRatio || 1;
    const [w, h] = [shown * ratio, (shown * ratio * height) / width].map(Math.round);
    this.stage.style.width = `${shown}px`;
    if (this.canvas.width !== w || this.canvas.height !== h) {
      Object.assign(this.canvas, { width: w, height: h });
      this.again();
    }
    this.drawCurves();
  }

  // --- which frame

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
    const t = this.model.get("playing") ? Math.min(this.at + 1, this.clip.count - 1) : this.at;
    if (performance.now() - (this.frames.asked.get(t) ?? Infinity) > PATIENCE) {
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
    if (turn > (this.shownTurn ?? 0) && this.frames.images.get(t) === entry) {
      this.shownTurn = turn;
      this.paint(t, entry.image);
      if (this.seeking === null) this.frames.fill(this.at);
    }
  }

  again() {
    if (this.painted >= 0 && this.frames.stored.has(this.painted)) this.show(this.painted);
  }

  // The kernel is told of the frame, but not of each while a video plays.
  report() {
    clearTimeout(this.reporting);
    this.reporting = setTimeout(() => this.model.get("frame") !== this.at && this.set("frame", this.at), 80);
  }

  playOrPause() {
    const playing = this.model.get("playing");
    this.toggle.textContent = playing ? "❚❚" : "▶";
    cancelAnimationFrame(this.wake);
    if (!playing) return this.clip && this.report();
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

  // --- painting

  paint(t, image) {
    const { canvas, context: c, series } = this, kept = this.frames.seen(t);
    if (image && (kept.size[0] !== this.size?.[0] || kept.size[1] !== this.size?.[1])) {
      this.size = kept.size;
      this.fit();
    }
    this.scale = canvas.width / (this.size ?? this.clip.size)[0];
    c.setLineDash([]);
    c.fillRect(0, 0, canvas.width, canvas.height);
    if (image) c.drawImage(image, 0, 0, canvas.width, canvas.height);
    this.fault = image ? "" : `Frame ${this.named(t)} cannot be shown: ${kept.error}`;
    for (const map of kept.maps) {
      if (map.name === this.model.get("overlay")) this.paintMap(map);
    }
    this.clip.trackers.forEach(({ name, colour, dash }, i) => {
      if (!this.isShown(name)) return;
      const region = this.model.get("searched") && kept.maps.find((map) => map.tracker === name)?.searched;
      if (region) this.outline(region, colour, [8, 6], 2, "#ffffff90");
      const box = series.box(series.boxes[i], t);
      if (box) this.outline(box, colour, dash, 2.5);
    });
    const { truth } = this.clip, box = truth && this.isShown(truth.name) && series.box(series.truth, t);
    if (box) this.outline(box, truth.colour, truth.dash, 2);
    if (this.box) this.outline(this.box, "#FFFFFF", [4, 3], 2);
    this.painted = t;
    canvas.dataset.frame = t;
    this.showNote();
    this.showNumbers(t);
    if (this.stale) this.drawCurves();
    else this.drawCursor();
  }

  // A rectangle on the box's edge, on a border that shows it on any ground.
  outline([x, y, w, h], colour, dash, width, under = colour === "#000000" ? "#ffffffb0" : "#000000a0") {
    const { context: c, scale } = this, ratio = window.devicePixelRatio || 1;
    for (const [style, thickness, pattern] of [[under, width + 2, []], [colour, width, dash]]) {
      Object.assign(c, { strokeStyle: style, lineWidth: thickness * ratio });
      c.setLineDash(pattern.map((v) => v * ratio));
      c.strokeRect(x * scale, y * scale, w * scale, h * scale);
    }
  }

  // A map in inferno's colours at its place, the more opaque the higher.
  paintMap({ rows, columns, place, values }) {
    const palette = new Uint8Array(this.model.get("_palette").buffer, this.model.get("_palette").byteOffset);
    const pixels = new ImageData(columns, rows);
    values.forEach((v, i) => pixels.data.set([...palette.subarray(3 * v, 3 * v + 3), 0.6 * v], 4 * i));
    const small = make("canvas", { width: columns, height: rows });
    small.getContext("2d").putImageData(pixels, 0, 0);
    this.context.drawImage(small, ...place.map((v) => v * this.scale));
  }

  // A frame's number: a page may hold a part of a sequence.
  named(t) {
    return t + (this.clip.offset ?? 0);
  }

  showNumbers(t) {
    this.number.textContent = `frame ${this.named(t)} / ${this.named(this.clip.count - 1)}`;
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
    this.note.textContent = this.fault || (drawing ? "Drag a box around the target" : "");
    this.canvas.classList.toggle("trk-drawing", drawing);
  }

  // --- curves

  panel() {
    const width = this.plot.clientWidth || 640, ratio = window.devicePixelRatio || 1;
    return { width, ratio, left: 34, right: width - 10, x: (t) => 34 + ((width - 44) * t) / Math.max(this.clip.count - 1, 1) };
  }

  drawCurves() {
    if (!this.clip || !this.series) return;
    this.stale = false;
    const { width, ratio, left, right, x } = this.panel(), { overlap, error } = this.series, { count, trackers } = this.clip;
    const known = this.clip.truth && trackers.length, height = known ? 178 : 44;
    for (const canvas of [this.curves, this.cursor]) {
      Object.assign(canvas, { width: width * ratio, height: height * ratio });
      canvas.style.height = `${height}px`;
    }
    const c = this.curves.getContext("2d"), style = getComputedStyle(this.root);
    const [ink, soft, line] = ["--ink", "--soft", "--line"].map((name) => style.getPropertyValue(name));
    c.scale(ratio, ratio);
    c.font = `11px ${style.fontFamily}`;
    this.shadeTag(c, x, height);
    const reach = this.largestError(error, trackers);
    const panels = known ? [["IoU", overlap, 1, 16, 64], ["centre error (px)", error, reach, 100, 56]] : [];
    for (const [label, of, high, top, tall] of panels) {
      const y = (v) => top + tall * (1 - Math.min(v / high, 1));
      this.axis(c, { label, high, top, tall, left, right, soft, ink, line });
      if (of === error) this.rule(c, left, right, y(NEAR), soft, [2, 3]);
      trackers.forEach(({ name, colour, dash }, i) => this.isShown(name) && this.trace(c, of[i], x, y, this.ink(colour), dash));
    }
    c.fillStyle = ink;
    c.textAlign = "center";
    const ticks = [...new Set([0, 0.25, 0.5, 0.75, 1].map((share) => Math.round(share * (count - 1))))];
    for (const t of ticks) c.fillText(this.named(t), clamp(x(t), left, right - 8), height - 6);
    if (!known) {
      this.rule(c, left, right, 18, line, []);
      c.textAlign = "left";
      c.fillText(this.clip.truth ? "no tracker's results to compare" : "no ground truth: no overlap, no failures", left + 6, 12);
    }
    this.drawCursor();
  }

  // The axis of errors: up to the largest one shown, but 25 pixels at the least, and a tenth of the image's width at the
  // most, 100 in a small one: a lost target's distance says nothing.
  largestError(error, trackers) {
    let largest = 25;
    trackers.forEach(({ name }, i) => {
      if (this.isShown(name)) for (const v of error[i]) if (v > largest) largest = v;
    });
    return Math.min(Math.ceil(largest / 10) * 10, Math.max(100, Math.round(this.clip.size[0] / 100) * 10));
  }

  axis(c, { label, high, top, tall, left, right, soft, ink, line }) {
    for (const share of [0, 0.5, 1]) this.rule(c, left, right, top + tall * (1 - share), line, []);
    c.fillStyle = ink;
    c.textAlign = "right";
    for (const share of [0, 0.5, 1]) c.fillText(share * high, left - 4, top + tall * (1 - share) + 4);
    c.fillStyle = soft;
    c.textAlign = "left";
    c.fillText(label, left, top - 5);
  }

  rule(c, left, right, y, colour, dash) {
    Object.assign(c, { strokeStyle: colour, lineWidth: 1 });
    c.setLineDash(dash);
    c.beginPath();
    c.moveTo(left, Math.round(y) + 0.5);
    c.lineTo(right, Math.round(y) + 0.5);
    c.stroke();
  }

  // A curve; where several frames share a pixel, from the lowest of them to the highest. NaN is a gap.
  trace(c, values, x, y, colour, dash) {
    Object.assign(c, { strokeStyle: colour, lineWidth: 2, lineJoin: "round" });
    const bin = Math.max(1, Math.floor(values.length / Math.max(x(values.length - 1) - x(0), 1)));
    c.setLineDash(bin > 1 ? [] : dash);
    c.beginPath();
    let open = false;
    for (let t = 0; t < values.length; t += bin) {
      const known = values.subarray(t, t + bin).filter(Number.isFinite);
      for (const v of known.length > 1 ? [Math.min(...known), Math.max(...known)] : known) {
        c[open ? "lineTo" : "moveTo"](x(t), y(v));
        if (!open && bin === 1 && !Number.isFinite(values[t + 1])) c.lineTo(x(t) + 1.5, y(v)); // a lone frame is a dot
        open = true;
      }
      if (!known.length) open = false;
    }
    c.stroke();
  }

  shadeTag(c, x, height) {
    const half = (x(1) - x(0)) / 2;
    c.fillStyle = "#E69F0030";
    for (const [first, last] of this.clip.tags[this.tag.value] ?? []) {
      c.fillRect(x(first) - half, 12, Math.max(x(last) - x(first) + 2 * half, 1.5), height - 30);
    }
  }

  drawCursor() {
    const c = this.cursor.getContext("2d"), { ratio, x } = this.panel(), height = this.cursor.height / ratio;
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.clearRect(0, 0, this.cursor.width, this.cursor.height);
    const [first, last] = this.range ?? this.model.get("selection");
    if (first !== undefined) {
      c.fillStyle = "#56B4E944";
      c.fillRect(x(first), 12, Math.max(x(last) - x(first), 1.5), height - 30);
    }
    c.fillStyle = getComputedStyle(this.root).getPropertyValue("--ink");
    c.fillRect(x(Math.max(this.painted, 0)) - 0.75, 8, 1.5, height - 26);
  }

  // A press on the curves shows that frame; with shift, a drag selects frames.
  pointed(event, phase) {
    const { left, right } = this.panel(), inside = event.clientX - this.cursor.getBoundingClientRect().left;
    const t = Math.round(clamp((inside - left) / (right - left), 0, 1) * (this.clip.count - 1));
    if (phase === "down") {
      this.set("playing", false);
      this.anchor = event.shiftKey ? t : null;
    }
    if (this.anchor === null) return this.seek(t);
    this.range = [Math.min(t, this.anchor), Math.max(t, this.anchor)];
    this.drawCursor();
    if (phase !== "up") return;
    this.range = null;
    if (t === this.anchor) this.tell({ text: "The selection is empty: drag from its first frame to its last.", fault: true });
    else this.select(...[t, this.anchor].sort((a, b) => a - b));
  }

  select(first, last) {
    const ends = [first, last].map((t) => clamp(Math.round(t) || 0, 0, this.clip.count - 1));
    this.set("selection", ends); // an empty one too: player.py will not save it
    const empty = { text: `The selection is empty: frame ${ends[0]} comes after frame ${ends[1]}.`, fault: true };
    this.tell(ends[0] > ends[1] ? empty : {});
  }

  showSelection() {
    const [first, last] = this.model.get("selection");
    this.first.value = first ?? 0;
    this.last.value = last ?? this.clip.count - 1;
    this.drawCursor();
  }

  // --- jumps

  // The first frame after the one shown that `hits` and whose predecessor does not; from the start again at the end.
  next(hits) {
    const { count } = this.clip;
    for (let k = 1; k <= count; k++) {
      const t = (this.at + k) % count;
      if (hits(t) && !(t > 0 && hits(t - 1))) return t;
    }
    return null;
  }

  jump(t, otherwise) {
    this.set("playing", false);
    if (t === null) return this.tell({ text: otherwise });
    this.tell({});
    this.seek(t);
  }

  shownRows() {
    return this.clip.trackers.map((_, i) => i).filter((i) => this.isShown(this.clip.trackers[i].name));
  }

  jumpToFailure() {
    const starts = this.shownRows().map((i) => this.next((t) => this.series.lost[i][t] === 1)).filter((t) => t !== null);
    const ahead = starts.map((t) => (t > this.at ? t : t + this.clip.count));
    this.jump(starts.length ? Math.min(...ahead) % this.clip.count : null, "No tracker shown loses the target.");
  }

  jumpToLowest() {
    let [least, at] = [Infinity, null];
    for (const i of this.shownRows()) this.series.overlap[i].forEach((v, t) => v < least && ([least, at] = [v, t]));
    this.jump(at, "No tracker shown has an overlap.");
  }

  jumpToTag() {
    const spans = this.clip.tags[this.tag.value];
    if (!spans) return this.tell({ text: "Choose an attribute first." });
    const start = spans.map(([first]) => first).find((first) => first > this.at) ?? spans[0]?.[0] ?? null;
    this.jump(start, "No frame carries it.");
  }

  // --- keys and the pointer on the frame

  key(event) {
    const typing = event.target.matches("input, select");
    const pressing = event.target.matches("button") && [" ", "Enter"].includes(event.key);
    if (typing || pressing || event.ctrlKey || event.metaKey || event.altKey) return;
    const far = event.shiftKey ? 10 : 1, tracker = this.clip.trackers[Number(event.key) - 1];
    const act = {
      " ": () => this.toggle.click(),
      ArrowLeft: () => this.step(-far),
      ArrowRight: () => this.step(far),
      Home: () => this.step(-Infinity),
      End: () => this.step(Infinity),
      n: () => this.judged[0].hidden || this.jumpToFailure(),
      l: () => this.judged[1].hidden || this.jumpToLowest(),
      a: () => this.jumpToTag(),
      g: () => this.clip.truth && this.flip(this.clip.truth.name),
      "[": () => this.select(this.at, Math.max(Number(this.last.value), this.at)),
      "]": () => this.select(Math.min(Number(this.first.value), this.at), this.at),
      Escape: () => this.set("drawing", false),
    }[event.key] ?? (tracker && (() => this.flip(tracker.name)));
    if (!act) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  }

  // A press on the frame plays or pauses; in drawing mode a drag draws a box, in pixels of the frame.
  press(event, phase) {
    if (!this.model.get("drawing")) return phase === "down" && this.toggle.click();
    const edge = this.canvas.getBoundingClientRect(), [width, height] = this.size ?? this.clip.size;
    const point = [
      clamp(((event.clientX - edge.left) / edge.width) * width, 0, width),
      clamp(((event.clientY - edge.top) / edge.height) * height, 0, height),
    ];
    if (phase === "down") {
      this.set("playing", false);
      this.corner = point;
    }
    const low = point.map((v, i) => Math.min(v, this.corner[i])), high = point.map((v, i) => Math.max(v, this.corner[i]));
    this.box = [...low, high[0] - low[0], high[1] - low[1]];
    this.again();
    if (phase !== "up") return;
    const drawn = this.box;
    this.box = null;
    this.again();
    if (Math.min(drawn[2], drawn[3]) < 2) this.tell({ text: "That box has no area: press at one corner, let go at the other.", fault: true });
    else this.send({ drawn, at: this.painted });
  }
}

function render({ model, el }) {
  const view = new View(model, el);
  return () => view.remove();
}

export default { render };

// What the player of view.js knows: frames, as they come from the kernel, and numbers.

const AHEAD = 64; // frames asked for ahead of the one shown
const IN_FLIGHT = 3; // of them at a time while a video plays, else one: a jump waits for no more than these
const DECODED = 12; // frames whose image is made ahead while a video plays; twice as many are kept
const KEPT = 256 * 2 ** 20; // bytes of JPEG kept, the last seen

const clamp = (v, low, high) => Math.min(Math.max(v, low), high);

// Maps with the bytes that came beside them, in their order.
const withValues = (maps, buffers) => maps.map((map, i) => {
  const { buffer, byteOffset, byteLength } = buffers[i];
  return { ...map, values: new Uint8Array(buffer, byteOffset, byteLength).slice() };
});

// The frames of one sequence: JPEGs by number, least recently seen first, and the images of those near the last one.
class Frames {
  constructor(model, send, arrived) {
    Object.assign(this, { model, send, arrived, stored: new Map(), asked: new Map(), images: new Map() });
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
    this.send({ want: t, clip: this.id });
  }

  // Ask for what is not there yet, from t on.
  fill(t) {
    const end = Math.min(t + AHEAD, this.count), most = this.model.get("playing") ? IN_FLIGHT : 1;
    for (let u = t; u < end && this.asked.size < most; u++) this.ask(u);
  }

  take({ frame, clip, maps, error, size }, buffers) {
    if (clip !== this.id) return; // of the sequence before this one
    this.asked.delete(frame);
    const [jpeg, ...of] = buffers, blob = error ? null : new Blob([jpeg], { type: "image/jpeg" });
    const bytes = buffers.reduce((sum, b) => sum + b.byteLength, 0);
    this.bytes += bytes - (this.stored.get(frame)?.bytes ?? 0);
    this.stored.delete(frame);
    this.stored.set(frame, { error, size, blob, bytes, maps: withValues(maps, of) });
    for (const [old, kept] of this.stored) {
      if (this.bytes <= KEPT) break;
      this.stored.delete(old);
      this.bytes -= kept.bytes;
    }
    this.arrived(frame);
  }

  // What is stored of frame t, which now counts as seen last.
  seen(t) {
    const kept = this.stored.get(t);
    this.stored.delete(t);
    this.stored.set(t, kept);
    return kept;
  }

  // The image of a stored frame: {image, ready, done}, the image null until `done` resolves, and where none can be made.
  decode(t) {
    if (this.images.has(t)) return this.images.get(t);
    const kept = this.stored.get(t), entry = { image: null, ready: false };
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
    [this.truth, ...this.boxes] = part(0, N + 1, 4);
    [this.overlap, this.error, this.lost] = [0, 1, 2].map((k) => part(4 * T * (N + 1) + k * N * T, N, 1));
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

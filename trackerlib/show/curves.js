// Overlap and centre error by frame, under the video: two panels, a cursor, the selection and an attribute's frames.

const NEAR = 20; // pixels of centre error that OTB's precision counts as a hit
const LEFT = 34, RIGHT = 10; // margins

class Curves {
  constructor() {
    const canvas = (name, label) => Object.assign(document.createElement("canvas"), { className: `trk-${name}`, ariaLabel: label });
    this.base = canvas("curves", "overlap and centre error by frame");
    this.top = canvas("cursor", "frame shown and selection");
    for (const of of [this.base, this.top]) of.setAttribute("role", "img");
    this.element = Object.assign(document.createElement("div"), { className: "trk-plot" });
    this.element.append(this.base, this.top);
  }

  get width() {
    return this.element.clientWidth || 640;
  }

  x(t) {
    return LEFT + ((this.width - LEFT - RIGHT) * t) / Math.max(this.count - 1, 1);
  }

  // The frame under a pointer.
  frameAt(clientX) {
    const inside = clientX - this.top.getBoundingClientRect().left;
    return Math.round(clamp((inside - LEFT) / (this.width - LEFT - RIGHT), 0, 1) * (this.count - 1));
  }

  // lines: {colour, dash, overlap, error} of each tracker shown; spans: frames to shade; note: said where there is no truth
  draw({ count, offset, lines, spans, note, frameWidth }) {
    const ratio = window.devicePixelRatio || 1, height = note ? 44 : 178;
    Object.assign(this, { count, height, ratio });
    for (const canvas of [this.base, this.top]) {
      Object.assign(canvas, { width: this.width * ratio, height: height * ratio });
      canvas.style.height = `${height}px`;
    }
    const c = this.base.getContext("2d"), style = getComputedStyle(this.element);
    [this.ink, this.soft, this.line] = ["--ink", "--soft", "--line"].map((name) => style.getPropertyValue(name));
    c.scale(ratio, ratio);
    c.font = `11px ${style.fontFamily}`;
    this.shade(c, spans);
    if (!note) {
      this.panel(c, "IoU", 16, 64, 1, lines, "overlap");
      this.panel(c, "centre error (px)", 100, 56, this.largest(lines, frameWidth), lines, "error", NEAR);
    } else {
      this.rule(c, 18, this.line);
      this.write(c, note, LEFT + 6, 12, "left");
    }
    for (const t of new Set([0, 0.25, 0.5, 0.75, 1].map((share) => Math.round(share * (count - 1))))) {
      this.write(c, t + offset, Math.min(this.x(t), this.width - RIGHT - 8), height - 6, "center");
    }
  }

  panel(c, label, top, tall, high, lines, of, threshold) {
    const y = (v) => top + tall * (1 - Math.min(v / high, 1));
    for (const share of [0, 0.5, 1]) {
      this.rule(c, y(share * high), this.line);
      this.write(c, share * high, LEFT - 4, y(share * high) + 4, "right");
    }
    this.write(c, label, LEFT, top - 5, "left", this.soft);
    if (threshold) this.rule(c, y(threshold), this.soft, [2, 3]);
    for (const line of lines) this.trace(c, line[of], y, line);
  }

  // The axis of errors: up to the largest one, but 30 pixels at the least, and a tenth of the image's width at the most,
  // 100 in a small one: how far a lost target is says nothing.
  largest(lines, frameWidth) {
    let largest = 30;
    for (const { error } of lines) for (const v of error) if (v > largest) largest = v;
    return Math.min(Math.ceil(largest / 10) * 10, Math.max(100, Math.round(frameWidth / 100) * 10));
  }

  write(c, text, x, y, align, colour = this.ink) {
    Object.assign(c, { fillStyle: colour, textAlign: align });
    c.fillText(text, x, y);
  }

  rule(c, y, colour, dash = []) {
    Object.assign(c, { strokeStyle: colour, lineWidth: 1 });
    c.setLineDash(dash);
    c.beginPath();
    c.moveTo(LEFT, Math.round(y) + 0.5);
    c.lineTo(this.width - RIGHT, Math.round(y) + 0.5);
    c.stroke();
  }

  // A curve; where several frames share a pixel, from the lowest of them to the highest. NaN is a gap.
  trace(c, values, y, { colour, dash }) {
    const bin = Math.max(1, Math.floor(values.length / (this.width - LEFT - RIGHT)));
    Object.assign(c, { strokeStyle: colour, lineWidth: 2, lineJoin: "round" });
    c.setLineDash(bin > 1 ? [] : dash);
    c.beginPath();
    let open = false;
    for (let t = 0; t < values.length; t += bin) {
      const known = values.subarray(t, t + bin).filter(Number.isFinite);
      for (const v of known.length > 1 ? [Math.min(...known), Math.max(...known)] : known) {
        c[open ? "lineTo" : "moveTo"](this.x(t), y(v));
        if (!open && !Number.isFinite(values[t + bin])) c.lineTo(this.x(t) + 1.5, y(v)); // a lone frame is a dot
        open = true;
      }
      if (!known.length) open = false;
    }
    c.stroke();
  }

  shade(c, spans) {
    const half = (this.x(1) - this.x(0)) / 2;
    c.fillStyle = "#E69F0030";
    for (const [first, last] of spans) {
      const start = Math.max(this.x(first) - half, LEFT), end = Math.min(this.x(last) + half, this.width - RIGHT);
      c.fillRect(start, 12, Math.max(end - start, 1.5), this.height - 30);
    }
  }

  mark(frame, [first, last]) {
    const c = this.top.getContext("2d");
    c.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    c.clearRect(0, 0, this.width, this.height);
    if (first !== undefined && first <= last) {
      c.fillStyle = "#56B4E944";
      c.fillRect(this.x(first), 12, Math.max(this.x(last) - this.x(first), 1.5), this.height - 30);
    }
    c.fillStyle = this.ink;
    c.fillRect(this.x(Math.max(frame, 0)) - 0.75, 8, 1.5, this.height - 26);
  }
}

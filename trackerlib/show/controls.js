// What its user does with the player of view.js: selects, jumps, presses keys, draws a box.

class Player extends View {
  // A press on the curves shows that frame; with shift, a drag selects frames.
  pointed(event, phase) {
    const t = this.curves.frameAt(event.clientX);
    if (phase === "down") {
      this.set("playing", false);
      this.anchor = event.shiftKey ? t : null;
    }
    if (this.anchor === null) return this.seek(t);
    this.range = [Math.min(t, this.anchor), Math.max(t, this.anchor)];
    this.drawCursor();
    if (phase !== "up") return;
    const [first, last] = this.range;
    this.range = null;
    if (first === last) this.tell({ text: "The selection is empty: drag from its first frame to its last.", fault: true });
    else this.select(first, last);
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

  jump(t, otherwise) {
    this.set("playing", false);
    this.tell(t === null ? { text: otherwise } : {});
    if (t !== null) this.seek(t);
  }

  shownRows() {
    return this.clip.trackers.map((_, i) => i).filter((i) => this.isShown(this.clip.trackers[i].name));
  }

  // The next frame at which a loss begins; after the last one, the first again.
  jumpToFailure() {
    const { count } = this.clip;
    const steps = this.shownRows().flatMap((i) => {
      const lost = this.series.lost[i], begins = (t) => lost[t] === 1 && !(t > 0 && lost[t - 1] === 1);
      for (let k = 1; k <= count; k++) if (begins((this.at + k) % count)) return [k];
      return [];
    });
    this.jump(steps.length ? (this.at + Math.min(...steps)) % count : null, "No tracker shown loses the target.");
  }

  jumpToLowest() {
    let [least, at] = [Infinity, null];
    for (const i of this.shownRows()) {
      this.series.overlap[i].forEach((v, t) => (v < least || (v === least && t < at)) && ([least, at] = [v, t]));
    }
    this.jump(at, "No tracker shown has an overlap.");
  }

  jumpToTag() {
    const starts = this.clip.tags[this.tag.value]?.map(([first]) => first);
    this.jump(starts ? starts.find((first) => first > this.at) ?? starts[0] : null, "Choose an attribute first.");
  }

  key(event) {
    const { target, key } = event, theirs = {
      "input[type=number], select": true,
      "input[type=range]": ["ArrowLeft", "ArrowRight", "Home", "End"].includes(key),
      "button, input[type=checkbox]": [" ", "Enter"].includes(key),
    };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (Object.entries(theirs).some(([who, wants]) => wants && target.matches(who))) return;
    const far = event.shiftKey ? 10 : 1, tracker = this.clip.trackers[Number(key) - 1];
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
    }[key] ?? (tracker && (() => this.flip(tracker.name)));
    if (!act) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  }

  // A press on the frame plays or pauses; in drawing mode a drag draws a box, in pixels of the frame it began on.
  press(event, phase) {
    if (!this.model.get("drawing")) return phase === "down" && this.toggle.click();
    const edge = this.canvas.getBoundingClientRect(), place = [event.clientX - edge.left, event.clientY - edge.top];
    const point = [edge.width, edge.height].map((side, i) => clamp((place[i] / side) * this.size[i], 0, this.size[i]));
    if (phase === "down") {
      this.set("playing", false);
      this.corner = { point, at: this.painted };
    }
    if (!this.corner || this.corner.at < 0) return; // left with Escape, or nothing is painted yet
    const from = this.corner, low = point.map((v, i) => Math.min(v, from.point[i]));
    this.box = [...low, ...point.map((v, i) => Math.abs(v - from.point[i]))];
    const drawn = this.box;
    if (phase === "up") this.box = this.corner = null;
    this.again();
    if (phase !== "up") return;
    if (Math.min(drawn[2], drawn[3]) < 2) {
      this.tell({ text: "That box has no area: press at one corner, let go at the other.", fault: true });
    } else {
      this.tell({});
      this.send({ drawn, at: from.at, clip: this.frames.id });
    }
  }
}

function fillOptions(select, first, names) {
  const chosen = select.value;
  select.replaceChildren(...[first, ...names].map((name, i) => new Option(name, i ? name : "")));
  select.value = names.includes(chosen) ? chosen : "";
}

function render({ model, el }) {
  const view = new Player(model, el);
  return () => view.remove();
}

export default { render };

"""What of the benchmarks is there, and whether a copy of one is whole: `python -m trackerlib data list | check`."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from . import BENCHMARKS, DATASETS, load_dataset
from .benchmark import Benchmark, folders, some
from .sequence import Dataset, NoFrames, Sequence


def survey(root: Path | None = None) -> Iterator[str]:
    """A line for every dataset; with a root: what of it is there (or in a folder of it), and what is to be fetched."""
    for name in DATASETS:
        benchmark = BENCHMARKS.get(name)
        if benchmark is None:
            what = "made in memory" if name.startswith("rendered") else "your own video or images, with --root"
        elif root is None:
            what = f"{_described(benchmark)}; from files, with --root"
        else:
            what = _found(benchmark, root)
        yield f"{name:<20}{what}"


def _described(benchmark: Benchmark) -> str:
    counts = [f"{getattr(benchmark, what):,} {what}" for what in ("sequences", "frames") if getattr(benchmark, what)]
    licence = [f"licence {benchmark.licence}"] if benchmark.licence else []
    return ", ".join([benchmark.title, *counts, *licence, benchmark.home])


def _found(benchmark: Benchmark, root: Path) -> str:
    """What the fullest copy under a root lacks."""
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder")
    copies = {place: benchmark.find(place) for place in (root, *folders(root))}
    place, (there, missing) = max(copies.items(), key=lambda copy: len(copy[1][0]))
    if not there:
        return f"not under {root}; wanted: {benchmark.wanted}; get it at {benchmark.home}"
    expected = max(benchmark.sequences or 0, len(there) + len(missing))
    if len(there) == expected:
        return f"{'all ' if benchmark.sequences else ''}{expected} {benchmark.unit} in {place}"
    which = f"; missing: {some(missing)}" if missing else ""
    return f"{len(there)} of {expected} sequences in {place}{which}; get them at {benchmark.home}"


def check(name: str, root: Path | None, watch: Callable[[Iterable], Iterable] = iter) -> str:
    """Load a dataset, decode every frame, and say what is there; `watch` wraps the sequences, for a progress bar.

    Raises ValueError naming what is wrong with the copy: images that cannot be decoded or differ in size from the
    others or from the annotation, first boxes outside their image, and counts that differ from the published ones."""
    dataset, benchmark = load_dataset(name, root), BENCHMARKS.get(name)
    faults = list(_miscounted(dataset, benchmark)) if benchmark else []
    faults += [fault for sequence in watch(dataset.values()) for fault in _faults(sequence)]
    if faults:
        raise ValueError(f"{name}: {len(faults)} faults\n  " + "\n  ".join(faults[:20]))
    bare = sum(isinstance(sequence.frames, NoFrames) for sequence in dataset.values())
    note = f"; {bare} without images: they can be scored, not tracked" if bare else ""
    frames = sum(map(len, dataset.values()))
    return f"{name}: {len(dataset)} sequences, {frames} frames, digest {dataset.digest()}{note}"


def _miscounted(dataset: Dataset, benchmark: Benchmark) -> Iterator[str]:
    counts = {"sequences": len(dataset), "frames": sum(map(len, dataset.values()))}
    for what, count in counts.items():
        if (expected := getattr(benchmark, what)) and count != expected:
            yield f"{count} {what} where the benchmark has {expected}; fetch what is missing at {benchmark.home}"


def _faults(sequence: Sequence) -> Iterator[str]:
    if isinstance(sequence.frames, NoFrames):
        return
    size = sequence.size
    for frame in range(len(sequence)):
        try:
            height, width = sequence.frames[frame].shape[:2]
        except (ValueError, OSError) as error:
            yield str(error)
            continue
        size = size or (width, height)
        if (width, height) != size:
            yield f"{sequence.name}, frame {frame + 1}: {width} x {height} pixels where {size[0]} x {size[1]} are due"
    x, y, w, h = sequence.boxes[0]
    if size and (x >= size[0] or y >= size[1] or x + w <= 0 or y + h <= 0):
        yield f"{sequence.name}: the first box lies outside the {size[0]} x {size[1]} image"

"""Our metrics against the toolkits that people use, where those are installed: the same numbers from the same made-up
files (or arrays), in turns; annotation is in memory on both sides."""

import contextlib
import io
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from timeit import timeit

import numpy as np

from ..data.formats import FAILURE, INIT, REGION, UNKNOWN, Trajectory, format_rows, format_trajectory, read_rows
from ..data.sequence import Dataset, NoFrames, Sequence
from ..provenance import write_text
from .conventions import convention_named
from .metrics import Truth
from .score import score

PEER_FIGURES = {
    "otb_in_memory_vs_got10k": "time of got10k's ExperimentOTB curves of 100 sequences x 600 frames x 10 trackers, in "
    "memory, over ours under the convention got10k-otb",
    "otb_from_files_vs_got10k": "the same from 1000 result files: ExperimentOTB.report without its plots over score",
    "vot_from_files_vs_toolkit": "time of vot-toolkit's accuracy, failures and EAO of one tracker on 60 sequences x 15 "
    "repetitions, from files, over score under the convention vot-python",
}
Job = Callable[[], list[float]]  # what is timed, and the numbers it finds
SIZE = (640, 480)


def bench_peers(rounds: int = 3, sequences: int = 100, vot_sequences: int = 60) -> dict[str, float | str]:
    """Figures by name (see `PEER_FIGURES`): medians over `rounds`, or the reason why there is none.

    Raises AssertionError where a toolkit finds other numbers than we do."""
    in_memory, from_files, vot = PEER_FIGURES
    found = dict.fromkeys((in_memory, from_files), "got10k is not installed (pip install got10k==0.1.3)")
    found[vot] = "vot-toolkit is not installed (pip install vot-toolkit==0.9.0 'attributee<0.1.10')"
    with tempfile.TemporaryDirectory() as folder:
        if find_spec("got10k"):
            pairs = otb_jobs(Path(folder) / "otb", sequences)
            found[in_memory], found[from_files] = (_ratio(*jobs, rounds) for jobs in pairs)
        if find_spec("vot"):
            found[vot] = _ratio(*vot_jobs(Path(folder) / "vot", vot_sequences), rounds)
    return found


def _ratio(ours: Job, theirs: Job, rounds: int) -> float:
    np.testing.assert_allclose(ours(), theirs(), rtol=1e-5)  # warms up, too
    seconds = [[timeit(job, number=1) for job in (theirs, ours)] for _ in range(rounds)]
    return float(np.median([of_theirs / of_ours for of_theirs, of_ours in seconds]))


def otb_jobs(folder: Path, sequences: int, trackers: int = 10, frames: int = 600) -> list[tuple[Job, Job]]:
    """(ours, theirs) in memory and from files; each finds the trackers' success AUC."""
    from got10k.experiments import ExperimentOTB

    rng = np.random.default_rng(0)
    truths = {f"s{i:03d}": np.round(_walk(rng, frames)) + 1 for i in range(sequences)}
    files = {f"t{k}": {name: folder / f"t{k}" / f"{name}.txt" for name in truths} for k in range(trackers)}
    for name, path in (pair for of in files.values() for pair in of.items()):
        write_text(path, format_rows(truths[name] + rng.normal(0, 6, (frames, 4)).clip(-9, 9)))
    results = [{name: read_rows(path) for name, path in of.items()} for of in files.values()]
    made = [Sequence(n, NoFrames(frames, "made up"), t - [1, 1, 0, 0]) for n, t in truths.items()]
    dataset, rule = Dataset("made up", made), convention_named("got10k-otb")
    listed = type("Listed", (list,), {"seq_names": list(truths)})(([], rows) for rows in truths.values())
    experiment = ExperimentOTB.__new__(ExperimentOTB)  # its constructor looks for images
    experiment.dataset, experiment.nbins_iou, experiment.nbins_ce = listed, 21, 51
    experiment.result_dir, experiment.report_dir = str(folder), str(folder / "reports")
    experiment.plot_curves = lambda names: None

    def ours_in_memory() -> list[float]:
        judged = {name: Truth(rows) for name, rows in truths.items()}
        return [np.mean([rule.score(rows, judged[n])["success"] for n, rows in of.items()]) for of in results]

    def theirs_in_memory() -> list[float]:
        def success(rows: np.ndarray, truth: np.ndarray) -> np.ndarray:
            rows = np.concatenate([truth[:1], rows[1:]])
            return experiment._calc_curves(*experiment._calc_metrics(rows, truth))[0]

        return [np.mean([success(rows, truths[n]) for n, rows in of.items()]) for of in results]

    def ours() -> list[float]:
        scores = score([folder / t for t in files], dataset, "got10k-otb").json()["trackers"]
        return [scores[t]["mean"]["success_auc"] for t in files]

    def theirs() -> list[float]:
        with contextlib.redirect_stdout(io.StringIO()):
            return [found["overall"]["success_score"] for found in experiment.report(list(files)).values()]

    return [(ours_in_memory, theirs_in_memory), (ours, theirs)]


def vot_jobs(folder: Path, sequences: int, repetitions: int = 15) -> tuple[Job, Job]:
    """(ours, theirs); each finds accuracy, failures and EAO as `vot_toolkit` does."""
    rng, made = np.random.default_rng(0), []
    for i, frames in enumerate(rng.integers(100, 612, sequences)):
        boxes, name = _walk(rng, frames), f"s{i:02d}"
        (x, y, w, h), (a, b) = boxes.T, rng.uniform(0, 0.16, 2)  # a turned rectangle in each box
        raw = np.stack([x + a * w, y, x + w, y + b * h, x + w - a * w, y + h, x, y + h - b * h], 1).round(3)
        made.append(Sequence(name, NoFrames(frames, "made up"), boxes, raw, origin=0, size=SIZE))
        about = f"name={name}\nlength={frames}\nwidth={SIZE[0]}\nheight={SIZE[1]}\nfps=30\n"
        write_text(folder / "sequences" / name / "sequence", about)
        write_text(folder / "sequences" / name / "groundtruth.txt", format_rows(raw))
        for k in range(1, repetitions + 1):
            path = folder / "results" / "made" / "baseline" / name / f"{name}_{k:03d}.txt"
            write_text(path, format_trajectory(_supervised(rng, boxes)))
    write_text(folder / "sequences" / "list.txt", "".join(f"{s.name}\n" for s in made))
    dataset = Dataset("made up", made, layout="vot")

    def ours() -> list[float]:
        mean = score(folder / "results" / "made", dataset, "vot-python").mean("made")
        return [mean[m] for m in ("accuracy", "failures", "eao")]

    return ours, vot_toolkit(folder, "made")


def vot_toolkit(workspace: Path, tracker: str, low: int = 100, high: int = 356) -> Job:
    """What vot-toolkit 0.9.0 finds in `results/<tracker>/baseline` of a workspace: accuracy, failures and EAO, by its
    stack of VOT2018, without the cache and the workers that its shell adds."""
    from vot.analysis.supervised import AverageAccuracyRobustness, EAOCurve
    from vot.dataset import load_dataset
    from vot.experiment.multirun import SupervisedExperiment
    from vot.tracker import Tracker
    from vot.workspace.storage import LocalStorage

    experiment = SupervisedExperiment("baseline", LocalStorage(str(workspace)), repetitions=15, skip_initialize=5)
    owner, sequences = Tracker(tracker, "", "none"), list(load_dataset(str(workspace / "sequences")))

    def run() -> list[float]:
        average = AverageAccuracyRobustness()
        each = [average.analysis.subcompute(experiment, owner, s, []) for s in sequences]
        accuracy, failures, _, _ = average.aggregate(owner, sequences, each)
        (curve,) = EAOCurve().subcompute(experiment, owner, sequences, [])
        return [accuracy, failures, float(np.mean(curve[low : high + 1]))]

    return run


def _walk(rng: np.random.Generator, frames: int) -> np.ndarray:
    """`(T, 4)` of a box that wanders over the image."""
    at = np.array(SIZE) * 0.4 + rng.normal(0, 3, (frames, 2)).cumsum(0)
    size = rng.uniform(20, 120, 2) * np.exp(rng.normal(0, 0.01, (frames, 2)).cumsum(0))
    return np.hstack([at.clip(1, np.array(SIZE) - 100), size.clip(10, 200)])


def _supervised(rng: np.random.Generator, boxes: np.ndarray) -> Trajectory:
    """A tracker near the target that loses it once in 200 frames and is started again five frames later."""
    rows, codes = boxes + rng.normal(0, 4, boxes.shape), np.full(len(boxes), REGION, np.int8)
    codes[0], free = INIT, 1
    for lost in np.flatnonzero(rng.random(len(boxes)) < 1 / 200):
        if lost >= free:
            codes[lost], codes[lost + 1 : lost + 5], codes[lost + 5 : lost + 6] = FAILURE, UNKNOWN, INIT
            free = lost + 6
    rows[codes != REGION] = np.nan
    return Trajectory(rows, codes)

"""Two workers of a local cluster against one process, at equal numbers of lanes and threads; and with one worker killed
half-way: how much faster, and whether the results are the same bytes."""

import os
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from distributed import Client

from . import cluster
from .bench import engine
from .bench.protocols import OPE, TRE, Run
from .bench.results import RunSet
from .bench.speed_engine import jpeg_dataset
from .trackers import load_tracker

CLUSTER_FIGURES = {
    "cluster_2_vs_1": "frames per second of two workers over one process, OPE and TRE of eight sequences (JPEG files "
    "of 640 x 360), siamfc-3s at full width, equal lanes (4) and threads (1); two cores",
    "cluster_2_vs_1_killed": "the same with one of the two workers killed (kill -9) when half of the runs were done",
    "cluster_files_that_differ": "result files of either that differ from those of one process",
    "cluster_results": "result files compared",
}


def bench_cluster(frames: int = 24, weights: str = "siamfc", lanes: int = 4) -> dict[str, float]:
    """The figures above; the workers are started and warmed before the clock is."""
    tracker, protocols = load_tracker("siamfc-3s", weights), [OPE(), TRE(segments=4, shortest=4)]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    before, os.environ["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS"), "1"
    try:
        with tempfile.TemporaryDirectory() as folder, cluster.connect(workers=2) as client:
            place = Path(folder)
            dataset = jpeg_dataset(place, frames, (640, 360))
            runs = sum(1 for p in protocols for _ in p.runs(dataset))
            cluster.evaluate(tracker, dataset, results=place / "warm", lanes=lanes, seed=1, client=client)
            seconds, stores = {}, {}
            for name in ("one", "two", "killed"):
                started = time.perf_counter()
                options = {"results": place / name, "lanes": lanes, "on_done": _killer(client, name, runs // 2)}
                if name == "one":
                    stores[name] = engine.evaluate(tracker, dataset, protocols, **options)
                else:
                    stores[name] = cluster.evaluate(tracker, dataset, protocols, client=client, **options)
                seconds[name] = time.perf_counter() - started
            files = {name: _files(store) for name, store in stores.items()}
    finally:
        torch.set_num_threads(threads)
        os.environ.pop("OMP_NUM_THREADS") if before is None else os.environ.update(OMP_NUM_THREADS=before)
    return {
        "cluster_2_vs_1": seconds["one"] / seconds["two"],
        "cluster_2_vs_1_killed": seconds["one"] / seconds["killed"],
        "cluster_files_that_differ": sum(
            files[n].get(f) != data for n in ("two", "killed") for f, data in files["one"].items()
        ),
        "cluster_results": len(files["one"]),
    }


def _killer(client: Client, name: str, at: int) -> Callable[[Run, int, int], None]:
    """What kills a worker when so many runs are done."""

    def done(run: Run, count: int, of: int) -> None:
        if name == "killed" and count == at:
            os.kill(min(client.run(os.getpid).values()), signal.SIGKILL)

    return done


def _files(stores: list[RunSet]) -> dict[str, bytes]:
    """The result files by name; how long each frame took is none."""
    found = {f"{s.protocol}/{path.name}": path for s in stores for path in s.folder.rglob("*.txt")}
    return {name: path.read_bytes() for name, path in found.items() if path.parent.name != "times"}

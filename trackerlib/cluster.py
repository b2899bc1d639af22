"""Evaluation and stages on a dask cluster.

A unit of work is a batch of runs. Workers track and give back what they found; the driver alone writes results, one run
at a time and whole, so the results folder need not be shared, a unit that is done twice changes nothing, and whatever
is killed loses the units in flight. Frames and weights are read where the worker is: at the same paths.

>>> from trackerlib import cluster
>>> with cluster.connect(workers=2) as client:                                            # doctest: +SKIP
...     cluster.evaluate(tracker, dataset, "OPE", "results/mine", lanes=4, client=client)
"""

import functools
import logging
import os
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import dask
import torch
from distributed import Client, KilledWorker, LocalCluster, Nanny, as_completed, get_worker

from .bench import engine as local
from .bench.engine import Engine, Job, tracker_facts
from .bench.lanes import fewest_lanes, measured_lanes
from .bench.results import RunSet
from .data.sequence import Dataset
from .provenance import canonical, class_digest, code_digest, sha256, write_text
from .runner import LOG, PARAMETERS, Here, locked
from .stages import Stage, code_hash
from .tracker import Tracker
from .trackers import Recipe, load_tracker

try:
    import resource
except ImportError:  # Windows
    resource = None

_FILES = 10_240  # that may be open, where the system lets us: more than macOS refuses
_PATIENCE = 10.0  # seconds without a worker until it is said
_BATCHES = 8  # of lanes in a unit, at most: what the loss of a worker costs


@contextmanager
def connect(scheduler: str = "", workers: int = 0, device: str = "cpu") -> Iterator[Client]:
    """A client of the cluster at `scheduler` ("tcp://host:8786"), or of one made on this machine and ended afterwards.

    workers: of a local cluster; 0: one a GPU for a cuda device, else one a core. Its processes talk over TLS on the
    loopback interface. The dashboard's address is printed. Raises ConnectionError where nobody answers."""
    if scheduler:
        try:
            client = Client(scheduler)
        except (OSError, ValueError) as error:
            raise ConnectionError(f"no dask scheduler at {scheduler} ({error}); start one: dask scheduler") from None
        with client:
            yield _announced(client)
        return
    patience = {"distributed.deploy.lost-worker-timeout": "1h"}  # a nanny on a busy machine may want more than 15 s
    with dask.config.set(patience), local_cluster(workers, device) as cluster, Client(cluster) as client:
        yield _announced(client)


def local_cluster(workers: int = 0, device: str = "cpu") -> LocalCluster:
    """One process a GPU, which it sees alone, or processes that share the cores."""
    gpus = torch.cuda.device_count() if device.startswith("cuda") else 0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(gpus)))).split(",")
    count = workers or gpus or os.cpu_count() or 1
    threads = int(os.environ.get("OMP_NUM_THREADS") or max(1, (os.cpu_count() or 1) // count))
    here = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "security": True, "threads_per_worker": 1}
    # dask would have malloc give back what a network's layers free, and take it again: most of the time went there
    environ = {"MALLOC_TRIM_THRESHOLD_": None, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    cluster = LocalCluster(n_workers=0, **here)
    options = cluster.new_worker_spec()[0]["options"]
    options["silence_logs"] = logging.CRITICAL  # their runs' errors come home; when they end they complain
    for index in range(count):
        own = {"env": {"CUDA_VISIBLE_DEVICES": visible[index % gpus]}, "resources": {"GPU": 1}} if gpus else {}
        cluster.worker_spec[index] = {"cls": Nanny, "options": options | own}
    with dask.config.set({"distributed.nanny.pre-spawn-environ": environ}):
        cluster.sync(cluster._correct_state)
    return cluster


def _announced(client: Client) -> Client:
    print(f"dask dashboard: {client.dashboard_link}", file=sys.stderr, flush=True)
    return client


def evaluate(
    tracker: Tracker, dataset: Dataset, *arguments, client: Client, lanes: int | str = 1, **options
) -> RunSet | list[RunSet]:
    """`bench.engine.evaluate` with the runs done by the workers of `client`: the same results, byte for byte, at equal
    numbers of lanes and threads. lanes="auto" is measured on a worker."""
    if lanes == "auto":
        gpu = {"GPU": 1} if torch.device(getattr(tracker, "device", "cpu")).type == "cuda" else None
        shipped = getattr(tracker, "recipe", None) or tracker
        lanes = client.submit(_measured, shipped, dataset[:1], len(dataset), resources=gpu, pure=False).result()
    engine = functools.partial(ClusterEngine, client)
    return local.evaluate(tracker, dataset, *arguments, lanes=lanes, engine=engine, **options)


def _measured(tracker: Recipe | Tracker, dataset: Dataset, most: int) -> int:
    tracker = _loaded(tracker) if isinstance(tracker, Recipe) else tracker
    return fewest_lanes(measured_lanes(tracker, dataset, most))


class ClusterEngine:
    """What `bench.engine.Engine` is to one process, for a cluster: keeps every worker busy until no run is left."""

    def __init__(
        self,
        client: Client,
        tracker: Tracker,
        dataset: Dataset,
        lanes: int,
        on_done: Callable,
        seed: int,
        cache: str | Path | None,
        digests: Mapping[str, str],
    ):
        self.client, self.dataset, self.lanes, self.on_done, self.digests = client, dataset, lanes, on_done, digests
        self.tracker, self.maps = getattr(tracker, "recipe", None) or tracker, tracker.keep_maps
        self.identity = None if self.tracker is tracker else _identity(tracker)
        self.options = {"lanes": lanes, "seed": seed, "cache": cache and Path(cache).absolute()}
        self.device = torch.device(getattr(tracker, "device", "cpu")).type
        self.written: set[Path] = set()
        self.frames = self.done = self.total = 0
        self.again: list[list[Job]] = []  # runs of units that killed their workers, each on its own
        self._check_workers()
        if resource:  # a claim on every run in flight is an open file
            soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
            if 0 <= soft < _FILES:
                with suppress(ValueError, OSError):
                    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, _FILES) if most >= 0 else _FILES, most))

    def run(self, jobs: list[Job]) -> None:
        """Do what is not stored; wait for what another driver is at."""
        waiting = [j for j in jobs if not j.store.has(j.run.name, len(j.run), self.maps)]
        self.total, self.done = self.total + len(jobs), self.done + len(jobs) - len(waiting)
        while waiting:
            done = self.done
            waiting = self._pass(waiting)
            if waiting and done == self.done:
                time.sleep(0.2)

    def speed(self, seconds: float) -> dict[str, Any]:
        rate = round(self.frames / seconds, 2)
        return {"frames": self.frames, "frames_per_second": rate, "workers": len(self._workers())}

    def _workers(self) -> dict[str, Any]:
        return self.client.scheduler_info(n_workers=-1).get("workers", {})  # nothing is known of one that is gone

    def _check_workers(self) -> None:
        if not self._workers():
            address = self.client.scheduler_info()["address"]
            warnings.warn(f"no worker at {address} yet; waiting (start one: dask worker {address})", stacklevel=2)
            self.client.wait_for_workers(1)
        if self.device == "cuda" and not any("GPU" in w["resources"] for w in self._workers().values()):
            raise ValueError("no worker offers a GPU: start each with --nthreads 1 --resources GPU=1")

    def _pass(self, jobs: list[Job]) -> list[Job]:
        """Once through the runs; gives back those that another driver holds."""
        elsewhere: list[Job] = []
        units = _units(jobs, self.lanes, sum(w["nthreads"] for w in self._workers().values()))
        inflight: dict[Any, list[Job]] = {}
        completed = as_completed()
        try:
            while True:
                # one unit a worker: dask blames the loss of a worker on those that wait there as well
                room = sum(w["nthreads"] for w in self._workers().values()) or 1
                while len(inflight) < room:
                    if self.again:
                        self._submit(self.again.pop(), inflight, completed)
                    elif (unit := next(units, None)) is None:
                        break
                    elif mine := [job for job in unit if self._mine(job, elsewhere)]:
                        self._submit(mine, inflight, completed)
                if not inflight:
                    return elsewhere
                self._wait(completed)
                future = next(completed)
                self._finish(inflight.pop(future), future, inflight, completed)
        finally:
            if self.client.status == "running":
                self.client.cancel(list(inflight))

    def _mine(self, job: Job, elsewhere: list[Job]) -> bool:
        if not job.store.claim(job.run.name):
            elsewhere.append(job)
            return False
        if job.store.has(job.run.name, len(job.run), self.maps):
            self._end(job)
            return False
        return True

    def _submit(self, unit: list[Job], inflight: dict, completed: as_completed) -> None:
        names = dict.fromkeys(job.run.sequence for job in unit)
        part = Dataset(self.dataset.name, [self.dataset[name] for name in names], self.dataset.layout)
        digests = {name: self.digests[name] for name in names}
        runs = [(job.protocol, job.run) for job in unit]
        facts = [(job.store.manifest["key"], job.run.name) for job in unit]
        future = self.client.submit(
            track_unit,
            self.tracker,
            self.identity,
            part,
            digests,
            runs,
            maps=self.maps,
            **self.options,
            key=f"trackerlib-{sha256(canonical([facts, self.options, self.maps]))[:16]}",
            resources={"GPU": 1} if self.device == "cuda" else None,
            pure=False,
        )
        inflight[future] = unit
        completed.add(future)

    def _wait(self, completed: as_completed) -> None:
        """Until a unit ends; says so where no worker is left that could do one."""
        asked = time.monotonic()
        while not completed.has_ready():
            time.sleep(0.02)
            if time.monotonic() - asked > _PATIENCE and self.client.status == "running" and not self._workers():
                warnings.warn("the cluster has no worker any more; waiting for one", stacklevel=2)
                asked = time.monotonic()

    def _finish(self, unit: list[Job], future: Any, inflight: dict, completed: as_completed) -> None:
        """Store what a unit found. One that killed its workers is taken apart: the run that does it fails alone."""
        if future.status == "pending":  # it was done, and was lost with the worker that held it
            inflight[future] = unit
            completed.add(future)
            return
        if future.status in ("cancelled", "lost"):
            if self.client.status != "running":
                raise ConnectionError("the dask scheduler is gone; what is done is stored: start it and run again")
            self._submit(unit, inflight, completed)
            return
        if future.status == "finished":
            found = future.result()
            for text in found["warnings"]:
                warnings.warn(f"{found['worker']}: {text}", stacklevel=2)
            self.frames += found["frames"]
            for job, result in zip(unit, found["runs"], strict=True):
                if isinstance(result, str):
                    job.store.fail(job.run.name, result.replace("\n", f" on {found['worker']}\n", 1))
                else:
                    job.store.write(job.run.name, **result)
                    self.written.add(job.store.folder)
                self._end(job)
            return
        error = future.exception()
        future.release()
        if isinstance(error, KilledWorker) and len(unit) > 1:
            self.again += [[job] for job in unit]
            return
        text = "".join(traceback.format_exception(error))
        for job in unit:
            job.store.fail(job.run.name, f"on a worker\n{text}")
            self._end(job)

    def _end(self, job: Job) -> None:
        job.store.release(job.run.name)
        self.done += 1
        self.on_done(job.run, self.done, self.total)


def _units(jobs: list[Job], lanes: int, workers: int) -> Iterator[list[Job]]:
    """Some for every worker, none so long that its loss hurts. A unit of several batches holds the runs on a video
    together, which decode its frames once; one of a single batch, runs of like length, which leave no lane idle."""
    batches = -(-len(jobs) // lanes)
    size = lanes * min(max(batches // (4 * max(workers, 1)), 1), _BATCHES)
    frames: dict[str, int] = {}
    for job in jobs:
        frames[job.run.sequence] = frames.get(job.run.sequence, 0) + len(job.run)
    together = (
        (lambda j: (frames[j.run.sequence], j.run.sequence, len(j.run))) if size > lanes else lambda j: len(j.run)
    )
    order = sorted(jobs, key=together, reverse=True)
    yield from (order[i : i + size] for i in range(0, len(order), size))


_one_at_a_time = threading.Lock()  # torch's threads and random state are the process's


def track_unit(
    tracker: Recipe | Tracker,
    identity: str | None,
    dataset: Dataset,
    digests: Mapping[str, str],
    runs: list[tuple[Any, Any]],
    lanes: int,
    seed: int,
    cache: str | Path | None,
    maps: bool,
) -> dict[str, Any]:
    """On a worker: do runs `(protocol, run)`; of each what `RunSet.write` takes, or the text of what went wrong.

    Raises ValueError where this worker's code, weights or frames are not the driver's: its results would bear a key
    that is not theirs."""
    with _one_at_a_time, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _check_loaded()
        if isinstance(tracker, Recipe):
            try:
                tracker = _loaded(tracker)
            except (ValueError, OSError) as error:
                remedy = "what the driver imports and reads must be at the same place here"
                raise ValueError(f"{_here()}: {error}; {remedy}") from None
            _check_loaded()  # and notes what came with it
            if _identity(tracker) != identity:
                raise ValueError(f"{_here()}: other code, weights or settings than the driver's; install the same here")
        for name, sequence in dataset.items():
            if sequence.digest() != digests[name]:
                raise ValueError(f"{_here()}: {name}: other frames than the driver's; give it the same files")
        tracker.keep_maps = maps
        kept = [_Kept() for _ in runs]
        engine = Engine(tracker, dataset, lanes, lambda *_: None, seed=seed, cache=cache, digests=digests)
        engine.run([Job(protocol, store, run) for (protocol, run), store in zip(runs, kept, strict=True)])
    texts = [str(w.message) for w in caught]
    return {"worker": _here(), "frames": engine.frames, "runs": [k.result for k in kept], "warnings": texts}


class _Kept:
    """A `RunSet` of one run in memory."""

    folder = Path()
    result: dict[str, Any] | str = ""

    def has(self, *_) -> bool:
        return False

    def claim(self, run: str) -> bool:
        return True

    def release(self, run: str) -> None:
        pass

    def write(self, run: str, boxes, times, maps, codes) -> None:
        self.result = {"boxes": boxes, "times": times, "maps": maps, "codes": codes}

    def fail(self, run: str, traceback: str) -> None:
        self.result = traceback


_versions: dict[str, tuple[int, ...]] = {}  # of the source files of what this process has imported


def _check_loaded() -> None:
    """Raises ValueError where code was edited since this process imported it: it would run the old, under a digest that
    is of the files and so the new one's."""
    for name, module in list(sys.modules.items()):
        path = Path(getattr(module, "__file__", None) or "")
        if path.suffix == ".py" and not {"site-packages", "dist-packages"} & set(path.parts) and path.is_file():
            at = path.stat()
            version = (at.st_mtime_ns, at.st_size, at.st_ino)
            if _versions.setdefault(name, version) != version:
                raise ValueError(f"{_here()}: {path} was edited since it was imported; restart the workers")


_loaded = functools.lru_cache(maxsize=2)(Recipe.load)


def _identity(tracker: Tracker) -> str:
    return sha256(canonical(tracker_facts(tracker)), class_digest(type(tracker)), code_digest([local.__name__]))


def _here() -> str:
    try:
        return f"worker {get_worker().name} at {get_worker().address}"
    except ValueError:
        return "here"


def spread(client: Client, f: Callable, items: list) -> Iterator[Any]:
    """`map(f, items)` by the workers, in the order in which they are done; what one of them raises is raised here."""
    futures = client.map(f, items, pure=False, batch_size=1000)
    for future in as_completed(futures):
        yield future.result()
        future.release()


def load_tracker_for(client: Client, name: str, device: str = "cpu", **options) -> Tracker:
    """`load_tracker` where only the workers may have the device: the driver's own is never run, and only describes."""
    try:
        return load_tracker(name, device=device, **options)
    except ValueError:
        if device == "cpu" or not any("GPU" in w["resources"] for w in client.scheduler_info()["workers"].values()):
            raise
        tracker = load_tracker(name, **options)
        tracker.device, tracker.recipe = torch.device(device), replace(tracker.recipe, device=device)
        return tracker


class There:
    """What `runner.Here` is on this machine: a stage's notebook executed by a worker, in a folder that all hosts share.

    A worker that is lost is replaced by another, which goes on from the checkpoints in the folder."""

    def __init__(self, client: Client, stage: Stage, folder: Path, injected: dict[str, Any], threads: int, lock: int):
        gpu = str(stage.parameters.get("device", "cpu")).startswith("cuda")
        self.client, self.folder = client, folder
        self.future = client.submit(
            execute_stage, stage, str(folder), injected, resources={"GPU": 1} if gpu else None, pure=False
        )

    def poll(self) -> int | None:
        """As `Here.poll`; what a worker raised goes to the stage's log."""
        if not self.future.done():
            return None
        if self.future.status == "finished":
            return self.future.result()
        if self.future.status != "error":
            raise ConnectionError("the dask scheduler is gone; stages that are done stay so: start it and run again")
        write_text(self.folder / LOG, "".join(traceback.format_exception(self.future.exception())))
        return 1

    def stop(self) -> None:
        if self.client.status == "running":
            self.client.cancel([self.future])


def execute_stage(stage: Stage, folder: str, injected: dict[str, Any]) -> int:
    """On a worker: execute a stage's notebook until it is done or the driver no longer wants it."""
    place, worker = Path(folder), get_worker()
    if not (place / PARAMETERS).is_file() or not stage.notebook.is_file():
        raise FileNotFoundError(f"{_here()} does not see {place} and {stage.notebook}: stages want a shared folder")
    if code_hash(stage.notebook) != stage.code:
        raise ValueError(f"{_here()}: other code than the driver's; install the same here")
    key, threads = worker.get_current_task(), int(os.environ.get("OMP_NUM_THREADS") or 1)
    with locked(place) as lock:  # held by a notebook whose worker was lost, for the seconds until it notices
        process = Here(stage, place, injected, threads, lock)
        try:
            while (code := process.poll()) is None:
                if worker.state.tasks[key].state == "cancelled":
                    break
                time.sleep(0.2)
        finally:
            process.stop()
    return -1 if code is None else code

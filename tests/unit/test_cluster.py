"""Evaluation and stages on a cluster: the same bytes, whatever is killed.

Workers are processes of this machine; what they track are frames that say their number (`test_engine_faults`)."""

import functools
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import dask
import pytest
from test_engine_faults import Drift, blank_dataset, only_folder, stored
from test_stages import OUT, notebook

from trackerlib import cluster, runner
from trackerlib.bench import engine
from trackerlib.bench.engine import FailedRuns
from trackerlib.bench.results import RunSet
from trackerlib.stages import load_graph
from trackerlib.trackers import load_tracker

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def client():
    with dask.config.set({"distributed.scheduler.allowed-failures": 1}), cluster.connect(workers=2) as client:
        yield client


class Slow(Drift):
    """Takes its time, so that there is something to interrupt."""

    def track(self, state, frames):
        time.sleep(0.005)
        return super().track(state, frames)


def test_the_same_bytes_as_one_process(client, tmp_path):
    data, protocols = blank_dataset(30), ["OPE", "TRE", "supervised"]
    alone = engine.evaluate(Drift(), data, protocols, tmp_path / "alone", lanes=3)
    shared = cluster.evaluate(Drift(), data, protocols, tmp_path / "shared", lanes=3, client=client)
    for one, other in zip(alone, shared, strict=True):
        assert len(stored(one)) >= 30
        assert stored(one) == stored(other)
        assert one.manifest["key"] == other.manifest["key"]
    assert not list(tmp_path.rglob("claims/*"))


def test_a_real_tracker_by_its_recipe(client, tmp_path):
    from trackerlib.data import load_dataset

    data, tracker = load_dataset("rendered", frames=6)[:3], load_tracker("siamfc-3s", "siamfc-quarter")
    alone = engine.evaluate(tracker, data, results=tmp_path / "alone", lanes=2, keep_maps=True)
    shared = cluster.evaluate(tracker, data, results=tmp_path / "shared", lanes=2, keep_maps=True, client=client)
    assert stored(alone) == stored(shared)
    assert (alone.folder / "maps/test-0000.npz").read_bytes() == (shared.folder / "maps/test-0000.npz").read_bytes()
    tracker.config = replace(tracker.config, window=0.5)  # behind the recipe's back
    with pytest.warns(FailedRuns, match="other code, weights or settings than the driver's"):
        cluster.evaluate(tracker, data, results=tmp_path / "changed", client=client)


def test_a_run_that_raises_comes_home_with_its_traceback_and_the_rest_is_right(client, tmp_path):
    data = blank_dataset(20)
    with pytest.warns(FailedRuns, match="1 runs failed; b007"):
        store = cluster.evaluate(Drift(("b007", 3)), data, results=tmp_path, lanes=2, client=client)
    assert len(store.names()) == 19
    text = store.failures()["b007"]
    assert text.startswith("frame 3 on worker ")
    assert text.splitlines()[-1] == "RuntimeError: out of luck"


def test_a_worker_killed_half_way_costs_nothing(client, tmp_path):
    data, seen = blank_dataset(60), []

    def kill(run, done, of):
        seen.append(run.name)
        if done == 20:
            os.kill(min(client.run(os.getpid).values()), signal.SIGKILL)

    store = cluster.evaluate(Slow(), data, results=tmp_path / "killed", lanes=2, on_done=kill, client=client)
    assert sorted(seen) == list(data)  # each once
    assert stored(store) == stored(engine.evaluate(Slow(), data, results=tmp_path / "calm", lanes=2))


class Deadly(Drift):
    """Ends the process that tracks one video, as a lack of memory would."""

    def init(self, frames, boxes):
        if frames.ids[0][0] == "b003":
            os._exit(1)
        return super().init(frames, boxes)


def test_a_run_that_kills_its_workers_fails_alone(client, tmp_path):
    data = blank_dataset(8)
    with pytest.warns(FailedRuns, match="1 runs failed; b003"):
        store = cluster.evaluate(Deadly(), data, results=tmp_path, lanes=4, client=client)
    assert store.names() == [name for name in data if name != "b003"]
    assert "KilledWorker" in store.failures()["b003"]


def test_two_drivers_share_a_results_folder(client, tmp_path, monkeypatch):
    data, shares, written, write = blank_dataset(40), {1: [], 2: []}, [], RunSet.write
    monkeypatch.setattr(RunSet, "write", lambda store, run, **found: written.append(run) or write(store, run, **found))

    def drive(number):
        done = lambda run, *_: shares[number].append(run.name)  # noqa: E731
        cluster.evaluate(Slow(), data, results=tmp_path, lanes=2, on_done=done, client=client)

    threads = [threading.Thread(target=drive, args=(number,)) for number in shares]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(only_folder(tmp_path).names()) == 40
    assert sorted(shares[1]) == sorted(shares[2]) == list(data)
    assert sorted(written) == list(data)  # each once, by one of them
    assert not list(tmp_path.rglob("claims/*"))


def test_where_a_gpu_is_wanted_and_no_worker_has_one(client, tmp_path):
    tracker = Drift()
    tracker.device = "cuda"
    with pytest.raises(ValueError, match=r"no worker offers a GPU: start each with --nthreads 1 --resources GPU=1"):
        cluster.evaluate(tracker, blank_dataset(2), results=tmp_path, client=client)


def test_a_worker_a_gpu(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")  # those that the scheduler of jobs gave
    with cluster.connect(device="cuda") as client:
        seen = client.run(lambda: os.environ["CUDA_VISIBLE_DEVICES"])
        assert sorted(seen.values()) == ["4", "5"]
        assert [w["resources"] for w in client.scheduler_info()["workers"].values()] == [{"GPU": 1.0}] * 2


def test_nobody_answers():
    wanted = r"no dask scheduler at tcp://127.0.0.1:9 .* start one: dask scheduler"
    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}), pytest.raises(ConnectionError, match=wanted):
        cluster.connect("tcp://127.0.0.1:9").__enter__()


@contextmanager
def processes(folder):
    """A scheduler and two workers, each a process of its own; gives their pids and the address."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": os.environ | {"PYTHONPATH": str(HERE)}}
    file, dask_command = folder / "scheduler.json", [sys.executable, "-m", "dask"]
    scheduler = [*dask_command, "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
    started = [subprocess.Popen([*scheduler, "--scheduler-file", str(file)], **quiet)]
    try:
        while not (file.is_file() and file.read_text()):
            time.sleep(0.05)
        worker = [*dask_command, "worker", "--scheduler-file", str(file), "--nthreads", "1", "--no-dashboard"]
        started += [subprocess.Popen([*worker, "--host", "127.0.0.1", "--no-nanny"], **quiet) for _ in range(2)]
        yield started, json.loads(file.read_text())["address"]
    finally:
        for process in started:
            process.kill()
            process.wait()


DRIVER = """
    import sys
    sys.path[:0] = [{here!r}]
    from test_cluster import Slow, blank_dataset, cluster, dask
    dask.config.set({{"distributed.comm.timeouts.connect": "2s"}})
    said = lambda run, done, of: print("done", run.name, flush=True)
    with cluster.connect(sys.argv[1]) as client:
        cluster.evaluate(Slow(), blank_dataset(60), results=sys.argv[2], lanes=2, on_done=said, client=client)
"""


def drive(address, folder):
    code = textwrap.dedent(DRIVER).format(here=str(HERE))
    return subprocess.Popen(
        [sys.executable, "-c", code, address, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(process, runs):
    for _ in range(runs):
        process.stdout.readline()


def test_kill_9_of_the_driver_and_of_the_scheduler(tmp_path):
    """One after the other, into one folder; what is left is finished by a third driver on a new cluster."""
    folder = tmp_path / "killed"
    with processes(tmp_path) as (started, address):
        driver = drive(address, folder)
        wait_for(driver, 11)
        driver.kill()
        driver.communicate()
        first = stored(only_folder(folder))
        assert 10 <= len(first) < 60
        driver = drive(address, folder)
        wait_for(driver, 11 + len(first))
        started[0].kill()
        _, errors = driver.communicate(timeout=60)
        assert driver.returncode == 1
        assert "ConnectionError: the dask scheduler is gone; what is done is stored" in errors
        second = stored(only_folder(folder))
        assert len(first) < len(second) < 60
    (tmp_path / "again").mkdir()
    with processes(tmp_path / "again") as (_, address):
        output, errors = drive(address, folder).communicate(timeout=120)
    assert len(output.splitlines()) == 60 - len(second), errors
    calm = engine.evaluate(Slow(), blank_dataset(60), results=tmp_path / "calm", lanes=2)
    assert stored(only_folder(folder)) == stored(calm)
    assert not list(folder.rglob("claims/*"))


ONCE = """
import os, time
from pathlib import Path
place = Path(out_dir)
(place / f"began-{os.getpid()}").touch()
time.sleep(2 if len(list(place.glob("began-*"))) == 1 else 0)
(place / "product.txt").write_text("whole")
"""


def test_a_stage_whose_worker_is_lost_is_done_by_another(client, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "_hardware", dict)
    book = notebook(tmp_path / "notebooks", "p/1_a", OUT, ONCE)
    (book.parents[1] / "stages.yaml").write_text("p/1_a:\n")
    graph, folder = load_graph("smoke", (), book.parents[1]), tmp_path / "results/smoke/p/1_a"

    def kill():
        while not list(folder.glob("began-*")):
            time.sleep(0.05)
        pids = client.run(os.getpid)
        at_work = [client.processing()[address] for address in pids]
        os.kill(next(pid for pid, tasks in zip(pids.values(), at_work, strict=True) if tasks), signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    outcome = runner.run(graph, (), tmp_path / "results", 2, launch=functools.partial(cluster.There, client))
    thread.join()
    assert outcome.done == ["p/1_a"], outcome
    assert len(list(folder.glob("began-*"))) == 2
    assert (folder / "product.txt").read_text() == "whole"


def test_what_a_worker_cannot_do_is_in_the_stages_log(client, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "_hardware", dict)
    book = notebook(tmp_path / "notebooks", "p/1_a", OUT, "1")
    (book.parents[1] / "stages.yaml").write_text("p/1_a:\n")
    graph = load_graph("smoke", (), book.parents[1])
    stage = replace(graph.stages["p/1_a"], code="other")
    graph.stages["p/1_a"] = stage
    outcome = runner.run(graph, (), tmp_path / "results", launch=functools.partial(cluster.There, client))
    assert "other code than the driver's; install the same here" in outcome.failed["p/1_a"]


EDITED = """
from test_engine_faults import Drift


class Mine(Drift):
    name = "mine"

    def track(self, state, frames):
        state, output = super().track(state, frames)
        output.boxes = output.boxes + {}
        return state, output
"""


def test_a_worker_that_has_imported_other_code_than_is_on_disk_refuses(tmp_path, monkeypatch):
    """What it would run is old, and the key, which is of the files, new."""
    monkeypatch.syspath_prepend(str(tmp_path))
    module, data = tmp_path / "edited_mine.py", blank_dataset(4)
    module.write_text(EDITED.format(1))
    with cluster.connect(workers=1) as client:
        evaluate = functools.partial(cluster.evaluate, results=tmp_path / "r", lanes=2, client=client)
        assert len(evaluate(load_tracker("edited_mine:Mine"), data).names()) == 4
        module.write_text(EDITED.format(50))
        del sys.modules["edited_mine"]
        with pytest.warns(FailedRuns, match=r"edited_mine.py was edited since it was imported; restart the workers"):
            assert evaluate(load_tracker("edited_mine:Mine"), data).names() == []

"""Executing stages with papermill: one process a notebook, one manifest a success.

papermill's own notebook cannot say whether a run succeeded (a killed kernel leaves every cell "completed",
SystemExit(0) leaves return code 0), so a stage is done when its manifest is there: written last, atomically, after
return code 0 and every code cell executed without an error.
"""

from __future__ import annotations

import datetime
import fcntl
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from . import provenance
from .notebook import METRICS, read_records
from .parameters import declared
from .stages import MANIFEST, SMOKE, Graph, Stage, code_hash, data_digests

EXECUTED, LOG, PARAMETERS, TIMES = "executed.ipynb", "log.txt", "params.json", "times.json"
_KILLED = 138  # papermill's return code when the kernel died
_GRACE = 8.0  # seconds between asking a notebook to stop and killing it
_EVERY = 30.0  # seconds between signs of life where the output is no terminal


@dataclass
class _Job:
    stage: Stage
    process: subprocess.Popen
    log: IO[bytes]
    began: float
    attempt: int = 1

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began


@dataclass(frozen=True)
class Outcome:
    """done and skipped: names of stages; failed: name to the reason; blocked: name to the failed stage it waits for."""

    done: list[str]
    skipped: list[str]
    failed: dict[str, str]
    blocked: dict[str, str]

    @property
    def ok(self) -> bool:
        return not self.failed and not self.blocked


def run(graph: Graph, targets: Iterable[str], results: Path, jobs: int = 1, force: bool = False) -> Outcome:
    """Execute the targets and whatever stale stages they need, `jobs` at a time, into results/<profile>/.

    force: run the targets though they are fresh. A stage that fails blocks those that need it; the others go on.
    Raises ValueError when data is missing or another run holds the folder; nothing has started then."""
    chosen = graph.chosen(targets)
    wanted = graph.upstream(chosen)
    if absent := [f"{name}: {a}" for name in wanted for a in graph.missing.get(name, ())]:
        raise ValueError("data is missing, nothing was started:\n  " + "\n  ".join(absent))
    folder = (results / graph.profile).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder) as lock, _stoppable():
        fresh = [name for name in wanted if graph.state(name, folder) == "fresh" and not (force and name in chosen)]
        pending = [name for name in wanted if name not in fresh]
        return _Scheduler(graph, folder, lock, jobs, set(chosen) if force else set()).work(pending, fresh)


class _Scheduler:
    def __init__(self, graph: Graph, folder: Path, lock: int, jobs: int, restart: set[str]):
        self.graph, self.folder, self.lock, self.jobs, self.restart = graph, folder, lock, max(jobs, 1), restart
        self.running: dict[str, _Job] = {}
        self.outcome = Outcome([], [], {}, {})

    def work(self, pending: list[str], fresh: list[str]) -> Outcome:
        self.outcome.skipped.extend(fresh)
        self.view = _View(len(pending), len(fresh), self.folder)
        waiting = list(pending)
        try:
            while waiting or self.running:
                self._start(waiting)
                time.sleep(0.05)
                for name, job in list(self.running.items()):
                    self._poll(name, job)
                self.view.tick(self.running)
        finally:
            for job in self.running.values():
                _stop(job)
        return self.outcome

    def _start(self, waiting: list[str]) -> None:
        bad = {**self.outcome.failed, **self.outcome.blocked}
        for name in list(waiting):
            needs = self.graph.stages[name].needs
            if cause := next((need for need in needs if need in bad), None):
                waiting.remove(name)
                self.outcome.blocked[name] = bad[name] = cause
                self.view.say(f"blocked {name}: {cause} failed")
            elif len(self.running) < self.jobs and not any(n in waiting or n in self.running for n in needs):
                waiting.remove(name)
                self.view.started(name)
                try:
                    self.running[name] = self._launch(self.graph.stages[name])
                except (ValueError, OSError) as error:
                    self._fail(name, str(error))
                    bad[name] = str(error)

    def _launch(self, stage: Stage, attempt: int = 1) -> _Job:
        folder, key = self.folder / stage.name, self.graph.keys[stage.name]
        if kept := _prepare(folder, key, restart=stage.name in self.restart and attempt == 1):
            self.view.say(f"{stage.name}: what it held was made otherwise and took long; kept in {kept}")
        injected: dict[str, Any] = {**stage.parameters, "out_dir": str(folder)}
        if "inputs" in declared(stage.notebook):
            injected["inputs"] = {need: str(self.folder / need) for need in stage.needs}
        provenance.write_json(folder / PARAMETERS, {"key": key, "parameters": dict(stage.parameters)})
        log = open(folder / LOG, "wb")  # noqa: SIM115 - closed when the stage ends
        process = subprocess.Popen(
            [sys.executable, "-m", "trackerlib.runner", str(stage.notebook), str(folder / EXECUTED)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=_environment(self.jobs),
            start_new_session=True,
            pass_fds=(self.lock,),  # the folder stays locked until the last notebook is gone
        )
        process.stdin.write(json.dumps(injected).encode() + b"\n")
        process.stdin.flush()  # and stays open: its end tells the child that the runner is gone
        return _Job(stage, process, log, time.monotonic(), attempt)

    def _poll(self, name: str, job: _Job) -> None:
        code = job.process.poll()
        if code is None:
            if job.seconds < job.stage.timeout:
                return
            _stop(job)
            reason = f"stopped after its timeout of {job.stage.timeout:g} s"
        else:
            job.log.close()
            job.process.stdin.close()
            folder = self.folder / name
            reason = _failure(folder, code)
            if reason and job.attempt == 1 and not _any_cell_ran(folder):  # a port race at the kernel's start
                self.running[name] = self._launch(job.stage, attempt=2)
                return
        del self.running[name]
        if not reason and _edited(job.stage):
            reason = "the notebook's code or trackerlib's was edited while this ran: run it again"
        if reason:
            self._fail(name, reason)
        else:
            self._finish(job)
            self.outcome.done.append(name)
            self.view.done(name, job.seconds)

    def _fail(self, name: str, reason: str) -> None:
        self.outcome.failed[name] = reason
        self.view.failed(name, reason, self.folder / name / LOG)

    def _finish(self, job: _Job) -> None:
        stage, folder = job.stage, self.folder / job.stage.name
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        provenance.write_json(folder / TIMES, {"finished": now, "seconds": round(job.seconds, 2)})
        manifest = {
            "schema": 1,
            "stage": stage.name,
            "profile": self.graph.profile,
            "key": self.graph.keys[stage.name],
            "parameters": dict(stage.parameters),
            "needs": {need: self.graph.keys[need] for need in stage.needs},
            "code": stage.code,
            "data": data_digests(stage),
            "metrics": read_records(folder),
            "outputs": _products(folder),
            "environment": _hardware() | {"threads": _threads(self.jobs)},
        }
        provenance.write_json(folder / MANIFEST, manifest)


def _prepare(folder: Path, key: str, restart: bool) -> Path | None:
    """An empty folder, or what a killed run of the same key left (its checkpoints), without manifest and metrics.

    Returns where a superseded folder went that took long to make: `<stage>.superseded`, one generation. A folder goes
    by a rename first: a runner killed while it deletes leaves no half of one under the stage's name."""
    gone, kept = folder.with_name(f".{folder.name}.old"), None
    shutil.rmtree(gone, ignore_errors=True)
    if folder.is_dir() and any(folder.iterdir()):
        begun = folder / PARAMETERS
        if not begun.is_file():
            raise ValueError(f"{folder}: holds files but no {PARAMETERS}, so no stage made it; move it away")
        if restart or json.loads(begun.read_text())["key"] != key:
            if _took_long(folder):
                kept = folder.with_name(f"{folder.name}.superseded")
                if kept.exists():
                    kept.rename(gone)
            folder.rename(kept or gone)
            shutil.rmtree(gone, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    for name in (MANIFEST, METRICS, EXECUTED, LOG, TIMES):
        (folder / name).unlink(missing_ok=True)
    return kept


def _took_long(folder: Path) -> bool:
    """Holds a training's checkpoint, or was finished in another profile than smoke."""
    manifest = folder / MANIFEST
    trained = next(folder.rglob("fit/checkpoint.pt"), None) is not None
    return trained or (manifest.is_file() and json.loads(manifest.read_text())["profile"] != SMOKE)


def _edited(stage: Stage) -> bool:
    """Whether code that determines a stage's outcome was changed since its key was computed: other code may have run
    than the key names."""
    try:
        return code_hash(stage.notebook) != stage.code
    except (ValueError, SyntaxError, OSError):
        return True


def _failure(folder: Path, code: int) -> str:
    """Why a notebook that ended did not succeed, in a sentence; empty when it did."""
    cells = _cells(folder)
    for cell in cells:
        for output in cell.get("outputs", ()):
            if output["output_type"] == "error":
                return f"{output['ename']}: {output['evalue']}".strip().splitlines()[0]
    if code == _KILLED:
        return "its kernel was killed: out of memory?"
    if code != 0:
        return f"return code {code}: {_last_line(folder / LOG)}"
    idle = sum(cell.get("execution_count") is None for cell in cells)
    if idle or not cells:
        return f"{idle} of {len(cells)} code cells were not executed"
    return ""


def _any_cell_ran(folder: Path) -> bool:
    return any(cell.get("execution_count") is not None or cell.get("outputs") for cell in _cells(folder))


def _cells(folder: Path) -> list[dict]:
    """The non-empty code cells of the executed notebook; none when papermill wrote none."""
    try:
        cells = json.loads((folder / EXECUTED).read_text())["cells"]
    except (FileNotFoundError, json.JSONDecodeError):
        return []
    return [cell for cell in cells if cell["cell_type"] == "code" and "".join(cell["source"]).strip()]


def _products(folder: Path) -> dict[str, str]:
    """File to sha256 of what a stage made, but for logs and clock times: identical runs have equal manifests."""
    found = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {str(f): provenance.file_sha256(path) for f, path in found.items() if not _is_clocked(f)}


def _is_clocked(file: Path) -> bool:
    """The runner's own files, logs, and the seconds that the benchmark engine measures."""
    own = {EXECUTED, LOG, PARAMETERS, TIMES, MANIFEST}
    return str(file) in own or file.name == "speed.json" or "times" in file.parts or file.suffix in (".jsonl", ".part")


def _environment(jobs: int) -> dict[str, str]:
    """Figures are drawn without a display; hashing is fixed; notebooks that run beside one another share the cores."""
    fixed = {
        "TRK_HEADLESS": "1",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "PYTHONHASHSEED": "0",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    }
    return {**os.environ, **fixed, "OMP_NUM_THREADS": str(_threads(jobs))}


def _threads(jobs: int) -> int:
    return int(os.environ.get("OMP_NUM_THREADS") or max(1, (os.cpu_count() or 1) // jobs))


@functools.cache
def _hardware() -> dict[str, Any]:
    return provenance.environment()


@contextmanager
def _locked(folder: Path) -> Iterator[int]:
    """Hold results/<profile>/.lock. The notebooks of a killed run hold it for the seconds they need to notice."""
    with open(folder / ".lock", "w") as f:
        deadline = time.monotonic() + 2 * _GRACE
        while True:
            try:
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ValueError(f"{folder}: another run is at work there; wait for it, or use --results") from None
                time.sleep(0.2)
        yield f.fileno()


@contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM ends a run as Ctrl-C does: its notebooks are stopped."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(job: _Job) -> None:
    """Ask a notebook's process to shut its kernel down; kill it when it does not. (A kernel whose parent is gone ends
    itself.)"""
    job.process.terminate()
    try:
        job.process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        os.killpg(job.process.pid, signal.SIGKILL)
        job.process.wait()
    job.log.close()
    job.process.stdin.close()


class _View:
    """What a person sees meanwhile: on a terminal one line that lives, elsewhere a line an event and a sign of life."""

    def __init__(self, total: int, fresh: int, folder: Path):
        self.total, self.count, self.live = total, 0, sys.stdout.isatty()
        self.folder, self.spoken, self.drawn = folder, time.monotonic(), 0.0
        self.say(f"{total} to run, {fresh} fresh, into {folder}")

    def say(self, line: str) -> None:
        print(("\r\033[K" if self.live else "") + line, flush=True)
        self.spoken = time.monotonic()

    def started(self, name: str) -> None:
        self.count += 1
        if not self.live:
            self.say(f"[{self.count}/{self.total}] {name} ...")

    def done(self, name: str, seconds: float) -> None:
        self.say(f"done    {name} in {seconds:.0f} s")

    def failed(self, name: str, reason: str, log: Path) -> None:
        self.say(f"FAILED  {name}: {reason}" + (f"\n        log: {log}" if log.is_file() else ""))

    def tick(self, running: dict[str, _Job]) -> None:
        now = time.monotonic()
        if not running or now - (self.drawn if self.live else self.spoken) < (0.5 if self.live else _EVERY):
            return
        parts = [f"{name} {job.seconds:.0f} s" for name, job in running.items()]
        line = f"[{self.count}/{self.total}] {', '.join(parts)}  {_last_line(self.folder / next(iter(running)) / LOG)}"
        if self.live:
            width = shutil.get_terminal_size().columns - 1
            print("\r\033[K" + line[:width], end="", flush=True)
            self.drawn = now
        else:
            self.say(line)


def _last_line(log: Path) -> str:
    with open(log, "rb") as f:
        f.seek(max(0, log.stat().st_size - 2000))
        lines = f.read().decode(errors="replace").replace("\r", "\n").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "").rstrip("-")[:100]


def _execute(notebook: str, executed: str) -> None:
    """The child process: parameters come as one line on stdin; its end means that the runner is gone."""
    parameters = json.loads(sys.stdin.buffer.readline())

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_GRACE)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    import logging

    import papermill

    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    papermill.execute_notebook(
        notebook,
        executed,
        parameters,
        kernel_name="python3",
        progress_bar=False,
        log_output=True,
        store_widget_state=False,
        coalesce_streams=True,
        record_timing=False,
        start_timeout=300,  # a loaded machine needs a while for a kernel
    )


if __name__ == "__main__":
    try:
        _execute(*sys.argv[1:])
    except Exception as error:
        print(error, file=sys.stderr)
        sys.exit(_KILLED if type(error).__name__ == "DeadKernelError" else 1)

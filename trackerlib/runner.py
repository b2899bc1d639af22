"""Executing stages with papermill: one process a notebook, one manifest a success.

papermill's own notebook cannot say whether a run succeeded (a killed kernel leaves every cell "completed",
SystemExit(0) leaves return code 0), so a stage is done when its manifest is there: written last, atomically, after
return code 0 and every code cell executed without an error.
"""

import fcntl
import functools
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import provenance
from .notebook import METRICS, read_records
from .parameters import declared
from .stages import MANIFEST, SMOKE, Graph, Stage, code_hash

EXECUTED, LOG, PARAMETERS = "executed.ipynb", "log.txt", "params.json"
_KILLED = 138  # papermill's return code when the kernel died
_GRACE = 8.0  # seconds between asking a notebook to stop and killing it
_EVERY = 30.0  # seconds between signs of life where the output is no terminal
_ENVIRONMENT = {
    "TRK_HEADLESS": "1",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",  # figures without a display
    "PYTHONHASHSEED": "0",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
}
_hardware = functools.cache(provenance.environment)


class Here:
    """A notebook executed in a child process of this one, and ended with it."""

    def __init__(self, stage: Stage, folder: Path, injected: dict[str, Any], threads: int, lock: int):
        """lock: of the folder, an open file that stays locked until the notebook is gone."""
        with open(folder / LOG, "wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "trackerlib.runner", str(stage.notebook), str(folder / EXECUTED)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **_ENVIRONMENT, "OMP_NUM_THREADS": str(threads)},
                start_new_session=True,
                pass_fds=(lock,),
            )
        self._process.stdin.write(json.dumps(injected).encode() + b"\n")
        self._process.stdin.flush()  # and stays open: its end tells the child that the runner is gone

    def poll(self) -> int | None:
        """papermill's return code; None while it runs."""
        if (code := self._process.poll()) is not None:
            self._process.stdin.close()
        return code

    def stop(self) -> None:
        """Ask the process to shut its kernel down; kill it when it does not: a kernel ends with its parent."""
        self._process.terminate()
        try:
            self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process.stdin.close()


@dataclass
class _Job:
    stage: Stage
    process: Here
    began: float
    attempt: int

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


def run(
    graph: Graph,
    targets: Iterable[str],
    results: Path,
    jobs: int = 1,
    force: bool = False,
    launch: Callable[..., Here] = Here,
) -> Outcome:
    """Execute the targets and whatever stale stages they need, `jobs` at a time, into results/<profile>/.

    force: run the targets though they are fresh; launch: how a notebook is started, in a child process or elsewhere
    (`cluster.There`). A stage that fails blocks those that need it; the others go on.
    Raises ValueError when data is missing or another run holds the folder; nothing has started then."""
    chosen = graph.chosen(targets)
    wanted = graph.upstream(chosen)
    if absent := [f"{name}: {a}" for name in wanted for a in graph.missing.get(name, ())]:
        raise ValueError("data is missing, nothing was started:\n  " + "\n  ".join(absent))
    folder = (results / graph.profile).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder) as lock, _stoppable():
        return _Scheduler(graph, folder, lock, jobs, set(chosen) if force else set(), launch).work(wanted)


class _Scheduler:
    """Starts stages, looks after them, and says so: on a terminal in one line that lives, elsewhere in a line an event
    and a sign of life."""

    def __init__(
        self, graph: Graph, folder: Path, lock: int, jobs: int, restart: set[str], launch: Callable[..., Here]
    ):
        self.graph, self.folder, self.lock, self.jobs, self.restart = graph, folder, lock, max(jobs, 1), restart
        self.launch = launch
        self.running: dict[str, _Job] = {}
        self.threads = int(os.environ.get("OMP_NUM_THREADS") or max(1, (os.cpu_count() or 1) // self.jobs))
        self.live = sys.stdout.isatty()

    def work(self, wanted: list[str]) -> Outcome:
        fresh = [n for n in wanted if n not in self.restart and self.graph.state(n, self.folder) == "fresh"]
        self.waiting = [name for name in wanted if name not in fresh]
        self.outcome, self.total = Outcome([], fresh, {}, {}), len(self.waiting)
        self._say(f"{self.total} to run, {len(fresh)} fresh, into {self.folder}")
        try:
            while self.waiting or self.running:
                self._start()
                time.sleep(0.05)
                for name, job in list(self.running.items()):
                    self._poll(name, job)
                self._show_life()
        finally:
            for job in self.running.values():
                job.process.stop()
        return self.outcome

    def _start(self) -> None:
        for name in list(self.waiting):
            needs = self.graph.stages[name].needs
            bad = self.outcome.failed.keys() | self.outcome.blocked.keys()
            if cause := next((need for need in needs if need in bad), None):
                self.waiting.remove(name)
                self.outcome.blocked[name] = cause
                self._say(f"blocked {name}: {cause} failed")
            elif len(self.running) < self.jobs and not {*self.waiting, *self.running}.intersection(needs):
                self.waiting.remove(name)
                if not self.live:
                    self._say(f"[{self.total - len(self.waiting)}/{self.total}] {name} ...")
                try:
                    self.running[name] = self._launch(self.graph.stages[name])
                except (ValueError, OSError) as error:
                    self._fail(name, str(error))

    def _launch(self, stage: Stage, attempt: int = 1) -> _Job:
        folder, key = self.folder / stage.name, self.graph.keys[stage.name]
        if kept := _prepare(folder, key, restart=stage.name in self.restart and attempt == 1):
            self._say(f"{stage.name}: what it held was made otherwise and took long; kept in {kept}")
        injected: dict[str, Any] = {**stage.parameters, "out_dir": str(folder)}
        if "inputs" in declared(stage.notebook):
            injected["inputs"] = {need: str(self.folder / need) for need in stage.needs}
        provenance.write_json(folder / PARAMETERS, {"key": key, "parameters": dict(stage.parameters)})
        process = self.launch(stage, folder, injected, self.threads, self.lock)
        return _Job(stage, process, time.monotonic(), attempt)

    def _poll(self, name: str, job: _Job) -> None:
        code = job.process.poll()
        if code is None:
            if job.seconds < job.stage.timeout:
                return
            job.process.stop()
            reason = f"stopped after its timeout of {job.stage.timeout:g} s"
        else:
            cells = _cells(self.folder / name / EXECUTED)
            reason = _failure(cells, code, self.folder / name / LOG)
            ran = any(cell.get("execution_count") or cell.get("outputs") for cell in cells)
            if reason and not ran and job.attempt == 1:  # a port race at the kernel's start
                self.running[name] = self._launch(job.stage, attempt=2)
                return
        del self.running[name]
        if not reason and _edited(job.stage):
            reason = "the notebook's code or trackerlib's was edited while this ran: run it again"
        if reason:
            self._fail(name, reason)
        else:
            provenance.write_json(self.folder / name / MANIFEST, self._manifest(job.stage))
            self.outcome.done.append(name)
            self._say(f"done    {name} in {job.seconds:.0f} s")

    def _fail(self, name: str, reason: str) -> None:
        self.outcome.failed[name] = reason
        log = self.folder / name / LOG
        self._say(f"FAILED  {name}: {reason}" + (f"\n        log: {log}" if log.is_file() else ""))

    def _manifest(self, stage: Stage) -> dict[str, Any]:
        """No times and no log in it: identical runs have equal manifests."""
        folder = self.folder / stage.name
        files = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file())
        return {
            "schema": 1,
            "stage": stage.name,
            "profile": self.graph.profile,
            "key": self.graph.keys[stage.name],
            "parameters": dict(stage.parameters),
            "needs": {need: self.graph.keys[need] for need in stage.needs},
            "code": stage.code,
            "data": stage.data,
            "metrics": read_records(folder),
            "outputs": {str(f): provenance.file_sha256(folder / f) for f in files if not _is_clocked(f)},
            "environment": _hardware() | {"threads": self.threads},
        }

    def _say(self, line: str, end: str = "\n") -> None:
        print(("\r\033[K" if self.live else "") + line, end=end, flush=True)
        self.spoken = time.monotonic()

    def _show_life(self) -> None:
        pause, width = (0.5, shutil.get_terminal_size().columns - 1) if self.live else (_EVERY, None)
        if not self.running or time.monotonic() - self.spoken < pause:
            return
        jobs = ", ".join(f"{name} {job.seconds:.0f} s" for name, job in self.running.items())
        last = _last_line(self.folder / next(iter(self.running)) / LOG)
        line = f"[{self.total - len(self.waiting)}/{self.total}] {jobs}  {last}"
        self._say(line[:width], end="" if self.live else "\n")


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
        if restart or _key(begun) != key:
            if _took_long(folder):
                kept = folder.with_name(f"{folder.name}.superseded")
                if kept.exists():
                    kept.rename(gone)
            folder.rename(kept or gone)
            shutil.rmtree(gone, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    for name in (MANIFEST, METRICS, EXECUTED, LOG):
        (folder / name).unlink(missing_ok=True)
    return kept


def _key(begun: Path) -> str | None:
    """The key under which a folder was begun; None where a damaged file does not tell."""
    try:
        return json.loads(begun.read_text())["key"]
    except (ValueError, LookupError, TypeError):
        return None


def _took_long(folder: Path) -> bool:
    """Holds a training's checkpoint, or was finished in another profile than smoke."""
    manifest = folder / MANIFEST
    trained = next(folder.rglob("fit/checkpoint.pt"), None) is not None
    try:
        return trained or (manifest.is_file() and json.loads(manifest.read_text())["profile"] != SMOKE)
    except (ValueError, LookupError, TypeError):  # damaged: who knows
        return True


def _edited(stage: Stage) -> bool:
    """Whether other code may have run than the key names."""
    try:
        return code_hash(stage.notebook) != stage.code
    except (ValueError, SyntaxError, OSError):
        return True


def _failure(cells: list[dict], code: int, log: Path) -> str:
    """Why a notebook that ended did not succeed, in a sentence; empty when it did."""
    outputs = (output for cell in cells for output in cell.get("outputs", ()))
    if error := next((output for output in outputs if output["output_type"] == "error"), None):
        return f"{error['ename']}: {error['evalue']}".strip().splitlines()[0]
    if code == _KILLED:
        return "its kernel was killed: out of memory?"
    if code != 0:
        return f"return code {code}: {_last_line(log)}"
    idle = sum(cell.get("execution_count") is None for cell in cells)
    return f"{idle} of {len(cells)} code cells were not executed" if idle or not cells else ""


def _cells(executed: Path) -> list[dict]:
    """The non-empty code cells of the executed notebook; none when papermill wrote none."""
    try:
        cells = json.loads(executed.read_text())["cells"]
    except (FileNotFoundError, json.JSONDecodeError):
        return []
    return [cell for cell in cells if cell["cell_type"] == "code" and "".join(cell["source"]).strip()]


def _is_clocked(file: Path) -> bool:
    """The runner's own files, logs, and the seconds that the benchmark engine measures."""
    own = str(file) in (EXECUTED, LOG, PARAMETERS, MANIFEST)
    return own or file.name in ("speed.json", ".lock") or "times" in file.parts or file.suffix in (".jsonl", ".part")


@contextmanager
def locked(folder: Path) -> Iterator[int]:
    """Hold a folder's `.lock`. The notebooks of a killed run hold it for the seconds they need to notice."""
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
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _last_line(log: Path) -> str:
    with open(log, "rb") as f:
        f.seek(max(0, log.stat().st_size - 2000))
        lines = [line.strip() for line in f.read().decode(errors="replace").splitlines() if line.strip()]
    return lines[-1].rstrip("-")[:100] if lines else ""


def end_with_stdin() -> None:
    """End this process when its standard input ends: what started it is gone."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_GRACE)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _execute(notebook: str, executed: str) -> None:
    """The child process: parameters come as one line on stdin; its end means that the runner is gone."""
    import papermill

    parameters = json.loads(sys.stdin.buffer.readline())

    end_with_stdin()
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    plain = {"progress_bar": False, "coalesce_streams": True, "store_widget_state": False, "record_timing": False}
    patience = 300  # seconds for a kernel to start: a loaded machine needs a while
    papermill.execute_notebook(
        notebook, executed, parameters, kernel_name="python3", log_output=True, start_timeout=patience, **plain
    )


if __name__ == "__main__":
    try:
        _execute(*sys.argv[1:])
    except Exception as error:
        print(error, file=sys.stderr)
        sys.exit(_KILLED if type(error).__name__ == "DeadKernelError" else 1)

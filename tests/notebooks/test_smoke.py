"""The whole reproduction at the smoke profile, through the command line, as `make reproduce` runs it."""

import csv
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trackerlib.provenance import file_sha256
from trackerlib.stages import load_graph

LIMIT = 900  # seconds; about four minutes on two idle cores


def trackerlib(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "trackerlib", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=LIMIT)


@pytest.mark.timeout(LIMIT + 60)
def test_the_whole_graph_runs_and_then_has_nothing_left_to_do(tmp_path):
    run = ("run", "--profile", "smoke", "--jobs", "2", "--results", "out")
    done = trackerlib(*run, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    results, graph = tmp_path / "out/smoke", load_graph()
    for name, stage in graph.stages.items():
        manifest = json.loads((results / name / "manifest.json").read_text())
        assert manifest["key"] == graph.keys[name]
        assert manifest["parameters"] == dict(stage.parameters)
        for product, digest in manifest["outputs"].items():
            assert file_sha256(results / name / product) == digest
        assert (results / name / "executed.ipynb").stat().st_size < 4_000_000
    check_report(results)

    started = time.monotonic()
    again = trackerlib(*run, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert f"0 to run, {len(graph.stages)} fresh" in again.stdout
    assert time.monotonic() - started < 5


def check_report(results: Path) -> None:
    with open(results / "report.csv", newline="") as f:
        rows = {row["id"]: row for row in csv.DictReader(f)}
    recorded = {id_: row for id_, row in rows.items() if row["ours"]}
    assert recorded, "at least one stage records a claim"
    verdicts = {row["verdict"] for row in recorded.values()}  # of curves that the paper prints no number of: no number
    assert verdicts - {"no number"} == {"not comparable"}, "rendered data is no benchmark"
    page = (results / "report.html").read_text()
    assert "rendered data: not comparable" in page
    for source in (part.split("'")[0] for part in page.split("<img src='")[1:]):
        assert (results / source).is_file()

"""Progress where nobody looks on: every item, one clean line, and stdout left alone."""

import re

import pytest

from trackerlib.progress import counter, progress


@pytest.fixture(autouse=True)
def headless(monkeypatch):
    monkeypatch.setenv("TRK_HEADLESS", "1")


def test_headless_progress_is_one_line_on_stderr(capsys):
    assert list(progress((n * n for n in range(5)), total=5, label="squares")) == [0, 1, 4, 9, 16]
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"squares: 5 in \d+\.\d s(, \S+/s)?\n", err)


def test_a_loop_that_stops_early_says_nothing_wrong(capsys):
    for item in progress([1, 2, 3], label="loop"):
        if item == 2:
            break
    assert "3" not in capsys.readouterr().err


def test_a_counter_speaks_at_the_end(capsys):
    done = counter("runs")
    done("a", 1, 2)
    assert capsys.readouterr().err == ""
    done("b", 2, 2)
    assert capsys.readouterr().err.startswith("runs: 2 in ")

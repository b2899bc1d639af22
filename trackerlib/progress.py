"""Progress: one live bar where somebody looks on, one clean line where nobody does."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

_EVERY = 30.0  # seconds between the lines of a long loop that nobody watches


def progress(iterable: Iterable[T], total: int | None = None, label: str = "") -> Iterable[T]:
    """The same items, with their progress shown on stderr.

    In Jupyter and on a terminal: tqdm's live bar. Headless (`TRK_HEADLESS=1`, or stderr is a file or a pipe): one line
    at the end, and one every 30 seconds in between, where tqdm would leave a frozen 0 % widget in an executed notebook
    and hundreds of lines in a log."""
    if total is None and hasattr(iterable, "__len__"):
        total = len(iterable)
    if _headless():
        return _lines(iterable, total, label)
    from tqdm.auto import tqdm

    return tqdm(iterable, total=total, desc=label or None)


def counter(label: str) -> Callable[[Any, int, int], None]:
    """The same for what counts by itself: a function to call with (what was done, how many are, of how many)."""
    start = spoken = time.monotonic()
    bar = None

    def done(_: Any, count: int, of: int) -> None:
        nonlocal bar, spoken
        now = time.monotonic()
        if not _headless():
            from tqdm.auto import tqdm

            bar = bar or tqdm(total=of, desc=label)
            bar.update(count - bar.n)
            if count == of:
                bar.close()
        elif count == of or now - spoken >= _EVERY:
            spoken = now
            _say(label, count, of, now - start)

    return done


def _headless() -> bool:
    if os.environ.get("TRK_HEADLESS") == "1":
        return True
    return "ipykernel" not in sys.modules and not sys.stderr.isatty()


def _lines(iterable: Iterable[T], total: int | None, label: str) -> Iterator[T]:
    start = spoken = time.monotonic()
    done = 0
    for item in iterable:
        yield item
        done += 1
        now = time.monotonic()
        if now - spoken >= _EVERY and done != total:
            spoken = now
            _say(label, done, total, now - start)
    _say(label, done, total, time.monotonic() - start)


def _say(label: str, done: int, total: int | None, seconds: float) -> None:
    of = f"/{total}" if total is not None and total != done else ""
    rate = f", {done / seconds:.3g}/s" if seconds > 0 else ""
    print(f"{label or 'progress'}: {done}{of} in {seconds:.1f} s{rate}", file=sys.stderr, flush=True)

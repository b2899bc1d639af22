"""Progress: one live bar where somebody looks on, one clean line where nobody does."""

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
    if _headless():
        return _lines(iterable, total, label or "progress")
    from tqdm.auto import tqdm

    return tqdm(iterable, total=total, desc=label or None)


def counter(label: str) -> Callable[[Any, int, int | None], None]:
    """The same for what counts by itself: a function to call with (what was done, how many are, of how many)."""
    start = spoken = time.monotonic()
    bar = None

    def done(_: Any, count: int, of: int | None) -> None:
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
            part = f"/{of}" if of not in (None, count) else ""
            rate = f", {count / (now - start):.3g}/s" if now > start else ""
            print(f"{label}: {count}{part} in {now - start:.1f} s{rate}", file=sys.stderr, flush=True)

    return done


def _headless() -> bool:
    return os.environ.get("TRK_HEADLESS") == "1" or ("ipykernel" not in sys.modules and not sys.stderr.isatty())


def _lines(iterable: Iterable[T], total: int | None, label: str) -> Iterator[T]:
    say, count = counter(label), 0
    if total is None and hasattr(iterable, "__len__"):
        total = len(iterable)
    for count, item in enumerate(iterable, 1):
        yield item
        if count != total:
            say(item, count, total)
    say(None, count, count)

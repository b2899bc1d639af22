"""Scores as text: a table to read, CSV and JSON to compute with, LaTeX to print, HTML in the notebook.

Every form states its convention and its data, and marks what the weights saw in training.
"""

from __future__ import annotations

import html
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pandas as pd

from ..bench.score import Scores

_KEY = re.compile(r"-[0-9a-f]{8}$")  # of a run set's folder, `<tracker>-<key8>`
_SEEN = "*"


@dataclass(frozen=True, repr=False)
class Table:
    """A captioned table of text; shows as HTML in a notebook and prints as aligned text."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def __repr__(self) -> str:
        widths = [max(map(len, column)) for column in zip(self.header, *self.rows, strict=True)]
        lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in self._lines()]
        lines.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join([self.caption, "", *lines, *([self.note] if self.note else [])])

    def _repr_html_(self) -> str:
        head, *body = (
            "".join(
                f"<{tag} style='text-align:{'right' if i else 'left'}'>{html.escape(cell)}</{tag}>" for i, cell in row
            )
            for tag, row in zip(["th"] + ["td"] * len(self.rows), map(enumerate, self._lines()), strict=True)
        )
        rows = "".join(f"<tr>{row}</tr>" for row in body)
        note = f"<p><small>{html.escape(self.note)}</small></p>" if self.note else ""
        caption = f"<caption style='text-align:left'>{html.escape(self.caption)}</caption>"
        return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{note}"

    def latex(self) -> str:
        """A table environment for the booktabs package."""
        head, *body = (" & ".join(map(_escaped, row)) + r" \\" for row in self._lines())
        layout = "l" + "r" * (len(self.header) - 1)
        caption = _escaped(" ".join(filter(None, [self.caption + ".", self.note])))
        return "\n".join(
            [
                r"\begin{table}",
                r"  \centering",
                rf"  \caption{{{caption}}}",
                rf"  \begin{{tabular}}{{{layout}}}",
                *(f"    {line}" for line in [r"\toprule", head, r"\midrule", *body, r"\bottomrule"]),
                r"  \end{tabular}",
                r"\end{table}",
            ]
        )

    def _lines(self) -> Iterable[tuple[str, ...]]:
        return (self.header, *self.rows)


def render(scores: Scores, format: str = "table") -> str:
    """Scores as `table`, `csv`, `json` or `latex`; ValueError for another format.

    `json` is the object of `Scores.json`; `csv` is the tidy long table, convention and dataset in each row, the means
    in rows whose sequence is `(mean)` or `(mean, unseen)`."""
    writers: dict[str, Callable[[Scores], str]] = {
        "table": lambda s: "\n\n".join(map(str, _tables(s))) + "\n",
        "csv": _csv,
        "json": lambda s: json.dumps(s.json(), indent=1) + "\n",
        "latex": lambda s: "\n\n".join(table.latex() for table in _tables(s)) + "\n",
    }
    if format not in writers:
        raise ValueError(f"no format {format!r}; there are: {', '.join(writers)}")
    return writers[format](scores)


def summary_table(scores: Scores) -> Table:
    """A row a tracker, best first: each measure's mean with its 95 % bootstrap interval over sequences.

    Trackers whose weights saw some of the sequences in training have a second row without those."""
    names, measures, summary = tracker_labels(scores.trackers), scores.convention.measures, scores.summary()
    rows = []
    for tracker, of in summary.groupby("tracker", sort=False):
        numbers = of.set_index("metric").loc[[m.name for m in measures]]
        count, seen = int(numbers["sequences"].iloc[0]), int(numbers["seen"].iloc[0])
        rows.append((names[tracker], *(_interval(row) for _, row in numbers.iterrows()), str(count)))
        if seen:
            values = (_number(v) for v in numbers["mean_unseen"])
            rows.append((f"{names[tracker]}, unseen", *values, str(count - seen)))
    header = ("tracker", *(f"{m.label} [95 %]" for m in measures), "sequences")
    return Table(f"Means; {_stated(scores)}", header, tuple(rows))


def sequence_table(scores: Scores, metric: str | None = None) -> Table:
    """One measure (by default the convention's first): a row a sequence, a column a tracker, the means below."""
    names, measure = tracker_labels(scores.trackers), scores.convention.measures[0]
    if metric is not None:
        measure = scores.convention.measure(metric)
    some_seen = any(scores.seen.values())
    values = scores.frame[scores.frame.metric == measure.name].set_index(["sequence", "tracker"]).value
    rows = []
    for sequence in values.index.unique("sequence"):
        marks = (_SEEN if sequence in scores.seen.get(tracker, ()) else "" for tracker in names)
        numbers = (_number(values.get((sequence, tracker))) for tracker in names)
        rows.append((sequence, *map(str.__add__, numbers, marks)))
    for name, unseen in [("mean", False), ("mean, unseen", True)][: 1 + some_seen]:
        rows.append((name, *(_number(scores.mean(tracker, unseen)[measure.name]) for tracker in names)))
    note = f"{_SEEN} the weights saw this sequence in training" if some_seen else ""
    caption = f"{measure.label[0].upper()}{measure.label[1:]} by sequence; {_stated(scores)}"
    return Table(caption, ("sequence", *names.values()), tuple(rows), note)


def _tables(scores: Scores) -> list[Table]:
    """The means, then by sequence the leading measure of each curve."""
    leading = {m.curve: m.name for m in reversed(scores.convention.measures)}
    by_sequence = [m.name for m in scores.convention.measures if leading[m.curve] == m.name]
    return [summary_table(scores), *(sequence_table(scores, metric) for metric in by_sequence)]


def tracker_labels(trackers: Iterable[str]) -> dict[str, str]:
    """Names to show: a run set's folder without its key, wherever that leaves the names distinct."""
    short = {tracker: _KEY.sub("", tracker) for tracker in trackers}
    count = Counter(short.values())
    return {tracker: name if count[name] == 1 else tracker for tracker, name in short.items()}


def data_label(scores: Scores) -> str:
    """What the numbers were measured on. Rendered sequences are called synthetic: never a benchmark's figure."""
    synthetic = " (synthetic)" if scores.dataset.startswith("rendered") else ""
    count = max(map(len, scores.curves.values()), default=0)
    return f"{scores.dataset}{synthetic}, {count} sequence{'s' * (count != 1)}"


def _stated(scores: Scores) -> str:
    return f"{scores.convention.name} convention ({scores.convention.toolkit}); {data_label(scores)}"


def _csv(scores: Scores) -> str:
    means = [
        (tracker, f"(mean{', unseen' * unseen})", None, metric, value)
        for tracker in scores.trackers
        for unseen in ([False, True] if scores.seen.get(tracker) else [False])
        for metric, value in scores.mean(tracker, unseen).items()
    ]
    frame = pd.concat([scores.frame, pd.DataFrame(means, columns=scores.frame.columns)])
    frame.insert(0, "convention", scores.convention.name)
    frame.insert(1, "dataset", scores.dataset)
    return frame.to_csv(index=False, lineterminator="\n")


def _number(value: float | None) -> str:
    return "–" if pd.isna(value) else f"{value:.4f}"


def _interval(row: pd.Series) -> str:
    bounds = "" if pd.isna(row["low"]) else f" [{row['low']:.3f}, {row['high']:.3f}]"
    return _number(row["mean"]) + bounds


_LATEX = {c: rf"\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
}


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(c, c) for c in text)

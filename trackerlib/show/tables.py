"""Scores as text: a table to read, CSV and JSON to compute with, LaTeX to print, HTML in the notebook.

Every form states its convention and its data, and marks what the weights saw in training. One set of tables serves
one-pass and supervised scores; what ranks trackers, and whether high or low is best, a measure says itself.
"""

from __future__ import annotations

import html
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pandas as pd

from ..bench.results import without_key
from ..config import near

if TYPE_CHECKING:
    from ..bench.conventions import Measure
    from ..bench.score import Scores
    from ..bench.vot import VotScores

    AnyScores = Scores | VotScores

_SEEN = "*"


@dataclass(frozen=True, repr=False)
class Table:
    """A captioned table of text; shows as HTML in a notebook and prints as aligned text.

    places: (row, column) of a cell to 1 (best) or 2 (second best): bold and underlined, or raised figures in text"""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    places: Mapping[tuple[int, int], int] = field(default_factory=dict)

    def __repr__(self) -> str:
        rows = self._marked(("{} ", "{}¹", "{}²") if self.places else ("{}",) * 3, str)
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows]
        lines.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join([self.caption, "", *lines, *self._notes("¹ best, ² second best")])

    def _repr_html_(self) -> str:
        rows = []
        for row in self._marked(("{}", "<b>{}</b>", "<u>{}</u>"), html.escape):
            tag, sides = "td" if rows else "th", ["left"] + ["right"] * (len(row) - 1)
            cells = (f"<{tag} style='text-align:{side}'>{cell}</{tag}>" for side, cell in zip(sides, row, strict=True))
            rows.append(f"<tr>{''.join(cells)}</tr>")
        notes = "".join(f"<p><small>{html.escape(note)}</small></p>" for note in self._notes(_PRINTED))
        caption = f"<caption style='text-align:left'>{html.escape(self.caption)}</caption>"
        return f"<table>{caption}<thead>{rows[0]}</thead><tbody>{''.join(rows[1:])}</tbody></table>{notes}"

    def latex(self) -> str:
        """A table environment for the booktabs package."""
        marked = self._marked(("{}", r"\textbf{{{}}}", r"\underline{{{}}}"), _escaped)
        head, *body = (" & ".join(row) + r" \\" for row in marked)
        caption = _escaped(" ".join([f"{self.caption}.", *(f"{note}." for note in self._notes(_PRINTED))]))
        lines = [rf"  \caption{{{caption}}}", rf"  \begin{{tabular}}{{l{'r' * (len(self.header) - 1)}}}"]
        lines += [f"    {line}" for line in (r"\toprule", head, r"\midrule", *body, r"\bottomrule")]
        return "\n".join([r"\begin{table}", r"  \centering", *lines, r"  \end{tabular}", r"\end{table}"])

    def _marked(self, forms: Sequence[str], write: Callable[[str], str]) -> list[list[str]]:
        """Header and rows; each cell written, then put into the form of its place (none, best, second)."""
        return [
            [forms[self.places.get((r, c), 0)].format(write(cell)) for c, cell in enumerate(row)]
            for r, row in enumerate((self.header, *self.rows), -1)
        ]

    def _notes(self, places: str) -> list[str]:
        return [note for note in (self.note, places if self.places else "") if note]


_PRINTED = "Bold: best; underlined: second best"  # in HTML and LaTeX


def render(scores: AnyScores, format: str = "table") -> str:
    """Scores in one of `FORMATS`; ValueError for another.

    `json` is `scores.json()`; `csv` the tidy long table, with means in rows whose sequence is `(mean)` or
    `(mean, unseen)`; `html` a page of its own."""
    if format not in FORMATS:
        raise ValueError(f"no format {format!r}; there are: {', '.join(FORMATS)}")
    return FORMATS[format](scores)


def summary_table(scores: AnyScores) -> Table:
    """A row a tracker, best first: each measure's mean with its 95 % bootstrap interval over sequences. Trackers whose
    weights saw some of the sequences in training have a second row without those."""
    names, measures = tracker_labels(scores.trackers), scores.convention.measures
    summary = scores.summary().set_index(["tracker", "metric"])
    rows = []
    for tracker in ranked(scores):
        numbers = summary.loc[tracker].loc[[m.name for m in measures]]
        count, seen = int(numbers["sequences"].iloc[0]), int(numbers["seen"].iloc[0])
        rows.append((names[tracker], *(_interval(numbers.loc[m.name], m) for m in measures), str(count)))
        if seen:
            values = (_number(numbers["mean_unseen"][m.name], m) for m in measures)
            rows.append((f"{names[tracker]}, unseen", *values, str(count - seen)))
    known = {m.name: bool(summary.xs(m.name, level="metric").low.notna().any()) for m in measures}
    header = (f"{m.label}{' ↓' * (m.best == 'low')}{' [95 %]' * known[m.name]}" for m in measures)
    return Table(f"Means; {stated(scores)}", ("tracker", *header, "sequences"), tuple(rows))


def sequence_table(scores: AnyScores, metric: str | None = None) -> Table:
    """One measure (by default see `part_measure`): a row a sequence, a column a tracker, the means below."""
    names, measure, some_seen = tracker_labels(scores.trackers), part_measure(scores, metric), any(scores.seen.values())
    values = scores.frame[scores.frame.metric == measure.name].set_index(["sequence", "tracker"]).value
    rows = []
    for sequence in values.index.unique("sequence"):
        marks = (_SEEN if sequence in scores.seen.get(tracker, ()) else "" for tracker in names)
        numbers = (_number(values.get((sequence, tracker)), measure) for tracker in names)
        rows.append((sequence, *map(str.__add__, numbers, marks)))
    total = "mean" if measure.best == "high" else "all"  # failures are summed
    for name, unseen in [(total, False), (f"{total}, unseen", True)][: 1 + some_seen]:
        rows.append((name, *(_number(scores.mean(tracker, unseen)[measure.name], measure) for tracker in names)))
    note = f"{_SEEN} the weights saw this sequence in training" if some_seen else ""
    caption = f"{capital(measure.label)} by sequence; {stated(scores)}"
    return Table(caption, ("sequence", *names.values()), tuple(rows), note)


def attribute_table(scores: AnyScores, metric: str | None = None) -> Table:
    """One measure (by default see `part_measure`): a row an attribute (in parentheses how many sequences carry it) or a
    tag, a column a tracker, best first; the last row is the mean over all. Best and second best of a row are marked."""
    names, measure = tracker_labels(scores.trackers), part_measure(scores, metric)
    order = ranked(scores, measure.name)
    values = attribute_values(scores, measure.name)[order]
    values.loc["all"] = [scores.mean(tracker)[measure.name] for tracker in order]
    rows, places = [], {}
    for r, (attribute, row) in enumerate(values.iterrows()):
        label = attribute if attribute == "all" else attribute_label(scores, attribute)
        rows.append((label, *(_number(value, measure) for value in row)))
        places |= {(r, c): place for c, place in _leaders(row, measure, first=1).items()}
    what = "tag" if scores.protocol == "supervised" else "attribute"
    caption = f"{capital(measure.label)} by {what}; {stated(scores)}"
    return Table(caption, (what, *(names[tracker] for tracker in order)), tuple(rows), places=places)


def protocol_table(of: Iterable[AnyScores], metric: str | None = None) -> Table:
    """The same trackers under several protocols (OPE, TRE, SRE): a row a tracker, ranked by the first one.

    A tracker is known by its label, for each protocol has its own result folder. ValueError when convention or data
    differ, or when a protocol comes twice: such numbers do not belong in one table."""
    of = list(of)
    if len({(scores.convention.name, data_label(scores)) for scores in of}) != 1:
        raise ValueError("these scores differ in convention or data: " + "; ".join(map(stated, of)))
    protocols = [scores.protocol for scores in of]
    if len(set(protocols)) < len(protocols):
        raise ValueError(f"a protocol comes twice: {', '.join(protocols)}; give each once")
    measure, cells, values = measure_of(of[0], metric), {}, {}
    for scores in of:
        summary = scores.summary().query("metric == @measure.name").set_index("tracker")
        for tracker, name in tracker_labels(scores.trackers).items():
            cells[name, scores.protocol] = _interval(summary.loc[tracker], measure)
            values[name, scores.protocol] = summary["mean"][tracker]
    first = tracker_labels(of[0].trackers)
    order = dict.fromkeys([*(first[t] for t in ranked(of[0], metric)), *(name for name, _ in cells)])
    rows = tuple((name, *(cells.get((name, p), "–") for p in protocols)) for name in order)
    places = {}
    for c, p in enumerate(protocols, 1):
        leaders = _leaders([values.get((name, p)) for name in order], measure)
        places |= {(r, c): place for r, place in leaders.items()}
    caption = f"{capital(measure.label)} [95 %] by protocol; {_by(of[0])}; {data_label(of[0])}"
    return Table(caption, ("tracker", *protocols), rows, places=places)


def comparison_table(scores: Scores, pairs: Iterable[tuple[str, str]] = (), metric: str | None = None) -> Table:
    """Is one tracker better than another? The mean over sequences of the difference in one measure (by default what
    ranks), its paired 95 % bootstrap interval, and the p-value of a sign-flip permutation test (`Scores.paired`).

    pairs: of trackers, the first minus the second; by default the best one and each of the others."""
    names, measure, order = tracker_labels(scores.trackers), measure_of(scores, metric), ranked(scores, metric)
    rows = []
    for a, b in list(pairs) or [(order[0], other) for other in order[1:]]:
        a, b = scores.named(a), scores.named(b)
        paired = scores.paired(a, b, measure.name)
        numbers = _interval({"mean": paired.difference, "low": paired.low, "high": paired.high}, measure)
        rows.append((f"{names[a]} − {names[b]}", numbers, f"{paired.p:.4f}", str(paired.sequences)))
    caption = f"Differences in {measure.label}; {stated(scores)}"
    note = "p: two-sided sign-flip permutation test over sequences, not corrected for the number of pairs"
    return Table(caption, ("trackers", "difference [95 %]", "p", "sequences"), tuple(rows), note)


def _tables(scores: AnyScores) -> list[Table]:
    """The means; by sequence the leading measure of each curve; by attribute what ranks, where sequences share one. Of
    supervised scores accuracy and failures, by sequence and by tag."""
    if scores.protocol == "supervised":
        kinds = [sequence_table, attribute_table][: 1 + (not scores.tags().empty)]
        parts = [table(scores, metric) for table in kinds for metric in ("accuracy", "failures")]
        return [summary_table(scores), *parts]
    leading = {m.curve: m.name for m in reversed(scores.convention.measures)}
    by_sequence = [m.name for m in scores.convention.measures if leading[m.curve] == m.name]
    carried = Counter(attribute for labels in scores.attributes.values() for attribute in labels)
    by_attribute = [attribute_table(scores)] if max(carried.values(), default=0) > 1 else []
    return [summary_table(scores), *(sequence_table(scores, metric) for metric in by_sequence), *by_attribute]


def tracker_labels(trackers: Iterable[str]) -> dict[str, str]:
    """Names to show: a run set's folder without its key, wherever that leaves the names distinct."""
    short = {tracker: without_key(tracker) for tracker in trackers}
    count = Counter(short.values())
    return {tracker: name if count[name] == 1 else tracker for tracker, name in short.items()}


def measure_of(scores: AnyScores, metric: str | None = None) -> Measure:
    """A measure of the scores' convention, by default the one that ranks, its first; ValueError for one it lacks."""
    measures = {m.name: m for m in scores.convention.measures}
    metric = metric or next(iter(measures))
    if metric not in measures:
        raise ValueError(f"the {scores.convention.name} convention has no {metric!r}{near(metric, measures)}")
    return measures[metric]


def ranked(scores: AnyScores, metric: str | None = None) -> list[str]:
    """The trackers, best first, by a measure (see `measure_of`) in its own direction; those without a value last."""
    measure = measure_of(scores, metric)
    values = pd.Series({tracker: scores.mean(tracker)[measure.name] for tracker in scores.trackers}, dtype=float)
    return list(values.sort_values(ascending=measure.best == "low", kind="stable").index)


def data_name(dataset: str) -> str:
    """A dataset's name. Rendered sequences are called synthetic: never a benchmark's figure."""
    return f"{dataset} (synthetic)" if "rendered" in dataset else dataset


def data_label(scores: AnyScores) -> str:
    """What the numbers were measured on."""
    count = scores.frame.sequence.nunique()
    return f"{data_name(scores.dataset)}, {count} sequence{'s' * (count != 1)}"


def stated(scores: AnyScores) -> str:
    """What every table and figure says of its numbers: by whose rules, on which data, under which protocol."""
    return f"{_by(scores)}; {data_label(scores)}, {scores.protocol}"


def _by(scores: AnyScores) -> str:
    return f"{scores.convention.name} convention ({scores.convention.toolkit})"


def part_measure(scores: AnyScores, metric: str | None = None) -> Measure:
    """What to show of single sequences, attributes and tags: the measure that ranks, but accuracy in VOT, whose EAO is
    one number of all sequences."""
    return measure_of(scores, metric or ("accuracy" if scores.protocol == "supervised" else None))


def attribute_values(scores: AnyScores, metric: str | None = None) -> pd.DataFrame:
    """A measure by attribute, or by tag: a row an attribute, a column a tracker (in the order of the scores);
    ValueError where nothing is known by attribute."""
    measure = part_measure(scores, metric)
    if scores.protocol == "supervised":
        long = scores.tags().query("tag != 'all'").rename(columns={"tag": "attribute", "value": "mean"})
    else:
        long = scores.by_attribute(measure.name)
    long = long[long.metric == measure.name]
    if long.empty:
        where = f"{scores.dataset}, {scores.convention.name} convention"
        raise ValueError(f"{where}: no {measure.label} by attribute; do attribute files lie beside the boxes?")
    return long.pivot(index="attribute", columns="tracker", values="mean").loc[long.attribute.unique(), scores.trackers]


def attribute_label(scores: AnyScores, attribute: str) -> str:
    """`OCC (49)`: how many sequences carry it. VOT's tags are of frames, and stand without a number."""
    if scores.protocol == "supervised":
        return attribute.replace("_", " ")
    return f"{attribute} ({sum(attribute in labels for labels in scores.attributes.values())})"


def _leaders(values: Iterable[float], measure: Measure, first: int = 0) -> dict[int, int]:
    """Position (the first one's given) of the best (1) and, among three or more, of the second best (2); equal as
    printed is equal."""
    known = {i: round(float(value), 4) for i, value in enumerate(values, first) if pd.notna(value)}
    order = sorted(set(known.values()), reverse=measure.best == "high")[: 1 + (len(known) > 2)]
    return {i: 1 + order.index(value) for i, value in known.items() if value in order and len(known) > 1}


def _csv(scores: AnyScores) -> str:
    means = [
        (tracker, f"(mean{', unseen' * unseen})", None, metric, value)
        for tracker in scores.trackers
        for unseen in ([False, True] if scores.seen.get(tracker) else [False])
        for metric, value in scores.mean(tracker, unseen).items()
    ]
    frame = pd.concat([scores.frame, pd.DataFrame(means, columns=scores.frame.columns)])
    frame.insert(0, "convention", scores.convention.name)
    frame.insert(1, "dataset", scores.dataset)
    frame.insert(2, "protocol", scores.protocol)
    return frame.to_csv(index=False, lineterminator="\n")


def _page(scores: AnyScores) -> str:
    head = f"<!DOCTYPE html>\n<meta charset='utf-8'>\n<title>{html.escape(stated(scores))}</title>\n"
    return head + "\n".join(table._repr_html_() for table in _tables(scores)) + "\n"


FORMATS: dict[str, Callable[[AnyScores], str]] = {
    "table": lambda scores: "\n\n".join(map(str, _tables(scores))) + "\n",
    "csv": _csv,
    "json": lambda scores: json.dumps(scores.json(), indent=1) + "\n",
    "latex": lambda scores: "\n\n".join(table.latex() for table in _tables(scores)) + "\n",
    "html": _page,
}


def _number(value: float | None, measure: Measure) -> str:
    """Four decimals of a share, two of a number that exceeds 1."""
    return "–" if pd.isna(value) else f"{value:.{4 if measure.high <= 1 else 2}f}"


def _interval(row: Mapping[str, float], measure: Measure) -> str:
    """Mean and interval, of a row of `scores.summary()`."""
    digits, low, high = 3 if measure.high <= 1 else 1, row["low"], row["high"]
    return _number(row["mean"], measure) + ("" if pd.isna(low) else f" [{low:.{digits}f}, {high:.{digits}f}]")


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


_LATEX = {c: rf"\{c}" for c in "&%$#_{}"} | {"–": "--", "−": "$-$", "↓": r"$\downarrow$"}
_LATEX |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}


def _escaped(text: str) -> str:
    return text.translate(str.maketrans(_LATEX))

"""What the papers report beside what we measured, with a computed verdict.

`data/claims.csv` holds every number and every ordering that the five papers report; a stage records what it measured
(`trackerlib.notebook.Stage.record`) under the same ids. A verdict is never typed by hand:

    not run          no finished stage recorded it
    not comparable   measured on data that is no registered benchmark (data/benchmarks.csv: digests of annotations),
                     above all on rendered sequences; or with weights that were trained on some of the test sequences
    reproduced       the reported value lies in our 95 % interval; for an ordering "A > B", all of the interval of the
                     paired difference A - B is above zero
    contradicted     it does not; for an ordering, all of the interval is below zero
    undecided        an ordering whose interval holds zero; an interval that is not finite
    no number        the paper shows a curve or a rank, and prints no value to compare with

Several stages may record one claim: each gets its row and its verdict.
"""

from __future__ import annotations

import csv
import html
import io
import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .config import near
from .provenance import write_text
from .resources import resource
from .stages import stage_names

KINDS = ("own", "rival", "ordering")
VERDICTS = ("reproduced", "contradicted", "undecided", "not comparable", "not run", "no number")


@dataclass(frozen=True)
class Claim:
    """A row of data/claims.csv.

    kind: `own` (of the paper's tracker), `rival` (of what it is compared with) or `ordering` (tracker: `A > B`);
    provenance: printed, derived (from printed percentages), recomputed (from public result files), released-code,
    in words, or not in text; value as printed, empty where only a curve is shown."""

    id: str
    kind: str
    paper: str
    place: str
    dataset: str
    protocol: str
    tracker: str
    metric: str
    value: str
    provenance: str
    note: str

    @property
    def number(self) -> float | None:
        try:
            return float(self.value)
        except ValueError:
            return None


def load_claims(path: Path | None = None) -> dict[str, Claim]:
    """All claims by id. Raises ValueError, naming file and line, for a repeated id or an unknown kind."""
    path = path or resource("data", "claims.csv")
    claims: dict[str, Claim] = {}
    with open(path, newline="") as f:
        for row in csv.DictReader(f):
            claim = Claim(**row)
            if claim.kind not in KINDS:
                raise ValueError(f"{path}: {claim.id}: kind {claim.kind!r}{near(claim.kind, KINDS)}")
            if claim.id in claims:
                raise ValueError(f"{path}: {claim.id} stands there twice")
            claims[claim.id] = claim
    return claims


def load_benchmarks(path: Path | None = None) -> dict[str, str]:
    """`Dataset.annotation_digest` of a registered benchmark to its name as claims.csv spells it."""
    with open(path or resource("data", "benchmarks.csv"), newline="") as f:
        return {row["digest"]: row["dataset"] for row in csv.DictReader(f)}


def collect(results: Path) -> dict[str, list[dict[str, Any]]]:
    """Every number that the finished stages under results/<profile> recorded: name to its records, each with its
    `stage`."""
    found: dict[str, list[dict[str, Any]]] = {}
    for stage, manifest in _manifests(results).items():
        for name, record in manifest["metrics"].items():
            found.setdefault(name, []).append({**record, "stage": stage})
    return found


def left_out(results: Path) -> list[str]:
    """Finished stages under results/<profile> that stages.yaml no longer has: nothing of theirs is reported."""
    return sorted(set(_finished(results)) - stage_names())


def _manifests(results: Path) -> dict[str, dict[str, Any]]:
    known = stage_names()
    return {stage: manifest for stage, manifest in _finished(results).items() if stage in known}


def _finished(results: Path) -> dict[str, dict[str, Any]]:
    """The manifests of finished stages by stage (a run set of the benchmark keeps another file of that name)."""
    found = {}
    for path in sorted(results.rglob("manifest.json")):
        manifest = json.loads(path.read_text())
        if "stage" in manifest and results / manifest["stage"] == path.parent:
            found[manifest["stage"]] = manifest
    return found


def verdict(claim: Claim, record: Mapping[str, Any] | None, benchmarks: Mapping[str, str]) -> str:
    """One of VERDICTS; see the head of this module."""
    if claim.kind != "ordering" and claim.number is None:
        return "no number"
    if record is None:
        return "not run"
    if benchmarks.get(record["dataset_digest"]) != claim.dataset or record.get("seen"):
        return "not comparable"
    low, high = record["interval"] or (math.nan, math.nan)
    if not (math.isfinite(low) and math.isfinite(high)):
        return "undecided"
    if claim.kind == "ordering":
        return "reproduced" if low > 0 else "contradicted" if high < 0 else "undecided"
    return "reproduced" if low <= claim.number <= high else "contradicted"


def compare(results: Path) -> list[dict[str, Any]]:
    """What the paper reports, what a stage under results/<profile> found, and the verdict: a row for each record of a
    claim, one with `ours` None for a claim that none recorded."""
    records, benchmarks = collect(results), load_benchmarks()
    return [
        {**asdict(claim), **_ours(record or {}), "verdict": verdict(claim, record, benchmarks)}
        for claim in load_claims().values()
        for record in records.get(claim.id, [None])
    ]


def measured(results: Path) -> list[dict[str, Any]]:
    """The recorded numbers that are no claims, by stage; `data` says so where the data is no benchmark."""
    ids, benchmarks, rows = load_claims(), load_benchmarks(), []
    for name, records in collect(results).items():
        for record in records if name not in ids else ():
            data = record["dataset"]
            label = data and (data if record["dataset_digest"] in benchmarks else _incomparable(data))
            row = {"name": name, **_ours(record), "data": label}
            rows.append({"value" if column == "ours" else column: value for column, value in row.items()})
    return sorted(rows, key=lambda row: row["stage"])


def _ours(record: Mapping[str, Any]) -> dict[str, Any]:
    low, high = record.get("interval") or (None, None)
    facts = {column: record.get(column) for column in ("n", "seen", "convention", "stage")}
    return {"ours": record.get("value"), "low": low, "high": high, **facts, "our_data": record.get("dataset")}


def _incomparable(data: str) -> str:
    kind = "rendered" if data.startswith("rendered") else "unregistered"
    return f"{kind} data: not comparable ({data})"


def headline(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """How many of the papers' own claims and orderings got each verdict; what prints no number is not counted.

    A claim of several rows counts once: as the verdict of those that are comparable, `undecided` when these differ."""
    found: dict[str, set[str]] = {}
    for row in rows:
        if row["kind"] != "rival" and row["verdict"] != "no number":
            found.setdefault(row["id"], set()).add(row["verdict"])
    compared = [verdicts - {"not comparable"} or verdicts for verdicts in found.values()]
    counted = Counter(verdicts.pop() if len(verdicts) == 1 else "undecided" for verdicts in compared)
    return {v: counted[v] for v in VERDICTS if v != "no number"}


def sentence(rows: Iterable[Mapping[str, Any]]) -> str:
    counts = headline(rows)
    return f"{sum(counts.values())} claims: " + ", ".join(f"{n} {v}" for v, n in counts.items())


def write_report(results: Path) -> tuple[Path, Path]:
    """Write report.html (self-contained but for the figures beside it) and report.csv into results/<profile>."""
    rows = compare(results)
    table = io.StringIO()
    writer = csv.DictWriter(table, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    page, sheet = results / "report.html", results / "report.csv"
    for stage in left_out(results):
        print(f"{results / stage}: left out, no stage of that name is in stages.yaml any more")
    write_text(sheet, table.getvalue())
    write_text(page, _page(results, rows))
    return page, sheet


_STYLE = """body{font:15px/1.45 system-ui,sans-serif;max-width:76rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;font-size:13px}td,th{padding:.2rem .6rem;border-bottom:1px solid #ddd;text-align:left}
td.r{text-align:right;font-variant-numeric:tabular-nums}img{max-width:36rem;display:block;margin:.5rem 0}
.reproduced{color:#176d2f}.contradicted{color:#a01818}.undecided{color:#7a5a00}summary{cursor:pointer;margin:.8rem 0}"""


def _page(results: Path, rows: list[dict[str, Any]]) -> str:
    profile = results.resolve().name
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>trackerlib: {profile}</title><style>{_STYLE}</style>",
        f"<h1>Reported beside measured, profile {html.escape(profile)}</h1>",
        f"<p>{sentence(rows)}.</p><p>Counted are the papers' own claims and orderings. A number from rendered "
        "sequences is no benchmark number, nor is one of weights trained on test sequences (<i>seen</i>, of the n): "
        "both stand here as <i>not comparable</i>.</p>",
        "<h2>Measured by these stages</h2>",
        _html_table(measured(results), ("stage", "name", "value", "low", "high", "n", "seen", "convention", "data")),
        f"<p>Left out, in stages.yaml no more: {html.escape(', '.join(left_out(results)) or 'none')}.</p>",
        "<h2>Claims</h2>",
    ]
    reported = ("place", "dataset", "protocol", "tracker", "metric", "value", "provenance")
    columns = (*reported, "ours", "low", "high", "n", "seen", "our_data", "stage", "verdict")
    for paper in dict.fromkeys(row["paper"] for row in rows):
        for title, kinds in (("own claims and orderings", ("own", "ordering")), ("rivals", ("rival",))):
            some = [row for row in rows if row["paper"] == paper and row["kind"] in kinds]
            summary = f"{paper}: {len({row['id'] for row in some})} {title}" + (
                f" ({sentence(some)})" if "own" in kinds else ""
            )
            table = _html_table(some, columns)
            parts.append(f"<details{' open' if 'own' in kinds else ''}><summary>{summary}</summary>{table}</details>")
    parts += ["<h2>Figures</h2>", *_figures(results)]
    return "\n".join(parts) + "\n"


def _html_table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> str:
    if not rows:
        return "<p>None.</p>"
    head = "".join(f"<th>{name.replace('_', ' ')}" for name in columns)
    lines = ("<tr>" + "".join(_html_cell(name, row[name]) for name in columns) for row in rows)
    return f"<table><tr>{head}" + "\n".join(lines) + "</table>"


def _html_cell(name: str, value: Any) -> str:
    if isinstance(value, float):
        return f"<td class=r>{value:.4g}"
    style = f" class={value}" if name == "verdict" and " " not in value else ""
    return f"<td{style}>{'' if value is None else html.escape(str(value))}"


def _figures(results: Path) -> Iterable[str]:
    """Figures that stages left as PNG, by reference, and the executed notebooks that hold the others."""
    for stage in _manifests(results):
        yield f"<h3>{html.escape(stage)}</h3><p><a href='{stage}/executed.ipynb'>executed notebook</a></p>"
        for path in sorted((results / stage).glob("*.png")):
            relative = html.escape(os.path.relpath(path, results))
            yield f"<img src='{relative}' alt='{html.escape(path.stem)}' loading=lazy>"

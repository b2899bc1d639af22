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
"""

import html
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

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


def load_claims() -> dict[str, Claim]:
    """All claims by id. Raises ValueError, naming file and claim, for a repeated id or an unknown kind."""
    path = resource("data", "claims.csv")
    claims: dict[str, Claim] = {}
    for claim in (Claim(**row) for row in _rows(path)):
        if claim.kind not in KINDS or claim.id in claims:
            raise ValueError(f"{path}: {claim.id}: stands there twice, or its kind {claim.kind!r} is none of {KINDS}")
        claims[claim.id] = claim
    return claims


def load_benchmarks() -> dict[str, str]:
    """`Dataset.annotation_digest` of a registered benchmark to its name as claims.csv spells it."""
    return {row["digest"]: row["dataset"] for row in _rows(resource("data", "benchmarks.csv"))}


def _rows(path: Path) -> list[dict[str, str]]:
    return pd.read_csv(path, dtype=str, keep_default_na=False).to_dict("records")


def collect(results: Path) -> dict[str, list[dict[str, Any]]]:
    """Every number that the finished stages under results/<profile> recorded: name to its records, each with its
    `stage`."""
    found: dict[str, list[dict[str, Any]]] = {}
    known = stage_names()
    for stage, manifest in _finished(results).items():
        for name, record in manifest["metrics"].items() if stage in known else ():
            found.setdefault(name, []).append({**record, "stage": stage})
    return found


def left_out(results: Path) -> list[str]:
    """Finished stages under results/<profile> that stages.yaml no longer has: nothing of theirs is reported."""
    return sorted(_finished(results).keys() - stage_names())


def _finished(results: Path) -> dict[str, dict[str, Any]]:
    """The manifests of finished stages by stage (a run set of the benchmark keeps another file of that name)."""
    read = {path: json.loads(path.read_text()) for path in sorted(results.rglob("manifest.json"))}
    return {m["stage"]: m for path, m in read.items() if "stage" in m and results / m["stage"] == path.parent}


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
            ours, data = _ours(record), record["dataset"]
            if data and record["dataset_digest"] not in benchmarks:
                kind = "rendered" if data.startswith("rendered") else "unregistered"
                data = f"{kind} data: not comparable ({data})"
            rows.append({"name": name, "value": ours.pop("ours"), **ours, "data": data})
    return sorted(rows, key=lambda row: row["stage"])


def _ours(record: Mapping[str, Any]) -> dict[str, Any]:
    low, high = record.get("interval") or (None, None)
    facts = {column: record.get(column) for column in ("n", "seen", "convention", "stage")}
    return {"ours": record.get("value"), "low": low, "high": high, **facts, "our_data": record.get("dataset")}


def disputed(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The printed numbers that other published ones contradict, as their notes tell; each once."""
    columns = ("paper", "place", "tracker", "metric", "value", "note")
    once = {row["id"]: row for row in rows if row["note"].startswith("contradicts")}
    return [{c: row[c] for c in columns} for row in once.values()]


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
    rows, gone = compare(results), left_out(results)
    for stage in gone:
        print(f"{results / stage}: left out, no stage of that name is in stages.yaml any more")
    page, sheet = results / "report.html", results / "report.csv"
    write_text(sheet, pd.DataFrame(rows, dtype=object).to_csv(index=False))
    write_text(page, _page(results, rows, gone))
    return page, sheet


_STYLE = """body{font:15px/1.45 system-ui,sans-serif;max-width:76rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;font-size:13px}td,th{padding:.2rem .6rem;border-bottom:1px solid #ddd;text-align:left}
td.r{text-align:right;font-variant-numeric:tabular-nums}img{max-width:36rem;display:block;margin:.5rem 0}
.reproduced{color:#176d2f}.contradicted{color:#a01818}.undecided{color:#7a5a00}summary{cursor:pointer;margin:.8rem 0}"""


def _page(results: Path, rows: list[dict[str, Any]], gone: list[str]) -> str:
    profile = results.resolve().name
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>trackerlib: {profile}</title><style>{_STYLE}</style>",
        f"<h1>Reported beside measured, profile {html.escape(profile)}</h1>",
        f"<p>{sentence(rows)}.</p><p>Counted are the papers' own claims and orderings. A number from rendered "
        "sequences is no benchmark number, nor is one of weights trained on test sequences (<i>seen</i>, of the n): "
        "both stand here as <i>not comparable</i>.</p>",
        "<h2>Measured by these stages</h2>",
        _table(measured(results), ("stage", "name", "value", "low", "high", "n", "seen", "convention", "data")),
        f"<p>Left out, in stages.yaml no more: {html.escape(', '.join(gone) or 'none')}.</p>",
        "<h2>Printed numbers that other published ones contradict</h2>",
        _table(disputed(rows), ("paper", "place", "tracker", "metric", "value", "note")),
        "<h2>Claims</h2>",
    ]
    reported = ("place", "dataset", "protocol", "tracker", "metric", "value", "provenance")
    columns = (*reported, "ours", "low", "high", "n", "seen", "our_data", "stage", "verdict")
    for paper in dict.fromkeys(row["paper"] for row in rows):
        for rival, title in ((False, "own claims and orderings"), (True, "rivals")):
            some = [row for row in rows if row["paper"] == paper and (row["kind"] == "rival") == rival]
            opened, counts = ("", "") if rival else (" open", f" ({sentence(some)})")
            summary = f"{paper}: {len({row['id'] for row in some})} {title}{counts}"
            parts.append(f"<details{opened}><summary>{summary}</summary>{_table(some, columns)}</details>")
    return "\n".join([*parts, "<h2>Figures</h2>", *_figures(results, gone)]) + "\n"


def _table(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> str:
    if not rows:
        return "<p>None.</p>"
    head = "".join(f"<th>{name.replace('_', ' ')}" for name in columns)
    lines = ("<tr>" + "".join(_cell(name, row[name]) for name in columns) for row in rows)
    return f"<table><tr>{head}" + "\n".join(lines) + "</table>"


def _cell(name: str, value: Any) -> str:
    if isinstance(value, float):
        return f"<td class=r>{value:.4g}"
    style = f" class={value}" if name == "verdict" and " " not in value else ""
    return f"<td{style}>{'' if value is None else html.escape(str(value))}"


def _figures(results: Path, gone: list[str]) -> Iterable[str]:
    """Figures that stages left as PNG, by reference, and the executed notebooks that hold the others."""
    for stage in sorted(_finished(results).keys() - gone):
        yield f"<h3>{html.escape(stage)}</h3><p><a href='{stage}/executed.ipynb'>executed notebook</a></p>"
        for path in sorted((results / stage).glob("*.png")):
            relative = html.escape(str(path.relative_to(results)))
            yield f"<img src='{relative}' alt='{html.escape(path.stem)}' loading=lazy>"

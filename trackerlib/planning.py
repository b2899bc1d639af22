"""How long, and how much disk, each paper's whole reproduction takes: arithmetic on measured rates (`plan`, `page`).

`planning_counts` says what there is to do. Here every kind of work gets four times: the GPU's arithmetic, its memory,
what decodes and reads for it, and the process that drives it. At best they all overlap and the longest counts; at worst
none does and they add up. A GPU's rate is its published peak times a share that is assumed, until the rates hold one
that `bench` measured on CUDA."""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from .planning_counts import PAPERS, SETS, Range, Work, measured, networks, works
from .resources import resource

RATES = Path(__file__).resolve().parents[1] / "results" / "showcase" / "planning_rates.json"  # of a checkout
PEAKS = {  # TFLOP/s dense, and TB/s of memory; NVIDIA's data sheets of H100 SXM and H200 SXM (half of its sparse 1,979)
    "H100": {"fp32": 67.0, "bf16": 989.0, "memory": 3.35},
    "H200": {"fp32": 67.0, "bf16": 989.0, "memory": 4.8},
}
SHARE: Range = (0.30, 0.05)  # of a GPU's peak in arithmetic, at best and at worst
MEMORY_SHARE: Range = (0.8, 0.3)  # of its memory's rate
SLOWER = 3.0  # photographs than the frames that were decoded, at worst
EXCHANGE = 300e9  # bytes a second of gradients between GPUs
PARTS = ("GPU", "GPU memory", "reading", "host")
ASSUMED = """\
- **A GPU reaches 5 % to 30 % of its peak.** Peaks are NVIDIA's, of H100 SXM and H200 SXM: 67 TFLOP/s in fp32, 989 in
  dense bf16 (the data sheet prints 1,979, with sparsity), 3.35 and 4.8 TB/s of memory, of which 80 % to 30 % are
  reached. Small batches are why the shares are low: SiamFC's has 8 pairs.
- **Arithmetic is fp32**, as the `paper` profiles have it; the column *bf16* is the same with the other peak. TF32,
  which PyTorch lets convolutions use, lies between.
- **A training step is three forward passes**, and moves the network's weights through memory six times (SGD) or
  eight (Adam), and twice more for every frame of a window. Activations are not counted: the low share of peak stands
  for them.
- **16 cores a GPU**, each as fast as one of the machine below. Crops are cut by 16 processes at best, by one at
  worst (`data prepare --workers 16`; a notebook uses one); trackers' frames are decoded by 16 threads at best and by
  the engine's four at worst; a training reads with its profile's `workers`.
- **Photographs decode up to three times slower** than the enlarged rendered frames that were measured (20 public
  clips did); decoding goes by pixels, and frames have the sizes below.
- **The host's time a step** was measured where crops, Fourier transforms and correlations are the processor's own
  work. With a GPU they are not, and several workers may share it: at best a sixteenth of that time counts, at worst
  all. A training step's counts in full: that of a narrow network on one sample, taken to be the same for any batch.
- **At best all of this overlaps** and the longest counts; **at worst nothing does** and the times add up.
- **Eight GPUs**: a training's batch is shared by as many as divide it (GOTURN's 50 by five, ROLO's of 1 by one),
  each with 16 cores; the host's time a step and the weights' way through memory stay as they are, and gradients take
  2 (n - 1) / n of the parameters' bytes at 300 GB/s. Evaluation gains eight times half of what two workers gain
  here. This is what `trackerlib.cluster` and torchrun can do. Of the notebooks only siamfc/1_train has `processes`:
  the others run on one GPU each, and `run` can place different stages on different GPUs.
- **Protocols**: TRE's runs cover half of a video each on average; VOT's supervised runs are three, since our
  trackers repeat themselves, and all frames count, though some are skipped after a failure.
- **Disk**: a result takes 40 bytes a box; a training leaves its weights and one checkpoint; crops are packed raw, as
  the notebooks do, of one target a frame. ImageNet VID's archive holds its test videos too.

Not counted: rendered validation sequences, figures, tables and reports (minutes); DSiam's VGG-19, which is optional;
the first frames of runs; downloads and unpacking. `dsiam/5_inside` and `siamemory/5_recovery` are counted as if
every sequence qualified. GSTP's frames are counted at 1280 x 720; small targets make it read up to 1333 pixels, 8 %
more. `rolo/1_features` is run by the graph, though with the published detector (`given`) no stage reads what it
makes. `rolo/3_lstm` and `rolo/5_step_size` hold the features of all frames of GOT-10k in main memory, 23 GB."""


def read_rates(files: Iterable[str | Path] = ()) -> dict[str, Any]:
    """The rates of one or several files that `bench --json` wrote, later ones rule; of none: those of `RATES`.

    Raises FileNotFoundError, ValueError."""
    found: dict[str, Any] = {}
    for file in list(files) or [RATES]:
        try:
            found |= json.loads(Path(file).read_text())
        except (ValueError, TypeError):
            raise ValueError(f"{file}: not what bench --json writes") from None
    return found


def plan(rates: Mapping[str, Any], device: str = "H100", gpus: int = 1, precision: str = "fp32") -> pd.DataFrame:
    """A row a kind of work of a stage: `count` of `unit`, `gflop` each, `pflop` in all, the rate (`tflops_best`,
    `_worst`), hours of each of `PARTS`, hours in all (`best`, `worst`), what `bound`s them, `disk_gb` that are left.

    rates: what `bench --json` wrote (`read_rates`); device: one of `PEAKS`; precision: fp32 or bf16.
    Raises KeyError naming the bench that gives a missing rate, ValueError for an unknown device or number of GPUs."""
    if device not in PEAKS or precision not in ("fp32", "bf16") or gpus < 1:
        raise ValueError(
            f"plan knows {', '.join(PEAKS)}, fp32 and bf16, and a GPU or more, not {device}, {precision}, {gpus}"
        )
    return pd.DataFrame([_row(work, rates, PEAKS[device], gpus, precision) for work in works(rates)])


def _row(work: Work, rates: Mapping[str, Any], peaks: Mapping[str, float], gpus: int, precision: str) -> dict[str, Any]:
    known = rates.get(f"cuda.{work.figure}") if precision == "fp32" else None  # which `bench` measures in
    shares = SHARE if known is None else (known, known)
    rate = [1e12 * peaks[precision] * share for share in shares]
    ways, steps = spread(work, gpus, rates), work.count / work.batch if work.batch else 0.0
    driven = work.count * work.host / (1 if work.batch else ways)
    exchanged = steps * 2 * (ways - 1) / ways * 4 * work.parameters / EXCHANGE / 3600 if work.batch else 0.0
    row = {"stage": work.stage, "work": work.what, "count": work.count, "unit": work.unit, "gflop": work.gflop}
    row |= {"pflop": work.count * work.gflop / 1e6, "tflops_best": rate[0] / 1e12, "tflops_worst": rate[1] / 1e12}
    row |= {"gpus": ways, "reading_ms": 1e3 * work.reading, "readers_best": work.readers[0]}
    row |= {"readers_worst": work.readers[1], "host_ms": 1e3 * work.host, "exchange": exchanged}
    for end, k in (("best", 0), ("worst", 1)):
        seconds = {
            "GPU": work.count * work.gflop * 1e9 / rate[k] / ways,
            "GPU memory": steps * work.traffic / (1e12 * peaks["memory"] * MEMORY_SHARE[k]),
            "reading": work.count * (work.reading + k * (SLOWER - 1) * work.decoding) / work.readers[k] / ways,
            "host": driven / work.hosts[k],
        }
        row |= {f"{part}_{end}": took / 3600 for part, took in seconds.items()}
        row[end] = (max, sum)[k](seconds.values()) / 3600 + exchanged
        row[f"bound_{end}"] = max(seconds, key=seconds.__getitem__)
    best, worst = row.pop("bound_best"), row.pop("bound_worst")
    return row | {"bound": best if best == worst else f"{best}; at worst {worst}", "disk_gb": work.disk / 1e9}


def by_stage(rows: pd.DataFrame) -> pd.DataFrame:
    """A row a stage: hours `best` and `worst`, the part that `bound`s it at best and at worst, `disk_gb`."""
    parts = [f"{part}_{end}" for part in PARTS for end in ("best", "worst")]
    found = rows.groupby("stage", sort=False)[["best", "worst", "disk_gb", *parts]].sum()
    ends = [
        found[[f"{part}_{end}" for part in PARTS]].idxmax(axis=1).str.split("_").str[0] for end in ("best", "worst")
    ]
    return found.assign(bound=[a if a == b else f"{a}; at worst {b}" for a, b in zip(*ends, strict=True)]).reset_index()


def one_stage_each(rows: pd.DataFrame, paper: str, end: str) -> float:
    """Hours when every stage has a GPU of its own as soon as what it needs is done (`run` does so)."""
    graph = yaml.safe_load(resource("notebooks", "stages.yaml").read_text())
    hours = rows.groupby("stage")[end].sum()

    def until(stage: str) -> float:
        ways = [len(values) for values in (graph[stage] or {}).get("for", {}).values()]
        needs = (until(need) for need in (graph[stage] or {}).get("needs", ()))
        return hours.get(stage, 0.0) / math.prod(ways) + max(needs, default=0.0)

    return max(until(stage) for stage in graph if stage.startswith(f"{paper}/") or (not paper and "/" in stage))


def spread(work: Work, gpus: int, rates: Mapping[str, Any]) -> float:
    """As how many GPUs so many are worth: of a training those that divide its batch, else the cluster's efficiency."""
    if work.batch:
        return max(n for n in range(1, gpus + 1) if work.batch % n == 0)
    return gpus * measured(rates, "cluster_2_vs_1") / 2 if gpus > 1 else 1.0


def page(rates: Mapping[str, Any], device: str = "H100") -> str:
    """The planning page in Markdown: the totals, every assumption, every measured rate, and each paper's arithmetic."""
    one, eight, half = plan(rates, device), plan(rates, device, 8), plan(rates, device, 1, "bf16")
    machine = rates.get("machine", "a machine that the file does not name")
    rolo = [of[of.stage.str.startswith("rolo/")] for of in (one, plan(rates, "H200"))]
    rest, other = (
        _span(of.best.sum(), of.worst.sum()) for of in (rolo[0][rolo[0].stage != "rolo/1_features"], rolo[1])
    )
    parts = [
        "# What a full reproduction takes",
        f"Computed by `python -m trackerlib plan`: {len(one)} kinds of work, counted from the `paper` profiles and the "
        f"networks, times rates.\n{_caveat(rates)}\nWhat a core does was measured, on {machine}. Hours run from *at "
        "best* to *at worst*, as told below.",
        f"## Totals, {device}",
        _totals(one, eight, half),
        "*All at each stage* spreads a stage's batches and runs over eight GPUs; *one a stage* is how long the longest "
        "chain of stages takes.\nData sets that papers share are counted in each, and once in the last row. Packed as "
        f"JPEG of quality 90 crops take {_number(_jpeg(rates))} of that, if they are as smooth as rendered ones; "
        "photographs take more.\nROLO without 1_features, whose weights no stage reads where the published detector is "
        f"given: {rest} hours on a GPU. On an H200, whose memory alone is faster, all of ROLO takes {other} hours.",
        f"## What is assumed\n\n{ASSUMED}",
        f"## What was measured\n\n{_measured(rates)}",
        "## What a pass of a network takes",
        _table(("network", "GFLOP", "parameters"), ((n, f"{g:.2f}", f"{p:,}") for n, (g, p) in networks().items())),
        "Numbers in names are the side of the input, in pixels; *siamrcnn frame* is one of 1280 x 720 with 300 RoIs, "
        "*pair* two of 1344 x 800 with 128. A multiplication and an addition are two. Fourier transforms do not count.",
        "## What the data take",
        _table(
            ("data", "frames", "megapixels, assumed", "GB", "from"),
            ((n, f"{s.frames:,}", s.megapixels, f"{s.gigabytes:.1f}", s.source) for n, s in SETS.items()),
        ),
    ]
    parts += [f"## The arithmetic\n\n{_worked(one)}"]
    for paper in PAPERS:
        rows = [of[of.stage.str.startswith(f"{paper}/")] for of in (one, eight)]
        parts += [f"### {paper}", _stages(*rows), _arithmetic(*rows)]
    return "\n\n".join(parts) + "\n"


def _caveat(rates: Mapping[str, Any]) -> str:
    found = [name for name in rates if name.startswith("cuda.") and name.endswith("share_of_peak")]
    if found:
        return (
            f"Measured on a GPU in fp32, in place of the assumed shares of its peak (`bench` measured them of the peak "
            f"that it reached, here they are taken of the published one): {', '.join(found)}."
        )
    return "**No GPU was at hand: the GPU hours are arithmetic on a published peak, not a measurement.**"


def data_of(rows: pd.DataFrame) -> float:
    """1e9 bytes of the data sets that these rows read, each once; OTB-100 holds OTB-2013 and OTB-30."""
    names = {name for name in SETS for what in rows.work if what.endswith(f" {name}")} - {"otb30"}
    names |= {"imagenet-vid"} if rows.work.str.contains("DSiam").any() else set()
    names |= {"got10k-train"} if rows.work.str.contains("SiamRCNN").any() else set()
    return sum(SETS[name].gigabytes for name in names - ({"otb2013"} if "otb100" in names else set()))


def _jpeg(rates: Mapping[str, Any]) -> float:
    return measured(rates, "bytes_per_crop_jpeg") / measured(rates, "bytes_per_crop")


def _totals(one: pd.DataFrame, eight: pd.DataFrame, half: pd.DataFrame) -> str:
    head = ("paper", "1 GPU, h", "8 GPUs, all at each stage, h", "8 GPUs, one a stage, h", "1 GPU in bf16, h")
    head += ("bound at best", "data, GB", "crops, GB", "other, GB", "disk, GB")
    rows = []
    for paper in (*PAPERS, ""):
        of, on_eight, in_half = (each[each.stage.str.startswith(paper)] for each in (one, eight, half))
        spans = [_span(each.best.sum(), each.worst.sum()) for each in (of, on_eight, in_half)]
        spans.insert(2, _span(*(one_stage_each(of, paper, end) for end in ("best", "worst"))))
        bound = max(PARTS, key=lambda part, of=of: of[f"{part}_best"].sum())
        data, crops, left = data_of(of), of[of.work.str.startswith("cut")].disk_gb.sum(), of.disk_gb.sum()
        disk = (f"{data:,.0f}", f"{crops:,.0f}", f"{left - crops:,.1f}", f"{data + left:,.0f}")
        rows.append((paper or "**all**", *spans, bound, *disk))
    return _table(head, rows)


def _measured(rates: Mapping[str, Any]) -> str:
    wanted = ("_second", "host_ms", "bytes_per", "cluster_2_vs_1", "decodings", "share_of_peak")
    names = [n for n in rates if any(word in n for word in wanted) and not n.endswith("__of") and "killed" not in n]
    rows = ((name, _number(rates[name]), rates.get(f"{name}__of", "")) for name in names)
    note = "Shares of peak are of this processor's own measured peak and stand here for comparison only.\n\n"
    return note + _table(("rate", "value", "what it is"), rows)


def _worked(one: pd.DataFrame) -> str:
    """The columns of one row in words."""
    r = one[one.gflop > 0].iloc[0]
    hours = {part: _span(r[f"{part}_best"], r[f"{part}_worst"]) for part in PARTS}
    return (
        f"For example `{r.stage}`, {r.work}: {r['count']:,.0f} {r.unit} x {r.gflop:.2f} GFLOP = "
        f"{_number(r.pflop)} PFLOP.\nOver {_number(r.tflops_best)} to {_number(r.tflops_worst)} TFLOP/s that is "
        f"{hours['GPU']} hours of the GPU. Reading: {r.reading_ms:.2f} ms each / {r.readers_best:.0f} processes = "
        f"{hours['reading']} hours.\nHost: {r.host_ms:.2f} ms each = {hours['host']} hours. Weights through memory: "
        f"{hours['GPU memory']} hours. At best the longest, {_number(r.best)}; at worst the sum, {_number(r.worst)}."
    )


def _stages(one: pd.DataFrame, eight: pd.DataFrame) -> str:
    stages = zip(by_stage(one).itertuples(), by_stage(eight).itertuples(), strict=True)
    rows = ((r.stage, _span(r.best, r.worst), _span(e.best, e.worst), r.bound, _number(r.disk_gb)) for r, e in stages)
    return _table(("stage", "1 GPU, h", "8 GPUs, h", "bound", "disk left, GB"), rows)


def _arithmetic(one: pd.DataFrame, eight: pd.DataFrame) -> str:
    head = ("stage", "work", "count", "GFLOP each", "PFLOP", "GPU, h", "GPU memory, h", "reading: ms each", "by", "h")
    head += ("host: ms each", "h", "1 GPU, h", "bound", "worth of 8", "8 GPUs, h", "disk, GB")
    rows = []
    for (_, r), (_, e) in zip(one.iterrows(), eight.iterrows(), strict=True):
        hours = {part: _span(r[f"{part}_best"], r[f"{part}_worst"]) for part in PARTS}
        readers = f"{r.readers_best} to {r.readers_worst}" if r.readers_best != r.readers_worst else f"{r.readers_best}"
        row = (
            r.stage.split("/")[1],
            r.work,
            f"{r['count']:,.0f} {r.unit}",
            f"{r.gflop:.2f}",
            _number(r.pflop),
            hours["GPU"],
        )
        row += (
            hours["GPU memory"],
            f"{r.reading_ms:.2f}",
            readers,
            hours["reading"],
            f"{r.host_ms:.2f}",
            hours["host"],
        )
        row += (f"**{_span(r.best, r.worst)}**", r.bound, _number(e.gpus), _span(e.best, e.worst), _number(r.disk_gb))
        rows.append(row)
    return _table(head, rows)


def _number(value: float) -> str:
    """Two digits that count, without an exponent."""
    value = float(f"{float(value):.2g}")
    return "0" if not value else f"{value:,.0f}" if abs(value) >= 10 else f"{value:.12f}".rstrip("0").rstrip(".")


def _span(low: float, high: float) -> str:
    low, high = (_number(max(v, 0) if v >= 0.005 else 0) for v in (low, high))
    return low if low == high else f"{low} to {high}"


def _table(head: Iterable[Any], rows: Iterable[Iterable[Any]]) -> str:
    lines = [list(map(str, head))]
    lines += [["---"] * len(lines[0]), *(list(map(str, row)) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

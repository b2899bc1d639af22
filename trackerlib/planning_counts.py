"""What the whole reproduction of each paper has to do, counted: its `paper` profile as kinds of work (`works`).

A stage is one kind of work or several. How many units comes from its profile and its notebook's defaults, the
multiplications and additions of a unit from the networks themselves at their published sizes (on torch's meta device,
where nothing is computed), what a processor does for a unit from `bench` on this machine. `planning` makes hours of
it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

from .baselines.goturn import GOTURN
from .bench.speed_search import FRAME
from .data import BENCHMARKS
from .gstp import STRIDE, MotionModel, SiamRCNN
from .nn.squeezenet import SqueezeNet
from .nn.yolo import YOLO, Classifier
from .parameters import resolved
from .resources import resource
from .rolo import Memory
from .siamemory import AllConv
from .siamemory import Memory as SiaMemoryLSTM
from .siamfc import SiamFC

Range = tuple[float, float]
PAPERS = ("siamfc", "dsiam", "siamemory", "rolo", "gstp")
SUPERVISED, SRE = 3, 12  # repetitions of a tracker whose first three are alike (VOT); first boxes (OTB)
ROW = 40.0  # bytes of a box in a result file
MEASURED = FRAME[0] * FRAME[1] / 1e6  # megapixels of the frames that are decoded and cut by `bench`


class Images(NamedTuple):
    """A data set: frames, megapixels of each (a guess), 1e9 bytes, and where that is from."""

    frames: int
    megapixels: float
    gigabytes: float
    source: str


_LISTED = "github.com/kumatheworld/tracking-sanity, Datasets.md"
_OTB = 2.7 / 59_040  # 1e9 bytes a frame
SETS = {
    "imagenet-vid": Images(
        1_122_397 + 176_126, 0.92, 92.1, "archive of 86 GiB, github.com/bertinetto/siamese-fc/issues/64"
    ),
    "got10k-train": Images(1_403_359, 0.92, 72.0, _LISTED),
    "got10k-val": Images(21_007, 0.92, 1.2, _LISTED),
    "got10k-test": Images(22_834, 0.92, 1.3, _LISTED),
    "otb2013": Images(BENCHMARKS["otb2013"].frames, 0.25, 29_486 * _OTB, f"its share of OTB-100's frames; {_LISTED}"),
    "otb100": Images(BENCHMARKS["otb100"].frames, 0.25, 2.7, _LISTED),
    "otb30": Images(14_698, 0.25, 14_698 * _OTB, "rows of annotation of ROLO's 30 videos; part of OTB-100"),
    "vot2015": Images(21_455, 0.31, 1.3, _LISTED),
    "uav20l": Images(
        BENCHMARKS["uav20l"].frames, 0.92, 58_670 * 0.92e-3 * 0.2, "0.2 bytes a pixel, as 20 public clips have"
    ),
}


@dataclass(frozen=True)
class Work:
    """One kind of work of a stage: `count` units, and what each takes.

    gflop:      multiplications and additions, 1e9; `figure`: the bench's share of peak for arithmetic like it
    reading:    core-seconds that decode, cut or read; by `readers` processes or threads, at best and at worst
    decoding:   those of them that decode, of frames that compress as well as those of `bench`
    host:       core-seconds of the process that drives the GPU; by `hosts` of them, at best and at worst
    batch:      of training: samples a step; 0: no training
    parameters: of the network that is trained, and `copies` of them in a checkpoint
    traffic:    bytes of weights that a training step moves in the GPU's memory
    disk:       bytes that are left"""

    stage: str
    what: str
    count: float
    unit: str
    gflop: float = 0.0
    figure: str = ""
    reading: float = 0.0
    readers: Range = (16, 4)
    decoding: float = 0.0
    host: float = 0.0
    hosts: Range = (16, 1)
    batch: int = 0
    parameters: float = 0.0
    traffic: float = 0.0
    disk: float = 0.0


@cache
def networks() -> dict[str, tuple[float, int]]:
    """GFLOP of a forward pass on one image (of the LSTMs: one window), and parameters, at the published sizes."""
    image = lambda height, width=None, channels=3, count=1: torch.zeros(count, channels, height, width or height)  # noqa: E731
    with torch.device("meta"), torch.inference_mode():
        siamfc, branch, goturn, yolo = (net.eval() for net in (SiamFC(), AllConv(), GOTURN(), YOLO()))
        siamese, motion, memory, maps = (n.eval() for n in (SiamRCNN(), MotionModel(), Memory(), Memory(heatmap=32)))
        squeeze, classes, small = SqueezeNet("1.0").eval(), Classifier(480).eval(), SiaMemoryLSTM(1024, 1028)
        trunk = siamese.backbone.trunk

        def heads(height: int, width: int, rois: int) -> None:  # what follows the trunk; ranking boxes is no arithmetic
            fused = siamese.fusion(image(height // STRIDE, width // STRIDE, 1024))
            siamese.rpn_scores(fused), siamese.rpn_deltas(fused), siamese.backbone.layer4(image(14, 14, 1024, rois))

        jobs = {
            "siamfc 255": (siamfc, lambda: siamfc.embed(image(255))),
            "siamfc 127": (siamfc, lambda: siamfc.embed(image(127))),
            "siamfc pair": (siamfc, lambda: (siamfc.embed(image(127)), siamfc.embed(image(239)))),
            "all-conv 255": (branch, lambda: branch.embed(image(255))),
            "all-conv pair": (branch, lambda: (branch.embed(image(127)), branch.embed(image(239)))),
            "squeezenet 224": (squeeze, lambda: squeeze.trunk(image(224))),
            "goturn 227": (goturn, lambda: goturn(image(227), image(227))),
            "darknet 224": (classes, lambda: classes(image(224))),
            "yolo 448": (yolo, lambda: yolo(image(448))),
            "rolo window": (memory, lambda: memory(torch.zeros(1, 6, 4102))),
            "rolo map window": (maps, lambda: maps(torch.zeros(1, 3, 5120))),
            "motion 384": (motion, lambda: motion.net(image(288, 384, 13))),
            "siamrcnn frame": (siamese, lambda: (trunk(image(*FRAME)), heads(*FRAME, 300))),
            "siamrcnn pair": (siamese, lambda: (trunk(image(800, 1344, 3, 2)), heads(800, 1344, 128))),
        }
        found = {name: (_gflop(job), sum(p.numel() for p in net.parameters())) for name, (net, job) in jobs.items()}
    parameters = sum(p.numel() for p in small.parameters())  # its answer asks for a value, which meta has not
    weights = sum(w.numel() for w in small.regressor.weights)
    return found | {"siamemory window": (6 * 2 * weights / 1e9, parameters)}


def _gflop(job: Callable[[], Any]) -> float:
    with FlopCounterMode(display=False) as counter:
        job()
    return counter.get_total_flops() / 1e9


@cache
def trackers() -> dict[str, tuple[float, str, str]]:
    """Of each tracker the GFLOP of a step, the figure of its share of peak, and that of its time on the host."""
    g = {name: gflop for name, (gflop, _) in networks().items()}
    branch, memory = 3 * g["all-conv 255"], g["squeezenet 224"] + g["siamemory window"]
    dsiam, near, lstm = 4 * g["siamfc 255"] + g["siamfc 127"], "network_share_of_peak", "rolo_lstm_share_of_peak"
    whole = "gstp_share_of_peak"
    return {
        "siamfc": (5 * g["siamfc 255"], near, "siamfc"),
        "siamfc-3s": (3 * g["siamfc 255"], near, "siamfc_3s"),
        "dsiam": (dsiam, near, "dsiam"),
        "dsiamm": (dsiam, near, "dsiamm"),
        "all-conv": (branch, near, "siamfc_3s"),
        "siamemory": (branch + memory, near, "siamemory"),
        "goturn": (g["goturn 227"], near, "goturn"),
        "kcf": (0.0, near, "kcf"),
        "rolo": (g["rolo window"], lstm, "rolo"),
        "rolo-heatmap": (g["rolo map window"], lstm, "rolo"),
        "yolo": (0.0, lstm, "rolo"),
        "siamrcnn": (g["siamrcnn frame"], whole, "siamrcnn"),
        "gstp": (g["siamrcnn frame"] + g["motion 384"], whole, "gstp"),
    }


def measured(rates: Mapping[str, Any], name: str) -> float:
    """A rate. Raises KeyError that says how to measure one that is missing."""
    if name not in rates:
        raise KeyError(
            f"no rate {name}: python -m trackerlib bench --json FILE measures it (--only training, engine, ...)"
        )
    return float(rates[name])


def works(rates: Mapping[str, Any]) -> list[Work]:
    """All that the `paper` profiles of all papers do. Raises KeyError for a missing rate, as `measured`."""
    return [work for paper in PAPERS for work in STAGES[paper](_Desk(paper, rates))]


class _Desk:
    """What writes a paper's work down: its stages' parameters, and the measured rates."""

    def __init__(self, paper: str, rates: Mapping[str, Any]):
        self.paper, self.rates = paper, rates
        self.sections = yaml.safe_load(resource("notebooks", paper, "profiles.yaml").read_text())

    def of(self, stage: str) -> dict[str, Any]:
        """The stage's parameters, defaults of its notebook too."""
        return resolved(resource("notebooks", self.paper, f"{stage}.ipynb"), self.sections[stage]["paper"], stage)

    def rate(self, name: str) -> float:
        return measured(self.rates, name)

    def decoding(self, data: str) -> float:
        """Core-seconds a frame."""
        return SETS[data].megapixels / MEASURED / self.rate("frames_per_second_decoded")

    def cut(self, stage: str, data: str, share: float = 1.0, crops: int = 1) -> Work:
        """Every frame decoded once, its crops packed as they are."""
        count, seconds = share * SETS[data].frames, SETS[data].megapixels / MEASURED / self.rate("crops_per_second_cut")
        works = {"reading": seconds, "readers": (16, 1), "decoding": self.decoding(data)}
        works |= {"disk": count * crops * self.rate("bytes_per_crop")}
        return self._work(stage, f"cut crops of {data}", count, "frames", **works)

    def train(self, stage: str, what: str, net: str, kind: str, reading: float = 0.0, **more: Any) -> Work:
        """A fit: three times the forward pass a sample. kind: the training step that was measured. more: `count` of
        fits, forward `gflop` of a sample, `time` steps of a window, `adam`, which keeps two moments, the `unit`, the
        `figure`, and how many `frames` of the measured size a sample decodes."""
        p, (forward, parameters) = self.of(stage), networks()[net]
        count, adam, decodes = more.get("count", 1), more.get("adam", False), more.get("frames", 0)
        works = {"gflop": 3 * more.get("gflop", forward), "figure": more.get("figure", "training_step_share_of_peak")}
        works |= {"reading": reading, "readers": (max(p.get("workers", 0), 1),) * 2, "hosts": (1, 1)}
        works |= {"decoding": decodes / self.rate("frames_per_second_decoded")}
        works |= {"host": self.rate(f"host_ms_training_{kind}") / 1e3 / p["batch"], "batch": p["batch"]}
        works |= {"traffic": 4 * parameters * ((8 if adam else 6) + 2 * more.get("time", 1))}
        works |= {"parameters": parameters, "disk": count * 4 * parameters * (3 + adam)}  # weights; model and moments
        samples = count * p["epochs"] * p["steps"] * p["batch"]
        return self._work(stage, f"train {what}", samples, more.get("unit", f"{kind}s"), **works)

    def track(self, stage: str, tracker: str, data: str, passes: float = 1, calls: int = 1, name: str = "") -> Work:
        """A tracker over a data set, `passes` times in all; in each of `calls` the lanes share the decoded frames."""
        (gflop, figure, host), steps = trackers()[tracker], passes * SETS[data].frames
        seconds = calls * self.rate("engine_decodings_per_frame") * self.decoding(data) / passes
        works = {"gflop": gflop, "figure": figure, "reading": seconds, "decoding": seconds, "disk": steps * ROW}
        works |= {"host": self.rate(f"host_ms_{host}") / 1e3}
        return self._work(stage, f"{name or tracker} on {data}", steps, "steps", **works)

    def look(self, stage: str, net: str, data: str, kept: float, figure: str) -> Work:
        """A network once over every frame, one frame at a time, in one thread; `kept` bytes of it on disk."""
        seconds = self.decoding(data)
        works = {"gflop": networks()[net][0], "figure": figure, "host": self.rate("host_ms_rolo") / 1e3}
        works |= {"reading": seconds, "decoding": seconds, "readers": (1, 1), "hosts": (1, 1), "disk": kept}
        return self._work(stage, f"{net.split()[0]} on {data}", SETS[data].frames, "frames", **works)

    def _work(self, stage: str, what: str, count: float, unit: str, **works: Any) -> Work:
        return Work(f"{self.paper}/{stage}", what, count, unit, **works)


def _robust(segments: int) -> float:
    """Passes over a data set of OPE, TRE and SRE: TRE's runs start all along a video, half of it each on average."""
    return 1 + segments / 2 + SRE


def _siamfc(d: _Desk) -> list[Work]:
    size, otb, pair = "4_dataset_size", d.of("2_otb"), 1 / d.rate("pairs_per_second_reader")
    graph = yaml.safe_load(resource("notebooks", "stages.yaml").read_text())
    parts = graph["siamfc/4_dataset_size"]["for"]["fraction"]
    found = [d.cut("1_train", "imagenet-vid"), d.train("1_train", "SiamFC", "siamfc pair", "pair", pair)]
    found += [d.track("2_otb", one, "otb2013", _robust(otb["segments"]), 2) for one in otb["robust_trackers"]]
    found += [d.track("2_otb", "siamfc-3s", "otb2013", name="siamfc-3s untrained")]
    found += [d.track("3_vot2015", one, "vot2015", SUPERVISED) for one in d.of("3_vot2015")["trackers"]]
    found += [d.cut(size, "imagenet-vid", sum(parts) / 100)]
    found += [d.train(size, f"SiamFC, {len(parts)} fractions", "siamfc pair", "pair", pair, count=len(parts))]
    return [*found, d.track(size, "siamfc", "vot2015", len(parts) * (SUPERVISED + 1), len(parts))]


def _dsiam(d: _Desk) -> list[Work]:
    g, how = networks(), {"count": 2, "frames": 10}
    how |= {"gflop": 9 * (2 * g["siamfc 255"][0] + g["siamfc 127"][0]) + g["siamfc 127"][0]}  # nine frames, one scale
    clip = 1 / d.rate("clips_per_second")
    found = [d.train("1_joint_training", "DSiam and DSiamM", "siamfc pair", "clip", clip, **how)]
    entries = {"siamfc-3s": 1, "dsiam": 1, "dsiamm": 2, "siamfc": 1}  # dsiamm, and with the last frame's template
    found += [d.track("2_otb2013", one, "otb2013", 2 * n, 2 * n) for one, n in entries.items()]  # again with one lane
    found += [d.track("3_vot2015", one, "vot2015", SUPERVISED + 1, 2) for one in ("siamfc-3s", "dsiam", "dsiamm")]
    entries = {"dsiamm": 5, "dsiam": 1, "siamfc-3s": 1}  # whole, without V, without W, last template, fixed weight
    found += [d.track("4_ablations", one, "otb2013", n, n) for one, n in entries.items()]
    return [*found, d.track("5_inside", "dsiamm", "otb2013", 2, 2, "dsiamm, followed,")]


def _siamemory(d: _Desk) -> list[Work]:
    pair, train, otb = 1 / d.rate("pairs_per_second_reader"), d.of("2_memory")["dataset"], d.of("3_otb")
    found = [d.cut("0_goturn", train, 1.0, 1 + d.of("0_goturn")["stills"])]
    found += [d.train("0_goturn", "GOTURN", "goturn 227", "pair", pair), d.cut("1_siamese", train)]
    found += [d.train("1_siamese", "the branch", "all-conv pair", "pair", pair), d.track("2_memory", "all-conv", train)]
    kept, variants = 2.0 * 1024 * SETS[train].frames, len(d.of("2_memory")["variants"])
    found += [d.look("2_memory", "squeezenet 224", train, kept, "network_share_of_peak")]
    how = {"count": variants, "adam": True, "time": 6, "figure": "rolo_lstm_share_of_peak"}
    found += [d.train("2_memory", f"LSTM, {variants} variants", "siamemory window", "window", **how)]
    entries = {"siamemory": 1 + variants, "all-conv": 1, "siamfc-3s": 1, "kcf": 1, "goturn": 1}  # and one in open loop
    more = {one: one in otb["robust_trackers"] for one in entries}  # TRE and SRE
    passes = {one: n + more[one] * (_robust(otb["segments"]) - 1) for one, n in entries.items()}
    found += [d.track("3_otb", one, "otb100", passes[one], n + more[one]) for one, n in entries.items()]
    return [*found, d.track("5_recovery", "siamemory", "vot2015", 4, 1, "siamemory in four modes")]


def _rolo(d: _Desk) -> list[Work]:
    kept, crop, robust = 2.0**32, 0.5 / d.rate("pairs_per_second_reader"), _robust(d.of("4_otb30")["segments"])
    train, lengths = d.of("3_lstm")["dataset"], [*d.of("5_step_size")["sizes"], 6, 6, 6]  # three ideas at six frames
    window, yolo, mean = (
        {"adam": True, "figure": "rolo_lstm_share_of_peak"},
        "yolo_share_of_peak",
        sum(lengths) / len(lengths),
    )
    found = [d.cut("1_features", train, 1 / d.of("1_features")["every"])]
    found += [d.train("1_features", "darknet's classifier", "darknet 224", "pair", crop, adam=True, unit="crops")]
    found += [d.look("3_lstm", "yolo 448", train, kept, yolo)]  # the disk that bench.features keeps at most
    found += [d.train("3_lstm", "LSTM on boxes", "rolo window", "window", time=6, **window)]
    found += [d.train("3_lstm", "LSTM on maps", "rolo map window", "window", time=3, **window)]
    found += [d.look("4_otb30", "yolo 448", "otb30", kept, yolo)]
    found += [d.train("4_otb30", "LSTM, experiments 1 to 3", "rolo window", "window", count=3, time=6, **window)]
    entries = {
        "rolo": (robust + 2, 4),
        "rolo-heatmap": (robust, 2),
        "yolo": (4 * robust, 8),
    }  # yolo: SORT in three ways
    found += [d.track("4_otb30", one, "otb30", *times) for one, times in entries.items()]
    found += [d.look("5_step_size", "yolo 448", data, kept, yolo) for data in (train, "otb30")]
    how = window | {"count": len(lengths), "time": mean, "gflop": mean * networks()["rolo window"][0] / 6}
    found += [d.train("5_step_size", f"LSTM, {len(lengths)} ways", "rolo window", "window", **how)]
    found += [d.look("6_heatmap", "yolo 448", "otb100", kept, yolo)]
    return [*found, *(d.track("6_heatmap", one, "otb100") for one in ("rolo-heatmap", "yolo"))]


def _gstp(d: _Desk) -> list[Work]:
    pair, path, models = (
        1 / d.rate("frame_pairs_per_second"),
        1 / d.rate("trajectories_per_second"),
        d.of("5_ablations"),
    )
    siamese = {"unit": "pairs", "frames": 2, "figure": "gstp_share_of_peak"}
    motion = {"unit": "frames", "frames": 1, "adam": True, "figure": "gstp_motion_share_of_peak"}
    count = len(models["histories"])
    whole = count + len(models["leasts"]) + 5  # gstp, motion alone, two rules, a window
    found = [d.train("1_train_siamrcnn", "SiamRCNN", "siamrcnn pair", "siamrcnn", pair, **siamese)]
    found += [d.train("2_train_motion", "the motion model", "motion 384", "motion", path, **motion)]
    found += [d.track("3_got10k", one, "got10k-val") for one in d.of("3_got10k")["trackers"]]
    found += [d.track("3_got10k", "gstp", "got10k-test")]
    found += [d.track("4_uav20l", one, "uav20l") for one in d.of("4_uav20l")["trackers"]]
    found += [d.train("5_ablations", f"{count} motion models", "motion 384", "motion", path, count=count, **motion)]
    return [*found, *(d.track("5_ablations", one, "uav20l", n, n) for one, n in (("gstp", whole), ("siamrcnn", 2)))]


STAGES = {"siamfc": _siamfc, "dsiam": _dsiam, "siamemory": _siamemory, "rolo": _rolo, "gstp": _gstp}

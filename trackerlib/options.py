"""What the commands of the command line share: their options, and the place where their work is done."""

import os
from contextlib import contextmanager
from pathlib import Path

import click

PATH = click.Path(path_type=Path)
RESULTS = click.option("--results", type=PATH, default=Path("results"), show_default=True)
PROFILE = click.option("--profile", default="smoke", show_default=True, help="smoke, small, paper")
SETTINGS = click.option("--set", "settings", multiple=True, metavar="STAGE.PARAM=VALUE", help="change a parameter")
FORMATS = click.Choice(["table", "csv", "json", "latex", "html"])
FORMAT = click.option("--format", "form", type=FORMATS, default="table", show_default=True)
ROOT = click.option("--root", type=PATH, help="where the dataset's files are")
_TRACKERS = (
    "siamfc (5 scales), siamfc-3s, dsiam, dsiamm, dsiamm-vgg19 (needs --weights), siamemory, rolo, "
    "rolo-heatmap, yolo-sort, gstp, siamrcnn, goturn, kcf, kcf-grey, kcf-scale, or your own module:Class"
)
TRACKER = click.option("--tracker", default="siamfc-3s", show_default=True, help=_TRACKERS)
_WEIGHTS = (
    "a weights file, or shipped ones: siamfc, siamfc-quarter (5 times as fast), dsiam, dsiamm, siamemory, rolo, "
    "rolo-heatmap, rolo-yolo, gstp, goturn; default the tracker's"
)
WEIGHTS = click.option("--weights", help=_WEIGHTS)
DTYPE = click.option("--dtype", default="float32", show_default=True, help="float32, or bfloat16 where the chip has it")
_CONVENTIONS = "whose numbers: otb, uav, got10k, vot2015, ...; by default the dataset's and protocol's own"
CONVENTION = click.option("--convention", help=_CONVENTIONS)
PROTOCOLS = """OPE, TRE, SRE, supervised; parameters after a colon: supervised:bounded=true,repetitions=1; several at
once share lanes and decoded frames"""
SEQUENCES = click.option("--sequences", type=click.IntRange(0), default=0, help="how many, from the first; 0 for all")
DEVICE = click.option("--device", default="cpu", show_default=True)
SCHEDULER = click.option("--scheduler", metavar="ADDRESS", help="do the work on this dask cluster, tcp://HOST:8786")
WORKERS = click.option("--workers", type=click.IntRange(0), default=0, help="on so many processes of this machine")


@contextmanager
def workplace(scheduler, workers, device="cpu"):
    """A client of the cluster where the work is done; None: this process does it."""
    from torch.cuda import device_count

    if scheduler and workers:
        raise ValueError("--workers are processes of this machine, --scheduler is another cluster: give one of them")
    if workers > 4 * (os.cpu_count() or 1):
        raise ValueError(f"--workers {workers}: this machine has {os.cpu_count()} cores")
    if scheduler or workers > 1 or (device == "cuda" and device_count() > 1):
        with dask_cluster().connect(scheduler, workers, device) as client:
            yield client
    else:
        yield None


def dask_cluster():
    from . import cluster  # dask comes with it

    return cluster

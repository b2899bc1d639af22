"""python -m trackerlib data list | check | fetch | prepare."""

from functools import partial

import click

from .options import PATH, ROOT, SCHEDULER, WORKERS, dask_cluster, workplace


@click.group()
def data() -> None:
    """The datasets that have a name."""


@data.command("list")
@ROOT
def list_data(root) -> None:
    """Name every dataset; with --root, say what of it is there, what is missing and where to get it."""
    from .data.check import survey

    for line in survey(root):
        click.echo(line)


@data.command("check")
@click.argument("name")
@ROOT
def check_data(name, root) -> None:
    """Load a dataset, decode every frame, hold counts and sizes against the benchmark's, and say what is there."""
    from .data.check import check
    from .progress import progress

    click.echo(check(name, root, lambda sequences: progress(sequences, label=f"reading {name}")))


@data.command("fetch")
@click.argument("name")
@click.option("--root", type=PATH, required=True, help="folder to put it into; archives lie in its folder downloads")
def fetch_data(name, root) -> None:
    """Download a dataset and unpack it; a second call goes on where the first one ended.

    An archive that lies in ROOT/downloads already is used without a network. What cannot be had is named, with its
    URLs and the place where it is to be put by hand. A dataset's terms of use are its authors': see `data list`."""
    from .data import DATASETS
    from .fetch import fetch

    folder = fetch(name, root, click.echo)
    check_it = f"; python -m trackerlib data check {name} --root {folder}" if name in DATASETS else ""
    click.echo(f"{name}: in {folder}{check_it}")


@data.command("prepare")
@click.argument("name")
@ROOT
@click.option("--out", type=PATH, required=True, help="folder of the packed crops")
@click.option("--every", type=click.IntRange(1), default=1, show_default=True, help="one frame in so many")
@click.option("--stills", type=click.IntRange(0), default=0, help="textured boxes cut a frame, pairs without motion")
@click.option("--quality", type=click.IntRange(0, 100), default=0, help="of JPEG (the release: 90); 0: uncompressed")
@click.option("--videos", type=click.IntRange(0), default=0, help="how many, from the first; 0 for all")
@click.option("--seed", default=0, show_default=True)
@SCHEDULER
@WORKERS
def prepare_data(name, root, out, every, stills, quality, videos, seed, scheduler, workers) -> None:
    """Cut a dataset into packed, memory-mapped context crops for training.

    In this process, or by several (--workers, --scheduler); what is there and undamaged stays, so that a run that was
    stopped goes on."""
    from .data import parts_of
    from .data.crops import cut_crops
    from .progress import progress

    options = {"count": videos} if name == "rendered-train" and videos else {}
    parts = parts_of(name, root, **options)[: videos or None]
    shards = lambda found: progress(found, label=f"cutting {name}")  # noqa: E731
    source = "rendered" if name.startswith("rendered") else "real"
    with workplace(scheduler, workers) as client:
        work = partial(dask_cluster().spread, client) if client else map
        store = cut_crops(
            parts, out, source, every, stills, seed, shards, quality, work, {"dataset": name, "videos": videos}
        )
    facts = store.manifest
    click.echo(f"{out}: {facts['crops']:,} crops of {facts['sequences']:,} sequences, {facts['bytes'] / 1e9:.2f} GB")
    click.echo(f"digest {facts['digest']}")

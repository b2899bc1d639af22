"""The command line: python -m trackerlib run | status | report | data | bench | plan | train | evaluate | score |
track.

Every command is a few lines over the function of the same name, and imports torch or papermill only if it needs them.
A mistake is one line on stderr and exit code 2 (`TRK_DEBUG=1` shows the traceback).
"""

import os
import sys
import warnings
from functools import partial
from pathlib import Path

import click

from .data_commands import data
from .options import (
    CONVENTION,
    DEVICE,
    DTYPE,
    FORMAT,
    PATH,
    PROFILE,
    PROTOCOLS,
    RESULTS,
    ROOT,
    SCHEDULER,
    SEQUENCES,
    SETTINGS,
    TRACKER,
    WEIGHTS,
    WORKERS,
    dask_cluster,
    workplace,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="trackerlib")
def cli() -> None:
    """Five visual-tracking papers, reproduced in notebooks; and their benchmarks, from the command line."""


@cli.command()
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@PROFILE
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="stages at a time")
@RESULTS
@SETTINGS
@click.option("--force", is_flag=True, help="run the targets though they are fresh")
@click.option(
    "--dry-run",
    is_flag=True,
    help="check all parameters by name and type, say what would run and which data is missing",
)
@SCHEDULER
def run(targets, profile, jobs, results, settings, force, dry_run, scheduler) -> None:
    """Execute the notebooks of the reproduction graph that are not fresh.

    TARGET: a paper (siamfc) or a stage (siamfc/2_otb); by default all."""
    from .claims import compare, sentence, write_report
    from .stages import load_graph

    graph = load_graph(profile, settings)
    if dry_run:
        _print_plan(graph, graph.upstream(graph.chosen(targets)), results)
        return
    from .runner import run as run_stages

    if scheduler:
        from .cluster import There, connect

        with connect(scheduler) as client:
            outcome = run_stages(
                graph, targets, results, sum(client.nthreads().values()), force, partial(There, client)
            )
    else:
        outcome = run_stages(graph, targets, results, jobs, force)
    page, sheet = write_report(results / profile)
    click.echo(f"{sentence(compare(results / profile))}\nreport: {page} and {sheet}")
    if not outcome.ok:
        for name, reason in outcome.failed.items():
            click.echo(f"error: {name}: {reason} (log: {results / profile / name / 'log.txt'})", err=True)
        sys.exit(1)


@cli.command()
@PROFILE
@RESULTS
@SETTINGS
def status(profile, results, settings) -> None:
    """Say of each stage whether it is fresh, stale, unfinished or not run."""
    from .stages import load_graph

    graph = load_graph(profile, settings)
    _print_plan(graph, list(graph.stages), results)


def _print_plan(graph, names, results: Path) -> None:
    for name in names:
        click.echo(f"{graph.state(name, results / graph.profile):<12}{name}")
        for absence in graph.missing.get(name, ()):
            click.echo(f"{'':<12}missing data: {absence}")


@cli.command()
@PROFILE
@RESULTS
def report(profile, results) -> None:
    """Put the papers' claims beside what the finished stages found: report.html and report.csv."""
    from .claims import compare, sentence, write_report

    folder = results / profile
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: nothing there yet; python -m trackerlib run --profile {profile}")
    page, sheet = write_report(folder)
    click.echo(f"{sentence(compare(folder))}\nreport: {page} and {sheet}")


@cli.command()
@click.option("--json", "file", type=PATH, help="also write the ratios to this file")
@click.option(
    "--only",
    type=click.Choice(
        ["trackers", "costs", "detect", "search", "engine", "training", "peers", "cluster", "planning", "viewer"]
    ),
    help="a part of it; all take a quarter of an hour",
)
def bench(file, only) -> None:
    """Measure speed, each figure as a ratio to something measured in the same process.

    peers: against got10k 0.1.3 and vot-toolkit 0.9.0, where they are installed; viewer: against a plain player of
    ipywidgets, where Chromium and playwright are."""
    from .bench.speed import main
    from .show.speed_viewer import VIEWER_FIGURES, bench_viewer
    from .speed_cluster import CLUSTER_FIGURES, bench_cluster
    from .speed_planning import PLANNING_FIGURES, bench_planning

    more = {"cluster": (bench_cluster, CLUSTER_FIGURES), "planning": (bench_planning, PLANNING_FIGURES)}
    main(file, only, more | {"viewer": (bench_viewer, VIEWER_FIGURES)})


@cli.command()
@click.option("--rates", "files", type=PATH, multiple=True, help="what bench --json wrote; of several the last rules")
@click.option("--device", type=click.Choice(["H100", "H200"]), default="H100", show_default=True)
@click.option("--out", type=PATH, help="write the page to this file; else it is printed")
def plan(files, device, out) -> None:
    """Say how long, and how much disk, each paper's full reproduction takes, with the arithmetic shown (Markdown)."""
    from .planning import page, read_rates
    from .provenance import write_text

    text = page(read_rates(files), device)
    write_text(out, text) if out else click.echo(text, nl=False)


@cli.command()
@TRACKER
@WEIGHTS
@click.option("--dataset", "name", required=True, help="rendered, otb, otb100, vot2018, ... (see `data list`)")
@ROOT
@SEQUENCES
@click.option("--protocol", "protocols", multiple=True, default=["OPE"], show_default=True, help=PROTOCOLS)
@click.option("--results", type=PATH, default=Path("results/evaluate"), show_default=True)
@click.option("--lanes", default="1", show_default=True, help="targets tracked in one batch, or auto: measured first")
@DEVICE
@DTYPE
@click.option("--seed", default=0, show_default=True)
@click.option("--keep", type=click.Choice(["maps"]), help="keep the response maps too")
@click.option("--cache", type=PATH, help="folder where a detector's answers are kept (rolo, yolo-sort)")
@CONVENTION
@FORMAT
@SCHEDULER
@WORKERS
def evaluate(
    tracker,
    weights,
    name,
    root,
    sequences,
    protocols,
    results,
    lanes,
    device,
    dtype,
    seed,
    keep,
    cache,
    convention,
    form,
    scheduler,
    workers,
) -> None:
    """Run a tracker over a dataset by one or more protocols, store the results and score them.

    In this process; with --scheduler or --workers, or where there are several GPUs, on a cluster: one worker a GPU."""
    from .bench.conventions import convention_for
    from .bench.engine import FailedRuns
    from .bench.engine import evaluate as run_protocols
    from .bench.protocols import Supervised, protocol
    from .bench.score import score as score_results
    from .data import load_dataset
    from .data.got10k import write_submission
    from .progress import counter
    from .show.tables import render
    from .trackers import load_tracker

    if name == "got10k-test" and lanes != "1":
        raise ValueError(
            "got10k-test: its server wants the time of each frame, which one lane alone measures: --lanes 1"
        )
    if lanes != "auto" and not (lanes.isdecimal() and int(lanes)):
        raise ValueError(f"--lanes {lanes}: want a number above 0, or auto")
    chosen = [protocol(text) for text in protocols]
    rules = [convention_for(p.name, name, convention) for p in chosen]  # a slip is told before the hours of tracking
    fitted = zip(protocols, chosen, rules, strict=True)
    chosen = [Supervised.as_of(rule) if text == "supervised" else p for text, p, rule in fitted]
    dataset = load_dataset(name, root)[: sequences or None]
    lanes = lanes if lanes == "auto" else int(lanes)
    warnings.simplefilter("ignore", FailedRuns)  # they are listed below
    options = {"lanes": lanes, "keep_maps": keep == "maps", "seed": seed, "cache": cache}
    wanted = {"weights": weights, "device": device, "dtype": dtype, "seed": seed}
    loaded = None if scheduler else load_tracker(tracker, **wanted)  # a slip is told before a cluster starts
    with workplace(scheduler, workers, device) as client:
        if client:
            run_protocols = partial(dask_cluster().evaluate, client=client)
            loaded = loaded or dask_cluster().load_tracker_for(client, tracker, **wanted)
        stores = run_protocols(loaded, dataset, chosen, results, on_done=counter(f"{tracker} on {name}"), **options)
    failed = [
        f"{run}, {text.splitlines()[0]}: {text.strip().splitlines()[-1]} (traceback: {runs.folder}/errors/{run}.txt)"
        for runs in stores
        for run, text in runs.failures().items()
    ]
    whole = [(runs, rule) for runs, rule in zip(stores, rules, strict=True) if not runs.failures()]
    if name == "got10k-test":
        for runs, _ in whole:
            click.echo(write_submission(runs.folder, dataset, runs.folder / "submission.zip"))
        whole = []
    texts = [render(score_results(runs, dataset, rule), form) for runs, rule in whole]
    texts[1:] = [text.split("\n", 1)[1] if form == "csv" else text for text in texts[1:]]  # one header
    between = "" if form == "csv" else "\n"
    click.echo(f"[{','.join(texts)}]\n" if form == "json" and len(stores) > 1 else between.join(texts), nl=False)
    for runs in stores:
        click.echo(f"results: {runs.folder}", err=True)
    if failed:
        shown = failed[:20] + ["..."] * (len(failed) > 20)
        raise RuntimeError(f"{len(failed)} runs failed; what did not is stored:\n  " + "\n  ".join(shown))


@cli.command()
@click.argument("folders", nargs=-1, type=PATH, metavar="[RESULT_DIR]...")
@click.option("--dataset", "name", required=True)
@ROOT
@SEQUENCES
@click.option("--protocol", help="by default what the results say of themselves, else OPE")
@click.option("--layout", help="how the files lie: otb, otb-0 (first pixel 0), pysot, got10k, vot; else guessed")
@CONVENTION
@FORMAT
def score(folders, name, root, sequences, protocol, layout, convention, form) -> None:
    """Score stored or published result files. Needs the annotations of the dataset, no images.

    RESULT_DIR: a folder a tracker; by default those in ROOT/results."""
    from .bench.results import RunSet
    from .bench.score import score as score_results
    from .data import load_dataset
    from .show.tables import render

    if not folders and root is not None:
        folders = sorted(path for path in root.glob("results/*") if path.is_dir())
    if not folders:
        raise ValueError("no RESULT_DIR given, and no folder in ROOT/results: name a folder of result files")
    runs = [RunSet(folder, layout) for folder in folders]
    scores = score_results(runs, load_dataset(name, root)[: sequences or None], convention, protocol)
    click.echo(render(scores, form), nl=False)
    for note in scores.notes:
        click.echo(f"note: {note}", err=True)


@cli.command()
@click.argument("name")
@click.option("--out", type=PATH, required=True, help="folder for checkpoints, log and weights")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="change one of the training's values")
@click.option("--processes", type=click.IntRange(1), default=1, show_default=True, help="of this machine; one a GPU")
@DEVICE
def train(name, out, settings, processes, device) -> None:
    """Train a network on packed crops, by any number of processes.

    NAME: siamfc, or your own module:Class. On several hosts torchrun starts this command on each: torchrun --nnodes N
    --nproc-per-node GPUS ... -m trackerlib train NAME --out DIR."""
    from .runner import end_with_stdin
    from .training.parallel import joined, rank
    from .trainings import load_training, tell, torchrun

    if processes > 1:
        torchrun(name, settings, out, processes, device)
        return
    training = load_training(name, settings)
    if os.environ.get("TRK_END_WITH_STDIN") == "1":
        end_with_stdin()
    with joined(device) as mine:
        if rank() == 0 and (out / "checkpoint.pt").is_file():
            click.echo(f"going on from the checkpoint in {out}")
        log = training.fit(out, mine, tell)
        if rank() == 0:
            click.echo(f"{len(log)} epochs done; weights and log: {out}")


@cli.command()
@click.argument("video", type=PATH)
@click.option("--box", required=True, metavar="X,Y,W,H", help="the target in the first frame, pixels from 0")
@TRACKER
@WEIGHTS
@DEVICE
@click.option("--out", type=PATH, required=True, metavar="CLIP.mp4|.gif")
def track(video, box, tracker, weights, device, out) -> None:
    """Track one target through a video file or a folder of images, and write a clip with the boxes drawn."""
    from .data.folder import load_clip
    from .data.sequence import VideoFile
    from .progress import progress
    from .show.video import draw_box, write_clip
    from .tracker import OneTarget
    from .trackers import load_tracker

    if out.exists() and out.resolve() == video.resolve():
        raise ValueError(f"{out}: --out would overwrite the video itself")
    clip = load_clip(video, _numbers(box))
    one = OneTarget(load_tracker(tracker, weights, device))
    one.init(clip.frames[0], clip.boxes[0])

    def drawn(image, box):
        canvas = image.copy()
        draw_box(canvas, box, "#D55E00")
        return canvas

    def tracked():
        yield drawn(clip.frames[0], clip.boxes[0])
        for frame in progress(range(1, len(clip)), label=f"tracking {clip.name}"):
            try:
                image = clip.frames[frame]
            except ValueError as error:
                if not isinstance(clip.frames, VideoFile):
                    raise
                # a container's frame count is an estimate: what was tracked is kept
                click.echo(f"note: {error}; the clip ends there", err=True)
                return
            yield drawn(image, one.update(image))

    write_clip(out, tracked(), getattr(clip.frames, "fps", 25.0))
    click.echo(out)


def _numbers(box: str) -> list[float]:
    try:
        return [float(part) for part in box.split(",")]
    except ValueError:
        raise ValueError(f"--box {box}: want four numbers x,y,w,h, for example 10,20,30,40") from None


cli.add_command(data)


def main() -> None:
    """Run the command line; a mistake becomes one line, and so does a warning."""
    warnings.showwarning = lambda message, *_: click.echo(f"note: {message}", err=True)
    try:
        cli(prog_name="python -m trackerlib")
    except (ValueError, KeyError, OSError, RuntimeError, ImportError, FloatingPointError) as error:
        if os.environ.get("TRK_DEBUG") == "1":
            raise
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        click.echo(f"error: {text}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()

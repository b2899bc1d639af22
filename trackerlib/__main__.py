"""The command line: python -m trackerlib run | status | report | data | bench | evaluate | score | track.

Every command is a few lines over the function of the same name, and imports torch or papermill only if it needs them.
A mistake is one line on stderr and exit code 2 (`TRK_DEBUG=1` shows the traceback).
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

import click

RESULTS = click.option("--results", type=click.Path(path_type=Path), default=Path("results"), show_default=True)
PROFILE = click.option("--profile", default="smoke", show_default=True, help="smoke, small, paper")
SETTINGS = click.option("--set", "settings", multiple=True, metavar="STAGE.PARAM=VALUE", help="change a parameter")
FORMAT = click.option("--format", "form", type=click.Choice(["table", "csv", "json", "latex"]), default="table")
ROOT = click.option("--root", type=click.Path(path_type=Path), help="where the dataset's files are")
TRACKER = click.option(
    "--tracker", default="siamfc-3s", show_default=True, help="siamfc (5 scales), siamfc-3s, or your own module:Class"
)
WEIGHTS = click.option(
    "--weights",
    help="a weights file, or shipped weights: siamfc (full width, the default) or siamfc-quarter (5 times as fast)",
)
DTYPE = click.option("--dtype", default="float32", show_default=True, help="float32, or bfloat16 where the chip has it")
DEVICE = click.option("--device", default="cpu", show_default=True)


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
@click.option("--dry-run", is_flag=True, help="check all parameters and say what would run and which data is missing")
def run(targets, profile, jobs, results, settings, force, dry_run) -> None:
    """Execute the notebooks of the reproduction graph that are not fresh.

    TARGET: a paper (siamfc) or a stage (siamfc/2_otb); by default all."""
    from .claims import compare, sentence, write_report
    from .stages import load_graph

    graph = load_graph(profile, settings)
    if dry_run:
        _print_plan(graph, graph.upstream(graph.chosen(targets)), results)
        return
    from .runner import run as run_stages

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


@cli.group()
def data() -> None:
    """The datasets that have a name."""


@data.command("list")
def list_data() -> None:
    """Name every dataset."""
    from .data import DATASETS

    for name in DATASETS:
        click.echo(f"{name:<16}{'made in memory' if name.startswith('rendered') else 'from files, with --root'}")


@data.command("check")
@click.argument("name")
@ROOT
def check_data(name, root) -> None:
    """Load a dataset, decode every frame, and say what is there."""
    from .data import load_dataset
    from .progress import progress

    dataset = load_dataset(name, root)
    for sequence in progress(dataset.values(), label=f"reading {name}"):
        for frame in range(len(sequence)):
            sequence.frames[frame]
    click.echo(f"{name}: {len(dataset)} sequences, {sum(map(len, dataset.values()))} frames, digest {dataset.digest()}")


@cli.command()
@click.option("--json", "file", type=click.Path(path_type=Path), help="also write the ratios to this file")
def bench(file) -> None:
    """Measure speed, each figure as a ratio to something measured in the same process."""
    from .bench.speed import main

    main(json=file)


@cli.command()
@TRACKER
@WEIGHTS
@click.option("--dataset", "name", required=True, help="rendered, otb, otb100, ... (see `data list`)")
@ROOT
@click.option("--protocol", default="OPE", show_default=True)
@click.option("--results", type=click.Path(path_type=Path), default=Path("results/evaluate"), show_default=True)
@click.option("--lanes", type=click.IntRange(1), default=1, show_default=True, help="targets tracked in one batch")
@DEVICE
@DTYPE
@click.option("--seed", default=0, show_default=True)
@click.option("--keep", type=click.Choice(["maps"]), help="keep the response maps too")
@click.option("--convention", default="otb", show_default=True)
@FORMAT
def evaluate(
    tracker, weights, name, root, protocol, results, lanes, device, dtype, seed, keep, convention, form
) -> None:
    """Run a tracker over a dataset by a protocol, store the results and score them."""
    from .bench.conventions import convention_named
    from .bench.engine import evaluate as run_protocol
    from .bench.score import score as score_results
    from .data import load_dataset
    from .progress import counter
    from .show.tables import render
    from .trackers import load_tracker

    convention_named(convention)  # a slip there is told before the hours of tracking
    dataset = load_dataset(name, root)
    loaded = load_tracker(tracker, weights, device, dtype, seed)
    runs = run_protocol(
        loaded, dataset, protocol, results, lanes, keep == "maps", seed, counter(f"{tracker} on {name}")
    )
    if failures := runs.failures():
        lines = (f"{run}: {text.strip().splitlines()[-1]}" for run, text in failures.items())
        raise RuntimeError(f"{len(failures)} of {len(dataset)} runs failed:\n  " + "\n  ".join(lines))
    click.echo(render(score_results(runs, dataset, convention), form), nl=False)
    click.echo(f"results: {runs.folder}", err=True)


@cli.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RESULT_DIR...")
@click.option("--dataset", "name", required=True)
@ROOT
@click.option("--convention", default="otb", show_default=True)
@FORMAT
def score(folders, name, root, convention, form) -> None:
    """Score stored or published result files. Needs the annotations of the dataset, no images."""
    from .bench.score import score as score_results
    from .data import load_dataset
    from .show.tables import render

    scores = score_results(folders, load_dataset(name, root), convention)
    click.echo(render(scores, form), nl=False)
    for note in scores.notes:
        click.echo(f"note: {note}", err=True)


@cli.command()
@click.argument("video", type=click.Path(path_type=Path))
@click.option("--box", required=True, metavar="X,Y,W,H", help="the target in the first frame, pixels from 0")
@TRACKER
@WEIGHTS
@DEVICE
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="CLIP.mp4")
def track(video, box, tracker, weights, device, out) -> None:
    """Track one target through a video file or a folder of images, and write a clip with the boxes drawn."""
    from .data.folder import load_clip
    from .data.sequence import VideoFile
    from .progress import progress
    from .show.video import write_clip
    from .tracker import OneTarget
    from .trackers import load_tracker

    if out.exists() and out.resolve() == video.resolve():
        raise ValueError(f"{out}: --out would overwrite the video itself")
    clip = load_clip(video, _numbers(box))
    one = OneTarget(load_tracker(tracker, weights, device))
    one.init(clip.frames[0], clip.boxes[0])

    def drawn():
        yield clip.frames[0], clip.boxes[0]
        for frame in progress(range(1, len(clip)), label=f"tracking {clip.name}"):
            try:
                image = clip.frames[frame]
            except ValueError as error:
                if not isinstance(clip.frames, VideoFile):
                    raise
                # a container's frame count is an estimate: what was tracked is kept
                click.echo(f"note: {error}; the clip ends there", err=True)
                return
            yield image, one.update(image)

    write_clip(out, drawn(), getattr(clip.frames, "fps", 25.0))
    click.echo(out)


def _numbers(box: str) -> list[float]:
    try:
        return [float(part) for part in box.split(",")]
    except ValueError:
        raise ValueError(f"--box {box}: want four numbers x,y,w,h, for example 10,20,30,40") from None


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

"""What a notebook is told by the runner of stages, and what it says: where it writes, what it reads, what it found.

The same notebook runs under `python -m trackerlib run`, under plain papermill and by "run all" in JupyterLab:

>>> from trackerlib import notebook
>>> stage = notebook.here("siamfc/2_otb", out_dir, inputs)                     # doctest: +SKIP
>>> weights = stage.input("siamfc/1_train", "siamfc.safetensors",
...                       otherwise=resource("data", "weights", "siamfc-quarter.safetensors"))    # doctest: +SKIP
>>> stage.record("success_auc", 0.61, n=40, interval=(0.55, 0.66), convention="otb", dataset=dataset)   # doctest: +SKIP

`out_dir` and `inputs` are parameters of every notebook (defaults `""` and `{}`); the runner fills them.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import near
from .provenance import write_json
from .resources import resource

if TYPE_CHECKING:  # torch comes with it
    from .data import Dataset

METRICS = "metrics.json"


@dataclass(frozen=True)
class Stage:
    """A stage as its own notebook sees it. `folder` exists; everything the stage makes goes there."""

    name: str
    folder: Path
    inputs: Mapping[str, str] = field(default_factory=dict)

    def input(self, stage: str, file: str = "", otherwise: Path | None = None) -> Path:
        """A file (or the folder) that another stage made.

        Run by hand, with no `inputs`: what that stage last left under results/interactive or results/smoke. When there
        is nothing: `otherwise` (a shipped file), and a line says so.

        Raises FileNotFoundError, naming the stage to run."""
        by_hand = [results_root() / profile / stage for profile in ("interactive", "smoke")]
        candidates = [Path(self.inputs[stage])] if stage in self.inputs else by_hand
        for folder in candidates:
            if (folder / file).exists():
                return folder / file
        if otherwise is not None and stage not in self.inputs:
            print(f"{stage} has not run here: using {otherwise.name} as shipped")
            return otherwise
        raise FileNotFoundError(f"{candidates[0] / file}: not there; run first: python -m trackerlib run {stage}")

    def record(
        self,
        name: str,
        value: float,
        *,
        n: int | None = None,
        interval: tuple[float, float] | None = None,
        convention: str | None = None,
        dataset: Dataset | None = None,
        seen: int = 0,
    ) -> None:
        """Keep a number in the stage's metrics.json, under a free name or under the id of a claim in data/claims.csv.

        n: how many sequences (or runs) it is the mean of; interval: its 95 % interval; convention: the metric's preset;
        dataset: what it was measured on, kept as name and digest: the digest decides whether it may be compared;
        seen: on how many of the n sequences the weights were trained: with any, it may not.
        A claim wants the first four. For an ordering "A > B" the value is the paired difference A - B.

        A claim measured on a single sequence is printed and not kept: it has no interval.
        Raises ValueError for an unknown claim, and for a claim without its evidence or with a value or interval that is
        not finite; under a free name such a number is kept as null."""
        value = float(value)
        finite = interval is not None and all(map(math.isfinite, interval))
        evident = finite and math.isfinite(value) and None not in (n, convention, dataset)
        claimed = _is_claim(name)
        if claimed and n == 1 and not finite and math.isfinite(value):
            print(f"{name} = {value:.4g} on one sequence: no interval, so it is not held against the paper's")
            return
        if claimed and not evident:
            wants = "a finite value and interval, and n, interval, convention, dataset"
            raise ValueError(f"claim {name} = {value}, interval {interval}: a claim wants {wants}")
        record = {
            "value": value if math.isfinite(value) else None,
            "n": n,
            "seen": seen,
            "interval": [float(end) for end in interval] if finite else None,
            "convention": convention,
            "dataset": None if dataset is None else dataset.name,
            "dataset_digest": None if dataset is None else dataset.annotation_digest(),
        }
        write_json(self.folder / METRICS, read_records(self.folder) | {name: record})
        spread = f"  [{interval[0]:.4g}, {interval[1]:.4g}]" if finite else ""
        print(f"{name} = {value:.4g}{spread}")


def here(name: str, out_dir: str = "", inputs: Mapping[str, str] | None = None) -> Stage:
    """The stage that this notebook is. Without `out_dir` (a notebook opened by hand) it writes to
    results/interactive/<name>."""
    folder = Path(out_dir) if out_dir else results_root() / "interactive" / name
    folder.mkdir(parents=True, exist_ok=True)
    return Stage(name, folder, dict(inputs or {}))


def results_root() -> Path:
    """`results` of the checkout; of the current folder when the package was installed without one."""
    checkout = resource()
    return (checkout if (checkout / "pyproject.toml").is_file() else Path()) / "results"


def _is_claim(name: str) -> bool:
    """Claim ids begin with a paper and a dot; such a name that no row has is a slip of the pen."""
    with open(resource("data", "claims.csv"), newline="") as f:
        of_paper = {row["id"] for row in csv.DictReader(f) if row["paper"] == name.split(".")[0]}
    if of_paper and name not in of_paper:
        raise ValueError(f"data/claims.csv has no claim {name!r}{near(name, of_paper)}")
    return bool(of_paper)


def read_records(folder: str | Path) -> dict[str, dict[str, Any]]:
    """The recorded numbers of one stage's folder; empty when there are none."""
    path = Path(folder) / METRICS
    return json.loads(path.read_text()) if path.exists() else {}

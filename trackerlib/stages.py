"""The reproduction graph: notebooks/stages.yaml, what is fresh in it, and what that depends on.

A stage is (name, notebook, parameters, needs). It is done when its folder results/<profile>/<stage>/ holds a manifest
whose key is the one computed now from everything that determines the outcome: the notebook's code cells, its
parameters, the keys of the stages it needs, the code of trackerlib that it imports (as syntax trees), and the data and
weights it names. `trackerlib.runner` executes what is not done. An entry of stages.yaml:

    siamfc/3_fractions:
      needs: [siamfc/1_train]             # or `all`: every other stage
      for: {fraction: [2, 4, 8]}          # one stage a value: siamfc/3_fractions/fraction=2, ...
      data: {dataset: root}               # parameter that names a dataset: parameter that says where it lies
      files: [weights, data/claims.csv]   # parameters that name weights or a file; shipped files
      timeout: 3600                       # seconds for the whole notebook

The notebook is notebooks/<stage>.ipynb, its defaults are the smoke profile, and notebooks/<paper>/profiles.yaml holds
the others: `<stage>: {<profile>: {parameter: value}}`.
"""

import ast
import functools
import graphlib
import itertools
import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .config import near
from .parameters import UNREADABLE, code_cells, declared, from_text, resolved
from .provenance import canonical, code_digest, file_sha256, imports, sha256, syntax
from .resources import resource

SMOKE = "smoke"
MANIFEST = "manifest.json"
_PART = r"\w[ -.0-\[\]-~]{0,99}"  # of a path below notebooks/ and results/: plain letters and signs, no slash
_NAME = re.compile(f"{_PART}(/{_PART})*", re.ASCII)


@dataclass(frozen=True)
class Stage:
    name: str
    notebook: Path
    code: str  # `code_hash` when the graph was read
    parameters: Mapping[str, Any]
    needs: tuple[str, ...]
    data: Mapping[str, str]  # what a stage reads from outside: parameter or file to digest
    missing: tuple[str, ...]  # a sentence on each that is not there
    timeout: float


@dataclass(frozen=True)
class Graph:
    """The stages of a profile in an order in which they can run, with the key of each (final if nothing is missing)."""

    profile: str
    stages: Mapping[str, Stage]
    keys: Mapping[str, str]

    @property
    def missing(self) -> dict[str, tuple[str, ...]]:
        return {name: stage.missing for name, stage in self.stages.items() if stage.missing}

    def chosen(self, targets: Iterable[str]) -> list[str]:
        """The stages that targets name: a stage, an expanded stage, a paper (its folder), or none: all of them."""
        targets = list(targets)
        picked: set[str] = set()
        for target in targets:
            target = target.removesuffix(".ipynb").removeprefix("notebooks/").rstrip("/")
            matches = {name for name in self.stages if f"{name}/".startswith(f"{target}/")}
            if not matches:
                papers = {name.split("/")[0] for name in self.stages}
                raise ValueError(f"no stage or paper is called {target!r}{near(target, set(self.stages) | papers)}")
            picked |= matches
        return [name for name in self.stages if name in picked or not targets]

    def upstream(self, names: Iterable[str]) -> list[str]:
        """These stages and all they need, in running order."""
        wanted = set(names)
        for name in reversed(self.stages):
            if name in wanted:
                wanted.update(self.stages[name].needs)
        return [name for name in self.stages if name in wanted]

    def state(self, name: str, results: Path) -> str:
        """`fresh`, `stale` (done under another key), `damaged` (its manifest cannot be read), `unfinished` (begun, no
        manifest) or `not run`.

        results: the profile's folder. A manifest with a product missing is `stale`."""
        folder = results / name
        key = self.keys[name]
        try:
            manifest = json.loads((folder / MANIFEST).read_text())
            whole = all(os.path.isfile(folder / product) for product in manifest["outputs"])
            return "fresh" if whole and manifest["key"] == key else "stale"
        except FileNotFoundError:
            return "unfinished" if folder.is_dir() and any(folder.iterdir()) else "not run"
        except (ValueError, LookupError, TypeError, RecursionError):  # no manifest that we wrote
            return "damaged"


def load_graph(profile: str = SMOKE, settings: Iterable[str] = (), notebooks: Path | None = None) -> Graph:
    """Read and check the whole graph: every parameter of every stage, every need, and what data is there.

    settings: `stage.parameter=value` as typed. Raises ValueError before anything could start."""
    notebooks = notebooks or resource("notebooks")
    entries = _entries(notebooks / "stages.yaml")
    values = _profiles(notebooks, entries, profile)
    for setting in settings:
        stage, name, text = _setting(setting, entries)
        values[stage][name] = from_text(notebooks / f"{stage}.ipynb", name, text)
    points = {name: _points(name, entry) for name, entry in entries.items()}
    stages: dict[str, Stage] = {}
    for name, entry in entries.items():
        needs = tuple(stage for need in entry.get("needs", ()) for stage in points[need])
        for stage, point in points[name].items():
            stages[stage] = _stage(stage, notebooks / f"{name}.ipynb", entry, needs, values[name] | point)
    try:
        order = list(graphlib.TopologicalSorter({name: s.needs for name, s in stages.items()}).static_order())
    except graphlib.CycleError as error:
        raise ValueError(f"stages.yaml: a cycle: {' needs '.join(reversed(error.args[1]))}") from None
    keys: dict[str, str] = {}
    for name in order:
        stage = stages[name]
        facts = canonical([dict(stage.parameters), stage.data])
        keys[name] = sha256(stage.code, facts, *(keys[need] for need in stage.needs))
    return Graph(profile, {name: stages[name] for name in keys}, keys)


def stage_names(notebooks: Path | None = None) -> set[str]:
    """Every stage of stages.yaml, without reading a notebook."""
    entries = _entries((notebooks or resource("notebooks")) / "stages.yaml")
    return {stage for name, entry in entries.items() for stage in _points(name, entry)}


def _entries(path: Path) -> dict[str, dict]:
    entries = {name: {} if entry is None else entry for name, entry in _yaml(path).items()}
    for name, entry in entries.items():
        if not (isinstance(name, str) and _NAME.fullmatch(name) and isinstance(entry, dict)):
            raise ValueError(f"{path}: {name!r} is no stage: want `folder/notebook: {{needs: [...], ...}}`")
        for key, value in entry.items():
            if key not in _ENTRY:
                raise ValueError(f"{path}: {name} has no key {key!r}{near(str(key), _ENTRY)}")
            if not _ENTRY[key](value):
                raise ValueError(f"{path}: {name}: {key} cannot be {value!r}; see the head of trackerlib/stages.py")
    for name, entry in entries.items():
        if entry.get("needs") == "all":
            entry["needs"] = [n for n, e in entries.items() if e.get("needs") != "all" and n != name]
        for need in entry.get("needs", []):
            if need not in entries:
                raise ValueError(f"{path}: {name} needs {need!r}, which is no stage{near(need, entries)}")
    return entries


def _named(values: Any) -> bool:
    return isinstance(values, dict) and all(isinstance(name, str) for name in values)


def _texts(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _points_fit(grid: Any) -> bool:
    """Whether a `for` maps parameters to values that can name folders."""
    if not _named(grid) or not all(isinstance(values, list) for values in grid.values()):
        return False
    return all(re.fullmatch(_PART, f"{k}={v}", re.ASCII) for k, values in grid.items() for v in values)


_ENTRY = {  # what a stage may say, and what is right there
    "needs": lambda value: value == "all" or _texts(value),
    "for": _points_fit,
    "data": lambda value: isinstance(value, dict) and _texts([*value, *value.values()]),
    "files": _texts,
    "timeout": lambda value: type(value) in (int, float) and 0 < value < math.inf,
}


def _yaml(path: Path) -> dict:
    try:
        loaded = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise
    except Exception as error:  # its constructors raise nearly anything
        raise ValueError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(loaded, dict):
        raise ValueError(f"{path}: want a mapping of stages")
    return loaded


def _setting(setting: str, entries: Mapping) -> tuple[str, str, str]:
    target, equals, text = setting.partition("=")
    stage, dot, name = target.rpartition(".")
    if not (equals and dot):
        raise ValueError(f"--set {setting}: want stage.parameter=value, for example siamfc/1_train.seed=1")
    if stage not in entries:
        raise ValueError(f"--set {setting}: no stage is called {stage!r}{near(stage, entries)}")
    return stage, name, text


def _profiles(notebooks: Path, entries: Mapping, profile: str) -> dict[str, dict]:
    """Stage to its values in this profile. A paper's stage without a section is an error: else it would be smoke."""
    sections: dict[str, dict] = {name: {} for name in entries if "/" in name}
    for path in (notebooks / folder / "profiles.yaml" for folder in {Path(name).parent for name in sections}):
        for section, by_profile in (_yaml(path) if path.is_file() else {}).items():
            stage = f"{path.parent.relative_to(notebooks).as_posix()}/{section}"
            if stage not in sections:
                raise ValueError(f"{path}: {section!r} is no stage{near(stage, sections)}")
            by_profile = {} if by_profile is None else by_profile
            if not _named(by_profile) or not all(v is None or _named(v) for v in by_profile.values()):
                raise ValueError(f"{path}: {section}: want `profile: {{parameter: value}}`")
            sections[stage] = by_profile
    known = {SMOKE, *(p for by_profile in sections.values() for p in by_profile)}
    if profile not in known:
        raise ValueError(f"no profile is called {profile!r}{near(profile, known)}")
    bare = [name for name, by_profile in sections.items() if profile not in by_profile]
    if profile != SMOKE and bare:
        raise ValueError(f"profiles.yaml: no `{profile}` for {', '.join(bare)}; `{profile}: {{}}` takes the defaults")
    return {name: dict(sections.get(name, {}).get(profile) or {}) for name in entries}


def _points(name: str, entry: Mapping) -> dict[str, dict[str, Any]]:
    """The stages that an entry stands for, each with the values that its `for` gives it."""
    grid = entry.get("for", {})
    points = (dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values()))
    return {"/".join([name, *(f"{k}={v}" for k, v in point.items())]): point for point in points}


def _stage(name: str, notebook: Path, entry: Mapping, needs: tuple[str, ...], values: Mapping[str, Any]) -> Stage:
    parameters = resolved(notebook, values, name)
    for parameter in itertools.chain(*entry.get("data", {}).items()):
        if not isinstance(parameters.get(parameter), str):
            raise ValueError(f"stages.yaml: {name}: data: {notebook.name} has no parameter {parameter!r} of text")
    if needs and "inputs" not in declared(notebook):
        raise ValueError(f"{notebook}: the parameters cell lacks `inputs: dict = {{}}` (folders of what it needs)")
    data, missing = _outside(entry, parameters)
    timeout = float(entry.get("timeout", 7 * 24 * 3600))
    return Stage(name, notebook, code_hash(notebook), parameters, needs, data, missing, timeout)


def _outside(entry: Mapping, parameters: Mapping[str, Any]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Digests of the data sets and files that a stage reads, and a sentence on each that is not there.

    Rendered data is code, and is hashed as such; a file's parameter that is empty, or "random", names none."""
    digests: dict[str, str] = {}
    missing = []
    for parameter, root in entry.get("data", {}).items():
        name = parameters[parameter]
        try:
            if name and not name.startswith("rendered"):
                digests[parameter] = _dataset_digest(name, parameters[root])
        except (FileNotFoundError, ValueError) as error:
            missing.append(f"{error} (--set STAGE.{root}=DIR)")
    for file in entry.get("files", ()):
        name = parameters.get(file, file)
        if name in ("", "random"):
            continue
        if not isinstance(name, str):
            raise ValueError(f"stages.yaml: files: the parameter {file!r} names no file, it is {name!r}")
        places = (Path(name), resource("data", "weights", f"{name}.safetensors"), resource(*Path(name).parts))
        found = next((place for place in places if os.path.isfile(place)), None)
        if found:
            digests[file] = file_sha256(found)
        else:
            missing.append(f"{file}: {name!r} is neither a file nor shipped in data/weights")
    return digests, tuple(missing)


@functools.cache
def _dataset_digest(name: str, root: str) -> str:
    from .data import load_dataset  # torch comes with it: only where real data is read

    return load_dataset(name, root or None).digest()


def code_hash(notebook: Path) -> str:
    """Of the code cells but the parameters', as one syntax tree, and of the modules of trackerlib that they import."""
    lines = [line for c in code_cells(notebook) if "parameters" not in c.tags for line in c.source.splitlines()]
    magics = [line for line in lines if line.lstrip().startswith(("%", "!"))]
    try:
        tree = ast.parse("\n".join(line for line in lines if line not in magics))
        text = syntax(tree)
    except UNREADABLE as error:
        raise ValueError(f"{notebook}: a code cell is no Python: {error}") from None
    return sha256(text, canonical(magics), code_digest(imports(tree)))

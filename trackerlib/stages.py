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

from __future__ import annotations

import ast
import functools
import graphlib
import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from .config import near
from .parameters import code_cells, declared, from_text, resolved
from .provenance import canonical, code_digest, file_sha256, imported_modules, sha256, syntax
from .resources import resource

SMOKE = "smoke"
MANIFEST = "manifest.json"
_ENTRY = {"needs", "for", "data", "files", "timeout", "parameters"}
_TIMEOUT = 7 * 24 * 3600


@dataclass(frozen=True)
class Stage:
    name: str
    notebook: Path
    code: str  # `code_hash` when the graph was read
    parameters: Mapping[str, Any]
    needs: tuple[str, ...] = ()
    data: Mapping[str, str] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    timeout: float = _TIMEOUT


@dataclass(frozen=True)
class Graph:
    """The stages of a profile in an order in which they can run, with the key of each.

    missing: for each stage whose data is not there, one sentence an absence; such a stage has no final key."""

    profile: str
    stages: Mapping[str, Stage]
    keys: Mapping[str, str]
    missing: Mapping[str, list[str]]

    def chosen(self, targets: Iterable[str]) -> list[str]:
        """The stages that targets name: a stage, an expanded stage, a paper (its folder), or none: all of them."""
        targets = list(targets)
        picked: set[str] = set()
        for target in targets:
            target = target.removesuffix(".ipynb").removeprefix("notebooks/").rstrip("/")
            matches = {name for name in self.stages if name == target or name.startswith(target + "/")}
            if not matches:
                papers = {name.split("/")[0] for name in self.stages}
                raise ValueError(f"no stage or paper is called {target!r}{near(target, set(self.stages) | papers)}")
            picked |= matches
        return [name for name in self.stages if name in picked or not targets]

    def upstream(self, names: Iterable[str]) -> list[str]:
        """These stages and all they need, in running order."""
        wanted, todo = set(), list(names)
        while todo:
            name = todo.pop()
            if name not in wanted:
                wanted.add(name)
                todo += self.stages[name].needs
        return [name for name in self.stages if name in wanted]

    def state(self, name: str, results: Path) -> str:
        """`fresh`, `stale` (done under another key), `unfinished` (begun, no manifest) or `not run`.

        results: the profile's folder. A manifest with a product missing is `stale`."""
        folder = results / name
        try:
            manifest = json.loads((folder / MANIFEST).read_text())
        except FileNotFoundError:
            return "unfinished" if folder.is_dir() and any(folder.iterdir()) else "not run"
        except json.JSONDecodeError:
            return "stale"
        whole = all((folder / product).is_file() for product in manifest["outputs"])
        return "fresh" if whole and manifest["key"] == self.keys[name] else "stale"


def load_graph(profile: str = SMOKE, settings: Iterable[str] = (), notebooks: Path | None = None) -> Graph:
    """Read and check the whole graph: every parameter of every stage, every need, and what data is there.

    settings: `stage.parameter=value` as typed. Raises ValueError before anything could start."""
    notebooks = notebooks or resource("notebooks")
    entries = _entries(notebooks / "stages.yaml")
    typed = _settings(settings, entries, notebooks)
    profiles = _profiles(notebooks, entries, profile)
    expanded: dict[str, list[Stage]] = {}
    for name, entry in entries.items():
        path = notebooks / f"{name}.ipynb"
        values = {**entry.get("parameters", {}), **profiles.get(name, {}), **typed.get(name, {})}
        expanded[name] = [
            _stage(stage, path, entry, {**values, **point}) for stage, point in _points(name, entry.get("for", {}))
        ]
    stages = {s.name: s for group in expanded.values() for s in group}
    linked = {
        stage.name: replace(stage, needs=tuple(n.name for need in stage.needs for n in expanded[need]))
        for stage in stages.values()
    }
    ordered = {name: linked[name] for name in _order(linked)}
    missing = {name: absences for name, stage in ordered.items() if (absences := _missing(stage))}
    return Graph(profile, ordered, _keys(ordered, missing), missing)


def stage_names(notebooks: Path | None = None) -> set[str]:
    """Every stage of stages.yaml, without reading a notebook."""
    entries = _entries((notebooks or resource("notebooks")) / "stages.yaml")
    return {stage for name, entry in entries.items() for stage, _ in _points(name, entry.get("for", {}))}


def _entries(path: Path) -> dict[str, dict]:
    entries = {name: entry or {} for name, entry in _yaml(path).items()}
    for name, entry in entries.items():
        for key in entry:
            if key not in _ENTRY:
                raise ValueError(f"{path}: {name} has no key {key!r}{near(key, _ENTRY)}")
        if entry.get("needs") == "all":
            entry["needs"] = [n for n, e in entries.items() if e.get("needs") != "all" and n != name]
        for need in entry.get("needs", []):
            if need not in entries:
                raise ValueError(f"{path}: {name} needs {need!r}, which is no stage{near(need, entries)}")
    return entries


def _yaml(path: Path) -> dict:
    try:
        loaded = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(loaded, dict):
        raise ValueError(f"{path}: want a mapping of stages")
    return loaded


def _settings(settings: Iterable[str], entries: Mapping, notebooks: Path) -> dict[str, dict]:
    typed: dict[str, dict] = {}
    for setting in settings:
        target, equals, text = setting.partition("=")
        stage, dot, name = target.rpartition(".")
        if not (equals and dot):
            raise ValueError(f"--set {setting}: want stage.parameter=value, for example siamfc/1_train.seed=1")
        if stage not in entries:
            raise ValueError(f"--set {setting}: no stage is called {stage!r}{near(stage, entries)}")
        typed.setdefault(stage, {})[name] = from_text(notebooks / f"{stage}.ipynb", name, text)
    return typed


def _profiles(notebooks: Path, entries: Mapping, profile: str) -> dict[str, dict]:
    """Stage to its values in this profile. A paper's stage without a section is an error: else it would be smoke."""
    sections: dict[str, dict] = {name: {} for name in entries if "/" in name}
    for folder in sorted({Path(name).parent for name in sections}):
        path = notebooks / folder / "profiles.yaml"
        for section, by_profile in (_yaml(path) if path.is_file() else {}).items():
            stage = str(folder / section)
            if stage not in sections:
                mine = [Path(name).name for name in sections if Path(name).parent == folder]
                raise ValueError(f"{path}: {section!r} is no stage of {folder}{near(section, mine)}")
            sections[stage] = by_profile or {}
    known = {SMOKE, *(p for by_profile in sections.values() for p in by_profile)}
    if profile not in known:
        raise ValueError(f"no profile is called {profile!r}{near(profile, known)}")
    bare = [name for name, by_profile in sections.items() if profile not in by_profile]
    if profile != SMOKE and bare:
        raise ValueError(f"profiles.yaml: no `{profile}` for {', '.join(bare)}; `{profile}: {{}}` takes the defaults")
    return {name: by_profile.get(profile) or {} for name, by_profile in sections.items()}


def _points(name: str, grid: Mapping[str, list]) -> list[tuple[str, dict]]:
    points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    return [("/".join([name, *(f"{k}={v}" for k, v in point.items())]), point) for point in points]


def _stage(name: str, notebook: Path, entry: Mapping, values: Mapping[str, Any]) -> Stage:
    parameters = resolved(notebook, values, name)
    data, files = entry.get("data", {}), tuple(entry.get("files", ()))
    for parameter in (p for pair in data.items() for p in pair):
        if parameter not in parameters:
            raise ValueError(f"stages.yaml: {name}: data: {notebook.name} has no parameter {parameter!r}")
    needs = tuple(entry.get("needs", ()))
    if needs and "inputs" not in declared(notebook):
        raise ValueError(
            f"{notebook}: the parameters cell lacks `inputs: dict = {{}}` (folders of the stages it needs)"
        )
    return Stage(
        name, notebook, code_hash(notebook), parameters, needs, data, files, float(entry.get("timeout", _TIMEOUT))
    )


def _order(stages: Mapping[str, Stage]) -> list[str]:
    """Topological, otherwise as in stages.yaml."""
    try:
        return list(graphlib.TopologicalSorter({name: s.needs for name, s in stages.items()}).static_order())
    except graphlib.CycleError as error:
        raise ValueError(f"stages.yaml: a cycle: {' needs '.join(reversed(error.args[1]))}") from None


def _keys(ordered: Mapping[str, Stage], missing: Mapping[str, list[str]]) -> dict[str, str]:
    keys: dict[str, str] = {}
    for name, stage in ordered.items():
        keys[name] = sha256(
            stage.code,
            canonical(dict(stage.parameters)),
            *(keys[need] for need in stage.needs),
            "" if name in missing else canonical(data_digests(stage)),
        )
    return keys


def code_hash(notebook: Path) -> str:
    """Of the code cells but the parameters', as one syntax tree, and of the modules of trackerlib that they import."""
    lines = [line for c in code_cells(notebook) if "parameters" not in c.tags for line in c.source.splitlines()]
    magics = [line for line in lines if line.lstrip().startswith(("%", "!"))]
    plain = "\n".join(line for line in lines if line not in magics)
    try:
        tree = ast.parse(plain)
    except SyntaxError as error:
        raise ValueError(f"{notebook}: a code cell is no Python: {error}") from None
    return sha256(syntax(tree), canonical(magics), code_digest(imported_modules(plain)))


def data_digests(stage: Stage) -> dict[str, str]:
    """What a stage reads from outside: parameter or file to digest. Procedural data is code, and is hashed as such."""
    digests = {p: _dataset_digest(*where) for p, where in _datasets(stage).items()}
    return digests | {entry: file_sha256(path) for entry, path in _files(stage).items() if path is not None}


def _missing(stage: Stage) -> list[str]:
    absent = [
        f"{entry}: {stage.parameters.get(entry, entry)!r} is neither a file nor shipped in data/weights"
        for entry, path in _files(stage).items()
        if path is None
    ]
    for parameter, where in _datasets(stage).items():
        try:
            _dataset_digest(*where)
        except (FileNotFoundError, ValueError) as error:
            absent.append(f"{error} (--set STAGE.{stage.data[parameter]}=DIR)")
    return absent


def _datasets(stage: Stage) -> dict[str, tuple[str, str]]:
    named = {p: (stage.parameters[p], stage.parameters[root]) for p, root in stage.data.items()}
    return {p: (name, root) for p, (name, root) in named.items() if name and not name.startswith("rendered")}


@functools.cache
def _dataset_digest(name: str, root: str) -> str:
    from .data import load_dataset  # torch comes with it: only where real data is read

    return load_dataset(name, root or None).digest()


def _files(stage: Stage) -> dict[str, Path | None]:
    """Declared file to where it is; None: nowhere. A parameter left empty, or "random", names none."""
    found: dict[str, Path | None] = {}
    for entry in stage.files:
        name = stage.parameters.get(entry, entry)
        if name not in ("", "random"):
            places = (Path(name), resource("data", "weights", f"{name}.safetensors"), resource(*Path(name).parts))
            found[entry] = next((place for place in places if place.is_file()), None)
    return found

"""Loading data or weights never executes code from them: no way to do so stands in the package or a notebook, and files
that try are refused before they run.

The scan reads syntax trees, so that neither an alias nor a name passed on escapes it. `numpy.load` refuses pickles
unless it is told otherwise (since 1.16.3; we want 1.26): `allow_pickle` may be left out, or be a literal False."""

import ast
import io
import json
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from trackerlib.bench.results import RunSet
from trackerlib.nn.checkpoints import read_tensors
from trackerlib.nn.yolo import load_yolo

ROOT = Path(__file__).resolve().parents[2]

# A module that only runs or revives code, and names that do; of pickle, the exceptions are wanted.
MODULES = {"marshal", "shelve", "dill", "joblib", "jsonpickle", "_pickle", "runpy", "codeop"}
NAMES = {
    *(f"builtins.{name}" for name in ("eval", "exec", "compile", "__import__")),
    *(f"{module}.{name}" for module in ("pickle", "cloudpickle") for name in ("load", "loads", "Unpickler", "*")),
    *("pandas.read_pickle", "pandas.read_hdf", "pandas.eval", "torch.jit.load", "torch.hub.load"),
    *("torch.utils.cpp_extension.load", "torch.utils.cpp_extension.load_inline", "torch.package.PackageImporter"),
    *(f"yaml.{name}" for name in ("unsafe_load", "unsafe_load_all", "full_load", "full_load_all", "load_all")),
    *("yaml.Loader", "yaml.UnsafeLoader", "yaml.FullLoader", "yaml.CLoader", "importlib.__import__"),
    *("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"),
}
GUARDED = {  # allowed in a call with (or, of numpy, without anything but) this argument alone
    "torch.load": ("weights_only", "True"),
    "numpy.load": ("allow_pickle", "False"),
    "yaml.load": ("Loader", "yaml.SafeLoader"),
}
# Where a module is imported by a name that the code does not hold, and why that is no code from data.
IMPORTS = {
    "trackerlib/__init__.py": "one of the package's own modules, from the table _HOME",
    "trackerlib/trackers.py": "a tracker of the user's, which the command or the notebook names as module:Class",
    "trackerlib/trainings.py": "a training of the user's, which the command names as module:Class",
}


def found_in(source: str, may_import: bool = False) -> list[str]:
    """`line: what` for everything in a module, or in a cell, that could run code from data."""
    tree = ast.parse(source)
    aliases = dict(_aliases(tree))
    faults, passed = [], set()
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            faults += [(line, name) for name in names if name.split(".")[0] in MODULES and not _relative(node)]
            if isinstance(node, ast.ImportFrom) and any(a.name == "*" for a in node.names):
                faults += [(line, f"{node.module}.*")] * (f"{node.module}.*" in NAMES)
        elif isinstance(node, ast.Call):
            full = _full(node.func, aliases)
            if any(k.arg == "shell" and not _is(k.value, "False") for k in node.keywords):
                faults.append((line, "shell"))
            if full in GUARDED and _guarded(node, full):
                passed.add(node.func)
        if isinstance(node, ast.Attribute | ast.Name) and node not in passed:
            full = _full(node, aliases)
            if full in NAMES or full in GUARDED or (full == "importlib.import_module" and not may_import):
                faults.append((line, full))
    return [f"{line}: {what}" for line, what in sorted(set(faults))]


def _aliases(tree: ast.AST):
    """Every name that an import binds, wherever it stands, and what it is bound to."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for a in node.names:
                yield (a.asname, a.name) if a.asname else (a.name.split(".")[0],) * 2
        elif isinstance(node, ast.ImportFrom) and not _relative(node):
            yield from ((a.asname or a.name, f"{node.module}.{a.name}") for a in node.names)


def _relative(node: ast.Import | ast.ImportFrom) -> bool:
    return isinstance(node, ast.ImportFrom) and node.level > 0


def _full(node: ast.AST, aliases: dict[str, str]) -> str:
    """`numpy.load` for what the code calls `np.load`; a bare name that no import binds is a builtin."""
    if isinstance(node, ast.Attribute):
        return f"{_full(node.value, aliases)}.{node.attr}"
    return aliases.get(node.id, f"builtins.{node.id}") if isinstance(node, ast.Name) else "?"


def _guarded(call: ast.Call, full: str) -> bool:
    name, value = GUARDED[full]
    if any(k.arg is None for k in call.keywords):  # **options may hold anything
        return False
    given = [k.value for k in call.keywords if k.arg == name]
    positional = len(call.args) > (2 if full == "numpy.load" else 1)
    return not positional and all(_is(v, value) for v in given) and (bool(given) or full == "numpy.load")


def _is(node: ast.AST, text: str) -> bool:
    return ast.unparse(node) == text


def cells(notebook: Path) -> str:
    """The code cells of a notebook; lines for IPython are kept as calls of what they do."""
    read = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    lines = [line for cell in read for line in "".join(cell["source"]).splitlines()]
    shells = ("!", "%%", "%sx", "%system", "%run", "%load")
    plain = (["os_system = exec"] if line.lstrip().startswith(shells) else [line] for line in lines)
    return "\n".join(line for part in plain for line in part if not line.lstrip().startswith("%"))


SOURCES = sorted([*(ROOT / "trackerlib").rglob("*.py"), *(ROOT / "notebooks").rglob("*.ipynb")])


def test_there_is_something_to_scan():
    assert len([path for path in SOURCES if path.suffix == ".py"]) > 50
    assert len([path for path in SOURCES if path.suffix == ".ipynb"]) > 20
    assert all((ROOT / place).is_file() for place in IMPORTS)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_runs_code_from_data(path):
    source = path.read_text() if path.suffix == ".py" else cells(path)
    assert found_in(source, path.relative_to(ROOT).as_posix() in IMPORTS) == []


@pytest.mark.parametrize(
    "planted",
    [
        "import pickle\npickle.load(f)",
        "import pickle as p\nread = p.loads",
        "from pickle import Unpickler as U\nU(f).load()",
        "from pickle import *",
        "def f():\n    import marshal",
        "from shelve import open",
        "import joblib.numpy_pickle",
        "import cloudpickle\nlist(map(cloudpickle.loads, parts))",
        "eval(text)",
        "list(map(eval, texts))",
        "exec(text)",
        "compile(text, '', 'exec')",
        "import builtins\nbuiltins.exec(text)",
        "__import__(name)",
        "import importlib\nimportlib.import_module(name)",
        "from importlib import import_module as load\nload(name)",
        "import torch\ntorch.load(path)",
        "import torch\ntorch.load(path, weights_only=False)",
        "import torch\ntorch.load(path, weights_only=safe)",
        "import torch\ntorch.load(path, **options)",
        "from torch import load\nload(path)",
        "import torch\nread = torch.load",
        "import torch\ntorch.jit.load(path)",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "import numpy as np\nnp.load(path, allow_pickle=trusted)",
        "import numpy as np\nnp.load(path, None, True)",
        "import numpy as np\npartial(np.load, allow_pickle=True)",
        "import yaml\nyaml.load(text)",
        "import yaml\nyaml.load(text, yaml.Loader)",
        "import yaml\nyaml.load(text, Loader=yaml.FullLoader)",
        "import yaml\nyaml.unsafe_load(text)",
        "import pandas as pd\npd.read_pickle(path)",
        "import subprocess\nsubprocess.run(line, shell=True)",
        "import subprocess\nsubprocess.run(line, shell=bool(1))",
        "import os\nos.system(line)",
        "from os import popen\npopen(line)",
        "import runpy",
    ],
)
def test_the_scan_finds_what_is_planted(planted):
    assert found_in(planted) != []


@pytest.mark.parametrize(
    "harmless",
    [
        "import torch\ntorch.load(path, map_location='cpu', weights_only=True)",
        "import numpy as np\nnp.load(path, mmap_mode='r')\nnp.load(path, allow_pickle=False)",
        "import yaml\nyaml.safe_load(text)\nyaml.load(text, Loader=yaml.SafeLoader)",
        "import re, torch\nre.compile('a')\nnet.eval()\ntorch.compile(net)\nsubprocess.run(a, shell=False)",
        "import pickle\ntry:\n    pass\nexcept pickle.UnpicklingError:\n    pass",
    ],
)
def test_the_scan_lets_pass_what_is_harmless(harmless):
    assert found_in(harmless) == []


@pytest.mark.parametrize("line", ["!rm -rf x", "%%bash\\nrm", "  !ls", "%run other.py", "eval(text)"])
def test_the_scan_reads_notebooks(tmp_path, line):
    notebook = tmp_path / "a.ipynb"
    notebook.write_text('{"cells": [{"cell_type": "code", "source": ["%matplotlib inline\\n", "' + line + '"]}]}')
    assert found_in(cells(notebook)) != []


class Bomb:
    """Revived by pickle, it makes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def plain_pickle(bomb: Bomb) -> bytes:
    return pickle.dumps({"weight": bomb})


def torch_zip(bomb: Bomb) -> bytes:
    torch.save({"weight": torch.zeros(2), "bomb": bomb}, buffer := io.BytesIO())
    return buffer.getvalue()


def torch_legacy(bomb: Bomb) -> bytes:
    torch.save({"weight": torch.zeros(2), "bomb": bomb}, buffer := io.BytesIO(), _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def zipped_pickle(bomb: Bomb) -> bytes:
    """What `torch.load` looks for in a zip."""
    with zipfile.ZipFile(buffer := io.BytesIO(), "w") as pack:
        pack.writestr("archive/data.pkl", pickle.dumps(bomb, protocol=2))
        pack.writestr("archive/version", "3\n")
    return buffer.getvalue()


def safetensors_header(bomb: Bomb) -> bytes:
    header = pickle.dumps(bomb)
    return struct.pack("<Q", len(header)) + header


def object_array(bomb: Bomb) -> bytes:
    np.save(buffer := io.BytesIO(), np.array([bomb], dtype=object), allow_pickle=True)
    return buffer.getvalue()


FILES = (plain_pickle, torch_zip, torch_legacy, zipped_pickle, safetensors_header, object_array)


@pytest.fixture
def bomb(tmp_path):
    made = Bomb(tmp_path / "exploded")
    yield made
    assert not made.path.exists()


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors", ".mat", ".npz"])
@pytest.mark.parametrize("content", FILES)
def test_weights_that_hold_code_are_refused_and_not_run(tmp_path, bomb, content, suffix):
    path = tmp_path / f"evil{suffix}"
    path.write_bytes(content(bomb))
    with pytest.raises(ValueError, match=f"evil{suffix}: "):
        read_tensors(path)


def test_code_in_darknet_weights_is_only_numbers_of_the_wrong_count(tmp_path, bomb):
    path = tmp_path / "evil.weights"
    path.write_bytes(plain_pickle(bomb))
    with pytest.raises(ValueError, match=r"evil\.weights: holds"):
        load_yolo(path)


@pytest.mark.parametrize("content", [object_array, plain_pickle])
def test_maps_that_hold_code_are_refused_and_not_run(tmp_path, bomb, content):
    (tmp_path / "maps").mkdir()
    with zipfile.ZipFile(tmp_path / "maps/run.npz", "w") as pack:
        pack.writestr("response.npy", content(bomb))
    with pytest.raises(ValueError, match=r"run\.npz: "):
        RunSet(tmp_path).maps("run")
    (tmp_path / "maps/run.npz").write_bytes(content(bomb))
    with pytest.raises(ValueError, match=r"run\.npz: "):
        RunSet(tmp_path).maps("run")


def test_the_bomb_would_go_off(tmp_path):
    made = Bomb(tmp_path / "exploded")
    for revive in (pickle.loads, lambda data: torch.load(io.BytesIO(data), weights_only=False)):
        revive(plain_pickle(made) if revive is pickle.loads else torch_zip(made))
        assert made.path.exists()
        made.path.unlink()

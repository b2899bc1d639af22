"""Digests of code: what changes them, and what does not."""

import ast
import importlib
import linecache
import subprocess
import sys
import types

import pytest

from trackerlib import provenance
from trackerlib.provenance import class_digest, code_digest, syntax
from trackerlib.siamfc import SiamFC


def test_a_syntax_tree_reads_the_same_in_every_python():
    """Python 3.12 gave functions and classes `type_params`, 3.13 leaves empty fields out of `ast.dump`."""
    source = 'def f(a):\n    """Doc."""\n    return [a, None, ""]  # comment\n'
    assert syntax(ast.parse(source)) == (
        "Module(body=[FunctionDef(name='f',args=arguments(args=[arg(arg='a')]),body=[Return(value=List(elts=["
        "Name(id='a',ctx=Load()),Constant(),Constant(value='')],ctx=Load()))])])"
    )


def test_a_class_of_trackerlib_is_its_modules():
    assert class_digest(SiamFC) == code_digest(["trackerlib.siamfc"])
    assert class_digest(SiamFC) != code_digest(["trackerlib.tracker"])


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A user's modules: write(name=source, ...) gives the digest of `mine.Mine` as a new process would compute it."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(**sources: str) -> str:
        for name, source in sources.items():
            path = tmp_path / f"{name.replace('__', '/')}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(source)
        provenance._parse.cache_clear()
        for name in [n for n in sys.modules if n.split(".")[0] in ("mine", "aside", "pack")]:
            del sys.modules[name]
        importlib.invalidate_caches()
        return class_digest(importlib.import_module("mine").Mine)

    return write


MINE = "import aside\nfrom pack import deep\n\nclass Mine:\n    def track(self):\n        return aside.f(), deep.x\n"


def test_a_users_class_is_its_file_and_the_local_modules_it_imports(own):
    first = own(mine=MINE, aside="def f(): return 1", pack__deep="from .deeper import x", pack__deeper="x = 1")
    assert own(mine=MINE + "# a comment\n") == first
    digests = [
        first,
        own(aside="def f(): return 2"),
        own(pack__deeper="x = 2"),
        own(mine=MINE.replace("deep.x", "deep.x + 1")),
        own(mine=MINE + "\nLIMIT = 3\n"),
    ]
    assert len(set(digests)) == len(digests)


def test_a_users_class_is_also_the_trackerlib_it_imports_and_no_installed_package(own, tmp_path, monkeypatch):
    package = tmp_path / "package"
    package.mkdir()
    monkeypatch.setattr(provenance, "_ROOT", package)
    for name in ("__init__", "tracker", "trackers"):
        (package / f"{name}.py").write_text("x = 1\n")
    source = MINE.replace("import aside", "import aside, numpy\nfrom trackerlib import load_tracker")
    first = own(mine=source, aside="def f(): return 1", pack__deep="x = 1")
    (package / "tracker.py").write_text("x = 2\n")
    assert own() == first
    (package / "trackers.py").write_text("x = 2\n")
    assert own() != first
    assert [tree.split("=")[0] for tree in provenance._trees(["mine"])] == [
        "aside",
        "mine",
        "pack.deep",
        "trackerlib",
        "trackerlib.trackers",
    ]


@pytest.fixture
def cell(monkeypatch):
    """Run a cell as IPython does: its source in linecache under a name of its own, its names in `__main__`."""
    main = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)

    def execute(source: str) -> type | None:
        name = f"/nowhere/ipykernel/{len(linecache.cache)}.py"
        linecache.cache[name] = (len(source), None, source.splitlines(True), name)
        exec(compile(source, name, "exec"), vars(main))
        return vars(main).get("Mine")

    return execute


CELL = "class Mine:\n    def track(self):\n        return helper() * GAIN\n"


def test_a_class_typed_into_a_notebook_is_its_cell_and_what_that_names(cell):
    cell("import math\nGAIN = 2.0\nUNUSED = 1")
    cell("def helper():\n    return 1")
    first = class_digest(cell(CELL))
    assert class_digest(cell(CELL + "# the same, run again")) == first
    cell("UNUSED = 2")
    assert class_digest(cell(CELL)) == first
    digests = [first, class_digest(cell(CELL + "    b = 1"))]
    cell("GAIN = 3.0")
    digests.append(class_digest(cell(CELL)))
    cell("def helper():\n    return 2")
    digests.append(class_digest(cell(CELL)))
    cell("from trackerlib.siamfc import SiamFC")
    digests.append(class_digest(cell(CELL.replace("Mine:", "Mine(SiamFC):"))))
    assert len(set(digests)) == len(digests)


def test_a_class_without_source_is_never_the_same_twice():
    code = (
        "from trackerlib.provenance import class_digest\n"
        "exec('class Mine:\\n    def track(self): pass')\n"
        "print(class_digest(Mine) == class_digest(Mine), end='')"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False"

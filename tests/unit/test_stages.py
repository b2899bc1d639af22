"""The stage runner, on throw-away notebooks that import no torch. What papermill gets wrong is tested hardest."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from trackerlib import provenance, runner
from trackerlib.parameters import declared, from_text, resolved
from trackerlib.runner import run
from trackerlib.stages import load_graph, stage_names

OUT = 'out_dir: str = ""'
WRITE = "from pathlib import Path\nPath(out_dir, 'product.txt').write_text(repr({}))"


def notebook(root: Path, name: str, parameters: str = OUT, *cells: str) -> Path:
    tagged = new_code_cell(parameters, metadata={"tags": ["parameters"]})
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path = root / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=[tagged, *map(new_code_cell, cells)], metadata=kernel), path)
    return path


@pytest.fixture
def books(tmp_path) -> Path:
    """p/1_a -> p/2_b -> p/3_c, and p/other."""
    root = tmp_path / "notebooks"
    for name, parameter in (("1_a", "n: int = 1"), ("2_b", "lr: float = 0.1"), ("3_c", ""), ("other", "")):
        text = f"{OUT}\ninputs: dict = {{}}\n{parameter}"
        value = parameter.partition(":")[0] or "0"
        read = "print([Path(f, 'product.txt').read_text() for f in inputs.values()])"
        notebook(root, f"p/{name}", text, WRITE.format(value), read)
    (root / "stages.yaml").write_text("p/1_a:\np/2_b: {needs: [p/1_a]}\np/3_c: {needs: [p/2_b]}\np/other:\n")
    return root


@pytest.fixture(autouse=True)
def no_torch(monkeypatch):
    monkeypatch.setattr(runner, "_hardware", dict)


def manifest(results: Path, name: str) -> dict:
    return json.loads((results / "smoke" / name / "manifest.json").read_text())


# Parameters


def test_an_unknown_parameter_is_refused_and_the_near_one_named(books):
    with pytest.raises(ValueError, match=r"has no parameter 'lrr'; near: lr"):
        resolved(books / "p/2_b.ipynb", {"lrr": 1.0}, "test")


@pytest.mark.parametrize("value", ["1e-4", None, True, [0.1]])
def test_a_mistyped_parameter_is_refused(books, value):
    with pytest.raises(ValueError, match=r"lr = .* want float"):
        resolved(books / "p/2_b.ipynb", {"lr": value}, "test")


def test_a_list_of_bare_words_is_told_what_it_wants(tmp_path):
    book = notebook(tmp_path, "a", f"{OUT}\nnames: list[str] = []")
    with pytest.raises(ValueError, match=r'names = .* want list\[str\] \(text in a list wants quotes: \["a", "b"\]\)'):
        resolved(book, {"names": from_text(book, "names", "[gstp, siamrcnn]")}, "test")


def test_an_int_serves_as_a_float_and_has_the_same_key(books):
    first, second = (load_graph("smoke", [f"p/2_b.lr={v}"], books).keys["p/2_b"] for v in ("2", "2.0"))
    assert first == second
    assert resolved(books / "p/2_b.ipynb", {"lr": 2}, "test")["lr"] == 2.0


def test_the_runners_own_parameters_cannot_be_set(books):
    with pytest.raises(ValueError, match="out_dir is set by the runner"):
        load_graph("smoke", ["p/1_a.out_dir=x"], books)


@pytest.mark.parametrize(
    ("cell", "complaint"),
    [
        (OUT + "\nn = 1", "not `name: type = literal`"),
        (OUT + "\nn: int = 1 + 1", "no literal"),
        (OUT + "\nn: int = 1.5", "want int"),
        ("n: int = 1", "lacks `out_dir"),
    ],
)
def test_a_parameters_cell_holds_typed_literals(tmp_path, cell, complaint):
    with pytest.raises(ValueError, match=complaint):
        declared(notebook(tmp_path, "x", cell))


def test_types_may_be_unions_and_containers(tmp_path):
    cell = OUT + "\nsome: list[str] | None = None\nsizes: dict[str, int] = {}\nname: str = 'a'"
    path = notebook(tmp_path, "x", cell)
    assert resolved(path, {"some": ["a"], "sizes": {"b": 1}}, "test")["some"] == ["a"]
    with pytest.raises(ValueError, match="want list"):
        resolved(path, {"some": [1]}, "test")
    assert from_text(path, "name", "007") == "007"
    assert from_text(path, "some", "['a']") == ["a"]


# The graph


def test_for_makes_one_stage_a_value_and_a_collecting_stage_needs_them_all(books):
    (books / "stages.yaml").write_text("p/1_a: {for: {n: [2, 4]}}\np/2_b: {needs: [p/1_a]}\n")
    graph = load_graph("smoke", [], books)
    assert list(graph.stages) == ["p/1_a/n=2", "p/1_a/n=4", "p/2_b"]
    assert [s.parameters.get("n") for s in graph.stages.values()] == [2, 4, None]
    assert graph.stages["p/2_b"].needs == ("p/1_a/n=2", "p/1_a/n=4")
    assert stage_names(books) == set(graph.stages)
    assert len(set(graph.keys.values())) == 3


def test_a_cycle_is_an_error(books):
    (books / "stages.yaml").write_text("p/1_a: {needs: [p/2_b]}\np/2_b: {needs: [p/1_a]}\n")
    with pytest.raises(ValueError, match=r"cycle: p/._. needs p/._. needs"):
        load_graph("smoke", [], books)


@pytest.mark.parametrize(
    ("yaml", "complaint"),
    [
        ("p/1_a: {needs: [p/2_c]}\np/2_b:\n", "needs 'p/2_c', which is no stage; near: p/2_b"),
        ("p/1_a: {need: [p/2_b]}\np/2_b:\n", "no key 'need'; near: needs"),
        ("p/1_a: {data: {dataset: root}}\n", "has no parameter 'dataset'"),
        ("p/1_a: [\n", "not YAML"),
    ],
)
def test_a_faulty_graph_is_one_clear_error(books, yaml, complaint):
    (books / "stages.yaml").write_text(yaml)
    with pytest.raises(ValueError, match=complaint):
        load_graph("smoke", [], books)


def test_profiles_are_checked_for_all_stages(books):
    profiles = books / "p/profiles.yaml"
    names = ("1_a", "2_b", "3_c", "other")
    profiles.write_text("".join(f"{n}: {{small: {{}}}}\n" for n in names).replace("2_b: {small: {}}", "2_b:"))
    with pytest.raises(ValueError, match="no `small` for p/2_b"):
        load_graph("small", [], books)
    profiles.write_text("".join(f"{n}: {{small: {{}}}}\n" for n in names).replace("{}}", "{lr: 1e-4}}"))
    with pytest.raises(ValueError, match=r"p/1_a: 1_a\.ipynb has no parameter 'lr'"):
        load_graph("small", [], books)
    profiles.write_text("2_b: {small: {lr: 1e-4}}\n" + "".join(f"{n}: {{small: {{}}}}\n" for n in names if n != "2_b"))
    with pytest.raises(ValueError, match="YAML reads 1e-4 as text"):
        load_graph("small", [], books)
    with pytest.raises(ValueError, match="no profile is called 'smal'; near: small"):
        load_graph("smal", [], books)


def test_a_missing_file_is_named_before_anything_starts(books, tmp_path):
    notebook(books, "p/other", f'{OUT}\nweights: str = "nowhere"')
    (books / "stages.yaml").write_text("p/1_a:\np/other: {files: [weights]}\n")
    graph = load_graph("smoke", [], books)
    assert "'nowhere' is neither a file nor shipped" in graph.missing["p/other"][0]
    with pytest.raises(ValueError, match="nothing was started"):
        run(graph, [], tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_keys_follow_code_but_not_comments(books, monkeypatch, tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    monkeypatch.setattr(provenance, "_ROOT", package)
    (package / "__init__.py").write_text("")
    notebook(books, "p/2_b", OUT + "\ninputs: dict = {}\nlr: float = 0.1", "from trackerlib import outer")

    def keys(inner: str, stamp: int) -> dict:
        (package / "outer.py").write_text("from .inner import f\n")
        (package / "inner.py").write_text(inner)
        os.utime(package / "inner.py", (stamp, stamp))
        return dict(load_graph("smoke", [], books).keys)

    before = keys("def f():\n    return 1\n", 1)
    assert keys('def f():\n    """Says one."""\n    return 1  # one\n', 2) == before
    after = keys("def f():\n    return 2\n", 3)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"p/2_b", "p/3_c"}


@pytest.mark.parametrize(
    "use", ["import trackerlib as tl\ntl.load_tracker('x')", "from trackerlib import load_tracker as load", "outer"]
)
def test_keys_follow_code_behind_the_packages_lazy_names(books, monkeypatch, tmp_path, use):
    """`load_tracker` comes from its module on first use: no import statement in the notebook names that."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(provenance, "_ROOT", package)
    assert provenance._HOME["load_tracker"] == "trackers"
    (package / "outer.py").write_text("from . import load_tracker\n")
    use = "from trackerlib import outer" if use == "outer" else use
    notebook(books, "p/other", OUT + "\ninputs: dict = {}", use)
    keys = []
    for stamp, value in enumerate((1, 2), 1):
        (package / "trackers.py").write_text(f"x = {value}\n")
        os.utime(package / "trackers.py", (stamp, stamp))
        keys.append(dict(load_graph("smoke", [], books).keys))
    assert {name for name in keys[0] if keys[0][name] != keys[1][name]} == {"p/other"}


def test_a_comment_in_a_notebook_changes_no_key_and_code_does(books):
    key = load_graph("smoke", [], books).keys["p/other"]
    source = json.loads((books / "p/other.ipynb").read_text())["cells"][1]["source"]
    text = "".join(source) if isinstance(source, list) else source
    parameters, last = (
        f"{OUT}  # a comment\ninputs: dict = {{}}\n",
        "print([Path(f, 'product.txt').read_text() for f in inputs.values()])",
    )
    notebook(books, "p/other", parameters, text + "  # another", last)
    assert load_graph("smoke", [], books).keys["p/other"] == key
    notebook(books, "p/other", parameters, text + "; 1", last)
    assert load_graph("smoke", [], books).keys["p/other"] != key


# Runs: each starts real kernels


def test_a_run_its_rerun_and_a_changed_parameter(books, tmp_path):
    results = tmp_path / "results"
    first = run(load_graph("smoke", [], books), [], results, jobs=2)
    assert first.ok
    assert sorted(first.done) == ["p/1_a", "p/2_b", "p/3_c", "p/other"]
    assert (results / "smoke/p/1_a/product.txt").read_text() == "1"
    written = manifest(results, "p/2_b")
    assert written["parameters"] == {"lr": 0.1}
    assert written["outputs"]["product.txt"] == provenance.file_sha256(results / "smoke/p/2_b/product.txt")
    assert "['1']" in (results / "smoke/p/2_b/log.txt").read_text()

    started = time.monotonic()
    again = run(load_graph("smoke", [], books), [], results)
    assert sorted(again.skipped) == sorted(first.done)
    assert not again.done
    assert time.monotonic() - started < 5

    changed = run(load_graph("smoke", ["p/2_b.lr=0.5"], books), [], results)
    assert changed.done == ["p/2_b", "p/3_c"]
    assert (results / "smoke/p/2_b/product.txt").read_text() == "0.5"

    before = {name: manifest(results, name) for name in ("p/1_a", "p/other")}
    run(load_graph("smoke", [], books), ["p/1_a", "p/other"], results, jobs=2, force=True)
    assert {name: manifest(results, name) for name in before} == before


def test_failures_are_named_block_what_needs_them_and_nothing_else(tmp_path):
    root, results = tmp_path / "notebooks", tmp_path / "results"
    ends = {
        "killed": "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
        "raises": "raise RuntimeError('out of luck')",
        "exits": "raise SystemExit(0)",
        "fine": "print('fine')",
    }
    for name, cell in ends.items():
        notebook(root, name, OUT, "print('begun')", cell, "print('last')")
    notebook(root, "needy", OUT + "\ninputs: dict = {}", "1")
    (root / "stages.yaml").write_text("".join(f"{n}:\n" for n in ends) + "needy: {needs: [raises]}\n")
    outcome = run(load_graph("smoke", [], root), [], results, jobs=2)
    assert outcome.done == ["fine"]
    assert outcome.blocked == {"needy": "raises"}
    assert outcome.failed["raises"] == "RuntimeError: out of luck"
    assert "killed" in outcome.failed["killed"]
    assert "SystemExit" in outcome.failed["exits"] or "not executed" in outcome.failed["exits"]
    assert [p.parent.name for p in results.rglob("manifest.json")] == ["fine"]


def test_a_timeout_stops_the_kernel_too(tmp_path, monkeypatch):
    root, results = tmp_path / "notebooks", tmp_path / "results"
    pid = results / "smoke/slow/pid"
    notebook(
        root, "slow", OUT, "import os, time\nopen(f'{out_dir}/pid', 'w').write(str(os.getpid()))", "time.sleep(60)"
    )
    (root / "stages.yaml").write_text("slow: {timeout: 6}\n")
    busy = property(
        lambda job: 7.0 if pid.exists() and pid.read_text() else 0.0
    )  # however long a kernel takes to start
    monkeypatch.setattr(runner._Job, "seconds", busy)
    outcome = run(load_graph("smoke", [], root), [], results)
    assert outcome.failed == {"slow": "stopped after its timeout of 6 s"}
    assert gone(int(pid.read_text()))


def test_a_killed_runner_leaves_nothing_behind_and_a_rerun_finishes(tmp_path):
    root, results = tmp_path / "notebooks", tmp_path / "results"
    wait = (
        "import os, pathlib, time\n"
        "folder = pathlib.Path(out_dir)\n"
        "resumed = (folder / 'checkpoint').exists()\n"
        "(folder / 'checkpoint').write_text(str(os.getpid()))\n"
        "if not resumed: time.sleep(60)"
    )
    notebook(root, "long", OUT, wait)
    (root / "stages.yaml").write_text("long:\n")
    script = (
        "from pathlib import Path; from trackerlib import runner; from trackerlib.stages import load_graph;"
        f"runner.run(load_graph('smoke', [], Path({str(root)!r})), [], Path({str(results)!r}))"
    )
    child = subprocess.Popen([sys.executable, "-c", script])
    checkpoint = results / "smoke/long/checkpoint"
    deadline = time.monotonic() + 120
    while not (checkpoint.exists() and checkpoint.read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    kernel = int(checkpoint.read_text())
    child.kill()
    child.wait()
    assert not (results / "smoke/long/manifest.json").exists()
    outcome = run(load_graph("smoke", [], root), [], results)  # waits for the lock that the orphan still holds
    assert outcome.done == ["long"]
    assert gone(kernel)
    assert int(checkpoint.read_text()) != kernel


def test_a_folder_at_work_is_refused(books, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "_GRACE", 0.2)
    folder = tmp_path / "results/smoke"
    folder.mkdir(parents=True)
    with runner.locked(folder), pytest.raises(ValueError, match="another run is at work"):
        run(load_graph("smoke", [], books), [], tmp_path / "results")


def test_a_users_own_files_are_never_cleared_and_stop_no_other_stage(books, tmp_path):
    own = tmp_path / "results/smoke/p/1_a/thesis.txt"
    own.parent.mkdir(parents=True)
    own.write_text("years of work")
    outcome = run(load_graph("smoke", [], books), ["p/2_b", "p/other"], tmp_path / "results")
    assert "move it away" in outcome.failed["p/1_a"]
    assert outcome.blocked == {"p/2_b": "p/1_a"}
    assert outcome.done == ["p/other"]
    assert own.read_text() == "years of work"


def test_code_edited_while_a_stage_runs_fails_it(tmp_path, monkeypatch):
    """Else a result of the new code would lie under the old code's key, or the other way round."""
    package, results = tmp_path / "package", tmp_path / "results"
    package.mkdir()
    monkeypatch.setattr(provenance, "_ROOT", package)
    for name in ("__init__", "used", "other"):
        (package / f"{name}.py").write_text("a = 1\n")
    for stage, module in (("edits", "used"), ("harmless", "other")):
        edit = f"from pathlib import Path\nPath({str(package)!r}, 'used.py').write_text('a = 22')"
        notebook(tmp_path, stage, OUT, f"if False:\n    from trackerlib import {module}", edit)
    (tmp_path / "stages.yaml").write_text("edits:\nharmless:\n")
    outcome = run(load_graph("smoke", [], tmp_path), [], results)
    assert "edited while this ran" in outcome.failed["edits"]
    assert outcome.done == ["harmless"]
    assert not (results / "smoke/edits/manifest.json").exists()


# What a stage's folder held before


def begun(folder: Path, key: str, **files: str) -> Path:
    """A stage's folder as a run of that key left it; a file's name is given with `__` for each `/`."""
    for name, text in {"params.json": json.dumps({"key": key}), **files}.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_what_a_killed_run_left_stays_unless_the_key_is_another_or_a_restart_is_asked(tmp_path):
    folder = begun(tmp_path / "a", "k", half="x")
    assert runner._prepare(folder, "k", restart=False) is None
    assert (folder / "half").exists()
    assert runner._prepare(folder, "k", restart=True) is None
    assert not any(folder.iterdir())
    runner._prepare(begun(folder, "k", half="x"), "other", restart=False)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert not any(folder.iterdir())


@pytest.mark.parametrize("held", [{"run__fit__checkpoint.pt": "w"}, {"manifest.json": '{"profile": "small"}'}])
def test_what_took_long_is_kept_for_one_generation(tmp_path, held):
    folder = tmp_path / "a"
    for key in ("1", "2", "3"):
        kept = runner._prepare(begun(folder, key, **held), "new", restart=False)
        assert kept == tmp_path / "a.superseded"
        assert json.loads((kept / "params.json").read_text())["key"] == key
        assert not any(folder.iterdir())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "a.superseded"]
    assert runner._prepare(begun(folder, "1", **{"manifest.json": '{"profile": "smoke"}'}), "2", restart=False) is None


def test_a_runner_killed_while_it_deletes_stops_no_later_run(tmp_path, monkeypatch):
    folder = begun(tmp_path / "a", "1", half="x")

    def killed(path: Path, ignore_errors: bool = False) -> None:
        if path.exists():
            (path / "params.json").unlink()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(runner.shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            runner._prepare(folder, "2", restart=False)
    runner._prepare(folder, "2", restart=False)
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_force_restarts_the_targets_alone(books, tmp_path):
    graph, results = load_graph("smoke", [], books), tmp_path / "results"
    for name in ("p/1_a", "p/2_b"):
        begun(results / "smoke" / name, graph.keys[name], half="x")
    assert run(graph, ["p/2_b"], results, force=True).done == ["p/1_a", "p/2_b"]
    assert (results / "smoke/p/1_a/half").exists()
    assert not (results / "smoke/p/2_b/half").exists()


def gone(pid: int) -> bool:
    """A kernel ends itself about a second after its parent."""
    for _ in range(50):
        try:
            os.kill(pid, 0)
            if "zombie" in Path(f"/proc/{pid}/status").read_text():
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    return False

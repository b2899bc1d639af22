"""What a result depends on, and files that are whole or absent.

Keys of stages and of results are hashes of what determines the outcome; code enters as syntax trees, so that an edited
comment or docstring invalidates nothing."""

import ast
import functools
import hashlib
import importlib.metadata
import importlib.util
import inspect
import json
import linecache
import os
import platform
import secrets
import sys
import sysconfig
import types
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import _HOME

try:
    import fcntl
except ImportError:  # Windows: one process at a time on a folder
    fcntl = None

_ROOT = Path(__file__).resolve().parent


def sha256(*parts: str | bytes) -> str:
    """Hex digest of the parts, each delimited by its length."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def file_sha256(path: str | Path) -> str:
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def canonical(value: Any) -> str:
    """JSON with sorted keys: equal values, equal text."""
    return json.dumps(value, sort_keys=True, default=_as_text, separators=(",", ":"))


def _as_text(value: Any) -> str:
    """Arrays and tensors by their bytes: their text leaves out the middle."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    return sha256(str(value.shape), value.tobytes()) if hasattr(value, "tobytes") else str(value)


def code_digest(modules: Iterable[str]) -> str:
    """Digest of these modules of trackerlib and of all they import from it, transitively.

    modules: dotted names (`trackerlib.siamfc`); other packages are passed over: their versions are recorded."""
    return sha256(*_trees(name for name in modules if _is_ours(name)))


def class_digest(cls: type) -> str:
    """Digest of the code that a class and its bases run.

    A class of trackerlib: its modules' `code_digest`. A user's own: the syntax trees of its file, of every local module
    (neither the standard library nor an installed package) that this imports, and of the modules of trackerlib that
    they import. A class typed into a notebook: its cell, the cells whose functions it names, and the plain values they
    take from other cells. Where no source can be found, a random text: a result whose code is unknown is never reused.
    """
    modules: set[str] = set()
    parts: list[str] = []
    for base in cls.__mro__:
        if _is_ours(base.__module__) or _source(base.__module__):
            modules.add(base.__module__)
        elif base.__module__ == "__main__":
            cells, imported = _cells(base)
            parts += cells
            modules |= imported
        elif base is cls:
            parts.append(secrets.token_hex())
    return sha256(*parts, *_trees(modules))


def syntax(node: Any) -> str:
    """A syntax tree as text, without docstrings, positions and empty fields (newer Pythons know more of those)."""
    if isinstance(node, list):
        return f"[{','.join(map(syntax, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = dict(ast.iter_fields(node))
    documented = isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef)
    if documented and ast.get_docstring(node, clean=False) is not None:
        fields["body"] = node.body[1:]
    filled = (f"{name}={syntax(value)}" for name, value in fields.items() if value not in (None, []))
    return f"{type(node).__name__}({','.join(filled)})"


def _trees(modules: Iterable[str]) -> list[str]:
    """`name=digest` of these modules and of all that they import, sorted; only a user's module leads to others."""
    seen: dict[str, str] = {}
    todo = list(modules)
    while todo:
        name = todo.pop()
        path = None if name in seen else _source(name)
        if path is not None:
            package = name if path.name == "__init__.py" else name.rpartition(".")[0]
            if name == "__main__":  # `python -m pack.module`
                package = getattr(sys.modules[name], "__package__", None) or ""
            at = path.stat()
            seen[name], imported = _parse(path, package, (at.st_mtime_ns, at.st_size, at.st_ino))
            todo += [i for i in imported if _is_ours(i) or not _is_ours(name)]
    return [f"{name}={seen[name]}" for name in sorted(seen)]


@functools.lru_cache(maxsize=512)
def _parse(path: Path, package: str, version: tuple[int, ...]) -> tuple[str, tuple[str, ...]]:
    tree = ast.parse(path.read_text(), str(path))
    return sha256(syntax(tree)), tuple(sorted(set(imports(tree, package))))


def imports(tree: ast.AST, package: str = "") -> Iterable[str]:
    """Dotted names that a tree imports: modules, and what may be one (`from a import b`: `a` and `a.b`).

    A lazy name of trackerlib counts as the module it comes from. Code outside trackerlib may say `tl.load_tracker`:
    every attribute of that spelling counts, whatever it belongs to."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.rsplit(".", node.level - 1)[:1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            yield base
            names = [a.name for a in node.names]
            yield from (f"{base}.{name}" for name in names)
            if base == "trackerlib":
                yield from (f"trackerlib.{home}" for lazy, home in _HOME.items() if lazy in names or "*" in names)
        elif isinstance(node, ast.Attribute) and node.attr in _HOME and not _is_ours(package):
            yield f"trackerlib.{_HOME[node.attr]}"


def _is_ours(name: str) -> bool:
    return name.split(".")[0] == "trackerlib"


def _source(name: str) -> Path | None:
    """File of a module of trackerlib or of a user's own; None for an installed one and for what is no module."""
    top, *rest = name.split(".")
    home = _ROOT if top == "trackerlib" else _local(top)
    if home is None or home.suffix == ".py":
        return None if rest else home
    path = home.joinpath(*rest)
    return next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()), None)


def _local(top: str) -> Path | None:
    """File or package folder of a top-level module that is neither installed nor of the standard library."""
    try:
        spec = importlib.util.find_spec(top)
        file, folders = spec.origin, spec.submodule_search_locations
    except (ImportError, ValueError, AttributeError):  # no module, or without a spec, as a script's `__main__` is
        file, folders = getattr(sys.modules.get(top), "__file__", None), None
    if not (file or folders):
        return None
    path = Path(next(iter(folders)) if folders else file).resolve()
    installed = {"site-packages", "dist-packages"} & set(path.parts)
    if installed or path.is_relative_to(Path(sysconfig.get_path("stdlib")).resolve()):
        return None
    return path if folders or path.suffix == ".py" else None


def _cells(cls: type) -> tuple[list[str], set[str]]:
    """What a class typed into a notebook runs: the trees of its cells with plain values, and modules.

    IPython keeps a cell's source in `linecache`, under the file name that the functions of the cell carry."""
    files: set[str] = set()
    parts: set[str] = set()
    modules: set[str] = set()
    scope, todo = vars(sys.modules[cls.__module__]), [cls]
    while todo:
        new = {file for file in _files(todo.pop()) if linecache.getlines(file)} - files
        files |= new
        for tree in (ast.parse("".join(linecache.getlines(file))) for file in new):
            parts.add(syntax(tree))
            modules.update(imports(tree))
            for name in {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} & set(scope):
                value = scope[name]
                if isinstance(value, int | float | str | tuple | list | dict | None):
                    parts.add(f"{name}={value!r}")
                elif isinstance(value, types.ModuleType):
                    modules.add(value.__name__)
                elif getattr(value, "__module__", None) == cls.__module__:
                    todo.append(value)
                else:
                    modules.add(getattr(value, "__module__", None) or "")
    return sorted(parts) or [secrets.token_hex()], modules


def _files(thing: Any) -> set[str]:
    """File names that the code of a function, or of a class's methods, carries."""
    members = vars(thing).values() if isinstance(thing, type) else [thing]
    plain = (getattr(m, "fget", None) or getattr(m, "__func__", m) for m in members)
    return {f.__code__.co_filename for f in map(inspect.unwrap, plain) if hasattr(f, "__code__")}


def environment() -> dict[str, Any]:
    """Versions and hardware to write beside a result; no host name."""
    import torch

    packages = ("torch", "numpy", "opencv-python-headless", "pandas", "safetensors", "papermill", "matplotlib")
    installed = {d.name: d.version for d in importlib.metadata.distributions()}
    return {
        "python": platform.python_version(),
        "packages": {p: installed.get(p) for p in packages},
        "trackerlib": installed.get("trackerlib"),
        "machine": platform.machine(),
        "system": platform.system(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file whole or not at all: a temporary name beside it, flushed to disk, then renamed."""
    write_chunks(path, [data])


def write_chunks(path: str | Path, chunks: Iterable[bytes]) -> None:
    """The same for data that is made piece by piece."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with open(temporary, "xb") as f:
            f.writelines(chunks)
            f.flush()
            os.fsync(f.fileno())
        temporary.replace(path)
    except OSError as error:  # of a full disk it names no file
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    write_bytes(path, text.encode())


def write_json(path: str | Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1, sort_keys=True, default=str) + "\n")


@contextmanager
def alone(folder: str | Path, refuse: str = "", say: Callable[[str], None] = warnings.warn) -> Iterator[None]:
    """Hold a folder's `.lock`. While another process does: a ValueError with the text `refuse`, or without one `say`
    that it is waited for."""
    with open(Path(folder) / ".lock", "w") as lock:
        if fcntl:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if refuse:
                    raise ValueError(f"{folder}: {refuse}") from None
                say(f"{folder}: waiting for another process that is at work there")
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield

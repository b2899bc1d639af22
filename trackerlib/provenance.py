"""What a result depends on, and files that are whole or absent.

Keys of stages and of results are hashes of what determines the outcome; code enters as syntax trees, so that an edited
comment or docstring invalidates nothing."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

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
    return json.dumps(value, sort_keys=True, default=str, separators=(",", ":"))


def code_digest(modules: Iterable[str]) -> str:
    """Digest of these modules of trackerlib and of all they import from it, transitively.

    modules: dotted names (`trackerlib.siamfc`); other packages are passed over: their versions are recorded."""
    seen: dict[str, str] = {}
    todo = [m for m in modules if m.split(".")[0] == "trackerlib"]
    while todo:
        name = todo.pop()
        path = _source(name)
        if path is None or name in seen:
            continue
        seen[name], imports = _parse(path, name, path.stat().st_mtime_ns)
        todo += imports
    return sha256(*(f"{name}={seen[name]}" for name in sorted(seen)))


def source_digest(module: str) -> str | None:
    """Digest of a user's own module, which `code_digest` passes over; None for one of trackerlib or without a file."""
    path = getattr(sys.modules.get(module), "__file__", None)
    if path is None or module.split(".")[0] == "trackerlib" or not path.endswith(".py"):
        return None
    return sha256(ast.dump(_without_docstrings(ast.parse(Path(path).read_text(), path))))


def imported_modules(source: str) -> set[str]:
    """The modules of trackerlib that a piece of code (a notebook's cells) imports."""
    return set(_imports(ast.parse(source), "", False))


@functools.lru_cache(maxsize=512)
def _parse(path: Path, name: str, mtime: int) -> tuple[str, tuple[str, ...]]:
    tree = ast.parse(path.read_text(), str(path))
    imports = _imports(tree, name, path.name == "__init__.py")
    return sha256(ast.dump(_without_docstrings(tree))), tuple(sorted(imports))


def _without_docstrings(tree: ast.AST) -> ast.AST:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node, clean=False
        ):
            node.body = body[1:]
    return tree


def _imports(tree: ast.AST, name: str, is_package: bool) -> Iterable[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.split(".")[0] == "trackerlib")
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = name.split(".") if is_package else name.split(".")[:-1]
                package = package[: len(package) - node.level + 1]
                base = ".".join([*package, *([node.module] if node.module else [])])
            if base.split(".")[0] == "trackerlib":
                yield base
                yield from (f"{base}.{a.name}" for a in node.names)


def _source(name: str) -> Path | None:
    """File of a module of trackerlib; None for what is no module (an imported function)."""
    path = _ROOT.joinpath(*name.split(".")[1:])
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file() and path != _ROOT:
            return candidate
    return _ROOT / "__init__.py" if path == _ROOT else None


def environment() -> dict[str, Any]:
    """Versions and hardware to write beside a result; no host name."""
    import torch

    packages = ("torch", "numpy", "opencv-python-headless", "pandas", "safetensors", "papermill", "matplotlib")
    return {
        "python": platform.python_version(),
        "packages": {p: _version(p) for p in packages},
        "trackerlib": _version("trackerlib"),
        "machine": platform.machine(),
        "system": platform.system(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file whole or not at all: a temporary name beside it, flushed to disk, then renamed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_text(path: str | Path, text: str) -> None:
    write_bytes(path, text.encode())


def write_json(path: str | Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1, sort_keys=True, default=str) + "\n")

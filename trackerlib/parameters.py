"""A notebook's parameters: read from its `parameters` cell, and strict.

papermill warns about an unknown parameter and runs the default experiment, and takes YAML's text "1e-4" for a learning
rate; here both are errors before anything starts. The cell holds one typed literal a line: `steps: int = 40  # help`.

papermill writes values into a cell as Python. It escapes text; what is neither text, a number, a bool or None, nor a
list or a mapping by text of such, it puts between quotes as it prints: a tuple could so bring code. Such values are
refused, and with them what would arrive as another value, or not at all.
"""

import ast
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .config import near

RUNNERS = ("out_dir", "inputs")  # filled by the runner, never by a profile or a user
_PLAIN = {"str": str, "bool": bool, "int": int, "float": float, "list": list, "dict": dict}


# What Python's parser raises at a text that is no literal, or nested too deep.
UNREADABLE = (ValueError, SyntaxError, TypeError, RecursionError, MemoryError)


class Parameter(NamedTuple):
    annotation: ast.expr
    default: Any

    @property
    def type(self) -> str:
        return ast.unparse(self.annotation)


class Cell(NamedTuple):
    source: str
    tags: Sequence[str]


def code_cells(notebook: Path) -> list[Cell]:
    """The code cells of a notebook file. Raises FileNotFoundError, or ValueError when it is no notebook."""
    try:
        cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
        return [Cell("".join(cell["source"]), tuple(cell["metadata"].get("tags", ()))) for cell in cells]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{notebook}: not a notebook of format 4 ({error})") from None


def declared(notebook: Path) -> dict[str, Parameter]:
    """The parameters of a notebook, in their order. Raises ValueError when the cell is not as this module wants it."""
    tagged = [cell for cell in code_cells(notebook) if "parameters" in cell.tags]
    if len(tagged) != 1:
        raise ValueError(f"{notebook}: {len(tagged)} cells tagged 'parameters', want exactly one")
    source, found = tagged[0].source, {}
    try:
        nodes = ast.parse(source).body
    except UNREADABLE as error:
        raise ValueError(f"{notebook}: the parameters cell is no Python ({error})") from None
    for node in nodes:
        text = (ast.get_source_segment(source, node) or "").partition("\n")[0]
        match node:
            case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation, value=ast.expr() as value):
                try:
                    found[name] = Parameter(annotation, ast.literal_eval(value))
                except UNREADABLE:
                    raise ValueError(f"{notebook}: parameter {name}: {text!r} holds no literal") from None
                _check(f"{notebook}: default of", name, found[name].default, found[name])
            case _:
                raise ValueError(f"{notebook}: parameters cell: {text!r} is not `name: type = literal`")
    if "out_dir" not in found:
        raise ValueError(f'{notebook}: the parameters cell lacks `out_dir: str = ""` (where the stage writes)')
    return found


def resolved(notebook: Path, values: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """All parameters of a notebook but the runner's own: its defaults, with `values` put in.

    origin: where the values come from, for the error. Raises ValueError for an unknown name (the near ones are named)
    or a value of another type. An int serves where a float is wanted, and becomes one."""
    known = {name: p for name, p in declared(notebook).items() if name not in RUNNERS}
    for name, value in values.items():
        if name in RUNNERS:
            raise ValueError(f"{origin}: {name} is set by the runner (use --results)")
        if name not in known:
            raise ValueError(f"{origin}: {notebook.name} has no parameter {name!r}{near(name, known)}")
        _check(origin + ":", name, value, known[name])
    full = {name: values.get(name, p.default) for name, p in known.items()}
    return {name: float(v) if known[name].type == "float" else v for name, v in full.items()}


def from_text(notebook: Path, name: str, text: str) -> Any:
    """A value as typed on the command line, read as its parameter's type asks: text as it is, the rest literals.

    An unknown name is for `resolved` to refuse."""
    known = declared(notebook)
    if name in known and known[name].type == "str":
        return text
    try:
        return ast.literal_eval({"true": "True", "false": "False"}.get(text, text))
    except UNREADABLE:
        return text  # of the wrong type now, unless the parameter may be text


def _check(origin: str, name: str, value: Any, parameter: Parameter) -> None:
    if not _arrives(value):
        wanted = "UTF-8 text, finite numbers under 64 bits, true, false, null, lists, and mappings by text of such"
        raise ValueError(f"{origin} {name}: a value that a notebook cannot be given; it takes {wanted}")
    try:
        fits = _fits(value, parameter.annotation)
    except ValueError as error:
        raise ValueError(f"{origin} {name}: {error}") from None
    if not fits:
        hint = " (YAML reads 1e-4 as text: write 1.0e-4)" if parameter.type == "float" and type(value) is str else ""
        if type(value) is str and value.startswith("["):
            hint = """ (text in a list wants quotes: ["a", "b"])"""
        raise ValueError(f"{origin} {name} = {value!r} is {type(value).__name__}, want {parameter.type}{hint}")


def _arrives(value: Any, depth: int = 20) -> bool:
    """Whether papermill's cell gives a notebook this very value (see the head of this module)."""
    match value:
        case str():
            return not any("\ud800" <= c <= "\udfff" for c in value)  # halves of a character: no UTF-8 has them
        case bool() | None:
            return True
        case int():
            return abs(value) < 2**63
        case float():
            return math.isfinite(value)
        case list() if depth:
            return all(_arrives(v, depth - 1) for v in value)
        case dict() if depth:
            return all(type(k) is str and _arrives(k) and _arrives(v, depth - 1) for k, v in value.items())
    return False


def _fits(value: Any, annotation: ast.expr) -> bool:
    """Whether a literal is of an annotated type: the scalars, list[...], dict[..., ...], unions, None."""
    match annotation:
        case ast.Constant(value=None):
            return value is None
        case ast.BinOp(op=ast.BitOr(), left=left, right=right):
            return _fits(value, left) or _fits(value, right)
        case ast.Name(id="float"):
            return type(value) in (int, float)
        case ast.Name(id=name) if name in _PLAIN:
            return type(value) is _PLAIN[name]
        case ast.Subscript(value=ast.Name(id="list"), slice=item):
            return type(value) is list and all(_fits(v, item) for v in value)
        case ast.Subscript(value=ast.Name(id="dict"), slice=ast.Tuple(elts=[key, item])):
            return type(value) is dict and all(_fits(k, key) and _fits(v, item) for k, v in value.items())
    raise ValueError(f"parameter type {ast.unparse(annotation)!r}: use {', '.join(_PLAIN)}, list[...] or a union")

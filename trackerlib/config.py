"""Configurations are frozen dataclasses; this is the one place that builds them from loose values."""

import difflib
from collections.abc import Mapping
from dataclasses import fields, replace
from math import inf
from typing import Any, TypeVar

C = TypeVar("C")


def near(name: str, known) -> str:
    """`; near: a, b` for the known names that resemble `name`, else the whole list."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, 3)
    return f"; {'near' if close else 'there are'}: {', '.join(close or known) or 'none'}"


def configured(base: C, values: Mapping[str, Any]) -> C:
    """`base` with some fields replaced; an unknown or ill-typed one is an error that names the nearest right one.

    An int serves where a float is wanted; nothing else is converted."""
    known = {f.name: getattr(base, f.name) for f in fields(base)}
    for name, value in values.items():
        if name not in known:
            raise ValueError(f"{type(base).__name__} has no field {name!r}{near(name, known)}")
        want = type(known[name])
        if type(value) is not want and not (want is float and type(value) is int):
            raise ValueError(f"{type(base).__name__}.{name}={value!r} is {type(value).__name__}, want {want.__name__}")
    return replace(base, **values)


def bounded(config: Any, above: tuple[str, ...] = (), **ranges: tuple[float, float]) -> None:
    """Raises ValueError, naming the field, for one of a configuration's numbers (NaN too) out of its range, ends
    included, or, of `above`, not above 0."""
    for name in above:
        if not 0 < getattr(config, name) < inf:
            raise ValueError(f"{name} is above 0, not {getattr(config, name):g}")
    for name, (low, high) in ranges.items():
        if not low <= getattr(config, name) <= high:
            wanted = f"{low:g} or more" if high == inf else f"from {low:g} to {high:g}"
            raise ValueError(f"{name} is {wanted}, not {getattr(config, name):g}")

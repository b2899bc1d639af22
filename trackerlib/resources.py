"""Where the files that the package carries are: shipped weights, lists, claims and notebooks.

In a checkout they are the top-level folders `data` and `notebooks`; an installed wheel has them under `_shipped`."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def resource(*parts: str) -> Path:
    """Path of a shipped file or folder, for example `resource("data", "claims.csv")`."""
    shipped = _PACKAGE / "_shipped"
    return (shipped if shipped.is_dir() else _PACKAGE.parent).joinpath(*parts)

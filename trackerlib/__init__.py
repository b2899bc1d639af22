"""Five visual-tracking papers, reproduced: SiamFC, DSiam, SiaMemory, ROLO and GSTP.

>>> import trackerlib as tl
>>> dataset = tl.load_dataset("rendered")[:4]                      # doctest: +SKIP
>>> tracker = tl.load_tracker("siamfc-3s")                         # doctest: +SKIP
>>> runs = tl.evaluate(tracker, dataset, results="results/mine")   # doctest: +SKIP
>>> tl.score(runs, dataset).summary()                              # doctest: +SKIP
"""

from importlib import import_module

__version__ = "0.1.0"
__all__ = [
    "InitUpdate",
    "OneTarget",
    "RunSet",
    "evaluate",
    "load_clip",
    "load_dataset",
    "load_tracker",
    "score",
    "track_sequence",
]

_HOME = {
    "InitUpdate": "interchange",
    "OneTarget": "tracker",
    "RunSet": "bench.results",
    "evaluate": "bench.engine",
    "load_clip": "data.folder",
    "load_dataset": "data",
    "load_tracker": "trackers",
    "score": "bench.score",
    "track_sequence": "tracker",
}


def __getattr__(name: str):
    """Each name comes from its module on first use: `python -m trackerlib status` need not wait for torch."""
    if name not in _HOME:
        raise AttributeError(f"module 'trackerlib' has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))

"""The state of many lanes: taken apart and put together, whatever its leaves."""

from dataclasses import dataclass

import pytest
import torch

from trackerlib.tracker import State
from trackerlib.trackers import load_tracker


def same(a, b):
    """Whether two states are equal to the bit."""
    if isinstance(a, State):
        return same(vars(a), vars(b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


@dataclass
class Inner(State):
    maps: dict
    ids: list


@dataclass
class Outer(State):
    inner: Inner
    layers: dict
    at: torch.Tensor


def outer(*lanes):
    at = torch.tensor(lanes)
    inner = Inner({"deep": {"a": at[:, None] + torch.zeros(2, dtype=int)}, "ids": [str(n) for n in lanes]}, list(lanes))
    return Outer(inner, {"conv5": at * 10, "conv4": at * 100}, at)


def test_states_of_dicts_lists_and_states_are_taken_apart_and_put_together():
    assert same(outer(1, 2, 3).take([2, 0, 2]), outer(3, 1, 3))
    assert same(outer(1, 2, 3).lane(1), outer(2))
    state = outer(1, 2, 3)
    taken = state.take([0])
    state.put([2, 0], outer(7, 8))
    assert same(state, outer(8, 2, 7))
    assert same(taken, outer(1))


@pytest.mark.parametrize(
    ("name", "setting", "told"),
    [
        ("kcf", {"padding": -1.0}, "padding is 0 or more, not -1"),
        ("kcf", {"padding": float("nan")}, "padding is 0 or more, not nan"),
        ("kcf", {"kernel": 0.0}, "kernel is above 0, not 0"),
        ("kcf", {"cell": 0}, "cell is 1 or more, not 0"),
        ("kcf", {"rate": 7.0}, "rate is from 0 to 1, not 7"),
        ("siamfc-3s", {"step": 0.0}, "step is above 0, not 0"),
        ("siamfc-3s", {"upsample": 0}, "upsample is 1 or more, not 0"),
        ("dsiam", {"scales": 2}, "scales are an odd number"),
        ("siamemory", {"window": 7.0}, "window is from 0 to 1, not 7"),
        ("siamemory", {"smallest": 6.0}, "smallest is from 0 to 1, not 6"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(name, setting, told):
    weights = None if name == "kcf" else "random" if name == "siamemory" else "siamfc-quarter"
    with pytest.raises(ValueError, match=told):
        load_tracker(name, weights, **setting)


def test_empty_weights_are_no_default():
    with pytest.raises(ValueError, match="weights is empty"):
        load_tracker("siamfc", "")

"""The state of many lanes: taken apart and put together, whatever its leaves."""

from dataclasses import dataclass

import torch

from trackerlib.tracker import State


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

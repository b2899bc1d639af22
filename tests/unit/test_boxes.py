"""Box algebra: closed forms, invariants, and the same answers from NumPy and torch."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trackerlib import boxes as B

box = st.tuples(*[st.floats(-100, 100)] * 2, *[st.floats(0.5, 100)] * 2).map(lambda b: np.array(b))


@given(box)
def test_conversions_are_inverse(b):
    np.testing.assert_allclose(B.from_one_based(B.to_one_based(b)), b, atol=1e-12)
    np.testing.assert_allclose(B.from_corners(B.corners(b)), b, atol=1e-10)
    np.testing.assert_allclose(B.from_centre(B.centre(b), b[2:]), b, atol=1e-10)


@given(box, box, st.floats(-50, 50))
def test_overlap_is_symmetric_bounded_and_shift_free(a, b, shift):
    value = B.iou(a, b)
    assert 0 <= value <= 1 + 1e-12
    assert value == pytest.approx(B.iou(b, a), abs=1e-12)
    moved = np.array([shift, shift, 0, 0])
    assert value == pytest.approx(B.iou(a + moved, b + moved), abs=1e-9)


def test_overlap_by_hand():
    a = np.array([[0, 0, 2, 2], [0, 0, 2, 2], [0, 0, 0, 0.0]])
    b = np.array([[1, 0, 2, 2], [5, 5, 1, 1], [0, 0, 0, 0.0]])
    np.testing.assert_allclose(B.iou(a, b), [1 / 3, 0, 0])


@given(box, box)
def test_numpy_and_torch_agree(a, b):
    assert float(B.iou(torch.tensor(a), torch.tensor(b))) == pytest.approx(float(B.iou(a, b)), abs=1e-12)
    np.testing.assert_allclose(B.context_side(torch.tensor(a[2:])), B.context_side(a[2:]))


def test_context_side_of_a_square_target_is_twice_its_side():
    """p = (w + h) / 4: a 50 x 50 target gets 25 pixels on each side."""
    assert B.context_side(np.array([50.0, 50.0])) == pytest.approx(100)

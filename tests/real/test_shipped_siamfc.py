"""The shipped SiamFC on real video: a floor well under what it reached, so that a broken path shows."""

import pytest
import torch

import trackerlib as tl
from trackerlib.nn.checkpoints import save_weights
from trackerlib.siamfc import SiamFC
from trackerlib.trackers import load_tracker

pytestmark = pytest.mark.real


def auc(weights, data, folder):
    tracker = load_tracker("siamfc-3s", weights=weights)
    frame = tl.score(tl.evaluate(tracker, data, results=folder), data).frame
    return float(frame[frame.metric == "success_auc"].value.mean())


def test_shipped_weights_track_a_real_sequence(shared, tmp_path):
    """Crossing, 120 frames: 0.76 to 0.78 when they were shipped; an untrained network loses it."""
    data = tl.load_dataset("otb", shared / "data" / "sequences" / "val").filter(lambda s: s.name == "Crossing")
    random = tmp_path / "random.safetensors"
    save_weights(SiamFC(0.25).initialise(torch.Generator().manual_seed(0)), random, {})
    found = {weights: auc(weights, data, tmp_path) for weights in ("siamfc-quarter", "siamfc", random)}
    assert found["siamfc"] > 0.7
    assert found["siamfc-quarter"] > 0.7
    assert found[random] < 0.4


def test_no_weights_saw_the_validation_sequences(shared):
    data = tl.load_dataset("otb", shared / "data" / "sequences" / "val")
    for weights in ("siamfc-quarter", "siamfc"):
        seen = tl.load_tracker("siamfc-3s", weights=weights).seen
        assert len(seen) > 14
        assert not set(seen) & set(data)


@pytest.mark.slow
def test_mean_auc_over_the_validation_sequences(shared, tmp_path):
    """A minute and a half; 0.702 when it was written."""
    assert auc("siamfc", tl.load_dataset("otb", shared / "data" / "sequences" / "val"), tmp_path) >= 0.65

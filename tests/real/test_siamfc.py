"""The shipped SiamFC on real video: a floor well under what it reached, so that a broken path shows."""

import pytest

import trackerlib as tl

pytestmark = pytest.mark.real


def test_shipped_weights_track_a_real_sequence(shared, tmp_path):
    """Crossing, 120 frames: trained 0.75 or more, untrained far less (a box that never moves: 0.2)."""
    data = tl.load_dataset("otb", shared / "data" / "sequences" / "val").filter(lambda s: s.name == "Crossing")
    auc = {}
    for weights in ("siamfc-quarter", "siamfc"):
        run = tl.evaluate(tl.load_tracker("siamfc-3s", weights=weights), data, results=tmp_path / weights)
        frame = tl.score(run, data).frame
        auc[weights] = float(frame[frame.metric == "success_auc"].value.mean())
    assert auc["siamfc"] > 0.6
    assert auc["siamfc-quarter"] > 0.4


def test_no_weights_saw_the_validation_sequences(shared):
    data = tl.load_dataset("otb", shared / "data" / "sequences" / "val")
    for weights in ("siamfc-quarter", "siamfc"):
        seen = tl.load_tracker("siamfc-3s", weights=weights).seen
        assert len(seen) > 14
        assert not set(seen) & set(data)

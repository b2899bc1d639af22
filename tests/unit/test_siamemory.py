"""SiaMemory's Siamese branch and its LSTM: SPEC 9.3 (000), Table 1 and the written-out equations."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from trackerlib.nn.recurrent import SequenceRegressor
from trackerlib.siamemory import CONV6, AllConv, averaging
from trackerlib.siamfc import SiamFC, SiamFCTracker, folded


@pytest.fixture(scope="module")
def whole() -> AllConv:
    return AllConv().initialise(torch.Generator().manual_seed(0)).eval()


def count(module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_table_1(whole):
    """Sizes of every layer, for exemplar and search image; 3,018,400 parameters, and the bias."""
    for size, sizes in (
        (127, [59, 29, 25, 12, 10, 8, 6, 6]),
        (255, [123, 61, 57, 28, 26, 24, 22, 22]),
    ):
        x, seen = torch.zeros(1, 3, size, size), []
        with torch.inference_mode():
            for layer in whole.backbone:
                x = layer(x)
                seen.append(x.shape[-1])
        assert seen == sizes
        assert x.shape[1] == 64
    assert count(whole.backbone) == 3_018_400
    assert count(whole) == 3_018_401
    convolutions = {name: count(layer[0]) for name, layer in whole.backbone.named_children()}
    assert convolutions == {
        "conv1": 34_944,
        "conv_p1": 83_040,
        "conv2": 307_456,
        "conv_p2": 590_080,
        "conv3": 885_120,
        "conv4": 663_936,
        "conv5": 442_624,
        "conv6": 8_256,
    }


def test_other_readings_of_the_table():
    counts = {reading: count(AllConv(conv6=reading).backbone.conv6) for reading in CONV6}
    assert counts == {"64, g=2": 8_256, "64": 16_448, "128, g=2": 16_512}
    assert count(AllConv(depthwise=True).backbone) == 2_349_312 - 512


def test_pooling_convolutions_begin_as_averages(whole):
    x = torch.rand(2, 96, 59, 59, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(whole.backbone.conv_p1[0](x), F.avg_pool2d(x, 3, 2))
    alone = torch.nn.Conv2d(5, 5, 3, 2, groups=5)
    averaging(alone)
    torch.testing.assert_close(alone(x[:, :5]), F.avg_pool2d(x[:, :5], 3, 2))


def test_unchanged_layers_are_siamfc_s():
    siamfc = SiamFC(0.25).initialise(torch.Generator().manual_seed(1))
    siamfc.bias.data.fill_(-2)
    net = AllConv(0.25).initialise(torch.Generator().manual_seed(0)).from_siamfc(siamfc)
    own, theirs = net.state_dict(), siamfc.state_dict()
    assert {k for k in own if k in theirs and torch.equal(own[k], theirs[k])} == set(theirs)
    assert set(own) - set(theirs) == {k for k in own if ".conv_p" in k or ".conv6" in k}
    with pytest.raises(ValueError, match=r"SiamFC of width 0\.25 has no layers for width 1"):
        AllConv().from_siamfc(siamfc)


def test_it_scores_and_tracks_as_siamfc_does():
    net = AllConv(0.25).initialise(torch.Generator().manual_seed(0)).eval()
    z, x = torch.rand(2, 3, 127, 127) * 255, torch.rand(2, 3, 255, 255) * 255
    with torch.inference_mode():
        assert net(z, x).shape == (2, 1, 17, 17)
        torch.testing.assert_close(folded(net).embed(x), net.embed(x), rtol=1e-3, atol=1e-4)
    tracker = SiamFCTracker(net)
    assert tracker.cells == 17
    assert float(net.scale) == pytest.approx(4e-3)  # 1e-3 * 256 / 64


# The LSTM


def test_a_step_is_the_equations_written_out():
    """Eqs. 2 to 4 with one sigma for each of i, f, o and tanh for g; torch's rows are i, f, g, o."""
    net = SequenceRegressor(6, 5).initialise(torch.Generator().manual_seed(0))
    x = torch.rand(3, 4, 6, generator=torch.Generator().manual_seed(1))
    h = c = torch.zeros(3, 5)
    w = net.lstm
    for t in range(4):
        affine = x[:, t] @ w.weight_ih_l0.T + w.bias_ih_l0 + h @ w.weight_hh_l0.T + w.bias_hh_l0
        i, f, g, o = affine.split(5, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        torch.testing.assert_close(net.states(x)[:, t], h)
    torch.testing.assert_close(net(x), net.readout(h))


def test_sizes_of_the_paper_s_memory():
    """1024 of the frame and 4 of the box; one layer, hidden as wide as the input."""
    net = SequenceRegressor(1028)
    assert count(net.lstm) == 8_462_496
    assert count(net.readout) == 4_116
    assert net(torch.zeros(2, 6, 1028)).shape == (2, 4)


def test_a_slice_reads_the_state_itself():
    net = SequenceRegressor(8, 7, "slice", offset=2)
    states = torch.arange(7.0)
    assert net.boxes(states).tolist() == [1, 2, 3, 4]
    assert net.readout is None
    with pytest.raises(ValueError, match="readout is one of linear, slice"):
        SequenceRegressor(8, 7, "last")


def test_forgetting_begins_open():
    net = SequenceRegressor(8, 7).initialise(torch.Generator().manual_seed(0))
    assert (net.lstm.bias_ih_l0[7:14] == 1).all()
    assert {tuple(w.shape) for w in net.weights} == {(28, 8), (28, 7), (4, 7)}

"""SiamFC: the network of Table I, its loss, and the tracker (SPEC 9.3, paper 003)."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from trackerlib.boxes import centre
from trackerlib.config import configured
from trackerlib.nn.correlation import correlate_scales, cross_correlate
from trackerlib.siamfc import (
    SEARCH,
    SIAMFC_3S,
    SIAMFC_5S,
    SiamFC,
    SiamFCTracker,
    folded,
    labels,
    logistic_loss,
    pair_loss,
)
from trackerlib.tracker import Frames


def network(width=0.125, seed=0):
    net = SiamFC(width).initialise(torch.Generator().manual_seed(seed))
    generator = torch.Generator().manual_seed(seed + 1)
    for module in net.modules():  # statistics that folding must carry over
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            module.weight.data.uniform_(0.5, 2, generator=generator)
            module.bias.data.normal_(generator=generator)
    return net.eval()


def test_parameter_counts():
    net = SiamFC()
    per_layer = [sum(p.numel() for p in layer[0].parameters()) for layer in net.backbone]
    assert per_layer == [34_944, 307_456, 885_120, 663_936, 442_624]
    assert sum(p.numel() for p in net.backbone.parameters()) == 2_336_320
    buffers = {k: v for k, v in net.backbone.named_buffers() if not k.endswith("tracked")}
    assert sum(v.numel() for v in buffers.values()) == 2_240
    assert sum(p.numel() for p in SiamFC(0.125).backbone.parameters()) == 40_712


@pytest.mark.parametrize(
    ("size", "maps"),
    [
        (127, [59, 29, 25, 12, 10, 8, 6]),
        (255, [123, 61, 57, 28, 26, 24, 22]),
        (239, [115, 57, 53, 26, 24, 22, 20]),
    ],
)
def test_map_sizes(size, maps):
    """Table I, before and after each pooling."""
    x, found = torch.zeros(1, 3, size, size), []
    for layer in SiamFC(0.125).eval().backbone:
        for module in layer:
            x = module(x)
            if isinstance(module, torch.nn.Conv2d | torch.nn.MaxPool2d):
                found.append(x.shape[-1])
    assert found == maps


def test_score_map_sizes():
    net = network()
    z = torch.zeros(1, 3, 127, 127)
    assert net(z, torch.zeros(1, 3, 255, 255)).shape == (1, 1, 17, 17)
    assert net(z, torch.zeros(1, 3, 239, 239)).shape == (1, 1, 15, 15)


@pytest.mark.parametrize("size", [15, 17])
def test_labels(size):
    y, weights = labels(size)
    assert (y == 1).sum() == 13
    assert set(y.unique().tolist()) == {-1.0, 1.0}
    assert weights[y == 1].sum() == pytest.approx(0.5)
    assert weights[y == -1].sum() == pytest.approx(0.5)


def test_loss_of_a_silent_network_is_ln2():
    assert float(logistic_loss(torch.zeros(4, 1, 15, 15), *labels(15))) == pytest.approx(math.log(2), abs=1e-6)


def test_correlations_equal_the_naive_loop():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(2, 8, 6, 6, generator=generator, dtype=torch.float64)
    x = torch.randn(6, 8, 22, 22, generator=generator, dtype=torch.float64)
    naive = torch.empty(2, 3, 17, 17, dtype=torch.float64)
    for b in range(2):
        for s in range(3):
            for i in range(17):
                for j in range(17):
                    naive[b, s, i, j] = (x[b * 3 + s, :, i : i + 6, j : j + 6] * z[b]).sum()
    grouped = torch.stack([cross_correlate(z, x[s::3])[:, 0] for s in range(3)], 1)
    assert (grouped - naive).abs().max() < 1e-11
    assert (correlate_scales(z, x) - naive).abs().max() < 1e-11
    assert (correlate_scales(z, x.contiguous(memory_format=torch.channels_last)) - naive).abs().max() < 1e-11


def test_folding_changes_nothing():
    net = network()
    x = torch.rand(2, 3, 255, 255, generator=torch.Generator().manual_seed(2)) * 255
    plain, fast = net.embed(x), folded(net).embed(x)
    assert (plain - fast).abs().max() < 1e-4 * plain.abs().max()
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded(net).modules())


def test_one_batch_can_be_learnt_by_heart():
    """Overfit one batch from ln 2 to below 0.05."""
    torch.manual_seed(0)
    net = SiamFC(0.125).initialise(torch.Generator().manual_seed(0)).train()
    generator = torch.Generator().manual_seed(1)
    x = torch.nn.functional.interpolate(torch.rand(4, 3, 60, 60, generator=generator), 239, mode="bilinear") * 255
    batch = {"x": x.byte().permute(0, 2, 3, 1), "z": x[:, :, 56:183, 56:183].byte().permute(0, 2, 3, 1)}
    optimiser = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)
    for _ in range(300):
        loss = pair_loss(net, batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if loss < 0.05:
            break
    assert loss < 0.05


class Identity(torch.nn.Module):
    """An embedding that only averages grey over 8 x 8 cells, on SiamFC's grid: a delta-like patch stays one."""

    def forward(self, images):
        grey = images.mean(1, keepdim=True)
        return F.avg_pool2d(grey[:, :, 43 - 4 : -(43 - 4), 43 - 4 : -(43 - 4)], 9, 8)


def identity_tracker(**config):
    tracker = SiamFCTracker(SiamFC(0.125), configured(SIAMFC_3S, config))
    tracker.net.backbone = torch.nn.Sequential(Identity())
    return tracker


def frames_of(image, t=0, lanes=1):
    return Frames([image], [0] * lanes, [("s", t)])


def test_labels_are_made_where_the_scores_are():
    """Beside the CPU too; `meta` stands for any other device."""
    for shift in (0.0, torch.zeros(2, 2, device="meta")):
        assert {part.device.type for part in labels(17, device="meta", shift=shift)} == {"meta"}


@pytest.mark.parametrize("displacement", ["matlab", "pytorch"])
def test_pure_translation_is_recovered(displacement):
    """A delta-like patch that moves is found again to 8/16 * s_x / 255 pixels of the frame, in each direction."""
    tracker = identity_tracker(displacement=displacement, window=0.0, scales=1)
    start = torch.tensor([[60.0, 50.0, 20.0, 20.0]])
    for dx, dy in [(0, 0), (8, 0), (0, -6), (-7, 9)]:
        first, second = torch.zeros(2, 3, 120, 160, dtype=torch.uint8)
        first[:, 58:62, 68:72] = 255
        second[:, 58 + dy : 62 + dy, 68 + dx : 72 + dx] = 255
        state = tracker.init(frames_of(first), start)
        state.fill.zero_()
        state, output = tracker.track(state, frames_of(second, 1))
        moved = centre(output.boxes)[0] - centre(start)[0]
        resolution = 8 / 16 * float(state.first_side[0]) / SEARCH
        slack = 0.5 * resolution if displacement == "matlab" else 0  # its centre lies half a fine cell off
        rounding = 9 * 0.5 / float(state.first_side[0])  # the crop's side is a whole number of pixels
        assert (moved - torch.tensor([dx, dy])).abs().max() <= resolution + slack + rounding


def test_shifted_video_gives_shifted_boxes():
    """Shift every frame inside a plain surround by whole pixels: boxes shift by the same, to float rounding."""
    tracker = SiamFCTracker(network())
    generator = torch.Generator().manual_seed(4)
    video = F.interpolate(torch.rand(6, 3, 20, 20, generator=generator), 60, mode="bilinear") * 255
    boxes = []
    for dx, dy in [(0, 0), (17, 9)]:
        canvas = torch.full((6, 3, 300, 300), 90, dtype=torch.uint8)
        for t in range(6):
            canvas[t, :, 120 + dy : 180 + dy, 110 + dx + 2 * t : 170 + dx + 2 * t] = video[0].byte()
        state = tracker.init(frames_of(canvas[0]), torch.tensor([[125.0 + dx, 135.0 + dy, 30, 30]]))
        found = []
        for t in range(1, 6):
            state, output = tracker.track(state, frames_of(canvas[t], t))
            found.append(output.boxes[0] - torch.tensor([dx, dy, 0, 0]))
        boxes.append(torch.stack(found))
    assert (boxes[0] - boxes[1]).abs().max() < 0.01


def test_scales_and_damping():
    """A response that favours the larger scale grows side and size by the damped factor."""
    tracker = SiamFCTracker(network(), SIAMFC_5S)
    image = torch.randint(0, 256, (3, 120, 160), dtype=torch.uint8)
    state = tracker.init(frames_of(image), torch.tensor([[60.0, 50.0, 20.0, 30.0]]))
    response = torch.zeros(1, 5, 17, 17)
    response[0, 4, 8, 8] = 1
    best, _, _ = tracker.locate(state, response)
    size, side = tracker.damped(state, tracker.factors[best])
    factor = 1 - 0.34 + 0.34 * 1.0255**2
    assert float(side / state.side) == pytest.approx(factor, rel=1e-6)
    torch.testing.assert_close(size, torch.tensor([[20.0, 30.0]]) * factor)


def test_side_stays_within_bounds():
    tracker = SiamFCTracker(network())
    image = torch.randint(0, 256, (3, 120, 160), dtype=torch.uint8)
    state = tracker.init(frames_of(image), torch.tensor([[60.0, 50.0, 20.0, 30.0]]))
    for _ in range(120):
        size, side = tracker.damped(state, tracker.factors[2:])
        state = replace(state, size=size, side=side)
    assert float(state.side / state.first_side) == pytest.approx(5.0)


def test_lanes_that_share_an_image_in_one_batch_equal_lane_by_lane():
    """The two ways through the network, a GPU's and a CPU's, lanes 0 and 2 on one image."""
    tracker = SiamFCTracker(SiamFC(0.125).initialise(torch.Generator().manual_seed(0)).eval())
    images = list(torch.randint(0, 256, (2, 3, 90, 120), dtype=torch.uint8))
    frames = Frames(images, [0, 1, 0], [("a", 0), ("b", 0)])
    boxes = torch.tensor([[30.0, 20, 25, 30], [40, 30, 20, 20], [60, 40, 30, 25]])
    alone = tracker.init(frames, boxes)
    tracker.device = torch.device("cuda")  # by name only: the tensors stay
    together = tracker.init(frames, boxes)
    torch.testing.assert_close(together.template, alone.template, atol=1e-3, rtol=1e-3)
    assert not torch.allclose(alone.template[1], alone.template[2], rtol=0.1)


def test_unknown_config_field_names_the_near_one():
    with pytest.raises(ValueError, match="scale_lr"):
        configured(SIAMFC_3S, {"scale_rl": 0.5})
    with pytest.raises(ValueError, match="is str, want float"):
        configured(SIAMFC_3S, {"window": "0.2"})

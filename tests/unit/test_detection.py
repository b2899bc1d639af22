"""What GSTP's detector is made of: ResNet-50, HRNet, anchors, deltas, assignment, RoIAlign (SPEC 9.3, 002)."""

import math

import pytest
import torch

from trackerlib import boxes as B
from trackerlib.nn.hrnet import HRNet, more_inputs
from trackerlib.nn.resnet import ResNet50
from trackerlib.nn.roi import anchors, assign, decode, encode, roi_align, sample


def count(net):
    return sum(p.numel() for p in net.parameters())


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_resnet_has_the_published_names_counts_and_sizes():
    net = ResNet50()
    assert (count(net), len(net.state_dict()), count(net.layer4)) == (25_557_032, 320, 14_964_736)
    assert count(net) - count(net.layer4) - count(net.fc) == 8_543_296
    assert {"layer1.0.downsample.0.weight", "layer3.5.bn3.running_var", "fc.bias"} <= set(net.state_dict())
    small = ResNet50(0, 1 / 16).initialise(seeded()).eval()
    for frame, cells in (((720, 1280), (45, 80)), ((800, 1333), (50, 84)), ((480, 640), (30, 40))):
        assert small.trunk(torch.zeros(1, 3, *frame)).shape == (1, 64, *cells)


def test_resnet_is_torchvision_s():
    models = pytest.importorskip("torchvision.models")
    theirs, ours = models.resnet50().eval(), ResNet50().eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.rand(1, 3, 96, 64, generator=seeded()) * 255
    mean, deviation = (torch.tensor(v)[:, None, None] * 255 for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs((images - mean) / deviation))


def test_hrnet_has_the_published_names_and_counts():
    net = HRNet()
    parts = {
        "layer1": 286_208,
        "transition1": 221_376,
        "stage2": 390_848,
        "transition2": 73_984,
        "stage3": 6_821_632,
        "transition3": 295_424,
        "stage4": 20_407_232,
    }
    assert {name: count(net.get_submodule(name)) for name in parts} == parts
    assert (count(net), len(net.state_dict())) == (28_536_113, 1754)
    published = ["transition1.1.0.0.weight", "transition2.2.0.1.bias", "stage2.0.fuse_layers.0.1.0.weight"]
    published += ["stage3.3.fuse_layers.2.0.0.0.weight", "stage4.2.fuse_layers.0.3.1.weight", "final_layer.bias"]
    assert set(published) <= set(net.state_dict())
    for maps in (1, 5, 10, 20):
        assert count(HRNet(3 + maps, 1)) == 28_535_585 + 576 * maps
    assert count(HRNet(13, 1, base=48)) == 63_600_721


def test_hrnet_s_new_inputs_say_nothing_at_first():
    torch.manual_seed(0)  # torch's own start: with the release's, of 0.001, all answers are nearly 0
    net, wider = HRNet(3, 1, width=1 / 8).eval(), HRNet(13, 1, width=1 / 8).eval()
    wider.load_state_dict(more_inputs(net.state_dict(), 13))
    x = torch.rand(1, 13, 96, 128, generator=seeded())
    with torch.no_grad():
        answer = wider(x)
        torch.testing.assert_close(answer, net(x[:, :3]))
    assert answer.abs().max() > 0.01
    assert answer.shape == (1, 1, 24, 32)


def test_anchors_by_hand():
    found = anchors(2, 3, 16, (64, 128), (0.5, 1, 2))
    assert found.shape == (36, 4)
    torch.testing.assert_close(B.centre(found[6]), torch.tensor([24.0, 8]))  # the second cell of the first row
    torch.testing.assert_close(B.centre(found[18]), torch.tensor([8.0, 24]))
    torch.testing.assert_close(found[:6, 2] * found[:6, 3], torch.tensor([64.0**2] * 3 + [128.0**2] * 3))
    torch.testing.assert_close(found[:3, 3] / found[:3, 2], torch.tensor([0.5, 1, 2]))


def test_deltas_there_and_back():
    boxes, of = (torch.rand(2, 50, 4, generator=seeded(i)).double() * 90 + 10 for i in (0, 1))
    deviations = (0.1, 0.1, 0.2, 0.2)
    torch.testing.assert_close(decode(boxes, encode(boxes, of, deviations), deviations), of)
    by_hand = encode(torch.tensor([10.0, 10, 20, 40]), torch.tensor([20.0, 10, 40, 20]))
    torch.testing.assert_close(by_hand, torch.tensor([1.0, -0.25, math.log(2), -math.log(2)]))
    grown = decode(torch.tensor([0.0, 0, 16, 16]), torch.tensor([0.0, 0, 9, -9]))
    torch.testing.assert_close(grown[2:], torch.tensor([1000, 16 * 16 / 1000]))


def test_who_is_told_what():
    iou = torch.tensor([[0.9, 0.7, 0.69, 0.3, 0.29, 0], [0.4, 0.1, 0.4, 0, 0, 0], [0.2, 0.1, 0, 0, 0, 0]])
    assert assign(iou, 0.7, 0.3, 0.3).tolist() == [[1, 1, -1, -1, 0, 0], [1, 0, 1, 0, 0, 0], [0] * 6]
    assert assign(iou, 0.5, 0.5).tolist() == [[1, 1, 1, 0, 0, 0], [0] * 6, [0] * 6]


def test_samples_are_of_both_kinds_and_as_many_as_asked():
    labels = torch.tensor([[1] * 60 + [0] * 200 + [-1] * 40, [1] * 2 + [0] * 298, [0] * 10 + [-1] * 290])
    labels = labels[:, torch.randperm(300, generator=seeded())]
    chosen = sample(labels, 64, 0.5, seeded())
    assert [(int((labels[i] == k)[chosen[i]].sum())) for i in range(3) for k in (1, 0, -1)] == [
        *(32, 32, 0),
        *(2, 62, 0),
        *(0, 10, 0),
    ]
    assert (sample(labels, 64, 0.5, seeded(1)) != chosen).any()


def test_roi_align_is_exact_on_a_ramp():
    """Bins of a map that rises by 3 a column and 5 a row hold its value at their middles, inside of the map."""
    y, x = torch.meshgrid(torch.arange(20.0), torch.arange(30.0), indexing="ij")
    maps = torch.stack([3 * x + 5 * y, torch.ones_like(x)])[None].double()
    boxes = torch.tensor([[[40.0, 48, 112, 56], [17, 33, 95, 140]]]).double()
    bins = roi_align(maps, boxes, 7, 16)
    assert bins.shape == (1, 2, 2, 7, 7)
    for box, found in zip(boxes[0], bins[0], strict=True):
        middle = [(box[i] + (torch.arange(7).double() + 0.5) / 7 * box[2 + i]) / 16 - 0.5 for i in (0, 1)]
        torch.testing.assert_close(found[0], 3 * middle[0][None] + 5 * middle[1][:, None])
        torch.testing.assert_close(found[1], torch.ones(7, 7).double())


def test_roi_align_reads_each_image_s_own_map_and_nothing_outside():
    maps = torch.stack([torch.zeros(1, 8, 8), torch.ones(1, 8, 8)])
    boxes = torch.tensor([[0.0, 0, 64, 64], [-64, -64, 32, 32], [-16, 16, 32, 32]]).expand(2, 3, 4)
    bins = roi_align(maps, boxes, 4, 8)
    assert bins[0].abs().max() == 0
    assert bins[1, 0].min() == 1
    assert bins[1, 1].abs().max() == 0
    assert bins[1, 2, 0, :, 0].abs().max() == 0
    assert bins[1, 2, 0, :, 2:].min() == 1


def test_roi_align_is_torchvision_s():
    ops = pytest.importorskip("torchvision.ops")
    maps = torch.randn(2, 5, 20, 30, generator=seeded())
    boxes = torch.rand(2, 40, 4, generator=seeded()) * torch.tensor([480.0, 320, 300, 300]) - 40
    boxes[..., 2:] += 45
    rows = torch.cat([torch.arange(2).repeat_interleave(40)[:, None], B.corners(boxes).flatten(0, 1)], 1)
    theirs = ops.roi_align(maps, rows, 7, 1 / 16, 2, aligned=True)
    torch.testing.assert_close(roi_align(maps, boxes, 7, 16).flatten(0, 1), theirs, atol=1e-5, rtol=1e-5)

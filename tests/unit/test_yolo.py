"""YOLO: published counts and file sizes, darknet's and TensorFlow's layouts, decoding, suppression and the loss."""

import numpy as np
import pytest
import torch
from torch import nn

from trackerlib import boxes as B
from trackerlib.nn.checkpoints import save_weights
from trackerlib.nn.norms import normed, plain
from trackerlib.nn.roi import nms
from trackerlib.nn.yolo import (
    YOLO,
    Classifier,
    LocalConv,
    SharedHead,
    darknet_size,
    from_tensorflow,
    load_yolo,
    read_darknet,
    write_darknet,
    yolo_loss,
)


def small(variant: str = "small", seed: int = 0, **sizes) -> YOLO:
    sizes = {"width": 1 / 16, "input": 128, "classes": 3} | sizes
    return YOLO(variant, **sizes).initialise(torch.Generator().manual_seed(seed)).eval()


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("variant", "parameters", "size"),
    [("small", 93_970_430, 375_881_736), ("cvpr", 271_703_550, 1_086_814_216), ("v1", 197_301_875, 789_312_988)],
)
def test_published_parameter_counts_and_file_sizes(variant, parameters, size):
    with torch.device("meta"):
        net = YOLO(variant)
    assert (count(net), darknet_size(net)) == (parameters, size)
    assert (
        sum(m.weight.numel() + m.out_channels for m in net.features.modules() if isinstance(m, nn.Conv2d)) == 60_155_968
    )
    assert net.size == {"small": 4096, "cvpr": 4096, "v1": 12_544}[variant]


def test_sizes_of_the_maps():
    net, x, sizes = YOLO(width=1 / 32), torch.zeros(1, 3, 448, 448), []
    for layer in net.features:
        x = layer(x)
        sizes.append(x.shape[-1])
    assert sorted(set(sizes), reverse=True) == [224, 112, 56, 28, 14, 7]
    features, cells = net.eval()(torch.zeros(1, 3, 448, 448))
    assert (features.shape, cells.shape) == ((1, 128), (1, 1470))


def test_other_sizes_are_multiples_of_a_cell():
    assert YOLO(width=1 / 16, input=256, classes=9, hidden=(24, 40)).last.weight.shape == (4 * 4 * 19, 40)
    with pytest.raises(ValueError, match="multiple of 64"):
        YOLO(width=1 / 16, input=250)
    with pytest.raises(ValueError, match="small, cvpr, v1"):
        YOLO("tiny")
    with pytest.raises(ValueError, match="'cvpr' has 1 hidden layers, not 2"):
        YOLO("cvpr", 1 / 16, hidden=(24, 40))


@pytest.mark.parametrize("variant", ["small", "cvpr", "v1"])
def test_a_darknet_file_comes_back(variant, tmp_path):
    net, again = small(variant), small(variant, 1)
    for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_var.uniform_(0.1, 2)
        norm.running_mean.uniform_(-1, 1)
    write_darknet(net, path := tmp_path / "x.weights", seen=7)
    assert path.stat().st_size == darknet_size(net)
    assert np.frombuffer(path.read_bytes(), "<i4", 4).tolist() == [0, 1, 0, 7]
    read_darknet(again, path)
    images = torch.rand(1, 3, 128, 128) * 255
    with torch.inference_mode():
        for a, b in zip(net(images), again(images), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    assert torch.equal(net.last.weight, again.last.weight)
    first = np.frombuffer(path.read_bytes(), "<f4", 4, offset=16)
    norm = net.features[0][1] if variant == "v1" else net.features[0]
    np.testing.assert_array_equal(first, norm.bias.detach())  # biases come before weights


def test_darknet_s_other_headers(tmp_path):
    """From version 0.2 on eight bytes count the images; above 1000 fully connected layers are transposed."""
    net, again = small("cvpr"), small("cvpr", 1)
    write_darknet(net, path := tmp_path / "x.weights")
    body = path.read_bytes()[16:]
    path.write_bytes(np.array([0, 2, 0], "<i4").tobytes() + np.array([9], "<u8").tobytes() + body)
    read_darknet(again, path)
    assert torch.equal(net.last.weight, again.last.weight)
    turned, start = bytearray(body), 0
    for layer in (m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)):
        start += 4 * layer.bias.numel()
        size = 4 * layer.weight.numel()
        if isinstance(layer, nn.Linear):
            turned[start : start + size] = layer.weight.detach().T.contiguous().numpy().tobytes()
        start += size
    path.write_bytes(np.array([1001, 0, 0, 9], "<i4").tobytes() + bytes(turned))
    read_darknet(again := small("cvpr", 2), path)
    assert torch.equal(net.head[1].weight, again.head[1].weight)


def test_a_darknet_file_of_another_network_is_refused(tmp_path):
    write_darknet(small("cvpr"), path := tmp_path / "x.weights")
    with pytest.raises(ValueError, match=r"x\.weights: holds \d+ numbers, but YOLO 'small' .* has \d+; try another"):
        read_darknet(small("small"), path)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError, match="numbers"):
        read_darknet(small("cvpr"), path)
    path.write_bytes(b"abc")
    with pytest.raises(ValueError, match="numbers"):
        read_darknet(small("cvpr"), path)
    with pytest.raises(FileNotFoundError, match="no such weights"):
        load_yolo(tmp_path / "none.weights")


def test_the_local_layer_has_weights_of_its_own_at_each_place():
    net = LocalConv(2, 3, 4)
    nn.init.normal_(net.weight)
    nn.init.normal_(net.bias)
    x = torch.randn(1, 2, 4, 4)
    around = nn.functional.pad(x, (1, 1, 1, 1))
    for row, column in ((0, 0), (1, 2), (3, 3)):
        patch = around[0, :, row : row + 3, column : column + 3]
        wanted = (net.weight[row * 4 + column] * patch.flatten(1)).sum((1, 2)) + net.bias[:, row, column]
        torch.testing.assert_close(net(x)[0, :, row, column], wanted)


def test_tensorflow_s_variables_are_in_order_and_turned():
    net, again = small(), small(seed=1)
    layers = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    turn = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}
    variables = [p.detach().numpy().transpose(turn[p.ndim]) for m in layers for p in (m.weight, m.bias)]
    assert variables[0].shape == (7, 7, 3, 4)  # h, w, in, out
    again.load_state_dict(from_tensorflow(net, variables))
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))
    with pytest.raises(ValueError, match="54 tensors, not 53"):
        from_tensorflow(net, variables[1:])


def test_our_own_file_tells_all_sizes(tmp_path):
    for variant in ("small", "cvpr", "v1"):
        hidden = {"small": (24, 40), "cvpr": (40,), "v1": ()}[variant]
        net = small(variant, boxes=4, classes=5, hidden=hidden)
        save_weights(net, path := tmp_path / f"{variant}.safetensors", {}, torch.float32)
        again = load_yolo(path)
        assert (again.variant, again.input, again.classes, again.boxes) == (variant, 128, 5, 4)
        assert torch.equal(again.last.weight, net.last.weight)
        assert again.size == net.size
    with pytest.raises(ValueError, match="not weights of YOLO"):
        load_yolo("siamfc")


def test_a_hand_made_answer_is_decoded():
    """1470 numbers: class probabilities, then confidences, then boxes; cell (row 3, column 5) sees class 7."""
    net, cells = YOLO(width=1 / 64), torch.zeros(1470)
    cell = 3 * 7 + 5
    cells[cell * 20 + 7] = 0.9
    cells[980 + cell * 2 + 1] = 0.8
    cells[980 + 98 + (cell * 2 + 1) * 4 :][:4] = torch.tensor([0.25, 0.5, 0.6, 0.4])
    boxes, scores, kinds = net.decode(cells[None])
    (found,) = scores[0].nonzero().flatten().tolist()
    assert found == cell * 2 + 1
    assert scores[0, found].item() == pytest.approx(0.72)
    assert kinds[0, found] == 7
    wanted = B.from_centre(np.array([5.25 / 7, 3.5 / 7]), np.array([0.36, 0.16]))
    np.testing.assert_allclose(boxes[0, found], wanted, rtol=1e-6)
    assert net.decode(cells[None], threshold=0.73)[1].max() == 0


def test_suppression_is_greedy_and_of_any_class():
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 10, 10], [2.5, 0, 10, 10], [30, 0, 5, 5], [0, 0, 10, 10]])
    scores = torch.tensor([0.9, 0.8, 0.7, 0.1, 0.0])
    assert nms(boxes, scores, 0.5).tolist() == [True, False, False, True, False]
    assert nms(boxes, scores, 0.7).tolist() == [True, False, True, True, False]  # the second, gone, spares the third
    assert nms(boxes, torch.ones(5), 0.99).tolist() == [True, True, True, True, False]  # of equals the first


def test_suppression_is_what_the_loop_does():
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        boxes, scores = torch.rand(2, 25, 4, generator=generator), torch.rand(2, 25, generator=generator)
        scores[scores < 0.2] = 0
        for row, keep in enumerate(nms(boxes, scores, 0.3)):
            kept: list[int] = []
            for i in scores[row].argsort(descending=True).tolist():
                if scores[row, i] > 0 and all(B.iou(boxes[row, i], boxes[row, j]) <= 0.3 for j in kept):
                    kept.append(i)
            assert keep.nonzero().flatten().tolist() == sorted(kept)


class Says(YOLO):
    """A detector that answers with given cells."""

    def __init__(self, cells: torch.Tensor):
        super().__init__(width=1 / 64, input=128, classes=2)
        self.cells = cells

    def forward(self, images):
        return images, self.cells


def test_the_loss_by_hand():
    """One object of class 1 in the second of four cells. Its first box has the larger IoU and answers for it."""
    cells = torch.zeros(1, 2 * 2 * 12)
    says = Says(cells)
    kinds, confidences, raw = says.split(cells)  # views
    kinds[0, 1] = torch.tensor([0.1, 0.7])
    confidences[0, 1] = torch.tensor([0.6, 0.3])
    confidences[0, 2, 0] = 0.2
    raw[0, 1, 0] = torch.tensor([0.5, 0.5, 0.5, 0.5])  # centre (0.75, 0.25), sides 0.25
    raw[0, 1, 1] = torch.tensor([0.0, 0.0, 0.1, 0.1])
    truth = torch.tensor([[[1, 0.625, 0.1, 0.25, 0.3], [-1, 0, 0, 0, 0]]])  # centre (0.75, 0.25)
    batch = {"x": torch.zeros(1, 128, 128, 3, dtype=torch.uint8), "objects": truth}
    iou = 0.25 / 0.3
    place = 5 * (0.3**0.5 - 0.5) ** 2
    sure = (0.6 - iou) ** 2 + 0.5 * (0.3**2 + 0.2**2)
    kind = 0.1**2 + 0.3**2
    assert yolo_loss(says, batch).item() == pytest.approx(place + sure + kind, rel=1e-5)


def test_where_no_box_overlaps_the_nearest_one_answers():
    cells = torch.zeros(1, 48)
    says = Says(cells)
    _, _, raw = says.split(cells)
    raw[0, 0, 1] = torch.tensor([0.9, 0.9, 0.0, 0.0])
    truth = torch.tensor([[[0, 0.39, 0.39, 0.1, 0.1]]])
    batch = {"x": torch.zeros(1, 128, 128, 3, dtype=torch.uint8), "objects": truth}
    near = 5 * (2 * 0.02**2 + 2 * 0.1)
    assert yolo_loss(says, batch).item() == pytest.approx(near + 1, rel=1e-4)


def test_the_first_of_two_objects_in_a_cell_counts():
    net = small(classes=2)
    batch = {"x": torch.zeros(1, 128, 128, 3, dtype=torch.uint8)}
    one = torch.tensor([[[1, 0.1, 0.1, 0.2, 0.2]]])
    two = torch.cat([one, torch.tensor([[[0, 0.1, 0.1, 0.1, 0.1]]])], 1)
    assert yolo_loss(net, batch | {"objects": one}) == yolo_loss(net, batch | {"objects": two})


def test_it_learns_one_image_by_heart():
    torch.manual_seed(0)
    net = normed(small(width=1 / 8, classes=2)).train()
    net.dropout.p = 0.0
    x = torch.randint(0, 255, (2, 128, 128, 3), generator=torch.Generator().manual_seed(0)).byte()
    objects = torch.tensor([[[1, 0.1, 0.1, 0.3, 0.3]], [[0, 0.5, 0.6, 0.4, 0.2]]])
    adam = torch.optim.Adam(net.parameters(), 2e-3)
    for _ in range(60):
        loss = yolo_loss(net, {"x": x, "objects": objects})
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert loss < 0.05
    boxes, scores, kinds = net.decode(net(x.permute(0, 3, 1, 2).float())[1], 0.3)
    for row in range(2):
        (found,) = scores[row].nonzero().flatten().tolist()
        assert B.iou(boxes[row, found], objects[row, 0, 1:]) > 0.8
        assert kinds[row, found] == objects[row, 0, 0]


def test_a_head_that_all_cells_share_is_written_out_as_fully_connected_layers():
    shared = SharedHead("small", 1 / 16, 128, 3, (16, 24)).initialise(torch.Generator().manual_seed(0)).eval()
    nn.init.normal_(shared.last.bias, generator=torch.Generator().manual_seed(1))
    nn.init.normal_(shared.head[0].bias, generator=torch.Generator().manual_seed(2))
    net, images = shared.spread().eval(), torch.rand(2, 3, 128, 128) * 255
    assert type(net) is YOLO
    assert net.head[1].weight.shape == (16, 64 * 4)
    with torch.inference_mode():
        for theirs, ours in zip(shared(images), net(images), strict=True):
            torch.testing.assert_close(ours, theirs)
    with pytest.raises(ValueError, match="shared out among 4 cells"):
        SharedHead("small", 1 / 16, 128, 3, (15, 24))


def test_phase_1_trains_the_layers_that_yolo_begins_with():
    net = Classifier(7).features
    convs = [m for m in net if isinstance(m, nn.Conv2d)]
    assert (len(convs), convs[-1].out_channels) == (20, 1024)
    classifier = normed(Classifier(5, 1 / 16).initialise(torch.Generator().manual_seed(0)))
    classifier(torch.rand(4, 3, 96, 96) * 255)
    own, begun = small(), plain(classifier).state_dict()
    shared = {name for name in begun if name.startswith("features.")}
    assert len(shared) == 40
    assert all(begun[name].shape == own.state_dict()[name].shape for name in shared)
    assert plain(classifier)(torch.rand(2, 3, 96, 96) * 255).shape == (2, 5)

"""SiaMemory's Siamese branch and its LSTM: SPEC 9.3 (000), Table 1 and the written-out equations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from trackerlib.data import load_dataset
from trackerlib.data.rendered import rendered
from trackerlib.images import to_tensor, whole_frame
from trackerlib.nn.checkpoints import (
    load_into,
    provenance,
    read_tensors,
    save_weights,
    weights_digest,
    weights_file,
)
from trackerlib.nn.recurrent import SequenceRegressor
from trackerlib.nn.squeezenet import SqueezeNet
from trackerlib.siamemory import (
    CONV6,
    AllConv,
    Memory,
    SiaMemory,
    SiaMemoryConfig,
    SiaMemoryTracker,
    Track,
    WindowSampler,
    allconv_of,
    averaging,
    branch_groups,
    calibrate,
    in_pixels,
    in_shares,
    load_siamemory,
    memory_loss,
    memory_of,
)
from trackerlib.siamfc import SiamFC, SiamFCTracker, folded
from trackerlib.tracker import Frames
from trackerlib.trackers import load_tracker


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
    assert counts == {"64/2": 8_256, "64/1": 16_448, "128/2": 16_512}
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


def test_the_norms_are_calibrated_before_training():
    net = AllConv(0.125).initialise(torch.Generator().manual_seed(0))
    batch = {"z": torch.randint(0, 256, (4, 127, 127, 3)), "x": torch.randint(0, 256, (4, 239, 239, 3))}
    norm, weight = net.backbone.conv_p1[1], net.backbone.conv_p1[0].weight.clone()
    before = norm.running_mean.clone()
    calibrate(net, [batch] * 40)
    assert not torch.equal(norm.running_mean, before)
    assert torch.equal(net.backbone.conv_p1[0].weight, weight)
    seen = net.eval().backbone[:2]
    with torch.no_grad():
        x = batch["x"].permute(0, 3, 1, 2).float()
        out = seen[1][:2](seen[0](x))  # after the norm: about mean 0 and deviation 1
    assert out.mean().abs() < 0.2
    assert 0.7 < out.std() < 1.4


def test_new_layers_learn_faster_and_vectors_do_not_decay():
    net = AllConv(0.125)
    groups = branch_groups(net, 7.0)
    of = {id(p): g for g in groups for p in g["params"]}
    assert len(of) == len(list(net.parameters()))
    for name, p in net.named_parameters():
        assert of[id(p)]["rate"] == (7.0 if ".conv_p" in name or ".conv6" in name else 1.0)
        assert ("weight_decay" in of[id(p)]) == (p.ndim <= 1)


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


def windows_of(count: int, features: int = 12, seed: int = 0, speed: float = 0.02) -> dict[str, torch.Tensor]:
    """Windows of a target that moves evenly, and where it is in their last frames."""
    generator = torch.Generator().manual_seed(seed)
    start, step = torch.rand(count, 1, 4, generator=generator), speed * torch.randn(count, 1, 4, generator=generator)
    boxes = start + step * torch.arange(6.0)[:, None]
    vectors = 50 * torch.rand(count, 6, features, generator=generator)
    return {"windows": torch.cat([vectors, boxes], -1), "boxes": boxes[:, -1]}


def test_least_squares_are_regularised_by_the_weights_alone():
    """Eq. 8: its gradient is that of the squares plus 2 lambda W for matrices, and that of the squares for biases."""
    net, batch = Memory(12, 9).initialise(torch.Generator().manual_seed(0)), windows_of(5)
    parameters = list(net.parameters())
    plain = torch.autograd.grad(memory_loss(net, batch, "none"), parameters)
    regular = torch.autograd.grad(memory_loss(net, batch, "l2", 0.3), parameters)
    for w, a, b in zip(parameters, plain, regular, strict=True):
        torch.testing.assert_close(b, a + 2 * 0.3 * w if w.ndim > 1 else a)
    found = net(batch["windows"])
    torch.testing.assert_close(memory_loss(net, batch, "none"), ((found - batch["boxes"]) ** 2).sum(1).mean())


def test_the_form_released_with_rolo_pulls_the_state_to_the_features():
    net, batch = Memory(12, 16).initialise(torch.Generator().manual_seed(0)), windows_of(5)
    state = net.regressor.states(net.normal(batch["windows"]))[:, -1]
    squares = 100 * ((net(batch["windows"]) - batch["boxes"]) ** 2).mean()
    pull = 100 * ((batch["windows"][:, -1, :12] - state[:, :12]) ** 2).mean()
    torch.testing.assert_close(memory_loss(net, batch, "feature", 1.0), squares + pull)


def test_vectors_are_standardised_and_boxes_are_not():
    net, batch = Memory(12, 9), windows_of(50)
    net.standardise(batch["windows"][..., :12].flatten(0, 1))
    seen = net.normal(batch["windows"])
    torch.testing.assert_close(seen[..., :12].flatten(0, 1).mean(0), torch.zeros(12), atol=1e-5, rtol=0)
    torch.testing.assert_close(seen[..., :12].flatten(0, 1).std(0), torch.full((12,), 12**-0.5))
    assert torch.equal(seen[..., 12:], batch["windows"][..., 12:])


def trained(batch: dict[str, torch.Tensor], steps: int) -> Memory:
    net = Memory(12, 24).initialise(torch.Generator().manual_seed(0))
    net.standardise(batch["windows"][..., :12].flatten(0, 1))
    optimiser = torch.optim.Adam(net.parameters(), 5e-3)
    for _ in range(steps):
        optimiser.zero_grad()
        memory_loss(net, batch, "l2", 0.0).backward()
        optimiser.step()
    return net.eval()


def test_one_window_is_learned_by_heart():
    batch = windows_of(1)
    assert (trained(batch, 300)(batch["windows"]) - batch["boxes"]).abs().max() < 1e-2


def test_it_bridges_measurements_that_stand_still():
    """An occlusion: from its third frame on a window has the box of its second. What the memory says after training is
    nearer to the truth than what it is given."""

    def frozen(batch):
        windows = batch["windows"].clone()
        windows[:, 2:, 12:] = windows[:, 1:2, 12:]
        windows[..., :12] = 0  # nothing but motion to go by
        return {"windows": windows, "boxes": batch["boxes"]}

    net, unseen = trained(frozen(windows_of(200, speed=0.1)), 300), frozen(windows_of(100, seed=1, speed=0.1))
    with torch.no_grad():
        error = (net(unseen["windows"]) - unseen["boxes"]).abs().mean()
    given = (unseen["windows"][:, -1, 12:] - unseen["boxes"]).abs().mean()
    assert error < 0.8 * given


def test_boxes_in_shares_of_the_frame_and_back():
    boxes, sizes = torch.tensor([[10.0, 20, 30, 40], [0, 0, 320, 240]]), torch.tensor([[320.0, 240], [320, 240]])
    shares = in_shares(boxes, sizes)
    torch.testing.assert_close(shares[0], torch.tensor([25 / 320, 40 / 240, 30 / 320, 40 / 240]))
    torch.testing.assert_close(in_pixels(shares, sizes), boxes)
    assert (in_pixels(torch.tensor([[0.5, 0.5, -1, 0]]), sizes[:1])[0, 2:] == 1).all()


# The tracker


@pytest.fixture(scope="module")
def parts():
    generator = torch.Generator().manual_seed(0)
    squeezenet = SqueezeNet("1.1", 5, 0.125).initialise(generator).eval()
    return AllConv(0.25).initialise(generator).eval(), squeezenet, Memory(128, 16).initialise(generator)


class Said(torch.nn.Module):
    """A memory that says one box, and keeps what it read."""

    vector = "mean-max"

    def __init__(self, box):
        super().__init__()
        self.box, self.read = torch.tensor(box), []
        self.regressor = SequenceRegressor(128 + 4, 16)

    def forward(self, windows):
        self.read.append(windows)
        return self.box.expand(len(windows), 4)


def run(parts, memory=None, lanes: int = 1, count: int = 3, score: float | None = None, **settings):
    """The states and outputs of a tracker on a rendered video."""
    net, squeezenet, own = parts
    tracker = SiaMemoryTracker(net, squeezenet, memory or own, SiaMemoryConfig(**settings))
    if score is not None:
        peak = torch.zeros(17, 17)
        peak[5, 12] = 1  # off the middle: the Siamese box moves
        tracker.respond = lambda template, x: SiamFCTracker.respond(tracker, template, x) * 0 + peak + score
    sequence = load_dataset("rendered")[0]
    boxes = torch.tensor(sequence.boxes[:1], dtype=torch.float32).expand(lanes, 4)
    frames = [Frames([to_tensor(sequence.frames[t])], [0] * lanes, [("x", t)]) for t in range(count)]
    with torch.inference_mode():
        states, outputs = [tracker.init(frames[0], boxes)], []
        for frame in frames[1:]:
            state, output = tracker.track(states[-1], frame)
            states.append(state)
            outputs.append(output)
    return tracker, states, outputs


def test_the_memory_s_box_is_the_answer_and_the_next_search_s_place(parts):
    box = [0.5, 0.5, 0.2, 0.25]
    _, states, outputs = run(parts, Said(box))
    _, alone, _ = run(parts, mode="siam_only")
    wanted = torch.tensor([[96.0, 60, 48, 40]])  # of 240 x 160
    torch.testing.assert_close(outputs[0].boxes, wanted)
    torch.testing.assert_close(states[1].centre, torch.tensor([[120.0, 80]]))
    assert torch.equal(states[1].size, alone[1].size)  # its scale is the Siamese branch's own
    assert torch.equal(states[1].side, alone[1].side)
    _, states, outputs = run(parts, Said(box), steers="box")
    torch.testing.assert_close(outputs[0].boxes, wanted)
    torch.testing.assert_close(states[1].size, torch.tensor([[48.0, 40]]))
    context = (48 + 44) * (40 + 44)
    assert float(states[1].side) == pytest.approx(context**0.5 * 255 / 127, rel=1e-5)


def test_without_feedback_the_search_is_siamfc_s(parts):
    _, alone, plain = run(parts, mode="siam_only")
    _, states, outputs = run(parts, Said([0.5, 0.5, 0.2, 0.25]), mode="lstm_open_loop")
    for a, b in zip(alone, states, strict=True):
        assert torch.equal(a.centre, b.centre)
        assert torch.equal(a.side, b.side)
    assert not torch.equal(plain[0].boxes, outputs[0].boxes)
    siamfc = SiamFCTracker(parts[0])
    sequence = load_dataset("rendered")[0]
    frames = [Frames([to_tensor(sequence.frames[t])], [0], [("x", t)]) for t in range(2)]
    with torch.inference_mode():
        state = siamfc.init(frames[0], torch.tensor(sequence.boxes[:1], dtype=torch.float32))
        assert torch.equal(siamfc.track(state, frames[1])[1].boxes, plain[0].boxes)


@pytest.mark.parametrize(("score", "believed"), [(4.0, True), (-4.0, False)])
def test_a_low_peak_is_not_believed(parts, score, believed):
    """Below tau after the sigmoid the memory reads its own last box; 0.2 lies between sigmoid(-4) and sigmoid(4)."""
    memory = Said([0.1, 0.2, 0.3, 0.4])
    memory = run(parts, memory, score=score)[0].memory
    own = torch.tensor([[0.1, 0.2, 0.3, 0.4]])
    assert torch.equal(memory.read[1][:, -1, -4:], own) != believed


def test_windows_begin_with_the_first_frame_and_move_on(parts):
    tracker, states, _ = run(parts, Said([0.5, 0.5, 0.2, 0.25]), count=4, length=3)
    memory = tracker.memory
    first = states[0].windows
    assert first.shape == (1, 3, 128 + 4)
    assert torch.equal(first[:, 0], first[:, 2])
    assert torch.equal(memory.read[1][:, :2], memory.read[0][:, 1:])
    assert torch.equal(states[2].windows, memory.read[1])


def test_a_frame_s_vector_is_made_once_for_all_lanes(parts, monkeypatch):
    tracker, *_ = run(parts, lanes=1, count=1)
    calls = []
    vector = tracker.squeezenet.vector
    monkeypatch.setattr(SqueezeNet, "vector", lambda net, *given: calls.append(1) or vector(*given))
    run(parts, lanes=4, count=3)
    assert len(calls) == 3


def test_lanes_keep_to_themselves(parts):
    _, states, outputs = run(parts, lanes=3, count=4)
    assert states[0].take([1]).windows.shape[0] == 1
    torch.testing.assert_close(outputs[-1].boxes, outputs[-1].boxes[:1].expand(3, 4), atol=1e-3, rtol=0)


class Film:
    """Two targets, each in frames of its own size."""

    sizes = ((240, 160), (320, 240))

    def __init__(self):
        self.films = [rendered("test", k, 1, size)[0] for k, size in enumerate(self.sizes)]

    def frames(self, t: int, lanes=(0, 1)) -> Frames:
        images = [to_tensor(self.films[k].frames[t]) for k in lanes]
        return Frames(images, list(range(len(lanes))), [(str(k), t) for k in lanes])

    def boxes(self, lanes=(0, 1)) -> torch.Tensor:
        return torch.tensor(np.stack([self.films[k].boxes[0] for k in lanes]), dtype=torch.float32)


@pytest.mark.parametrize("settings", [{}, {"steers": "box"}, {"stateful": True}, {"mode": "lstm_open_loop"}])
def test_a_lost_lane_leaves_the_other_alone(parts, settings):
    """Two targets in frames of two sizes, one of them lost: each lane is what it is alone."""
    net, squeezenet, memory = parts
    film, alone, together = Film(), {}, None
    scores = {0: 4.0, 1: -4.0}  # of the second lane the peak is low

    def following(lanes):
        tracker = SiaMemoryTracker(net, squeezenet, memory, SiaMemoryConfig(**settings))
        own = tracker.respond
        offset = torch.tensor([scores[k] for k in lanes])[:, None, None, None]
        tracker.respond = lambda template, x: 0.01 * own(template, x) + offset
        state = tracker.init(film.frames(0, lanes), film.boxes(lanes))
        for t in (1, 2, 3):
            state, output = tracker.track(state, film.frames(t, lanes))
        return state, output

    with torch.inference_mode():
        together, output = following((0, 1))
        for k in (0, 1):
            alone, single = following((k,))
            torch.testing.assert_close(output.boxes[k : k + 1], single.boxes, atol=1e-3, rtol=0)
            for name in ("windows", "carried", "box", "side"):
                torch.testing.assert_close(
                    getattr(together.take([k]), name), getattr(alone, name), atol=1e-3, rtol=1e-4
                )
    measured = together.windows[:, -1, -4:]
    assert ((measured - together.box).abs().amax(1) > 1e-4).tolist() == [True, True]


@pytest.mark.parametrize(("lost", "believed"), [(0.2, True), (0.8, False)])
def test_the_threshold_is_of_the_sigmoid(parts, lost, believed):
    """A peak of 0.5: sigmoid 0.62. Without the sigmoid it would be below 0.8 and above 0.2 as well, but 0.3 is not."""
    memory = Said([0.1, 0.2, 0.3, 0.4])
    memory = run(parts, memory, score=-0.5, lost=lost)[0].memory  # the peak itself is 1 - 0.5
    own = torch.tensor([[0.1, 0.2, 0.3, 0.4]])
    assert torch.equal(memory.read[1][:, -1, -4:], own) != believed
    memory = Said([0.1, 0.2, 0.3, 0.4])
    memory = run(parts, memory, score=-1.3, lost=0.2)[0].memory  # peak -0.3: sigmoid 0.43, believed
    assert not torch.equal(memory.read[1][:, -1, -4:], own)


def test_a_stateful_memory_reads_the_first_frame(parts):
    _, states, _ = run(parts, count=1, stateful=True)
    assert states[0].carried.abs().max() > 0


def test_the_tracker_reads_the_vector_that_its_memory_was_made_for(parts):
    net, squeezenet, _ = parts
    memory = Memory(128, 16, vector="halves").initialise(torch.Generator().manual_seed(0))
    _, states, _ = run((net, squeezenet, memory), count=1)
    image = to_tensor(load_dataset("rendered")[0].frames[0])
    with torch.inference_mode():
        wanted = folded(squeezenet).vector(whole_frame(image), "halves")
    torch.testing.assert_close(states[0].windows[:, 0, :128], wanted)


def test_an_answer_stays_in_its_frame():
    shares, sizes = torch.tensor([[3.0, -1, 9, 0.5]]), torch.tensor([[240.0, 160]])
    assert in_pixels(shares, sizes).tolist() == [[240 - 120, 0 - 40, 240, 80]]


def test_a_tracker_keeps_a_memory_of_its_own(parts):
    tracker, *_ = run(parts, count=1)
    assert tracker.memory is not parts[2]
    assert not any(p.requires_grad for p in tracker.memory.parameters())
    assert all(p.requires_grad for p in parts[2].parameters())


@pytest.mark.parametrize(
    ("said", "make"),
    [
        ("steers is one of centre, box, not 'size'", lambda: SiaMemoryConfig(steers="size")),
        ("length is 1 or more and lost from 0 to 1, not 0 and 0.2", lambda: SiaMemoryConfig(length=0)),
        ("length is 1 or more and lost from 0 to 1, not 6 and nan", lambda: SiaMemoryConfig(lost=float("nan"))),
        ("mode is one of memory, lstm_open_loop, siam_only, not 'lstm'", lambda: SiaMemoryConfig(mode="lstm")),
        ("readout is one of linear, slice, change, not 'last'", lambda: Memory(8, 4, "last")),
        ("vector is one of mean-max, halves, mean, not 'max'", lambda: Memory(8, 4, vector="max")),
        ("regularisation is one of l2, feature, none, not 'l1'", lambda: memory_loss(Memory(8, 4), {}, "l1")),
    ],
)
def test_an_unknown_reading_is_refused(said, make):
    with pytest.raises(ValueError, match=said):
        make()


def test_a_changing_memory_answers_by_how_much_the_last_box_moves():
    net = Memory(12, 9, "change").initialise(torch.Generator().manual_seed(0))
    net.regressor.readout.weight.data.zero_()
    net.regressor.readout.bias.data.copy_(torch.tensor([0.1, 0, 0, -0.2]))
    windows = windows_of(3)["windows"]
    torch.testing.assert_close(net(windows), windows[:, -1, -4:] + torch.tensor([0.1, 0, 0, -0.2]))


def test_of_512_means_a_layer_of_its_own_makes_1024():
    """M3: the LSTM reads 1028 numbers whichever vector it is given."""
    assert Memory(512, 16, vector="mean").regressor.lstm.input_size == 1028
    assert Memory(1024, 16, vector="halves").regressor.lstm.input_size == 1028
    assert Memory(512, 16, vector="mean")(torch.zeros(2, 6, 516)).shape == (2, 4)


def test_a_carried_state_is_one_long_window():
    net = Memory(12, 9).initialise(torch.Generator().manual_seed(0)).eval()
    windows, carried = windows_of(3)["windows"], torch.zeros(3, 2, 9)
    for t in range(6):
        box, carried = net.step(windows[:, t], carried)
    torch.testing.assert_close(box, net(windows))


def test_a_stateful_memory_remembers_more_than_a_window(parts):
    """With windows of one frame, two frames that read alike are answered alike; with a carried state they are not."""
    _, states, _ = run(parts, count=4, stateful=True, length=1)
    assert not torch.equal(states[1].carried, states[2].carried)
    _, windows, _ = run(parts, count=4, length=1)
    assert torch.equal(windows[1].carried, torch.zeros(1, 2, 16))
    assert not torch.equal(windows[3].box, states[3].box)


# Windows of cached vectors


def track(count: int = 20, since: int = 0, features: int = 3, speed: float = 0.01) -> Track:
    """A target that moves to the right; what was measured lies a hundredth below it."""
    truth = np.tile([0.2, 0.4, 0.1, 0.2], (count, 1))
    truth[:, 0] += speed * np.arange(count)
    starts = np.where(np.arange(count) < since, -1, since)
    return Track(np.arange(count * features).reshape(count, features), truth + np.array([0, 0.01, 0, 0]), truth, starts)


def test_windows_end_at_their_box_and_begin_with_the_first_frame_repeated():
    one = track(since=4)
    sampler = WindowSampler([one], 6, drop=0.0, moved=False)
    assert sorted(sampler.frames[:, 1]) == list(range(4, 20))
    for index in range(50):
        sample = sampler[index]
        t = int(np.flatnonzero(np.isclose(one.truth[:, 0], sample["boxes"][0]))[0])
        rows = np.maximum(np.arange(t - 5, t + 1), 4)
        np.testing.assert_allclose(sample["windows"][:, :3], one.vectors[rows])
        np.testing.assert_allclose(sample["windows"][:, 3:], one.measured[rows], rtol=1e-6)


def test_a_window_that_is_moved_keeps_its_motion():
    sampler = WindowSampler([track()], 6, drop=0.0, moved=True)
    steps = []
    for index in range(60):
        windows, box = (sampler[index][k] for k in ("windows", "boxes"))
        np.testing.assert_allclose(windows[-1, 4:5] - 0.01, box[1:2], atol=1e-6)
        np.testing.assert_allclose(windows[:, 5:], np.tile([0.1, 0.2], (6, 1)), atol=1e-6)
        assert 0 <= box[0] <= 1
        steps.append(windows[-1, 3] - windows[-2, 3])
    assert {round(float(s), 3) for s in steps} == {0.01, -0.01, 0.0}  # 0.0: the first frame, repeated


def test_a_dropped_measurement_is_the_one_before_it():
    one = track()
    sampler = WindowSampler([one], 6, drop=1.0, moved=False, seed=3)
    windows = next(w for w in (sampler[k] for k in range(50)) if w["boxes"][0] > 0.3)
    assert (windows["windows"][:, 3] == windows["windows"][0, 3]).all()


def test_noise_is_of_the_frame_and_of_the_sides():
    one = track()
    sampler = WindowSampler([one], 6, drop=0.0, shift=0.02, scale=0.2, moved=False)
    read = np.concatenate([sampler[k]["windows"][:, 3:] for k in range(200)])
    assert 0.015 < np.abs(read[:, 1] - 0.41).max() <= 0.02 + 1e-6
    assert 0.15 < np.abs(read[:, 3] / 0.2 - 1).max() <= 0.2 + 1e-6


def test_windows_depend_on_seed_and_index_alone():
    a, b, other = (WindowSampler([track()], seed=seed) for seed in (1, 1, 2))
    assert all((a[k]["windows"] == b[k]["windows"]).all() for k in range(5))
    assert a.digest() == b.digest() != other.digest()
    assert a.digest() != WindowSampler([track(speed=0.02)], seed=1).digest()
    with pytest.raises(ValueError, match="no frame of 1 tracks was measured"):
        WindowSampler([track(since=30)])


# Files


@pytest.fixture
def whole_file(parts, tmp_path):
    return saved(parts, tmp_path / "all.safetensors", {"seen": []})


def saved(parts, path, origin, without=None):
    save_weights(SiaMemory(*parts), path, origin, torch.float32, without)
    return path


def test_a_file_of_all_parts_comes_back(parts, whole_file):
    net = load_siamemory(whole_file)
    for ours, theirs in zip((net.siamese, net.squeezenet, net.memory), parts, strict=True):
        assert weights_digest(ours) == weights_digest(theirs)
    tracker = load_tracker("siamemory", whole_file, mode="siam_only")
    assert (tracker.config.mode, tracker.name) == ("siam_only", "siamemory")


@pytest.mark.parametrize("conv6", CONV6)
@pytest.mark.parametrize("depthwise", [False, True])
def test_a_branch_s_readings_are_those_of_its_shapes(conv6, depthwise):
    net = AllConv(0.25, conv6, depthwise).initialise(torch.Generator().manual_seed(0))
    assert weights_digest(allconv_of(net.state_dict(), "x")) == weights_digest(net)


@pytest.mark.parametrize(
    ("readout", "vector", "features"), [("slice", "halves", 12), ("change", "mean", 6), ("linear", "mean-max", 12)]
)
def test_a_memory_s_readings_come_with_it(readout, vector, features):
    net = Memory(features, 9, readout, vector).initialise(torch.Generator().manual_seed(0))
    back = memory_of(net.state_dict(), "x")
    assert (back.vector, weights_digest(back)) == (vector, weights_digest(net))
    windows = torch.rand(2, 6, features + 4)
    torch.testing.assert_close(back(windows), net(windows))


def test_a_file_may_name_its_parts(parts, whole_file, tmp_path):
    """As the shipped one does: it holds the memory alone."""
    for part, net in (("siamese", parts[0]), ("squeezenet", parts[1])):
        save_weights(net, tmp_path / f"{part}.safetensors", {}, torch.float32)
    origin = {part: str(tmp_path / f"{part}.safetensors") for part in ("siamese", "squeezenet")}
    origin |= {"siamese_sha": weights_digest(parts[0]), "squeezenet_sha": weights_digest(parts[1])}
    path = saved(parts, tmp_path / "m.safetensors", origin, ("siamese.", "squeezenet."))
    assert {name.split(".")[0] for name in read_tensors(path)} == {"memory"}
    assert weights_digest(load_siamemory(path)) == weights_digest(load_siamemory(whole_file))
    saved(parts, path, origin | {"squeezenet_sha": "0"}, ("siamese.", "squeezenet."))
    with pytest.raises(ValueError, match=r"trained with another squeezenet than .* is now; train it anew"):
        load_siamemory(path)
    saved(parts, path, {}, ("siamese.", "squeezenet."))
    with pytest.raises(ValueError, match=r"nothing beside it tells its siamese; copy m\.json with it"):
        load_siamemory(path)


def test_other_files_are_refused(parts, tmp_path):
    save_weights(parts[0], tmp_path / "branch.safetensors", {})
    with pytest.raises(ValueError, match="not weights of SiaMemory"):
        load_siamemory(tmp_path / "branch.safetensors")
    with pytest.raises(ValueError, match=r"not weights of AllConv: no 'backbone\.conv_p1\.0\.weight'"):
        allconv_of(SiamFC(0.25).state_dict(), "x")
    with pytest.raises(ValueError, match="not weights of Memory"):
        memory_of({"mean": torch.zeros(3)}, "x")


def test_the_shipped_siamese_branch_loads_and_says_what_it_saw():
    path = weights_file("siamemory-siamese")
    net = AllConv()
    load_into(net, read_tensors(path), str(path))
    assert net.bias < -1  # learned: most of a search image is not the target
    seen, begun = (set(provenance(weights_file(name))["seen"]) for name in ("siamemory-siamese", "siamfc"))
    assert {"Basketball", "train-0399"} <= seen
    assert begun <= seen  # what the layers that it took over have seen


def test_the_shipped_memory_stands_on_the_shipped_parts():
    net = load_siamemory("siamemory")
    assert (net.siamese.width, net.squeezenet.version, net.memory.regressor.lstm.hidden_size) == (1, "1.1", 256)
    seen = set(provenance(weights_file("siamemory"))["seen"])
    for part in ("siamemory-siamese", "siamemory-squeezenet"):
        assert set(provenance(weights_file(part))["seen"]) <= seen
    assert not any(name.startswith(("test-", "val-")) for name in seen)
    assert set(load_tracker("siamemory").seen) == seen

"""GOTURN: published counts and sizes, its sampler's geometry, and a tracker that does what its network says."""

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from trackerlib.baselines.goturn import (
    CAFFE,
    GOTURN,
    INPUT,
    GOTURNConfig,
    GOTURNTracker,
    ShiftedPairs,
    corner_loss,
    cut_region,
    from_caffe,
    goturn_groups,
    load_goturn,
)
from trackerlib.data import Dataset, load_dataset
from trackerlib.data.crops import SIZE, CropStore, cut_crops
from trackerlib.data.rendered import rendered
from trackerlib.data.samplers import Augmentation
from trackerlib.data.sequence import Sequence
from trackerlib.images import to_tensor
from trackerlib.nn.checkpoints import save_weights, weights_digest
from trackerlib.tracker import Frames, track_sequence
from trackerlib.trackers import load_tracker

CALM = Augmentation(stretch=0, shift=0, lighting=0)


def count(module) -> int:
    return sum(p.numel() for p in module.parameters())


def small(seed: int = 0, shared: bool = True) -> GOTURN:
    return GOTURN(1 / 16, shared).initialise(torch.Generator().manual_seed(seed)).eval()


@pytest.mark.parametrize(("shared", "parameters"), [(True, 111_414_660), (False, 113_748_740)])
def test_published_parameter_counts(shared, parameters):
    with torch.device("meta"):
        net = GOTURN(shared=shared)
    assert count(net) == parameters
    assert count(net.target) == 2_334_080
    assert net.head.fc6[0].in_features == 18_432


def test_sizes_of_caffenet():
    net, x, sizes = small(), torch.rand(1, 3, INPUT, INPUT) * 255, []
    with torch.inference_mode():
        for layer in net.target:
            x = layer(x)
            sizes.append(x.shape[-1])
    assert sizes == [27, 13, 13, 13, 6]


def test_norms_stand_behind_the_pools_of_the_first_two_layers():
    kinds = [[type(part).__name__ for part in layer] for layer in small().target]
    assert kinds[:2] == [["Conv2d", "ReLU", "MaxPool2d", "_LocalNorm"]] * 2
    assert kinds[2:] == [["Conv2d", "ReLU"]] * 2 + [["Conv2d", "ReLU", "MaxPool2d"]]
    norm = small().target.conv1[3]
    assert (norm.size, norm.alpha, norm.beta, norm.k) == (5, 1e-4, 0.75, 1.0)


def test_before_training_it_says_that_nothing_moves():
    net = small()
    crops = torch.rand(2, 2, 3, INPUT, INPUT) * 255
    net.head.fc8[0].weight.data.zero_()
    with torch.inference_mode():
        said = net(*crops)
    torch.testing.assert_close(said, torch.tensor([[2.5, 2.5, 7.5, 7.5]]).expand(2, 4))


def test_two_streams_look_at_a_crop_each():
    net = small(shared=False)
    x = torch.rand(1, 3, INPUT, INPUT) * 255
    assert not torch.equal(net.features(x, True), net.features(x, False))
    one = small()
    assert torch.equal(one.features(x, True), one.features(x, False))


def test_images_are_less_caffe_s_mean_of_red_green_and_blue():
    net, seen = small(), {}
    net.target.conv1[0].register_forward_pre_hook(lambda _, given: seen.update(x=given[0]))
    net.features(torch.tensor([123.0, 117, 104])[None, :, None, None].expand(1, 3, INPUT, INPUT) + 1, False)
    torch.testing.assert_close(seen["x"], torch.ones(1, 3, INPUT, INPUT))


def test_the_target_comes_first_and_passes_its_own_stream():
    net, seen = small(shared=False), {}
    target, search = torch.rand(2, 1, 3, INPUT, INPUT) * 255
    net.head.fc6[0].register_forward_pre_hook(lambda _, given: seen.update(x=given[0]))
    net(target, search)
    wanted = [net.target(target - net.mean).flatten(1), net.search(search - net.mean).flatten(1)]
    torch.testing.assert_close(seen["x"], torch.cat(wanted, 1))


def test_the_loss_is_the_sum_of_four_distances():
    class Says(nn.Module):
        def forward(self, previous, current):
            return torch.tensor([[1.0, 2, 3, 4], [0, 0, 0, 0]])

    batch = {name: torch.zeros(2, 8, 8, 3, dtype=torch.uint8) for name in ("previous", "current")}
    loss = corner_loss(Says(), batch | {"corners": torch.tensor([[1.0, 1, 1, 1], [0, 0, 0, 2]])})
    assert float(loss) == ((0 + 1 + 2 + 3) + 2) / 2


def test_biases_learn_twice_as_fast_and_convolutions_as_told():
    net = small(shared=False)
    of = {id(p): group for group in goturn_groups(net, 0.5) for p in group["params"]}
    assert len(of) == len(list(net.parameters()))
    for name, p in net.named_parameters():
        assert of[id(p)]["rate"] == (1 if name.startswith("head") else 0.5) * (2 if p.ndim == 1 else 1)
        assert ("weight_decay" in of[id(p)]) == (p.ndim == 1)


# Files


def test_caffe_s_blobs_are_ours_one_to_one():
    own = small(1, shared=False).state_dict()
    back = {ours: theirs for theirs, ours in CAFFE.items()}
    blobs = {}
    for name, tensor in own.items():
        layer, kind = name.rsplit(".0.", 1)
        blobs[f"{back[layer]}.{kind}"] = tensor.flip(1) if name.endswith("conv1.0.weight") else tensor  # BGR
    assert len(blobs) == len(own) == 28
    assert {name.split(".")[0] for name in blobs} == set(CAFFE)
    converted = from_caffe(blobs)
    assert converted.keys() == own.keys()
    assert all(torch.equal(converted[name], own[name]) for name in own)
    with pytest.raises(ValueError, match=r"GOTURN has no blob 'fc9\.weight'; it has fc6-new"):
        from_caffe({"fc9.weight": torch.zeros(1)})


def test_the_release_s_own_names_load(tmp_path):
    """In tracker.prototxt `target` enters conv1 and `image` conv1_p; the names stand here, not in our map."""
    own, blobs = small(3, shared=False).state_dict(), {}
    heads = {"fc6-new": "fc6", "fc7-new": "fc7", "fc7-newb": "fc7b", "fc8-shapes": "fc8"}
    streams = {f"conv{i}{p}": f"{of}.conv{i}" for i in range(1, 6) for p, of in (("", "target"), ("_p", "search"))}
    for theirs, ours in (streams | {name: f"head.{of}" for name, of in heads.items()}).items():
        for kind in ("weight", "bias"):
            blob = own[f"{ours}.0.{kind}"]
            first = kind == "weight" and ours.endswith("conv1")
            blobs[f"{theirs}.{kind}"] = blob[:, [2, 1, 0]].contiguous() if first else blob
    safetensors.torch.save_file(blobs, tmp_path / "caffe.safetensors")
    back = load_goturn(tmp_path / "caffe.safetensors").state_dict()
    assert back.keys() == own.keys()
    assert all(torch.equal(back[name], own[name]) for name in own)


@pytest.mark.parametrize("shared", [True, False])
def test_a_file_tells_its_width_and_streams(tmp_path, shared):
    net = small(2, shared)
    save_weights(net, tmp_path / "net.safetensors", {}, torch.float32)
    back = load_goturn(tmp_path / "net.safetensors")
    assert (back.width, back.search is None) == (1 / 16, shared)
    assert weights_digest(back) == weights_digest(net)


def test_other_files_are_refused(tmp_path):
    save_weights(nn.Linear(2, 2), tmp_path / "line.safetensors", {})
    with pytest.raises(ValueError, match=r"not weights of GOTURN: no target\.conv1"):
        load_goturn(tmp_path / "line.safetensors")
    with pytest.raises(ValueError, match="fill is 'mean' or 'black', not 'blue'"):
        GOTURNConfig(fill="blue")


# Pairs


def square_at(t: int) -> tuple[np.ndarray, list[float]]:
    image = np.full((240, 320, 3), 60, np.uint8)
    box = [100 + 2 * t, 90, 48, 32]
    image[90:122, box[0] : box[0] + 48] = 200
    image[90:122, box[0] + 6 : box[0] + 18] = 150  # a stripe in its left half
    return image, box


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> CropStore:
    class Film(list):
        def digest(self):
            return "film"

    frames, boxes = zip(*map(square_at, range(10)), strict=True)
    sequence = Sequence("film", Film(frames), np.array(boxes, float))
    return cut_crops(Dataset("film", [sequence]), tmp_path_factory.mktemp("crops"))


def lit(image: np.ndarray) -> np.ndarray:
    """Corners in edge coordinates of what is brighter than the middle of both tones."""
    ys, xs = np.nonzero(image[..., 0] > 130)
    return np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], float)


def test_corners_are_where_the_target_is(store):
    sampler, seen = ShiftedPairs([store], CALM, gap=1, seed=1), 0
    for index in range(60):
        pair = sampler[index]
        wanted = pair["corners"] * INPUT / 10
        if wanted.min() > 1 and wanted.max() < INPUT - 1:
            assert np.abs(lit(pair["current"]) - wanted).max() < 1.5
            seen += 1
        np.testing.assert_allclose(lit(pair["previous"]) / INPUT, [0.25, 0.25, 0.75, 0.75], atol=0.01)
    assert seen > 30


def test_steps_are_laplace_s(store):
    """b of a fifth of the target and of a fifteenth of its size; bounded at a size and at 0.4."""
    sampler, rng = ShiftedPairs([store], CALM), np.random.default_rng(0)
    places, sizes = map(
        np.array, zip(*(sampler.moved(np.zeros(2), np.array([10.0, 20]), rng) for _ in range(4000)), strict=True)
    )
    shift, scale = np.abs(places / [10, 20]), np.abs(sizes / [10, 20] - 1)
    assert shift.max() <= 1
    assert scale.max() <= 0.4 + 1e-12
    assert shift.mean(0) == pytest.approx([0.2, 0.2], abs=0.015)
    assert scale.mean(0) == pytest.approx([1 / 15] * 2, abs=0.005)


def test_one_pair_in_eleven_is_not_moved(store):
    sampler = ShiftedPairs([store], CALM, gap=1, seed=3)
    still = [np.allclose(sampler[k]["corners"], [2.5, 2.5, 7.5, 7.5]) for k in range(400)]
    assert 0.05 < np.mean(still) < 0.14


def test_pairs_depend_on_seed_and_index_alone(store):
    a, b = ShiftedPairs([store], seed=3), ShiftedPairs([store], seed=3)
    for key in ("previous", "current", "corners"):
        np.testing.assert_array_equal(a[7][key], b[7][key])
    assert (a[7]["corners"] != ShiftedPairs([store], seed=4)[7]["corners"]).any()
    assert a.digest() == b.digest() != ShiftedPairs([store], seed=4).digest()


def test_the_previous_crop_is_of_the_previous_size(tmp_path):
    """A target that grows: in both crops it fills the half, though in stored crops its sides are the same."""

    class Film(list):
        def digest(self):
            return "growing"

    frames, boxes = [], []
    for t in range(6):
        image = np.full((240, 320, 3), 60, np.uint8)
        w, h = 30 + 10 * t, 60
        image[90 : 90 + h, 100 : 100 + w] = 200
        frames.append(image)
        boxes.append([100, 90, w, h])
    sequence = Sequence("growing", Film(frames), np.array(boxes, float))
    sampler = ShiftedPairs([cut_crops(Dataset("growing", [sequence]), tmp_path)], CALM, gap=5, seed=1)
    for index in range(20):
        np.testing.assert_allclose(lit(sampler[index]["previous"]) / INPUT, [0.25, 0.25, 0.75, 0.75], atol=0.012)


def test_a_mirrored_pair_mirrors_both(store):
    """The target's stripe is left or, in about half of the pairs, right: in both crops, and corners stay true."""
    sampler = ShiftedPairs([store], Augmentation(stretch=0, shift=0, lighting=0, flip=True), gap=1, seed=5)
    sides = []
    for index in range(40):
        pair = sampler[index]
        wanted = pair["corners"] * INPUT / 10
        if wanted.min() > 1 and wanted.max() < INPUT - 1:
            assert np.abs(lit(pair["current"]) - wanted).max() < 1.5
            sides.append((stripe(pair["previous"]), stripe(pair["current"])))
    assert all(before == now for before, now in sides)
    assert 0.25 < np.mean([before == "right" for before, _ in sides]) < 0.75


def stripe(image: np.ndarray) -> str:
    x1, y1, x2, y2 = lit(image).astype(int)
    left, right = np.array_split(image[y1 + 3 : y2 - 3, x1 + 3 : x2 - 3].mean((0, 2)), 2)
    return "left" if left.mean() < right.mean() else "right"


def test_a_region_of_any_aspect_fills_the_crop():
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    image[100:150, 60:160] = 255
    cut = cut_region(image, np.array([110.0, 125]), np.array([100.0, 50]))
    assert cut[3:-3, 3:-3].min() == 255
    assert lit(cut_region(image, np.array([110.0, 125]), np.array([200.0, 100]))) == pytest.approx(
        [INPUT / 4, INPUT / 4, 3 * INPUT / 4, 3 * INPUT / 4], abs=1
    )


def test_it_learns_where_a_square_is(store):
    """Chance is to say the middle: that is the first loss."""
    sampler, net = ShiftedPairs([store], CALM, gap=1, seed=0), small().train()
    batch = torch.utils.data.default_collate([sampler[k] for k in range(16)])
    for layer in net.head:
        if len(layer) == 3:
            layer[2].p = 0.0
    optimiser, losses = torch.optim.Adam(net.parameters(), 1e-3), []
    for _ in range(60):
        optimiser.zero_grad()
        loss = corner_loss(net, batch)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


# The tracker


class Says(GOTURN):
    """A network that answers the same corners to all."""

    def __init__(self, corners):
        super().__init__(1 / 16)
        self.said = torch.tensor(corners)

    def corners(self, target, search):
        return self.said.expand(len(target), 4)


def steps(net, boxes, images, lane=None, **config):
    """States and outputs over some frames."""
    lane = lane or [0] * len(boxes)
    tracker = GOTURNTracker(net, GOTURNConfig(**config))
    tracker.keep_maps = True
    frames = [Frames([to_tensor(image)], lane, [("x", t)]) for t, image in enumerate(images)]
    with torch.inference_mode():
        states, outputs = [tracker.init(frames[0], torch.tensor(boxes))], []
        for frame in frames[1:]:
            state, output = tracker.track(states[-1], frame)
            states.append(state)
            outputs.append(output)
    return states, outputs


BOXES = [[40.0, 50, 30, 20], [100.0, 60, 16, 48]]


def images(count: int = 3) -> list[np.ndarray]:
    sequence = load_dataset("rendered")[0]
    return [sequence.frames[t] for t in range(count)]


def test_the_middle_half_is_where_the_target_was():
    _, outputs = steps(Says([2.5, 2.5, 7.5, 7.5]), BOXES, images())
    torch.testing.assert_close(outputs[-1].boxes, torch.tensor(BOXES))
    assert (outputs[-1].scores == 1).all()


def test_corners_become_a_box_in_the_frame():
    _, outputs = steps(Says([3.0, 2.5, 8.0, 6.0]), BOXES[:1], images())
    region = [25.0, 40, 60, 40]  # twice 30 x 20 about (55, 60)
    torch.testing.assert_close(outputs[0].regions, torch.tensor([region]))
    torch.testing.assert_close(outputs[0].boxes, torch.tensor([[25 + 18.0, 40 + 10, 30, 14]]))
    second = torch.tensor([[58 - 30.0, 57 - 14, 60, 28]])  # about the answer, (58, 57)
    torch.testing.assert_close(outputs[1].regions, second)


def test_an_answer_of_no_size_or_out_of_the_frame_is_put_right():
    _, outputs = steps(Says([9.0, 9, 1, 1]), BOXES[:1], images())
    assert (outputs[0].boxes[:, 2:] == 1).all()
    states, _ = steps(Says([-90.0, -90, -85, -85]), BOXES[:1], images())
    assert torch.isfinite(states[-1].template).all()
    centre = states[-1].box[:, :2] + states[-1].box[:, 2:] / 2
    assert (centre == 0).all()
    _, outputs = steps(Says([-500.0, -500, 500, 500]), BOXES[:1], images())
    assert outputs[-1].boxes[0, 2:].tolist() == [240, 160]


def test_a_shifted_video_shifts_the_boxes():
    film = [np.pad(image, ((40, 40), (40, 40), (0, 0)), constant_values=0) for image in images()]
    moved = [np.roll(image, (7, 12), (0, 1)) for image in film]
    net = small(4)
    box = [100.0, 100, 40, 30]
    _, here = steps(net, [box], film, fill="black")
    _, there = steps(net, [[112.0, 107, 40, 30]], moved, fill="black")
    shift = there[-1].boxes - here[-1].boxes
    torch.testing.assert_close(shift, torch.tensor([[12.0, 7, 0, 0]]), atol=1e-2, rtol=0)


def test_the_crop_of_the_last_frame_is_what_is_compared():
    """Of two lanes that differ in their first box alone, the templates differ; each follows its own answer."""
    states, _ = steps(small(), BOXES, images())
    assert not torch.equal(states[0].template[0], states[0].template[1])
    assert not torch.equal(states[0].template, states[1].template)
    alone, _ = steps(small(), BOXES[1:], images())
    torch.testing.assert_close(states[-1].take([1]).box, alone[-1].box, atol=1e-3, rtol=0)


def test_bfloat16_says_nearly_the_same():
    sequence = rendered("test", 0, 1, frames=5)[0]
    exact, half = (track_sequence(load_tracker("goturn", dtype=t), sequence) for t in ("float32", "bfloat16"))
    assert np.abs(exact - half).max() < 2
    assert (exact != half).any()


def test_two_lanes_in_two_videos_are_what_they_are_alone():
    """Frames of two sizes and colours, two streams; the template is cut at the answer, the fill is the lane's own."""
    films = [rendered("test", k, 1, size, 4)[0] for k, size in enumerate(((240, 160), (320, 240)))]
    net = small(7, shared=False)
    net.head.fc8[0].bias.data.copy_(torch.tensor([2.0, 1.5, 7.0, 7.5]))

    def following(lanes):
        tracker, outputs = GOTURNTracker(net), []
        for t in range(4):
            images = [to_tensor(films[k].frames[t]) for k in lanes]
            frames = Frames(images, list(range(len(lanes))), [(str(k), t) for k in lanes])
            if t == 0:
                first = torch.tensor(np.stack([films[k].boxes[0] for k in lanes]), dtype=torch.float32)
                state = tracker.init(frames, first)
            else:
                state, output = tracker.track(state, frames)
                outputs.append(output.boxes)
        again = tracker._look(frames, state.box, state.fill, tracker._target)
        torch.testing.assert_close(state.template, again)  # of the last answer, not of the box before it
        return state, outputs[-1], torch.stack(outputs)

    with torch.inference_mode():
        both, last, boxes = following((0, 1))
        for k in (0, 1):
            alone, _, single = following((k,))
            torch.testing.assert_close(boxes[:, k : k + 1], single, atol=1e-3, rtol=0)
            torch.testing.assert_close(both.fill[k : k + 1], alone.fill)
        kept = last.clone()
        both.put([0], both.take([1]))
    assert torch.equal(last, kept)  # what was given out is not the state's own


def test_outside_of_the_frame_is_its_mean_or_black():
    states = {fill: steps(small(), [[-10.0, -10, 40, 40]], images(1), fill=fill)[0][0] for fill in ("mean", "black")}
    assert (states["black"].fill == 0).all()
    assert states["mean"].fill.min() > 0
    assert not torch.equal(states["mean"].template, states["black"].template)


def test_the_shipped_network_loads_and_says_what_it_saw():
    tracker = load_tracker("goturn")
    assert count(tracker.net) == 1_747_956
    assert {"Basketball", "train-0399"} <= set(tracker.seen)
    assert not any(name.startswith(("test-", "val-")) for name in tracker.seen)

"""GSTP: counts, correlation, proposals, learning a pair; heat maps, rescoring, the tracker (SPEC 9.3, 002)."""

import math

import pytest
import torch

from trackerlib import boxes as B
from trackerlib.gstp import (
    GSTP,
    RULES,
    GSTPConfig,
    GSTPTracker,
    MotionModel,
    SiamRCNN,
    contrast_loss,
    gaussians,
    letterboxed,
    likeliest,
    load_gstp,
    load_siamrcnn,
    motion_loss,
    rescored,
    siamrcnn_loss,
)
from trackerlib.nn.checkpoints import save_weights
from trackerlib.nn.correlation import correlate_channels
from trackerlib.nn.roi import decode
from trackerlib.tracker import Frames
from trackerlib.trackers import load_tracker


def count(*nets):
    return sum(p.numel() for net in nets for p in net.parameters())


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_published_counts():
    net = SiamRCNN()
    parts = (net.backbone.layer4, net.fusion, (net.rpn_scores, net.rpn_deltas), (net.roi_scores, net.roi_deltas))
    counts = [count(*(p if isinstance(p, tuple) else (p,))) for p in parts]
    assert counts == [14_964_736, 2_099_200, 55_350, 12_294]
    assert count(net.backbone) - counts[0] == 8_543_296
    assert count(net) == 25_674_876
    fifteen = SiamRCNN(sizes=(32, 64, 128, 256, 512))
    assert count(fifteen.rpn_scores, fifteen.rpn_deltas) == 92_250
    with pytest.raises(ValueError, match="7 or 14"):
        SiamRCNN(pool=8)
    for bad in ({"sizes": ()}, {"ratios": (1, 0)}):
        with pytest.raises(ValueError, match="anchors want"):
            SiamRCNN(1 / 16, **bad)


def test_normed_correlations_have_no_mean_and_no_parameter_more():
    plain, normed = (SiamRCNN(1 / 16, normed=flag).initialise(seeded()) for flag in (False, True))
    assert count(plain) == count(normed)
    kept = []
    for net in (plain, normed):
        net.fusion.register_forward_hook(lambda _, given, out: kept.append(given[0]))
        net.fuse(torch.rand(4, 64, 7, 7, generator=seeded()), torch.rand(4, 64, 6, 8, generator=seeded(1)))
    assert kept[0].mean() > 0.1
    torch.testing.assert_close(kept[1].mean((0, 2, 3)), torch.zeros(64), atol=1e-4, rtol=0)


def test_the_contrast_wants_the_cells_of_the_target():
    """Two videos whose targets are of two colours: the loss is that of the cosines, by hand; one video's pairs are no
    negatives of each other, and learning makes it small."""
    net = SiamRCNN(1 / 16).initialise(seeded()).eval()
    x = torch.randint(0, 60, (2, 64, 96, 3), generator=seeded()).byte()
    x[0, 16:48, 32:64, 0], x[1, 16:48, 32:64, 2] = 255, 255
    box = torch.tensor([[32.0, 16, 32, 32]]).repeat(2, 1)
    batch = {"z": x, "x": x, "z_box": box, "x_box": box, "size": torch.tensor([[96.0, 48]] * 2)}
    batch["video"] = torch.tensor([0, 1])
    with torch.no_grad():
        images = x.permute(0, 3, 1, 2).float()
        held, cells = net.template(images, box).mean((2, 3)), net.backbone.trunk(images)
        alike = torch.cosine_similarity(held[:, None, :, None, None], cells[None], dim=2).div(0.1).exp()
        alike[:, :, 3] = 0  # below the picture
        inside = alike[[0, 1], [0, 1], 1:3, 2:4].sum((1, 2))
        torch.testing.assert_close(contrast_loss(net, batch), -(inside / alike.sum((1, 2, 3))).log().mean())
        inside_own = -(inside / torch.stack([alike[i, i].sum() for i in (0, 1)])).log().mean()
        torch.testing.assert_close(contrast_loss(net, batch | {"video": torch.tensor([5, 5])}), inside_own)
    optimiser = torch.optim.Adam(net.train().parameters(), 1e-3)
    losses = []
    for _ in range(30):
        loss = contrast_loss(net, batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_a_template_of_one_cell_shifts_the_map():
    maps = torch.randn(2, 3, 12, 15, generator=seeded())
    template = torch.zeros(2, 3, 7, 7)
    template[0, :, 3, 3] = 1
    template[1, 2, 1, 5] = 1  # two up, two to the right of the middle, in one channel
    found = correlate_channels(template, maps)
    torch.testing.assert_close(found[0], maps[0])
    torch.testing.assert_close(found[1, 2, 2:, :-2], maps[1, 2, :-2, 2:])
    assert found[1, :2].abs().max() == 0


@pytest.mark.parametrize("pool", [7, 14])
def test_shapes_from_frame_to_boxes(pool):
    net = SiamRCNN(1 / 16, pool=pool).initialise(seeded()).eval()
    frames = torch.rand(2, 3, 160, 240, generator=seeded()) * 255
    template = net.template(frames, torch.tensor([[40.0, 40, 60, 50], [100, 30, 80, 80]]))
    assert template.shape == (2, 64, 7, 7)
    fused = net.fuse(template, net.backbone.trunk(frames))
    at, logits, deltas = net.propose(fused)
    assert (at.shape, logits.shape, deltas.shape) == ((1350, 4), (2, 1350, 2), (2, 1350, 4))
    logits, deltas = net.refine(fused, at[:5].expand(2, 5, 4))
    assert (logits.shape, deltas.shape) == ((2, 5, 2), (2, 5, 4))


def test_lanes_do_not_look_at_one_another():
    net = SiamRCNN(1 / 16).initialise(seeded()).eval().double()
    frames = torch.rand(2, 3, 96, 128, generator=seeded()).double() * 255
    boxes = torch.tensor([[40.0, 40, 60, 50], [10, 30, 80, 60]]).double()

    def all_of(lanes):
        fused = net.fuse(net.template(frames[lanes], boxes[lanes]), net.backbone.trunk(frames[lanes]))
        return torch.cat([net.propose(fused)[1].flatten(1), net.refine(fused, boxes[lanes][:, None])[1].flatten(1)], 1)

    with torch.no_grad():
        torch.testing.assert_close(all_of([0, 1]), torch.cat([all_of([0]), all_of([1])]))


def test_the_likeliest_are_cut_at_the_image_and_do_not_overlap():
    boxes = torch.tensor([[[-10.0, 10, 30, 20], [1, 11, 20, 20], [90, 10, 30, 30], [130, 5, 20, 20], [50, 50, 9, 9]]])
    scores = torch.tensor([[0.8, 0.9, 0.7, 0.95, 0.1]])
    found, sure = likeliest(boxes, scores, torch.tensor([[100.0, 60]]), 0.5, 4, 3)
    torch.testing.assert_close(found[0, :2], torch.tensor([[1.0, 11, 20, 20], [90, 10, 10, 30]]))
    torch.testing.assert_close(sure, torch.tensor([[0.9, 0.7, 0]]))  # the one outside, the double, the fifth are gone


def test_it_learns_a_pair():
    """The target is found among two others, by both stages: recall 1."""
    torch.manual_seed(0)
    x = torch.full((1, 128, 192, 3), 90.0)
    truth = torch.tensor([[104.0, 40, 56, 64]])
    for (left, top, width, height), colour in (((104, 40, 56, 64), (220, 40, 40)), ((16, 24, 60, 60), (40, 60, 220))):
        x[0, top : top + height, left : left + width] = torch.tensor(colour).float()
    batch = {"z": x, "x": x, "z_box": truth, "x_box": truth, "size": torch.tensor([[192.0, 128]])}
    net = SiamRCNN(1 / 16, sizes=(32, 64)).initialise(seeded()).train()
    optimiser = torch.optim.Adam(net.parameters(), 2e-3)
    losses = []
    for _ in range(260):
        loss = siamrcnn_loss(net, batch, anchors_told=16, rois_told=32, proposals=30)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
    with torch.no_grad():
        images = x.permute(0, 3, 1, 2)
        fused = net.fuse(net.template(images, truth), net.backbone.trunk(images))
        at, logits, deltas = net.propose(fused)
        found, sure = likeliest(decode(at, deltas), logits.softmax(-1)[..., 1], batch["size"], 0.7, 100, 10)
        logits, deltas = net.refine(fused, found)
        best = logits.softmax(-1)[0, :, 1].mul(sure[0] > 0).argmax()
        refined = decode(found, deltas, (0.1, 0.1, 0.2, 0.2))[0, best]
    assert B.iou(found[0], truth).max() > 0.5
    assert B.iou(refined, truth[0]) > 0.7


def test_the_motion_model_s_counts():
    for history in (1, 10):
        assert count(MotionModel(history)) == 28_535_585 + 576 * history
    with pytest.raises(ValueError, match="multiples of 32"):
        MotionModel(size=(100, 96))


def test_a_place_is_a_gaussian_of_three_pixels():
    heat = gaussians(torch.tensor([[20.5, 10.5], [torch.nan, torch.nan]]), (64, 48), 3.0)
    assert heat.shape == (2, 48, 64)
    assert heat[0, 10, 20] == 1
    assert heat[1].abs().max() == 0
    torch.testing.assert_close(heat[0, 10, 23], torch.tensor(-0.5).exp())
    fine = gaussians(torch.tensor([500.0, 500]), (1000, 1000), 300.0)  # full width at half the height: 2.355 deviations
    assert abs(int((fine[500] >= 0.5).sum()) - 2.355 * 300) <= 1


def test_the_motion_loss_wants_a_peak_in_the_target_s_cell():
    net = MotionModel(2, (96, 64), width=1 / 16).eval()
    batch = {"x": torch.zeros(2, 64, 96, 3), "places": torch.full((2, 2, 2), 20.0)}
    batch["truth"] = torch.tensor([[41.0, 23], [torch.nan, torch.nan]])
    wanted = torch.zeros(2, 16, 24)
    for y in range(16):
        for x in range(24):
            away = (x - 10) ** 2 + (y - 5) ** 2
            wanted[0, y, x] = math.exp(-away / 18) if away <= 81 else 0
    with torch.no_grad():
        by_hand = ((net(batch["x"].permute(0, 3, 1, 2), batch["places"]) - wanted) ** 2).mean()
        torch.testing.assert_close(motion_loss(net, batch), by_hand)


@pytest.mark.parametrize("rule", RULES)
def test_a_better_look_and_a_likelier_place_never_harm(rule):
    looks, likely = torch.rand(2, 200, 1, generator=seeded()).sort(1).values
    each = rescored(looks, torch.rand(1, 50, generator=seeded(1)), rule)
    assert (each.diff(dim=0) >= 0).all()
    each = rescored(torch.rand(1, 50, generator=seeded(1)), likely, rule)
    assert (each.diff(dim=0) >= 0).all()


def test_with_a_least_likelihood_of_1_looks_decide():
    looks, likely = torch.rand(2, 30, generator=seeded())
    assert rescored(looks, likely, least=1.0).argmax() == looks.argmax()


def test_motion_alone_takes_the_likeliest_place_that_has_a_candidate():
    looks, likely = torch.tensor([[0.9, 0.1, 0.0]]), torch.tensor([[0.2, 0.5, 1.0]])
    assert rescored(looks, likely, "motion").argmax() == 1
    assert rescored(looks, torch.zeros(1, 3), "motion").argmax() == 0  # the likest one first


def frames_of(*images, ids=None):
    names = ids or [f"video {i}" for i in range(len(images))]
    return Frames(list(images), list(range(len(images))), [(name, 0) for name in names])


def tracker(**config):
    siamese = SiamRCNN(1 / 16, sizes=(16, 32)).initialise(seeded())
    motion = MotionModel(3, (96, 64), width=1 / 16).initialise(seeded())
    settings = {"target": 32, "shortest": 64, "longest": 256, "proposals": 20, "candidates": 5}
    return GSTPTracker(siamese, motion, GSTPConfig(**(settings | config)))


@torch.inference_mode()
def test_lanes_of_frames_of_all_sizes_are_tracked_as_alone():
    images = [torch.randint(0, 256, (3, h, w), generator=seeded()).byte() for h, w in ((90, 120), (64, 100), (90, 120))]
    first = torch.tensor([[30.0, 20, 30, 34], [10, 10, 20, 40], [60, 40, 32, 32]])
    whole = tracker()
    state = whole.init(frames_of(*images), first)
    boxes = []
    for _ in range(3):
        state, output = whole.track(state, frames_of(*images))
        boxes.append(output.boxes)
    for lane, image in enumerate(images):
        one = whole.init(frames_of(image), first[lane : lane + 1])
        for step in range(3):
            one, output = whole.track(one, frames_of(image))
            torch.testing.assert_close(output.boxes[0], boxes[step][lane], atol=1e-3, rtol=1e-3)
    size = torch.tensor([120.0, 90])
    corners = B.corners(boxes[-1][0])
    assert (corners >= -1e-3).all()
    assert (corners.view(2, 2) <= size + 1e-3).all()


@torch.inference_mode()
def test_in_bfloat16_boxes_stay_where_they_are():
    """The networks compute in bfloat16; anchors, RoIs and boxes do not: on a wide frame they would be off by pixels."""
    siamese, motion = SiamRCNN(1 / 16, sizes=(32,)).initialise(seeded()), MotionModel(3, (96, 64), width=1 / 16)
    config = GSTPConfig(target=32, shortest=64, longest=900, proposals=12, candidates=6)
    image = torch.randint(0, 256, (3, 40, 800), generator=seeded()).byte()
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        one = GSTPTracker(siamese, motion.initialise(seeded()), config, dtype=dtype)
        one.siamese.rpn_deltas.weight.zero_()  # proposals are the anchors themselves, and so are candidates, nearly
        one.siamese.roi_deltas.weight.zero_()
        state = one.init(frames_of(image), torch.tensor([[600.0, 4, 32, 32]]))
        boxes, scores = one.candidates(state, frames_of(image))
        found.append(B.centre(boxes[scores > 0]))
        assert torch.isfinite(one.track(state, frames_of(image))[1].boxes).all()
    for centres in found:
        inner = centres[(centres[:, 0] > 30) & (centres[:, 0] < 770), 0]
        torch.testing.assert_close(inner % 16, torch.full_like(inner, 8), atol=0.01, rtol=0)


@torch.inference_mode()
def test_the_motion_model_chooses_between_two_alike():
    """Two candidates that look the same: the one on the heat map's peak is taken, until doubt has lasted."""
    one = tracker(patience=2)
    image = torch.zeros(3, 80, 120, dtype=torch.uint8)
    state = one.init(frames_of(image), torch.tensor([[10.0, 10, 20, 20]]))
    both = torch.tensor([[[20.0, 30, 20, 20], [80, 30, 20, 20]]])
    one.candidates = lambda state, frames: (both, torch.tensor([[0.25, 0.2]]))
    one.motion.forward = lambda images, places: gaussians(torch.tensor([[90 * 96 / 120 / 4, 8.0]]), (24, 16), 3.0)
    one.keep_maps, taken = True, []
    for _ in range(4):
        state, output = one.track(state, frames_of(image))
        taken.append(float(output.boxes[0, 0]))
    assert taken == [80, 80, 20, 20]  # appearance alone decides after two frames of doubt
    assert output.maps["heat map"].shape == (1, 16, 24)
    torch.testing.assert_close(output.regions[0], torch.tensor([0.0, 0, 120, 80]))
    torch.testing.assert_close(state.places[0, :, 0], torch.tensor([90.0, 30, 30]))


@torch.inference_mode()
def test_a_local_window_and_a_frame_without_candidates():
    one = tracker(window=2.0, motion=False)
    image = torch.zeros(3, 80, 120, dtype=torch.uint8)
    state = one.init(frames_of(image), torch.tensor([[10.0, 10, 20, 20]]))
    both = torch.tensor([[[30.0, 10, 20, 20], [80, 10, 20, 20]]])
    one.candidates = lambda state, frames: (both, torch.tensor([[0.3, 0.9]]))
    near, output = one.track(state, frames_of(image))
    assert output.boxes[0, 0] == 30
    one.candidates = lambda state, frames: (both[:, 1:], torch.tensor([[0.9]]))
    _, output = one.track(near, frames_of(image))
    assert output.boxes.tolist() == [[30, 10, 20, 20]]
    assert output.scores.tolist() == [0]


def test_a_letterboxed_frame_lies_where_its_region_says():
    image = torch.zeros(3, 60, 160, dtype=torch.uint8)
    image[:, 30:34, 100:108] = 255
    one = tracker()
    shown = letterboxed(image, (96, 64))
    region = one.region(frames_of(image), torch.zeros(()))[0]
    y, x = (at.float().mean() + 0.5 for at in torch.where(shown[0] > 128))
    there = region[:2] + torch.stack([x, y]) * region[2:] / torch.tensor([96.0, 64])
    torch.testing.assert_close(there, torch.tensor([104.0, 32]), atol=1.0, rtol=0)


def test_settings_that_cannot_be_are_refused():
    for wrong in ({"rule": "sum"}, {"least": 2.0}, {"longest": 100}, {"candidates": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            GSTPConfig(**wrong)


def test_weights_are_loaded_at_their_own_sizes(tmp_path):
    siamese = SiamRCNN(1 / 16, sizes=(20, 40), ratios=(1,), pool=7, scaled=False).initialise(seeded())
    net = GSTP(siamese, MotionModel(4, (96, 64), 48, 1 / 16).initialise(seeded()))
    save_weights(net, tmp_path / "one.safetensors", {})
    again = load_gstp(tmp_path / "one.safetensors")
    assert (again.siamese.pool, again.siamese.scaled, again.motion.history, again.motion.size) == (
        7,
        False,
        4,
        (96, 64),
    )
    for name, value in net.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, atol=1e-3, rtol=1e-3)
    frames = frames_of(torch.randint(0, 256, (3, 80, 120), generator=seeded()).byte())
    one = GSTPTracker(again.siamese, again.motion, GSTPConfig(shortest=64, longest=256, proposals=8, candidates=3))
    with torch.inference_mode():
        _, output = one.track(one.init(frames, torch.tensor([[20.0, 20, 30, 30]])), frames)
    assert torch.isfinite(output.boxes).all()
    save_weights(net.siamese, tmp_path / "half.safetensors", {})
    half = load_siamrcnn(tmp_path / "half.safetensors")
    torch.testing.assert_close(half.fusion[0].weight, again.siamese.fusion[0].weight)
    save_weights(GSTP(net.siamese, torch.nn.Linear(1, 1)), tmp_path / "no.safetensors", {})
    with pytest.raises(ValueError, match="not weights of the motion model"):
        load_gstp(tmp_path / "no.safetensors")
    with pytest.raises(ValueError, match="not weights of SiamRCNN"):
        load_siamrcnn("rolo")
    with pytest.raises(ValueError, match=r"both networks.* in one file \(SiamRCNN's alone: --tracker siamrcnn\)"):
        load_gstp(tmp_path / "half.safetensors")
    alone = load_tracker("siamrcnn", tmp_path / "half.safetensors", shortest=64, longest=256, proposals=8, candidates=3)
    with torch.inference_mode():
        _, same = alone.track(alone.init(frames, torch.tensor([[20.0, 20, 30, 30]])), frames)
    assert torch.isfinite(same.boxes).all()

"""DSiam's tracking: transforms learned online, and the state machine (SPEC 3.1, 3.4, 3.5, and 9.3, 001)."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch.fft import fft2, ifft2

from trackerlib.boxes import centre, context_side, from_centre
from trackerlib.config import configured
from trackerlib.data import load_dataset
from trackerlib.dsiam import (
    DSIAM,
    DSIAM_PRINTED,
    DSIAM_RELEASE,
    DSiam,
    DSiamTracker,
    load_dsiam,
    saliency,
)
from trackerlib.images import context_crops, to_tensor
from trackerlib.nn.checkpoints import save_weights
from trackerlib.nn.correlation import cross_correlate
from trackerlib.nn.vgg import VGG19
from trackerlib.siamfc import SiamFC
from trackerlib.tracker import Frames
from trackerlib.trackers import load_tracker

BOTH = ("conv5", "conv4")


@pytest.fixture(scope="module")
def video():
    """Six rendered frames, and the target's box in each."""
    sequence = load_dataset("rendered")[0]
    return [to_tensor(sequence.frames[t]) for t in range(6)], torch.tensor(sequence.boxes[:6]).float()


def frames_of(image, t=0, lanes=1):
    return Frames([image], [0] * lanes, [("s", t)])


@torch.no_grad()
def follow(tracker, video, count=6, shown=False):
    """States after frames 0, 1, ... and outputs of frames 1, 2, ..."""
    images, boxes = video
    tracker.keep_maps = shown
    states, outputs = [tracker.init(frames_of(images[0]), boxes[:1])], []
    for t in range(1, count):
        state, output = tracker.track(states[-1], frames_of(images[t], t))
        states.append(state)
        outputs.append(output)
    return states, outputs


def boxes_of(outputs):
    return torch.cat([output.boxes for output in outputs])


def apart(a, b):
    """Relative distance of a from b."""
    return ((a - b).norm() / b.norm()).item()


class Scripted(DSiamTracker):
    """Finds what it is told to: for each frame the scale's index, the centre, the peak."""

    def locate(self, state, response):
        best, place, score = self.script.pop(0)
        return torch.tensor([best]), torch.tensor([place]), torch.tensor([score])


class Recording(DSiamTracker):
    """Keeps what the last response that V and W took part in was made of."""

    def respond(self, state, x):
        if state.on.any():
            self.seen = state, x
        return super().respond(state, x)


def transformed(signal, x, y, weight, eta, config):
    """SPEC 3.4 as the release computes it, one complex transform after the other, float64."""
    signal, x, y = (v.double() for v in (signal, x, y))
    n = signal.shape[-1] * signal.shape[-2] if config.cells else 1
    h = torch.ones(())
    if config.taper:
        h = torch.outer(*(torch.hann_window(k, periodic=False, dtype=torch.float64) for k in signal.shape[-2:]))
    alpha = fft2(h * y) / (fft2(h * x).abs() ** 2 / n + float(weight))
    return (1 - eta) * signal + eta * ifft2(alpha * fft2(h * signal) * fft2(h * x).conj() / n).real


def reference_maps(tracker, layer, k):
    """Eq. 2 for one layer at every scale, `(3, 17, 17)`, of the frame that a `Recording` saw last."""
    (state, x), c, net = tracker.seen, tracker.config, tracker.dynamic
    first, last, region, salient = (getattr(state, leaf)[layer] for leaf in ("first", "last", "region", "salient"))
    z = transformed(first, first, last, net.lambda_v[k], c.eta_v, c)
    searched = [transformed(one[None], region, salient, net.lambda_w[k], c.eta_w, c) for one in x[layer]]
    return 1e-3 * torch.cat([cross_correlate(z, one)[0] for one in searched])


@pytest.mark.parametrize("gradient", ["autograd", "exact"])
@pytest.mark.parametrize("config", [DSIAM, DSIAM_RELEASE, DSIAM_PRINTED], ids=["ours", "release", "printed"])
def test_responses_are_the_equations(video, config, gradient):
    """Eqs. 2, 6, 8 (with F_Gbar), 9 and the release's blending, taper and N lambda, against complex float64."""
    net = load_dsiam("siamfc-quarter", BOTH)
    net.free.data.uniform_(0.2, 0.9, generator=torch.Generator().manual_seed(0))
    tracker = Recording(net, replace(config, gradient=gradient))
    with torch.inference_mode():
        follow(tracker, video, 4)
        maps = tracker.respond(*tracker.seen)
        wanted = {layer: reference_maps(tracker, layer, k) for k, layer in enumerate(BOTH)}
        wanted["response"] = sum(net.weights[k] * wanted[layer] for k, layer in enumerate(BOTH)) + net.base.bias
        static = tracker.respond(replace(tracker.seen[0], on=torch.zeros(1)), tracker.seen[1])
    for name, of in wanted.items():
        assert apart(maps[name][0], of) < 1e-4
        assert apart(static[name][0], of) > 0.05


@pytest.mark.parametrize(("template", "leaf"), [("previous", "last"), ("first", "first")])
def test_templates_of_the_ablations(video, template, leaf):
    """withFrame(t-1), and -VT with -BS: templates meet search features as they are."""
    tracker = Recording(load_dsiam("siamfc-quarter"), replace(DSIAM, template=template, suppression=False))
    follow(tracker, video, 4)
    state, x = tracker.seen
    z = getattr(state, leaf)["conv5"]
    wanted = 1e-3 * torch.cat([cross_correlate(z, one[None])[0] for one in x["conv5"]])
    assert apart(tracker.respond(state, x)["conv5"][0], wanted) < 1e-5
    if template == "previous":
        assert apart(z, state.first["conv5"]) > 0.01
        off = tracker.respond(replace(state, on=torch.zeros(1)), x)["conv5"]
        assert apart(off[0, 1], 1e-3 * cross_correlate(state.first["conv5"], x["conv5"][1:2])[0, 0]) < 1e-5


def test_v_and_w_are_each_lane_s_own(video):
    """A lane where they are off sees none of its neighbour's, and the other way round."""
    tracker = Recording(load_dsiam("siamfc-quarter"))
    follow(tracker, video, 4)
    state, x = tracker.seen
    on, off = (tracker.respond(replace(state, on=torch.full((1,), v)), x)["response"] for v in (1.0, 0.0))
    two = replace(state.take([0, 0]), on=torch.tensor([0.0, 1.0]))
    both = tracker.respond(two, {"conv5": x["conv5"].repeat(2, 1, 1, 1)})["response"]
    torch.testing.assert_close(both, torch.cat([off, on]))
    assert apart(on, off) > 0.01


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("dsiam", {"template": "first", "suppression": False}),
        ("dsiam", {"eta_v": 0.0, "eta_w": 0.0}),
        ("dsiamm", {"eta_v": 0.0, "eta_w": 0.0}),
        ("dsiamm", {"template": "first", "suppression": False, "fusion": "fixed", "fixed_weight": 1.0}),
    ],
)
def test_without_its_transforms_it_is_siamfc(video, name, config):
    siamfc = boxes_of(follow(load_tracker("siamfc-3s", "siamfc-quarter"), video)[1])
    plain, full = (load_tracker(name, "siamfc-quarter", **k) for k in (config, {}))
    torch.testing.assert_close(boxes_of(follow(plain, video)[1]), siamfc, rtol=0, atol=1e-4)
    assert (boxes_of(follow(full, video)[1]) - siamfc).abs().max() > 0.1


def test_maps_that_are_kept(video):
    """One a layer, their fused "response" as it is used, and "static"; keeping them changes nothing else."""
    tracker = load_tracker("dsiamm", "siamfc-quarter", fusion="fixed", fixed_weight=0.7)
    states, outputs = follow(tracker, video, 4, shown=True)
    for state, output in zip(states[:-1], outputs, strict=True):
        maps = output.maps
        assert {k: v.shape for k, v in maps.items()} == dict.fromkeys((*BOTH, "response", "static"), (1, 17, 17))
        torch.testing.assert_close(maps["response"], 0.7 * maps["conv5"] + 0.3 * maps["conv4"] + tracker.net.bias)
        assert torch.equal(maps["static"], maps["response"]) == (not state.on)
        assert torch.equal(centre(output.regions), state.centre)
    assert torch.equal(boxes_of(follow(tracker, video, 4)[1]), boxes_of(outputs))
    assert not follow(tracker, video, 2)[1][0].maps


@torch.no_grad()
def test_static_is_the_response_of_the_same_features_without_v_and_w(video):
    used, still = (load_tracker("dsiamm", "siamfc-quarter", scales=1, **k) for k in ({}, {"eta_v": 0.0, "eta_w": 0.0}))
    state = follow(used, video, 3)[0][-1]
    used.keep_maps = still.keep_maps = True
    shown, alone = (tracker.track(state, frames_of(video[0][3], 3))[1].maps for tracker in (used, still))
    torch.testing.assert_close(shown["static"], alone["response"])
    assert apart(shown["response"], alone["response"]) > 0.01


def leaves(state):
    return [v for leaf in vars(state).values() for v in (leaf.values() if isinstance(leaf, dict) else [leaf])]


def same(a, b):
    return all(map(torch.equal, leaves(a), leaves(b)))


def test_a_step_leaves_the_state_it_was_given(video):
    tracker = load_tracker("dsiamm", "siamfc-quarter")
    state = follow(tracker, video, 3)[0][-1]
    before = state.take([0])
    tracker.track(state, frames_of(video[0][3], 3))
    assert same(before, state)


def test_bfloat16_stays_near(video):
    exact, rough = (load_tracker("dsiamm", "siamfc-quarter", dtype=d) for d in ("float32", "bfloat16"))
    (states, near), (_, outputs) = follow(exact, video), follow(rough, video)
    rough.keep_maps = exact.keep_maps = True
    for t in (0, 1, 4):
        a, b = (tracker.track(states[t], frames_of(video[0][t + 1]))[1] for tracker in (exact, rough))
        assert b.maps["response"].dtype == torch.float32
        assert apart(b.maps["response"], a.maps["response"]) < 0.02
    assert (boxes_of(outputs) - boxes_of(near))[:3].abs().max() < 1


def test_shifted_video_gives_shifted_boxes():
    """Shift every frame inside a plain surround by whole pixels: boxes shift by the same, to float rounding."""
    tracker = load_tracker("dsiamm", "siamfc-quarter")
    patch = F.interpolate(torch.rand(1, 3, 20, 20, generator=torch.Generator().manual_seed(4)), 60, mode="bilinear")
    found = []
    for dx, dy in [(0, 0), (17, 9)]:
        canvas = torch.full((8, 3, 300, 300), 90, dtype=torch.uint8)
        for t in range(8):
            canvas[t, :, 120 + dy : 180 + dy, 110 + dx + 2 * t : 170 + dx + 2 * t] = (patch[0] * 255).byte()
        states, outputs = follow(tracker, (canvas, torch.tensor([[125.0 + dx, 135.0 + dy, 30, 30]])), 8)
        assert states[-1].on
        found.append(boxes_of(outputs) - torch.tensor([dx, dy, 0, 0]))
    assert (found[0] - found[1]).abs().max() < 0.01


def test_saliency_is_the_release_s_window():
    """SPEC 3.4: Hamming down, Hann across, 1 at most; its Gaussian of sigma 12,700 is flat to 1e-4."""
    window = torch.outer(torch.hamming_window(255, periodic=False), torch.hann_window(255, periodic=False))
    at = torch.arange(255) - 127.0
    released = window * torch.exp(-0.5 * (at[:, None] ** 2 + at**2) / (127 * 100) ** 2)
    found = saliency("code", torch.zeros(1, 2))[0]
    torch.testing.assert_close(found, released / released.max(), rtol=1e-4, atol=1e-6)
    assert found[127, 127] == found.max() == 1
    assert found[0, 127] == pytest.approx(0.08)
    assert found[127, 0] == pytest.approx(0, abs=1e-6)


def test_gaussian_saliency():
    found = saliency("gaussian", torch.zeros(1, 2))[0]
    assert found[127, 127] == found.max() == 1
    assert found[40, 200] == pytest.approx(math.exp(-(87**2 + 73**2) / 2 / 63.75**2))


@pytest.mark.parametrize("kind", ["code", "gaussian"])
def test_saliency_stands_where_the_target_is(kind):
    middle, shifted = saliency(kind, torch.tensor([[0.0, 0.0], [20.0, -7.0]]))
    torch.testing.assert_close(shifted[:248, 20:], middle[7:, :235])
    if kind == "code":
        assert not shifted[:, :20].any()
        assert not shifted[248:].any()


def test_searched_and_centred_surroundings_agree_on_a_target_that_stays(video):
    """The search image of the scale found is G itself; where the target moved, they are two images of one place."""
    tracker = Scripted(load_dsiam("siamfc-quarter", BOTH))
    state = tracker.init(frames_of(video[0][0]), video[1][:1])
    seen = {}
    for place in (state.centre[0], state.centre[0] + torch.tensor([12.0, -8.0])):
        for surroundings in ("searched", "centred"):
            tracker.config = replace(DSIAM, surroundings=surroundings)
            tracker.script = [(2, place.tolist(), 1.0)]
            seen[surroundings] = tracker.track(state, frames_of(video[0][1], 1))[0]
        for leaf, layer in ((leaf, layer) for leaf in ("region", "salient") for layer in BOTH):
            a, b = (getattr(seen[s], leaf)[layer] for s in ("searched", "centred"))
            assert (apart(a, b) < 1e-4) == torch.equal(place, state.centre[0])


def test_what_the_search_image_dims_is_away_from_the_target_found(video):
    """Found 12 pixels to the right and 8 up, the window's peak stands there in the image searched at scale 2."""
    tracker = Scripted(load_dsiam("siamfc-quarter", BOTH))
    state = tracker.init(frames_of(video[0][0]), video[1][:1])
    tracker.script = [(2, (state.centre[0] + torch.tensor([12.0, -8.0])).tolist(), 1.0)]
    found = tracker.track(state, frames_of(video[0][1], 1))[0]
    side = (state.side * 1.0375).round()
    window = saliency("code", torch.tensor([[12.0, -8.0]]) * 255 / side)
    crop = context_crops(video[0][1], state.centre, side, 255, state.fill)
    for layer, features in tracker.embed(crop * window).items():
        assert apart(found.salient[layer], features) < 1e-4
    for layer, features in tracker.embed(crop).items():
        assert apart(found.region[layer], features) < 1e-4


def test_the_target_is_seen_at_its_place_and_last_size(video):
    """SPEC 3.5: O_t at the new centre with the old size, whatever scale was found: what `init` there would embed."""
    tracker = Scripted(load_dsiam("siamfc-quarter", BOTH))
    first = tracker.init(frames_of(video[0][0]), video[1][:1])
    place = first.centre + torch.tensor([[6.0, 3.0]])
    tracker.script = [(0, place[0].tolist(), 1.0)]
    found, _ = tracker.track(first, frames_of(video[0][0], 1))
    anew = tracker.init(frames_of(video[0][0]), from_centre(place, first.size))
    for layer in BOTH:
        torch.testing.assert_close(found.last[layer], anew.first[layer], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("tap", ["relu", "linear"])
def test_conv4_is_tapped_after_or_before_its_relu(video, tap):
    tracker = load_tracker("dsiamm", "siamfc-quarter", tap=tap)
    images = video[0][0][None, :, :127, :127].float()
    conv4, conv5 = (tracker.embed(images)[layer] for layer in ("conv4", "conv5"))
    assert conv4.shape == (1, 96, 8, 8)
    assert (conv4.min() < 0) == (tap == "linear")
    torch.testing.assert_close(conv5, tracker.net.backbone.conv5(conv4.relu()))
    torch.testing.assert_close(conv5, tracker.net.embed(images))


@pytest.fixture(scope="module")
def act():
    """The states of a scripted run on frames of 160 x 120, from a box of 30 x 20 at (60, 40), or the one given."""
    net = DSiam(SiamFC(0.125).initialise(torch.Generator().manual_seed(0))).eval()

    def run(*script, box=(60.0, 40.0, 30.0, 20.0), **config):
        tracker = Scripted(net, configured(DSIAM, {"suppression": False, "template": "first", **config}))
        tracker.script = list(script)
        image = torch.zeros(3, 120, 160, dtype=torch.uint8)
        states, outputs = follow(tracker, ([image] * (1 + len(script)), torch.tensor([box])), 1 + len(script))
        for state, output in zip(states[1:], outputs, strict=True):
            assert torch.equal(output.boxes, from_centre(state.centre, state.size))
        return states

    return run


HERE = [75.0, 50.0]
FOUND, LARGER, LOST = (1, HERE, 0.5), (2, HERE, 0.5), (1, HERE, -0.5)
SIDE = float(context_side(torch.tensor([30.0, 20.0]))) * 255 / 127
DAMPED = 1 - 0.59 + 0.59 * 1.0375


def flags(states, leaf):
    return [int(getattr(state, leaf)) for state in states]


def sides(states):
    return [float(state.side) / SIDE for state in states]


def test_transforms_are_off_until_the_first_success(act):
    states = act(LOST, FOUND, FOUND, LOST, FOUND)
    assert flags(states, "on") == [0, 0, 1, 1, 0, 1]
    assert flags(states, "failed") == [0, 1, 0, 0, 1, 0]


def test_a_peak_at_the_threshold_is_a_failure(act):
    scores = [(1, HERE, score) for score in (2.5, 2.0, 1.0)]
    assert flags(act(*scores, threshold=2.0), "on") == [0, 1, 0, 0]
    assert flags(act((1, HERE, 0.0)), "on") == [0, 0]


def test_success_damps_scale_as_siamfc_does(act):
    states = act(LARGER, LARGER)
    assert sides(states) == pytest.approx([1, DAMPED, DAMPED**2])
    assert states[-1].size[0].tolist() == pytest.approx([30 * DAMPED**2, 20 * DAMPED**2])


def test_failures_let_the_search_grow_and_a_success_measures_it_anew(act):
    """SPEC 3.5: side x 1.1 and size kept; at the next success the side comes from the size kept, not from the scale."""
    states = act(LARGER, LOST, LOST, LARGER, LARGER)
    assert sides(states) == pytest.approx([1, DAMPED, 1.1 * DAMPED, 1.21 * DAMPED, DAMPED, DAMPED**2])
    widths = [float(state.size[0, 0]) / 30 for state in states]
    assert widths == pytest.approx([1, DAMPED, DAMPED, DAMPED, DAMPED, DAMPED**2])
    away = act((1, [90.0, 60.0], -0.5))[-1]
    assert away.centre.tolist() == [[90.0, 60.0]]


def test_the_side_stays_within_its_bounds(act):
    assert sides(act(*[LOST] * 9, largest=2.0))[-1] == pytest.approx(2.0)
    assert sides(act(*[LARGER] * 20, largest=1.5))[-1] == pytest.approx(1.5)
    assert sides(act(*[(0, HERE, 0.5)] * 20, smallest=0.7))[-1] == pytest.approx(0.7)
    shrunk = act(*[(0, HERE, 0.5)] * 20, LOST, FOUND, smallest=0.7)
    assert sides(shrunk)[-3:] == pytest.approx([0.7, 0.77, 0.7])
    assert (DSIAM.smallest, DSIAM.largest) == (0.2, 5.0)


def test_leaving_the_image_is_a_failure_and_the_second_time_starts_at_its_middle(act):
    """Whatever is between them (the release's counter is cleared by the return alone); of the box only the corner below
    on the right is looked at."""
    beyond, above, left = (1, [150.0, 50.0], 0.5), (1, [75.0, -15.0], 0.5), (1, [2.0, 50.0], 0.5)
    states = act(left, beyond, FOUND, above, LARGER, recentre=2)
    assert flags(states, "failed") == [0, 0, 1, 0, 1, 0]
    assert flags(states, "on") == [0, 1, 0, 1, 0, 1]
    assert flags(states, "outside") == [0, 0, 1, 1, 0, 0]
    assert states[2].centre.tolist() == [[150.0, 50.0]]
    assert states[4].centre.tolist() == [[80.0, 60.0]]
    assert sides(states)[-1] == pytest.approx(1.0)  # measured anew
    stays = act(left, beyond, FOUND, above, LARGER)
    assert flags(stays, "failed") == flags(states, "failed")
    assert stays[4].centre.tolist() == [[75.0, -15.0]]


def test_lanes_fail_alone(act):
    tracker = Scripted(DSiam(SiamFC(0.125)).eval(), replace(DSIAM, suppression=False))
    found = torch.tensor([1, 1]), torch.tensor([HERE, HERE]), torch.tensor([0.5, -0.5])
    tracker.locate = lambda state, response: found
    frames = frames_of(torch.zeros(3, 120, 160, dtype=torch.uint8), lanes=2)
    state, _ = tracker.track(tracker.init(frames, torch.tensor([[60.0, 40, 30, 20]]).repeat(2, 1)), frames)
    assert state.on.tolist() == [1, 0]
    assert (state.side / SIDE).tolist() == pytest.approx([1.0, 1.1])


def test_context_of_a_tall_target_is_measured_at_98_per_cent(act):
    for height, shrink in ((40.0, 1.0), (40.1, 0.98)):
        size = torch.tensor([20.0, height])
        first, _, again = act(LOST, FOUND, box=(60.0, 40.0, *size.tolist()))
        for state in (first, again):
            assert float(state.side) == pytest.approx(float(context_side(shrink * size)) * 255 / 127)
            assert torch.equal(state.size[0], size)


@pytest.mark.parametrize("switch", ["template", "fusion", "saliency", "tap", "surroundings", "gradient"])
def test_an_unknown_choice_is_refused_with_the_known_ones(switch):
    with pytest.raises(ValueError, match=rf"^{switch} is one of '{getattr(DSIAM, switch)}', '.*, not 'none'$"):
        load_tracker("dsiam", "siamfc-quarter", **{switch: "none"})


def test_state_take_and_put(video):
    """A refilled lane goes on as it would have alone; its neighbour stays as it is to the bit."""
    tracker = load_tracker("dsiamm", "siamfc-quarter")
    states, outputs = follow(tracker, video, 6)
    state = states[1].take([0, 0])
    state.put([1], states[4])
    assert same(state.take([0]), states[1])
    assert same(state.take([1]), states[4])
    pair = Frames([video[0][2], video[0][5]], [0, 1], [("s", 2), ("s", 5)])
    _, output = tracker.track(state, pair)
    torch.testing.assert_close(output.boxes, boxes_of([outputs[1], outputs[4]]), rtol=0, atol=1e-3)


@pytest.fixture(scope="module")
def narrow_vgg(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "vgg19.safetensors"
    save_weights(VGG19(0.125).initialise(torch.Generator().manual_seed(0)), path, {})
    return path


def test_vgg19_tracks(video, narrow_vgg):
    """SPEC 3.1: conv5-4, 7 and 15 cells, weighs 0.8 and conv4-4, 15 and 31, 0.2; both responses are 17 x 17."""
    tracker = load_tracker("dsiamm-vgg19", narrow_vgg, threshold=-1.0)
    states, outputs = follow(tracker, video, 4, shown=True)
    maps = outputs[-1].maps
    assert [states[-1].last[k].shape[-1] for k in BOTH] == [7, 15]
    assert [states[-1].salient[k].shape[-1] for k in BOTH] == [15, 31]
    assert maps["conv5"].shape == maps["conv4"].shape == (1, 17, 17)
    assert apart(maps["response"], 0.8 * maps["conv5"] + 0.2 * maps["conv4"]) < 1e-6
    assert apart(maps["static"], maps["response"]) > 0.01
    assert tracker.dynamic.lambda_v.tolist() == pytest.approx([10.0, 10.0])
    assert states[-1].first["conv4"].min() == 0
    linear = load_tracker("dsiamm-vgg19", narrow_vgg, tap="linear")
    assert follow(linear, video, 2)[0][0].first["conv4"].min() < 0


def test_vgg19_says_what_it_needs():
    with pytest.raises(ValueError, match=r"dsiamm-vgg19 .*--weights FILE.*torchvision"):
        load_tracker("dsiamm-vgg19")


def test_shares_and_counts_out_of_range_are_refused():
    for name, value in (("eta_v", 1.5), ("eta_w", -0.1), ("fixed_weight", 2.0), ("recentre", -1), ("grow", 0.9)):
        with pytest.raises(ValueError, match=name):
            configured(DSIAM, {name: value})
    with pytest.raises(ValueError, match="lambda is above 0"):
        DSiam(SiamFC(0.125), lambda_v=0.0)

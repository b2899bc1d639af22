"""DSiam's joint training: parameters, labels, loss and gradients, and the files it leaves (SPEC 3.6, and 9.3, 001)."""

from dataclasses import replace

import pytest
import torch

from trackerlib.boxes import centre
from trackerlib.data import load_dataset
from trackerlib.dsiam import DSIAM, DSiam, DSiamTracker, calibrated_threshold, clip_loss, load_dsiam, shifted_labels
from trackerlib.nn.checkpoints import provenance, save_weights, weights_file
from trackerlib.siamfc import SiamFC, labels, load_siamfc, logistic_loss
from trackerlib.tracker import Frames
from trackerlib.trackers import load_tracker

BOTH = ("conv5", "conv4")


def trained(net):
    return sum(p.numel() for p in net.parameters())


def test_parameter_counts():
    """SPEC 3.1; it counts the fixed factor of the score too."""
    assert trained(DSiam(SiamFC())) == 2_336_321 + 2
    assert trained(DSiam(SiamFC(), BOTH)) == 2_336_321 + 4 + 289


def test_before_training():
    """Section 3.6: conv5 weighs 1, conv4 0; the lambdas of the release."""
    net = DSiam(SiamFC(0.125), BOTH)
    assert torch.equal(net.weights, torch.stack([torch.ones(17, 17), torch.zeros(17, 17)]))
    assert net.lambda_v.tolist() == pytest.approx([1e-5, 1e-5], rel=1e-5)
    assert net.lambda_w.tolist() == pytest.approx([10.0, 10.0], rel=1e-6)
    assert torch.equal(DSiam(SiamFC(0.125)).weights, torch.ones(1, 17, 17))


def test_a_step_keeps_the_sum_of_maps_and_positive_lambdas():
    """Eq. 9's constraint. The gradient of the free map is the release's (S^5 - S^4) o dS (SPEC 3.6)."""
    net = DSiam(SiamFC(0.125), BOTH)
    scores, slope = torch.randn(2, 2, 17, 17, generator=torch.Generator().manual_seed(0)).unbind()
    optimiser = torch.optim.SGD([net.free, net.rho_v, net.rho_w], lr=1.0)
    loss = (slope[0] * (net.weights * scores).sum(0)).sum() + 5 * (net.lambda_v + net.lambda_w).sum()
    loss.backward()
    torch.testing.assert_close(net.free.grad[0], (scores[0] - scores[1]) * slope[0])
    optimiser.step()
    assert (net.weights[0] - 1).abs().max() > 1
    torch.testing.assert_close(net.weights.sum(0), torch.ones(17, 17))
    assert (net.lambda_v > 0).all()
    assert (net.lambda_w > 0).all()
    assert (net.lambda_w < 10).all()


def test_batch_norm_keeps_its_statistics_in_training():
    net = DSiam(SiamFC(0.125)).train()
    assert net.training
    assert not any(m.training for m in net.base.modules())


def random_net(layers=BOTH):
    net = DSiam(load_siamfc("siamfc-quarter"), layers).eval()
    generator = torch.Generator().manual_seed(0)
    for p in (net.rho_v, net.rho_w, net.free):
        p.data.uniform_(-1, 1, generator=generator)
    return net


def test_labels_stand_where_the_target_is():
    """J_t cell by cell: +1 within 16 pixels of the true centre in a search image of 255, cells 8 apart (SPEC 3.6)."""
    truth = torch.tensor([[40.0, 50, 20, 30], [47.3, 41.9, 22, 18], [60.2, 66.1, 20, 20], [400, 60, 20, 20]])
    regions = torch.tensor([[0.0, 15, 100, 100], [1.4, 2.3, 110, 110], [20.5, 31, 77, 77], [10, 10, 90, 90]])
    y, weights = shifted_labels(truth, regions)
    for b in range(4):
        (tx, ty), (rx, ry), pixels = *(centre(v)[b].tolist() for v in (truth, regions)), 255 / float(regions[b, 2])
        for i, j in torch.cartesian_prod(torch.arange(17), torch.arange(17)).tolist():
            dx, dy = 8 * (j - 8) - (tx - rx) * pixels, 8 * (i - 8) - (ty - ry) * pixels
            assert y[b, i, j] == (1 if (dx**2 + dy**2) ** 0.5 <= 16 else -1)
    assert (y == 1).sum((1, 2)).tolist()[0] == 13
    assert torch.equal(y[0], labels(17)[0])
    assert not (y[3] == 1).any()
    torch.testing.assert_close(weights, torch.full((4, 17, 17), 1 / 289))
    balanced = shifted_labels(truth, regions, balanced=True)[1]
    assert balanced.isfinite().all()
    assert (balanced * (y == 1)).sum((1, 2))[:3].tolist() == pytest.approx([0.5, 0.5, 0.5])
    assert (balanced * (y == -1)).sum((1, 2)).tolist() == pytest.approx([0.5] * 4)


@pytest.fixture(scope="module")
def batch():
    """Two clips of three frames: a rendered sequence forwards, and backwards."""
    sequence = load_dataset("rendered")[0]
    images = torch.stack([torch.from_numpy(sequence.frames[t]) for t in range(3)])
    boxes = torch.tensor(sequence.boxes[:3]).float()
    return {"images": torch.stack([images, images.flip(0)]), "boxes": torch.stack([boxes, boxes.flip(0)])}


def test_clip_loss_is_the_sum_over_frames(batch):
    """Eq. 10 from the maps that tracking shows."""
    net, wanted = random_net().requires_grad_(False), 0.0
    tracker = DSiamTracker(net, replace(DSIAM, scales=1))
    tracker.keep_maps = True
    for images, boxes in zip(batch["images"].permute(0, 1, 4, 2, 3), batch["boxes"], strict=True):
        frames = [Frames([image], [0], [("clip", t)]) for t, image in enumerate(images)]
        state = tracker.init(frames[0], boxes[:1])
        for frame, truth in zip(frames[1:], boxes[1:, None], strict=True):
            state, output = tracker.track(state, frame)
            y, weights = shifted_labels(truth, output.regions)
            wanted += float(logistic_loss(output.maps["response"], y, weights)) / 2
    assert float(clip_loss(net, batch)) == pytest.approx(wanted, rel=1e-4)


def gradients(net, batch, **settings):
    net.zero_grad()
    clip_loss(net, batch, **settings).backward()
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


def test_gradients_reach_everything_and_the_written_out_ones_are_autograd_s(batch):
    net = random_net().train()
    plain = gradients(net, batch)
    exact = gradients(net, batch, config=replace(DSIAM, scales=1, gradient="exact"))
    assert plain.keys() == exact.keys() == dict(net.named_parameters()).keys()
    for name, g in plain.items():
        assert g.norm() > 0
        assert (exact[name] - g).norm() < 1e-3 * g.norm()


def test_without_time_gradients_leave_out_what_the_last_frame_taught(batch):
    net = random_net().train()
    whole, cut = gradients(net, batch), gradients(net, batch, through_time=False)
    key = "base.backbone.conv5.0.weight"
    with torch.no_grad():
        assert float(clip_loss(net, batch, through_time=False)) == pytest.approx(float(clip_loss(net, batch)))
    assert (cut[key] - whole[key]).norm() > 0.01 * whole[key].norm()
    torch.testing.assert_close(cut["rho_v"], whole["rho_v"], rtol=1e-3, atol=1e-8)


def test_threshold_of_features_without_a_bias():
    """The least mean loss of scores minus t, on a grid."""
    net = load_siamfc("siamfc-quarter")
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 256, (2, 2, 239, 239, 3), generator=generator, dtype=torch.uint8)
    pairs = [{"z": of[:, 56:183, 56:183], "x": of} for of in x]
    found = calibrated_threshold(net, pairs)
    with torch.no_grad():
        scores = torch.cat([net(*(p[k].permute(0, 3, 1, 2).float() for k in "zx")) for p in pairs])

    def loss(t):
        return float(logistic_loss(scores - t, *labels(15)))

    assert loss(found) <= min(loss(found + step) for step in torch.linspace(-2, 2, 41).tolist()) + 1e-6


@pytest.mark.parametrize("without", [None, "base."], ids=["with features", "without"])
@pytest.mark.parametrize("layers", [BOTH, ("conv5",)], ids=["dsiamm", "dsiam"])
def test_a_file_of_joint_training_is_read_back(tmp_path, layers, without):
    net, path = random_net(layers), tmp_path / "mine.safetensors"
    save_weights(net, path, {"base": "siamfc-quarter", "seen": ["a clip"]}, torch.float32, without)
    again = load_dsiam(path, layers)
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in net.state_dict().items() if "tracked" not in k)
    assert not again.training
    tracker = load_tracker("dsiamm" if len(layers) > 1 else "dsiam", path)
    assert tracker.weights_sha != load_tracker(tracker.name, "siamfc-quarter").weights_sha
    assert tracker.seen == ("a clip",)


def test_a_file_without_features_or_their_name(tmp_path):
    save_weights(random_net(), tmp_path / "mine.safetensors", {}, without="base.")
    with pytest.raises(ValueError, match=r"mine\.safetensors: holds no features, and no mine\.json .*`base`"):
        load_tracker("dsiamm", tmp_path / "mine.safetensors")
    (tmp_path / "mine.json").unlink()
    with pytest.raises(ValueError, match=r"mine\.safetensors: holds no features"):
        load_tracker("dsiamm", tmp_path / "mine.safetensors")
    other = {"base": "siamfc-quarter", "base_sha": "of another day"}
    save_weights(load_dsiam("siamfc-quarter"), tmp_path / "mine.safetensors", other, without="base.")
    with pytest.raises(ValueError, match="was trained on other weights than siamfc-quarter are now"):
        load_tracker("dsiam", tmp_path / "mine.safetensors")
    save_weights(random_net(), tmp_path / "mine.safetensors", {"base": "siamfc-quartre"}, without="base.")
    with pytest.raises(FileNotFoundError, match=r"siamfc-quartre: no such weights.*near: siamfc-quarter"):
        load_tracker("dsiamm", tmp_path / "mine.safetensors")


def test_a_file_of_other_layers_is_refused(tmp_path):
    for layers, name in ((BOTH, "dsiam"), (("conv5",), "dsiamm")):
        path = tmp_path / f"for-{name}.safetensors"
        save_weights(random_net(layers), path, {"base": "siamfc-quarter"}, without="base.")
        right = {"dsiam": "dsiamm", "dsiamm": "dsiam"}[name]
        with pytest.raises(ValueError, match=rf"for-{name}\.safetensors: trained for . layers, want .: use {right}$"):
            load_tracker(name, path)
    with pytest.raises(ValueError, match=r"not weights of SiamFC"):
        load_tracker("siamfc-3s", path)


def test_shipped_weights_are_the_shipped_siamfc_s():
    base = load_siamfc("siamfc").state_dict()
    for name, count in (("dsiam", 1), ("dsiamm", 2)):
        tracker = load_tracker(name)
        trained = [k for k, v in tracker.dynamic.base.state_dict().items() if not torch.equal(v, base[k])]
        assert trained == ["bias"]
        assert tracker.dynamic.weights.shape == (count, 17, 17)
        assert set(tracker.seen) >= set(provenance(weights_file("siamfc"))["seen"])


def test_random_weights_are_the_seed_s():
    one, two, other = (load_tracker("dsiam", "random", seed=s).weights_sha for s in (1, 1, 2))
    assert one == two != other

"""DSiam in the training loop: joint training of clips, its resume, what stands still, and the way of its gradients."""

from dataclasses import replace

import pytest
import torch

from trackerlib import dsiam
from trackerlib.data import load_dataset
from trackerlib.data.clips import ClipSampler
from trackerlib.dsiam import DSIAM, DSiam, clip_loss, load_dsiam
from trackerlib.siamfc import SiamFC
from trackerlib.training.loop import FitConfig, fit, read_log

BOTH = ("conv5", "conv4")
LEARNED = ("rho_v", "rho_w", "free")


@pytest.fixture(scope="module")
def clips():
    """Two clips of three frames, again and again: an epoch is one step."""
    sampler = ClipSampler(load_dataset("rendered-train", count=2), length=3, clips=2)
    return [sampler[index] for index in (0, 1)] * 6


@pytest.fixture(scope="module")
def batch(clips):
    return {k: torch.stack([torch.from_numpy(clip[k]) for clip in clips[:2]]) for k in ("images", "boxes")}


def small():
    """A sixteenth of the width, random, with scores as large as a trained network's."""
    net = DSiam(SiamFC(0.0625).initialise(torch.Generator().manual_seed(0)), BOTH, gain=1e-5)
    net.free.data.fill_(0.7)
    return net


def groups(net):
    return [
        {"params": [net.rho_v, net.rho_w, net.free], "weight_decay": 0.0},
        {"params": list(net.base.parameters()), "rate": 0.1},
    ]


def tensors(net):
    return {k: v.clone() for k, v in net.state_dict().items()}


def test_training_lowers_the_loss_of_its_clips_and_leaves_frozen_features_alone(tmp_path, clips, batch):
    """To the bit, under weight decay and momentum; the maps keep their sum, Eq. 9, and lambda stays positive."""
    net = load_dsiam("siamfc-quarter", BOTH)
    net.base.requires_grad_(False)
    before = tensors(net)
    config = FitConfig(epochs=6, steps=1, batch=2, lr=0.1, lr_end=0.1, optimiser="adam", weight_decay=0.1)
    log = fit(net, clip_loss, clips, config, tmp_path, "frozen", groups=groups)
    after = tensors(net)
    assert [k for k in before if not torch.equal(before[k], after[k])] == list(LEARNED)
    assert log["loss"].iloc[-1] < 0.9 * log["loss"].iloc[0]
    with torch.no_grad():
        assert float(clip_loss(net, batch)) < log["loss"].iloc[-1] + 1e-6
    assert (net.weights[0] - 1).abs().min() > 0.01
    torch.testing.assert_close(net.weights.sum(0), torch.ones(17, 17))
    assert (net.lambda_v > 0).all()
    assert (net.lambda_w > 0).all()


def test_a_run_that_is_killed_ends_with_the_same_bits(tmp_path, clips):
    """Features trained too. Killed in the third step, the checkpoint of the second on disk."""
    config = FitConfig(epochs=4, steps=1, batch=2, lr=0.01, lr_end=0.001, optimiser="adam", checkpoint_minutes=0.0)
    calls = []

    def killed(net, batch):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return clip_loss(net, batch)

    whole, resumed = small(), small()
    start = tensors(whole)
    fit(whole, clip_loss, clips, config, tmp_path / "whole", "clips", groups=groups)
    with pytest.raises(KeyboardInterrupt):
        fit(small(), killed, clips, config, tmp_path / "killed", "clips", groups=groups)
    fit(resumed, clip_loss, clips, config, tmp_path / "killed", "clips", groups=groups)
    one, other = tensors(whole), tensors(resumed)
    assert all(torch.equal(one[k], other[k]) for k in one)
    moved = {k for k in one if not torch.equal(one[k], start[k])}
    assert moved >= {*LEARNED, "base.backbone.conv1.0.weight", "base.backbone.conv5.0.weight"}
    losses = [read_log(tmp_path / name)["loss"].tolist() for name in ("whole", "killed")]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("leaf", ["last", "region", "salient"])
def test_gradients_reach_conv1_through_what_was_seen_before(monkeypatch, batch, leaf):
    """O_{t-1}, G_{t-1} or Gbar_{t-1} alone, for all else that makes a response is detached: the search image, O_1, the
    other two. By autograd and the written-out gradients alike; and not where the past is cut off."""

    class Only(dsiam.DSiamTracker):
        def respond(self, state, x):
            others = {"first", "last", "region", "salient"} - {leaf}
            cut = {name: detached(getattr(state, name)) for name in others}
            return super().respond(replace(state, **cut), detached(x))

    def detached(features):
        return {layer: f.detach() for layer, f in features.items()}

    def gradient(**settings):
        net = load_dsiam("siamfc-quarter", BOTH).train()
        clip_loss(net, batch, **settings).backward()
        return net.base.backbone.conv1[0].weight.grad

    monkeypatch.setattr(dsiam, "DSiamTracker", Only)
    found, exact = gradient(), gradient(config=replace(DSIAM, scales=1, gradient="exact"))
    assert found.norm() > 0
    assert (exact - found).norm() < 1e-4 * found.norm()
    assert gradient(through_time=False) is None

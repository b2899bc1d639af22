"""Weights in and out: every published layout gives the same outputs, and nothing else is believed."""

import pickle

import numpy as np
import pytest
import torch

from trackerlib.nn.checkpoints import SIAMFC_V1, load_into, provenance, read_tensors, save_weights
from trackerlib.siamfc import SiamFC, load_siamfc
from trackerlib.trackers import load_tracker


def network(width=0.125):
    net = SiamFC(width).initialise(torch.Generator().manual_seed(0))
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
            torch.nn.init.normal_(module.running_mean)
    return net.eval()


def assert_same_outputs(a, b, tolerance):
    x = torch.rand(1, 3, 255, 255, generator=torch.Generator().manual_seed(1)) * 255
    z = x[:, :, 64:191, 64:191]
    assert (a(z, x) - b(z, x)).abs().max() < tolerance * a(z, x).abs().max()


def matconvnet(net, path):
    """Write siamese-fc's own layout (SPEC 7.1)."""
    savemat = pytest.importorskip("scipy.io").savemat
    params = []
    for i, layer in enumerate(net.backbone, 1):
        conv = layer[0]
        params += [(f"conv{i}f", conv.weight.permute(2, 3, 1, 0)), (f"conv{i}b", conv.bias[:, None])]
        if i < 5:
            bn = layer[1]
            moments = torch.stack([bn.running_mean, (bn.running_var + bn.eps).sqrt()], 1)
            params += [(f"bn{i}m", bn.weight[:, None]), (f"bn{i}b", bn.bias[:, None]), (f"bn{i}x", moments)]
    params += [("adjust_f", torch.full((1, 1), 1e-3)), ("adjust_b", net.bias.reshape(1, 1))]
    records = np.empty((1, len(params)), dtype=[("name", object), ("value", object), ("learningRate", object)])
    for k, (name, value) in enumerate(params):
        records[0, k] = (name, value.detach().numpy(), 1.0)
    savemat(path, {"net": {"params": records, "meta": {}}})


def test_matconvnet_round_trip(tmp_path):
    net = network()
    net.bias.data.fill_(-0.3)
    matconvnet(net, tmp_path / "2016-08-17.net.mat")
    assert_same_outputs(net, load_siamfc(tmp_path / "2016-08-17.net.mat"), 1e-5)


def test_siamfc_pytorch_v2(tmp_path):
    """30 keys, no adjust bias; the number of convolution and batch-norm entries is the published one."""
    net = network()
    state = {k: v for k, v in net.state_dict().items() if k != "bias"}
    assert len(state) == 30
    torch.save(state, tmp_path / "siamfc_alexnet_e50.pth")
    assert_same_outputs(net, load_siamfc(tmp_path / "siamfc_alexnet_e50.pth"), 1e-6)


def test_siamfc_pytorch_v1_names_are_a_bijection(tmp_path):
    net = network()
    assert len(set(SIAMFC_V1.values())) == len(SIAMFC_V1) == 9
    old = {v: k for k, v in SIAMFC_V1.items()}
    state = {}
    for key, value in net.state_dict().items():
        for new, was in old.items():
            if key.startswith(new):
                state[was + key.removeprefix(new)] = value
    assert len(state) == 30
    torch.save(state, tmp_path / "model.pth")
    assert_same_outputs(net, load_siamfc(tmp_path / "model.pth"), 1e-6)


def test_our_files_round_trip_in_half_precision(tmp_path):
    net = network()
    save_weights(net, tmp_path / "w.safetensors", {"seen": ["Car1"]})
    assert_same_outputs(net, load_siamfc(tmp_path / "w.safetensors"), 5e-3)
    assert provenance(tmp_path / "w.safetensors")["seen"] == ["Car1"]
    tracker = load_tracker("siamfc-3s", weights=tmp_path / "w.safetensors")
    assert tracker.seen == ("Car1",)
    assert len(tracker.weights_sha) == 64


class Bomb:
    def __reduce__(self):
        return (open, ("exploded", "w"))


@pytest.mark.parametrize("name", ["evil.pth", "evil.safetensors"])
def test_a_disguised_pickle_is_refused_and_not_run(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ValueError, match=name):
        read_tensors(tmp_path / name)
    assert not (tmp_path / "exploded").exists()


def test_weights_of_another_shape_name_the_tensor(tmp_path):
    save_weights(torch.nn.Linear(3, 3), tmp_path / "linear.safetensors", {})
    with pytest.raises(ValueError, match="no convolution"):
        load_siamfc(tmp_path / "linear.safetensors")
    net = network()
    tensors = dict(net.state_dict())
    tensors["backbone.conv3.0.weight"] = torch.zeros(1, 2, 3, 3)
    with pytest.raises(ValueError, match=r"conv3\.0\.weight is \(1, 2, 3, 3\), want"):
        load_into(SiamFC(0.125), tensors, "w")
    del tensors["backbone.conv3.0.weight"]
    with pytest.raises(ValueError, match=r"lacks backbone\.conv3\.0\.weight"):
        load_into(SiamFC(0.125), tensors, "w")


def test_missing_and_unknown_names():
    with pytest.raises(FileNotFoundError, match="no such weights file"):
        load_siamfc("nowhere.safetensors")
    with pytest.raises(ValueError, match="siamfc-3s"):
        load_tracker("siamfc3s")
    with pytest.raises(ValueError, match="module:Class"):
        load_tracker("no.such.module:Class")


def test_damaged_provenance_is_named(tmp_path):
    (tmp_path / "w.json").write_text('{"seen": [\n')
    with pytest.raises(ValueError, match=r"w\.json, line 2: .*; copy it again, or delete it"):
        provenance(tmp_path / "w.safetensors")

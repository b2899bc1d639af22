"""SqueezeNet: published counts, torchvision's names, and the vector that SiaMemory takes."""

import math

import pytest
import torch

from trackerlib.images import whole_frame
from trackerlib.nn.checkpoints import save_weights
from trackerlib.nn.norms import normed, plain
from trackerlib.nn.squeezenet import (
    FEATURES,
    Fire,
    SqueezeNet,
    class_loss,
    load_squeezenet,
)


def count(module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("version", "whole", "trunk"), [("1.0", 1_248_424, 735_424), ("1.1", 1_235_496, 722_496)])
def test_published_parameter_counts(version, whole, trunk):
    net = SqueezeNet(version)
    assert (count(net), count(net.features)) == (whole, trunk)


@pytest.mark.parametrize(
    ("version", "fires"), [("1.0", [3, 4, 5, 7, 8, 9, 10, 12]), ("1.1", [3, 4, 6, 7, 9, 10, 11, 12])]
)
def test_names_are_torchvision_s(version, fires):
    net = SqueezeNet(version, width=0.125)
    assert [i for i, layer in enumerate(net.features) if isinstance(layer, Fire)] == fires
    keys = set(net.state_dict())
    parts = [f"{part}.{kind}" for part in ("squeeze", "expand1x1", "expand3x3") for kind in ("weight", "bias")]
    assert keys == {f"features.{i}.{part}" for i in fires for part in parts} | {
        f"{layer}.{kind}" for layer in ("features.0", "classifier.1") for kind in ("weight", "bias")
    }
    assert len(keys) == 52


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_sizes_of_the_trunk_and_of_the_vector(version):
    net = SqueezeNet(version).initialise(torch.Generator().manual_seed(0)).eval()
    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(1)) * 255
    with torch.inference_mode():
        fire9, vector, scores = net.trunk(images), net.vector(images), net(images)
    assert (fire9.shape, vector.shape, scores.shape) == ((2, 512, 13, 13), (2, FEATURES), (2, 1000))
    torch.testing.assert_close(vector[:, :512], fire9.mean((2, 3)))
    torch.testing.assert_close(vector[:, 512:], fire9.amax((2, 3)))


def test_other_readings_of_the_vector():
    """M3: the means of both halves of fire9, one after the other, and those of the whole."""
    net = SqueezeNet("1.1", 5, 0.25).initialise(torch.Generator().manual_seed(0)).eval()
    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(1)) * 255
    with torch.inference_mode():
        fire9, halves, mean = net.trunk(images), net.vector(images, "halves"), net.vector(images, "mean")
    torch.testing.assert_close(mean, fire9.mean((2, 3)))
    assert halves.shape == (2, 256)
    torch.testing.assert_close(halves[:, :128], fire9[..., :7].mean((2, 3)))  # 13 columns: the middle one counts twice
    torch.testing.assert_close(halves[:, 128:], fire9[..., 6:].mean((2, 3)))


def test_norms_fold_away_into_squeezenet_s_own_layers():
    own = SqueezeNet("1.1", 5, 0.25).initialise(torch.Generator().manual_seed(0))
    net, images = normed(own), torch.rand(4, 3, 96, 96, generator=torch.Generator().manual_seed(1)) * 255
    net.train()
    for _ in range(3):  # statistics other than 0 and 1
        net(images)
    back = plain(net)
    assert back.state_dict().keys() == own.state_dict().keys()
    assert sum(isinstance(m, torch.nn.BatchNorm2d) for m in net.modules()) == 25  # the stem's and three a Fire
    with torch.inference_mode():
        torch.testing.assert_close(back(images), net.eval()(images), rtol=1e-3, atol=1e-5)
        assert not torch.allclose(back(images), own.eval()(images))


def test_the_loss_of_no_knowledge_is_the_logarithm_of_the_classes():
    net = SqueezeNet("1.1", 5, 0.25).initialise(torch.Generator().manual_seed(0)).eval()
    net.classifier[1].weight.data.zero_()
    batch = {"x": torch.randint(0, 256, (3, 64, 64, 3)), "y": torch.tensor([0, 2, 4])}
    assert class_loss(net, batch).item() == pytest.approx(math.log(5))
    net.classifier[1].bias.data.copy_(torch.tensor([-9.0, 9, -9, -9, -9]))  # a ReLU would make 0 of four of them
    assert class_loss(net, batch).item() == pytest.approx(18, abs=1e-3)


def test_images_are_normalised_as_imagenet_s():
    net = SqueezeNet("1.1", width=0.125)
    mean = torch.tensor([0.485, 0.456, 0.406]) * 255
    seen = {}
    net.features[0].register_forward_pre_hook(lambda _, given: seen.update(x=given[0]))
    net.trunk((mean + torch.tensor([0.229, 0.224, 0.225]) * 255)[None, :, None, None].expand(1, 3, 64, 64))
    torch.testing.assert_close(seen["x"], torch.ones(1, 3, 64, 64))


def test_a_frame_of_any_size_becomes_the_input():
    image = torch.full((3, 123, 457), 77, dtype=torch.uint8)
    assert whole_frame(image).shape == (1, 3, 224, 224)
    torch.testing.assert_close(whole_frame(image), torch.full((1, 3, 224, 224), 77.0))


@pytest.mark.parametrize(("version", "width", "classes"), [("1.0", 0.25, 12), ("1.1", 0.125, 7)])
def test_a_file_tells_its_version_width_and_classes(tmp_path, version, width, classes):
    net = SqueezeNet(version, classes, width).initialise(torch.Generator().manual_seed(0)).eval()
    save_weights(net, tmp_path / "net.safetensors", {}, torch.float32)
    back = load_squeezenet(tmp_path / "net.safetensors")
    assert (back.version, back.width, back.classifier[1].out_channels) == (version, width, classes)
    x = torch.rand(1, 3, 224, 224) * 255
    assert torch.equal(back(x), net(x))
    torch.save(net.state_dict(), tmp_path / "net.pth")  # as torchvision's own files are
    assert torch.equal(load_squeezenet(tmp_path / "net.pth")(x), net(x))


def test_other_files_are_refused(tmp_path):
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "cut.pth")
    with pytest.raises(ValueError, match="not weights of SqueezeNet: no features"):
        load_squeezenet(tmp_path / "cut.pth")
    with pytest.raises(ValueError, match=r"SqueezeNet is '1\.0' or"):
        SqueezeNet("1.2")

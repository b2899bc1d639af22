"""VGG-19's trunk: torchvision's layout and numbers, its two taps, and what the loader refuses (SPEC 3.1, 7.3, A.4)."""

import pytest
import torch
import torch.nn.functional as F

from trackerlib.nn.checkpoints import save_weights
from trackerlib.nn.vgg import VGG19, load_vgg19

# Written out from SPEC 7.3 and A.4, convolution by convolution: index, inputs, outputs.
CONVOLUTIONS = (
    *((0, 3, 64), (2, 64, 64), (5, 64, 128), (7, 128, 128), (10, 128, 256), (12, 256, 256), (14, 256, 256)),
    *((16, 256, 256), (19, 256, 512), (21, 512, 512), (23, 512, 512), (25, 512, 512)),
    *((28, 512, 512), (30, 512, 512), (32, 512, 512), (34, 512, 512)),
)
TRUNK = {f"features.{i}.weight": (outputs, inputs, 3, 3) for i, inputs, outputs in CONVOLUTIONS}
TRUNK |= {f"features.{i}.bias": (outputs,) for i, _, outputs in CONVOLUTIONS}
CLASSIFIER = {
    **{"classifier.0.weight": (4096, 25088), "classifier.0.bias": (4096,), "classifier.3.weight": (4096, 4096)},
    **{"classifier.3.bias": (4096,), "classifier.6.weight": (1000, 4096), "classifier.6.bias": (1000,)},
}
WANTED = r"vgg19-dcbb9e9d\.pth .*torchvision\.models\.vgg19\(weights=\"IMAGENET1K_V1\"\)\.state_dict\(\) saved with"


def network(width=0.125):
    net = VGG19(width).initialise(torch.Generator().manual_seed(0)).eval()
    generator = torch.Generator().manual_seed(1)
    for layer in net.features:  # biases that a wrong order would show
        if isinstance(layer, torch.nn.Conv2d):
            layer.bias.data.normal_(generator=generator)
    return net


def pictures(size, count=1):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(2)) * 255


def blank(shapes):
    """Tensors of the given shapes that hold one zero each: a file of 143 million parameters in a few kilobytes."""
    return {k: torch.zeros(()).expand(shape) for k, shape in shapes.items()}


def shapes_of(module):
    return {k: tuple(v.shape) for k, v in module.state_dict().items()}


def torchvision_vgg19():
    """Its network, without weights; a torchvision built for another torch raises RuntimeError on import."""
    try:
        from torchvision.models import vgg19
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"torchvision cannot be imported: {error}")
    return vgg19()


def test_the_layout_is_torchvisions():
    net = VGG19()
    assert shapes_of(net) == TRUNK
    assert sum(p.numel() for p in net.parameters()) == 20_024_384


@pytest.mark.parametrize(("size", "conv4", "conv5"), [(127, 15, 7), (255, 31, 15), (224, 28, 14)])
def test_map_sizes(size, conv4, conv5):
    """The pooling rounds down, unlike MatConvNet's (16 and 8 of 127)."""
    maps = network().layers(pictures(size, 2))
    assert list(maps) == ["conv4", "conv5"]
    assert maps["conv4"].shape == (2, 64, conv4, conv4)
    assert maps["conv5"].shape == (2, 64, conv5, conv5)


def test_taps_are_relu4_4_and_relu5_4_of_a_network_written_out():
    """A.4 by torch's functions and parameter names alone, on torchvision's normalised images."""
    net = network()
    state = net.state_dict()
    means, deviations = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
    images = pictures(127)
    x = torch.stack([(images[:, c] - means[c]) / deviations[c] for c in range(3)], 1)
    relu = {}
    for i, _, _ in CONVOLUTIONS:
        if i in (5, 10, 19, 28):
            x = F.max_pool2d(x, 2)
        x = F.conv2d(x, state[f"features.{i}.weight"], state[f"features.{i}.bias"], padding=1).relu()
        relu[i + 1] = x
    maps = net.layers(images)
    torch.testing.assert_close(maps["conv4"], relu[26], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(maps["conv5"], relu[35], rtol=1e-4, atol=1e-5)
    assert maps["conv4"].amin() == maps["conv5"].amin() == 0  # after the ReLU, and it did cut


def test_equals_torchvision(tmp_path):
    theirs = torchvision_vgg19().eval()
    torch.save(theirs.state_dict(), tmp_path / "vgg19.pth")
    images = pictures(127)
    means, deviations = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
    with torch.inference_mode():
        x = (images / 255 - means) / deviations
        maps = load_vgg19(tmp_path / "vgg19.pth").layers(images)
        torch.testing.assert_close(maps["conv4"], theirs.features[:27](x))
        torch.testing.assert_close(maps["conv5"], theirs.features[:36](x))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_inference_copies_agree(dtype, tolerance):
    images = pictures(127)
    expected = network().layers(images)
    fast = network().requires_grad_(False).to(dtype=dtype, memory_format=torch.channels_last)
    found = fast.layers(images.to(dtype, memory_format=torch.channels_last))
    for name, maps in found.items():
        assert maps.dtype == dtype
        assert maps.is_contiguous(memory_format=torch.channels_last)
        assert (maps - expected[name]).norm() < tolerance * expected[name].norm()


def test_initialise_is_torchvisions_start_and_repeats():
    one, two = (VGG19().initialise(torch.Generator().manual_seed(7)).state_dict() for _ in range(2))
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert one["features.19.weight"].std() == pytest.approx((2 / (9 * 512)) ** 0.5, rel=0.01)
    assert not any(v.any() for k, v in one.items() if k.endswith("bias"))


def test_a_complete_torchvision_file_loads(tmp_path):
    complete = blank(TRUNK | CLASSIFIER)
    assert (len(complete), sum(v.numel() for v in complete.values())) == (38, 143_667_240)
    for k, (name, shape) in enumerate(TRUNK.items()):
        complete[name] = torch.tensor(float(k)).expand(shape)
    torch.save(complete, tmp_path / "vgg19.pth")
    net = load_vgg19(tmp_path / "vgg19.pth")
    assert not net.training
    assert all(torch.equal(v, complete[k]) for k, v in net.state_dict().items())


def test_a_trunks_own_file_loads_at_its_width(tmp_path):
    save_weights(network(0.25), tmp_path / "narrow.safetensors", {})
    net = load_vgg19(tmp_path / "narrow.safetensors")
    assert net.width == 0.25
    images = pictures(64)
    for found, expected in zip(net.layers(images).values(), network(0.25).layers(images).values(), strict=True):
        assert (found - expected).norm() < 0.01 * expected.norm()


VGG16 = {k: s for k, s in TRUNK.items() if int(k.split(".")[1]) < 16} | {"features.17.weight": (512, 256, 3, 3)}
WITH_NORM = {k: s for k, s in TRUNK.items() if k.startswith("features.0.")} | {"features.1.running_mean": (64,)}
NARROW_LAST = TRUNK | {"features.34.weight": (256, 512, 3, 3)}
NO_LAST_LAYER = {k: s for k, s in CLASSIFIER.items() if not k.startswith("classifier.6")}


@pytest.mark.parametrize(
    ("shapes", "complaint"),
    [
        (VGG16 | CLASSIFIER, r"lacks features\.16\.bias; has an unknown features\.17\.weight"),
        (WITH_NORM | CLASSIFIER, r"lacks .*has an unknown features\.1\.running_mean"),
        ({"backbone.conv1.0.weight": (96, 3, 11, 11)}, r"lacks features\.0\.bias; has an unknown backbone\.conv1"),
        (NARROW_LAST, r"features\.34\.weight is \(256, 512, 3, 3\), want \(512, 512, 3, 3\)"),
        (TRUNK | NO_LAST_LAYER, r"classifier\.6\.bias is missing, unknown or misshapen"),
        (TRUNK | CLASSIFIER | {"classifier.6.weight": (10, 4096)}, r"classifier\.6\.weight is missing, unknown or"),
        (TRUNK | CLASSIFIER | {"fc.weight": (2,)}, r"has an unknown fc\.weight"),
        ({}, r"lacks features\.0\.bias"),
    ],
    ids=["vgg16", "vgg19_bn", "siamfc", "misshapen", "half a classifier", "ten classes", "one more", "empty"],
)
def test_another_file_is_refused_with_what_it_lacks_and_what_is_wanted(tmp_path, shapes, complaint):
    torch.save(blank(shapes), tmp_path / "other.pth")
    with pytest.raises(ValueError, match=rf"other\.pth: not .*{complaint}.*\. Wanted: {WANTED}"):
        load_vgg19(tmp_path / "other.pth")


def test_a_whole_pickled_model_and_a_missing_file(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "model.pth")
    with pytest.raises(ValueError, match=rf"model\.pth: refused, it holds more than tensors.*{WANTED}"):
        load_vgg19(tmp_path / "model.pth")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth: no such weights file"):
        load_vgg19(tmp_path / "nowhere.pth")

"""SqueezeNet 1.0 and 1.1 (F. N. Iandola et al. 2016), and the global vector that SiaMemory takes from it."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .checkpoints import load_into, read_tensors, weights_file
from .vgg import MEAN, STD

FIRES = (
    (16, 64),
    (16, 64),
    (32, 128),
    (32, 128),
    (48, 192),
    (48, 192),
    (64, 256),
    (64, 256),
)  # squeeze, expand: 2 to 9
STEM = {"1.0": (96, 7), "1.1": (64, 3)}  # channels and kernel of the first convolution
POOLED = {"1.0": (0, 3, 7), "1.1": (0, 2, 4)}  # a pooling comes after so many of the fires
FEATURES = 1024
VECTORS = ("mean-max", "halves", "mean")


class Fire(nn.Module):
    """A 1 x 1 convolution that squeezes, and a 1 x 1 and a 3 x 3 one, side by side, that expand."""

    def __init__(self, inputs: int, squeeze: int, expand: int):
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(x).relu(), self.expand3x3(x).relu()], 1)


class SqueezeNet(nn.Module):
    """Trunk and classifier: 1,248,424 parameters in version 1.0, 1,235,496 in 1.1, at width 1 and 1000 classes; the
    trunk alone 735,424 and 722,496.

    Parameter names are torchvision's (`features.3.squeeze.weight`, `classifier.1.weight`). width multiplies every
    channel count."""

    def __init__(self, version: str = "1.0", classes: int = 1000, width: float = 1.0):
        super().__init__()
        if version not in STEM:
            raise ValueError(f"SqueezeNet is '1.0' or '1.1', not {version!r}")
        self.version, self.width = version, width
        channels, kernel = round(STEM[version][0] * width), STEM[version][1]
        layers: list[nn.Module] = [nn.Conv2d(3, channels, kernel, stride=2), nn.ReLU(inplace=True)]
        for i, (squeeze, expand) in enumerate(FIRES):
            if i in POOLED[version]:
                layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
            layers.append(Fire(channels, round(squeeze * width), round(expand * width)))
            channels = 2 * round(expand * width)
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Dropout(0.5), nn.Conv2d(channels, classes, 1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1)
        )
        self.register_buffer("mean", 255 * torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", 255 * torch.tensor(STD)[:, None, None], persistent=False)

    def initialise(self, generator: torch.Generator) -> SqueezeNet:
        """He-uniform weights, N(0, 0.01) in the last convolution, zero biases: torchvision's own start."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                if module is self.classifier[1]:
                    nn.init.normal_(module.weight, 0, 0.01, generator=generator)
                else:
                    nn.init.kaiming_uniform_(module.weight, generator=generator)
                nn.init.zeros_(module.bias)
        return self

    def trunk(self, images: Tensor) -> Tensor:
        """fire9 `(B, 512, 13, 13)` of RGB images `(B, 3, 224, 224)` in 0..255."""
        return self.features(((images - self.mean) / self.std).to(next(self.parameters()).dtype))

    def forward(self, images: Tensor) -> Tensor:
        """Class scores `(B, classes)`."""
        return self.classifier(self.trunk(images)).flatten(1)

    def vector(self, images: Tensor, kind: str = "mean-max") -> Tensor:
        """SiaMemory's cnn_fea, `(B, 1024)` at width 1. No layer has the 1024 numbers that the paper speaks of (M3):

        "mean-max": mean and maximum of fire9 over the image, one after the other; "halves": the means of its left and
        its right half; "mean": the 512 means, of which a trained layer may make 1024."""
        x = self.trunk(images)
        if kind == "mean-max":
            return torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1).float()
        columns = {"halves": 2, "mean": 1}[kind]
        return F.adaptive_avg_pool2d(x, (1, columns)).flatten(2).mT.flatten(1).float()


def class_loss(net: SqueezeNet, batch: dict[str, Tensor]) -> Tensor:
    """Cross-entropy of images `x (B, H, W, 3)` and their classes `y (B,)`.

    On the scores before the last ReLU: from few images it dies in the first steps, and no gradient comes back."""
    maps = net.classifier[:2](net.trunk(batch["x"].permute(0, 3, 1, 2).float()))
    return F.cross_entropy(maps.mean((2, 3)).float(), batch["y"])


def load_squeezenet(path: str | Path) -> SqueezeNet:
    """A file of torchvision's squeezenet1_0 or squeezenet1_1 (52 tensors), or of ours of any width and classes.

    Raises FileNotFoundError, and ValueError for any other file."""
    path = weights_file(path)
    return squeezenet_of(read_tensors(path), str(path))


def squeezenet_of(tensors: dict[str, Tensor], name: str) -> SqueezeNet:
    """The network with these tensors, of their version, width and classes. Raises ValueError, naming `name`."""
    first, last = tensors.get("features.0.weight"), tensors.get("classifier.1.weight")
    if first is None or last is None or first.ndim != 4:
        raise ValueError(f"{name}: not weights of SqueezeNet: no features.0.weight or classifier.1.weight")
    version = "1.0" if first.shape[-1] == STEM["1.0"][1] else "1.1"
    net = SqueezeNet(version, len(last), len(first) / STEM[version][0])
    load_into(net, tensors, name)
    return net.eval()

"""ResNet-50 (K. He et al., CVPR 2016), its blocks and names as torchvision has them: the stride in the 3 x 3 layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .vgg import MEAN, STD

STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))  # of each: planes, blocks, stride of the first block


def conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)


class Bottleneck(nn.Module):
    """A 1 x 1 layer that narrows to `planes`, a 3 x 3 one, a 1 x 1 one that widens to four times as many, and a way
    around them."""

    expansion = 4

    def __init__(self, inputs: int, planes: int, stride: int = 1):
        super().__init__()
        outputs = self.expansion * planes
        self.conv1, self.bn1 = nn.Conv2d(inputs, planes, 1, bias=False), nn.BatchNorm2d(planes)
        self.conv2, self.bn2 = conv3x3(planes, planes, stride), nn.BatchNorm2d(planes)
        self.conv3, self.bn3 = nn.Conv2d(planes, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        if stride > 1 or inputs != outputs:
            around = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(around, nn.BatchNorm2d(outputs))
        else:
            self.downsample = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x)).relu_()
        y = self.bn2(self.conv2(y)).relu_()
        return (self.bn3(self.conv3(y)) + self.downsample(x)).relu_()


class BasicBlock(nn.Module):
    """Two 3 x 3 layers, and the identity around them."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1, self.bn1 = conv3x3(channels, channels), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = conv3x3(channels, channels), nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x)).relu_()
        return (self.bn2(self.conv2(y)) + x).relu_()


def bottlenecks(inputs: int, planes: int, blocks: int, stride: int = 1) -> nn.Sequential:
    """A stage: `blocks` of them, the first with the stride."""
    first = Bottleneck(inputs, planes, stride)
    return nn.Sequential(first, *(Bottleneck(planes * Bottleneck.expansion, planes) for _ in range(blocks - 1)))


class ResNet50(nn.Module):
    """Stem, `layer1` to `layer4`, classifier: 25,557,032 parameters at width 1 and 1000 classes; 8,543,296 to the end
    of `layer3` (1024 channels, stride 16), 14,964,736 in `layer4`.

    classes: 0: without the classifier
    width:   multiplies every channel count"""

    def __init__(self, classes: int = 1000, width: float = 1.0):
        super().__init__()
        self.width, channels = width, round(64 * width)
        self.conv1, self.bn1 = nn.Conv2d(3, channels, 7, 2, 3, bias=False), nn.BatchNorm2d(channels)
        for k, (planes, blocks, stride) in enumerate(STAGES, 1):
            stage = bottlenecks(channels, round(planes * width), blocks, stride)
            self.add_module(f"layer{k}", stage)
            channels = stage[-1].conv3.out_channels
        self.fc = nn.Linear(channels, classes) if classes else nn.Identity()

    def initialise(self, generator: torch.Generator) -> ResNet50:
        """He's (2015) as torchvision: normal, by a layer's outputs; norms 1 and 0."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
        if isinstance(self.fc, nn.Linear):
            nn.init.normal_(self.fc.weight, 0, 0.01, generator=generator)
            nn.init.zeros_(self.fc.bias)
        return self

    def trunk(self, images: Tensor) -> Tensor:
        """`(B, 3, H, W)` RGB in 0..255 to the fourth stage's map `(B, 1024 width, H / 16, W / 16)`, sides rounded
        up."""
        mean, deviation = (images.new_tensor(v)[:, None, None] for v in (MEAN, STD))
        x = self.bn1(self.conv1((images / 255 - mean) / deviation)).relu_()
        x = nn.functional.max_pool2d(x, 3, 2, 1)
        return self.layer3(self.layer2(self.layer1(x)))

    def forward(self, images: Tensor) -> Tensor:
        """Class scores `(B, classes)`, or without a classifier the mean of the last map `(B, 2048)`."""
        return self.fc(self.layer4(self.trunk(images)).mean((2, 3)))

"""VGG-19 without its classifier (Simonyan and Zisserman 2015, configuration E), for DSiamM-VGG19."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from .checkpoints import load_into, read_tensors, weights_file

BLOCKS = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))  # channels and convolutions of each; pooling between them
RELU4_4 = 26  # where it stands in `features`, which end with relu5_4 at 35
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, for RGB in 0..1
CLASSIFIER = {  # of torchvision's files: not used, but part of what such a file is known by
    f"classifier.{i}.{part}": shape
    for i, outputs, inputs in ((0, 4096, 512 * 7 * 7), (3, 4096, 4096), (6, 1000, 4096))
    for part, shape in (("weight", (outputs, inputs)), ("bias", (outputs,)))
}


class VGG19(nn.Module):
    """The sixteen 3 x 3 convolutions up to relu5_4; 20,024,384 parameters at width 1.

    width: multiplies every channel count
    Parameter names are torchvision's (`features.0.weight`)."""

    def __init__(self, width: float = 1.0):
        super().__init__()
        layers, inputs = [], 3
        for channels, convolutions in BLOCKS:
            outputs = round(channels * width)
            for _ in range(convolutions):
                layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True)]
                inputs = outputs
            layers.append(nn.MaxPool2d(2))
        self.width = width
        self.features = nn.Sequential(*layers[:-1])  # the last pooling comes after relu5_4
        self.register_buffer("mean", 255 * torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", 255 * torch.tensor(STD)[:, None, None], persistent=False)

    def initialise(self, generator: torch.Generator) -> VGG19:
        """N(0, 2 / (9 out)) weights and zero biases, torchvision's own start, from the given generator."""
        for layer in self.features:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu", generator=generator)
                nn.init.zeros_(layer.bias)
        return self

    def layers(self, images: Tensor, tap: str = "relu") -> dict[str, Tensor]:
        """relu4_4 and relu5_4 of RGB images `(B, 3, H, W)` in 0..255, at strides 8 and 16.

        "conv4" `(B, 512, H // 8, W // 8)`: 127 to 15, 255 to 31; "conv5" `(B, 512, H // 16, W // 16)`: to 7 and 15.
        tap: "linear" gives conv4 before its ReLU. Images are normalised as torchvision's weights want. The DSiam
        release subtracts MatConvNet's averageImage and does not divide, for other weights: constants tuned to its
        activations (gain 1e-8) say nothing about these."""
        x = ((images - self.mean) / self.std).to(self.features[0].weight.dtype)
        before = self.features[:RELU4_4](x)
        conv4 = before.relu()
        return {"conv4": conv4 if tap == "relu" else before, "conv5": self.features[RELU4_4 + 1 :](conv4)}


def load_vgg19(path: str | Path) -> VGG19:
    """The trunk of torchvision's vgg19 file (38 tensors, 143,667,240 parameters), or a trunk's own file of any width.

    Raises FileNotFoundError, and ValueError for any other file: one tensor more, less or of another shape."""
    path = weights_file(path)
    try:
        tensors = read_tensors(path)
        classifier = {k: tuple(tensors.pop(k).shape) for k in list(tensors) if k.startswith("classifier.")}
        first = tensors.get("features.0.bias")
        net = VGG19(1.0 if first is None else first.numel() / 64)
        load_into(net, tensors, str(path))
        if classifier not in ({}, CLASSIFIER):
            odd = min(k for k, _ in classifier.items() ^ CLASSIFIER.items())
            raise ValueError(f"{path}: not torchvision's vgg19: {odd} is missing, unknown or misshapen")
    except ValueError as error:
        raise ValueError(
            f"{error}. Wanted: vgg19-dcbb9e9d.pth from https://download.pytorch.org/models/, which is "
            'torchvision.models.vgg19(weights="IMAGENET1K_V1").state_dict() saved with torch.save'
        ) from None
    return net.eval()

"""YOLO v1: J. Redmon et al., *You only look once: unified, real-time object detection* (CVPR 2016).

One pass over the whole frame divides it into S x S cells. Each says of which class what is centred in it would be, and
offers a few boxes, each with a confidence. ROLO takes the boxes, and the last hidden layer as features of the frame.

Layers are those of darknet's yolov1/yolo-small.cfg, which ROLO uses, and yolov1.cfg; numbers that the paper leaves out
are theirs (parser.c, detection_layer.c, crop_layer.c).
"""

from __future__ import annotations

import copy
import struct
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import boxes as B
from ..provenance import write_bytes
from .checkpoints import load_into, read_tensors, weights_file
from .norms import normed
from .roi import nms

INPUT, STRIDE, SLOPE = 448, 64, 0.1  # pixels a side; of a cell; of leaky ReLU
MIDDLE = 127.5, 127.5  # taken from a pixel, and what it is divided by
POOL = (0, 0, 0)
CONVS = (  # outputs, kernel, stride
    (64, 7, 2), POOL, (192, 3, 1), POOL, (128, 1, 1), (256, 3, 1), (256, 1, 1), (512, 3, 1), POOL,
    *((256, 1, 1), (512, 3, 1)) * 4, (512, 1, 1), (1024, 3, 1), POOL,
    *((512, 1, 1), (1024, 3, 1)) * 2, (1024, 3, 1), (1024, 3, 2), (1024, 3, 1), (1024, 3, 1),
)  # fmt: skip
PRETRAINED = 20  # of the 24 convolutions: those that learn to classify before they learn to detect
HIDDEN = {"small": (512, 4096), "cvpr": (4096,), "v1": ()}  # fully connected layers before the last


class LocalConv(nn.Module):
    """A 3 x 3 convolution with weights of its own at each place, darknet's [local]; pad 1."""

    def __init__(self, inputs: int, outputs: int, side: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(side * side, outputs, inputs, 9))
        self.bias = nn.Parameter(torch.zeros(outputs, side, side))

    def forward(self, x: Tensor) -> Tensor:
        patches = F.unfold(x, 3, padding=1)  # (B, inputs * 9, side * side)
        return torch.einsum("bip,poi->bop", patches, self.weight.flatten(2)).reshape(-1, *self.bias.shape) + self.bias


class YOLO(nn.Module):
    """The detector; parameters at full size: "small" 93,970,430, "cvpr" 271,703,550, of which 60,155,968 in the 24
    convolutions that they share, and "v1" 197,301,875.

    variant:  "small", ROLO's; "cvpr", the paper's: one hidden layer; "v1", of the weights that can be had today: batch
              norm, a locally connected layer, no hidden one
    width:    multiplies all channel counts, and the hidden layers unless `hidden` gives their sizes, the last being
              that of the features
    input:    pixels a side of the square that a frame is resized to; a cell has 64
    boxes:    that a cell offers; 2, "v1" 3"""

    def __init__(
        self,
        variant: str = "small",
        width: float = 1.0,
        input: int = INPUT,
        classes: int = 20,
        hidden: Sequence[int] = (),
        boxes: int | None = None,
    ):
        super().__init__()
        if variant not in HIDDEN:
            raise ValueError(f"YOLO is {', '.join(HIDDEN)}, not {variant!r}")
        if input % STRIDE:
            raise ValueError(f"input is a multiple of {STRIDE} pixels, a cell's, not {input}")
        self.variant, self.width, self.input, self.classes = variant, width, input, classes
        self.grid, self.boxes = input // STRIDE, boxes or (3 if variant == "v1" else 2)
        self.features, channels = convolutions(width), round(1024 * width)
        head: list[nn.Module] = []
        if variant == "v1":
            self.features = normed(self).features
            for conv, norm in (layer for layer in self.features if isinstance(layer, nn.Sequential)):
                conv.bias, norm.eps = None, 0.0  # darknet adds 1e-6 to the deviation: see `read_darknet`
            channels, local = round(256 * width), LocalConv(channels, round(256 * width), self.grid)
            head += [local, nn.LeakyReLU(SLOPE)]
        if hidden and len(hidden) != len(HIDDEN[variant]):
            raise ValueError(f"YOLO {variant!r} has {len(HIDDEN[variant])} hidden layers, not {len(hidden)}")
        sizes = [channels * self.grid**2, *(hidden or (round(size * width) for size in HIDDEN[variant]))]
        head.append(nn.Flatten())
        for inputs, outputs in pairwise(sizes):
            head += [nn.Linear(inputs, outputs), nn.LeakyReLU(SLOPE)]
        self.size, self.head, self.dropout = sizes[-1], nn.Sequential(*head), nn.Dropout(0.5)
        self.last = nn.Linear(self.size, self.grid**2 * (5 * self.boxes + classes))
        self.register_buffer("sizes", torch.tensor([input, classes, self.boxes]))

    def initialise(self, generator: torch.Generator) -> YOLO:
        """He-normal weights, zero biases; the last layer small, so that every cell begins with nothing in it."""
        _he(self, generator)
        nn.init.normal_(self.last.weight, 0, 0.01, generator=generator)
        return self

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features `(B, size)`, the last hidden layer, and cells `(B, S * S * (classes + 5 boxes))` of square images
        `(B, 3, input, input)`. As darknet has them, all classes come first, then all confidences, then all boxes;
        each by cell, in rows."""
        low, span = (0, 255) if self.variant == "v1" else MIDDLE
        x = self.head(self.features(((images - low) / span).to(self.last.weight.dtype)))
        return x, self.last(self.dropout(x))

    def split(self, cells: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Cells as classes `(B, S * S, classes)`, confidences `(B, S * S, boxes)` and boxes `(B, S * S, boxes, 4)`: the
        centre in the cell, and the roots of the sides in shares of the image."""
        places, rows = self.grid**2, len(cells)
        one, two, three = cells.split([places * self.classes, places * self.boxes, places * self.boxes * 4], 1)
        return one.reshape(rows, places, -1), two.reshape(rows, places, -1), three.reshape(rows, places, self.boxes, 4)

    def placed(self, raw: Tensor) -> Tensor:
        """x, y, w, h `(B, S * S, boxes, 4)` in shares of the image, of what `split` gave."""
        at = torch.arange(self.grid**2, device=raw.device)
        corner = torch.stack([at % self.grid, at // self.grid], 1)[:, None]
        return B.from_centre((raw[..., :2] + corner) / self.grid, raw[..., 2:] ** 2)

    def decode(self, cells: Tensor, threshold: float = 0.2, overlap: float = 0.5) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes `(B, N, 4)`, x, y, w, h in shares of the image, scores and classes `(B, N)`, N = S * S * boxes.

        A score is the likeliest class's times the confidence; it is 0 for what does not reach `threshold`, and for what
        a better box covers with an IoU above `overlap`, of whatever class."""
        kinds, confidences, raw = self.split(cells.float())
        best, which = kinds.max(-1)
        boxes = self.placed(raw).flatten(1, 2)
        scores = (confidences * best[..., None]).flatten(1)
        scores = torch.where(scores >= threshold, scores, torch.zeros_like(scores))
        scores = scores * nms(boxes, scores, overlap)
        return boxes, scores, which[..., None].expand_as(confidences).flatten(1)


class SharedHead(YOLO):
    """The detector with one head for all cells, in the place of fully connected layers: how training begins here.

    Those learn what an object looks like anew for every cell: VOC's images, shown a hundred times, are enough for that,
    ours are not. Here each cell has its share of the hidden layers, of the same weights in all (1 x 1 convolutions);
    `spread` writes them out as the fully connected layers, which go on from there. Not in the paper."""

    def __init__(self, variant: str = "small", *sizes, **more):
        super().__init__(variant, *sizes, **more)
        places, layers = self.grid**2, [layer for layer in self.head if isinstance(layer, nn.Linear)]
        if variant == "v1" or any(layer.out_features % places for layer in layers):
            raise ValueError(f"hidden layers are shared out among {places} cells: not {self.variant!r} of {layers}")
        head: list[nn.Module] = []
        for layer in layers:
            inputs, outputs = layer.in_features // places, layer.out_features // places
            head += [nn.Conv2d(inputs, outputs, 1), nn.LeakyReLU(SLOPE)]
        self.head = nn.Sequential(*head)
        self.last = nn.Conv2d(self.size // places, 5 * self.boxes + self.classes, 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = self.head(self.features((images - MIDDLE[0]) / MIDDLE[1]))
        of_cells = self.last(x).flatten(2).mT.split([self.classes, self.boxes, 4 * self.boxes], -1)
        return x.flatten(1), torch.cat([part.flatten(1) for part in of_cells], 1)

    @torch.no_grad()
    def spread(self) -> YOLO:
        """The detector whose fully connected layers do the same."""
        hidden = [layer.out_channels * self.grid**2 for layer in self.head if isinstance(layer, nn.Conv2d)]
        net = YOLO(self.variant, self.width, self.input, self.classes, hidden, self.boxes)
        net.features, cells = copy.deepcopy(self.features), torch.eye(self.grid**2)
        linear = [layer for layer in net.head if isinstance(layer, nn.Linear)]
        for layer, of in zip(linear, (m for m in self.head if isinstance(m, nn.Conv2d)), strict=True):
            layer.weight.copy_(torch.kron(of.weight[:, :, 0, 0], cells))  # units by channel, then by cell, as maps are
            layer.bias.copy_(of.bias.repeat_interleave(len(cells)))
        parts, start = (self.classes, self.boxes, 4 * self.boxes), 0
        weights, biases = self.last.weight[:, :, 0, 0].split(parts), self.last.bias.split(parts)
        for weight, bias in zip(weights, biases, strict=True):
            block = torch.kron(weight, cells).unflatten(0, (-1, len(cells))).transpose(0, 1).flatten(0, 1)
            net.last.weight[start : start + len(block)] = block
            net.last.bias[start : start + len(block)] = bias.repeat(len(cells))
            start += len(block)
        return net


COORD, NOOBJ = 5.0, 0.5


def yolo_loss(net: YOLO, batch: dict[str, Tensor]) -> Tensor:
    """The paper's Eq. 3, summed over an image and averaged over the batch.

    batch: images `x (B, input, input, 3)`; objects `(B, K, 5)`: class, and x, y, w, h in shares of the image; a class
    below 0 is no object. Of several objects centred in one cell the first counts. As in darknet (rescore) a confidence
    should be the IoU of its box; the box that answers for an object is that of the larger IoU, or, where none has any,
    the nearest."""
    kinds, confidences, raw = net.split(net(batch["x"].permute(0, 3, 1, 2).float())[1].float())
    held = _cells(batch["objects"], net.grid)
    full, truth = held[..., 0] >= 0, held[..., None, 1:]
    boxes = net.placed(raw.detach())
    iou = torch.nan_to_num(B.iou(boxes, truth.expand_as(boxes)))
    distance = (boxes - truth).square().sum(-1)
    owner = torch.where(iou.amax(-1) > 0, iou.argmax(-1), distance.argmin(-1))
    owns = F.one_hot(owner, net.boxes).bool() & full[..., None]
    centre = B.centre(held[..., 1:]) * net.grid
    wanted = torch.cat([centre - centre.floor(), held[..., 3:].clamp_min(0).sqrt()], -1)[..., None, :]
    place = ((raw - wanted).square().sum(-1) * owns).sum()
    sure = ((confidences - iou).square() * owns).sum() + NOOBJ * (confidences.square() * ~owns).sum()
    classes = F.one_hot(held[..., 0].long().clamp_min(0), net.classes)
    kind = ((kinds - classes).square().sum(-1) * full).sum()
    return (COORD * place + sure + kind) / len(raw)


def _cells(objects: Tensor, grid: int) -> Tensor:
    """What each cell holds `(B, S * S, 5)`, class -1 where nothing is centred in it."""
    held = objects.new_full((len(objects), grid**2 + 1, 5), -1.0)  # and a cell for what is no object
    column, row = (B.centre(objects[..., 1:]) * grid).long().clamp(0, grid - 1).unbind(-1)
    cell, image = torch.where(objects[..., 0] >= 0, row * grid + column, grid**2), torch.arange(len(objects))
    for k in reversed(range(objects.shape[1])):
        held[image, cell[:, k]] = objects[:, k]
    return held[:, :-1]


class Classifier(nn.Module):
    """Phase 1: the first twenty convolutions, their mean over the image, and one layer, learn to tell classes."""

    def __init__(self, classes: int, width: float = 1.0):
        super().__init__()
        layers = convolutions(width)
        last = [i for i, layer in enumerate(layers) if isinstance(layer, nn.Conv2d)][PRETRAINED - 1]
        self.features = layers[: last + 2]
        self.last = nn.Linear(layers[last].out_channels, classes)

    def initialise(self, generator: torch.Generator) -> Classifier:
        _he(self, generator)
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Class scores `(B, classes)` of RGB images `(B, 3, H, W)` in 0..255; sides of 32 pixels at least."""
        low, span = MIDDLE
        return self.last(self.features((images - low) / span).mean((2, 3)))


def class_loss(net: Classifier, batch: dict[str, Tensor]) -> Tensor:
    """Cross-entropy of images `x (B, H, W, 3)` and their classes `y (B,)`."""
    return F.cross_entropy(net(batch["x"].permute(0, 3, 1, 2).float()).float(), batch["y"])


def convolutions(width: float) -> nn.Sequential:
    """The 24 convolutions, `(B, 3, 448, 448)` to `(B, 1024, 7, 7)`."""
    layers, channels = [], 3
    for outputs, kernel, stride in CONVS:
        if not outputs:
            layers.append(nn.MaxPool2d(2))
            continue
        outputs = round(outputs * width)
        layers += [nn.Conv2d(channels, outputs, kernel, stride, kernel // 2), nn.LeakyReLU(SLOPE, inplace=True)]
        channels = outputs
    return nn.Sequential(*layers)


def _he(net: nn.Module, generator: torch.Generator) -> None:
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear | LocalConv):
            fan = module.weight[0, 0].numel() if isinstance(module, LocalConv) else module.weight[0].numel()
            nn.init.normal_(module.weight, 0, (2 / (1 + SLOPE**2) / fan) ** 0.5, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def load_yolo(weights: str | Path, variant: str = "small") -> YOLO:
    """The detector of a weights file or shipped name, at the file's own sizes; or of a darknet `.weights` file, which
    holds numbers without names: at full size, of `variant`. Raises FileNotFoundError, and ValueError for another."""
    path = Path(weights)
    if path.suffix == ".weights":
        net = YOLO(variant)
        read_darknet(net, path)
        return net.eval()
    path = weights_file(weights)
    return yolo_of(read_tensors(path), str(path))


def yolo_of(tensors: dict[str, Tensor], name: str) -> YOLO:
    """The detector with these tensors; what their shapes leave open is `sizes` (input, classes, boxes)."""
    first, last, sizes = (tensors.get(k) for k in ("features.0.weight", "last.weight", "sizes"))
    if last is None or sizes is None or (first is None and "features.0.0.weight" not in tensors):
        raise ValueError(f"{name}: not weights of YOLO: no features.0.weight, last.weight or sizes")
    width = len(first if first is not None else tensors["features.0.0.weight"]) / CONVS[0][0]
    hidden = [len(v) for k, v in tensors.items() if k.startswith("head.") and v.ndim == 2]
    variant = next((v for v, layers in HIDDEN.items() if len(layers) == len(hidden)), "small")
    net = YOLO(variant, width, *sizes[:2].int().tolist(), hidden, int(sizes[2]))
    load_into(net, tensors, name)
    return net.eval()


def _records(net: YOLO) -> Iterator[list[tuple[Tensor, str]]]:
    """The tensors of each layer as a darknet file has them, in its order; a norm's are said to be so."""
    modules = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear | LocalConv | nn.BatchNorm2d)]
    for module, norm in zip(modules, [*modules[1:], None], strict=True):
        if isinstance(module, nn.BatchNorm2d):
            continue
        biases = [(module.bias, "")]
        if isinstance(norm, nn.BatchNorm2d):
            biases = [(norm.bias, ""), (norm.weight, ""), (norm.running_mean, ""), (norm.running_var, "variance")]
        yield [*biases, (module.weight, "linear" if isinstance(module, nn.Linear) else "")]


def darknet_size(net: YOLO) -> int:
    """Bytes of the `.weights` file: a header of 16, and four a number."""
    return 16 + 4 * sum(tensor.numel() for record in _records(net) for tensor, _ in record)


def write_darknet(net: YOLO, path: str | Path, seen: int = 0) -> None:
    """A `.weights` file (version 0.1) that darknet reads."""
    parts = [struct.pack("<4i", 0, 1, 0, seen)]
    for tensor, kind in (pair for record in _records(net) for pair in record):
        values = tensor.detach().float().cpu()
        values = (values.sqrt() - NORM_EPS) ** 2 if kind == "variance" else values
        parts.append(values.contiguous().numpy().astype("<f4").tobytes())
    write_bytes(Path(path), b"".join(parts))


NORM_EPS = 1e-6


@torch.no_grad()
def read_darknet(net: YOLO, path: str | Path) -> None:
    """Fill a detector from a darknet `.weights` file; one that is not exactly of its size is an error that says so.

    Versions from 0.2 on count images in eight bytes; fully connected layers of versions above 1000 are transposed.
    darknet normalises by (deviation + 1e-6), torch by sqrt(variance + eps): eps is 0, and the variance takes it up."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such weights file")
    data = path.read_bytes()
    major, minor = struct.unpack("<2i", data[:8]) if len(data) >= 20 else (0, 0)
    transposed = major > 1000 or minor > 1000
    start = 20 if 10 * major + minor >= 2 and not transposed else 16
    numbers = (len(data) - start) / 4
    wanted = (darknet_size(net) - 16) // 4
    if numbers != wanted:
        what = f"YOLO {net.variant!r} of width {net.width:g}, input {net.input} and {net.classes} classes"
        raise ValueError(f"{path}: holds {numbers:g} numbers, but {what} has {wanted}; try another variant")
    values, at = torch.from_numpy(np.frombuffer(data, "<f4", offset=start).astype(np.float32)), 0
    for tensor, kind in (pair for record in _records(net) for pair in record):
        block, at = values[at : at + tensor.numel()], at + tensor.numel()
        if kind == "variance":
            block = (block.sqrt() + NORM_EPS) ** 2
        if kind == "linear" and transposed:
            block = block.reshape(tensor.shape[::-1]).T
        tensor.copy_(block.reshape(tensor.shape))


def from_tensorflow(net: YOLO, variables: Sequence[np.ndarray]) -> dict[str, Tensor]:
    """Our names of the variables of YOLO_small.ckpt, `Variable`, `Variable_1`, ... in the order they were made: weights
    and biases by turns, convolutions (h, w, in, out), fully connected layers (in, out)."""
    layers = [name for name, m in net.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    names = [f"{layer}.{part}" for layer in layers for part in ("weight", "bias")]
    if len(names) != len(variables):
        raise ValueError(f"YOLO {net.variant!r} has {len(names)} tensors, not {len(variables)}")
    order = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}
    values = (torch.from_numpy(np.ascontiguousarray(v.transpose(order[v.ndim]))) for v in variables)
    return dict(zip(names, values, strict=True)) | {"sizes": net.sizes}

"""Batch norm for the time of training: networks that were published without it, and do not start without it here."""

import copy
from typing import TypeVar

from torch import nn

Net = TypeVar("Net", bound=nn.Module)


def normed(net: Net) -> Net:
    """A copy with batch norm after each convolution of `net.features`: trained from nothing without, some 25
    convolutions do not leave chance within ten thousand images. `plain` folds the norms away."""
    net = copy.deepcopy(net)
    for parent in list(net.features.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d):
                setattr(parent, name, nn.Sequential(child, nn.BatchNorm2d(child.out_channels)))
    return net


def plain(net: Net) -> Net:
    """A copy of a `normed` network with the norms folded into the convolutions: its own layers and keys."""
    net = copy.deepcopy(net).eval()
    for parent in list(net.features.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Sequential) and len(child) == 2 and isinstance(child[1], nn.BatchNorm2d):
                setattr(parent, name, nn.utils.fuse_conv_bn_eval(*child))
    return net

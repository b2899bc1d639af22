"""KCF: J. F. Henriques et al., *High-speed tracking with kernelized correlation filters* (PAMI 2015).

Ridge regression on all circular shifts of one patch is an element-wise division in the Fourier domain (Eq. 17):

    alpha^ = y^ / (k^xx + lambda),      f(z) = F^-1( k^xz alpha^ )                    (Eqs. 17, 22)

with the Gaussian kernel correlation k^xx' of all shifts at once (Eq. 31). Where the paper leaves something open, this
is the authors' MATLAB code, pixel roundings included. Lanes differ in the shape of their patches, and so are lists.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fft import irfft2, rfft2

from ..config import bounded
from ..nn.hog import fhog
from ..tracker import Frames, Output, State, lane_by_lane

MAP = 32  # cells a side of the response that is shown


@dataclass(frozen=True)
class KCFConfig:
    """Table 2 of the paper; `KCF_GREY` holds the raw pixels' values."""

    features: str = "hog"  # or "grey"
    cell: int = 4  # pixels
    kernel: float = 0.5  # sigma of the Gaussian kernel
    rate: float = 0.02  # at which model and template follow
    padding: float = 1.5  # of the window, in target sizes
    ridge: float = 1e-4  # lambda
    spread: float = 0.1  # sigma of the labels, in units of sqrt(w h) / cell
    halve: float = 100.0  # targets of this sqrt(w h) and above are tracked in the image of half the size
    scales: int = 1  # sizes tried a frame; the paper's tracker has one
    step: float = 1.05  # their ratio, and
    preference: float = 0.95  # the weight of all but the middle one, as KCFcpp has them

    def __post_init__(self):
        bounded(self, ("kernel", "ridge", "spread", "halve", "step"), cell=(1, inf), scales=(1, inf), rate=(0, 1))
        bounded(self, padding=(0, inf), preference=(0, 1))
        if self.features not in ("hog", "grey"):
            raise ValueError(f"features are 'hog' or 'grey', not {self.features!r}")
        if self.scales % 2 == 0:
            raise ValueError(f"scales are an odd number, the middle one unchanged, not {self.scales}")


KCF_HOG = KCFConfig()
KCF_GREY = KCFConfig(features="grey", cell=1, kernel=0.2, rate=0.075)


@dataclass
class KCFState(State):
    place: Tensor  # (B, 2) x, y: index of the pixel in the middle, in the image tracked in
    size: Tensor  # (B, 2) w, h of the first box
    scale: Tensor  # (B,) by which it has grown
    half: Tensor  # (B,) 2 where the image tracked in has half the size, else 1
    window: Tensor  # (B, 2) w, h of the patch, pixels of that image
    template: list[Tensor]  # spectra (C, h, w // 2 + 1)
    alpha: list[Tensor]  # spectra (h, w // 2 + 1)


class KCFTracker:
    """Kernelised correlation filter on HOG ("kcf") or on grey values."""

    def __init__(self, config: KCFConfig = KCF_HOG, name: str = "kcf", device: torch.device | str = "cpu"):
        self.name, self.config, self.device, self.keep_maps = name, config, torch.device(device), False

    def init(self, frames: Frames, boxes: Tensor) -> KCFState:
        """Learn from the first patch; boxes `(B, 4)`."""
        size = boxes[:, 2:]
        half = 1.0 + (size.prod(1).sqrt() >= self.config.halve)
        place = boxes[:, :2] + (size / 2).floor()  # MATLAB's pos, less its 1
        place = torch.where(half[:, None] == 2, ((place + 1) / 2).floor() - 1, place)
        target = (size / half[:, None]).floor().clamp_min(1)
        window = (target * (1 + self.config.padding)).floor().clamp_min(2 * self.config.cell)
        state = KCFState(place, size, torch.ones_like(half), half, window, [], [])
        learned = lane_by_lane(self._learner(frames, state), len(boxes))
        return replace(state, template=[t for t, _ in learned], alpha=[a for _, a in learned])

    def track(self, state: KCFState, frames: Frames) -> tuple[KCFState, Output]:
        """One frame on: the shift of the highest response, then the model follows."""
        found = lane_by_lane(self._finder(frames, state), len(frames.lane))
        moved = replace(
            state,
            place=torch.stack([place for place, *_ in found]),
            scale=state.scale * torch.stack([factor for _, factor, *_ in found]),
        )
        learned = lane_by_lane(self._learner(frames, moved), len(frames.lane))
        rate = self.config.rate
        mixed = [
            [(1 - rate) * old + rate * new for old, new in zip(*pair, strict=True)]
            for pair in (
                (state.template, [t for t, _ in learned]),
                (state.alpha, [a for _, a in learned]),
            )
        ]
        moved = replace(moved, template=mixed[0], alpha=mixed[1])
        size = moved.size * moved.scale[:, None]
        corner = (moved.place + 1) * moved.half[:, None] - size / 2 - 1
        output = Output(torch.cat([corner, size], 1), torch.stack([peak for *_, peak, _ in found]))
        if self.keep_maps:
            output.maps = {"heat map": torch.stack([response for *_, response in found])}
            output.regions = self._searched(state)
        return moved, output

    def _learner(self, frames: Frames, state: KCFState) -> Callable[[int], tuple[Tensor, Tensor]]:
        images = self._images(frames, state)

        def learn(b: int) -> tuple[Tensor, Tensor]:
            x = rfft2(self._look(images[b], state, b, state.scale[b]))
            shape = self._cells(state.window[b])
            labels = _labels(self._spread(state, b), shape, self.device)
            return x, labels / (self._kernel(x, x, shape) + self.config.ridge)  # Eq. 17

        return learn

    def _finder(self, frames: Frames, state: KCFState) -> Callable[[int], tuple[Tensor, ...]]:
        images, c = self._images(frames, state), self.config

        def respond(b: int, factor: float) -> Tensor:
            z = rfft2(self._look(images[b], state, b, state.scale[b] * factor))
            shape = self._cells(state.window[b])
            return irfft2(self._kernel(z, state.template[b], shape) * state.alpha[b], s=shape)  # Eq. 22

        def find(b: int) -> tuple[Tensor, ...]:
            exponents = range(-(c.scales // 2), c.scales // 2 + 1)
            responses = [respond(b, c.step**k) for k in exponents]
            weighted = torch.stack(
                [r.max() * (c.preference if k else 1) for k, r in zip(exponents, responses, strict=True)]
            )
            best = int(weighted.argmax())
            response, factor = responses[best], c.step ** exponents[best]
            shift = _shift(response) * c.cell * (state.scale[b] * factor)
            shown = torch.fft.fftshift(response)[None, None]
            shown = F.interpolate(shown, (MAP, MAP), mode="bilinear", align_corners=False)[0, 0]
            return state.place[b] + shift, state.scale.new_tensor(factor), response.max(), shown

        return find

    def _images(self, frames: Frames, state: KCFState) -> list[Tensor]:
        """For each lane the grey image `(H, W)` in 0..255 that it is tracked in."""
        whole = frames.once("grey", _grey)
        if (state.half == 1).all():
            return whole
        halved = frames.once("grey, half size", lambda image: _halved(_grey(image)))
        return [halved[b] if state.half[b] == 2 else whole[b] for b in range(len(whole))]

    def _look(self, image: Tensor, state: KCFState, b: int, scale: Tensor) -> Tensor:
        """Features `(C, h, w)` of a lane's window at its place, under the cosine window."""
        c, (width, height) = self.config, state.window[b].long().tolist()
        patch = _patch(image, state.place[b], *((state.window[b] * scale).floor().long().clamp_min(1).tolist()))
        if patch.shape != (height, width):
            patch = F.interpolate(patch[None, None], (height, width), mode="bilinear", align_corners=False)[0, 0]
        x = patch / 255
        x = fhog(x, c.cell) if c.features == "hog" else (x - x.mean())[None]
        return x * _cosine(x.shape[1:], self.device)

    def _kernel(self, x: Tensor, z: Tensor, shape: tuple[int, int]) -> Tensor:
        """The spectrum of the Gaussian kernel of z and all shifts of x (Eq. 31)."""
        count = shape[0] * shape[1]
        norms = [irfft2((a.real.square() + a.imag.square()).sum(0), s=shape)[0, 0] for a in (x, z)]
        cross = irfft2((x * z.conj()).sum(0), s=shape)
        distance = (norms[0] + norms[1] - 2 * cross).clamp_min(0) / (count * len(x))
        return rfft2(torch.exp(-distance / self.config.kernel**2))

    def _cells(self, window: Tensor) -> tuple[int, int]:
        width, height = (window // self.config.cell).long().tolist()
        return height, width

    def _spread(self, state: KCFState, b: int) -> float:
        target = (state.size[b] / state.half[b]).floor()
        return float(target.prod().sqrt() * self.config.spread / self.config.cell)

    def _searched(self, state: KCFState) -> Tensor:
        """The windows `(B, 4)` in frame pixels."""
        side = state.window * (state.scale * state.half)[:, None]
        return torch.cat([(state.place + 1) * state.half[:, None] - side / 2, side], 1)


def _grey(image: Tensor) -> Tensor:
    """MATLAB's rgb2gray of `(3, H, W)` uint8, whole numbers."""
    weights = torch.tensor([0.298936, 0.587043, 0.114021], device=image.device)
    return (image.float() * weights[:, None, None]).sum(0).round()


def _halved(image: Tensor) -> Tensor:
    """MATLAB's imresize by a half: bicubic, antialiased."""
    half = F.interpolate(image[None, None], scale_factor=0.5, mode="bicubic", antialias=True, align_corners=False)
    return half[0, 0].clamp(0, 255).round()


def _patch(image: Tensor, place: Tensor, width: int, height: int) -> Tensor:
    """Pixels about a place (get_subwindow.m); those outside the image are its border's."""
    x, y = place.floor().long().tolist()
    xs, ys = (at + 1 - n // 2 + torch.arange(n, device=image.device) for at, n in ((x, width), (y, height)))
    return image[ys.clamp(0, image.shape[0] - 1)][:, xs.clamp(0, image.shape[1] - 1)]


def _shift(response: Tensor) -> Tensor:
    """x, y in cells of the highest response; the second half of each axis are shifts backwards."""
    rows, columns = response.shape
    at = int(response.argmax())
    y, x = divmod(at, columns)
    return response.new_tensor([x - columns * (x + 1 > columns / 2), y - rows * (y + 1 > rows / 2)])


@functools.lru_cache(maxsize=256)
def _labels(sigma: float, shape: tuple[int, int], device: torch.device) -> Tensor:
    """The spectrum of a Gaussian with its peak at shift 0 (gaussian_shaped_labels.m)."""
    rows, columns = (((torch.arange(n, device=device) + n // 2) % n - n // 2) ** 2 for n in shape)
    return rfft2(torch.exp(-0.5 / sigma**2 * (rows[:, None] + columns)))


@functools.lru_cache(maxsize=256)
def _cosine(shape: tuple[int, int], device: torch.device) -> Tensor:
    rows, columns = (torch.hann_window(n, periodic=False, device=device) for n in shape)
    return rows[:, None] * columns

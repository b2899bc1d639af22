"""Circular convolution and regularised linear regression, solved in the Fourier domain.

Signals are real maps `(..., H, W)`; `*` is circular convolution over the last two axes, each map on its own; x^ is the
discrete Fourier transform of x. A regression from x to y has the size of x (DSiam, Eqs. 3 and 4):

    argmin_R ||R * x - y||^2 + lambda ||R||^2,      R^ = conj(x^) y^ / (|x^|^2 + lambda)

The transforms are of real signals, so half of each spectrum is kept; float16 and bfloat16 are for the caller to widen.
"""

from typing import Any

import torch
from torch import Tensor
from torch.fft import irfft2, rfft2


def circular_convolve(kernel: Tensor, x: Tensor) -> Tensor:
    """`kernel * x`, which broadcast together: `F^-1(kernel^ x^)`. The paper's layer CirConv."""
    return irfft2(rfft2(kernel) * rfft2(x), s=x.shape[-2:])


def ridge(x: Tensor, y: Tensor, weight: Tensor | float) -> Tensor:
    """The regression R from x to y, lambda = `weight` > 0. The paper's layer RLR, Eq. 4."""
    return irfft2(_ridge_spectrum(rfft2(x), rfft2(y), weight), s=x.shape[-2:])


def _ridge_spectrum(x: Tensor, y: Tensor, weight: Tensor | float) -> Tensor:
    return x.conj() * y / (x.real.square() + x.imag.square() + weight)


def regress(signal: Tensor, x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """`R * signal` of the regression R from x to y: both layers, without leaving the Fourier domain between them.

    signal, x, y and weight broadcast together (several signals may share one regression)."""
    spectrum = _ridge_spectrum(rfft2(x), rfft2(y), weight) * rfft2(signal)
    return irfft2(spectrum, s=signal.shape[-2:])


class Regress(torch.autograd.Function):
    """`regress` with its gradients written out: keeps the four inputs, a third of what autograd keeps.

    The paper's Eqs. 11 to 15, made exact. With U = 1 / (|x^|^2 + lambda), the gradient g of the output and gR of R:

        gR      = F^-1( conj(signal^) g^ )                                                     (11)
        gsignal = F^-1( conj(R^) g^ )                                                          (15, second term)
        gy      = F^-1( U x^ gR^ )                                                             (12)
        glambda = -sum F^-1( U^2 conj(x^) y^ ) gR                                              (13)
        gx      = F^-1( lambda U^2 y^ conj(gR^) - U^2 x^^2 conj(y^) gR^ )                      (15, first term)

    Printed, (11), (12) and the second term of (15) lack or misplace a conjugate (they are right for correlation, with
    which Eq. 6 is not), and the first term of (15) doubles one part and drops the other."""

    @staticmethod
    def forward(ctx: Any, signal: Tensor, x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(signal, x, y, weight)
        return regress(signal, x, y, weight)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, ...]:
        signal, x, y, weight = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        size, signal_, x_, y_, g_ = x.shape[-2:], *map(rfft2, (signal, x, y, g))
        u = 1 / (x_.real.square() + x_.imag.square() + weight)
        g_signal = irfft2((u * x_.conj() * y_).conj() * g_, s=size) if wanted[0] else None
        kernel = torch.broadcast_shapes(x.shape, y.shape, weight.shape)
        g_kernel = irfft2(signal_.conj() * g_, s=size).sum_to_size(kernel)
        k_ = rfft2(g_kernel)
        g_x = (
            irfft2(u.square() * (weight * y_ * k_.conj() - x_.square() * y_.conj() * k_), s=size) if wanted[1] else None
        )
        g_y = irfft2(u * x_ * k_, s=size) if wanted[2] else None
        g_weight = -irfft2(u.square() * x_.conj() * y_, s=size) * g_kernel
        each = zip((g_signal, g_x, g_y, g_weight), (signal, x, y, weight), strict=True)
        return tuple(None if gradient is None else gradient.sum_to_size(of.shape) for gradient, of in each)

"""First step of the walk: a photo x becomes a smooth residual R and M details phi_k, with x = R + sum phi_k.

The paper's learnt nonlinear diffusion is u_t = -p(u), u(0) = x, with phi = t u_tt and R = T p(u(T)) + u(T)
(equations 16 and 17). In discrete time the split is exact for any p, by summation by parts.
"""

import functools
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from kornia.filters import get_gaussian_kernel1d
from torch import Tensor, nn

from .config import ModelConfig

TILE = 64  # results of one matrix product along a line of pixels


class Split(NamedTuple):
    """What feeds the branches."""

    residual: Float[Tensor, "b 3 h w"]  # R
    phi: Float[Tensor, "b m 3 h w"]


def gaussian(u: Float[Tensor, "b 3 h w"], sigma: float) -> Float[Tensor, "b 3 h w"]:
    """G_s u: a Gaussian of `sigma` pixels, cut at 3 sigma, mirrored at the border.

    Each line of pixels is multiplied by a banded matrix that holds the mirrored border too. Products of the band's
    tiles are faster than the convolution, most of all backwards.
    """
    radius = min(round(3 * sigma), min(u.shape[-2:]) - 1)
    rows, columns = (_tiles(n, radius, sigma, u.dtype, u.device) for n in u.shape[-2:])
    u = torch.cat([u[..., near] @ tile for near, tile in columns], dim=-1)
    return torch.cat([tile.mT @ u[..., near, :] for near, tile in rows], dim=-2)


@functools.lru_cache(maxsize=64)
@torch.inference_mode(False)  # a tensor made in inference mode could not be used in training
def _tiles(n: int, radius: int, sigma: float, dtype: torch.dtype, device: torch.device) -> list[tuple[slice, Tensor]]:
    """The Gaussian of a line of n pixels: for each 64 of its results the pixels they need, and their matrix."""
    kernel = get_gaussian_kernel1d(2 * radius + 1, sigma, dtype=dtype, device=device)
    impulses = torch.eye(n, dtype=dtype, device=device)[:, None]  # (n, 1, n)
    band = F.conv1d(F.pad(impulses, (radius, radius), mode="reflect"), kernel[None])[:, 0]  # (pixels, results)
    tiles = []
    for start in range(0, n, TILE):
        near = slice(max(0, start - radius), min(n, start + TILE + radius))
        tiles.append((near, band[near, start : start + TILE].contiguous()))
    return tiles


class Conv3x3(nn.Conv2d):
    """3x3 convolution that keeps the size and mirrors the border."""

    def __init__(self, i: int, o: int):
        super().__init__(i, o, 3)

    def forward(self, x: Float[Tensor, "b i h w"]) -> Float[Tensor, "b o h w"]:
        with torch.autocast(x.device.type, enabled=False):  # it would pad in float32
            x = F.pad(x, (1, 1, 1, 1), mode="reflect")
        return F.conv2d(x, self.weight, self.bias)


class Diffusivity(nn.Module):
    """p: an 8-layer bottleneck CNN of 40,529 or 40,504 parameters (the paper: 4.05e4).

    Deviation from the paper: pixels are unshuffled by `2 * patch` first and shuffled back at the end. The same eight
    convolutions at full resolution would cost more than all branches together; nothing is lost by the shuffle.

    With `anchor`, p(u) = u - G_s u + CNN(u) and the CNN's last layer starts at zero, so that training starts
    from heat flow. Without it R starts at x, where training collapses (the branches cancel each other).
    """

    WIDTHS = {1: (12, 32, 32, 17, 17, 17, 32, 32, 12), 2: (48, 24, 24, 16, 8, 16, 24, 24, 48)}  # by patch

    def __init__(self, sigma: float, anchor: bool = True, patch: int = 1):
        super().__init__()
        self.sigma, self.anchor, self.unshuffle = sigma, anchor, 2 * patch
        layers = []
        for i, o in zip(self.WIDTHS[patch][:-1], self.WIDTHS[patch][1:]):
            layers += [Conv3x3(i, o), nn.LeakyReLU(0.2)]
        self.cnn = nn.Sequential(*layers[:-1])
        if anchor:
            nn.init.zeros_(self.cnn[-1].weight)
            nn.init.zeros_(self.cnn[-1].bias)

    def forward(self, u: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """`h` and `w` must be multiples of `2 * patch`."""
        b, c, h, w = u.shape
        s = self.unshuffle
        # pixel_unshuffle and pixel_shuffle, in one copy each to and from the layout that convolutions are fastest in
        patches = u.reshape(b, c, h // s, s, w // s, s).permute(0, 2, 4, 1, 3, 5).reshape(b, h // s, w // s, -1)
        patches = self.cnn(patches.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        p = patches.reshape(b, h // s, w // s, c, s, s).permute(0, 3, 1, 4, 2, 5).reshape(b, c, h, w)
        return u - gaussian(u, self.sigma) + p if self.anchor else p


class LearntDiffusion(nn.Module):
    """The paper's preprocessing, exact in discrete time.

    With u_{k+1} = u_k - dt p(u_k), k = 0..M-1, and T = M dt,

        phi_k = k dt (p(u_{k-1}) - p(u_k)),    R = u_M + T p(u_M),

    and x = R + sum_k phi_k for any p and any dt. It takes M + 1 evaluations of p.
    """

    def __init__(self, p: nn.Module, steps: int, dt: float = 1.0):
        super().__init__()
        self.p, self.steps, self.dt = p, steps, dt

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Split:
        u = x.contiguous()  # three channels last would be slow in everything but convolutions
        p = self.p(u)
        phi = []
        for k in range(1, self.steps + 1):
            u = u - self.dt * p
            previous, p = p, self.p(u)
            phi.append(k * self.dt * (previous - p))
        return Split(u + self.steps * self.dt * p, torch.stack(phi, dim=1))


class GaussianSplit(nn.Module):
    """The paper's appendix D, without learnt diffusion: R is a Gaussian-smoothed x, every branch receives x.

    The phi's are then M views of x, and x = R + sum phi_k does not hold.
    """

    def __init__(self, sigma: float, steps: int):
        super().__init__()
        self.sigma, self.steps = sigma, steps

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Split:
        return Split(gaussian(x, self.sigma), x.unsqueeze(1).expand(-1, self.steps, -1, -1, -1))


def build_split(config: ModelConfig) -> nn.Module:
    """The split that `config.split` names."""
    if config.split == "gaussian":
        return GaussianSplit(config.sigma, config.branches)
    return LearntDiffusion(Diffusivity(config.sigma, config.anchor, config.patch), config.branches, config.dt)

"""The peer of the speed benchmarks: StarGAN-v2's generator at its published widths, written from its description.

Choi et al., 2020: 3x3 from-RGB to 2^14 / size channels, which double up to 512; log2(size) - 4 halvings; two blocks at
the bottom, two AdaIN blocks, as many doublings; zero padding everywhere; a style of 64 numbers. At 256 pixels 33.9 M
parameters and 48.6 GMAC. Untrained, as its weights do not change its speed.
"""

import itertools
import math

import torch.nn.functional as F
from torch import Tensor, nn

STYLE = 64


class AdaIN(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.affine, self.norm = nn.Linear(STYLE, 2 * width), nn.InstanceNorm2d(width)

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        gamma, beta = self.affine(s)[:, :, None, None].chunk(2, dim=1)
        return (1 + gamma) * self.norm(x) + beta


class Encode(nn.Module):
    """Pre-activated residual block with instance norm; the shortcut is convolved before it is pooled."""

    def __init__(self, i: int, o: int, half: bool):
        super().__init__()
        self.norm1, self.norm2 = nn.InstanceNorm2d(i, affine=True), nn.InstanceNorm2d(i, affine=True)
        self.conv1, self.conv2 = nn.Conv2d(i, i, 3, padding=1), nn.Conv2d(i, o, 3, padding=1)
        self.skip = nn.Conv2d(i, o, 1, bias=False) if i != o else nn.Identity()
        self.pool = nn.AvgPool2d(2) if half else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.pool(self.conv1(F.leaky_relu(self.norm1(x), 0.2)))
        return (self.pool(self.skip(x)) + self.conv2(F.leaky_relu(self.norm2(y), 0.2))) / math.sqrt(2)


class Decode(nn.Module):
    """The same with AdaIN; the shortcut is enlarged before it is convolved."""

    def __init__(self, i: int, o: int, double: bool):
        super().__init__()
        self.norm1, self.norm2 = AdaIN(i), AdaIN(o)
        self.conv1, self.conv2 = nn.Conv2d(i, o, 3, padding=1), nn.Conv2d(o, o, 3, padding=1)
        self.skip = nn.Conv2d(i, o, 1, bias=False) if i != o else nn.Identity()
        self.up = nn.UpsamplingNearest2d(scale_factor=2) if double else nn.Identity()

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        y = self.conv1(self.up(F.leaky_relu(self.norm1(x, s), 0.2)))
        return (self.skip(self.up(x)) + self.conv2(F.leaky_relu(self.norm2(y, s), 0.2))) / math.sqrt(2)


class StarGAN2(nn.Module):
    """One photo (B, 3, size, size) and one style (B, 64) to one photo."""

    def __init__(self, size: int):
        super().__init__()
        widths = [min(2**14 // size * 2**k, 512) for k in range(int(math.log2(size)) - 3)]
        steps, bottom = list(itertools.pairwise(widths)), widths[-1]
        self.from_rgb = nn.Conv2d(3, widths[0], 3, padding=1)
        self.encode = nn.Sequential(*(Encode(i, o, True) for i, o in steps))
        self.encode.extend(Encode(bottom, bottom, False) for _ in range(2))
        self.decode = nn.ModuleList(Decode(bottom, bottom, False) for _ in range(2))
        self.decode.extend(Decode(o, i, True) for i, o in reversed(steps))
        self.to_rgb = nn.Sequential(
            nn.InstanceNorm2d(widths[0], affine=True), nn.LeakyReLU(0.2), nn.Conv2d(widths[0], 3, 1)
        )

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        x = self.encode(self.from_rgb(x))
        for block in self.decode:
            x = block(x, s)
        return self.to_rgb(x)

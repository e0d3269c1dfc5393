"""The critic of training: real or generated, one answer per class."""

import math
from itertools import pairwise

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ...generator import he_init


def of_class(logits: Float[Tensor, "b domains"], label: Int[Tensor, "b"]) -> Float[Tensor, "b"]:
    """Each picture's logit of its own label."""
    return logits.gather(1, label[:, None])[:, 0]


class CriticBlock(nn.Module):
    """Pre-activation residual block without norm that halves the resolution."""

    def __init__(self, i: int, o: int):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(i, i, 3, padding=1), nn.Conv2d(i, o, 3, padding=1)
        self.skip = nn.Conv2d(i, o, 1, bias=False) if i != o else nn.Identity()

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o h2 w2"]:
        y = F.avg_pool2d(self.conv1(F.leaky_relu(x, 0.2)), 2)
        y = self.conv2(F.leaky_relu(y, 0.2))
        return (self.skip(F.avg_pool2d(x, 2)) + y) / math.sqrt(2)


class Discriminator(nn.Module):
    """StarGAN-v2's multi-task discriminator: one logit per class; the label picks one (`of_class`).

    log2(size) - 2 halving blocks whose width doubles from `base` up to `cap`, then a 4x4 convolution and a 1x1 head.
    """

    def __init__(self, size: int, domains: int, base: int, cap: int):
        super().__init__()
        halvings = int(math.log2(size)) - 2
        if size != 4 * 2**halvings:
            raise ValueError(f"size is {size}; accepted: a power of two from 8 up")
        widths = [min(base * 2**i, cap) for i in range(halvings + 1)]
        self.from_rgb = nn.Conv2d(3, widths[0], 3, padding=1)
        self.blocks = nn.Sequential(*(CriticBlock(i, o) for i, o in pairwise(widths)))
        self.join = nn.Conv2d(widths[-1], widths[-1], 4)
        self.head = nn.Linear(widths[-1], domains)
        self.apply(he_init)

    def forward(self, x: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b domains"]:
        """Logit of "a real photo of this class" for every class, of pictures in [-1, 1]."""
        y = self.blocks(self.from_rgb(x))
        y = self.join(F.leaky_relu(y, 0.2)).flatten(1)
        return self.head(F.leaky_relu(y, 0.2))

"""Pictures like dSprites (Matthey et al., 2017), rendered here: one white shape on black, five factors."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

# Values of each factor. The orientation stays within [0, 90) degrees: a square looks the same after that.
FACTORS = {"shape": 3, "scale": 6, "orientation": 10, "x": 16, "y": 16}
COUNTS = tuple(FACTORS.values())


def render(factors: Int[Tensor, "n 5"], size: int = 32) -> Float[Tensor, "n 1 s s"]:
    """Squares, ellipses and hearts in [0, 1]; edges are smooth, as each pixel is the mean of four points.

    Args:
        factors: indices into the values of shape, scale, orientation, x and y, each below its count in `FACTORS`.
    """
    shape, scale, orientation, x, y = factors.T[..., None, None]  # each (N, 1, 1)
    grid = (torch.arange(2 * size) + 0.5) / size - 1  # two points a pixel, -1 to 1
    angle = orientation * (math.pi / 2 / FACTORS["orientation"])
    half = 0.2 + 0.2 * scale / (FACTORS["scale"] - 1)  # half a side
    across, down = (
        grid - (-0.55 + 1.1 * place / (count - 1)) for place, count in ((x, FACTORS["x"]), (y, FACTORS["y"]))
    )
    down = down.mT  # (N, S, 1): rows
    u = (torch.cos(angle) * across + torch.sin(angle) * down) / half
    v = (-torch.sin(angle) * across + torch.cos(angle) * down) / half
    inside = torch.where(shape == 0, torch.maximum(u.abs(), v.abs()) < 1, u**2 + (2 * v) ** 2 < 1)
    heart = (u**2 + v**2 - 1) ** 3 + u**2 * v**3 < 0  # v points down, so the tip does too
    inside = torch.where(shape == 2, heart, inside)
    return F.avg_pool2d(inside.float()[:, None], 2)


def sample(count: int, seed: int) -> Int[Tensor, "n 5"]:
    """Random factors, each value equally likely."""
    rng = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randint(n, (count,), generator=rng) for n in COUNTS], dim=1)

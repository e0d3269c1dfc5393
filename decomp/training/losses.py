"""What the two networks of the training minimise, each term a mean over photos.

Every term is a mean over photos of something that each photo has by itself, so that a batch may be split over
processes or accumulated.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..metrics import total_variation


def r1_penalty(logits: Float[Tensor, "b"], x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, ""]:
    """Half the squared gradient of the discriminator at real photos (Mescheder et al., 2018)."""
    (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    return 0.5 * gradient.square().sum(dim=(1, 2, 3)).mean()


def fidelity(f: Float[Tensor, "b 3 h w"], x: Float[Tensor, "b 3 h w"], same: Tensor) -> Float[Tensor, ""]:
    """Mean |f - x| of the photos whose target is their own class, `same` (b,) being booleans."""
    return (f - x).abs().mean(dim=(1, 2, 3))[same].sum() / same.sum().clamp_min(1)


def smoothness(residual: Float[Tensor, "b 3 h w"], x: Float[Tensor, "b 3 h w"], bound: float) -> Float[Tensor, ""]:
    """Hinge relu(TV(R) / TV(x) - bound): R must stay an over-smoothed photo, or the channels have nothing to do."""
    return F.relu(total_variation(residual) / total_variation(x).clamp_min(1e-6) - bound).mean()


def cancellation(channels: Float[Tensor, "b m 3 h w"]) -> Float[Tensor, ""]:
    """relu(sum_k |v_k|^2 - |sum_k v_k|^2), mean over pixels: what the branches spend on undoing each other."""
    apart = channels.square().sum(dim=1).mean(dim=(1, 2, 3))
    together = channels.sum(dim=1).square().mean(dim=(1, 2, 3))
    return F.relu(apart - together).mean()


def overlap(channels: Float[Tensor, "b m 3 h w"], floor: float = 0.02) -> Float[Tensor, ""]:
    """Squared correlation of two channels, mean over all pairs; those with an rms below `floor` count for less."""
    flat = channels.flatten(2)
    flat = flat - flat.mean(dim=2, keepdim=True)
    unit = flat / (flat.square().sum(dim=2, keepdim=True) + floor**2 * flat.shape[2]).sqrt()
    squared = (unit @ unit.mT).square()  # (B, M, M)
    m = channels.shape[1]
    return (squared.sum(dim=(1, 2)) - squared.diagonal(dim1=1, dim2=2).sum(dim=1)).mean() / max(1, m * (m - 1))


def offset(channels: Float[Tensor, "b m 3 h w"], patch: int) -> Float[Tensor, ""]:
    """Sum over channels and colours of the squared mean colour, which would only cancel in the sum.

    Each pixel of a patch has its own mean, or else channels are covered by meshes that cancel.
    """
    means = F.pixel_unshuffle(channels.flatten(0, 1), patch).mean(dim=(2, 3))  # (B * M, 3 * patch^2)
    return means.square().sum() / (len(channels) * patch**2)

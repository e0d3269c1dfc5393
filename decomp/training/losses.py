"""What the two networks of the training minimise: one function a term.

A term is a mean over photos of something that each photo has by itself, so that a batch may be split over processes or
accumulated. The exceptions, `balance`, `stamp` and `mesh`, look at the photos of one part of a batch together.

What ties a channel to a meaning is that it stays the same thing after a change that keeps the meaning: the photo
mirrored and shifted (`twin`), or made smaller (`scale`). `exclusive` asks that few channels speak at any one place,
`balance` that none falls silent, `stamp` that none draws the same picture into every photo.
"""

import functools
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..metrics import mesh_ratios, smaller, total_variation
from .moments import covariance, inner

Moments = tuple[Float[Tensor, "b m h w"], Float[Tensor, "b m h w"]]


def r1_penalty(logits: Float[Tensor, "b"], x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, ""]:
    """Half the squared gradient of the discriminator at real photos (Mescheder et al., 2018)."""
    (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    return 0.5 * gradient.square().sum(dim=(1, 2, 3)).mean()


def wrong_class(logits: Float[Tensor, "b domains"], y: Int[Tensor, "b"]) -> Float[Tensor, ""]:
    """Logistic loss of real photos shown under the other classes' names: to the critic they are wrong, too.

    So that the critic learns what a class looks like, not only what is real (Reed et al., 2016, arXiv 1605.05396).
    """
    if logits.shape[1] == 1:
        return logits.sum() * 0
    others = torch.ones_like(logits).scatter_(1, y[:, None], 0)
    return (F.softplus(logits) * others).sum() / others.sum()


def fidelity(f: Float[Tensor, "b 3 h w"], x: Float[Tensor, "b 3 h w"], same: Bool[Tensor, "b"]) -> Float[Tensor, ""]:
    """Mean |f - x| of the photos whose target is their own class."""
    return (f - x).abs().mean(dim=(1, 2, 3))[same].sum() / same.sum().clamp_min(1)


def smoothness(residual: Float[Tensor, "b 3 h w"], x: Float[Tensor, "b 3 h w"], bound: float) -> Float[Tensor, ""]:
    """Hinge relu(TV(R) / TV(x) - bound): R must stay an over-smoothed photo, or the channels have nothing to do."""
    return F.relu(total_variation(residual) / total_variation(x).clamp_min(1e-6) - bound).mean()


def tint(residual: Float[Tensor, "b 3 h w"], x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, ""]:
    """Mean |R - x| after averaging over windows of a quarter of the side: R keeps the photo's colours and light.

    Else R takes on the colour that the channels then add, each a tinted one.
    """
    window = max(1, x.shape[-1] // 4)
    return F.avg_pool2d(residual - x, window, max(1, window // 2)).abs().mean()


def details(x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """What a photo holds beside its light and colours on a grid of eight by eight: what channels may be parts of."""
    grid = F.adaptive_avg_pool2d(x, 8)
    return x - F.interpolate(grid, x.shape[-2:], mode="bicubic")


def cancellation(
    channels: Float[Tensor, "b m 3 h w"], whole: Float[Tensor, "b 3 h w"], moments: Moments, window: int = 9
) -> Float[Tensor, ""]:
    """What each channel draws against the whole that it should be a part of, relative to its energy.

    relu(-<v_k, whole - v_k>) against |v_k|^2, the inner product being a mean over a window of so many pixels, once for
    light (the mean of the colours) and once for hue (what is left). It is 0 where each channel is a part of the whole:
    blue here and orange there, or white made of green and magenta, cost the same however weak they are.

    Args:
        whole: `details` of the photo for same-class samples, else the sum of the channels.
        moments: `light_and_energy` of the channels.
    """
    light, energy = moments
    of_light = light * (whole.mean(dim=1, keepdim=True) - light)
    of_hue = inner(channels, whole) - energy - of_light
    stride = window // 2 + 1
    undone = [F.relu(-F.avg_pool2d(part, window, stride)).mean(dim=(2, 3)) for part in (of_light, of_hue)]  # (B, M)
    return (sum(undone) / (energy.mean(dim=(2, 3)) + 1e-4)).mean()


def overlap(channels: Float[Tensor, "b m 3 h w"], floor: float = 0.005) -> Float[Tensor, ""]:
    """Squared correlation of two channels, mean over all pairs; those with an rms below `floor` count for less."""
    of_pairs = covariance(channels)
    variance = of_pairs.diagonal(dim1=1, dim2=2)
    squared = of_pairs.square() / ((variance + floor**2)[:, :, None] * (variance + floor**2)[:, None])
    m = channels.shape[1]
    return (squared.sum(dim=(1, 2)) - squared.diagonal(dim1=1, dim2=2).sum(dim=1)).mean() / max(1, m * (m - 1))


def offset(channels: Float[Tensor, "b m 3 h w"], patch: int) -> Float[Tensor, ""]:
    """Sum over channels and colours of the squared mean colour, which would only cancel in the sum.

    Each pixel of a patch has its own mean, or else channels are covered by meshes that cancel.
    """
    rows, columns = (torch.eye(patch).repeat(1, n // patch).to(channels) * patch / n for n in channels.shape[-2:])
    means = rows @ (channels @ columns.mT)  # (B, M, 3, patch, patch)
    return means.square().sum() / (len(channels) * patch**2)


def perceptual(
    features: Callable[[Tensor], list[Tensor]],
    f: Float[Tensor, "b 3 h w"],
    x: Float[Tensor, "b 3 h w"],
    same: Bool[Tensor, "b"],
) -> Float[Tensor, ""]:
    """Relative L1 of feature maps of f and x, mean over maps; same-class photos only, as in `fidelity`."""
    if not same.any():
        return f.sum() * 0
    with torch.no_grad():
        wanted = features(x[same])
    made = features(f[same])
    return sum((a - b).abs().mean() / b.abs().mean().clamp_min(1e-6) for a, b in zip(made, wanted)) / len(wanted)


# what ties a channel to a meaning


def difference(a: Float[Tensor, "b m 3 h w"], b: Float[Tensor, "b m 3 h w"]) -> Float[Tensor, ""]:
    """|a - b|^2 / (|a|^2 + |b|^2), mean over photos and channels: 0 where two sets of channels are equal, 1 where they
    are unrelated. Each channel counts alike, however weak."""
    energy = lambda t: torch.linalg.vector_norm(t, dim=(2, 3, 4)).square() / t[0, 0].numel()
    return (energy(a - b) / (energy(a) + energy(b) + 1e-4)).mean()


def twins(x: Float[Tensor, "b 3 h w"], shift: tuple[int, int], size: int) -> Float[Tensor, "b2 3 s s"]:
    """Each photo's upper left square of `size`, then for each a square `shift` = (down, right) pixels on, mirrored."""
    down, right = shift
    moved = x[..., down : down + size, right : right + size].flip(-1)
    return torch.cat([x[..., :size, :size], moved])


def twin(channels: Float[Tensor, "b2 m 3 s s"], shift: tuple[int, int]) -> Float[Tensor, ""]:
    """`difference` of the channels of `twins`, the mirrored ones mirrored back, where the two views overlap."""
    (down, right), size = shift, channels.shape[-1]
    view, moved = channels.chunk(2)
    return difference(view[..., down:, right:], moved.flip(-1)[..., : size - down, : size - right])


def scale(channels: Float[Tensor, "b m 3 h w"], of_small: Float[Tensor, "b m 3 h2 w2"]) -> Float[Tensor, ""]:
    """`difference` of the channels made smaller and the channels of the photo made smaller."""
    return difference(smaller(channels, of_small.shape[-1] / channels.shape[-1]), of_small)


def bands(moments: Moments) -> Float[Tensor, "b m 3 h2 w2"]:
    """Local energy of each channel in three bands, fine light, coarse light and hue: 5 x 5 means at every second pixel.

    Light is the mean of the colours, coarse what a 9 x 9 mean keeps of it, hue what is left of the colours.

    Args:
        moments: `light_and_energy` of the channels.
    """
    light, energy = moments
    coarse = box_mean(light, 9)
    parts = (light - coarse).square(), coarse.square(), energy - light.square()
    return torch.stack([box_mean(part, 5, stride=2) for part in parts], dim=2) + 1e-6


def box_mean(u: Float[Tensor, "b c h w"], side: int, stride: int = 1) -> Float[Tensor, "b c h2 w2"]:
    """Mean over squares of `side` (odd) pixels, of what lies inside the picture.

    As two products with banded matrices, which take a fifth of the time of `avg_pool2d` with its gradient.
    """
    rows, columns = (_means(n, side, stride).to(u) for n in u.shape[-2:])
    return rows @ (u @ columns.mT)


@functools.lru_cache(maxsize=64)
def _means(n: int, side: int, stride: int) -> Float[Tensor, "n2 n"]:
    """Mean over `side` of n pixels around every `stride`-th one, as a matrix."""
    apart = torch.arange(n) - torch.arange(0, n, stride)[:, None]
    inside = (apart.abs() <= side // 2).float()
    return inside / inside.sum(dim=1, keepdim=True)


def exclusive(bands: Float[Tensor, "b m n h w"]) -> Float[Tensor, ""]:
    """Entropy, 0 to 1, of the channels' shares of each place's energy in each of the `bands`.

    Weighted by the root of that energy. Taken band by band, fur, contour and hue may share a place.
    """
    total = bands.sum(dim=1, keepdim=True)
    share = bands / total
    entropy = -(share * share.log()).sum(dim=1) / math.log(max(2, bands.shape[1]))
    weight = total[:, 0].sqrt()
    return (entropy * weight).sum() / weight.sum()


def balance(bands: Float[Tensor, "b m 3 h w"], floor: float = 0.06) -> Float[Tensor, ""]:
    """Ten times how far channels fall below `floor` of the energy of all, summed over channels.

    Half of it is for all `bands` together and half for fine light and hue: a channel without them has a slider that
    only shades.
    """
    energy = bands.mean(dim=(0, 3, 4))  # (M, 3)
    shares = torch.stack([energy.sum(dim=1), energy[:, 0] + energy[:, 2]], dim=1)
    return 5 * F.relu(floor - shares / shares.sum(dim=0)).sum()


def mesh(channels: Float[Tensor, "b m 3 h w"]) -> Float[Tensor, ""]:
    """How far energy at the periods of the patches stands above its neighbours: logarithm, mean over channels."""
    return F.relu(mesh_ratios(channels).log()).mean()


def stamp(channels: Float[Tensor, "b m 3 h w"]) -> Float[Tensor, ""]:
    """Mean inner product of a channel in two different photos, each channel at unit rms; only what is positive counts.

    It is the energy that is the same picture in every photo.
    """
    v = channels.flatten(2)  # (B, M, N)
    energy = v.square().sum(dim=(0, 2))  # (M,)
    pairs = v.sum(dim=0).square().sum(dim=1) - energy  # inner products of two different photos
    unit = ((energy / (len(v) * v.shape[2])).sqrt() + 1e-3).square() * v.shape[2]
    return F.relu(pairs / unit / max(1, len(v) * (len(v) - 1))).mean()

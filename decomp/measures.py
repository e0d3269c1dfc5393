"""Figures that tell a decomposition from a failed run (R = x, or v_k = phi_k), however good the losses look."""

import torch
from jaxtyping import Float
from torch import Tensor

ACTIVE = 0.1  # a branch is active if its response is at least this share of the largest one's (figure 4)


def total_variation(u: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b"]:
    """Anisotropic total variation per pixel and colour, |du/dx| + |du/dy|."""
    dx, dy = (u[..., :, 1:] - u[..., :, :-1]).abs(), (u[..., 1:, :] - u[..., :-1, :]).abs()
    return dx.mean(dim=(1, 2, 3)) + dy.mean(dim=(1, 2, 3))


def rms(v: Float[Tensor, "b m 3 h w"]) -> Float[Tensor, "m"]:
    """Root mean square of each channel over photos, colours and pixels: its response norm."""
    return v.square().mean(dim=(0, 2, 3, 4)).sqrt()


def active(v: Float[Tensor, "b m 3 h w"]) -> Tensor:
    """Booleans (M,): response norm at least 10 % of the largest channel's."""
    r = rms(v)
    return r >= ACTIVE * r.max()


def _standardised(v: Float[Tensor, "b m 3 h w"]) -> Float[Tensor, "b m n"]:
    flat = v.flatten(2)
    flat = flat - flat.mean(dim=2, keepdim=True)
    return flat / flat.norm(dim=2, keepdim=True).clamp_min(1e-12)


def channel_correlation(v: Float[Tensor, "b m 3 h w"]) -> Float[Tensor, ""]:
    """Mean |Pearson correlation| over the pairs of active channels, taken within each photo."""
    s = _standardised(v[:, active(v)])
    c = (s @ s.mT).abs()  # (B, A, A)
    a = c.shape[1]
    if a < 2:
        return c.new_zeros(())
    return (c.sum(dim=(1, 2)) - a).mean() / (a * (a - 1))


def input_correlation(v: Float[Tensor, "b m 3 h w"], phi: Float[Tensor, "b m 3 h w"]) -> Float[Tensor, "m"]:
    """Pearson correlation of each v_k with its own phi_k, taken within each photo, then averaged."""
    return (_standardised(v) * _standardised(phi)).sum(dim=2).mean(dim=0)


def linear_share(v: Float[Tensor, "b m 3 h w"], phi: Float[Tensor, "b m 3 h w"]) -> Float[Tensor, "m"]:
    """Share of v_k's variance that one linear combination of all phi's (and their colours) explains, pixel by pixel.

    1 means that the channel is a fixed filter of the photo: a plain filter bank, the second trap.
    """
    features = phi.permute(0, 3, 4, 1, 2).flatten(0, 2).flatten(1).double()  # (pixels, 3 M)
    targets = v.permute(0, 3, 4, 1, 2).flatten(0, 2).flatten(1).double()
    features, targets = features - features.mean(0), targets - targets.mean(0)
    gram = features.mT @ features
    gram += 1e-9 * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    left = targets - features @ torch.linalg.solve(gram, features.mT @ targets)
    per_channel = lambda t: t.square().sum(0).view(v.shape[1], 3).sum(1)
    return (1 - per_channel(left) / per_channel(targets).clamp_min(1e-12)).float()


def psnr(f: Float[Tensor, "b 3 h w"], x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b"]:
    """Peak signal-to-noise ratio in dB of pictures in [-1, 1] (peak 2), f clipped to that range."""
    return 10 * torch.log10(4 / (f.clamp(-1, 1) - x).square().mean(dim=(1, 2, 3)))


def summary(x: Float[Tensor, "b 3 h w"], output) -> dict:
    """The figures of one batch of same-class re-generations, `output` being a `generator.Output`."""
    v, phi, r = output.channels, output.phi, output.residual
    rounded = lambda t: [round(float(a), 4) for a in t]
    return {
        "tv_ratio": float((total_variation(r) / total_variation(x)).mean()),
        "x_minus_residual": float((x - r).abs().mean()),
        "l1": float((x - output.image).abs().mean()),
        "psnr": float(psnr(output.image, x).mean()),
        "psnr_of_residual": float(psnr(r, x).mean()),
        "rms_channels": rounded(rms(v)),
        "rms_phi": rounded(rms(phi)),
        "active": int(active(v).sum()),
        "channel_correlation": float(channel_correlation(v)),
        "input_correlation": rounded(input_correlation(v, phi)),
        "linear_share": rounded(linear_share(v, phi)),
    }

"""Figures that distinguish a decomposition from a failed run (R = x, or v_k = phi_k), whatever the losses."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from .generator import Output

ACTIVE = 0.1  # a branch is active if its response is at least this share of the largest one's (figure 4)


def smaller(x: Float[Tensor, "*b h w"], factor: float) -> Float[Tensor, "*b h2 w2"]:
    """Pictures, or channels of pictures, made smaller without aliasing."""
    side = [round(n * factor) for n in x.shape[-2:]]
    small = F.interpolate(x.reshape(-1, *x.shape[-3:]), side, mode="bilinear", antialias=True)
    return small.reshape(*x.shape[:-2], *side)


def total_variation(u: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b"]:
    """Anisotropic total variation per pixel and colour, |du/dx| + |du/dy|."""
    dx, dy = (u[..., :, 1:] - u[..., :, :-1]).abs(), (u[..., 1:, :] - u[..., :-1, :]).abs()
    return dx.mean(dim=(1, 2, 3)) + dy.mean(dim=(1, 2, 3))


def rms(v: Float[Tensor, "b m 3 h w"]) -> Float[Tensor, "m"]:
    """Root mean square of each channel over photos, colours and pixels: its response norm."""
    return v.square().mean(dim=(0, 2, 3, 4)).sqrt()


def strong(response: Float[Tensor, "*runs m"]) -> Bool[Tensor, "*runs m"]:
    """Which of the response norms are at least 10 % of the largest."""
    return response >= ACTIVE * response.amax(dim=-1, keepdim=True)


def active(v: Float[Tensor, "b m 3 h w"]) -> Bool[Tensor, "m"]:
    """Which channels' response norms are at least 10 % of the largest channel's."""
    return strong(rms(v))


def _standardised(v: Float[Tensor, "b m 3 h w"]) -> Float[Tensor, "b m n"]:
    flat = v.flatten(2)
    flat = flat - flat.mean(dim=2, keepdim=True)
    return flat / flat.norm(dim=2, keepdim=True).clamp_min(1e-12)


def within_photo(v: Float[Tensor, "b m 3 h w"], w: Float[Tensor, "b n 3 h w"]) -> Float[Tensor, "b m n"]:
    """Pearson correlation of every layer of v with every layer of w, in each photo on its own."""
    return _standardised(v) @ _standardised(w).mT


def mean_over_pairs(correlation: Float[Tensor, "m m"], chosen: Bool[Tensor, "m"]) -> Float[Tensor, ""]:
    """Mean off the diagonal, over the chosen channels; 0 where there are fewer than two."""
    c = correlation[chosen][:, chosen]
    pairs = len(c) * (len(c) - 1)
    return (c.sum() - c.trace()) / max(1, pairs)


def channel_correlation(v: Float[Tensor, "b m 3 h w"]) -> Float[Tensor, ""]:
    """Mean |Pearson correlation| over the pairs of active channels, taken within each photo."""
    return mean_over_pairs(within_photo(v, v).abs().mean(dim=0), active(v))


def matched_correlation(v: Float[Tensor, "b m 3 h w"], w: Float[Tensor, "b m 3 h w"]) -> Float[Tensor, "m"]:
    """Pearson correlation of each v_k with w_k, taken within each photo, then averaged."""
    return (_standardised(v) * _standardised(w)).sum(dim=2).mean(dim=0)


CHANGES = {  # changes of a photo that keep what its channels mean; made to the channels, they give what is expected
    "mirror": lambda u: u.flip(-1),
    "shift": lambda u: u[..., 1:, 1:],  # by a pixel in both directions
    "scale 75 %": lambda u: smaller(u, 0.75),
    "scale 50 %": lambda u: smaller(u, 0.5),
}


def steadiness(
    generator: Callable[[Tensor, Tensor], "Output"],
    x: Float[Tensor, "b 3 h w"],
    y: Tensor,
    v: Float[Tensor, "b m 3 h w"],
    changes: Iterable[str] = tuple(CHANGES),
) -> dict[str, Float[Tensor, "m"]]:
    """How far each channel stays the same thing when x is changed: `matched_correlation` of change(v) and v(change(x)).

    Args:
        y: class of each photo.
        v: channels of x.
        changes: names of `CHANGES`.
    """
    measured = {}
    for name in changes:
        change = CHANGES[name]
        measured[name] = matched_correlation(change(v), generator(change(x).contiguous(), y).channels)
    return measured


def mesh(v: Float[Tensor, "b m 3 h w"]) -> Float[Tensor, "m"]:
    """Energy of each channel at periods of 2 and 4 pixels against neighbouring frequencies; 1 where there is no mesh.

    The largest of `mesh_ratios`.
    """
    return mesh_ratios(v).amax(dim=0)


def mesh_ratios(v: Float[Tensor, "b m 3 h w"]) -> Float[Tensor, "8 m"]:
    """Energy at each multiple of a quarter of the sampling frequency, horizontal, vertical and both, against what is
    2 to 4 steps of the spectrum away along both axes. Hann window. 4 pixels are the largest patch that a model with
    `patch` 2 unshuffles.
    """
    near = torch.arange(-4, 5, device=v.device)

    def waves(n: int) -> Float[Tensor, "73 n"]:
        """Cosine, then sine, of these frequencies only, with the window; last what takes the mean."""
        frequencies = (torch.arange(4, device=v.device)[:, None] * n // 4 + near).flatten()
        phase = 2 * torch.pi * torch.outer(frequencies, torch.arange(n, device=v.device)) / n
        windowed = torch.cat([phase.cos(), phase.sin()]) * torch.hann_window(n, device=v.device)
        return torch.cat([windowed, torch.full_like(phase[:1], 1 / n)])

    rows, columns = map(waves, v.shape[-2:])
    transform = rows @ (v @ columns.mT)  # (B, M, 3, 73, 73)
    transform, mean = transform[..., :-1, :-1], transform[..., -1:, -1:]
    # of v without its mean
    transform = transform - mean * torch.outer(rows[:-1].sum(dim=1), columns[:-1].sum(dim=1))
    (cc, cs), (sc, ss) = (half.chunk(2, dim=4) for half in transform.chunk(2, dim=3))
    power = ((cc - ss).square() + (cs + sc).square()).mean(dim=(0, 2))  # (M, 36, 36)
    power = power.unflatten(1, (4, 9)).unflatten(3, (4, 9))
    ring = torch.ones(9, 9, dtype=torch.bool, device=v.device)
    ring[3:6, 3:6] = False
    ratios = []
    for i, j in [(0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (2, 2), (1, 2), (2, 1)]:
        block = power[:, i, :, j]  # (M, 9, 9), the frequency in the middle
        ratios.append(block[:, 3:6, 3:6].mean(dim=(1, 2)) / block[:, ring].mean(dim=1).clamp_min(1e-20))
    return torch.stack(ratios)


def stamp_share(v: Float[Tensor, "b m 3 h w"]) -> Float[Tensor, "m"]:
    """Share of each channel's energy that is the same in every photo: |mean v|^2 / mean |v|^2, unbiased."""
    flat = v.flatten(2).double()
    return stamp_share_of_sums(flat.sum(dim=0), flat.square().sum(dim=(0, 2)), len(v)).float()


def stamp_share_of_sums(picture: Float[Tensor, "m n"], energy: Float[Tensor, "m"], photos: int) -> Float[Tensor, "m"]:
    """`stamp_share` from sums over photos: of each channel, and of its squares (summed over colours and pixels too)."""
    return (picture.square().sum(dim=1) - energy) / (max(1, photos - 1) * energy.clamp_min(1e-12))


def linear_share(v: Float[Tensor, "b m 3 h w"], phi: Float[Tensor, "b m 3 h w"]) -> Float[Tensor, "m"]:
    """Share of v_k's variance that one linear combination of all phi's (and their colours) explains, pixel by pixel.

    1 means that the channel is a fixed filter of the photo: the network is then a plain filter bank.
    """
    moments = Moments()
    moments.add(v, phi)
    return moments.linear_share()


class Moments:
    """Sums over photos and pixels from which covariances and linear fits follow: (6 M)^2 numbers, however many photos.

    A pixel is one row of 6 M numbers: the colours of phi_1 .. phi_M, then those of v_1 .. v_M. Sums are in float64, as
    a covariance is the small difference of two of them.
    """

    def __init__(self):
        self.pixels, self.sum, self.gram = 0, 0, 0

    def add(self, v: Float[Tensor, "b m 3 h w"], phi: Float[Tensor, "b m 3 h w"]) -> None:
        for photo in torch.cat([phi, v], dim=1).flatten(1, 2).flatten(2):  # (6 M, pixels), one photo at a time
            rows = photo.double()
            self.pixels += rows.shape[1]
            self.sum = self.sum + rows.sum(dim=1).cpu()
            self.gram = self.gram + (rows @ rows.mT).cpu()

    def _layers(self) -> tuple[Float[Tensor, "m2"], Float[Tensor, "m2 m2"]]:
        """Mean of each layer and of each product of two, over photos, colours and pixels; the phi's, then the v's."""
        layers = len(self.sum) // 3
        products = self.gram.view(layers, 3, layers, 3).diagonal(dim1=1, dim2=3)
        return self.sum.view(layers, 3).mean(dim=1) / self.pixels, products.mean(dim=2) / self.pixels

    def rms(self) -> tuple[Float[Tensor, "m"], Float[Tensor, "m"]]:
        """As `rms`, of the channels and of the phi's."""
        phi, v = self._layers()[1].diagonal().sqrt().chunk(2)
        return v, phi

    def covariance(self) -> Float[Tensor, "m m"]:
        """Covariance between channels over photos, colours and pixels; its diagonal is their variance."""
        mean, products = self._layers()
        m = len(mean) // 2
        return (products - mean[:, None] * mean)[m:, m:]

    def linear_share(self) -> Float[Tensor, "m"]:
        """As `linear_share` of everything that was added."""
        centred = self.gram - self.sum[:, None] * self.sum / self.pixels
        half = len(centred) // 2
        features, cross, targets = centred[:half, :half], centred[:half, half:], centred[half:, half:].diagonal()
        ridge = 1e-9 * features.diagonal().mean().clamp_min(1e-12) * torch.eye(half, dtype=features.dtype)
        weights = torch.linalg.solve(features + ridge, cross)
        explained = (weights * (2 * cross - features @ weights)).sum(dim=0)  # of the squares of each v's each colour
        per_channel = lambda t: t.view(-1, 3).sum(dim=1)
        return (per_channel(explained) / per_channel(targets).clamp_min(1e-12)).float()


def psnr(f: Float[Tensor, "b 3 h w"], x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b"]:
    """Peak signal-to-noise ratio in dB of pictures in [-1, 1] (peak 2), f clipped to that range."""
    return 10 * torch.log10(4 / (f.clamp(-1, 1) - x).square().mean(dim=(1, 2, 3)))


class Summary:
    """The figures of same-class re-generations, fed batch by batch: no pixel is kept, so photos may be many and large.

    Example:
        >>> from decomp.generator import Output
        >>> all_figures, x = Summary(), torch.rand(2, 3, 8, 8)
        >>> all_figures.add(x, Output(x / 2, torch.rand(2, 4, 3, 8, 8), torch.rand(2, 4, 3, 8, 8)))
        >>> all_figures.figures()["active"]
        4
    """

    def __init__(self):
        self.moments = Moments()
        self.photos, self.means, self.correlations, self.with_input = 0, {}, 0, 0

    def add(self, x: Float[Tensor, "b 3 h w"], output) -> None:
        """Photos (b, 3, h, w) in [-1, 1] and the `generator.Output` of their own class."""
        v, phi, r = output.channels, output.phi, output.residual
        per_photo = {
            "tv_ratio": total_variation(r) / total_variation(x),
            "x_minus_residual": (x - r).abs().mean(dim=(1, 2, 3)),
            "l1": (x - output.image).abs().mean(dim=(1, 2, 3)),
            "psnr": psnr(output.image, x),
            "psnr_of_residual": psnr(r, x),
        }
        for name, values in per_photo.items():
            self.means[name] = self.means.get(name, 0) + float(values.double().sum())
        self.photos += len(x)
        self.correlations = self.correlations + within_photo(v, v).abs().sum(dim=0).double().cpu()
        self.with_input = self.with_input + len(x) * matched_correlation(v, phi).double().cpu()
        self.moments.add(v, phi)

    def figures(self) -> dict:
        """Means over all photos as numbers and lists that fit into JSON."""
        v, phi = self.moments.rms()
        rounded = lambda t: [round(float(a), 4) for a in t]
        return {name: total / self.photos for name, total in self.means.items()} | {
            "rms_channels": rounded(v),
            "rms_phi": rounded(phi),
            "active": int(strong(v).sum()),
            "channel_correlation": float(mean_over_pairs(self.correlation(), strong(v))),
            "input_correlation": rounded(self.with_input / self.photos),
            "linear_share": rounded(self.moments.linear_share()),
        }

    def correlation(self) -> Float[Tensor, "m m"]:
        """Mean over photos of the |Pearson correlation| between channels within a photo."""
        return self.correlations / self.photos


def summary(x: Float[Tensor, "b 3 h w"], output) -> dict:
    """The figures of one batch of same-class re-generations, `output` being a `generator.Output`."""
    all_figures = Summary()
    all_figures.add(x, output)
    return all_figures.figures()

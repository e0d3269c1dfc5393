"""Names for channels. Their order is arbitrary in every training run, so a channel's role is measured, never coded.

Measured per channel over validation photos of every class:

- energy: root mean square, and its share in each class;
- wavelength: period in pixels at the centroid of its power spectrum;
- direction: angle of the strokes and how much of the gradient agrees with it (structure tensor of the lightness);
- lightness: share of the energy along grey; the rest is colour, with the hue of its main axis;
- skew: above zero it adds bright spots, below zero dark ones;
- where: its energy per pixel in each zone of the face against the whole square;
- often: the share of photos in which that is above 1.5.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float
from kornia.filters import spatial_gradient
from torch import Tensor

from ..metrics import active, rms

# (centre x, centre y, radius) of discs in the framing of AFHQ and CelebA-HQ crops, in units of the square's side
ZONES = {
    "cat": {"eyes": [(0.33, 0.44, 0.09), (0.67, 0.44, 0.09)], "nose": [(0.5, 0.68, 0.1)], "mouth": [(0.5, 0.82, 0.09)]},
    "human": {
        "eyes": [(0.37, 0.47, 0.08), (0.63, 0.47, 0.08)],
        "nose": [(0.5, 0.6, 0.08)],
        "mouth": [(0.5, 0.76, 0.1)],
    },
}
HUES = ("red", "orange", "yellow", "green", "green", "cyan", "cyan", "blue", "blue", "violet", "violet", "magenta")
OPPOSITE = {
    "red": "cyan",
    "orange": "blue",
    "yellow": "blue",
    "green": "magenta",
    "cyan": "red",
    "blue": "orange",
    "violet": "yellow",
    "magenta": "green",
}
FINE, SOFT = 0.07, 0.14  # of the square's side: wavelengths below are fine, above soft
HUED, TINTED = 0.5, 0.75  # share of the energy along grey below which a channel is a hue, below which it has one
DIRECTED = 0.4  # coherence of strokes of one direction
ONE_SIDED, SPARSE = 0.5, 2.5  # skew of lines that are bright or dark, of spots on nothing
AT_ZONE = 2.5  # energy per pixel in a zone of the face against the whole square, from which a name says so
ALWAYS, OFTEN = 0.8, 0.5  # share of photos that must agree, to say "at" and "often at"
DIRECTIONS = ("vertical", "rising", "horizontal", "falling")


def zone_masks(kind: str, h: int, w: int) -> dict[str, Bool[Tensor, "h w"]]:
    """Boolean masks of the zones of a "cat" or "human" face, and "rim": farther than 0.45 from the centre."""
    y, x = torch.meshgrid((torch.arange(h) + 0.5) / h, (torch.arange(w) + 0.5) / w, indexing="ij")
    inside = lambda cx, cy, r: (x - cx) ** 2 + (y - cy) ** 2 < r**2
    discs = ZONES.get(kind, {})
    masks = {zone: torch.stack([inside(*disc) for disc in discs[zone]]).any(0) for zone in discs}
    return masks | {"rim": ~inside(0.5, 0.5, 0.45)}


def wavelength(grey: Float[Tensor, "b h w"]) -> float:
    """Pixels per period at the centroid of the power spectrum (mean taken off)."""
    power = torch.fft.fft2(grey - grey.mean(dim=(1, 2), keepdim=True)).abs().square().mean(0)
    fy, fx = torch.fft.fftfreq(grey.shape[1])[:, None], torch.fft.fftfreq(grey.shape[2])[None]
    return float(power.sum() / (power * (fx**2 + fy**2).sqrt()).sum())


def direction(grey: Float[Tensor, "b h w"]) -> tuple[float, float]:
    """Angle of the strokes in degrees (0 vertical, 45 "/", 90 horizontal, 135 "\\") and coherence 0 .. 1."""
    gx, gy = spatial_gradient(grey[:, None])[:, 0].unbind(dim=1)
    xx, yy, xy = gx.square().mean(), gy.square().mean(), (gx * gy).mean()
    angle = 0.5 * torch.atan2(2 * xy, xx - yy)  # of the gradient; strokes run across it
    coherence = torch.hypot(xx - yy, 2 * xy) / (xx + yy)
    return float(torch.rad2deg(angle)) % 180, float(coherence)


def colour(v: Float[Tensor, "b 3 h w"]) -> tuple[float, str]:
    """Share of the energy along grey, and the hue at the positive end of the main colour axis.

    The positive end is the one with the heavier tail: what the channel adds where it adds most.
    """
    pixels = v.permute(0, 2, 3, 1).reshape(-1, 3)
    pixels = pixels - pixels.mean(0)
    grey = pixels.mean(dim=1, keepdim=True)
    chroma = pixels - grey
    share = float(3 * grey.square().sum() / pixels.square().sum())
    axis = torch.linalg.eigh(chroma.mT @ chroma)[1][:, -1]
    axis = axis * torch.sign(((chroma @ axis) ** 3).sum())
    # hue angle in the plane across grey: red at 0, green at 120, blue at 240 degrees
    angle = np.degrees(np.arctan2(np.sqrt(3) / 2 * float(axis[1] - axis[2]), float(axis[0] - (axis[1] + axis[2]) / 2)))
    return share, HUES[round(angle / 30) % 12]


def measure(channels: Float[Tensor, "b m 3 h w"], domains: list[str], face: dict[str, str]) -> list[dict]:
    """The figures above for every channel.

    Args:
        channels: v_k of some photos of every class.
        domains: class of each photo.
        face: per class how its face is found. "where" is measured on the classes whose faces are framed, not "centre";
            "often" on all, as the squares of a data set are framed alike.
    """
    _, m, _, h, w = channels.shape
    kind = next((k for k in face.values() if k in ZONES), "centre")
    framed = torch.tensor([face[domain] == kind for domain in domains])
    masks, energies, is_active = zone_masks(kind, h, w), rms(channels), active(channels)
    figures = []
    for k in range(m):
        v = channels[:, k]
        grey = v.mean(dim=1)
        centred = grey - grey.mean(dim=(1, 2), keepdim=True)
        power = (v - v.mean(dim=(2, 3), keepdim=True)).square().mean(dim=1)  # (B, H, W)
        angle, coherence = direction(grey)
        lightness, hue = colour(v)
        at = {zone: power[:, mask].mean(dim=1) / power.mean(dim=(1, 2)) for zone, mask in masks.items()}
        of_class = {d: float(power[[e == d for e in domains]].mean()) for d in dict.fromkeys(domains)}
        figures.append(
            {
                "energy": float(energies[k]),
                "active": bool(is_active[k]),
                "wavelength": wavelength(grey),
                "angle": angle,
                "coherence": coherence,
                "lightness": lightness,
                "hue": hue,
                "skew": float((centred**3).mean() / (centred**2).mean() ** 1.5),
                "where": {
                    zone: float(power[framed][:, mask].mean() / power[framed].mean()) for zone, mask in masks.items()
                },
                "often": {zone: float((ratios > 1.5).float().mean()) for zone, ratios in at.items()},
                "class_share": {d: e / sum(of_class.values()) for d, e in of_class.items()},
            }
        )
    return [{key: _rounded(value) for key, value in f.items()} for f in figures]


def _rounded(value):
    if isinstance(value, dict):
        return {key: _rounded(v) for key, v in value.items()}
    return round(value, 4) if isinstance(value, float) else value


def describe(f: dict, size: int) -> str:
    """A short name for one channel's figures: what it draws, how, and where."""
    if not f["active"]:
        return "silent"
    period, skew = f["wavelength"] / size, f["skew"]
    scale = "fine" if period < FINE else "broad" if period < SOFT else "soft"
    lines = f"{scale} {DIRECTIONS[round(f['angle'] / 45) % 4]} strokes" if f["coherence"] > DIRECTED else ""
    if f["lightness"] < HUED:
        what = f"{f['hue']} against {OPPOSITE[f['hue']]}"
    elif abs(skew) > SPARSE:
        what = "bright patches" if skew > 0 else "dark patches"
    elif scale == "soft":
        what = "soft shade" if skew < -ONE_SIDED else "soft light"
    elif abs(skew) > ONE_SIDED:
        what = lines or f"{scale} {'bright' if skew > 0 else 'dark'} lines"
    else:
        what = lines or f"{scale} texture"
    tinted = f"{f['hue']} {what}" if HUED <= f["lightness"] < TINTED else what
    zone = max(f["where"], key=f["where"].get)
    if f["where"][zone] < AT_ZONE or f["often"][zone] < OFTEN:
        return tinted
    return f"{tinted} {'at' if f['often'][zone] > ALWAYS else 'often at'} {zone}"


def name(figures: list[dict], size: int) -> list[dict]:
    """The same figures, each with a unique "name" in front."""
    counts, named = {}, []
    for f in figures:
        label = describe(f, size)
        counts[label] = counts.get(label, 0) + 1
        named.append({"name": label if counts[label] == 1 else f"{label} {'I' * counts[label]}"} | f)
    return named

"""Requested channels: a code over twelve kinds of content says what each channel may carry.

Coded ResNeXt (A. Avranas and M. Kountouris, NeurIPS 2022; see ../codes.py) fixes which branches serve which class. Here
the code fixes which channels carry which content: six bands of light and hue, at the eyes and the nose or elsewhere.
No photo has a mask: the zones of eyes and nose are averages over aligned animal faces. A branch has no input of
position, so it has to recognise them by their appearance.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from .losses import box_mean
from .moments import light_and_energy

# "bright" and "dark" are markings, "light" and "shade" the soft light; "rest" is what is neither eyes nor nose
BANDS = ("fine", "bright", "dark", "light", "shade", "hue")
CELLS = tuple(f"{place} {band}" for place in ("eyes", "rest") for band in BANDS)
# (centre x, centre y, radius) in units of the side: means of 400 cats, 400 dogs, 400 wild animals of AFHQ
REGION = ((0.35, 0.46, 0.12), (0.65, 0.46, 0.12), (0.5, 0.69, 0.11))
FLOOR = 0.03  # share of the energy of all channels that each keeps, so that what is rare is not left silent
FINE, SOFT = 5, 33  # sides of box means in pixels, for photos of 128 pixels; they grow with the photo


def code_of(contents: tuple[str, ...]) -> Float[Tensor, "m 12"]:
    """One row a channel, 1 for each of `CELLS` that it may carry.

    Args:
        contents: one text a channel, cells divided by commas, such as "eyes fine, eyes dark".
    Raises:
        ValueError: a text is empty or names something else.
    """
    rows = [[cell.strip() for cell in text.split(",")] for text in contents]
    for text, row in zip(contents, rows):
        if not set(row) <= set(CELLS):
            raise ValueError(f"asked_for has {text!r}; accepted, divided by commas: {', '.join(CELLS)}")
    return torch.tensor([[float(cell in row) for cell in CELLS] for row in rows])


def energies(channels: Float[Tensor, "b m 3 h w"]) -> Float[Tensor, "b m 12"]:
    """Energy of each channel in each of `CELLS`, mean over the photo."""
    h, w = channels.shape[-2:]
    fine, soft = (max(3, round(side * h / 256) * 2 + 1) for side in (FINE, SOFT))
    light, energy = light_and_energy(channels)  # (B, M, H, W)
    middle = box_mean(light, fine)
    coarse = box_mean(middle, soft)
    marks = middle - coarse
    bands = [(light - middle).square()]
    bands += [F.relu(sign * part).square() for part in (marks, coarse) for sign in (1, -1)]
    bands = torch.stack([*bands, energy - light.square()], dim=2)  # (B, M, 6, H, W)
    y, x = torch.meshgrid((torch.arange(h) + 0.5) / h, (torch.arange(w) + 0.5) / w, indexing="ij")
    # 1 inside, 0 from 1.5 radii on: faces are not quite in the same place
    inside = torch.stack([1.5 - ((x - cx).square() + (y - cy).square()).sqrt() / r for cx, cy, r in REGION])
    inside = (2 * inside.amax(dim=0)).clamp(0, 1).to(channels)
    return torch.cat([(bands * place).mean(dim=(3, 4)) for place in (inside, 1 - inside)], dim=2)


def asked(channels: Float[Tensor, "b m 3 h w"], code: Float[Tensor, "m 12"]) -> Float[Tensor, ""]:
    """Share of each channel's energy in cells not asked for, plus how far it is below `FLOOR`; mean over channels."""
    energy = energies(channels)  # (B, M, 12)
    of_channels = energy.sum(dim=2)
    wrong = (energy * (1 - code)).sum(dim=2) / (of_channels + 1e-6)
    shares = of_channels.mean(dim=0) / of_channels.mean(dim=0).sum()
    return wrong.mean() + F.relu(1 - shares / FLOOR).mean()

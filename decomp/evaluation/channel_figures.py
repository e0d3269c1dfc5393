"""How useful a channel is: is it the same in a changed photo, and does its slider change anything?"""

import io
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab
from torch import Tensor

from .. import metrics
from ..decomposition import to_bytes
from ..generator import Output
from ..pretrained import Distance

JPEG = 85  # quality
EDITED = 48  # photos that the effect of the sliders is measured on
VISIBLE = 0.02  # LPIPS between edit and photo from which a change counts as visible
NOTICED = 2.3  # colour difference that is just noticed (Mahy et al., 1994)
MOST = 0.95  # quantile of the pixels: what the 5 % that change most change by


def as_jpeg(x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """Photos in [-1, 1] after a JPEG file of quality 85."""
    decoded = []
    for pixels in to_bytes(x.permute(0, 2, 3, 1).cpu().numpy()):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=JPEG)
        decoded.append(np.asarray(Image.open(file)))
    return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).to(x) / 127.5 - 1


def colour_change(edit: Float[Tensor, "b 3 h w"], x: Float[Tensor, "b 3 h w"]) -> float:
    """CIEDE2000 between pictures in [-1, 1] that 5 % of the pixels exceed, mean over the batch."""
    a, b = (rgb2lab((u.cpu().clamp(-1, 1).permute(0, 2, 3, 1).numpy() + 1) / 2) for u in (edit, x))
    return float(np.quantile(deltaE_ciede2000(a, b), MOST, axis=(1, 2)).mean())


class ChannelFigures:
    """Lists with one number for each channel, computed batch by batch.

    - `steadiness`: correlation of a channel with itself after the photo was mirrored, shifted by a pixel, made smaller,
      or saved as JPEG, and with itself for the next class as target;
    - `stamp`: share of its energy that is the same in every photo;
    - `energy_share`: its share of the energy of all channels;
    - `mesh`: see `metrics.mesh`;
    - `effect`: LPIPS between the photo and the photo with the channel at strength 0 and 2, over the first 48 photos;
    - `colour_change`: CIEDE2000 that 5 % of the pixels of these edits exceed: LPIPS overlooks what happens at an eye.

    Args:
        generator: photos and classes -> `Output`.
        lpips: None leaves `effect` and `colour_change` out.
    """

    def __init__(self, generator: Callable[[Tensor, Tensor], Output], lpips: Distance | None):
        self.generator, self.lpips = generator, lpips
        self.photos = self.edited = 0
        self.sums = defaultdict(float)  # of what is a mean over photos
        self.effect = defaultdict(float)
        self.colour_change = defaultdict(float)

    def add(self, x: Float[Tensor, "b 3 h w"], y: Int[Tensor, "b"], output: Output) -> None:
        v, n = output.channels, len(x)
        measured = metrics.steadiness(self.generator, x, y, v)
        measured[f"JPEG {JPEG}"] = metrics.matched_correlation(v, self.generator(as_jpeg(x), y).channels)
        for name, values in measured.items():
            self.sums["steadiness", name] += n * values.double().cpu()
        self.sums["mesh"] += n * metrics.mesh(v).double().cpu()
        self.sums["picture"] += v.double().sum(dim=0).cpu()  # (M, 3, H, W)
        self.sums["energy"] += v.double().square().sum(dim=(0, 2, 3, 4)).cpu()
        self.photos += n
        few = min(n, EDITED - self.edited)
        if self.lpips and few > 0:
            self.edited += few
            for strength in (0, 2):
                edits = [(x[:few] + (strength - 1) * v_k).clamp(-1, 1) for v_k in v[:few].unbind(dim=1)]
                self.colour_change[strength] += few * torch.tensor([colour_change(edit, x[:few]) for edit in edits])
                self.effect[strength] += few * torch.tensor([self.lpips(edit, x[:few]) for edit in edits])

    def add_next_class(self, output: Output, transferred: Output) -> None:
        """The outputs for the same photos with their own class and with the next one as target."""
        values = metrics.matched_correlation(output.channels, transferred.channels)
        self.sums["steadiness", "next class"] += len(output.image) * values.double().cpu()

    def figures(self) -> dict:
        rounded = lambda t: [round(float(a), 4) for a in t]
        n, energy = self.photos, self.sums["energy"]
        figures = {
            "steadiness": {key[1]: rounded(total / n) for key, total in self.sums.items() if key[0] == "steadiness"},
            "stamp": rounded(metrics.stamp_share_of_sums(self.sums["picture"].flatten(1), energy, n)),
            "energy_share": rounded(energy / energy.sum()),
            "mesh": rounded(self.sums["mesh"] / n),
            "weakest_to_strongest": float((energy.min() / energy.max()).sqrt()),
        }
        figures["least"] = {name: min(values) for name, values in figures["steadiness"].items()}
        figures["most"] = {name: max(figures[name]) for name in ("stamp", "mesh")}
        if self.edited:
            figures["effect"] = {str(strength): rounded(total / self.edited) for strength, total in self.effect.items()}
            figures["visible"] = sum(max(pair) >= VISIBLE for pair in zip(*figures["effect"].values()))
            by_strength = {
                str(strength): rounded(total / self.edited) for strength, total in self.colour_change.items()
            }
            figures["colour_change"] = by_strength
            figures["noticed"] = sum(max(pair) >= NOTICED for pair in zip(*by_strength.values()))
        return figures

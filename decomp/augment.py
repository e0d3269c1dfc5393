"""Data augmentation named by the paper (section 7): channel strengths perturbed at random."""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from .decomposer import Decomposer
from .kinds import layers_of


class PerturbChannels(v2.Transform):
    """x -> x + sum_j (s_j - 1) layer_j(x) with s_j drawn from a normal distribution around 1, per photo and layer.

    The layers are R, v_1 .. v_M and the unexplained rest E, which add up to x. A torchvision v2 transform for photos
    (..., 3, H, W), float in [0, 1], plain tensors or `tv_tensors.Image`; masks and boxes beside them are left alone.
    `spread=0` is the identity. It runs the network: use it on batches, after resizing to about the model's size.

    Args:
        decomposer: a loaded model; it is moved with the photos' device by the caller.
        domain: class of the photos, or "auto" to classify each.
        spread: standard deviation of the strengths: one number for every channel, or a mapping from channels (by
            number, name or kind, see `kinds.KINDS`), "residual" and "unexplained" to numbers; others stay at 1.
    Raises:
        ValueError: unknown class or layer.
        ValueError: a spread that is negative or not finite.

    Example:
        >>> import decomp
        >>> perturb = decomp.PerturbChannels(decomp.load("animals"), domain="cat", spread={1: 0.5, "residual": 0.2})
        >>> perturb(torch.rand(2, 3, 64, 64)).shape
        torch.Size([2, 3, 64, 64])
    """

    def __init__(self, decomposer: Decomposer, domain: str = "auto", spread: float | Mapping[int | str, float] = 0.5):
        super().__init__()
        self.decomposer, self.spread = decomposer, spreads(decomposer, spread)
        self.label = None if domain == "auto" else decomposer.domain_index(domain)

    def make_params(self, flat_inputs: list) -> dict:
        photos = [t for t in flat_inputs if isinstance(t, tv_tensors.Image)]
        photos += [t for t in flat_inputs if type(t) is Tensor]  # torchvision's rule: the first one is the image
        if not photos or not photos[0].is_floating_point() or photos[0].shape[-3] != 3:
            raise TypeError(
                "PerturbChannels needs a photo as a float tensor (..., 3, H, W) in [0, 1]; use v2.ToDtype first"
            )
        count = photos[0][..., 0, 0, 0].numel()
        return {"change": self.spread * torch.randn(count, len(self.spread)).to(photos[0].device)}

    @torch.no_grad()
    def transform(self, inpt: Tensor, params: dict) -> Tensor:
        if type(inpt) not in (Tensor, tv_tensors.Image):  # masks and boxes are tensors too
            return inpt
        x = inpt.reshape(-1, *inpt.shape[-3:]) * 2 - 1
        if self.label is None:
            label = self.decomposer.classifier(x).argmax(dim=1)
        else:
            label = torch.full((len(x),), self.label, device=x.device)
        output = self.decomposer.generator(x, label)
        rest = x - output.image
        layers = torch.cat([output.residual[:, None], output.channels, rest[:, None]], dim=1)
        x = x + torch.einsum("bm,bmchw->bchw", params["change"], layers)
        return tv_tensors.wrap(((x + 1) / 2).clamp(0, 1).reshape(inpt.shape), like=inpt)


def spreads(decomposer: Decomposer, spread: float | Mapping[int | str, float]) -> Float[Tensor, "layers"]:
    """Standard deviation of the strength of R, v_1 .. v_M and E, in this order."""
    branches = decomposer.config.branches
    given = spread if isinstance(spread, Mapping) else dict.fromkeys(range(1, branches + 1), spread)
    place = {"residual": 0, "unexplained": branches + 1}
    values = torch.zeros(branches + 2)
    for layer, value in given.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"spread is {value}; a number from 0 up is needed")
        for key in layers_of(decomposer, [layer]):
            values[place.get(key, key)] = value
    return values

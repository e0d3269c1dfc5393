"""Data augmentation named by the paper (section 7): channel strengths perturbed at random."""

import math

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from .decomposer import Decomposer


class PerturbChannels(v2.Transform):
    """x -> x + sum_k (s_k - 1) v_k(x) with s_k drawn from a normal distribution around 1, per photo and channel.

    A torchvision v2 transform for photos (..., 3, H, W), float in [0, 1], plain tensors or `tv_tensors.Image`; masks and
    boxes beside them are left alone. The unexplained rest stays, so `spread=0` is the identity. It runs the network: use it on batches, after resizing to about the model's size.

    Args:
        decomposer: a loaded model; it is moved with the photos' device by the caller.
        domain: class of the photos, or "auto" to tell each one's by the classifier.
        spread: standard deviation of the strengths.

    Example:
        >>> import decomp
        >>> perturb = decomp.PerturbChannels(decomp.load("animals"), domain="cat", spread=0.5)
        >>> perturb(torch.rand(2, 3, 64, 64)).shape
        torch.Size([2, 3, 64, 64])
    """

    def __init__(self, decomposer: Decomposer, domain: str = "auto", spread: float = 0.5):
        super().__init__()
        if not 0 <= spread < math.inf:
            raise ValueError(f"spread is {spread}; a number from 0 up is needed")
        self.decomposer, self.spread = decomposer, spread
        self.label = None if domain == "auto" else decomposer.domain_index(domain)

    def make_params(self, flat_inputs: list) -> dict:
        photos = [t for t in flat_inputs if isinstance(t, tv_tensors.Image)]
        photos += [
            t for t in flat_inputs if type(t) is Tensor
        ]  # torchvision's rule: the first plain tensor is the image
        if not photos or not photos[0].is_floating_point() or photos[0].shape[-3] != 3:
            raise TypeError(
                "PerturbChannels needs a photo as a float tensor (..., 3, H, W) in [0, 1]; use v2.ToDtype first"
            )
        shape = (photos[0][..., 0, 0, 0].numel(), self.decomposer.config.branches)
        return {"change": self.spread * torch.randn(shape, device=photos[0].device)}

    @torch.no_grad()
    def transform(self, inpt: Tensor, params: dict) -> Tensor:
        if type(inpt) not in (Tensor, tv_tensors.Image):  # masks and boxes are tensors too
            return inpt
        x = inpt.reshape(-1, *inpt.shape[-3:]) * 2 - 1
        if self.label is None:
            label = self.decomposer.classifier(x).argmax(dim=1)
        else:
            label = torch.full((len(x),), self.label, device=x.device)
        channels = self.decomposer.generator(x, label).channels  # (B, M, 3, H, W)
        x = x + torch.einsum("bm,bmchw->bchw", params["change"], channels)
        return tv_tensors.wrap(((x + 1) / 2).clamp(0, 1).reshape(inpt.shape), like=inpt)

"""Data augmentation named by the paper (section 7): channel strengths perturbed at random."""

import torch
from jaxtyping import Float
from torch import Tensor
from torchvision.transforms import v2

from .decomposer import Decomposer


class PerturbChannels(v2.Transform):
    """x -> x + sum_k (s_k - 1) v_k(x) with s_k drawn from a normal distribution around 1, per photo and channel.

    A torchvision v2 transform for photos (..., 3, H, W), float in [0, 1]; the unexplained rest stays, so `spread=0` is the
    identity. It runs the network: use it on batches, after resizing to about the model's size.

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
        if spread < 0:
            raise ValueError(f"spread is {spread}; a number from 0 up is needed")
        self.decomposer, self.spread = decomposer, spread
        self.label = None if domain == "auto" else decomposer.domain_index(domain)

    def make_params(self, flat_inputs: list) -> dict:
        photos = next(t for t in flat_inputs if isinstance(t, Tensor))
        shape = (photos[..., 0, 0, 0].numel(), self.decomposer.config.branches)
        return {"change": self.spread * torch.randn(shape, device=photos.device)}

    @torch.no_grad()
    def transform(self, inpt: Float[Tensor, "*b 3 h w"], params: dict) -> Float[Tensor, "*b 3 h w"]:
        x = inpt.reshape(-1, *inpt.shape[-3:]) * 2 - 1
        if self.label is None:
            label = self.decomposer.classifier(x).argmax(dim=1)
        else:
            label = torch.full((len(x),), self.label, device=x.device)
        channels = self.decomposer.generator(x, label).channels  # (B, M, 3, H, W)
        x = x + torch.einsum("bm,bmchw->bchw", params["change"], channels)
        return ((x + 1) / 2).clamp(0, 1).reshape(inpt.shape)

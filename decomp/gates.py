"""Gates that are open or closed, 0 or 1, and still learn by gradients.

After Li et al., "Interpretable Neural Network Decoupling" (ECCV 2020; arXiv 1906.01166), whose gate is

    g = W_2 ReLU(W_1 s),   z = 1[g > 0]                                       (1)  s describes the input
    training: g' = g + N(0, 1),  v_1 = clamp(1.2 sigmoid(g') - 0.1, 0, 1),  v_2 = 1[g' > 0]
              z = v_1 or v_2, each half of the time; its gradient is always v_1's   (2)  improved SemHash
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


def semhash(g: Float[Tensor, "b n"], training: bool) -> Float[Tensor, "b n"]:
    """z, equations 1 and 2; the half is drawn for each sample and gate."""
    if not training:
        return (g > 0).to(g)
    g = g + torch.randn_like(g)
    soft = (1.2 * torch.sigmoid(g) - 0.1).clamp(0, 1)
    hard = (g > 0).to(g) + soft - soft.detach()
    return torch.where(torch.rand_like(g) < 0.5, hard, soft)


class BranchGate(nn.Module):
    """Which branches of a generator a photo needs, by the strengths of its phi_k.

    s is the logarithm of the mean of |phi_k|, for each k and colour: the diffusion has been computed anyway, so a gate
    costs nothing. All branches are open in the beginning.
    """

    def __init__(self, branches: int, hidden: int = 16):
        super().__init__()
        self.squeeze, self.select = nn.Linear(3 * branches, hidden), nn.Linear(hidden, branches)
        nn.init.normal_(self.select.weight, std=0.05)
        nn.init.ones_(self.select.bias)

    def logits(self, phi: Float[Tensor, "b m 3 h w"]) -> Float[Tensor, "b m"]:
        """g, in float32."""
        with torch.autocast(phi.device.type, enabled=False):
            s = (phi.float().abs().mean(dim=(3, 4)) + 1e-4).log().flatten(1) + 4  # around 0 for photos
            return self.select(F.relu(self.squeeze(s)))

    def forward(self, phi: Float[Tensor, "b m 3 h w"]) -> Float[Tensor, "b m"]:
        """z; in training as equation 2 says."""
        return semhash(self.logits(phi), self.training)

    def open_branches(self, phi: Float[Tensor, "b m 3 h w"]) -> Float[Tensor, ""]:
        """Expected number of open branches for a photo, sum_k sigmoid(g_k), a mean over photos: the loss on it."""
        return torch.sigmoid(self.logits(phi.detach())).sum(dim=1).mean()

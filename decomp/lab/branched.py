"""f(x) = sum_k v_k(x): identical sub-networks that see the same input and differ only by their initialisation."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Branched(nn.Module):
    """The sum of M sub-networks.

    Args:
        make: builds one sub-network; it is called `count` times, so that each gets its own initialisation.
        count: M.
        clamp: each branch's output is held in [-clamp, clamp] before it is summed; the paper takes 1 for its logits.
    """

    def __init__(self, make: Callable[[], nn.Module], count: int, clamp: float | None = None):
        super().__init__()
        self.members = nn.ModuleList(make() for _ in range(count))
        self.clamp = clamp

    def outputs(self, x: Tensor) -> Tensor:
        """v_1(x) .. v_M(x), (M, batch, ...), as they are summed."""
        v = torch.stack([member(x) for member in self.members])
        return v if self.clamp is None else v.clamp(-self.clamp, self.clamp)

    def forward(self, x: Tensor) -> Tensor:
        return self.outputs(x).sum(dim=0)

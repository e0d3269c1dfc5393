"""Who computes the network: any callable (x, target) -> Output that a `Decomposer` holds as its `runtime`."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .generator import BranchedGenerator, Output

Runtime = Callable[[Tensor, Tensor], Output]


class TorchRuntime:
    """The network itself, on the device where its weights are."""

    def __init__(self, generator: BranchedGenerator):
        self.generator = generator

    @torch.inference_mode()
    def __call__(self, x: Float[Tensor, "b 3 h w"], target: Int[Tensor, "b m"]) -> Output:
        """Photos in [-1, 1] and a class index per photo and branch, as `BranchedGenerator.forward` takes them."""
        device = next(self.generator.parameters()).device
        return self.generator(x.to(device), target.to(device))

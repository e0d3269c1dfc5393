"""What a training run will need, estimated before it starts (`decomp train --dry-run`)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from ..config import ModelConfig
from ..generator import BranchedGenerator
from .critics.discriminator import Discriminator
from .trainer import TrainConfig

GIB = 2**30


def kept_bytes(call: Callable[[], object], network: nn.Module) -> int:
    """Bytes of the activations that autograd keeps for the backward pass of one call."""
    own = {p.untyped_storage().data_ptr() for p in network.parameters()}
    kept = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        graph = call()  # alive until here, so that no storage is used twice
    del graph
    return sum(size for pointer, size in kept.items() if pointer not in own)


def estimate(model: ModelConfig, training: TrainConfig) -> dict:
    """Parameters, cost of one photo, and memory of one process in GiB, from one pass of one photo on the CPU.

    "networks" are weights, gradients, Adam's two moments and the running average; "activations" those of one part of
    a batch, of the generator once and of the discriminator for real and generated photos. The libraries need
    several hundred MiB more.
    """
    g = BranchedGenerator(model)
    d = Discriminator(model.size, len(model.domains), training.critic_base, training.critic_cap)
    x, y = torch.zeros(1, 3, model.size, model.size), torch.zeros(1, dtype=torch.long)
    count = lambda network: sum(p.numel() for p in network.parameters())
    with torch.autocast("cpu", torch.bfloat16, enabled=training.bf16):
        a_photo = kept_bytes(lambda: g(x, y), g) + 2 * kept_bytes(lambda: d(x), d)
        with FlopCounterMode(display=False) as flops, torch.no_grad():
            g(x, y)
    return {
        "parameters": {"generator": count(g), "of it p": count(g.split), "discriminator": count(d)},
        "gmac_per_photo": round(flops.get_total_flops() / 2e9, 3),
        "memory_gib": {
            "networks": round(4 * (5 * count(g) + 4 * count(d)) / GIB, 3),
            "activations": round(a_photo * training.batch / training.accumulate / GIB, 3),
            "photos, at most": training.memory,
        },
    }

"""The processes of one training run: one by default, several under `torchrun` (data-parallel)."""

import os
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


class Processes:
    """This process among those that `torchrun` started; the only one without it.

    Each process takes its part of every batch and gradients are averaged, so the run is that of one process with the
    whole batch.
    """

    def __init__(self, device: str):
        self.device = device
        self.rank, self.count = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        if self.count > 1:
            if device == "cuda":
                self.device = f"cuda:{os.environ['LOCAL_RANK']}"
                torch.cuda.set_device(self.device)
            if not dist.is_initialized():
                dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=timedelta(hours=1))

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network with gradients averaged over all processes at each backward."""
        return DistributedDataParallel(network, broadcast_buffers=False) if self.count > 1 else network

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process; all get the same answer."""
        if self.count == 1:
            return flag
        agreed = torch.tensor(int(flag), device=self.device)
        dist.all_reduce(agreed, dist.ReduceOp.MAX)
        return bool(agreed)

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        """Each value's mean over all processes."""
        if self.count == 1:
            return values
        means = torch.tensor(list(values.values()), dtype=torch.float64, device=self.device)
        dist.all_reduce(means)
        return dict(zip(values, (means / self.count).tolist()))

    def from_first(self, value):
        """The first process's value, in all processes."""
        box = [value]
        if self.count > 1:
            dist.broadcast_object_list(box)
        return box[0]

    def end(self) -> None:
        if self.count > 1:
            dist.destroy_process_group()

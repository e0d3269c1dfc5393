"""A small AlexNet for CIFAR-10 whose first two layers are one piece or branches, for the Distill article's test.

As in AlexNet every branch sees the whole image, and branches exchange nothing until the third layer. The kernels of the
first layer are 9x9 on 32x32 images, large enough for a filter to have a spatial frequency; stride 2 pays for them.
"""

import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from tqdm import tqdm

from ...files import atomic
from ..cifar.classifier import augmented, decayed, normalised
from ..cifar.images import Images


class SmallAlexNet(nn.Module):
    """Logits of (n, 3, 32, 32) images; 157 thousand parameters with two branches, 214 thousand with one.

    The first layer starts near zero (AlexNet's did too, at 0.01): batch normalisation makes up for the scale, and what
    the filters become is not covered by the noise that they started from.

    Args:
        branches: into how many the first two layers are split; filter i of the first layer is in branch
            i * branches // 48.
    """

    def __init__(self, branches: int, filters: int = 48, classes: int = 10):
        super().__init__()
        self.first = nn.Conv2d(3, filters, 9, 2, 4, bias=False)
        self.norm1 = nn.BatchNorm2d(filters)
        self.second = nn.Conv2d(filters, 2 * filters, 5, 1, 2, groups=branches, bias=False)
        self.norm2 = nn.BatchNorm2d(2 * filters)
        self.third = nn.Conv2d(2 * filters, 2 * filters, 3, 1, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(2 * filters)
        self.head = nn.Linear(8 * filters, classes)
        nn.init.normal_(self.first.weight, std=0.002)

    def forward(self, x: Float[Tensor, "n 3 32 32"]) -> Float[Tensor, "n classes"]:
        x = F.max_pool2d(F.relu(self.norm1(self.first(x))), 2)  # (n, filters, 8, 8)
        x = F.max_pool2d(F.relu(self.norm2(self.second(x))), 2)  # (n, 2 filters, 4, 4)
        x = F.avg_pool2d(F.relu(self.norm3(self.third(x))), 2)
        return self.head(x.flatten(1))


@dataclass(frozen=True)
class Schedule:
    """How a network is trained: SGD with momentum 0.9, one cycle of the learning rate.

    The budget is counted in images, not in minutes, so that a seed gives the same network on every machine of a kind;
    one core shows about 1,500 images a second.
    """

    images: int = 150_000
    batch: int = 64
    lr: float = 0.05
    weight_decay: float = 5e-3  # strong: it takes away what is left of the start, and keeps filters smooth
    seed: int = 0


def fit(branches: int, data: Images, schedule: Schedule, path: Path) -> tuple[SmallAlexNet, float]:
    """The trained network, in evaluation mode, and the seconds it took; its weights are in `path` (.safetensors).

    If `path` holds a network of this schedule already, it is read and not trained again.

    Raises:
        ValueError: `path` holds another one.
    """
    torch.manual_seed(schedule.seed)
    model = SmallAlexNet(branches).to(memory_format=torch.channels_last)
    made_by = {name: str(value) for name, value in (asdict(schedule) | {"branches": branches}).items()}
    if path.is_file():
        with safe_open(path, "pt") as file:
            before = file.metadata() or {}
        seconds = float(before.pop("seconds", 0))
        if before != made_by:
            raise ValueError(f"{path} was trained with {before}, not {made_by}; give another folder")
        load_model(model, path)
        return model.eval(), seconds
    groups = decayed(model, schedule.weight_decay)
    optimizer = torch.optim.SGD(groups, schedule.lr, momentum=0.9)
    steps = max(20, schedule.images // schedule.batch)  # fewer are no cycle
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, schedule.lr, steps, pct_start=0.1)
    rng = torch.Generator().manual_seed(schedule.seed)
    began = time.monotonic()
    for _ in tqdm(range(steps), f"{branches} branch(es), seed {schedule.seed}", mininterval=1):
        chosen = torch.randint(len(data.labels), (schedule.batch,), generator=rng)
        logits = model(augmented(normalised(data.pixels[chosen]), rng))
        loss = F.cross_entropy(logits, data.labels[chosen])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        cycle.step()
    seconds = time.monotonic() - began
    with atomic(path) as temporary:
        save_model(model, str(temporary), metadata=made_by | {"seconds": str(seconds)})
    return model.eval(), seconds

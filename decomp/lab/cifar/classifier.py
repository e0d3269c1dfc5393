"""Training of one classifier on CIFAR-10, stopped and resumed at epochs."""

import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from tqdm import tqdm

from ...files import atomic
from ..branched import Branched
from .images import Images
from .resnet import FULL, SLIM, ResNet18

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # of the training images
PAD = 4  # pixels of random shift


@dataclass(frozen=True)
class Schedule:
    """How a classifier is trained; the same for all of one experiment."""

    epochs: int
    batch: int
    lr: float  # highest of one cycle, SGD with Nesterov momentum 0.9
    weight_decay: float
    stride: int  # of the stem
    train: int = 50_000  # images, from the first on
    seed: int = 0


def build(name: str, stride: int) -> nn.Module:
    """The network of a name.

    "slim" and "full" are unbranched ResNet-18, "slim-2" is "slim" of another seed; "4" is the sum of four slim ones,
    the logits of each clamped to [-1, 1].
    """
    kind = name.partition("-")[0]
    if kind in ("slim", "full"):
        return ResNet18(FULL if kind == "full" else SLIM, stride)
    return Branched(lambda: ResNet18(SLIM, stride), int(kind), clamp=1.0)


def normalised(pixels: UInt8[Tensor, "n h w 3"]) -> Float[Tensor, "n 3 h w"]:
    """Each colour with mean 0 and standard deviation 1 over the training images; memory order stays channels last."""
    mean, std = (torch.tensor(values, device=pixels.device) for values in (MEAN, STD))
    return ((pixels / 255 - mean) / std).permute(0, 3, 1, 2)


def augmented(x: Float[Tensor, "n 3 h w"], rng: torch.Generator, pad: int = PAD) -> Float[Tensor, "n 3 h w"]:
    """Each image shifted by up to `pad` pixels, 0 (the mean colour) outside, and mirrored half the time."""
    n, _, h, w = x.shape
    top, left = torch.randint(0, 2 * pad + 1, (2, n, 1), generator=rng).to(x.device)
    rows, columns = top + torch.arange(h, device=x.device), left + torch.arange(w, device=x.device)
    mirror = torch.rand(n, 1, generator=rng).to(x.device) < 0.5
    columns = torch.where(mirror, columns.flip(1), columns)
    padded = F.pad(x, (pad,) * 4).permute(0, 2, 3, 1)
    picked = padded[torch.arange(n, device=x.device)[:, None, None], rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2)


def fit(name: str, data: Images, schedule: Schedule, folder: Path, device: torch.device) -> tuple[nn.Module, float]:
    """The trained network, in evaluation mode, and the seconds it took; what `folder` holds is not trained again.

    Writes start.safetensors (as initialised) and model.safetensors; state.pt holds what a stopped run goes on from.

    Raises:
        ValueError: the folder holds a network of another schedule.
    """
    seed = schedule.seed + int(name.partition("-")[2] or 0)
    torch.manual_seed(seed)
    model = build(name, schedule.stride).to(device, memory_format=torch.channels_last)
    done, state_file = folder / "model.safetensors", folder / "state.pt"
    if done.is_file():
        state = torch.load(state_file, weights_only=True)
        _same(state["schedule"], schedule, folder)
        load_model(model, done)
        return model.eval(), _total(state["seconds"], schedule)
    count = min(schedule.train, len(data.labels))
    steps = count // schedule.batch
    groups = decayed(model, schedule.weight_decay)
    optimizer = torch.optim.SGD(groups, schedule.lr, momentum=0.9, nesterov=True)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, schedule.lr, schedule.epochs * steps, pct_start=0.2)
    finished, seconds = 0, []
    if state_file.is_file():
        state = torch.load(state_file, map_location=device, weights_only=True)
        _same(state["schedule"], schedule, folder)
        finished, seconds = state["epoch"], state["seconds"]
        for part, kept in (("model", model), ("optimizer", optimizer), ("cycle", cycle)):
            kept.load_state_dict(state[part])
    else:
        with atomic(folder / "start.safetensors") as temporary:
            save_model(model, temporary)
    for epoch in range(finished, schedule.epochs):
        started = time.monotonic()
        rng = torch.Generator().manual_seed(seed * 1000 + epoch)
        one_epoch(model, data, count, schedule, rng, optimizer, cycle, f"{name}: epoch {epoch + 1}/{schedule.epochs}")
        seconds.append(time.monotonic() - started)
        state = {"schedule": asdict(schedule), "epoch": epoch + 1, "seconds": seconds, "model": model.state_dict()}
        state |= {"optimizer": optimizer.state_dict(), "cycle": cycle.state_dict()}
        with atomic(state_file) as temporary:
            torch.save(state, temporary)
    with atomic(done) as temporary:
        save_model(model, temporary)
    return model.eval(), _total(seconds, schedule)


def decayed(model: nn.Module, weight_decay: float) -> list[dict]:
    """Parameters for an optimizer: weights decay, biases and normalisations do not."""
    weights = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim < 2]
    return [{"params": weights, "weight_decay": weight_decay}, {"params": others}]


def _total(seconds: list[float], schedule: Schedule) -> float:
    """Of all epochs, from the middle one, so that a pause does not count."""
    return statistics.median(seconds) * schedule.epochs


def _same(before: dict, schedule: Schedule, folder: Path) -> None:
    if before != asdict(schedule):
        raise ValueError(f"{folder} was trained with {before}, not {asdict(schedule)}; give another --out")


def one_epoch(model, data: Images, count: int, schedule: Schedule, rng, optimizer, cycle, title: str) -> None:
    """Every training image once; order and augmentation are drawn from `rng`, a generator of seed and epoch."""
    device = next(model.parameters()).device
    order = torch.randperm(count, generator=rng)[: count // schedule.batch * schedule.batch]
    model.train()
    bar = tqdm(order.split(schedule.batch), title, mininterval=1)
    for chosen in bar:
        x = augmented(normalised(data.pixels[chosen].to(device)), rng)
        labels = data.labels[chosen].to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            logits = model(x)
        loss = F.cross_entropy(logits.float(), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        cycle.step()
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)


@torch.no_grad()
def outputs(model: nn.Module, data: Images, batch: int = 500) -> Float[Tensor, "m n classes"]:
    """Logits of each branch for each image, as they are summed; one row for an unbranched network."""
    device = next(model.parameters()).device
    logits = []
    for pixels in data.pixels.split(batch):
        x = normalised(pixels.to(device))
        logits.append((model.outputs(x) if isinstance(model, Branched) else model(x)[None]).cpu())
    return torch.cat(logits, dim=1)


def accuracy(logits: Float[Tensor, "m n classes"], labels: Tensor) -> float:
    """Share of the images whose class has the largest sum over the branches."""
    return float((logits.sum(dim=0).argmax(dim=1) == labels).float().mean())

"""Trains the two networks of the eyes on lessons."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from .lessons import Lessons, joined, whole_lessons
from .outlines import OutlineNet
from .parts import packed
from .places import PairNet

EPOCHS, HARDER_EPOCHS, OUTLINE_EPOCHS, LIDS_EPOCHS = 12, 8, 10, 10
BATCH, HARDER_BATCH = 64, 32
RATE, HARDER_RATE, LIDS_RATE, DECAY = 5e-3, 3e-3, 2e-3, 0.05


def fitted(epochs: int, of_half: tuple[int, Lessons]) -> tuple[str, str, str]:
    """The three networks of one half, packed."""
    half, of = of_half
    torch.manual_seed(half)
    nets = []
    for places, whole in ((of.proposals, of.copies), (of.places, of.whole)):
        net = PairNet(places[0].shape[1])
        fit_places(net, *places, Course(epochs, line=half))
        harder = joined([places, whole_lessons(net, whole, half)])
        fit_places(net, *harder, Course(min(epochs, HARDER_EPOCHS), HARDER_RATE, HARDER_BATCH, half))
        nets.append(net)
    return *map(packed, nets), packed(fit_outlines(of.mean_eyes, of.lids, half))


class Course(NamedTuple):
    """How a network is trained."""

    epochs: int
    rate: float = RATE
    batch: int = BATCH
    line: int = 0  # of the terminal, for the progress


def fit_places(net: PairNet, maps: np.ndarray, wanted: Tensor, offsets: Tensor, course: Course) -> PairNet:
    """Quality focal loss (Li et al., 2020) on the logits, L1 on the offsets where there is a pair."""

    def loss(net: PairNet, at: np.ndarray) -> Tensor:
        logits, off = net(torch.from_numpy(maps[at].astype(np.float32)))
        w, o = wanted[at], offsets[at]
        entropy = F.binary_cross_entropy_with_logits(logits, w, reduction="none")
        focal = (entropy * (w - logits.sigmoid()).abs() ** 1.5).sum() / w.sum().clamp(min=8)
        weight = w * (w > 0.2)
        units = torch.tensor([1, 1, 0.5, 0.5])[:, None, None]
        return focal + 2 * (weight * ((off - o).abs() * units).sum(dim=1)).sum() / weight.sum().clamp(min=1)

    return trained(net, len(maps), loss, course)


def trained(net: nn.Module, count: int, loss, course: Course) -> nn.Module:
    """AdamW with one cycle of the learning rate; `loss(net, indices)`."""
    epochs, rate, batch = course.epochs, course.rate, min(course.batch, count)
    optimizer = torch.optim.AdamW(net.parameters(), rate, weight_decay=DECAY)
    steps = epochs * (count // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps + 1, pct_start=0.2)
    rng = np.random.default_rng(0)
    net.train()
    for _ in tqdm(range(epochs), type(net).__name__, position=course.line):
        order = rng.permutation(count)
        for i in range(0, count - batch + 1, batch):
            optimizer.zero_grad()
            loss(net, np.sort(order[i : i + batch])).backward()
            optimizer.step()
            schedule.step()
    return net.eval()


def fit_outlines(mean_eyes: tuple[Tensor, Tensor], lids: tuple[Tensor, Tensor], line: int = 0) -> OutlineNet:
    """Cross-entropy and Dice loss; first on the mean eye at marked points, then on marked eyelids."""
    net = OutlineNet(mean_eyes[0].shape[1])
    courses = Course(OUTLINE_EPOCHS, line=line), Course(LIDS_EPOCHS, LIDS_RATE, line=line)
    for (patches, masks), course in zip((mean_eyes, lids), courses):

        def loss(net: nn.Module, at: np.ndarray, patches=patches, masks=masks) -> Tensor:
            logits, m = net(patches[at]), masks[at]
            p = logits.sigmoid()
            dice = 1 - (2 * (p * m).sum(dim=(1, 2)) + 1) / ((p + m).sum(dim=(1, 2)) + 1)
            return F.binary_cross_entropy_with_logits(logits, m) + dice.mean()

        if len(patches):
            trained(net, len(patches), loss, course)
    return net.eval()

"""Coded ResNeXt: the block, the network, and the classifier of one class carved out of it.

Avranas and Kountouris, "Towards Disentangling Information Paths with Coded ResNeXt" (NeurIPS 2022); the codes, the loss
and the decoder are in `decomp/codes.py`, whose equations 1 to 3 go on here. Branch n of a block is

    t_n = W_n h_n,   h_n = ReLU(BN(3x3(ReLU(BN(1x1 x)))))                   (4)  W_n a 1x1 convolution d -> C, no bias
    E_n = (1 / (C H W)) sum_hw |t_n|^2 = <S_n, W_n^T W_n> / (C H W)         (5)  S_n = sum_hw h_n h_n^T, d x d
    y   = ReLU(skip(x) + BN(sum_n m_n t_n / sqrt((1/N) sum_i E_i)))         (6)  m: DropSubNN, see `dropped`

Normalisation and dropping are one factor for each sample and branch, so they are applied to the narrow h_n, and the
N outputs t_n never exist one by one: with (5) all branches cost as much as in a plain ResNeXt.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ...codes import codewords


@dataclass(frozen=True)
class Stage:
    """Blocks of one resolution. `code` has a word for each class; () is plain ResNeXt, no energies and no loss."""

    out: int  # C
    width: int  # d, of one branch
    blocks: int
    stride: int  # of the first block
    code: tuple[str, ...] = ()


class Output(NamedTuple):
    """Logits, and for each coded block the energies E_n of its branches before normalisation."""

    logits: Float[Tensor, "b classes"]
    energies: list[Float[Tensor, "b n"]]


class Block(nn.Module):
    """Equations 4 to 6. `coded` off is the plain block: no normalisation.

    Args:
        present: branches that this block has; fewer than `branches` in a classifier carved for one class. They are
            normalised as if the absent ones were zero.
    """

    def __init__(
        self, into: int, out: int, width: int, branches: int, stride: int, coded: bool, present: int | None = None
    ):
        super().__init__()
        self.branches, self.present, self.width, self.coded = branches, present or branches, width, coded
        inner = self.present * width
        self.reduce = nn.Conv2d(into, inner, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(inner)
        self.conv = nn.Conv2d(inner, inner, 3, stride, 1, groups=self.present, bias=False)
        self.norm2 = nn.BatchNorm2d(inner)
        self.expand = nn.Conv2d(inner, out, 1, bias=False)  # W_1 .. W_N side by side
        self.norm3 = nn.BatchNorm2d(out)
        project = [nn.Conv2d(into, out, 1, stride, bias=False), nn.BatchNorm2d(out)]
        self.skip = nn.Sequential(*project) if stride > 1 or into != out else nn.Identity()
        nn.init.zeros_(self.norm3.weight)

    def energies(self, h: Float[Tensor, "b nd h w"]) -> Float[Tensor, "b n"]:
        """E_n, equation 5."""
        h = h.unflatten(1, (self.present, self.width)).flatten(3)  # (B, N, d, HW)
        w = self.expand.weight.flatten(1).unflatten(1, (self.present, self.width))  # (C, N, d)
        gram = torch.einsum("cni,cnj->nij", w, w)
        return ((h @ h.mT) * gram).sum(dim=(2, 3)) / (len(w) * h.shape[3])

    def forward(
        self, x: Tensor, keep: Float[Tensor, "b n"] | None = None, drop: Float[Tensor, "b n"] | None = None
    ) -> tuple[Tensor, Tensor]:
        """y and E. `keep` zeroes branches before normalisation (the paper's removal), `drop` after it (DropSubNN)."""
        h = F.relu(self.norm2(self.conv(F.relu(self.norm1(self.reduce(x))))))
        energies = self.energies(h) if self.coded else h.new_zeros(len(h), self.present)
        factor = torch.ones_like(energies)
        if keep is not None:
            energies, factor = energies * keep, factor * keep
        if self.coded:
            factor = factor * (energies.sum(dim=1, keepdim=True) / self.branches + 1e-8).rsqrt()
        if drop is not None:
            factor = factor * drop
        h = h * factor.repeat_interleave(self.width, dim=1)[:, :, None, None]
        return F.relu(self.skip(x) + self.norm3(self.expand(h))), energies


def dropped(like: Tensor, probability: float, rng: torch.Generator) -> Tensor:
    """m of DropSubNN: each branch of each sample 0 with this probability, else 1 / (1 - probability)."""
    return (torch.rand(like.shape, generator=rng) >= probability).to(like) / (1 - probability)


class CodedResNeXt(nn.Module):
    """Logits of small images.

    Args:
        branches: N, in every block.
        normalise: off makes all blocks plain, whatever their code: the control.
    """

    def __init__(self, stem: int, stages: tuple[Stage, ...], branches: int, classes: int = 10, normalise: bool = True):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, stem, 3, 1, 1, bias=False), nn.BatchNorm2d(stem), nn.ReLU())
        self.blocks, self.codes, into = nn.ModuleList(), [], stem  # codes: the code of each block, or None
        for stage in stages:
            for i in range(stage.blocks):
                coded = bool(stage.code) and normalise
                stride = stage.stride if i == 0 else 1
                self.blocks.append(Block(into, stage.out, stage.width, branches, stride, coded))
                self.codes.append(codewords(stage.code) if stage.code else None)
                into = stage.out
        self.head = nn.Linear(into, classes, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def before(self, x: Tensor, block: int) -> Tensor:
        """What a block sees of images."""
        x = self.stem(x)
        for earlier in self.blocks[:block]:
            x, _ = earlier(x)
        return x

    def forward(self, x: Tensor, keep: dict[int, Tensor] | None = None, drop: float = 0.0, rng=None) -> Output:
        """Args: keep: block number -> (B, N) of zeros and ones; drop: probability, of the coded blocks."""
        return self.after(self.stem(x), 0, keep, drop, rng)

    def after(
        self, x: Tensor, first: int, keep: dict[int, Tensor] | None = None, drop: float = 0.0, rng=None
    ) -> Output:
        """The network from block `first` on, given what that block sees."""
        energies, masks = [], {}
        for i, (block, code) in list(enumerate(zip(self.blocks, self.codes)))[first:]:
            mask = None
            if drop and block.coded:  # blocks of one code share one mask
                key = tuple(code.flatten().tolist())
                masks[key] = mask = (
                    masks[key] if key in masks else dropped(x.new_empty(len(x), block.branches), drop, rng)
                )
            x, e = block(x, (keep or {}).get(i), mask)
            if code is not None:
                energies.append(e)
        return Output(self.head(x.mean(dim=(2, 3))), energies)


@torch.no_grad()
def carve(model: CodedResNeXt, k: int) -> nn.Sequential:
    """The classifier of class k alone, a logit (B, 1): only the branches with a 1 in its codeword are in it.

    Trained weights and batch statistics are copied; nothing is trained again.
    """
    blocks = []
    for block, code in zip(model.blocks, model.codes):
        word = torch.ones(block.branches) if code is None else code[k]
        blocks.append(_Only(_subset(block, word.bool())))
    head = nn.Linear(model.head.in_features, 1, bias=False)
    head.weight.copy_(model.head.weight[k : k + 1])
    return nn.Sequential(model.stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head).eval()


class _Only(nn.Module):
    """A block without its energies."""

    def __init__(self, block: Block):
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)[0]


def _subset(block: Block, word: Tensor) -> Block:
    """A copy of a block that has the branches in `word` only."""
    inner = word.repeat_interleave(block.width)
    into, out = block.reduce.in_channels, block.expand.out_channels
    small = Block(into, out, block.width, block.branches, block.conv.stride[0], block.coded, int(word.sum()))
    state = block.state_dict()
    for name, value in state.items():
        if name.startswith(("reduce", "norm1", "conv", "norm2")) and value.ndim:
            state[name] = value[inner]
    state["expand.weight"] = state["expand.weight"][:, inner]
    small.load_state_dict(state)
    return small.eval()

"""Knowledge factorization: a teacher of K tasks becomes one common network and K small task networks.

Yang, Ye and Wang, "Factorizing Knowledge in Neural Networks" (ECCV 2022; arXiv 2207.03337). An image x gives

    z = S_C(x)                           (1)  common knowledge network (CKN), the same for all tasks
    t_j ~ N(mu_j(x), sigma_j(x)^2)       (2)  task-specific network (TSN) of task j; t_j = mu_j outside training
    y_j = H_j(z + t_j),  y'_j = H'_j(t_j)   (3)  main head; auxiliary head, in training only

and the InfoMax-bottleneck I(T_j; Y_j) + alpha I(X; Z) - beta I(X; T_j) is maximised through

    I(T; Y) >= E log q(y | t)                                              (4)  cross-entropy of y' and y
    I(X; Z) >= E_joint f - log E_apart exp f,  f = cos(a, b) / tau           (5)  Donsker and Varadhan
    I(X; T) <= E_x KL(N(mu, sigma^2) | N(0, 1))                             (6)

a being the teacher's pooled features of x through a small network, b the CKN's. `as_released` takes what the
published code computes in place of 5 and 6: positives divided by B^2 and a diagonal of ones among the negatives; mean
and variance over the batch in place of each image's own, which bounds nothing.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

LATENT = 10
TEMPERATURE = 0.1  # tau


class Encoder(nn.Module):
    """4x4 convolutions of stride 2 with ReLU, pooled, and a linear layer: the body of every network here."""

    def __init__(self, widths: tuple[int, ...], out: int, colours: int = 1):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(i, o, 4, 2, 1) for i, o in zip((colours, *widths[:-1]), widths))
        self.head = nn.Linear(widths[-1], out)

    def forward(self, x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b out"], list[Float[Tensor, "b _"]]]:
        """Features, and the pooled output of each layer."""
        stages = []
        for conv in self.convs:
            x = F.relu(conv(x))
            stages.append(x.mean(dim=(2, 3)))
        return self.head(stages[-1]), stages


class MultiTask(nn.Module):
    """One network with a linear head per task: the teacher, and the student of plain distillation."""

    def __init__(self, widths: tuple[int, ...], tasks: tuple[int, ...], colours: int = 1):
        super().__init__()
        self.body = Encoder(widths, LATENT, colours)
        self.heads = nn.ModuleList(nn.Linear(LATENT, classes) for classes in tasks)

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor, list[Tensor]]:
        """Logits of each task, features, and the pooled output of each layer."""
        features, stages = self.body(x)
        return [head(features) for head in self.heads], features, stages


class Factored(NamedTuple):
    """Outputs of the factor networks for a batch; `logits` and `auxiliary` have an entry for each requested task."""

    logits: list[Tensor]
    auxiliary: list[Tensor]
    z: Float[Tensor, "b latent"]
    mean: Float[Tensor, "b k latent"]  # mu_j
    log_variance: Float[Tensor, "b k latent"]
    stages: list[Tensor]  # of the CKN


class FactorNetworks(nn.Module):
    """Equations 1 to 3. Any subset of the task networks works without the others."""

    def __init__(self, common: tuple[int, ...], specific: tuple[int, ...], tasks: tuple[int, ...], colours: int = 1):
        super().__init__()
        self.common = Encoder(common, LATENT, colours)
        self.specific = nn.ModuleList(Encoder(specific, 2 * LATENT, colours) for _ in tasks)
        self.heads = nn.ModuleList(nn.Linear(LATENT, classes) for classes in tasks)
        self.auxiliary = nn.ModuleList(nn.Linear(LATENT, classes) for classes in tasks)

    def forward(self, x: Tensor, chosen: list[int] | None = None) -> Factored:
        """Args: chosen: tasks to compute; None is all."""
        chosen = list(range(len(self.heads))) if chosen is None else chosen
        z, stages = self.common(x)
        mean, log_variance = torch.stack([self.specific[j](x)[0] for j in chosen], dim=1).chunk(2, dim=2)
        noise = torch.randn_like(mean) * (log_variance / 2).exp() if self.training else 0
        t = mean + noise  # (B, K, latent)
        logits = [self.heads[j](z + t[:, i]) for i, j in enumerate(chosen)]
        auxiliary = [self.auxiliary[j](t[:, i]) for i, j in enumerate(chosen)]
        return Factored(logits, auxiliary, z, mean, log_variance, stages)


class Contrast(nn.Module):
    """f of equation 5 at each stage: networks that bring the teacher's pooled features to the CKN's widths."""

    def __init__(self, teacher: tuple[int, ...], common: tuple[int, ...]):
        super().__init__()
        # the CKN is shorter: its stages are compared with the teacher's last ones
        self.project = nn.ModuleList(
            nn.Sequential(nn.Linear(a, b), nn.BatchNorm1d(b), nn.ReLU(), nn.Linear(b, b))
            for a, b in zip(teacher[-len(common) :], common)
        )

    def forward(self, teacher: list[Tensor], common: list[Tensor], as_released: bool) -> Float[Tensor, ""]:
        """Minus the bound on I(X; Z), a mean over the stages."""
        bounds = []
        for project, a, b in zip(self.project, teacher[-len(common) :], common):
            cosine = F.normalize(project(a), dim=1) @ F.normalize(b, dim=1).mT  # (B, B)
            bounds.append(released_bound(cosine) if as_released else information_bound(cosine / TEMPERATURE))
        return -torch.stack(bounds).mean()


def information_bound(f: Float[Tensor, "b b"]) -> Float[Tensor, ""]:
    """Equation 5: pairs of one image on the diagonal, of two images elsewhere."""
    b = len(f)
    apart = f.masked_fill(torch.eye(b, dtype=torch.bool, device=f.device), -math.inf)
    return f.diagonal().mean() - (apart.flatten().logsumexp(dim=0) - math.log(b * (b - 1)))


def released_bound(cosine: Float[Tensor, "b b"]) -> Float[Tensor, ""]:
    """What the published code computes for equation 5."""
    b = len(cosine)
    apart = cosine.masked_fill(torch.eye(b, dtype=torch.bool, device=cosine.device), 0.0)
    return cosine.diagonal().sum() / b**2 - (apart.flatten().logsumexp(dim=0) - 2 * math.log(b))


def bottleneck(mean: Float[Tensor, "b k c"], log_variance: Float[Tensor, "b k c"], as_released: bool) -> Tensor:
    """Equation 6, summed over the features and the tasks, a mean over images."""
    if as_released:  # of the published code for image networks
        mean, log_variance = mean.mean(dim=0), (mean.var(dim=0) + 1e-8).log()
    kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance)
    return kl.sum() if as_released else kl.sum(dim=(1, 2)).mean()

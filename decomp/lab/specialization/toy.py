"""Section 4's toy: M scalar units LeakyReLU(w x + b) are summed and fitted to four points by gradient descent.

A unit is convex and monotone in x, a sum of two can be a valley. Both targets are valleys, so one unit fits neither,
and two fit both exactly (`exact`). Whether gradient descent finds such a pair depends on the start.

What the paper leaves open, and what is taken here:

- slope 0.01 and the starts: what PyTorch's LeakyReLU and Linear(1, 1) take by default, "uniform" U(-1, 1) for w and b;
  beside it "normal" N(0, 1). Slope and start matter most: see `CHOICES` and the figure "choices".
- learning rate 0.1 / M on the sum of squared errors: its curvature is at most 14.5 M (all units active, Toy2), so every
  M is trained at the same 72 % of the rate at which gradient descent may diverge.
- 5,000 steps. A run stops when it has succeeded, or when no gradient is above 1e-5: it could not go far any more.

All runs of a toy are trained at once, `torch.func.vmap` over `grad_and_value`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.func import grad_and_value, vmap

from ..measures import active, correlation, covariance

SLOPE = 0.01
RATE = 0.1  # learning rate times M
STEPS = 5_000
EVERY = 50  # steps between two checks of which runs go on
SUCCESS = 1e-4  # sum of squared errors
STATIONARY = 1e-5  # largest gradient of a run that is given up
COUNTS = tuple(range(2, 31))


@dataclass(frozen=True)
class Toy:
    """Four points that the sum of units must go through."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]


TOY1 = Toy("Toy1", (-1.0, 0.0, 0.0, 1.0), (1.0, 0.5, 0.5, 1.0))
TOY2 = Toy("Toy2", (-1.0, 0.0, 1.0, 2.0), (1.0, 0.25, 0.5, 0.75))
TOYS = (TOY1, TOY2)


class Trained(NamedTuple):
    """Runs before and after; theta[run] is (w_1 .. w_M), (b_1 .. b_M)."""

    start: Float[Tensor, "runs 2 m"]
    end: Float[Tensor, "runs 2 m"]
    error: Float[Tensor, "runs"]  # sum of squared errors at the end
    steps: Int[Tensor, "runs"]  # that were taken, in units of `EVERY`

    @property
    def success(self) -> Bool[Tensor, "runs"]:
        return self.error < SUCCESS


def units(theta: Float[Tensor, "*runs 2 m"], x: Float[Tensor, "n"], slope: float = SLOPE) -> Float[Tensor, "*runs m n"]:
    """v_k(x) = LeakyReLU(w_k x + b_k): the response matrix F."""
    w, b = theta.unbind(dim=-2)
    return F.leaky_relu(w[..., None] * x + b[..., None], slope)


def squared_error(
    theta: Float[Tensor, "*runs 2 m"], x: Float[Tensor, "n"], y: Float[Tensor, "n"], slope: float = SLOPE
) -> Float[Tensor, "*runs"]:
    """Sum over the points of (sum_k v_k(x) - y)^2."""
    return (units(theta, x, slope).sum(dim=-2) - y).square().sum(dim=-1)


def points(toy: Toy) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"]]:
    """The toy's x and y as tensors."""
    return torch.tensor(toy.x, dtype=torch.float32), torch.tensor(toy.y, dtype=torch.float32)


def exact(toy: Toy, slope: float = SLOPE) -> Float[Tensor, "2 2"]:
    """Two units whose sum goes through all four points."""
    if toy == TOY1:  # mirror images, both 1/4 at 0: w + 1/4 + slope (1/4 - w) = 1
        w = (0.75 - 0.25 * slope) / (1 - slope)
        return torch.tensor([[w, -w], [0.25, 0.25]])
    # Both bend at -1/2; f is straight from 0 to 2, as it must be: it is convex and goes through three points of a line.
    w = 2 / (1 - slope**2)  # of the falling unit
    up = 0.25 + slope * w
    return torch.tensor([[-w, up], [-w / 2, up / 2 + 0.125]])


def starts(name: str, m: int, runs: int, seed: int, scale: float = 1.0) -> Float[Tensor, "runs 2 m"]:
    """Random parameters: "uniform" in [-scale, scale] or "normal" with standard deviation scale."""
    rng = torch.Generator().manual_seed(seed * 1000 + m)
    if name == "uniform":
        return scale * (2 * torch.rand(runs, 2, m, generator=rng) - 1)
    return scale * torch.randn(runs, 2, m, generator=rng)


def train(toy: Toy, begun: Sequence[Float[Tensor, "_ 2 _"]], steps: int = STEPS, slope: float = SLOPE) -> list[Trained]:
    """Gradient descent from each of the starts, (runs, 2, m) for each of several m, all at once.

    The tensors are padded to the largest m by units that add nothing; runs that are done leave the batch. A step costs
    half a millisecond before any arithmetic, so one batch for all m is several times faster than one for each.
    """
    x, y = points(toy)
    most = max(start.shape[2] for start in begun)
    theta = torch.cat([F.pad(start, (0, most - start.shape[2])) for start in begun])
    m = torch.cat([torch.full((len(start),), start.shape[2]) for start in begun])
    alive, rate = (torch.arange(most) < m[:, None]).float(), (RATE / m)[:, None, None]

    def error_of(theta, alive):
        return ((units(theta, x, slope) * alive[:, None]).sum(dim=0) - y).square().sum()

    gradients = vmap(grad_and_value(error_of))
    going = torch.arange(len(theta))
    end, error, taken = theta.clone(), torch.zeros(len(theta)), torch.zeros(len(theta), dtype=torch.int64)
    for i in range(0, steps, EVERY):
        for _ in range(EVERY):
            gradient, _ = gradients(theta, alive)
            theta = theta - rate * gradient
        gradient, now = gradients(theta, alive)
        end[going], error[going], taken[going] = theta, now, i + EVERY
        on = (now >= SUCCESS) & (gradient.abs().amax(dim=(1, 2)) >= STATIONARY)
        theta, alive, rate, going = theta[on], alive[on], rate[on], going[on]
        if not len(going):
            break
    parts = zip(begun, *(t.split([len(start) for start in begun]) for t in (end, error, taken)))
    return [Trained(start, last[:, :, : start.shape[2]], *rest) for start, last, *rest in parts]


def trace(toy: Toy, start: Float[Tensor, "2 m"], steps: int) -> Float[Tensor, "times 2 m"]:
    """The parameters of one run at each step, the start included."""
    x, y = points(toy)
    gradient = torch.func.grad(lambda theta: squared_error(theta, x, y))
    path = [start]
    for _ in range(steps):
        path.append(path[-1] - RATE / start.shape[1] * gradient(path[-1]))
    return torch.stack(path)


def mean_of_pairs(values: Float[Tensor, "runs m m"], chosen: Bool[Tensor, "runs m"]) -> float:
    """Mean over the pairs of two different chosen units, then over the runs that have such a pair."""
    pairs = chosen[:, :, None] & chosen[:, None] & ~torch.eye(values.shape[1], dtype=torch.bool)
    counts = pairs.sum(dim=(1, 2))
    per_run = (values * pairs).sum(dim=(1, 2))[counts > 0] / counts[counts > 0]
    return float(per_run.mean()) if len(per_run) else float("nan")


def strangers(f: Float[Tensor, "runs m n"]) -> Float[Tensor, "runs m n"]:
    """Rows put together anew: unit k of run r comes from run r + k, so that no two were trained together."""
    runs, m, _ = f.shape
    return f[(torch.arange(runs)[:, None] + torch.arange(m)) % runs, torch.arange(m)]


def figures_of(toy: Toy, trained: Trained, slope: float = SLOPE) -> dict:
    """Success rate, and of the successful runs: active units, and how alike two of them are.

    `correlation`: mean |cosine| of two active units' responses. `covariance`: mean |F F^T| of any two units over the
    mean of its diagonal. Each is also given `_at_start` for the same runs, and for `_strangers`, units of different
    successful runs: what it would be if training together made no difference.
    """
    x, _ = points(toy)
    before, after = (units(theta[trained.success], x, slope) for theta in (trained.start, trained.end))
    result = {"success": float(trained.success.float().mean()), "steps": float(trained.steps.float().mean())}
    failed = trained.end[~trained.success]
    if len(failed):  # no unit bends between the outermost points: f is a straight line there
        bend = -failed[:, 1] / failed[:, 0]
        result["failed_straight"] = float(((bend <= x.min()) | (bend >= x.max())).all(dim=1).float().mean())
    if not len(after):
        return result
    counts = active(after).sum(dim=1).float()
    result |= {"active": float(counts.mean()), "active_sd": float(counts.std(correction=0))}
    others = strangers(after)
    own = strangers(active(after)[..., None].float())[..., 0] > 0  # active in its own run
    for name, f, chosen in (
        ("", after, active(after)),
        ("_at_start", before, active(before)),
        ("_strangers", others, own),
    ):
        result[f"correlation{name}"] = mean_of_pairs(correlation(f).abs(), chosen)
        products = covariance(f)
        everyone = torch.ones_like(chosen)
        diagonal = products.diagonal(dim1=1, dim2=2).mean(dim=1)[:, None, None]
        result[f"covariance{name}"] = mean_of_pairs(products.abs() / diagonal, everyone)
    return result


def sides(trained: Trained, toy: Toy) -> float:
    """Share of successful runs with two units in which they give over 90 % of f at one outermost point each."""
    x, y = points(toy)
    share = units(trained.end[trained.success], x)[:, :, [0, -1]] / y[[0, -1]]  # (runs, units, outermost points)
    return float(
        (share.amax(dim=1) > 0.9).all(dim=1).logical_and(share.argmax(dim=1).diff().ne(0)[:, 0]).float().mean()
    )

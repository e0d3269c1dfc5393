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

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.func import grad_and_value, vmap

from .findings import Claim, Findings, write
from .measures import active, correlation, covariance

SLOPE = 0.01
RATE = 0.1  # learning rate times M
STEPS = 5_000
EVERY = 50  # steps between two looks at which runs go on
SUCCESS = 1e-4  # sum of squared errors
STATIONARY = 1e-5  # largest gradient of a run that is given up
COUNTS = tuple(range(2, 31))
SHOWN = (2, 5, 10, 20, 30)  # values of M at which the choices are compared
CHOICES = {  # name: start, its scale, slope
    "uniform, slope 0.01": ("uniform", 1.0, 0.01),
    "normal, slope 0.01": ("normal", 1.0, 0.01),
    "normal, three times as wide": ("normal", 3.0, 0.01),
    "uniform, a tenth as wide": ("uniform", 0.1, 0.01),
    "uniform, slope 0.1": ("uniform", 1.0, 0.1),
    "uniform, slope 0.3": ("uniform", 1.0, 0.3),
}


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


def active_at_ten_and_most(measured: dict[int, dict]) -> tuple[float, float]:
    """Mean number of active units at M = 10 and at the largest M; not a number where no run succeeded."""
    few, many = (measured[m].get("active", float("nan")) for m in (10, max(measured)))
    return few, many


def run(out: Path, runs: int = 1000, seed: int = 0) -> Findings:
    """Figures 2, 3 and 4 of the paper and the training dynamics of M = 2; `findings.write` tells what `out` gets."""
    from . import toy_figures as draw  # matplotlib is needed by nothing else here

    began = time.monotonic()
    measured, choices, pairs, ten = {}, {}, {}, {}
    for t in TOYS:
        trained = dict(zip(COUNTS, train(t, [starts("uniform", m, runs, seed) for m in COUNTS], STEPS)))
        measured[t.name] = {m: figures_of(t, r) for m, r in trained.items()}
        pairs[t.name], ten[t.name] = trained[2], trained[10]
        choices[t.name] = {}
        for name, (start, scale, slope) in CHOICES.items():
            some = train(t, [starts(start, m, max(1, runs // 4), seed, scale) for m in SHOWN], STEPS, slope)
            choices[t.name][name] = {m: figures_of(t, r, slope) for m, r in zip(SHOWN, some)}
    own_side = {t.name: sides(pairs[t.name], t) for t in TOYS}
    claims = [claim for t in TOYS for claim in claims_of(t, measured[t.name], choices[t.name], own_side[t.name])]
    numbers = {
        "runs": runs,
        "slope": SLOPE,
        "rate_times_m": RATE,
        "steps": STEPS,
        "start": "uniform in [-1, 1]",
        "exact_error_of_two_units": {t.name: float(squared_error(exact(t), *points(t))) for t in TOYS},
        "own_side_m2": own_side,
        "by_m": measured,
        "choices": choices,
    }
    figures = {
        "success": (
            "Share of the runs that reach a sum of squared errors below 1e-4 (paper: figure 2).",
            draw.success(measured, runs),
        ),
        "correlation": (
            "How alike two units of successful runs are, beside units not trained together (paper: figure 3).",
            draw.likeness(measured),
        ),
        "matrices": (
            "F F^T of one successful run with ten units, before and after training, largest unit first.",
            draw.matrices(ten),
        ),
        "active": (
            "Active units of successful runs, mean and standard deviation (paper: figure 4).",
            draw.active_units(measured),
        ),
        "choices": (
            "What the choices that the paper leaves open do; at M = 30 some need more than 5,000 steps.",
            draw.choices(choices),
        ),
        "dynamics": (
            "Training with two units: the first successful and the first failed run of each toy.",
            draw.dynamics(pairs),
        ),
    }
    command = f"decomp lab toy --runs {runs} --seed {seed}"
    return write(out, "Toy: units on four points", command, time.monotonic() - began, numbers, claims, figures)


def claims_of(toy: Toy, measured: dict[int, dict], choices: dict[str, dict], own_side: float) -> list[Claim]:
    """What the paper says of a toy, beside it what was measured."""
    last = max(measured)
    rates = {m: measured[m]["success"] for m in SHOWN}
    lowest = min(measured[m]["success"] for m in measured if m >= 10)
    claims = [
        Claim(
            f"{toy.name}: success becomes likelier with M, and is about certain from M = 10 on",
            "figure 2",
            "success "
            + ", ".join(f"{rate:.1%} at M = {m}" for m, rate in rates.items())
            + f"; {lowest:.1%} or more from 10 on",
            # It rises while there is room to rise, and stays within 1 % of certain.
            rates[2] < rates[5] < rates[10] and lowest >= 0.99,
        )
    ]
    keys = ("covariance", "covariance_at_start", "covariance_strangers")
    rows = {m: [measured[m][key] for key in keys] for m in measured if all(key in measured[m] for key in keys)}
    of = lambda m: "{:.2f} at M = {} (start {:.2f}, units not trained together {:.2f})".format(
        rows[m][0], m, *rows[m][1:]
    )
    claims.append(
        Claim(
            f"{toy.name}: trained units have low covariance",
            "figure 3",
            "mean |covariance| of two units over the mean variance: " + "; ".join(of(m) for m in SHOWN if m in rows),
            # Low means below both what it was at the start and what it is without training together, for every M.
            all(row[0] < min(row[1:]) for row in rows.values()),
        )
    )
    for name in ("uniform, slope 0.01", "normal, slope 0.01"):
        few, many = active_at_ten_and_most(measured if name.startswith("uniform") else choices[name])
        claims.append(
            Claim(
                f"{toy.name}, start {name.partition(',')[0]}: the number of active units hardly depends on M",
                "figure 4",
                f"{few:.1f} at M = 10, {many:.1f} at M = {last}: {many / few - 1:+.0%}",
                # Three times as many units, and less than a quarter more active ones.
                many / few - 1 < 0.25,
            )
        )
    claims.append(
        Claim(
            f"{toy.name}: two units specialise, each on its side",
            "section 4, M = 2",
            f"in {own_side:.1%} of the successful runs different units give over 90 % of f at the two outermost points",
            own_side > 0.9,
        )
    )
    return claims

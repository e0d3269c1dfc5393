"""The toy's experiment: a thousand runs for each number of units, other starts and slopes, and the paper's claims."""

import time
from pathlib import Path

from ..findings import Claim, Findings, write
from .toy import (
    COUNTS,
    RATE,
    SLOPE,
    STEPS,
    TOYS,
    Toy,
    exact,
    figures_of,
    points,
    sides,
    squared_error,
    starts,
    train,
)

SHOWN = (2, 5, 10, 20, 30)  # values of M at which the choices are compared
CHOICES = {  # name: start, its scale, slope
    "uniform, slope 0.01": ("uniform", 1.0, 0.01),
    "normal, slope 0.01": ("normal", 1.0, 0.01),
    "normal, three times as wide": ("normal", 3.0, 0.01),
    "uniform, a tenth as wide": ("uniform", 0.1, 0.01),
    "uniform, slope 0.1": ("uniform", 1.0, 0.1),
    "uniform, slope 0.3": ("uniform", 1.0, 0.3),
}


def active_at_ten_and_most(measured: dict[int, dict]) -> tuple[float, float]:
    """Mean number of active units at M = 10 and at the largest M; not a number where no run succeeded."""
    few, many = (measured[m].get("active", float("nan")) for m in (10, max(measured)))
    return few, many


def run(out: Path, runs: int = 1000, seed: int = 0) -> Findings:
    """Figures 2, 3 and 4 of the paper and the training dynamics of M = 2; writes as `findings.write`."""
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
    """The paper's claims about a toy, and what was measured."""
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

"""The figures of the toy, see toy.py."""

import numpy as np
import torch
from matplotlib.figure import Figure

from ..measures import active, covariance
from .toy import COUNTS, SUCCESS, TOYS, Trained, points, squared_error, trace, units

COLOURS = {"Toy1": "tab:blue", "Toy2": "tab:orange"}


def success(measured: dict, runs: int) -> Figure:
    """Success against M with 95 % intervals of Wilson."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axis = figure.subplots()
    for name, by_m in measured.items():
        m, p = np.array(list(by_m)), np.array([v["success"] for v in by_m.values()])
        z = 1.96**2 / runs
        middle, half = (p + z / 2) / (1 + z), np.sqrt(z * p * (1 - p) + z**2 / 4) / (1 + z)
        axis.fill_between(m, 100 * (middle - half), 100 * (middle + half), color=COLOURS[name], alpha=0.25, lw=0)
        axis.plot(m, 100 * p, ".-", color=COLOURS[name], label=name)
    axis.set(xlabel="M, number of units", ylabel="successful runs, %", ylim=(0, 103))
    axis.grid(alpha=0.3)
    axis.legend()
    return figure


def likeness(measured: dict) -> Figure:
    """Correlation of active units and relative covariance of all, each with its two nulls."""
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True, sharey="row")
    kinds = {"": ("after training", "o-", "tab:blue"), "_at_start": ("same runs at the start", "--", "tab:gray")}
    kinds["_strangers"] = ("trained, but not together", ":", "tab:red")
    labels = {
        "correlation": "mean |correlation|\nof two active units",
        "covariance": "mean |covariance| of two units\n/ mean variance",
    }
    for row, key in zip(axes, labels):
        for axis, by_m in zip(row, measured.values()):
            for ending, (label, style, colour) in kinds.items():
                m = [m for m in by_m if key + ending in by_m[m]]
                axis.plot(m, [by_m[k][key + ending] for k in m], style, color=colour, label=label, ms=3)
            axis.set(ylim=(0, None))
            axis.grid(alpha=0.3)
        row[0].set_ylabel(labels[key])
    for axis, name in zip(axes[0], measured):
        axis.set_title(name)
    for axis in axes[1]:
        axis.set_xlabel("M, number of units")
    axes[1, 1].legend()
    return figure


def matrices(ten: dict[str, Trained]) -> Figure:
    """F F^T of the first successful run, before and after."""
    figure = Figure(figsize=(8, 7.2), layout="constrained")
    axes = figure.subplots(2, len(ten), squeeze=False)
    for column, toy in zip(axes.T, TOYS):
        trained = ten[toy.name]
        chosen = int(trained.success.int().argmax())
        for axis, theta, when in zip(column, (trained.start[chosen], trained.end[chosen]), ("start", "end")):
            f = units(theta, points(toy)[0])
            f = f[f.norm(dim=1).argsort(descending=True)]
            products = covariance(f).numpy()
            top = float(np.abs(products).max())
            image = axis.imshow(products, cmap="RdBu_r", vmin=-top, vmax=top)
            axis.set(title=f"{toy.name}, {when}: {int(active(f).sum())} of {len(f)} active", xticks=[], yticks=[])
            figure.colorbar(image, ax=axis, shrink=0.8)
    return figure


def active_units(measured: dict) -> Figure:
    """Mean number of active units with its standard deviation."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axis = figure.subplots()
    axis.plot(COUNTS, COUNTS, "--", color="gray", label="all M")
    for name, by_m in measured.items():
        m = np.array([m for m in by_m if "active" in by_m[m]])
        mean, sd = (np.array([by_m[k][key] for k in m]) for key in ("active", "active_sd"))
        axis.fill_between(m, mean - sd, mean + sd, color=COLOURS[name], alpha=0.2, lw=0)
        axis.plot(m, mean, ".-", color=COLOURS[name], label=name)
    axis.set(xlabel="M, number of units", ylabel="active units", ylim=(0, 15))
    axis.grid(alpha=0.3)
    axis.legend(loc="upper right")
    return figure


def choices(choices: dict) -> Figure:
    """Success and active units for each choice."""
    figure = Figure(figsize=(10, 6), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True, sharey="row")
    for column, (toy, by_name) in zip(axes.T, choices.items()):
        for i, (name, by_m) in enumerate(by_name.items()):
            m = [m for m in by_m if "active" in by_m[m]]
            column[0].plot(
                list(by_m), [100 * v["success"] for v in by_m.values()], "o-", color=f"C{i}", ms=4, label=name
            )
            column[1].plot(m, [by_m[k]["active"] for k in m], "o-", color=f"C{i}", ms=4, label=name)
        column[0].set_title(toy)
        column[1].set_xlabel("M, number of units")
        for axis in column:
            axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("successful runs, %")
    axes[1, 0].set_ylabel("active units")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def dynamics(pairs: dict[str, Trained], steps: int = 400) -> Figure:
    """Two units of a successful and of a failed run: error, bends on the x axis, and what they add up to at the end."""
    chosen = []
    for toy in TOYS:
        success = pairs[toy.name].success
        for which, outcome in ((success, "success"), (~success, "failure")):
            if which.any():
                chosen.append((toy, outcome, pairs[toy.name].start[int(which.int().argmax())]))
    figure = Figure(figsize=(12, 2.5 * len(chosen)), layout="constrained")
    for row, (toy, outcome, start) in zip(figure.subplots(len(chosen), 3, squeeze=False), chosen):
        x, y = points(toy)
        path = trace(toy, start, steps)
        responses = units(path, x).numpy()
        row[0].semilogy(squared_error(path, x, y).numpy())
        row[0].axhline(SUCCESS, color="gray", ls="--", lw=1)
        row[0].set(title=f"{toy.name}, {outcome}: error", xlabel="step", ylabel="sum of squared errors")
        for k in range(2):
            for style, i in (("-", 0), ("--", len(x) - 1)):
                label = f"$v_{k + 1}$ at x = {int(x[i])}"
                row[1].plot(responses[:, k, i], style, color=f"C{k}", label=label)
        row[1].set(title="responses at the outermost points", xlabel="step")
        row[1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
        fine = torch.linspace(float(x.min()) - 0.2, float(x.max()) + 0.2, 200)
        last = units(path[-1], fine).numpy()
        for k in range(2):
            row[2].plot(fine.numpy(), last[k], color=f"C{k}", label=f"$v_{k + 1}$")
        row[2].plot(fine.numpy(), last.sum(axis=0), color="black", label="f")
        row[2].plot(toy.x, toy.y, "o", color="tab:red", label="to fit")
        row[2].set(title="at the end", xlabel="x")
        row[2].legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure

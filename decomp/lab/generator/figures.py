"""The figures of `experiment.py`."""

import numpy as np
import torch
from matplotlib.figure import Figure

from ..plots import heat, panels


def figures(numbers: dict, config, runs: dict, code: torch.Tensor) -> dict[str, tuple[str, Figure]]:
    """Caption and figure of each name; `runs` holds photos, classes and output of each run."""
    return {
        "usage": ("Share of the channels' energy by class, and how often a gate is open.", usage(numbers, config)),
        "own": (
            "Photo, R, R with the class's own branches, R with the others, all. Coded run above, plain run below.",
            own(runs, code),
        ),
    }


def usage(numbers: dict, config) -> Figure:
    figure, axes = panels(3, 4.0, 2.4)
    for a, name, title in zip(axes, ("plain", "coded", "gated"), ("plain: energy", "coded: energy", "gated: open")):
        matrix = np.array(numbers[name]["usage"])
        heat(a, matrix, title, 0, 1 if name == "gated" else float(matrix.max()), xlabel="branch")
        a.set_yticks(np.arange(len(config.domains)) + 1, config.domains)
    return figure


def own(runs: dict, code: torch.Tensor) -> Figure:
    rows = []
    for name in ("coded", "plain"):
        x, y, output = runs[name]
        for c in range(len(code)):
            i = int((y == c).nonzero()[0])
            chosen = code[c].bool()[:, None, None, None]
            v, r = output.channels[i], output.residual[i]
            rows.append([x[i], r, r + (v * chosen).sum(dim=0), r + (v * ~chosen).sum(dim=0), r + v.sum(dim=0)])
    figure = Figure(figsize=(7, 1.4 * len(rows)), layout="constrained")
    for axes, row in zip(figure.subplots(len(rows), 5), rows):
        for a, picture in zip(axes, row):
            a.imshow(picture.permute(1, 2, 0).clamp(-1, 1).numpy() / 2 + 0.5)
            a.set(xticks=[], yticks=[])
    return figure

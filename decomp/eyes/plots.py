"""Plots of `decomp evaluate-eyes`."""

from pathlib import Path

import numpy as np

from ..files import atomic

FARTHEST = 0.4  # IOD: the curves end there


def within(path: Path, errors: dict[str, list[dict]], methods: dict[str, str]) -> None:
    """Share of all photos with both centres within an error: a curve for each method, a panel for each kind.

    `methods`: titles by key.
    """
    figure, panels = _figure(len(errors))
    x = np.linspace(0, FARTHEST, 201)
    for panel, (kind, photos_of) in zip(panels, errors.items()):
        for method, title in methods.items():
            worse = np.array([np.inf if e[method] is None else e[method].max() for e in photos_of])
            panel.plot(x, (worse[:, None] <= x).mean(axis=0), label=title)
        panel.set(title=f"{len(worse)} {kind}", xlabel="error of the worse eye, in distances between the eyes")
        panel.set(ylabel="share of all photos", xlim=(0, FARTHEST), ylim=(0, 1))
        panel.grid(alpha=0.3)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize="small")
    _save(figure, path)


def confidence(path: Path, judged: list[tuple[float, bool]]) -> None:
    """How often places of a confidence are right, in ten groups of equal size, with two standard errors."""
    figure, (panel,) = _figure(1)
    stated, right = np.array(sorted(judged)).reshape(-1, 2).T
    groups = [g for g in np.array_split(np.arange(len(stated)), 10) if len(g)]
    x, y = (np.array([a[g].mean() for g in groups]) for a in (stated, right))
    spread = 2 * np.sqrt(y * (1 - y) / [len(g) for g in groups])
    panel.plot([0, 1], [0, 1], color="grey", linewidth=1)
    panel.errorbar(x, y, spread, marker="o", capsize=3)
    panel.set(title=f"{len(stated)} reported photos", xlabel="confidence", ylabel="share with both centres right")
    panel.set(xlim=(0, 1.02), ylim=(0, 1.02))
    panel.grid(alpha=0.3)
    _save(figure, path)


def _figure(panels: int):
    """Without pyplot, which would look for a screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6 * panels, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, panels, squeeze=False)[0]


def _save(figure, path: Path) -> None:
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)

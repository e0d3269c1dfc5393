"""The figures of `experiment.py`."""

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.manifold import TSNE

from ..cifar.images import CLASSES
from ..plots import panels

ON, SILENT, DYNAMIC = "#2a6f97", "#d9d9d9", "#c75000"
IMAGES = 800  # in the t-SNE


def figures(numbers: dict, schedule, shown, labels: torch.Tensor) -> dict[str, tuple[str, Figure]]:
    """Caption and figure of each name; `shown` are the paths of the setting `schedule.shown`."""
    return {
        "states": (
            "Filters of each gated convolution: on for all test images, silent, or dynamic, by the information loss.",
            states(numbers, schedule),
        ),
        "work": ("Accuracy against the work of the gated convolutions.", work(numbers)),
        "usage": (
            "First convolutions of the blocks: dynamic filters that more than half of a class's images use.",
            usage(numbers[schedule.shown][0]),
        ),
        "paths": ("t-SNE of the gates at three depths, coloured by class.", tsne(shown, labels)),
        "probe": ("Images whose nearest path is of their class, by depth; dashed: chance.", probe(numbers, schedule)),
    }


def states(numbers: dict, schedule) -> Figure:
    names = schedule.along("mi")
    figure, axes = panels(len(names), 3.6)
    for a, name in zip(axes, names):
        layers, bottom = numbers[name][0]["layers"], 0
        for state, colour in (("on", ON), ("dynamic", DYNAMIC), ("silent", SILENT)):
            share = np.array([100 * layer[state] / layer["filters"] for layer in layers])
            a.bar(np.arange(len(layers)) + 1, share, bottom=bottom, color=colour, label=state)
            bottom = bottom + share
        a.set(title=name, xlabel="gated convolution")
    axes[0].set_ylabel("filters, %")
    axes[0].legend(fontsize=7, loc="lower left")
    return figure


def work(numbers: dict) -> Figure:
    figure, (a,) = panels(1, 5)
    for name, runs in numbers.items():
        if isinstance(runs, list):
            x, y = ([run[key] for run in runs] for key in ("work", "accuracy"))
            a.scatter(np.array(x) / 1e6, 100 * np.array(y), s=18)
            a.annotate(name, (x[0] / 1e6, 100 * y[0]), fontsize=6, xytext=(3, 2), textcoords="offset points")
    a.set(xlabel="million multiplications an image", ylabel="accuracy, %")
    return figure


def usage(run: dict) -> Figure:
    layers, rates = run["layers"][::2], run["usage"][::2]
    figure, axes = panels(len(layers), 2.6, 2.8)
    for i, (a, layer, rate) in enumerate(zip(axes, layers, rates)):
        rate = np.array(rate)  # (classes, filters)
        dynamic = (rate.min(axis=0) < 1) & (rate.max(axis=0) > 0)
        if dynamic.any():
            a.imshow(rate[:, dynamic] > 0.5, cmap="Greys", vmin=0, vmax=1, aspect="auto")
        a.set(
            title=f"block {i + 1}: {layer['dynamic']} of {layer['filters']}",
            xlabel="dynamic filters",
            xticks=[],
            yticks=[],
        )
    axes[0].set_yticks(np.arange(10), CLASSES, fontsize=7)
    return figure


def tsne(shown, labels: torch.Tensor) -> Figure:
    depths = [0, len(shown.z) // 2, len(shown.z) - 2]
    figure, axes = panels(len(depths), 3.6, 3.6)
    for a, depth in zip(axes, depths):
        z = shown.z[depth][:IMAGES].float().numpy()
        jitter = 1e-3 * np.random.default_rng(0).normal(size=z.shape)  # equal paths would lie on one point
        place = TSNE(init="pca", random_state=0, perplexity=20).fit_transform((z + jitter).astype(np.float32))
        a.scatter(*place.T, c=labels[:IMAGES], cmap="tab10", s=4)
        a.set(title=f"gated convolution {depth + 1}", xticks=[], yticks=[])
    return figure


def probe(numbers: dict, schedule) -> Figure:
    figure, (a,) = panels(1, 5)
    for name in schedule.along("mi"):
        curve = 100 * np.array(numbers[name][0]["class_from_path"])
        a.plot(np.arange(len(curve)) + 1, curve, marker="o", markersize=3, label=name)
    a.axhline(10, linestyle="--", color="#8a8a8a", linewidth=0.8)
    a.set(xlabel="gated convolution", ylabel="%", ylim=(0, None))
    a.legend(fontsize=7)
    return figure

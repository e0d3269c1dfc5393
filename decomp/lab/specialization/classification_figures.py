"""The figures of `classification.py`."""

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from ...metrics import ACTIVE
from .. import measures
from ..cifar.images import CLASSES, Images
from ..plots import from_zero, heat, panels

MOST_CONFIDENT = ("horse", "deer", "bird")


def figures(
    numbers: dict, second: dict, branched: list[str], shown: Tensor, alone: Tensor, test: Images
) -> dict[str, tuple[str, Figure]]:
    """Caption and figure of each name; `shown` and `alone` are logits (M, N, classes) on the test images."""
    return {
        "active": (
            "Response norms of the branches, largest first; a branch below the line is silent.",
            active(numbers, branched),
        ),
        "covariance": (
            "Cosine between responses to the test images: branches trained together, and slim networks trained alone.",
            correlation(shown, alone),
        ),
        "contribution": (
            "What each branch adds to the logit of the right class: its test images against all test images.",
            contribution(shown, alone, test.labels),
        ),
        "confidence": (
            "Confidence of each branch (largest logit less the mean) in test images ordered by class.",
            confidence(shown, test.labels),
        ),
        "favourites": (
            "The test images of three classes that two branches are most confident of.",
            favourites(shown, test),
        ),
        "hessian": (
            "Norm of each block of the Hessian by the branches' first layers, logarithmic over three decades.",
            hessian(second),
        ),
    }


def active(numbers: dict, branched: list[str]) -> Figure:
    figure, axes = panels(len(branched), 2.6, 2.8)
    for a, name in zip(axes, branched):
        norms = np.sort(numbers[name]["norms"])[::-1]
        a.bar(np.arange(len(norms)) + 1, norms, color=np.where(norms >= ACTIVE * norms[0], "#2a6f97", "#c9c9c9"))
        a.xaxis.set_major_locator(MaxNLocator(integer=True))
        a.axhline(ACTIVE * norms[0], color="#a33a00", linewidth=1)
        a.set(title=f"M = {name}: {numbers[name]['active']} active", xlabel="branch", ylim=(0, None))
    axes[0].set_ylabel("response norm")
    return figure


def correlation(shown: Tensor, alone: Tensor) -> Figure:
    figure, axes = panels(2)
    for a, logits, title in zip(axes, (shown, alone), ("trained together", "trained alone")):
        cosine = measures.correlation(measures.responses(measures.telling(logits)))
        heat(a, cosine.numpy(), title, -1, 1, xlabel="branch", ylabel="branch")
    return figure


def contribution(shown: Tensor, alone: Tensor, labels: Tensor) -> Figure:
    figure, axes = panels(2, 5.0, 3.8)
    for a, logits, title in zip(axes, (shown, alone), ("trained together", "trained alone")):
        added = measures.contribution(measures.telling(logits), labels).numpy()
        most = float(np.abs(added).max())
        heat(a, added.T, title, -most, most, xlabel="branch")
        a.set_yticks(np.arange(len(CLASSES)) + 1, CLASSES)
    return figure


def confidence(shown: Tensor, labels: Tensor, per_class: int = 60) -> Figure:
    figure, axes = panels(1, 10, 3.6)
    chosen = torch.cat([(labels == c).nonzero()[:per_class, 0] for c in range(len(CLASSES))])
    from_zero(axes[0], measures.confidence(shown[:, chosen]).numpy(), "confidence", ylabel="branch")
    axes[0].set_xticks(per_class * (np.arange(len(CLASSES)) + 0.5), CLASSES)
    return figure


def favourites(shown: Tensor, test: Images, count: int = 10) -> Figure:
    """Two rows for each class: the two branches that add most to it."""
    figure = Figure(figsize=(count * 0.8, 2 * len(MOST_CONFIDENT) * 0.85), layout="constrained")
    rows = figure.subplots(2 * len(MOST_CONFIDENT), count)
    scores, added = measures.telling(shown), measures.contribution(measures.telling(shown), test.labels)
    pairs = [(name, int(k)) for name in MOST_CONFIDENT for k in added[:, CLASSES.index(name)].topk(2).indices]
    for row, (name, k) in zip(rows, pairs):
        members = (test.labels == CLASSES.index(name)).nonzero()[:, 0]
        best = members[scores[k, members, CLASSES.index(name)].topk(count).indices]
        for a, image in zip(row, test.pixels[best]):
            a.imshow(image.numpy())
            a.set(xticks=[], yticks=[])
        row[0].set_ylabel(f"{name}\nbranch {k + 1}", fontsize=8)
    return figure


def hessian(second: dict) -> Figure:
    figure, axes = panels(2)
    for a, when in zip(axes, ("start", "end")):
        blocks = np.array(second[when]["blocks"])
        relative = np.log10(np.maximum(blocks / blocks.max(), 1e-3))
        title = f"{when}: {second[when]['diagonal_share']:.3f} on the diagonal"
        heat(a, relative + 3, title, 0, 3, xlabel="branch", ylabel="branch")
    return figure

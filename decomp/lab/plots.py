"""The kinds of figures that several experiments draw."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator


def panels(count: int, width: float = 4.2, height: float = 3.4) -> tuple[Figure, Sequence[Axes]]:
    """A figure with axes side by side, sizes in inches each."""
    figure = Figure(figsize=(width * count, height), layout="constrained")
    return figure, figure.subplots(1, count, squeeze=False)[0]


def heat(axes: Axes, matrix: np.ndarray, title: str, low: float, high: float, **labels) -> None:
    """A matrix as colours, rows and columns counted from 1, blue below 0 and red above where `low` is negative.

    `labels` are those of Axes.set.
    """
    rows, columns = matrix.shape
    extent = (0.5, columns + 0.5, rows + 0.5, 0.5)
    colours = "RdBu_r" if low < 0 else "magma"
    image = axes.imshow(matrix, cmap=colours, vmin=low, vmax=high, aspect="auto", extent=extent)
    axes.figure.colorbar(image, ax=axes)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    axes.set(title=title, **labels)


def from_zero(axes: Axes, matrix: np.ndarray, title: str, **labels) -> None:
    """`heat` of numbers that are not negative."""
    heat(axes, matrix, title, 0, float(np.max(matrix)), **labels)

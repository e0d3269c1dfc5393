"""The figures of Distill's test, see method.py."""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from scipy import stats
from torch import Tensor, nn

from .method import COLOUR, Layers, absolute_weights, colour_selectivity, factors, frequency, rank_correlation


def tiles(filters: Float[Tensor, "filters 3 h w"]) -> Float[np.ndarray, "tall wide 3"]:
    """Filters side by side, each scaled to its own largest weight, 0 as grey, white between them."""
    scaled = filters / filters.abs().amax(dim=(1, 2, 3), keepdim=True) / 2 + 0.5
    return torch.cat(list(nn.functional.pad(scaled, (1, 1, 1, 1), value=1.0)), dim=2).permute(1, 2, 0).numpy()


def filters(networks: Mapping[str, Layers], per_row: int = 24) -> Figure:
    """A row for each branch, or several where the filters are many."""
    rows = []
    for name, layers in networks.items():
        for b in range(layers.branches):
            mine = layers.first[layers.branch == b]
            mine = mine[colour_selectivity(mine).argsort()]
            label = f"{name}, branch {b + 1}" if layers.branches > 1 else name
            rows += [(label if i == 0 else "", part) for i, part in enumerate(mine.split(per_row))]
    figure = Figure(figsize=(10, 0.45 * len(rows) + 0.2), layout="constrained")
    for axis, (label, part) in zip(figure.subplots(len(rows), 1, squeeze=False)[:, 0], rows):
        picture = tiles(part)
        width = picture.shape[1] // len(part) * per_row
        axis.imshow(
            np.pad(picture, ((0, 0), (0, width - picture.shape[1]), (0, 0)), constant_values=1.0),
            interpolation="nearest",
        )
        axis.set_axis_off()
        axis.text(-3, picture.shape[0] / 2, label, ha="right", va="center", fontsize=9)
    return figure


def selectivity(networks: Mapping[str, Layers]) -> Figure:
    """Colour against frequency, one panel for each network, branches in colours."""
    columns = min(4, len(networks))
    lines = -(-len(networks) // columns)
    figure = Figure(figsize=(3 * columns + 0.5, 2.9 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    for axis in axes.flat[len(networks) :]:
        axis.set_axis_off()
    for axis, (name, layers) in zip(axes.flat, networks.items()):
        colour, freq = colour_selectivity(layers.first).numpy(), frequency(layers.first).numpy()
        for b in range(layers.branches):
            mine = layers.branch.numpy() == b
            axis.plot(freq[mine], colour[mine], "o", ms=4, alpha=0.8, label=f"branch {b + 1}")
        axis.axhline(COLOUR, color="gray", lw=0.8, ls="--")
        axis.set(title=name, ylim=(-0.03, 1.03))
        axis.tick_params(labelbottom=True)  # the panel below may be empty
        if layers.branches > 1:
            axis.legend(fontsize=8)
    figure.supxlabel("frequency, cycles per pixel", fontsize=10)
    figure.supylabel("colour selectivity", fontsize=10)
    return figure


def chance(branched: Mapping[str, dict]) -> Figure:
    """The hypergeometric distribution of each network's count, and the count."""
    figure = Figure(figsize=(2.4 * len(branched) + 0.6, 2.7), layout="constrained")
    for axis, (name, f) in zip(figure.subplots(1, len(branched), squeeze=False, sharey=True)[0], branched.items()):
        marked, places = sum(f["colour_filters"]), f["filters"][0]
        counts = np.arange(max(0, marked - f["filters"][1]), min(marked, places) + 1)
        chances = stats.hypergeom(sum(f["filters"]), marked, places).pmf(counts)
        axis.bar(counts, chances, color=["tab:red" if c == f["colour_filters"][0] else "lightgray" for c in counts])
        axis.axvline(f["colour_filters"][0], color="tab:red", lw=1)
        axis.set_title(f"{name}: {marked} colour filters\np = {f['p_split']:.2g}", fontsize=9)
    figure.supxlabel("colour filters in branch 1", fontsize=10)
    figure.supylabel("probability", fontsize=10)
    return figure


def weights(networks: Mapping[str, Layers]) -> Figure:
    """The matrix of absolute weights in the order of its first factor, colour to the right; each row has mean 1."""
    figure = Figure(figsize=(10, 5 * len(networks)), layout="constrained")
    parts = figure.subplots(4 * len(networks), 1, height_ratios=[12, 1, 3, 3] * len(networks), sharex=False)
    for (matrix, strip, factor, colour), (name, layers) in zip(parts.reshape(-1, 4), networks.items()):
        strengths, selectivity = absolute_weights(layers), colour_selectivity(layers.first)
        of_neurons, of_filters = (vectors[:, 1] for vectors in factors(strengths))
        sign = 1 if rank_correlation(of_filters, selectivity)[0] > 0 else -1
        order = (sign * of_filters).argsort()
        rows = (sign * of_neurons).argsort(descending=True)
        shown = strengths / strengths.mean(dim=1, keepdim=True)
        matrix.imshow(shown[rows][:, order].numpy(), aspect="auto", cmap="magma", vmax=float(shown.quantile(0.99)))
        matrix.set(title=name, xticks=[], ylabel="second layer")
        strip.imshow(tiles(layers.first[order]), aspect="auto", interpolation="nearest")
        strip.set_axis_off()
        positions = np.arange(len(order))
        factor.bar(positions, sign * of_filters[order].numpy(), color="tab:gray")
        factor.set(ylabel="first\nfactor", xticks=[], xlim=(-0.5, len(order) - 0.5))
        colour.bar(positions, selectivity[order].numpy(), color="tab:purple")
        colour.set(ylabel="colour", xlabel="filters of the first layer", xlim=(-0.5, len(order) - 0.5), ylim=(0, 1))
    return figure

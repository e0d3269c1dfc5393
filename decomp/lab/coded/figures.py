"""The figures of `experiment.py`."""

import numpy as np
from matplotlib.figure import Figure

from ...codes import codewords
from ..cifar.images import CLASSES
from ..plots import heat, panels

BLUE, ORANGE, GREY = "#2a6f97", "#c75000", "#8a8a8a"


def figures(numbers: dict, schedule) -> dict[str, tuple[str, Figure]]:
    """Caption and figure of each name, from the first seed."""
    first = {name: runs[0] for name, runs in numbers.items() if isinstance(runs, list)}
    return {
        "removal": ("Accuracy after k random branches are removed from one block.", removal(first)),
        "decoders": (
            "Accuracy of the decoder at each coded block; dashed: the softmax of the same network.",
            decoders(first),
        ),
        "carved": ("Precision and recall of the classifiers carved for each class.", carved(first)),
        "agreement": (
            "Accuracy of images by how many decoders agree with the softmax; bars: images.",
            agreement(first),
        ),
        "usage": (
            "Share of a branch in the energy, by class: as coded, and as measured in the last block of each code.",
            usage(first["coded"], schedule),
        ),
    }


def removal(first: dict) -> Figure:
    blocks = list(first["coded"]["removal"])
    figure, axes = panels(len(blocks))
    for a, block in zip(axes, blocks):
        for name, style in (("coded", "-"), ("no-drop", ":")):
            if name not in first:
                continue
            for which, colour in (("active", ORANGE), ("inactive", BLUE)):
                curve = 100 * np.array(first[name]["removal"][block][which])
                a.plot(curve, style, color=colour, marker="o", markersize=3, label=f"{which}, {name}")
        a.set(title=f"block {block}", xlabel="branches removed")
    axes[0].set_ylabel("accuracy, %")
    axes[0].legend(fontsize=7)
    return figure


def decoders(first: dict) -> Figure:
    figure, (a,) = panels(1, 5)
    for name, colour in (("coded", ORANGE), ("no-drop", BLUE), ("no-loss", GREY), ("exponent-2", "#6a994e")):
        if name not in first:
            continue
        curve = 100 * np.array(first[name]["decoders"])
        a.plot(np.arange(len(curve)) + 1, curve, marker="o", color=colour, label=name)
        a.axhline(100 * first[name]["accuracy"], linestyle="--", linewidth=0.8, color=colour)
    a.set(xlabel="coded block", ylabel="accuracy, %", ylim=(0, 100))
    a.legend(fontsize=7)
    return figure


def carved(first: dict) -> Figure:
    figure, (a,) = panels(1, 5)
    for name, colour in (("coded", ORANGE), ("no-drop", BLUE), ("no-loss", "#6a994e"), ("plain", GREY)):
        if name not in first:
            continue
        recall, precision = ([100 * one[key] for one in first[name]["carved"]] for key in ("recall", "precision"))
        a.scatter(recall, precision, color=colour, label=name, s=18)
        if name == "coded":
            for x, y, label in zip(recall, precision, CLASSES):
                a.annotate(label, (x, y), fontsize=6, xytext=(3, 2), textcoords="offset points")
    a.set(xlabel="recall, %", ylabel="precision, %", xlim=(0, 102), ylim=(0, 102))
    a.legend(fontsize=7)
    return figure


def agreement(first: dict) -> Figure:
    figure, (a,) = panels(1, 5)
    groups = first["coded"]["agreement"]
    images = np.array([groups[key]["images"] for key in groups])
    a.bar(list(groups), 100 * images / images.sum(), color="#dddddd")
    a.plot(list(groups), [100 * groups[key]["accuracy"] for key in groups], color=ORANGE, marker="o")
    a.set(xlabel="decoders that agree", ylabel="%", ylim=(0, 102))
    return figure


def usage(coded: dict, schedule) -> Figure:
    codes = [stage.code for stage in schedule.stages if stage.code]
    at = np.cumsum([stage.blocks for stage in schedule.stages if stage.code]) - 1
    figure, axes = panels(2 * len(codes), 3.6)
    for i, (code, block) in enumerate(zip(codes, at)):
        for a, matrix, title in (
            (axes[2 * i], codewords(code).numpy(), "code"),
            (axes[2 * i + 1], np.array(coded["usage"][block]), "measured"),
        ):
            heat(a, matrix, f"{title}, {code[0].count('1')} of {len(code[0])}", 0, 1, xlabel="branch")
            a.set_yticks(np.arange(10) + 1, CLASSES, fontsize=7)
    return figure

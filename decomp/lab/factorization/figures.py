"""The figures of `experiment.py`."""

import numpy as np
import torch
from matplotlib.figure import Figure

from ..plots import heat, panels
from . import sprites

COLOURS = {"kf": "#c75000", "kd": "#2a6f97", "teacher": "#8a8a8a", "kf-beta-0": "#6a994e"}


def figures(numbers: dict) -> dict[str, tuple[str, Figure]]:
    """Caption and figure of each name, from the first seed."""
    on_sprites = {name: runs[0] for name, runs in numbers["sprites"].items()}
    drawn = {
        "sprites": ("Pictures as the networks see them.", pictures()),
        "scores": ("Four measures of disentanglement; task accuracy beside them.", scores(on_sprites)),
        "leakage": (
            "Accuracy of a linear probe for each factor on the features of each task network, above chance.",
            leakage(on_sprites),
        ),
    }
    if "cifar" in numbers:
        on_cifar = {name: runs[0] for name, runs in numbers["cifar"].items()}
        drawn["fgsm"] = ("Accuracy on CIFAR-10 after FGSM.", fgsm(on_cifar))
    return drawn


def pictures() -> Figure:
    figure = Figure(figsize=(8, 2), layout="constrained")
    for a, picture in zip(figure.subplots(2, 8).flat, sprites.render(sprites.sample(16, seed=0))):
        a.imshow(picture[0].numpy(), cmap="gray", vmin=0, vmax=1)
        a.set(xticks=[], yticks=[])
    return figure


def scores(runs: dict) -> Figure:
    figure, (a,) = panels(1, 9)
    metrics = [*next(iter(runs.values()))["scores"], "accuracy"]
    for i, (name, run) in enumerate(runs.items()):
        values = [*run["scores"].values(), np.mean(run["accuracy"])]
        a.bar(np.arange(len(metrics)) + 0.8 * i / len(runs), values, 0.8 / len(runs), label=name)
    a.set_xticks(np.arange(len(metrics)) + 0.4, metrics)
    a.legend(fontsize=7)
    return figure


def leakage(runs: dict) -> Figure:
    shown = {name: np.array(run["leakage"]) for name, run in runs.items() if "leakage" in run}
    chance = 1 / torch.tensor(sprites.COUNTS).numpy()
    figure, axes = panels(len(shown), 3.2, 3.0)
    for a, (name, accuracy) in zip(axes, shown.items()):
        heat(a, np.clip((accuracy - chance) / (1 - chance), 0, 1), name, 0, 1)
        a.set_xticks(np.arange(len(chance)) + 1, sprites.FACTORS, fontsize=7, rotation=30)
        a.set_yticks(np.arange(len(chance)) + 1, [f"t of {factor}" for factor in sprites.FACTORS], fontsize=7)
    return figure


def fgsm(runs: dict) -> Figure:
    figure, (a,) = panels(1, 5)
    for name in ("teacher", "kd", "kf"):
        curve = runs[name]["fgsm"]
        a.plot(
            range(len(curve)), [100 * value for value in curve.values()], marker="o", color=COLOURS[name], label=name
        )
    a.set_xticks(range(len(curve)), list(curve))
    a.set(xlabel="size of the attack, of [0, 1]", ylabel="accuracy, %", ylim=(0, None))
    a.legend(fontsize=7)
    return figure

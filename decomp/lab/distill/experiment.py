"""The experiment of the Distill article: which networks are analysed, and which of its claims hold."""

import pickle
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from scipy import stats

from ..cifar import images as cifar
from ..cifar.classifier import accuracy, outputs
from ..findings import Claim, Findings, write
from . import alexnet
from .method import COLOUR, LEVEL, Layers, figures_of, layers_of

PLAIN_SEEDS = (0, 1)
PRETRAINED = {  # torchvision's name: its first two convolutions
    "alexnet": ("features.0.weight", "features.3.weight"),
    "googlenet": ("conv1.conv.weight", "conv2.conv.weight"),
}


def run(data: Path, out: Path, images: int = 150_000, seeds: int = 5) -> Findings:
    """Train small networks of two branches, one for each seed, and unbranched ones, and test their first two layers.

    Args:
        data: folder with CIFAR-10, see `cifar.load`.
        images: shown to each network in training; 150,000 take about a minute and a half on one core.
    Raises:
        ValueError: no CIFAR-10 there, or `out` holds networks of another length.
    """
    from . import figures as draw  # matplotlib is needed by nothing else here

    train, test = cifar.load(data, True), cifar.load(data, False)
    networks, accuracies, spent = {}, {}, 0.0
    for name, branches, seed in [("branched", 2, s) for s in range(seeds)] + [("plain", 1, s) for s in PLAIN_SEEDS]:
        path = out / f"{name}-{seed}.safetensors"
        network, seconds = alexnet.fit(branches, train, alexnet.Schedule(images=images, seed=seed), path)
        spent += seconds
        networks[path.stem] = layers_of(network.first, network.second)
        accuracies[path.stem] = accuracy(outputs(network, test), test.labels)
    began = time.monotonic()
    measured = {name: figures_of(layers) for name, layers in networks.items()}
    branched = {name: f for name, f in measured.items() if "p_split" in f}
    combined = combine(branched)
    plain = {name: layers for name, layers in networks.items() if layers.branches == 1}
    figures = {
        "filters": (
            "First-layer filters of each network and branch, ordered by colour selectivity, grey on the left.",
            draw.filters(networks),
        ),
        "selectivity": ("Colour selectivity and frequency of each first-layer filter.", draw.selectivity(networks)),
        "chance": (
            "Colour filters in the first branch if they were dealt out at random, and as they are (red).",
            draw.chance(branched),
        ),
        "weights": (
            "|Weights| between the first two layers of unbranched networks, ordered by their first factor.",
            draw.weights(plain),
        ),
    }
    numbers = {
        "images": images,
        "colour_filter_above": COLOUR,
        "accuracy": accuracies,
        "fisher_over_seeds": combined,
        "networks": measured,
    }
    claims = claims_of_split(branched, combined) + [claim_of_frequency(measured)] + claims_of_factors(measured)
    command = f"decomp lab distill --data DATA --images {images} --seeds {seeds}"
    spent += time.monotonic() - began
    return write(out, "Distill's test: two branches of a small AlexNet", command, spent, numbers, claims, figures)


def run_pretrained(name: str, out: Path, weights: Path | None = None) -> Findings:
    """The test on the first two layers of one of torchvision's networks.

    Args:
        name: one of `PRETRAINED`.
        weights: a file with its state dict (.pth, or .safetensors); None lets torchvision download its own.
    Raises:
        ValueError: another name, or a file that is not that network's.
        OSError: the file can't be read, or the download fails.
    """
    from . import figures as draw  # matplotlib is needed by nothing else here

    began = time.monotonic()
    if name not in PRETRAINED:
        raise ValueError(f"{name} is not known; accepted: {', '.join(PRETRAINED)}")
    source = weights.name if weights else "torchvision's own weights"
    networks = {name: pretrained_layers(name, weights)}
    measured = {name: figures_of(networks[name])}
    figures = {
        "filters": ("First-layer filters, ordered by colour selectivity, grey on the left.", draw.filters(networks)),
        "selectivity": ("Colour selectivity and frequency of each first-layer filter.", draw.selectivity(networks)),
        "weights": ("|Weights| between the first two layers, ordered by their first factor.", draw.weights(networks)),
    }
    command = f"decomp lab distill --pretrained {name}" + (f" --weights {weights}" if weights else "")
    numbers = {"weights": source, "networks": measured}
    claims = [claim_of_frequency(measured)] + claims_of_factors(measured)
    return write(out, f"Distill's test: {name}, {source}", command, time.monotonic() - began, numbers, claims, figures)


def pretrained_layers(name: str, weights: Path | None) -> Layers:
    """The two layers from a state dict; no code of the file is executed.

    Raises:
        ValueError: see `run_pretrained`.
        OSError: see `run_pretrained`.
    """
    if weights is None:
        from torchvision.models import get_model_weights

        tensors = get_model_weights(name).DEFAULT.get_state_dict(check_hash=True)
    else:
        try:
            tensors = (
                load_file(weights)
                if weights.suffix == ".safetensors"
                else torch.load(weights, "cpu", weights_only=True)
            )
        except (pickle.UnpicklingError, RuntimeError, EOFError, SafetensorError) as error:
            raise ValueError(
                f"{weights} is no file of weights; accepted: a state dict as .pth or .safetensors"
            ) from error
    missing = [key for key in PRETRAINED[name] if key not in tensors]
    if missing:
        raise ValueError(f"{weights} holds no {missing[0]}, so it is not torchvision's {name}")
    return Layers(*(tensors[key].float() for key in PRETRAINED[name]))


def combine(branched: Mapping[str, dict]) -> dict[str, float]:
    """Fisher's combined probability over networks: of the counts, and of the ranks of colour and of frequency.

    That of the counts is a little too large, as a count takes few values.
    """
    tests = {"p_split": [f["p_split"] for f in branched.values()]}
    tests |= {what: [f["p_ranks"][what] for f in branched.values()] for what in ("colour", "frequency")}
    return {name: float(stats.combine_pvalues(values, "fisher").pvalue) for name, values in tests.items()}


def claims_of_split(branched: Mapping[str, dict], combined: Mapping[str, float]) -> list[Claim]:
    """Do colour filters gather in one of two branches, and each time? `combined` as in `run`."""
    rows = [f"{a}:{b} (p = {f['p_split']:.2g})" for f in branched.values() for a, b in [f["colour_filters"]]]
    measured = (
        f"colour filters in the two branches, of {next(iter(branched.values()))['filters'][0]} each: " + ", ".join(rows)
    )
    return [
        Claim(
            "Colour filters gather in one of two branches, more clearly than chance allows",
            "Distill, figure 1",
            f"{measured}; over all seeds p = {combined['p_split']:.2g} (Fisher), by ranks p = {combined['colour']:.2g}",
            combined["p_split"] < LEVEL,
        ),
        Claim(
            "They do so each time a network is trained",
            "Distill, on retraining AlexNet",
            f"{sum(f['p_split'] < LEVEL for f in branched.values())} of {len(branched)} networks with p < {LEVEL}",
            all(f["p_split"] < LEVEL for f in branched.values()),
        ),
    ]


def claim_of_frequency(measured: Mapping[str, dict]) -> Claim:
    """Are colour filters those of low frequency?"""
    by_network = {name: f["colour_frequency"] for name, f in measured.items()}
    return Claim(
        "Colour filters have low frequency, black-and-white ones high",
        "Distill, figure 1",
        "rank correlation of colour and frequency: "
        + ", ".join(f"{name} {f['rho']:.2f} (p = {f['p']:.2g})" for name, f in by_network.items()),
        # In every network, and not by chance.
        all(f["rho"] < 0 and f["p"] < LEVEL for f in by_network.values()),
    )


def claims_of_factors(measured: Mapping[str, dict]) -> list[Claim]:
    """Without branches: is the largest factor of the absolute weights colour, and the second frequency?"""
    claims = []
    for factor, what, other in (("first", "colour", "frequency"), ("second", "frequency", "colour")):
        by_network = {name: f["factors"][factor] for name, f in measured.items() if "factors" in f}
        described = lambda f, key: f"{key} {f[key]['rho']:+.2f} (p = {f[key]['p']:.2g})"
        claims.append(
            Claim(
                f"Without branches, the {factor} factor of the absolute weights is {what}",
                "Distill, figure 6",
                "rank correlation with "
                + "; ".join(f"{name}: {described(f, what)}, {described(f, other)}" for name, f in by_network.items()),
                # In every network: not by chance, and more than with the other property.
                all(f[what]["p"] < LEVEL and abs(f[what]["rho"]) > abs(f[other]["rho"]) for f in by_network.values()),
            )
        )
    return claims

"""The test of Voss et al., "Branch Specialization" (Distill, 2021, doi 10.23915/distill.00024.008), on two layers.

The article says: with the first two layers split into two branches, black-and-white filters gather in one and
low-frequency colour filters in the other, more clearly than chance allows; without branches the same grouping is in the
weights already, as the largest factor of variation of their absolute values is colour, and the second one frequency.
Both are counted here, for any two convolutions that follow each other.
"""

import pickle
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file
from scipy import stats
from torch import Tensor, nn

from . import alexnet, cifar
from .classifier import accuracy, outputs
from .findings import Claim, Findings, write

COLOUR = 0.5  # a colour filter has more than this share of its energy outside the grey axis
PERMUTATIONS = 10_000
LEVEL = 0.05  # a probability below it is told as clearer than chance
FACTORS = ("strength", "first", "second")  # what singular vectors 1, 2 and 3 tell, see `factors`
PLAIN_SEEDS = (0, 1)
PRETRAINED = {  # torchvision's name: its first two convolutions
    "alexnet": ("features.0.weight", "features.3.weight"),
    "googlenet": ("conv1.conv.weight", "conv2.conv.weight"),
}


class Layers(NamedTuple):
    """Weights of two convolutions that follow each other; the second may be grouped, its groups are the branches."""

    first: Float[Tensor, "filters 3 h w"]
    second: Float[Tensor, "neurons per_group k l"]

    @property
    def branches(self) -> int:
        return len(self.first) // self.second.shape[1]

    @property
    def branch(self) -> Int[Tensor, "filters"]:
        """In which branch each filter of the first layer is, from 0 on."""
        return torch.arange(len(self.first)) // self.second.shape[1]


def layers_of(first: nn.Conv2d, second: nn.Conv2d) -> Layers:
    """The weights of a network's first two convolutions.

    Raises:
        ValueError: the first does not see RGB, or the second does not see the first.
    """
    if first.in_channels != 3 or first.groups != 1 or second.in_channels != first.out_channels:
        raise ValueError(f"{first} and {second} are not the first two layers of a network on RGB images")
    return Layers(first.weight.detach().float(), second.weight.detach().float())


def colour_selectivity(filters: Float[Tensor, "filters 3 h w"]) -> Float[Tensor, "filters"]:
    """Share of a filter's energy outside the grey axis, that is in R - G and R + G - 2 B; noise has 2/3.

    1 - sum_xy ((R + G + B) / sqrt 3)^2 / sum_xy (R^2 + G^2 + B^2)

    Example:
        >>> colour_selectivity(torch.tensor([1.0, -1.0, 0.0]).view(1, 3, 1, 1))
        tensor([1.])
    """
    grey = filters.sum(dim=1).square().sum(dim=(1, 2)) / 3
    return 1 - grey / filters.square().sum(dim=(1, 2, 3))


def frequency(filters: Float[Tensor, "filters 3 h w"], size: int = 64) -> Float[Tensor, "filters"]:
    """Centroid of the filter's power spectrum in cycles per pixel, colours summed, from 0 to sqrt 0.5.

    sum_uv sqrt(u^2 + v^2) P(u, v) / sum_uv P(u, v), P taken at size x size frequencies (the filter padded by zeros).
    """
    power = torch.fft.fft2(filters, s=(size, size)).abs().square().sum(dim=1)
    u = torch.fft.fftfreq(size)
    radius = (u[:, None] ** 2 + u**2).sqrt()
    return (power * radius).sum(dim=(1, 2)) / power.sum(dim=(1, 2))


def absolute_weights(layers: Layers) -> Float[Tensor, "neurons filters"]:
    """|weights| between the two layers, summed over the kernel's positions; 0 between branches."""
    strengths = layers.second.abs().sum(dim=(2, 3))
    return torch.block_diag(*strengths.chunk(layers.branches))


def factors(
    strengths: Float[Tensor, "neurons filters"],
) -> tuple[Float[Tensor, "neurons 3"], Float[Tensor, "filters 3"]]:
    """Singular vectors 1 to 3 of the strengths, for the neurons and for the filters; their signs are arbitrary.

    The first of a matrix without negative numbers has one sign: it says how strongly a neuron is connected at all, not
    to which others. The next two are the first and the second factor of variation in who is connected to whom.
    """
    u, _, v = torch.linalg.svd(strengths, full_matrices=False)
    return u[:, :3], v[:3].mT


def rank_correlation(a: Float[Tensor, "n"], b: Float[Tensor, "n"], seed: int = 0) -> tuple[float, float]:
    """Spearman's rho, and how likely |rho| is as large if b were shuffled: a share of `PERMUTATIONS`, never 0."""
    ranks = torch.from_numpy(stats.rankdata([a.numpy(), b.numpy()], axis=1)).float()
    ranks = ranks - ranks.mean(dim=1, keepdim=True)
    ranks = ranks / ranks.norm(dim=1, keepdim=True)
    rng = torch.Generator().manual_seed(seed)
    orders = torch.rand(PERMUTATIONS, len(b), generator=rng).argsort(dim=1)
    rho = ranks[0] @ ranks[1]
    extreme = ((ranks[1][orders] @ ranks[0]).abs() >= rho.abs() - 1e-6).sum()
    return float(rho), float((extreme + 1) / (PERMUTATIONS + 1))


def split_probability(colour: Bool[Tensor, "filters"], branch: Int[Tensor, "filters"]) -> float:
    """How likely a split of the colour filters over two branches is at least as uneven as this, by chance alone.

    Which filters are colour filters is taken as given, and their places as drawn without replacement: the count in
    branch 0 is hypergeometric. Two-sided: every count at least as far from its mean as the observed one is as uneven.
    """
    total, marked, places = len(colour), int(colour.sum()), int((branch == 0).sum())
    mean = marked * places / total
    counts = np.arange(total + 1)
    uneven = np.abs(counts - mean) >= abs(int(colour[branch == 0].sum()) - mean) - 1e-9
    return float(min(1.0, stats.hypergeom(total, marked, places).pmf(counts)[uneven].sum()))


def figures_of(layers: Layers) -> dict:
    """Selectivities of the filters; without branches the factors of the weights, with two the test of their split."""
    colour, freq = colour_selectivity(layers.first), frequency(layers.first)
    rounded = lambda values: [round(float(v), 4) for v in values]
    result: dict = {"colour": rounded(colour), "frequency": rounded(freq)}
    result["colour_frequency"] = dict(zip(("rho", "p"), rank_correlation(colour, freq)))
    if layers.branches == 1:
        _, of_filters = factors(absolute_weights(layers))
        result["factors"] = {
            name: {
                what: dict(zip(("rho", "p"), rank_correlation(of_filters[:, i], values)))
                for what, values in (("colour", colour), ("frequency", freq))
            }
            for i, name in enumerate(FACTORS)
        }
    if layers.branches == 2:
        chosen, branch = colour > COLOUR, layers.branch
        result["colour_filters"] = [int(chosen[branch == b].sum()) for b in range(2)]
        result["filters"] = [int((branch == b).sum()) for b in range(2)]
        result["p_split"] = split_probability(chosen, branch)
        result["p_ranks"] = {  # the same without a line between colour and grey: Mann and Whitney's test
            what: float(stats.mannwhitneyu(values[branch == 0], values[branch == 1]).pvalue)
            for what, values in (("colour", colour), ("frequency", freq))
        }
    return result


def run(data: Path, out: Path, images: int = 150_000, seeds: int = 5) -> Findings:
    """Train small networks of two branches, one for each seed, and unbranched ones, and test their first two layers.

    Args:
        data: folder with CIFAR-10, see `cifar.load`.
        images: shown to each network in training; 150,000 take about a minute and a half on one core.
    Raises:
        ValueError: no CIFAR-10 there, or `out` holds networks of another length.
    """
    from . import distill_figures as draw  # matplotlib is needed by nothing else here

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
    from . import distill_figures as draw  # matplotlib is needed by nothing else here

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
    """The two layers out of a state dict; nothing of a file is executed. Raises: as `run_pretrained`."""
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
    found = {name: f["colour_frequency"] for name, f in measured.items()}
    return Claim(
        "Colour filters have low frequency, black-and-white ones high",
        "Distill, figure 1",
        "rank correlation of colour and frequency: "
        + ", ".join(f"{name} {f['rho']:.2f} (p = {f['p']:.2g})" for name, f in found.items()),
        # In every network, and not by chance.
        all(f["rho"] < 0 and f["p"] < LEVEL for f in found.values()),
    )


def claims_of_factors(measured: Mapping[str, dict]) -> list[Claim]:
    """Without branches: is the largest factor of the absolute weights colour, and the second frequency?"""
    claims = []
    for factor, what, other in (("first", "colour", "frequency"), ("second", "frequency", "colour")):
        found = {name: f["factors"][factor] for name, f in measured.items() if "factors" in f}
        told = lambda f, key: f"{key} {f[key]['rho']:+.2f} (p = {f[key]['p']:.2g})"
        claims.append(
            Claim(
                f"Without branches, the {factor} factor of the absolute weights is {what}",
                "Distill, figure 6",
                "rank correlation with "
                + "; ".join(f"{name}: {told(f, what)}, {told(f, other)}" for name, f in found.items()),
                # In every network: not by chance, and more than with the other property.
                all(f[what]["p"] < LEVEL and abs(f[what]["rho"]) > abs(f[other]["rho"]) for f in found.values()),
            )
        )
    return claims

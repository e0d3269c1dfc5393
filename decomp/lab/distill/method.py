"""The test of Voss et al., "Branch Specialization" (Distill, 2021, doi 10.23915/distill.00024.008), on two layers.

The article says: with the first two layers split into two branches, black-and-white filters gather in one and
low-frequency colour filters in the other, more clearly than chance allows; without branches the same grouping is in the
weights already, as the largest factor of variation of their absolute values is colour, and the second one frequency.
Both are counted here, for any two convolutions that follow each other.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy import stats
from torch import Tensor, nn

COLOUR = 0.5  # a colour filter has more than this share of its energy outside the grey axis
PERMUTATIONS = 10_000
LEVEL = 0.05  # a probability below it counts as clearer than chance
FACTORS = ("strength", "first", "second")  # names of singular vectors 1, 2 and 3, see `factors`


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

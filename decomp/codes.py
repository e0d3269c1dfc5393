"""Codewords fix beforehand which branches serve which class: the code, the loss that enforces it, the decoder.

After A. Avranas and M. Kountouris, "Towards Disentangling Information Paths with Coded ResNeXt" (NeurIPS 2022). Class k
has a codeword w_k of N digits, of which `active` are 1; r = active / N. A branch has energy E_n = mean of its squared
output, for each sample. The equations are numbered as in this file:

    e_n  = E_n / ((1/N) sum_i E_i)                        (1)  energies normalised to sum N
    loss = (1/N) sum_n (r e_n - w_kn)^4, k the true class   (2)  coding loss, a mean over the samples
    class = argmin_k |r e - w_k|_2                          (3)  decoder
"""

import itertools

import torch
from jaxtyping import Float, Int
from torch import Tensor

# The 12 lines of the 3 x 3 plane over the integers modulo 3, branch n being the point (n // 3, n % 3): any two share at
# most one point, and every branch lies on 4 lines. The first three are parallel, so that they share nothing.
LINES = (
    "111000000", "000111000", "000000111",
    "100100100", "010010010", "001001001",
    "100010001", "010001100", "001100010",
    "100001010", "010100001", "001010100",
)  # fmt: skip


def codewords(text: tuple[str, ...]) -> Float[Tensor, "classes branches"]:
    """The matrix w of a code written as strings of 0 and 1.

    Raises:
        ValueError: other digits.
        ValueError: words of different lengths or weights (the ratio r would differ between classes).
    """
    if not text or any(set(word) - {"0", "1"} for word in text):
        raise ValueError(f"codewords are {list(text)}; accepted: strings of 0 and 1")
    if len({len(word) for word in text}) > 1 or len({word.count("1") for word in text}) > 1 or "1" not in text[0]:
        raise ValueError(f"codewords are {list(text)}; accepted: equal lengths, and equally many ones, at least one")
    return torch.tensor([[float(digit) for digit in word] for word in text])


def normalised(energies: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
    """e_n, equation 1."""
    return energies / energies.mean(dim=1, keepdim=True).clamp_min(1e-8)


def coding_loss(
    energies: Float[Tensor, "b n"], code: Float[Tensor, "classes n"], labels: Int[Tensor, "b"], exponent: float = 4.0
) -> Float[Tensor, ""]:
    """Equation 2: the branches of the true class are to hold all the energy, in equal parts."""
    ratio = code[0].mean()
    return (ratio * normalised(energies) - code[labels]).abs().pow(exponent).mean()


def decode(energies: Float[Tensor, "b n"], code: Float[Tensor, "classes n"]) -> Int[Tensor, "b"]:
    """Equation 3: the class whose codeword is nearest to the energies."""
    return torch.cdist(code[0].mean() * normalised(energies), code).argmin(dim=1)


def generate(
    classes: int, branches: int, active: int, distance: int, tries: int = 500, seed: int = 0
) -> tuple[str, ...]:
    """A code for any number of classes: equal weights, large distances, every branch serving equally many classes.

    A greedy search: it finds 8 words of 3 ones among 9 that differ in 4 digits, while `LINES` has 12. All words of
    `active` ones are listed in ascending order and kept if they differ from each kept one in at
    least `distance` digits. Of `tries` random greedy choices of `classes` words that balance the column sums, the most
    balanced wins; on a tie the one with fewest pairs at the smallest distance.

    Raises:
        ValueError: fewer than `classes` words are that far apart.
    """
    rng = torch.Generator().manual_seed(seed)
    positions = torch.tensor(list(itertools.combinations(range(branches), active)))
    words = torch.zeros(len(positions), branches).scatter_(1, positions, 1.0)
    kept = _far_apart(words.flip(0), distance)  # combinations come with the largest number first
    if len(kept) < classes:
        raise ValueError(
            f"only {len(kept)} words of {active} ones among {branches} differ in {distance} digits or more; "
            f"{classes} are needed: take a smaller distance or more branches"
        )
    best, best_score = kept[:classes], None
    for _ in range(tries):
        chosen = _balanced(kept, classes, rng)
        sums, apart = chosen.sum(dim=0), _distances(chosen)
        score = (int(sums.max() - sums.min()), int((apart == apart[apart > 0].min()).sum()) if classes > 1 else 0)
        if best_score is None or score < best_score:
            best, best_score = chosen, score
        if best_score == (0, 0):
            break
    return tuple("".join(str(int(digit)) for digit in word) for word in best)


def _distances(words: Float[Tensor, "k n"]) -> Float[Tensor, "k k"]:
    return 2 * (words[0].sum() - words @ words.mT)  # Hamming, of words of equal weight


def _far_apart(words: Float[Tensor, "all n"], distance: int) -> Float[Tensor, "kept n"]:
    """Greedy lexicographic code: the first word, then each next one that is far enough from all kept."""
    shared, kept = words[0].sum() - distance / 2, []  # two words may share so many ones
    while len(words):
        kept.append(words[0])
        words = words[words @ words[0] <= shared]
    return torch.stack(kept)


def _balanced(words: Float[Tensor, "all n"], count: int, rng: torch.Generator) -> Float[Tensor, "count n"]:
    """Greedily, in random order of equals: always a word whose branches have served fewest classes so far."""
    words = words[torch.randperm(len(words), generator=rng)]
    sums, left, chosen = torch.zeros(words.shape[1]), torch.ones(len(words), dtype=torch.bool), []
    for _ in range(count):
        cost = words @ sums + 1e9 * ~left
        index = int(cost.argmin())
        left[index] = False
        chosen.append(index)
        sums = sums + words[index]
    return words[chosen]

"""Four measures of disentanglement for features c (N, D) and discrete factors v (N, K), on scikit-learn.

As in Locatello et al., "Challenging Common Assumptions in the Unsupervised Learning of Disentangled Representations"
(ICML 2019), with forests in place of boosted trees, which are slower. All lie between 0 and 1, larger is better.
"""

from collections.abc import Callable

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import mutual_info_score
from sklearn.svm import LinearSVC

BINS = 20


def mutual_information(c: np.ndarray, v: np.ndarray) -> np.ndarray:
    """I(c_d; v_k) / H(v_k), (D, K); features in `BINS` bins of equal width."""
    binned = np.stack([np.digitize(f, np.histogram_bin_edges(f, BINS)[:-1]) for f in c.T], axis=1)
    own = [mutual_info_score(k, k) for k in v.T]
    return np.array([[mutual_info_score(f, k) / h for k, h in zip(v.T, own)] for f in binned.T])


def mig(c: np.ndarray, v: np.ndarray) -> float:
    """Mutual information gap (Chen et al., 2018): between the best and the second-best feature of a factor."""
    information = np.sort(mutual_information(c, v), axis=0)
    return float((information[-1] - information[-2]).mean())


def dci(c: np.ndarray, v: np.ndarray) -> float:
    """D of DCI (Eastwood and Williams, 2018): is each feature important for one factor only?"""
    # every split may choose among all features: a random few would hide the one that matters
    forests = [RandomForestClassifier(10, max_features=None, min_samples_leaf=5, random_state=0).fit(c, k) for k in v.T]
    importance = np.stack([forest.feature_importances_ for forest in forests], axis=1) + 1e-11  # (D, K)
    shares = importance / importance.sum(axis=1, keepdims=True)
    disentangled = 1 + (shares * np.log(shares)).sum(axis=1) / np.log(v.shape[1])
    return float((disentangled * importance.sum(axis=1)).sum() / importance.sum())


def sap(c: np.ndarray, v: np.ndarray) -> float:
    """Separated attribute predictability (Kumar et al., 2018): the gap of linear classifiers on one feature each."""
    half = len(c) // 2
    scores = np.array([
        [LinearSVC(C=0.01, random_state=0).fit(f[:half, None], k[:half]).score(f[half:, None], k[half:]) for k in v.T]
        for f in ((c - c.mean(axis=0)) / (c.std(axis=0) + 1e-8)).T
    ])  # fmt: skip
    scores.sort(axis=0)
    return float((scores[-1] - scores[-2]).mean())


def factor_vae(
    features_of: Callable[[np.ndarray], np.ndarray],
    counts: tuple[int, ...],
    votes: int = 800,
    batch: int = 64,
    seed: int = 0,
) -> float:
    """FactorVAE's score (Kim and Mnih, 2018): does the feature of least variance show which factor was fixed?

    Args:
        features_of: features (N, D) of pictures rendered with factors (N, K).
        counts: values of each factor.
        votes: half to learn the majority vote from, half to score it.
    """
    rng = np.random.default_rng(seed)
    draw = lambda n: np.stack([rng.integers(count, size=n) for count in counts], axis=1)
    scale = features_of(draw(2000)).std(axis=0)
    held = rng.integers(len(counts), size=votes)
    factors = draw(votes * batch).reshape(votes, batch, -1)
    for one, k in zip(factors, held):
        one[:, k] = one[0, k]
    features = features_of(factors.reshape(votes * batch, -1)).reshape(votes, batch, -1) / np.maximum(scale, 1e-8)
    spread = features.var(axis=1)
    spread[:, scale < 1e-3 * scale.max()] = np.inf  # a constant feature
    least, half = spread.argmin(axis=1), votes // 2
    table = np.zeros((features.shape[2], len(counts)))
    np.add.at(table, (least[:half], held[:half]), 1)
    return float((table.argmax(axis=1)[least[half:]] == held[half:]).mean())

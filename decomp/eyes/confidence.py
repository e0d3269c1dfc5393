"""How far an answer is to be trusted: a logistic regression turns logits into confidence.

It is fitted on photos that the answering networks were not trained on.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from ..decomposer import cached
from . import finder
from .marked import RIGHT, WRONG, Marked, errors, half_of
from .parts import EyeParts

MOST_WRONG = 0.015  # share of all cat photos that may be answered wrongly
LOST = 0.015  # share of right answers that may be refused, so that fewer eyes are reported where there is no cat
PROVISIONAL = 2.5, 1.5  # certainty with which photos are searched while it is measured; about what comes out


def answer(name: str, parts: EyeParts, item: tuple[int, Marked | Path]) -> tuple[float, float]:
    """Logit, and error of the worse eye, for a photo that the answering networks did not train on; inf: no cat."""
    number, photo = item
    cat = isinstance(photo, Marked)
    raw = replace(parts, certainty=PROVISIONAL, least=0.0)
    own = raw.half(half_of(number, photo))
    pair = finder.find_pairs(cached(name, rough=True), photo.path if cat else photo, 1, own, certainty=0.0)[0]
    p = np.clip(pair.confidence if pair.found else 0.0, 1e-5, 1 - 1e-5)
    error = errors(pair.centres, photo.eyes).max() if cat and pair.found else np.inf
    a, b = PROVISIONAL
    return float((np.log(p / (1 - p)) - b) / a), float(error)


def fit(told: dict[str, np.ndarray]) -> tuple[tuple[float, float], float]:
    """a, b of P(right) = 1 / (1 + exp(-(a logit + b))) on photos of cats, and the least confidence that is reported."""
    from sklearn.linear_model import LogisticRegression

    cat, right = told["cat"], told["error"] < RIGHT
    if right[cat].all() or not right[cat].any():
        a, b = 1.0, 0.0
    else:
        line = LogisticRegression().fit(told["logit"][cat, None], right[cat])
        a, b = float(line.coef_[0, 0]), float(line.intercept_[0])
    confidence = 1 / (1 + np.exp(-(a * told["logit"] + b)))
    return (a, b), least(confidence[cat], told["error"][cat])


def least(confidence: np.ndarray, error: np.ndarray) -> float:
    """The confidence below which LOST of the right answers lie, or from which on at most MOST_WRONG of all are wrong.

    The higher of both.
    """
    order = np.argsort(-confidence)
    beyond = np.flatnonzero(np.cumsum((error > WRONG)[order]) > MOST_WRONG * len(order))
    of_wrong = float(confidence[order][beyond[0]]) + 1e-4 if len(beyond) else 0.0
    right = np.sort(confidence[error < RIGHT])
    of_right = float(right[int(LOST * len(right))]) - 1e-4 if len(right) else 0.0
    return float(np.clip(max(of_wrong, of_right), 0, 1))


def figures(told: dict[str, np.ndarray], parts: EyeParts) -> dict:
    """Shares of photos with and without a cat that are reported, right and wrong, at the least confidence."""
    reported = np.array([parts.confidence(logit) >= parts.least for logit in told["logit"]])
    cat, error = told["cat"], told["error"]
    median = np.median(error[cat & reported]) if (cat & reported).any() else np.nan
    return {
        "photos of cats": int(cat.sum()),
        "right": float((reported & (error < RIGHT))[cat].mean()),
        "wrong": float((reported & (error > WRONG))[cat].mean()),
        "refused": float((~reported)[cat].mean()),
        "right if never refused": float((error < RIGHT)[cat].mean()),
        "median error of the worse eye": float(median),
        "photos without a cat": int((~cat).sum()),
        "eyes reported there": float(reported[~cat].mean()) if (~cat).any() else None,
    }

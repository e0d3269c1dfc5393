"""Which channels play which part in finding a cat's eyes: measured on photos whose eyes are marked, once per weights.

The order of the channels is arbitrary in every training run. Measured are, with nothing but the two eye points of each
photo: how the channels are laid out around a pair of eyes (a linear filter, ridge regression against other places, in
squares around the face and in others), how far beside an eye a place lies (ridge regression), the
weights of the initial surface (linear discriminant), the layers whose V is flat inside the eye and differs from around
it (greedy, signs only), and from photos that the calibration did not see, how far its score can be trusted.
"""

import base64
import functools
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from .. import photos
from ..batch.pool import each
from ..channels import ChannelFacts
from ..decomposer import cached
from ..photos import PhotoError
from . import places
from . import segment as eyes
from .parts import EyeParts
from .places import GRID, IODS, LAYOUT, Pose, pose_of

RIGHT, WRONG = 0.15, 0.3  # IOD: both centres are right within this; an answer is wrong from that on
MOST_WRONG = 0.02  # of all squares, by the layout alone: the least confidence is set for this
RIDGE = 1.0  # in units of the maps, whose energy is about 1
LAMBDA = 0.02
BESIDE, RIDGE_SHIFT = (0.06, 0.06, 0.06, 0.06), 1.0  # how far beside the eyes `fit_shift` learns from; see `beside`
PLACES = 15  # other places of each photo that the layout must tell from the eyes, and again as many hard ones


@dataclass(frozen=True)
class Marked:
    """A photo whose eyes are marked."""

    path: Path
    eyes: np.ndarray  # (2, 2) x and y in pixels, image-left first

    @property
    def stem(self) -> str:
        return self.path.stem


@dataclass(frozen=True)
class Frame:
    """One square of a marked photo, gone through the network."""

    stem: str
    maps: np.ndarray  # (2 M, GRID, GRID) float16
    band: np.ndarray | None  # (M + 1, band H, band W, 3) float16, upright around the true eyes, R first; if framed
    pose: Pose  # of the true eyes, in pixels of the grid; perhaps outside of it

    @property
    def framed(self) -> bool:
        """Whether the square was cut around the eyes; the others were cut anywhere."""
        return self.band is not None


def marked(data: Path, kind: str) -> list[Marked]:
    """The photos that `data/<kind>.json` lists: [{"file": ..., "eyes": [[x, y], [x, y]]}, ...].

    Raises:
        PhotoError: the list is missing or is none.
    """
    path = data / f"{kind}.json"
    try:
        rows = json.loads(path.read_text())
        found = [Marked(data / row["file"], np.array(row["eyes"], float).reshape(2, 2)) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        wanted = 'a list of {"file": name, "eyes": [[x, y], [x, y]]}'
        raise PhotoError(f"{path}: no list of photos with marked eyes; accepted: {wanted}") from error
    if not found:
        raise PhotoError(f"{path}: lists no photos")
    return found


def framing(m: Marked, width: int, height: int, rng: np.random.Generator) -> tuple[int, int, int]:
    """A square around the eyes of random size and place, so that nothing is learnt from how the photos were cut."""
    pose = pose_of(m.eyes)
    side = int(np.clip(pose.iod / rng.uniform(0.24, 0.46), 32, min(width, height)))
    x = pose.x - side * rng.uniform(0.38, 0.62)
    y = pose.y + 0.1 * side - side * rng.uniform(0.4, 0.65)
    return int(np.clip(x, 0, width - side)), int(np.clip(y, 0, height - side)), side


def elsewhere(m: Marked, width: int, height: int, rng: np.random.Generator) -> list[tuple[int, int, int]]:
    """Two squares that are not framed on the eyes: a small one near the nose, and one of any size anywhere."""
    pose, short = pose_of(m.eyes), min(width, height)
    nose = pose.at(rng.normal(0, 0.5), rng.normal(0.5, 0.5))
    anywhere = rng.uniform(0, width), rng.uniform(0, height)
    squares = []
    for (x, y), side in ((nose, rng.uniform(0.7, 1.6) * pose.iod), (anywhere, rng.uniform(0.2, 0.8) * short)):
        side = int(np.clip(side, 24, short))
        left, top = np.clip(x - side / 2, 0, width - side), np.clip(y - side / 2, 0, height - side)
        squares.append((int(left), int(top), side))
    return squares


def frames(name: str, listed: list[Marked], processes: int = 1) -> Iterator[Frame]:
    """Squares of each photo through the network of a model, in several processes."""
    numbered = list(enumerate(listed))
    for of_photo in tqdm(each(functools.partial(_frames, name), numbered, processes), "channels", len(listed)):
        yield from of_photo


def _frames(name: str, numbered: tuple[int, Marked]) -> list[Frame]:
    number, m = numbered
    photo = photos.load(m.path)
    height, width = photo.pixels.shape[:2]
    rng = np.random.default_rng(number)
    made = []
    for box in (framing(m, width, height, rng), *elsewhere(m, width, height, rng)):
        d = cached(name).decompose(photo, "cat", box=box)
        made.append(frame(m.stem, d, (m.eyes - box[:2]) / box[2], framed=not made))
    return made


def frame(stem: str, d, points: np.ndarray, framed: bool = True) -> Frame:
    """A decomposition with its eyes, in units of the square's side."""
    band = None
    if framed:
        layers = np.concatenate([d.residual[None], d.channels])
        band = eyes.upright(layers, pose_of(points * len(d.picture))).astype(np.float16)
    return Frame(stem, places.search_maps(d.channels).astype(np.float16), band, pose_of(points * GRID))


def distance(found: np.ndarray, true: np.ndarray) -> float:
    """Error of the worse eye, (2, 2) against (2, 2), in IOD."""
    return float(np.hypot(*(found - true).T).max() / np.hypot(*(true[1] - true[0])))


# ------------------------------------------------------------------------------------------------------------- layout


def folded(m: np.ndarray, pose: Pose) -> np.ndarray:
    """The maps around a pose, added to their mirror image: what a symmetric layout sees. (F * LAYOUT * LAYOUT / 2)"""
    a = places.layout_at(m, pose)
    return (a + a[:, :, ::-1])[:, :, : LAYOUT // 2].ravel()


def ridge(eye: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights and bias that send eyes to 1 and other places to -1, both kinds counting the same."""
    x = np.concatenate([eye, other]).astype(np.float32)
    w = np.concatenate([np.full(len(eye), 0.5 / len(eye)), np.full(len(other), 0.5 / len(other))]).astype(np.float32)
    y = np.concatenate([np.ones(len(eye)), -np.ones(len(other))]).astype(np.float32)
    mean, level = w @ x, float(w @ y)
    root = np.sqrt(w)[:, None]
    x, y = (x - mean) * root, (y - level) * root[:, 0]
    gram = x.T @ x
    gram[np.diag_indices_from(gram)] += RIDGE * 2  # a folded map is the sum of two
    weights = np.linalg.solve(gram, x.T @ y)
    return weights, level - float(weights @ mean)


def fit_layout(train: list[Frame], seed: int = 0) -> tuple[np.ndarray, float]:
    """Half layout (F, LAYOUT, LAYOUT / 2) and bias: eyes against random places, then against its own mistakes."""
    rng = np.random.default_rng(seed)
    eye, other = [], []
    wrong = lambda f, pose: distance(pose.points(), f.pose.points()) > WRONG
    for f in train:
        m = f.maps.astype(np.float32)
        if f.framed:
            eye += [folded(m, pose) for pose in beside(f.pose, 4, (0.03, 0.03, 0.06, 0.08), rng)]
        for _ in range(PLACES):
            x, y = rng.uniform(0.2 * GRID, 0.8 * GRID, 2)
            pose = Pose(x, y, rng.choice(IODS) * GRID, rng.choice(places.TILTS))
            if wrong(f, pose):
                other.append(folded(m, pose))
    half = None
    for _ in range(3):
        if half is not None:
            spectra = places.kernels(np.concatenate([half, half[:, :, ::-1]], axis=2))
            for f in train:
                m = f.maps.astype(np.float32)
                other += [folded(m, pose) for pose in places.candidates(m, spectra, PLACES // 2) if wrong(f, pose)]
        weights, bias = ridge(np.array(eye), np.array(other))
        half = weights.reshape(-1, LAYOUT, LAYOUT // 2)
    return half, bias


def beside(pose: Pose, count: int, spread: tuple, rng: np.random.Generator) -> list[Pose]:
    """Poses near one; `spread`: standard deviation across and down in IOD, of the distance's logarithm, of the tilt."""
    return [
        Pose(pose.x + dx * pose.iod, pose.y + dy * pose.iod, pose.iod * np.exp(grow), pose.tilt + turn)
        for dx, dy, grow, turn in rng.normal(0, spread, (count, 4))
    ]


def fit_shift(train: list[Frame], seed: int = 0) -> np.ndarray:
    """How far beside a place its eye lies, from the maps around the place, (2, F * SHIFT * SHIFT): ridge regression."""
    rng = np.random.default_rng(seed)
    around, shift = [], []
    for f in train:
        m = f.maps.astype(np.float32)
        for pose in beside(f.pose, 6, BESIDE, rng) if f.framed else ():
            around.append(places.surroundings(m, pose))
            c, s = np.cos(pose.tilt), np.sin(pose.tilt)
            left, right = (f.pose.points() - pose.points()) @ np.array([[c, -s], [s, c]]) / pose.iod
            shift.append([left, right * [-1, 1]])
    x, y = np.concatenate(around).astype(np.float32), np.concatenate(shift).astype(np.float32)
    gram = x.T @ x / len(x)
    gram[np.diag_indices_from(gram)] += RIDGE_SHIFT
    return np.linalg.solve(gram, x.T @ y / len(x)).T


# --------------------------------------------------------------------------------------------------- surface and image

EYE, AROUND = eyes.NEAREST < 0.10, (eyes.NEAREST > 0.22) & (eyes.NEAREST < 0.45)


def framed(train: list[Frame]) -> list[Frame]:
    return [f for f in train if f.framed]


def fit_surface(train: list[Frame]) -> np.ndarray:
    """Weights of the maps (2 M) by a linear discriminant between the middle of the eyes and the rest of the band."""
    inside, outside = [], []
    for f in framed(train):
        m = eyes.surface_maps(f.band[1:].astype(np.float32))
        inside.append(m[:, EYE].T[::3])
        outside.append(m[:, eyes.NEAREST > 0.22].T[::21])
    inside, outside = np.concatenate(inside), np.concatenate(outside)
    spread = (np.cov(inside.T) + np.cov(outside.T)) / 2
    spread[np.diag_indices_from(spread)] += LAMBDA
    return np.linalg.solve(spread, inside.mean(axis=0) - outside.mean(axis=0))


def flatness(v: np.ndarray) -> float:
    """Difference between an eye's inside and its surroundings over the spread within both, mean of the two eyes."""
    shares = []
    for d in eyes.TO_EYE:
        a, b = v[d < 0.11], v[(d > 0.22) & (d < 0.40)]
        shares.append(abs(a.mean() - b.mean()) / np.sqrt((a.var() + b.var()) / 2 + 1e-6))
    return float(np.mean(shares))


def fit_flat(train: list[Frame], first: int = 0) -> tuple[np.ndarray, float]:
    """Signs (-1, 0, 1) of R, v_1 .. v_M, and the flatness: each layer is taken in while the median rises by 1 %.

    Args:
        first: layers before this one are left out; 1 leaves out R.
    """
    train = framed(train)
    layers = np.stack([f.band for f in train[:: max(1, len(train) // 120)]]).astype(np.float32)
    layers /= np.sqrt(np.square(layers).mean(axis=(2, 3, 4), keepdims=True)) + 1e-6
    signs, best, total = np.zeros(layers.shape[1]), 0.0, np.zeros_like(layers[:, 0])
    while True:
        tried = [
            (float(np.median([flatness(v) for v in eyes.value(total + sign * layers[:, k])])), k, sign)
            for k in np.flatnonzero(signs == 0)
            if k >= first
            for sign in (1, -1)
        ]
        if not tried or max(tried)[0] < 1.01 * best:
            return signs, best
        best, k, sign = max(tried)
        signs[k] = sign
        total += sign * layers[:, k]


# -------------------------------------------------------------------------------------------------------- how certain


def logistic(score: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """a, b of P(right) = 1 / (1 + exp(-(a score + b))), by Newton's method; slightly damped, as it may separate."""
    x = np.stack([score, np.ones_like(score)], axis=1)
    w = np.zeros(2)
    for _ in range(50):
        p = 1 / (1 + np.exp(-x @ w))
        hessian = (x * (p * (1 - p))[:, None]).T @ x + 0.1 * np.eye(2)
        w -= np.linalg.solve(hessian, x.T @ (p - right) + 0.1 * w)
    return float(w[0]), float(w[1])


def least_confidence(confidence: np.ndarray, error: np.ndarray) -> float:
    """The lowest confidence from which on no more than MOST_WRONG of all photos are reported wrong."""
    order = np.argsort(-confidence)
    wrong = np.cumsum(error[order] > WRONG) / len(order)
    enough = np.flatnonzero(wrong <= MOST_WRONG)
    return float(confidence[order][enough[-1]]) if len(enough) else 1.0


def folds(stems: list[str], count: int) -> list[set[str]]:
    """Blocks of neighbouring names, as neighbours may show the same cat."""
    return [set(block.tolist()) for block in np.array_split(sorted(set(stems)), count)]


def calibrate(train: list[Frame], count: int = 4) -> tuple[EyeParts, dict]:
    """All parts from `train`; what a score is worth comes from `count` blocks that were left out in turn.

    Returns:
        the parts, and what the layout alone reached on the blocks that were left out.
    """
    score, error, own = [], [], []
    for block in folds([f.stem for f in train], count):
        half, bias = fit_layout([f for f in train if f.stem not in block])
        template = np.concatenate([half, half[:, :, ::-1]], axis=2)
        spectra = places.kernels(template)
        for f in (f for f in train if f.stem in block):
            s, pose = places.best_place(f.maps.astype(np.float32), template, spectra)
            score.append(s + bias)
            error.append(distance(pose.points(), f.pose.points()))
            own.append(f.framed)
    score, error, own = np.array(score), np.array(error), np.array(own)
    a, b = logistic(score, error < RIGHT)
    confidence = 1 / (1 + np.exp(-(a * score + b)))
    least = least_confidence(confidence, error)
    reported = confidence >= least
    left_out = {
        "squares around the eyes": int(own.sum()),
        "right": float((reported & (error < RIGHT))[own].mean()),
        "wrong": float((reported & (error > WRONG))[own].mean()),
        "refused": float((~reported)[own].mean()),
        "right_if_never_refused": float((error < RIGHT)[own].mean()),
        "median_error_of_the_worse_eye": float(np.median(error[reported & own])),
        "other squares": int((~own).sum()),
        "wrong there": float((reported & (error > WRONG))[~own].sum() / max(1, (~own).sum())),
    }
    flat, flatness_of_it = fit_flat(train)
    without, flatness_without = fit_flat(train, first=1)
    left_out |= {"flatness of the image": flatness_of_it, "flatness without R": flatness_without}
    left_out |= {"image without R": without.tolist()}
    half, bias = fit_layout(train)
    layout, step = packed(half)
    shift, shift_step = packed(fit_shift(train))
    parts = EyeParts(
        layout=layout,
        step=step,
        shift=shift,
        shift_step=shift_step,
        bias=bias,
        surface=tuple(round(float(w), 4) for w in fit_surface(train)),
        flat=tuple(flat.tolist()),
        certainty=(a, b),
        least=least,
    )
    return parts, left_out


def packed(weights: np.ndarray) -> tuple[str, float]:
    """Base64 of int8, and what 1 stands for."""
    step = float(np.abs(weights).max() / 127)
    return base64.b64encode(np.rint(weights / step).astype(np.int8).tobytes()).decode(), step


def write(folder: Path, parts: EyeParts) -> None:
    """Put the parts into `folder/channels.json`, whole or not at all."""
    replace(ChannelFacts.read(folder), eyes=asdict(parts)).write(folder)

"""Training views for the networks of the eyes: photos turned, resized, mirrored, darkened and blurred at random.

A view is a canvas of CANVAS x CANVAS pixels, about what the network sees at once, in [-1, 1]. It knows where the eyes
lie in it, if any do.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from .. import photos
from .marked import Marked, half_of
from .places import Pose, pose_of

CANVAS = 128  # pixels
OF_PHOTO, OF_CROP, ELSEWHERE, OF_LIDS = 6, 3, 1, 4  # views of a marked photo; of one that is all face; of other parts
OF_SCENE = 4  # views of a picture without animals
FRAMED = (32, 54)  # pixels between the eyes in the square of the second look ...
SHARE_FRAMED = 0.45  # ... which this share of the views is like; the others are like the first look:
SMALLEST_IOD, LARGEST_IOD = 8, 56  # pixels


@dataclass(frozen=True)
class View:
    """One canvas."""

    picture: np.ndarray  # (CANVAS, CANVAS, 3) uint8
    eyes: np.ndarray | None  # (2, 2) pixels of the canvas, perhaps outside; None: no cat
    half: int  # which of the two calibrations learns from it
    lids: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def pose(self) -> Pose | None:
        return None if self.eyes is None else pose_of(self.eyes)


def views(item: Marked | Path, number: int, behind: list[np.ndarray], seed: int = 0) -> Iterator[View]:
    """The views of one photo; a path: of a photo without a cat's eyes.

    Args:
        number: of the photo, from which all that is random follows.
        behind: pictures that a face may be laid on.
    """
    cat = isinstance(item, Marked)
    rng = np.random.default_rng((seed, number))
    photo = pixels(item.path if cat else item)
    if not cat:
        for _ in range(1 if min(photo.shape[:2]) < 300 else OF_SCENE):
            to_canvas = anywhere(photo, rng, closest=2)
            yield View(changed(warped(photo, to_canvas, cv2.BORDER_REFLECT), rng), None, half_of(number, item))
        return
    cropped = item.cropped
    for _ in range(OF_LIDS if item.lids else OF_CROP if cropped else OF_PHOTO):
        yield around(item, photo, behind if cropped and not item.lids else [], rng)
    for _ in range(0 if cropped or item.lids else ELSEWHERE):
        to_canvas = anywhere(photo, rng, closest=5)
        picture = changed(warped(photo, to_canvas, cv2.BORDER_REPLICATE), rng)
        yield View(picture, ordered(item.eyes @ to_canvas[:, :2].T + to_canvas[:, 2]), item.half)


@functools.lru_cache(maxsize=1)
def backgrounds(others: tuple[Path, ...]) -> list[np.ndarray]:
    """Some sixty pictures without a cat's eyes."""
    return [pixels(path) for path in others[:: max(1, len(others) // 60)]]


def pixels(path: Path) -> np.ndarray:
    """(h, w, 3) uint8."""
    return photos.load(path).eight_bits[..., :3]


def around(m: Marked, photo: np.ndarray, backgrounds: list[np.ndarray], rng: np.random.Generator) -> View:
    """A view that holds the eyes; a photo that is all face may lie small on a background."""
    natural = pose_of(m.eyes)
    pasted = bool(backgrounds) and rng.random() < 0.5
    framed = bool(m.lids) or rng.random() < SHARE_FRAMED
    least = 30 if backgrounds and not pasted else SMALLEST_IOD
    distance = rng.uniform(*FRAMED) if framed else np.exp(rng.uniform(np.log(least), np.log(LARGEST_IOD)))
    distance = min(distance, 1.5 * natural.iod)
    turn = rng.uniform(-1.1, 1.1) if rng.random() < 0.25 else rng.normal(0, 0.25) if rng.random() < 0.7 else 0.0
    margin = min(distance / 2 + 4, CANVAS / 2)
    near_middle = np.array([0.5, 0.45]) * CANVAS + rng.normal(0, 6, 2)
    where = near_middle if framed else rng.uniform(margin, CANVAS - margin, 2)
    to_canvas = similarity((natural.x, natural.y), where, distance / natural.iod, turn, rng.random() < 0.5)
    border = cv2.BORDER_REPLICATE if rng.random() < 0.5 else cv2.BORDER_CONSTANT
    picture = warped(photo, to_canvas, border)
    if pasted:
        behind = backgrounds[rng.integers(len(backgrounds))]
        behind = warped(behind, anywhere(behind, rng, closest=2), cv2.BORDER_REFLECT)
        rim = np.zeros(photo.shape[:2], np.float32)
        soft = max(2, min(rim.shape) // 16)
        rim[soft:-soft, soft:-soft] = 1
        weight = warped(cv2.GaussianBlur(rim, (0, 0), soft / 2), to_canvas, cv2.BORDER_CONSTANT)[..., None]
        picture = (picture * weight + behind * (1 - weight)).astype(np.uint8)
    moved = lambda points: points @ to_canvas[:, :2].T + to_canvas[:, 2]
    eyes = moved(m.eyes)
    lids = m.lids and tuple(moved(lid) for lid in m.lids)
    if eyes[0, 0] > eyes[1, 0]:
        eyes, lids = eyes[::-1], lids and lids[::-1]
    return View(changed(picture, rng), eyes, m.half, lids)


def ordered(eyes: np.ndarray) -> np.ndarray:
    """Image-left first."""
    return eyes if eyes[0, 0] <= eyes[1, 0] else eyes[::-1]


def similarity(start, end, scale: float, turn: float, mirrored: bool) -> np.ndarray:
    """(2, 3): the map that sends the point `start` to `end`."""
    c, s = scale * np.cos(turn), scale * np.sin(turn)
    linear = np.array([[c, -s], [s, c]]) @ np.diag([-1 if mirrored else 1, 1])
    return np.column_stack([linear, np.asarray(end) - linear @ np.asarray(start)])


def anywhere(photo: np.ndarray, rng: np.random.Generator, closest: float) -> np.ndarray:
    """A map that fills the canvas with a part of a photo, at up to `closest` times the scale that shows all of it."""
    height, width = photo.shape[:2]
    least = CANVAS / min(height, width)
    scale = min(np.exp(rng.uniform(np.log(0.9 * least), np.log(closest * least))), max(2.0, least))
    size, half = np.array([width, height]), CANVAS / 2 / scale
    middle = np.clip(rng.uniform(0, 1, 2) * size, np.minimum(half, size / 2), np.maximum(size - half, size / 2))
    turn = rng.normal(0, 0.2) if rng.random() < 0.5 else 0.0
    return similarity(middle, (CANVAS / 2, CANVAS / 2), scale, turn, rng.random() < 0.5)


def warped(photo: np.ndarray, to_canvas: np.ndarray, border: int) -> np.ndarray:
    """A photo on the canvas, antialiased."""
    scale = np.sqrt(abs(np.linalg.det(to_canvas[:, :2])))
    if scale < 0.7:
        height, width = photo.shape[:2]
        size = max(1, round(1.2 * scale * width)), max(1, round(1.2 * scale * height))
        photo = cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
        to_canvas = to_canvas @ np.diag([width / size[0], height / size[1], 1])
    centred = to_canvas.copy()
    centred[:, 2] += to_canvas[:, :2] @ [0.5, 0.5] - 0.5  # pixel j covers [j, j + 1)
    return cv2.warpAffine(photo, centred, (CANVAS, CANVAS), flags=cv2.INTER_LINEAR, borderMode=border)


def changed(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Darker or brighter, tinted, blurred, noisy or grey, each now and then."""
    x = picture.astype(np.float32) / 255
    if rng.random() < 0.6:
        x = x ** np.exp(rng.normal(0, 0.35)) * (rng.uniform(0.35, 1.1) if rng.random() < 0.5 else 1)
        x = x * (1 + rng.normal(0, 0.06, 3))
    if rng.random() < 0.2:
        x = cv2.GaussianBlur(np.float32(x), (0, 0), rng.uniform(0.5, 1.5))
    if rng.random() < 0.2:
        x = x + rng.normal(0, rng.uniform(0.005, 0.03), x.shape)
    if rng.random() < 0.08:
        x = np.repeat(x.mean(axis=2, keepdims=True), 3, axis=2)
    return np.rint(np.clip(x, 0, 1) * 255).astype(np.uint8)

"""A cat's eyes in a whole photo: detectors only propose where a face may be, the channels decide.

Every proposed square goes through the network, and each names the place that looks most like a pair of eyes. A pair of
nostrils in a small square looks like one too, but only there: a place counts for what all squares together say of it.
The best one is looked at again, in a square framed around it, and its eyes are reported if that look agrees.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from .. import faces, photos
from ..faces import Box
from ..photos import Photo
from .parts import EyeParts, parts_of
from .segment import EyeSegmentation, place, segment_eyes

SMALLEST_SIDE = 32  # pixels of the smallest square that is looked at
MOST = 6  # squares that the detectors may propose
STEPS, STRIDE = (1, 0.6), 0.5  # squares all over the photo: sides in units of its short side; way to the next in sides
SAME = 0.3  # IOD: looks whose eyes lie this close to each other speak of the same place
ENOUGH = 1.5  # sum of confidences of one place from which on no more squares are looked at
AGREE = 0.4  # IOD: the last look, which places them better, must agree on both eyes this closely
DISAGREE = "two looks at the photo do not agree"
FRAME = 0.36  # IOD in units of the side of the square that is cut around a pair; its middle lies at (0.5, 0.45)


class Look(NamedTuple):
    """What one square says."""

    confidence: float
    points: np.ndarray  # (2, 2), pixels of the photo


def find_eyes(model, image, parts: EyeParts | None = None) -> EyeSegmentation:
    """The eyes of a cat, wherever in the photo its face is; or a named reason, never a guess.

    Args:
        model: a calibrated `Decomposer` with the class "cat".
        image: whatever `Decomposer.decompose` accepts.
        parts: which channels play which part; default: what the model was calibrated to.
    Raises:
        PhotoError: not a photo. ValueError: the model is not calibrated, or has no class "cat".
    """
    photo = image if isinstance(image, Photo) else photos.load(image)
    parts = parts or parts_of(model.facts.eyes, model.config.branches)
    if min(photo.pixels.shape[:2]) < SMALLEST_SIDE:
        return nothing(photo, f"the photo is smaller than {SMALLEST_SIDE} pixels")
    return confirmed(model, photo, best_look(model, photo, parts), parts)


def best_look(model, photo: Photo, parts: EyeParts) -> Look:
    """The look whose place has most support; many squares are looked at only where few leave it open."""
    looks = []
    for squares in (proposed, everywhere):
        for box in squares(photo):
            looks.append(look(model, photo, box, parts))
            weight, best = supported(looks)
            if weight >= ENOUGH:
                return best
    return best


def look(model, photo: Photo, box: Box, parts: EyeParts) -> Look:
    """One square through the network."""
    d = model.decompose(photo, "cat", box=box)
    confidence, pose = place(d, parts)
    return Look(confidence, pose.points() * (box.side / len(d.picture)) + [box.left, box.top])


def supported(looks: list[Look]) -> tuple[float, Look]:
    """The place for which the confidences of all looks that see it add up to most: that sum, and its surest look."""
    sums = [sum(b.confidence for b in looks if apart(a.points, b.points) < SAME) for a in looks]
    best = max(range(len(looks)), key=lambda i: (sums[i], looks[i].confidence))
    return sums[best], looks[best]


def apart(points: np.ndarray, others: np.ndarray) -> float:
    """Distance of the eye that differs most, in IOD of `points`."""
    return float(np.hypot(*(points - others).T).max() / np.hypot(*(points[1] - points[0])))


def proposed(photo: Photo) -> Iterator[Box]:
    """What the detectors propose, and the whole photo's middle."""
    found = [box for box in faces.possible_cats(photo) if box.side >= SMALLEST_SIDE]
    return iter([*found[:MOST], faces.find_face(photo, "centre")])


def everywhere(photo: Photo) -> Iterator[Box]:
    """Squares of two sizes that cover the photo, the larger ones first."""
    height, width = photo.pixels.shape[:2]
    for step in STEPS:
        side = max(SMALLEST_SIDE, round(step * min(width, height)))
        starts = lambda room: np.linspace(0, room, 1 + int(np.ceil(room / (STRIDE * side))))
        yield from (
            Box(round(left), round(top), side, "given")
            for top in starts(height - side)
            for left in starts(width - side)
        )


def square_around(points: np.ndarray, width: int, height: int) -> Box:
    """The square that frames a pair of eyes (2, 2), inside the photo."""
    (x, y), iod = points.mean(axis=0), float(np.hypot(*(points[1] - points[0])))
    side = int(min(max(iod / FRAME, SMALLEST_SIDE), width, height))
    left, top = np.clip(x - side / 2, 0, width - side), np.clip(y - 0.45 * side, 0, height - side)
    return Box(int(left), int(top), side, "given")


def confirmed(model, photo: Photo, first: Look, parts: EyeParts) -> EyeSegmentation:
    """The eyes in a square framed around a look's place, if they are where the look saw them."""
    box = square_around(first.points, *photo.pixels.shape[1::-1])
    second = segment_eyes(model.decompose(photo, "cat", box=box), parts)
    moved = apart(first.points, second.photo_points(model.config.size))
    if second.confidence >= parts.least and moved > AGREE:
        return replace(second, left=None, right=None, eyes=(), reason=DISAGREE)
    return second


def nothing(photo: Photo, reason: str) -> EyeSegmentation:
    return EyeSegmentation(None, None, (), 0.0, reason, None, shape=photo.pixels.shape[:2])

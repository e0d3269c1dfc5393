"""Where the face is: find it, cut it out for the network, put the edit back into the full photo."""

import functools
import math
import threading
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from .config import FACES
from .photos import ROWS, Photo

FEATHER = 0.08  # width of the soft edge, as a part of the box's side
SMALLEST = 16  # pixels, the side of the smallest box that may be given


class Framing(NamedTuple):
    """A detector and how its box sits in a training photo."""

    cascade: str
    sizes: tuple[int, ...]  # longest sides that the detector sees, one after the other until there is a face
    scale: float  # between two sizes of the detector's window
    neighbours: int  # detections that must agree
    certainty: float  # a box of less weight is not taken for a face
    side: float  # the box's side, as a part of the photo's side
    x: float  # the box's centre, as a part of the photo's side
    y: float


# Side, x and y are medians over the training photos, detected with these very settings: 222 of 300 AFHQ cats (10th to
# 90th percentile of the side 0.55 to 0.72) and 300 CelebA-HQ faces (0.58 to 0.70).
FRAMINGS = {
    "cat": Framing(
        "haarcascade_frontalcatface_extended.xml", (128, 160, 200), 1.05, 3, 1.0, side=0.63, x=0.494, y=0.574
    ),
    "human": Framing("haarcascade_frontalface_default.xml", (128, 320), 1.1, 3, 3.0, side=0.65, x=0.50, y=0.55),
}
# Small copies are searched first: a search takes time by the area, and most faces are large. On 150 cat photos of 800
# pixels the certain box holds both eyes in 109 and is never false, in 14 ms of one processor where the first copy shows
# the face (83 photos), 31 where the second does (16), 64 at most; one copy of 320 pixels gave 102, 1 false, in 102 ms.
# With 1 neighbour instead of 3 more are found, but mirroring or recompressing a photo then changes what. A missed face
# costs little, as the centre square usually holds it.
# Longest side that `detected` sees if none is given; at 640 it finds fewer cats and takes four times as long.
DETECT = 320
# From this part of the photo's short side on, the photo is taken for a finished crop and the box grows to all of it.
WHOLE = 0.8

_LOCK = threading.Lock()  # a cascade keeps state while it runs


@dataclass(frozen=True)
class Box:
    """A square inside a photo, in its pixels."""

    left: int
    top: int
    side: int
    found: str  # how: by the detector of "cat" or "human", "centre" or "given"


@functools.cache
def _cascade(name: str) -> cv2.CascadeClassifier:
    return cv2.CascadeClassifier(cv2.data.haarcascades + name)  # type: ignore[attr-defined]


def find_face(photo: Photo, kind: str) -> Box:
    """The most certain face, framed like the training photos; the photo's centre square if there is none.

    The square is moved and, if it must, shrunk to lie inside the photo. Alpha is ignored.

    Args:
        photo: any photo.
        kind: "cat", "human", or "centre" to take the centre square. On finished crops the cat detector cuts 19 % of
            wild animals and 6 % of dogs down to the muzzle: take the centre for them.
    Raises:
        ValueError: unknown kind.
    """
    if kind not in FACES:
        raise ValueError(f"kind of face is {kind!r}; accepted: {', '.join(map(repr, FACES))}")
    height, width = photo.pixels.shape[:2]
    short = min(height, width)
    centre = Box((width - short) // 2, (height - short) // 2, short, "centre")
    if kind == "centre":
        return centre
    framing = FRAMINGS[kind]
    for size in framing.sizes:
        boxes, weights = detected(photo, framing.cascade, framing.scale, framing.neighbours, size)
        if len(boxes) and max(weights) >= framing.certainty:
            return _framed(boxes[np.argmax(weights)], kind, width, height)
    return centre


def possible_cats(photo: Photo) -> list[Box]:
    """Candidates for the face of a cat, the most certain first; many of them are wrong.

    Framed as by `find_face`. Both of OpenCV's cat detectors are used, and one detection is enough. They see a copy of
    200 pixels: of 50 cat photos of 500 and 800 pixels, 38 have the face among the best three results, as in a copy of
    320 pixels, which takes three times as long.
    """
    height, width = photo.pixels.shape[:2]
    framing = FRAMINGS["cat"]
    found: list[tuple[float, Box]] = []
    for cascade in (framing.cascade, "haarcascade_frontalcatface.xml"):
        boxes, weights = detected(photo, cascade, framing.scale, 1, framing.sizes[-1])
        found += zip(weights, (_framed(box, "cat", width, height) for box in boxes))
    return [box for _, box in sorted(found, key=lambda weighed: -weighed[0]) if box.side >= SMALLEST]


def detected(
    photo: Photo, cascade: str, scale: float, neighbours: int, longest: int = DETECT
) -> tuple[np.ndarray, np.ndarray]:
    """Left, top, side and side of what a detector finds, in pixels of the photo, (n, 4), and its weights, (n,)."""
    height, width = photo.pixels.shape[:2]
    shrunk = min(1, longest / max(height, width))
    size = max(1, round(width * shrunk)), max(1, round(height * shrunk))
    step = max(
        1, max(height, width) // (4 * longest)
    )  # a mean over four pixels a side will do, however large the photo
    small = cv2.resize(np.ascontiguousarray(photo.pixels[::step, ::step]), size, interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    if grey.dtype == np.uint16:
        grey = (grey // 257).astype(np.uint8)
    with _LOCK:
        boxes, _, weights = _cascade(cascade).detectMultiScale3(grey, scale, neighbours, outputRejectLevels=True)
    return np.reshape(boxes, (-1, 4)) / shrunk, np.ravel(weights)


def _framed(found: np.ndarray, kind: str, width: int, height: int) -> Box:
    """The square around a detector's box, framed like a training photo around its face."""
    framing, short = FRAMINGS[kind], min(width, height)
    x, y, box_side, _ = found
    side = box_side / framing.side
    left = x + box_side / 2 - framing.x * side
    top = y + box_side / 2 - framing.y * side
    if side > WHOLE * short:
        left, top, side = left + (side - short) / 2, top + (side - short) / 2, short
    side = round(side)
    return Box(min(max(round(left), 0), width - side), min(max(round(top), 0), height - side), side, kind)


def given_box(photo: Photo, left: int, top: int, side: int) -> Box:
    """The square that the user marked.

    Raises:
        ValueError: it is not inside the photo.
        ValueError: it is smaller than 16 pixels.
    """
    height, width = photo.pixels.shape[:2]
    if side < SMALLEST or left < 0 or top < 0 or left + side > width or top + side > height:
        raise ValueError(
            f"{photo.name}: box at ({left}, {top}) of {side} pixels; accepted: at least {SMALLEST} pixels, "
            f"inside the photo of {width} x {height}"
        )
    return Box(left, top, side, "given")


def _resize(plane: np.ndarray, size: int, resample: Image.Resampling) -> np.ndarray:
    """(h, w) float32 to (size, size), antialiased when it shrinks; the same values if nothing changes."""
    if plane.shape == (size, size):
        return plane
    return np.asarray(Image.fromarray(np.ascontiguousarray(plane, np.float32)).resize((size, size), resample))


def crop(photo: Photo, box: Box, size: int) -> np.ndarray:
    """(size, size, 3) float32 in [-1, 1], Lanczos; exact if the box has that size. Alpha is ignored."""
    pixels = photo.pixels[box.top : box.top + box.side, box.left : box.left + box.side]
    planes = []
    for c in range(3):  # one at a time and in place: a plane of 40 megapixels is 160 MB
        plane = pixels[..., c].astype(np.float32)
        plane /= np.iinfo(pixels.dtype).max
        plane *= 2
        plane -= 1
        planes.append(_resize(plane, size, Image.Resampling.LANCZOS))
    return np.clip(np.stack(planes, axis=2), -1, 1)


def paste(photo: Photo, box: Box, before: np.ndarray, after: np.ndarray) -> Photo:
    """Put an edit back: the difference `after - before`, enlarged (bicubic) to the box, is added to the photo.

    The photo keeps its own fine detail. The edit fades out by a raised cosine over 8 % of the side and is exactly zero
    on the outermost pixels of the box, except on sides where the box ends with the photo: there it does not fade, else
    the edit of a photo that is all face would lose its rim. Outside the box and wherever the difference is zero no bit
    changes; alpha and metadata are kept.

    Args:
        photo: what the crop was taken from.
        box: where it was taken.
        before: (size, size, 3) in [-1, 1], the crop as fed to the network.
        after: the same crop, edited.
    Raises:
        ValueError: `before` and `after` differ in shape or are not square.
        ValueError: they hold values that are not finite.
    """
    if before.shape != after.shape or before.ndim != 3 or before.shape != (len(before), len(before), 3):
        raise ValueError(f"{photo.name}: crops of shape {before.shape} and {after.shape}; accepted: twice (s, s, 3)")
    difference = np.asarray(after, np.float32) - np.asarray(before, np.float32)
    if not np.isfinite(difference).all():
        raise ValueError(f"{photo.name}: the edit holds values that are not finite; accepted: values in [-1, 1]")
    height, width = photo.pixels.shape[:2]
    rows = fade(box.side, box.top > 0, box.top + box.side < height)
    columns = fade(box.side, box.left > 0, box.left + box.side < width)
    white = np.iinfo(photo.pixels.dtype).max
    pixels = photo.pixels.copy()
    inside = pixels[box.top : box.top + box.side, box.left : box.left + box.side]  # a view
    for c in range(3):
        small = Image.fromarray(np.ascontiguousarray(difference[..., c]))
        for top in range(0, box.side, ROWS):
            strip = slice(top, min(top + ROWS, box.side))
            change = difference[strip, :, c]
            if small.height != box.side:
                part = (0, strip.start * small.height / box.side, small.width, strip.stop * small.height / box.side)
                size = (box.side, strip.stop - strip.start)
                change = np.asarray(small.resize(size, Image.Resampling.BICUBIC, part))
            faded = change * rows[strip, None] * columns
            inside[strip, :, c] = np.clip(np.rint(inside[strip, :, c] + faded * (white / 2)), 0, white)
    return replace(photo, pixels=pixels)


def fade(side: int, start: bool, end: bool) -> np.ndarray:
    """(side,) float32 weights in [0, 1] that rise from 0 at the start and fall to 0 at the end, where asked to."""
    ramp = math.ceil(FEATHER * side)
    distance = np.minimum(np.arange(side) / ramp, 1)
    rise = (0.5 - 0.5 * np.cos(np.pi * distance)).astype(np.float32)
    return (rise if start else 1) * (rise[::-1] if end else 1) * np.ones(side, np.float32)

"""A cat's eyes in a whole photo: places are proposed all over it, then looked at one by one, until one is sure.

What proposes a place only has to be quick: a small network on small copies of the photo itself, at several sizes and
tilts, and OpenCV's cat detectors. The channels decide: each place is looked at in a square around it, which is
decomposed, and its logit there is what the confidence is calibrated on. The best place of a very small copy comes first
and settles most photos.
"""

import functools
import itertools
from collections.abc import Iterator

import numpy as np
import torch

from .. import faces, photos
from ..faces import Box
from ..photos import Photo
from . import places
from .marked import errors
from .parts import EyeParts, parts_of
from .places import IODS, Place, maps_of
from .segment import Eyes, NoEyes, segment_eyes

SMALLEST_SIDE = 32  # pixels of the smallest photo that is searched, and of the smallest square
COPIES = (112, 192, 320)  # pixels of the longer side: for faces that fill the photo, and for ever smaller ones
IODS_OF = dict(zip(COPIES, (IODS, IODS[1:], IODS[:3])))  # that are searched; others are left to another copy
MORE = 1  # places that one source may propose beyond those that are asked for
PROMISING = -1.2  # logit below which a proposed place is only looked at where nothing else is left
KNOWN = 0.15  # IOD: a place this close to one that was looked at is not looked at again
AGREE = 0.5  # IOD: a look into a square must find both eyes this close to where the one before saw them
LOOKS = 2  # into squares, until two agree
DISAGREE = "two looks at the photo do not agree"
FRAME = 0.36  # IOD in units of the side of the square that is cut around a pair; its middle lies at (0.5, 0.45)
SURE = 0.9  # confidence from which on nothing further is proposed
IN_BOX = np.array([[0.353, 0.509], [0.641, 0.509]])  # eyes in a square of `faces.possible_cats`: medians of 222 cats
OVERLAP = 0.7  # IOD: two pairs this close are one


def find_eyes(model, image, parts: EyeParts | None = None, certainty: float | None = None) -> Eyes | NoEyes:
    """The eyes of the cat that is surest, wherever in the photo its face is; never a guess. See `find_pairs`."""
    return find_pairs(model, image, 1, parts, certainty)[0]


def find_pairs(
    model, image, most: int, parts: EyeParts | None = None, certainty: float | None = None
) -> list[Eyes | NoEyes]:
    """The eyes of up to `most` cats, surest first; where there are none, one `NoEyes` with the reason.

    Args:
        model: a calibrated `Decomposer` with the class "cat".
        image: whatever `Decomposer.decompose` accepts.
        parts: default: what the model was calibrated to.
        certainty: report eyes only from this confidence on, 0 to 1; default: what the calibration set.
    Raises:
        PhotoError: not a photo.
        ValueError: the model is not calibrated.
        ValueError: it has no class "cat".
    """
    photo = image if isinstance(image, Photo) else photos.load(image)
    parts = parts or parts_of(model.facts.eyes, model.config.branches)
    model.domain_index("cat")
    height, width = photo.pixels.shape[:2]
    if min(height, width) < SMALLEST_SIDE:
        return [NoEyes(f"the photo is smaller than {SMALLEST_SIDE} pixels")]
    pairs: list[Eyes | NoEyes] = []
    seen: list[np.ndarray] = []
    for points in proposals(photo, most + MORE, parts):
        if not any(errors(points, known).max() < KNOWN for known in seen):
            seen.append(points)
            pairs.append(second_look(model, photo, points, parts, certainty))
            if sum(p.confidence > SURE for p in separate([p for p in pairs if p.found])) >= most:
                break
    found = separate([p for p in pairs if p.found])
    if found:
        return found[:most]
    return [max(pairs, key=lambda p: p.confidence)] if pairs else [NoEyes("the channels show no pair of eyes")]


def proposals(photo: Photo, most: int, parts: EyeParts) -> Iterator[np.ndarray]:
    """Pairs of points (2, 2) where eyes may be, the quickest and likeliest first, at most `most` from each source."""
    nets = parts.proposal_nets()[:1]  # it only proposes
    longer = max(photo.pixels.shape[:2])
    copies = [longest for n, longest in enumerate(COPIES) if n == 0 or longer > COPIES[n - 1]]

    @functools.cache
    def copy(longest: int) -> tuple[torch.Tensor, float]:
        small, scale = small_copy(photo, longest)
        return photo_maps(small), scale

    def seen(longest: int, tilts: tuple[float, ...]) -> list[Place]:
        maps, scale = copy(longest)
        found = places.search(nets, maps, most, tilts, IODS_OF[longest])
        return [p._replace(pose=p.pose.scaled(2 * scale)) for p in found]

    def best(found: list[Place]) -> Iterator[np.ndarray]:
        return (p.pose.points() for p in places.apart(found, most) if p.logit > PROMISING)

    upright = seen(copies[0], places.UPRIGHT)
    yield from itertools.islice(best(upright), 1)
    upright += [p for longest in copies[1:] for p in seen(longest, places.UPRIGHT)]
    yield from best(upright)
    yield from detected(photo, most)
    yield from best([p for longest in copies for p in seen(longest, places.TILTED)])
    yield from (p.pose.points() for p in places.apart(upright, 1))  # where nothing is promising


def detected(photo: Photo, most: int) -> list[np.ndarray]:
    """The usual places of the eyes in the squares that OpenCV's cat detectors propose."""
    boxes = [box for box in faces.possible_cats(photo) if box.side >= SMALLEST_SIDE]
    return [IN_BOX * box.side + [box.left, box.top] for box in boxes[:most]]


def small_copy(photo: Photo, longest: int) -> tuple[np.ndarray, float]:
    """A copy (h, w, 3) in [-1, 1] whose longer side has at most `longest` pixels, and pixels of the photo for one."""
    import cv2

    height, width = photo.pixels.shape[:2]
    scale = max(1.0, max(height, width) / longest)
    size = max(8, round(width / scale)), max(8, round(height / scale))
    white = np.iinfo(photo.pixels.dtype).max
    small = cv2.resize(photo.pixels, size, interpolation=cv2.INTER_AREA)
    return small.astype(np.float32) / white * 2 - 1, scale


def photo_maps(picture: np.ndarray) -> torch.Tensor:
    """Maps of a picture (h, w, 3) alone, without channels, (3, h / 2, w / 2)."""
    return maps_of(torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))[None, None])[0]


def whole_maps(model, picture: np.ndarray) -> torch.Tensor:
    """Maps of what the network makes of a picture (h, w, 3) of any shape, (planes, h / 2, w / 2)."""
    return network_maps(model, torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))[None])[0]


def network_maps(model, x: torch.Tensor) -> torch.Tensor:
    """Maps of pictures (n, 3, h, w), (n, planes, h / 2, w / 2)."""
    output = model.runtime(x, torch.full((len(x), model.config.branches), model.domain_index("cat")))
    layers = torch.cat([output.residual[:, None], output.channels], dim=1)
    return maps_of(layers.float().cpu())


def square_around(points: np.ndarray, width: int, height: int) -> Box:
    """The square that frames a pair of eyes (2, 2), inside the photo."""
    (x, y), iod = points.mean(axis=0), float(np.hypot(*(points[1] - points[0])))
    side = int(min(max(iod / FRAME, SMALLEST_SIDE), width, height))
    left, top = np.clip(x - side / 2, 0, width - side), np.clip(y - 0.45 * side, 0, height - side)
    return Box(int(left), int(top), side, "given")


def second_look(
    model, photo: Photo, points: np.ndarray, parts: EyeParts, certainty: float | None = None, given: bool = False
) -> Eyes | NoEyes:
    """The eyes in a square framed around a place, if two looks agree on them; `given`: a person marked the place."""
    for _ in range(LOOKS):
        box = square_around(points, *photo.pixels.shape[1::-1])
        d = model.decompose(photo, "cat", box=box)
        pair = segment_eyes(d, parts, certainty, **{"points" if given else "near": points})
        if given or not pair.found or errors(pair.points, points).max() < AGREE:
            return pair
        points = pair.points  # perhaps framed badly
    return NoEyes(DISAGREE, pair.confidence, pair.points, box)


def separate(pairs: list[Eyes | NoEyes]) -> list[Eyes | NoEyes]:
    """The pairs that lie apart, surest first; the surest of those that overlap."""
    kept = []
    for pair in sorted((p for p in pairs if p.points is not None), key=lambda p: -p.confidence):
        middle = pair.points.mean(axis=0)
        if all(
            np.hypot(*(middle - k.points.mean(axis=0))) > OVERLAP * np.hypot(*np.diff(k.points, axis=0)[0])
            for k in kept
        ):
            kept.append(pair)
    return kept

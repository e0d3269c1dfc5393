"""Both eyes of a face in a decomposition: places, outlines by Chan-Vese, or the reason why there are none."""

from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import cv2
import numpy as np
import torch

from ..decomposition import Decomposition
from ..faces import Box
from . import outlines as eye_outlines
from . import places
from .marked import filled
from .parts import EyeParts
from .places import Pose, maps_of, pose_of

LARGEST_MAP = 80  # points a side: eyes in a larger map are larger than PairNet looks for
UNSURE = "the channels show no pair of eyes clearly enough"
OUTSIDE = "an eye lies at the rim of the photo"


class Eye(NamedTuple):
    """One eye, in pixels of the picture it was found in."""

    x: float  # its centre
    y: float
    area: float
    axes: tuple[float, float]  # lengths of the major and minor axis of the ellipse with the same moments


@dataclass(frozen=True, eq=False)
class NoEyes:
    """No pair of eyes is reported, and why."""

    reason: str
    confidence: float = 0.0  # estimated probability that both centres of the best place are right
    points: np.ndarray | None = None  # (2, 2) the best place all the same, in pixels of the photo
    box: Box | None = None  # the square that was analysed, if any
    found: ClassVar[bool] = False


@dataclass(frozen=True, eq=False)
class Eyes:
    """A pair of eyes, image-left first; polygons, points and eyes in pixels of the whole photo."""

    polygons: tuple[np.ndarray, np.ndarray]  # outlines, (n, 2) each
    eyes: tuple[Eye, Eye]
    confidence: float  # estimated probability that both centres are right
    points: np.ndarray  # (2, 2): the two places that Chan-Vese started from
    shape: tuple[int, int]  # height and width of the photo
    box: Box  # the square that was analysed, in the photo
    surface: np.ndarray  # (side, side) float32, initial surface of Chan-Vese in the square; NaN away from the eyes
    image: np.ndarray  # likewise: what Chan-Vese segmented
    found: ClassVar[bool] = True

    @property
    def left(self) -> np.ndarray:
        """Mask of the image-left eye in the whole photo, (height, width) bool."""
        return filled(self.polygons[0], *self.shape)

    @property
    def right(self) -> np.ndarray:
        """Mask of the image-right eye in the whole photo, (height, width) bool."""
        return filled(self.polygons[1], *self.shape)

    @property
    def masks(self) -> tuple[np.ndarray, np.ndarray]:
        return self.left, self.right

    @property
    def centres(self) -> np.ndarray:
        """(2, 2)."""
        return np.array([[eye.x, eye.y] for eye in self.eyes])


def layers_of(d: Decomposition) -> torch.Tensor:
    """R and the channels of a decomposition as maps, (3 (M + 1), h, w), at most LARGEST_MAP points a side."""
    layers = np.concatenate([d.residual[None], d.channels])  # (M + 1, side, side, 3)
    maps = maps_of(torch.from_numpy(layers).permute(0, 3, 1, 2)[None])
    if maps.shape[2] > LARGEST_MAP:
        maps = torch.nn.functional.interpolate(maps, size=(LARGEST_MAP, LARGEST_MAP), mode="area")
    return maps[0]


def segment_eyes(
    d: Decomposition,
    parts: EyeParts,
    certainty: float | None = None,
    near: np.ndarray | None = None,
    points: np.ndarray | None = None,
) -> Eyes | NoEyes:
    """Both eyes of the face in a decomposition; never a guess.

    The square should hold the face: eyes about 0.2 to 0.6 of its side apart, tilted by at most about 50 degrees.

    Args:
        d: R (H, W, 3) and channels (M, H, W, 3) of a square.
        parts: what the model was calibrated to.
        certainty: report eyes only from this confidence on, 0 to 1; default: what the calibration set.
        near: (2, 2) pixels of the photo, image-left first: where to look; default: all over the square.
        points: likewise, where a person says the eyes are. Only the outlines are looked for then, and the confidence is
            that of the place near by.
    """
    maps, side = layers_of(d), len(d.picture)
    box = d.box or Box(0, 0, side, "given")
    shape = d.photo.pixels.shape[:2] if d.photo else d.picture.shape[:2]
    scale = box.side / maps.shape[1]  # pixels of the photo for one of the maps
    nets = parts.pair_nets(len(d.channels))
    start = near if points is None else points
    if start is None:
        found = places.search(nets, maps, 1)
        if not found:
            return NoEyes(UNSURE, box=box)
        pose = found[0].pose
    else:
        pose = pose_of((start - [box.left, box.top]) / scale)
    again = places.look_again(nets, maps, pose)
    confidence = parts.confidence(again.logit)
    pose = again.pose if points is None else pose
    here = pose.scaled(scale, box.left, box.top).points()
    if points is None and confidence < (parts.least if certainty is None else certainty):
        return NoEyes(UNSURE, confidence, here, box)
    return outlined(maps, pose, NoEyes("", confidence, here, box), shape, parts)


def outlined(maps: torch.Tensor, pose: Pose, place: NoEyes, shape: tuple[int, int], parts: EyeParts) -> Eyes | NoEyes:
    """The outlines at a pose in pixels of the maps of the square `place.box`."""
    branches, box = len(maps) // 3 - 1, place.box
    scale = box.side / maps.shape[1]
    pair = eye_outlines.outlines(maps, pose, parts.outline_nets(branches), parts.lens_polygon)
    polygons = tuple(outline.polygon * scale + [box.left, box.top] for outline in pair)
    height, width = shape
    if not all((p.mean(axis=0) > 0).all() and (p.mean(axis=0) < [width, height]).all() for p in polygons):
        return replace(place, reason=OUTSIDE)
    middles = [outline.centre * scale + [box.left, box.top] for outline in pair]
    eyes = tuple(described(polygon, middle) for polygon, middle in zip(polygons, middles))
    side = 2 * maps.shape[1]
    planes = [_in_square([(getattr(o, name), o.eye) for o in pair], side) for name in ("surface", "image")]
    return Eyes(polygons, eyes, place.confidence, place.points, shape, box, *planes)


def described(polygon: np.ndarray, centre: np.ndarray) -> Eye:
    """Area and axes of the area inside a polygon (n, 2); its centre is given."""
    m = cv2.moments(np.float32(polygon))
    spread = np.array([[m["mu20"], m["mu11"]], [m["mu11"], m["mu02"]]]) / max(m["m00"], 1e-9)
    minor, major = 4 * np.sqrt(np.maximum(np.linalg.eigvalsh(spread), 0))
    return Eye(float(centre[0]), float(centre[1]), float(m["m00"]), (float(major), float(minor)))


def _in_square(patches: list[tuple[np.ndarray, tuple[np.ndarray, Pose, int]]], side: int) -> np.ndarray:
    """Two fine patches and where they lie, in units of half the square, in the square's pixels; NaN elsewhere."""
    plane = np.full((side, side), np.nan, np.float32)
    y, x = (np.mgrid[:side, :side] + 0.5) / 2
    xy = np.stack([x.ravel(), y.ravel()], axis=1)
    for values, (point, seen, mirrored) in patches:
        uv = (eye_outlines.in_patch(xy, point, seen, mirrored) + eye_outlines.RADIUS) / (2 * eye_outlines.RADIUS)
        u, v = (np.float32(a * len(values) - 0.5).reshape(side, side) for a in uv.T)
        inside = (np.minimum(u, v) >= 0) & (np.maximum(u, v) <= len(values) - 1)
        plane[inside] = cv2.remap(values.astype(np.float32), u, v, cv2.INTER_LINEAR)[inside]
    return plane

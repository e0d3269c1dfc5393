"""A cat's eyes from the channels alone: nobody drew a mask, and the photo itself is never looked at.

The paper's procedure (appendix F): the initial surface comes from channels that respond at eyes and nose, the segmented
image from layers that are constant inside the eye, both turned into a scalar by the V of HSV; Chan-Vese; then the
connected components that share their rows. Which channels these are differs from training run to training run, so
`decomp calibrate-eyes` measures them and writes them into the model's `channels.json` (`EyeParts`).

Deviation: on real photos the components that share rows are often two tufts of fur (`decomp evaluate-eyes` counts
them), so the places of the two eyes are named first, by where the channels are laid out as they were around the eyes
of the calibration photos (`places.py`). Chan-Vese then runs in an upright band around the two places, so that rows
are the face's. This file takes the square of one face; `finder.py` finds that square in a whole photo.

Convention: x right, y down, in pixels; pixel j covers [j, j + 1). "Left" is image-left. IOD: distance of the eyes.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter

from ..decomposition import Decomposition
from ..faces import Box
from . import places
from .parts import EyeParts, parts_of
from .places import GRID, Pose, maps, value

IOD = 48  # pixels of the upright band
BAND_X, BAND_Y = 0.95, 0.35  # half its width and height, in IOD
BAND_BLUR = 0.02  # IOD
PLACE = 0.2  # IOD: radius of the surface's own idea of an eye
FADE = (0.20, 0.34)  # IOD from a place: where the segmented image fades into its surroundings
MU, DT, TOL, ITERATIONS = 0.1, 0.5, 1e-4, 60  # Chan-Vese; the default tol stops after one iteration

SMALLEST, LARGEST = 0.015, 0.25  # area of an eye, in IOD squared
NEAR = 0.25  # IOD: a component this far from its place is no eye
# The place is nearer to the marked centre than the centroid of the component, which shadows and lids move.
OWN = 0.25  # share of the component's centroid in an eye's centre; the rest is the place
ROWS, RATIO = 0.3, 3.5  # shared rows over the smaller one's rows, at least; area over the other's, at most


class Eye(NamedTuple):
    """One eye, in pixels of the picture it was found in: its centre (see OWN), and area and axes of its component."""

    x: float
    y: float
    area: float
    axes: tuple[float, float]  # lengths of the major and minor axis of the ellipse with the same moments


@dataclass(frozen=True, eq=False)
class EyeSegmentation:
    """Both eyes, or none and the reason. Masks and pictures are (H, W), those of the decomposition's square."""

    left: np.ndarray | None  # bool
    right: np.ndarray | None
    eyes: tuple[Eye, ...]  # left and right; empty where `reason` is given
    confidence: float  # estimated probability that both centres are right
    reason: str | None  # why fewer than two eyes are reported
    pose: Pose | None  # the best place, also where it was refused
    surface: np.ndarray | None = None  # float32, initial surface of Chan-Vese, NaN outside the band
    flat: np.ndarray | None = None  # float32, what Chan-Vese segmented, NaN outside the band
    box: Box | None = None  # where the square lies in the photo
    shape: tuple[int, int] | None = None  # of the photo

    @property
    def found(self) -> bool:
        return self.reason is None

    def photo_eyes(self) -> tuple[Eye, ...]:
        """The eyes in pixels of the whole photo."""
        s = self.box.side / len(self.left) if self.found else 1
        return tuple(
            Eye(self.box.left + e.x * s, self.box.top + e.y * s, e.area * s**2, (e.axes[0] * s, e.axes[1] * s))
            for e in self.eyes
        )

    def photo_points(self, side: int) -> np.ndarray:
        """The two places in pixels of the photo, (2, 2), also where they were refused; `side`: the square's pixels."""
        return self.pose.points() * (self.box.side / side) + [self.box.left, self.box.top]

    def photo_masks(self) -> tuple[np.ndarray, np.ndarray]:
        """Left and right mask in the whole photo, (h, w) bool. Raises: ValueError where no eyes were found."""
        if not self.found:
            raise ValueError(f"no eyes: {self.reason}")
        masks = []
        for mask in (self.left, self.right):
            whole = np.zeros(self.shape, bool)
            b = self.box
            whole[b.top : b.top + b.side, b.left : b.left + b.side] = resized(mask, b.side)
            masks.append(whole)
        return tuple(masks)


def resized(mask: np.ndarray, side: int) -> np.ndarray:
    """A mask of another size, (side, side) bool, its outline smooth."""
    return cv2.resize(mask.astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC) > 0.5


# --------------------------------------------------------------------------------------------- what exactly is the eye

W, H = round(2 * BAND_X * IOD), round(2 * BAND_Y * IOD)
BAND = np.meshgrid((np.arange(W) + 0.5) / IOD - BAND_X, (np.arange(H) + 0.5) / IOD - BAND_Y)  # in IOD
TO_EYE = np.stack([np.hypot(BAND[0] + 0.5, BAND[1]), np.hypot(BAND[0] - 0.5, BAND[1])])  # from either place
NEAREST = TO_EYE.min(axis=0)


def upright(planes: np.ndarray, pose: Pose) -> np.ndarray:
    """The band around a pose, upright: (..., H, W, C) pictures to (..., band H, band W, C)."""
    x, y = (np.float32(a - 0.5) for a in pose.at(*BAND))
    warp = lambda p: cv2.remap(p, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return warp(planes) if planes.ndim < 4 else np.stack([warp(p) for p in planes])


def surface_maps(channels: np.ndarray) -> np.ndarray:
    """`maps` of the channels in the band, smoothed: (2 M, band H, band W)."""
    return np.stack([gaussian_filter(plane, 0.06 * IOD, mode="nearest", truncate=3) for plane in maps(channels)])


def initial_surface(channels: np.ndarray, parts: EyeParts) -> np.ndarray:
    """Level set that Chan-Vese starts from, positive at the eyes: the surface's channels plus the two places."""
    s = np.tensordot(np.float32(parts.surface), surface_maps(channels), 1)
    s = (s - s.mean()) / (s.std() + 1e-6)
    return np.clip(s, -2, 2) + np.clip(1 - (NEAREST / PLACE) ** 2, -2, 1).astype(np.float32)


def segmented_image(layers: np.ndarray, parts: EyeParts) -> np.ndarray:
    """V of the flat layers (R, v_1 .. v_M in the band), float32, against each place's own surroundings.

    An eye is darker or brighter than the fur around it, photo by photo and side by side; so the median around each
    place is taken off, the side is turned so that its eye is bright, and what is farther away fades to 0.
    """
    energy = np.sqrt(np.square(layers).mean(axis=(1, 2, 3), keepdims=True)) + 1e-6
    v = gaussian_filter(value(np.tensordot(np.float32(parts.flat), layers / energy, 1)), BAND_BLUR * IOD, truncate=3)
    own = np.argmin(TO_EYE, axis=0)
    for k in (0, 1):
        d = TO_EYE[k]
        v[own == k] -= np.median(v[(d > FADE[0]) & (d < FADE[1])])
        if v[d < PLACE / 2].mean() < 0:
            v[own == k] *= -1
    return v * np.float32(np.clip((FADE[1] - NEAREST) / (FADE[1] - FADE[0]), 0, 1))


def chan_vese_mask(image: np.ndarray, surface: np.ndarray) -> np.ndarray:
    """Two-phase Chan-Vese, its side chosen by overlap with the surface (the sign of the result is arbitrary)."""
    from skimage.segmentation import chan_vese

    mask = chan_vese(image, mu=MU, tol=TOL, max_num_iter=ITERATIONS, dt=DT, init_level_set=surface)
    inside = surface > 0
    return mask if mask[inside].mean() >= mask[~inside].mean() else ~mask


def pair(mask: np.ndarray) -> tuple[list[np.ndarray], str | None]:
    """The two components that share their rows, one near each place, of similar size; or the reason why not."""
    from scipy.ndimage import binary_fill_holes
    from skimage.measure import label, regionprops

    found = []
    for x in (-0.5, 0.5):
        best = None
        for region in regionprops(label(mask, connectivity=1)):
            v, u = (np.array(region.centroid) + 0.5) / IOD - [BAND_Y, BAND_X]
            distance = float(np.hypot(u - x, v))
            if distance < NEAR and SMALLEST < region.area / IOD**2 < LARGEST and (best is None or distance < best[0]):
                best = distance, region
        found.append(best and best[1])
    if None in found:
        return [], "no component at either place" if found == [None, None] else "one eye only"
    (top_a, _, bottom_a, _), (top_b, _, bottom_b, _) = found[0].bbox, found[1].bbox
    shared = min(bottom_a, bottom_b) - max(top_a, top_b)
    sizes = sorted(region.area for region in found)
    if shared < ROWS * min(bottom_a - top_a, bottom_b - top_b):
        return [], "no component pairs: the two do not share their rows"
    if sizes[1] > RATIO * sizes[0]:
        return [], "no component pairs: the two differ too much in size"
    masks = []
    for region in found:
        one = np.zeros_like(mask)
        one[region.slice] = binary_fill_holes(region.image)
        masks.append(one)
    return masks, None


def back(plane: np.ndarray, pose: Pose, side: int, outside: float) -> np.ndarray:
    """A plane of the band in the square's own pixels, (side, side) float32."""
    y, x = np.mgrid[:side, :side] + 0.5
    c, s = np.cos(pose.tilt) / pose.iod, np.sin(pose.tilt) / pose.iod
    u, v = c * (x - pose.x) + s * (y - pose.y), c * (y - pose.y) - s * (x - pose.x)
    u, v = np.float32((u + BAND_X) * IOD - 0.5), np.float32((v + BAND_Y) * IOD - 0.5)
    return cv2.remap(np.float32(plane), u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=outside)


def describe(mask: np.ndarray, point: np.ndarray) -> Eye:
    """Centre, area and axes of a mask whose place is `point`."""
    from skimage.measure import regionprops

    region = regionprops(mask.astype(np.uint8))[0]
    y, x = region.centroid
    axes = float(region.axis_major_length), float(region.axis_minor_length)
    x, y = OWN * (np.array([x, y]) + 0.5) + (1 - OWN) * point
    return Eye(float(x), float(y), float(region.area), axes)


def place(d: Decomposition, parts: EyeParts) -> tuple[float, Pose]:
    """Confidence and pose, in pixels of the square, of the place that looks most like a pair of eyes."""
    m = places.search_maps(d.channels)
    score, pose = places.best_place(m, parts.template, parts.spectra)
    pose, side = places.shifted(m, parts.shifts, pose), len(d.picture) / GRID
    return parts.confidence(score), Pose(pose.x * side, pose.y * side, pose.iod * side, pose.tilt)


def segment_eyes(d: Decomposition, parts: EyeParts | None = None) -> EyeSegmentation:
    """Both eyes of the face in a decomposition, or a named reason; never a guess.

    The square should hold the face: eyes 0.2 to 0.57 of its side apart, tilted by at most about 35 degrees.

    Args:
        d: channels (M, H, W, 3) and residual (H, W, 3) of a square.
        parts: which channels play which part; default: what the model behind the decomposition was calibrated to.
    Raises:
        ValueError: the model behind the decomposition was not calibrated.
    """
    parts = parts or parts_of(d.eyes, len(d.channels))
    confidence, pose = place(d, parts)
    where = {"box": d.box, "shape": d.photo.pixels.shape[:2] if d.photo else None, "pose": pose}
    none = EyeSegmentation(None, None, (), confidence, None, **where)
    if confidence < parts.least:
        return replace(none, reason="the channels show no pair of eyes clearly enough")
    side = len(d.picture)
    layers = upright(np.concatenate([d.residual[None], d.channels]), pose)
    surface, image = initial_surface(layers[1:], parts), segmented_image(layers, parts)
    masks, reason = pair(chan_vese_mask(image, surface))
    seen = {"surface": back(surface, pose, side, np.nan), "flat": back(image, pose, side, np.nan)}
    if reason:
        return replace(none, reason=reason, **seen)
    left, right = (back(mask, pose, side, 0) > 0.5 for mask in masks)
    if not left.any() or not right.any():
        return replace(none, reason="one eye only", **seen)
    return EyeSegmentation(
        left, right, tuple(map(describe, (left, right), pose.points())), confidence, None, **seen, **where
    )

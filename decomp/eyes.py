"""A cat's eyes from the channels alone: nobody drew a mask, and the photo itself is never looked at.

The paper's procedure (appendix F): the initial surface comes from channels that respond at eyes and nose, the segmented
image from layers that are constant inside the eye, both turned into a scalar by the V of HSV; Chan-Vese; then the
connected components that share their rows. Which channels these are differs from training run to training run, so
`decomp calibrate-eyes` measures them and writes them into the weights' config (`EyeParts`).

Deviation: on real photos the components that share rows are often two tufts of fur (`decomp evaluate-eyes` counts
them), so the places of the two eyes are named first, by where the channels are laid out as they were around the eyes
of the calibration photos. Chan-Vese then runs in an upright band around the two places, so that rows are the face's.

Convention: x right, y down, in pixels; pixel j covers [j, j + 1). "Left" is image-left. IOD: distance of the eyes.
"""

import base64
import binascii
import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np
import scipy.fft
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.optimize import minimize

from .decomposition import Decomposition
from .faces import Box
from .photos import Photo

GRID = 64  # maps are searched at this many points a side
BLUR = 0.012  # of the side: the maps' smoothing
CLIP = 4.0  # a channel's values beyond this many times its energy count as this

LAYOUT = 14  # points a side of the layout ...
LAYOUT_X, LAYOUT_Y = (-0.95, 0.95), (-0.7, 1.2)  # ... which covers this, in IOD from the middle between the eyes
IODS = (0.20, 0.24, 0.285, 0.34, 0.405, 0.48, 0.57)  # that are searched, in units of the square's side
TILTS = np.radians([-28, -14, 0, 14, 28])
CANDIDATES = 2  # best places that are looked at closely

IOD = 48  # pixels of the upright band
BAND_X, BAND_Y = 0.95, 0.35  # half its width and height, in IOD
BAND_BLUR = 0.02  # IOD
PLACE = 0.2  # IOD: radius of the surface's own idea of an eye
FADE = (0.20, 0.34)  # IOD from a place: where the segmented image fades into its surroundings
MU, DT, TOL, ITERATIONS = 0.1, 0.5, 1e-4, 60  # Chan-Vese; the default tol stops after one iteration (ecosystem notes)

SMALLEST, LARGEST = 0.015, 0.25  # area of an eye, in IOD squared
NEAR = 0.25  # IOD: a component this far from its place is no eye
ROWS, RATIO = 0.3, 3.5  # shared rows over the smaller one's rows, at least; area over the other's, at most


class Eye(NamedTuple):
    """One eye's component, in pixels of the picture it was found in."""

    x: float
    y: float
    area: float
    axes: tuple[float, float]  # lengths of the major and minor axis of the ellipse with the same moments


class Pose(NamedTuple):
    """Where a pair of eyes may be: its middle, its distance and its tilt (radians, clockwise on the screen)."""

    x: float
    y: float
    iod: float
    tilt: float

    def points(self) -> np.ndarray:
        """The two eyes, (2, 2), image-left first."""
        half = self.iod / 2 * np.array([np.cos(self.tilt), np.sin(self.tilt)])
        return np.array([[self.x, self.y] - half, [self.x, self.y] + half])

    def at(self, u, v):
        """Pixels of points given in IOD from the middle, along and across the line through the eyes."""
        c, s = self.iod * np.cos(self.tilt), self.iod * np.sin(self.tilt)
        return self.x + c * u - s * v, self.y + s * u + c * v


@dataclass(frozen=True)
class EyeParts:
    """Which layers play which part; measured by `calibrate.py`, stored as `eyes` in the weights' config."""

    layout: str  # base64 of int8 (2 M, LAYOUT, LAYOUT / 2): left half of the symmetric layout around two eyes
    step: float  # what 1 in `layout` stands for
    bias: float  # score = sum of layout times maps + bias
    surface: tuple[float, ...]  # weight of each map (2 M) in the initial surface
    flat: tuple[float, ...]  # sign (or 0) of R, v_1 .. v_M in the segmented image
    certainty: tuple[float, float]  # confidence = 1 / (1 + exp(-(a score + b)))
    least: float  # confidence below which eyes are not reported

    @classmethod
    def from_dict(cls, values: Mapping, branches: int) -> "EyeParts":
        """Checked, as a config may come from a hub. Raises: ValueError that names what is wrong."""
        names = set(cls.__dataclass_fields__)
        if not isinstance(values, Mapping) or set(values) != names:
            raise ValueError(f"eyes holds {sorted(values)}; needed: {sorted(names)}, as `decomp calibrate-eyes` writes")
        lengths = {"surface": 2 * branches, "flat": branches + 1, "certainty": 2, "step": 0, "bias": 0, "least": 0}
        for name, length in lengths.items():
            numbers = values[name] if length else [values[name]]
            good = isinstance(numbers, (list, tuple)) and len(numbers) == (length or 1)
            if not good or not all(type(n) in (int, float) and abs(n) < 1e6 for n in numbers):
                raise ValueError(f"eyes: {name} is not {length or 'a'} finite number{'s' if length else ''}")
        try:
            size = len(base64.b64decode(values["layout"], validate=True))
        except (TypeError, ValueError, binascii.Error):
            size = 0
        if size != 2 * branches * LAYOUT * (LAYOUT // 2):
            raise ValueError(f"eyes: layout is not {2 * branches} x {LAYOUT} x {LAYOUT // 2} bytes in base64")
        return cls(**{k: tuple(map(float, v)) if isinstance(v, (list, tuple)) else v for k, v in values.items()})

    @functools.cached_property
    def template(self) -> np.ndarray:
        """The layout in full, (2 M, LAYOUT, LAYOUT) float32."""
        half = np.frombuffer(base64.b64decode(self.layout), np.int8).reshape(-1, LAYOUT, LAYOUT // 2)
        return np.concatenate([half, half[:, :, ::-1]], axis=2).astype(np.float32) * np.float32(self.step)


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


# -------------------------------------------------------------------------------------------------- what channels say


def resized(mask: np.ndarray, side: int) -> np.ndarray:
    """A mask of another size, (side, side) bool, its outline smooth."""
    return cv2.resize(mask.astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC) > 0.5


def value(rgb: np.ndarray) -> np.ndarray:
    """V of HSV, the largest of R, G and B, of signed pictures (..., 3)."""
    return rgb.max(axis=-1)


def maps(channels: np.ndarray) -> np.ndarray:
    """Two scalars per channel, (2 M, H, W) float32: the signed (V(v) - V(-v)) / 2, and max(V(v), V(-v)), its strength.

    Each channel is in units of its own energy in this photo, so that a pale photo counts as much as a vivid one.
    """
    energy = np.sqrt(np.square(channels).mean(axis=(1, 2, 3), keepdims=True)) + 1e-6
    u = np.clip(channels / energy, -CLIP, CLIP)
    bright, dark = value(u), value(-u)
    return np.concatenate([(bright - dark) / 2, np.maximum(bright, dark)]).astype(np.float32)


def search_maps(channels: np.ndarray) -> np.ndarray:
    """`maps`, smoothed and sampled at GRID x GRID points, mean 0: (2 M, GRID, GRID)."""
    side = channels.shape[1]
    planes = [gaussian_filter(plane, BLUR * side, mode="nearest", truncate=3) for plane in maps(channels)]
    small = np.stack([cv2.resize(plane, (GRID, GRID), interpolation=cv2.INTER_AREA) for plane in planes])
    return small - small.mean(axis=(1, 2), keepdims=True)


# ----------------------------------------------------------------------------------- where the channels look like eyes

LAYOUT_GRID = np.meshgrid(np.linspace(*LAYOUT_X, LAYOUT), np.linspace(*LAYOUT_Y, LAYOUT))
PAD = GRID + GRID // 2  # the largest layout of a pair inside the square reaches less than GRID / 2 beyond it


def layout_at(m: np.ndarray, pose: Pose) -> np.ndarray:
    """The maps (F, GRID, GRID) around a pose in pixels of that grid, (F, LAYOUT, LAYOUT), bilinear."""
    x, y = pose.at(*LAYOUT_GRID)
    x, y = np.clip(x - 0.5, 0, GRID - 1.001), np.clip(y - 0.5, 0, GRID - 1.001)
    i, j = x.astype(int), y.astype(int)
    a, b = (x - i).astype(np.float32), (y - j).astype(np.float32)
    upper = m[:, j, i] * (1 - a) + m[:, j, i + 1] * a
    lower = m[:, j + 1, i] * (1 - a) + m[:, j + 1, i + 1] * a
    return upper * (1 - b) + lower * b


def kernels(template: np.ndarray) -> np.ndarray:
    """Conjugate spectra of the layout at every distance and tilt, (IODS x TILTS, F, PAD, PAD / 2 + 1) complex64."""
    r = np.fft.fftfreq(PAD, 1 / PAD)
    x, y = np.meshgrid(r, r)
    spectra = []
    for iod in IODS:
        for tilt in TILTS:
            c, s = np.cos(tilt) / (iod * GRID), np.sin(tilt) / (iod * GRID)
            u = (c * x + s * y - LAYOUT_X[0]) / (LAYOUT_X[1] - LAYOUT_X[0]) * (LAYOUT - 1)
            v = (c * y - s * x - LAYOUT_Y[0]) / (LAYOUT_Y[1] - LAYOUT_Y[0]) * (LAYOUT - 1)
            planes = np.stack([map_coordinates(t, [v, u], order=1) for t in template])
            # grid points for each point of the layout
            density = (iod * GRID * (LAYOUT_X[1] - LAYOUT_X[0]) / (LAYOUT - 1)) ** 2
            spectra.append(np.conj(scipy.fft.rfft2(planes / density)).astype(np.complex64))
    return np.stack(spectra)


@functools.lru_cache(maxsize=2)
def _kernels(parts: EyeParts) -> np.ndarray:
    return kernels(parts.template)


def candidates(m: np.ndarray, spectra: np.ndarray, count: int) -> list[Pose]:
    """The `count` best poses that do not overlap, both eyes inside the square, in pixels of the grid."""
    padded = np.zeros((len(m), PAD, PAD), np.float32)
    padded[:, :GRID, :GRID] = m
    spectrum = scipy.fft.rfft2(padded)
    response = scipy.fft.irfft2(np.einsum("pfyx,fyx->pyx", spectra, spectrum), s=(PAD, PAD))[:, :GRID, :GRID]
    response[_outside()] = -np.inf
    found = []
    for _ in range(count):
        p, y, x = np.unravel_index(response.argmax(), response.shape)
        pose = Pose(x + 0.5, y + 0.5, IODS[p // len(TILTS)] * GRID, TILTS[p % len(TILTS)])
        found.append(pose)
        r = max(2, int(0.12 * pose.iod))
        response[:, max(0, y - r) : y + r + 1, max(0, x - r) : x + r + 1] = -np.inf
    return found


@functools.cache
def _outside() -> np.ndarray:
    """Poses with an eye outside the square, (IODS x TILTS, GRID, GRID) bool."""
    y, x = np.mgrid[:GRID, :GRID] + 0.5
    outside = []
    for iod in IODS:
        for tilt in TILTS:
            dx, dy = iod * GRID / 2 * np.cos(tilt), iod * GRID / 2 * abs(np.sin(tilt))
            outside.append((x < dx) | (x > GRID - dx) | (y < dy) | (y > GRID - dy))
    return np.stack(outside)


def refine(m: np.ndarray, template: np.ndarray, pose: Pose) -> tuple[float, Pose]:
    """The highest sum of layout times maps near a pose, and where."""
    moved = lambda z: Pose(pose.x + z[0], pose.y + z[1], pose.iod * np.exp(0.05 * z[2]), pose.tilt + 0.05 * z[3])
    start = np.concatenate([np.zeros((1, 4)), np.eye(4)])
    options = {"maxiter": 80, "initial_simplex": start}
    loss = lambda z: -float((template * layout_at(m, moved(z))).sum())
    best = minimize(loss, start[0], method="Nelder-Mead", options=options)
    return -best.fun, moved(best.x)


def best_place(m: np.ndarray, template: np.ndarray, spectra: np.ndarray) -> tuple[float, Pose]:
    """Score (without bias) and pose, in pixels of the grid, of the most eye-like place."""
    return max((refine(m, template, pose) for pose in candidates(m, spectra, CANDIDATES)), key=lambda found: found[0])


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


def describe(mask: np.ndarray) -> Eye:
    """Centre, area and axes of a mask."""
    from skimage.measure import regionprops

    region = regionprops(mask.astype(np.uint8))[0]
    y, x = region.centroid
    axes = float(region.axis_major_length), float(region.axis_minor_length)
    return Eye(float(x) + 0.5, float(y) + 0.5, float(region.area), axes)


def segment_eyes(d: Decomposition, parts: EyeParts | None = None) -> EyeSegmentation:
    """Both eyes of the face in a decomposition, or a named reason; never a guess.

    The square should hold the face: eyes 0.2 to 0.57 of its side apart, tilted by at most about 35 degrees.

    Args:
        d: channels (M, H, W, 3) and residual (H, W, 3) of a square.
        parts: which channels play which part; default: what the model behind the decomposition was calibrated to.
    Raises:
        ValueError: the model behind the decomposition was not calibrated.
    """
    if not (d.eyes or parts):
        raise ValueError("this model was not calibrated for eyes; run `decomp calibrate-eyes` on its weights")
    parts = parts or EyeParts.from_dict(d.eyes, len(d.channels))
    side = len(d.picture)
    score, place = best_place(search_maps(d.channels), parts.template, _kernels(parts))
    a, b = parts.certainty
    confidence = float(1 / (1 + np.exp(-np.clip(a * (score + parts.bias) + b, -50, 50))))
    pose = Pose(place.x * side / GRID, place.y * side / GRID, place.iod * side / GRID, place.tilt)
    where = {"box": d.box, "shape": d.photo.pixels.shape[:2] if d.photo else None, "pose": pose}
    none = EyeSegmentation(None, None, (), confidence, None, **where)
    if confidence < parts.least:
        return replace(none, reason="the channels show no pair of eyes clearly enough")
    layers = upright(np.concatenate([d.residual[None], d.channels]), pose)
    surface, image = initial_surface(layers[1:], parts), segmented_image(layers, parts)
    masks, reason = pair(chan_vese_mask(image, surface))
    seen = {"surface": back(surface, pose, side, np.nan), "flat": back(image, pose, side, np.nan)}
    if reason:
        return replace(none, reason=reason, **seen)
    left, right = (back(mask, pose, side, 0) > 0.5 for mask in masks)
    if not left.any() or not right.any():
        return replace(none, reason="one eye only", **seen)
    return EyeSegmentation(left, right, (describe(left), describe(right)), confidence, None, **seen, **where)


# ------------------------------------------------------------------------------------------------ in a whole photo

SURE = 0.9  # confidence from which on one look is enough
AGREE = 0.15  # IOD: two looks must agree on both eyes this closely
SMALLEST_SIDE = 32  # pixels of the smallest square that is looked at
FRAME = 0.36  # IOD in units of the side of the square that is cut around a pair; its middle lies at (0.5, 0.45)


def square_around(points: np.ndarray, width: int, height: int) -> tuple[int, int, int]:
    """Left, top and side of the square that frames a pair of eyes (2, 2), inside the photo."""
    (x, y), iod = points.mean(axis=0), float(np.hypot(*(points[1] - points[0])))
    side = int(min(max(iod / FRAME, SMALLEST_SIDE), width, height))
    return int(np.clip(x - side / 2, 0, width - side)), int(np.clip(y - 0.45 * side, 0, height - side)), side


def find_eyes(model, image) -> EyeSegmentation:
    """The eyes of a cat in a photo: `segment_eyes` where the face is found, and a second look where that is not sure.

    Args:
        model: a calibrated `Decomposer` with the class "cat".
        image: whatever `Decomposer.decompose` accepts.
    Raises:
        PhotoError: not a photo. ValueError: the model is not calibrated, or has no class "cat".
    """
    from . import photos

    photo = image if isinstance(image, Photo) else photos.load(image)
    return confirmed(model, photo, segment_eyes(model.decompose(photo, "cat")))


def confirmed(model, photo: Photo, first: EyeSegmentation, parts: EyeParts | None = None) -> EyeSegmentation:
    """A sure first look as it is; else a second look, at a square cut anew around its place, if both agree."""
    if first.found and first.confidence >= SURE:
        return first
    none = {"left": None, "right": None, "eyes": ()}
    if min(photo.pixels.shape[:2]) < SMALLEST_SIDE:
        return replace(first, **none, reason=f"the photo is smaller than {SMALLEST_SIDE} pixels")
    place = first.photo_points(model.config.size)
    box = square_around(place, *photo.pixels.shape[1::-1])
    second = segment_eyes(model.decompose(photo, "cat", box=box), parts)
    moved = np.hypot(*(second.photo_points(model.config.size) - place).T).max() / np.hypot(*(place[1] - place[0]))
    if second.found and moved > AGREE:
        return replace(second, **none, reason="two looks at the photo do not agree")
    return second

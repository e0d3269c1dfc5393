"""Where in a square the channels look like a pair of eyes: a linear filter over their maps, and what a place is worth.

The filter ("layout") is how the channels of one model are laid out around two eyes, eyebrows to nose, symmetric. It is
laid over the maps at every place, distance and tilt; the best places are then moved to where its response is highest,
and a second linear filter ("shift") tells from the surroundings of each eye how far beside it the place lies.

Convention: x right, y down, in pixels; pixel j covers [j, j + 1). "Left" is image-left. IOD: distance of the eyes.
"""

import functools
from typing import NamedTuple

import cv2
import numpy as np
import scipy.fft
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.optimize import minimize

GRID = 64  # maps are searched at this many points a side
BLUR = 0.012  # of the side: the maps' smoothing
CLIP = 4.0  # a channel's values beyond this many times its energy count as this

LAYOUT = 14  # points a side of the layout ...
LAYOUT_X, LAYOUT_Y = (-0.95, 0.95), (-0.7, 1.2)  # ... which covers this, in IOD from the middle between the eyes
IODS = (0.20, 0.24, 0.285, 0.34, 0.405, 0.48, 0.57)  # that are searched, in units of the square's side
TILTS = np.radians([-28, -14, 0, 14, 28])
CANDIDATES = 2  # best places that are looked at closely

SHIFT = 9  # points a side of the surroundings of one eye that tell how far beside it a place lies ...
REACH = 0.4  # ... which reach this far from it, in IOD
FARTHEST = 0.15  # IOD: no place is moved by more, along or across


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


def pose_of(points: np.ndarray) -> Pose:
    """The pose of two points (2, 2)."""
    (x0, y0), (x1, y1) = points
    return Pose((x0 + x1) / 2, (y0 + y1) / 2, float(np.hypot(x1 - x0, y1 - y0)), float(np.arctan2(y1 - y0, x1 - x0)))


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


LAYOUT_GRID = np.meshgrid(np.linspace(*LAYOUT_X, LAYOUT), np.linspace(*LAYOUT_Y, LAYOUT))
PAD = GRID + GRID // 2  # the largest layout of a pair inside the square reaches less than GRID / 2 beyond it


def layout_at(m: np.ndarray, pose: Pose) -> np.ndarray:
    """The maps (F, GRID, GRID) around a pose in pixels of that grid, (F, LAYOUT, LAYOUT), bilinear."""
    return sampled(m, *pose.at(*LAYOUT_GRID))


def sampled(m: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Maps (F, GRID, GRID) at points in pixels of that grid, (F, *x.shape), bilinear; outside, the rim's."""
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


SHIFT_GRID = np.meshgrid(np.linspace(-REACH, REACH, SHIFT), np.linspace(-REACH, REACH, SHIFT))


def surroundings(m: np.ndarray, pose: Pose) -> np.ndarray:
    """The maps around both places of a pose, (2, F * SHIFT * SHIFT), the image-right one's mirrored."""
    u, v = SHIFT_GRID
    left, right = sampled(m, *pose.at(u - 0.5, v)), sampled(m, *pose.at(0.5 - u, v))
    return np.stack([left.ravel(), right.ravel()])


def shifted(m: np.ndarray, shift: np.ndarray, pose: Pose) -> Pose:
    """The pose whose two places are moved by what the surroundings of each say; `shift`: (2, F * SHIFT * SHIFT)."""
    du, dv = np.clip(surroundings(m, pose) @ shift.T, -FARTHEST, FARTHEST).T  # in IOD, for both places; right mirrored
    x, y = pose.at(np.array([-0.5 + du[0], 0.5 - du[1]]), dv)
    return pose_of(np.stack([x, y], axis=1))

"""A face as a relief, from the channels that carry light: shading to slopes to height.

It is a plausible bas-relief, not a measurement of the face. One photo does not fix a shape: stretching the depth and
turning the light leave the picture unchanged (Belhumeur, Kriegman and Yuille, 1999), and dark fur and shadow look
alike. So three things are assumed:

- the shape is a dome with details, and symmetric about the line that crosses the middle between the eyes;
- the light comes from above, at 45 degrees; how much of it comes from the left or the right is measured;
- the skin or fur is matt, and its colour changes slowly or lies in other channels.

With r the relative shading that the light channels add, and the light l, a matt surface has brightness 1 + r = n . l.
Linear in the slopes p (to the right) and q (down), a symmetric face splits it (Zhao and Chellappa, 2000): the
difference of the halves gives p, their mean gives q,

    (r(u) - r(-u)) / 2 = -l_x p,        (r(u) + r(-u)) / 2 = -l_y q.

The height is the one whose slopes come closest to p and q (Frankot and Chellappa, 1988; cosines for its basis, so that
nothing wraps around).

Convention: x right, y down, z to the viewer; lengths in pixels of the square.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.fft
from scipy.ndimage import gaussian_filter

from ..decomposition import Decomposition, Picture
from .landmarks import FaceFrame, face_frame, face_mask, in_square

ABOVE = 0.7  # l_y of the light, assumed; about 45 degrees
DIM = 0.05  # added to l_x ** 2: without light from a side, no slope is read from the difference of the halves
SLOPE = 0.35  # root mean square slope of the details on the face; the true one cannot be known
DARKEST = 0.1  # of white: r is not divided by less
# The dome: an ellipsoid around the middle between the eyes, in units of their distance
DOME_X, DOME_Y, DOME_CENTRE, DOME_DEPTH = 1.25, 1.75, 0.35, 1.1
INNER = 0.85  # of the face's ellipse: beyond, hair and background are read as shape
BRIGHTEST = 1.5  # a relit face gains at most this factor, and loses at most its inverse
AMBIENT = 0.35  # share of the light that comes from everywhere when a face is relit


@dataclass(frozen=True, eq=False)
class Relief:
    """The height of a face over its square."""

    height: np.ndarray  # (H, W) float32, pixels of the square, to the viewer; 0 is the lowest
    light: tuple[float, float, float]  # the photo's: unit vector to the light, x, y down, z to the viewer
    mask: np.ndarray  # (H, W) float32 in [0, 1]: 1 on the face

    def normals(self) -> np.ndarray:
        """Unit normals (H, W, 3) float32: x, y down, z to the viewer."""
        return normals(self.height)

    def relight(self, picture: Picture, azimuth: float, elevation: float = 45.0, strength: float = 1.0) -> Picture:
        """The picture as lit from another direction: brightness times (new shading / old shading) ** strength.

        The face as a whole stays as bright as it is.

        Args:
            picture: (H, W, 3) in [-1, 1].
            azimuth: degrees, clockwise from above: 90 is from the right.
            elevation: degrees above the picture's plane; 90 is from the viewer.
            strength: 0 leaves the picture as it is.
        Raises:
            ValueError: an angle or the strength is not finite.
        """
        if not np.isfinite([azimuth, elevation, strength]).all():
            raise ValueError(f"light from {azimuth}, {elevation} at {strength}; finite numbers are needed")
        n = self.normals()
        old, new = (shaded(n, light) for light in (self.light, towards(azimuth, elevation)))
        gain = (new / old) ** strength
        gain = np.clip(gain * (self.mask.sum() / (self.mask * gain).sum()), 1 / BRIGHTEST, BRIGHTEST)
        gain = 1 + self.mask * (gain - 1)
        return np.clip((picture + 1) * gain[..., None] - 1, -1, 1).astype(np.float32)


def relief(d: Decomposition, eyes: np.ndarray, channels: Sequence[int | str], depth: float = 1.0) -> Relief:
    """The relief of a decomposed face.

    Args:
        d: with its box; only R and the given channels are used.
        eyes: (2, 2), in pixels of the photo; see `landmarks.find_landmarks`.
        channels: those that carry light, by number (1 .. M) or name; see `kinds`.
        depth: scales the height; the true one cannot be known.
    Raises:
        ValueError: no channel is given.
        ValueError: unknown channel.
        ValueError: depth is not above 0 and finite.
    """
    if not channels:
        raise ValueError("no channel carries light, so there is no shading to read a relief from")
    if not 0 < depth < math.inf:
        raise ValueError(f"depth is {depth}; a number above 0 is needed")
    size = len(d.picture)
    frame = face_frame(in_square(eyes, d.box, size), size)
    mask = face_mask(frame, INNER)
    light = d.channels[[d.index(channel) for channel in channels]].sum(axis=0).mean(axis=2)
    base = np.maximum((d.residual.mean(axis=2) + 1) / 2, DARKEST)
    r = light / 2 / base  # relative shading

    prior = dome(frame)
    sideways = side_light(base * (1 + r), prior, frame, mask)
    difference, common = halves(r, frame)
    p, q = mask * -difference * sideways / (sideways**2 + DIM), mask * common / ABOVE
    scale = SLOPE / (np.sqrt((mask * (p**2 + q**2)).sum() / mask.sum()) + 1e-6)
    height = depth * (prior + scale * integrate(*frame.turned(p, q)))
    x, y = frame.turned(sideways, -ABOVE)
    light_vector = np.array([x, y, math.sqrt(max(1 - x**2 - y**2, 0.2))])
    light_vector /= np.linalg.norm(light_vector)
    return Relief(np.float32(height - height.min()), tuple(light_vector.tolist()), mask)


def dome(frame: FaceFrame) -> np.ndarray:
    """The prior: half an ellipsoid over the face, its rim softened: height (H, W) in pixels."""
    r2 = (frame.u / DOME_X) ** 2 + ((frame.v - DOME_CENTRE) / DOME_Y) ** 2
    return gaussian_filter(DOME_DEPTH * frame.iod * np.sqrt(np.maximum(1 - r2, 0)), 0.08 * frame.iod)


def halves(plane: np.ndarray, frame: FaceFrame) -> tuple[np.ndarray, np.ndarray]:
    """A plane (H, W) as half its difference from its mirror image across the face's axis, and their mean."""
    mirrored = frame.mirrored(plane)
    return (plane - mirrored) / 2, (plane + mirrored) / 2


def side_light(brightness: np.ndarray, prior: np.ndarray, frame: FaceFrame, mask: np.ndarray) -> float:
    """l_x: how much light comes along the line through the eyes, from its image-right end; in -0.7 to 0.7.

    Least squares of the halves' relative difference, in which a symmetric colour cancels, on the slope of the prior.
    """
    difference, common = halves(gaussian_filter(brightness, 0.1 * frame.iod, mode="nearest"), frame)
    down, right = np.gradient(prior)
    slope = right * frame.across[0] + down * frame.across[1]
    return float(np.clip(-(mask * difference / common * slope).sum() / (mask * slope**2).sum(), -ABOVE, ABOVE))


def integrate(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """The height (H, W), mean 0, whose slopes come closest to p (to the right) and q (down), in least squares.

    Frankot and Chellappa's projection on a basis of cosines, with slopes taken between neighbouring pixels.
    """
    between = (p[:, 1:] + p[:, :-1]) / 2, (q[1:] + q[:-1]) / 2
    divergence = np.zeros(p.shape)
    divergence[:, :-1] += between[0]
    divergence[:, 1:] -= between[0]
    divergence[:-1] += between[1]
    divergence[1:] -= between[1]
    rows, columns = (2 * np.cos(np.pi * np.arange(n) / n) - 2 for n in p.shape)
    laplacian = rows[:, None] + columns
    laplacian[0, 0] = 1  # the mean, which slopes do not fix; it is 0 in `divergence`
    return scipy.fft.idctn(scipy.fft.dctn(divergence, norm="ortho") / laplacian, norm="ortho")


def normals(height: np.ndarray) -> np.ndarray:
    """Unit normals (H, W, 3) float32 of a height (H, W)."""
    down, right = np.gradient(height)
    n = np.stack([-right, -down, np.ones_like(height)], axis=-1)
    return np.float32(n / np.linalg.norm(n, axis=-1, keepdims=True))


def towards(azimuth: float, elevation: float) -> tuple[float, float, float]:
    """Unit vector to a light: azimuth in degrees clockwise from above, elevation in degrees above the picture."""
    a, e = math.radians(azimuth), math.radians(elevation)
    return math.sin(a) * math.cos(e), -math.cos(a) * math.cos(e), math.sin(e)


def shaded(n: np.ndarray, light: tuple[float, float, float]) -> np.ndarray:
    """Brightness (H, W) of matt normals under a light, with AMBIENT of it from everywhere; in [AMBIENT, 1]."""
    return AMBIENT + (1 - AMBIENT) * np.maximum(n @ np.float32(light), 0)

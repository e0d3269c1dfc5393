"""One photo's channels in another: its light, its fur, its hue.

The face of photo B is turned, scaled and moved until its eyes lie on the eyes of A (a similarity). Only then is it
decomposed, so that channel k of both shows the same positions. The result is a weighted sum again,

    C = x_A + m * sum_{k in K} ((keep - 1) v_k^A + amount v_k^B),

m being a soft mask of the face. Channels outside K, and what the network leaves unexplained, stay A's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter

from .. import photos
from ..decomposition import Decomposition, Picture, layer_key
from ..faces import Box
from ..photos import Photo
from .landmarks import face_frame, face_mask, find_landmarks, in_square

INNER = 0.9  # of the face's ellipse is exchanged: on a wider one B's background shows beside the cheeks
BORDER = 0.02  # of the square's side: how softly the mask ends where photo B ends


@dataclass(frozen=True, eq=False)
class Pair:
    """Two decomposed and aligned faces."""

    a: Decomposition  # the photo that is edited
    b: Decomposition  # the photo whose channels are taken, in A's square
    mask: np.ndarray  # (H, W) float32 in [0, 1]: 1 on the face
    notes: tuple[str, ...] = ()  # one sentence for each face whose eyes were not found

    def swap(self, layers: Sequence[int | str], amount: float = 1.0, keep: float | None = None) -> Picture:
        """`swap` on this pair's mask."""
        return swap(self.a, self.b, layers, amount, keep, self.mask)


def swap(
    a: Decomposition,
    b: Decomposition,
    layers: Sequence[int | str],
    amount: float = 1.0,
    keep: float | None = None,
    mask: np.ndarray | None = None,
) -> Picture:
    """A's picture with some layers exchanged for B's; see the equation above. The network is not run.

    Args:
        a: the photo that is edited; `a.paste(result)` puts the result back at full resolution.
        b: the photo whose channels are taken, aligned to A; see `align`.
        layers: channels by number (1 .. M) or name, "residual" or "unexplained".
        amount: strength of B's layers.
        keep: strength of A's own; default 1 - amount.
        mask: (H, W) in [0, 1], where the layers are exchanged; default: everywhere.
    Returns:
        float32 (H, W, 3), around [-1, 1].
    Raises:
        ValueError: unknown or repeated layer.
        ValueError: the two differ in shape or in the names of their channels.
        ValueError: a strength that is not finite.
    """
    if a.channels.shape != b.channels.shape or a.names != b.names:
        raise ValueError(
            "the two photos were decomposed by different models or at different sizes; accepted: one of both"
        )
    keep = 1 - amount if keep is None else keep
    if not np.isfinite([amount, keep]).all():
        raise ValueError(f"strengths are {amount} and {keep}; finite numbers are needed")
    keys = [layer_key(a.names, layer) for layer in layers]
    if not keys or len(set(keys)) < len(keys):
        raise ValueError(f"layers are {list(layers)}; at least one is needed, each once")
    change = np.zeros_like(a.picture)
    for layer in layers:
        change += np.float32(keep - 1) * a.layer(layer) + np.float32(amount) * b.layer(layer)
    return a.picture + (change if mask is None else change * mask[..., None])


def align(model, a: Decomposition, image, domain: str = "auto") -> Pair:
    """Align photo B to A by the eyes, and decompose it.

    Args:
        model: the `Decomposer` that made `a`.
        a: with its photo and box.
        image: photo B, whatever `photos.load` accepts.
        domain: class of B, or "auto".
    Raises:
        PhotoError: B is not a photo.
        ValueError: unknown class.
    """
    photo = image if isinstance(image, Photo) else photos.load(image)
    first = model.decompose(photo, domain)
    onto, eyes = find_landmarks(model, a), find_landmarks(model, first)
    size = len(a.picture)
    square, inside = moved(photo, eyes.eyes, onto.eyes, a.box, size)
    b = model.decompose(square, first.domain, size=size, box=Box(0, 0, size, "given"))
    mask = face_mask(face_frame(in_square(onto.eyes, a.box, size), size), INNER) * softened(inside, size)
    return Pair(a, b, mask, tuple(landmarks.note for landmarks in (onto, eyes) if landmarks.note))


def moved(photo: Photo, eyes: np.ndarray, onto: np.ndarray, box: Box, size: int) -> tuple[Photo, np.ndarray]:
    """A photo in another's square, its eyes on the other's.

    Args:
        photo: what is moved.
        eyes: (2, 2), its eyes in its own pixels.
        onto: (2, 2), where they shall lie, in pixels of the other photo.
        box: the other's square.
        size: pixels of the square's side.
    Returns:
        the square as a photo, mirrored beyond the border of `photo`; (size, size) bool, True inside that border.
    """
    target = in_square(onto, box, size)
    z, w = (points @ [1, 1j] for points in (eyes, target))  # as complex numbers, a similarity is w = s z + t
    s = (w[1] - w[0]) / (z[1] - z[0])
    shrink = min(1.0, abs(s))  # antialiased first, as the warp itself only interpolates
    height, width = photo.pixels.shape[:2]
    small_size = max(1, round(width * shrink)), max(1, round(height * shrink))
    small = photo.pixels if shrink == 1 else cv2.resize(photo.pixels, small_size, interpolation=cv2.INTER_AREA)
    scale = np.array([small.shape[1] / width, small.shape[0] / height])
    t = w[0] - s * z[0]
    # pixel j of OpenCV is the point j + 0.5 here
    linear = np.array([[s.real, -s.imag], [s.imag, s.real]]) / scale
    shift = np.array([t.real, t.imag]) + linear @ [0.5, 0.5] - 0.5
    matrix = np.concatenate([linear, shift[:, None]], axis=1)
    warp = lambda plane, border: cv2.warpAffine(plane, matrix, (size, size), flags=cv2.INTER_CUBIC, borderMode=border)
    inside = warp(np.full(small.shape[:2], 255, np.uint8), cv2.BORDER_CONSTANT) > 250
    square = warp(small, cv2.BORDER_REFLECT_101)
    return replace(photo, pixels=square, alpha=None, exif=None), inside


def softened(inside: np.ndarray, size: int) -> np.ndarray:
    """A mask that falls smoothly to 0 just inside a region's border; 1 everywhere if the region is the whole square."""
    if inside.all():
        return inside.astype(np.float32)
    sigma = BORDER * size
    shrunk = cv2.erode(inside.astype(np.uint8), np.ones(2 * [2 * int(np.ceil(2 * sigma)) + 1]), borderValue=1)
    return gaussian_filter(shrunk.astype(np.float32), sigma, mode="nearest", truncate=2)

"""The two eyes of a face, by which two faces are aligned.

A cat's eyes come from the channels (`find_eyes`), a person's from OpenCV's eye cascades inside the face's square. If
neither finds a pair, the eyes' usual position in such a square is assumed, and a note says so.

No nose is detected: no detector comes without a download, and two points fix a similarity.

Convention: x right, y down, in pixels of the photo; pixel j covers [j, j + 1). "Left" is image-left.
"""

from typing import NamedTuple

import cv2
import numpy as np

from ..decomposition import Decomposition, to_bytes
from ..eyes.finder import find_eyes
from ..faces import Box, crop, detected
from ..photos import Photo

SIDE = 256  # pixels: the square in which the cascades look
CASCADES = ("haarcascade_eye_tree_eyeglasses.xml", "haarcascade_eye.xml")  # the first is the more exact
REACH = 0.09  # of the square's side: largest distance of an eye from its usual position
# Where eyes lie in a square, in units of its side, by how the square was found: medians over 100 CelebA-HQ faces and
# over 103 marked photos of cats; "centre" and "given" are taken for crops like AFHQ's.
USUAL = {"human": ((0.373, 0.477), (0.625, 0.477)), "cat": ((0.353, 0.505), (0.639, 0.505))}
USUAL_CROP = {"human": USUAL["human"], "animal": ((0.33, 0.44), (0.67, 0.44))}


# The face as an ellipse around the middle between the eyes, in units of their distance: a person's is 2.2 wide and
# reaches from 1.25 above (hairline) to 1.85 below (chin); a cat's cheeks are wider apart.
CENTRE_Y, RADIUS_X, RADIUS_Y = 0.3, 1.2, 1.55
SOFT = 0.35  # of the radii: width of the mask's edge, half of it outside the ellipse


class Landmarks(NamedTuple):
    """The eyes of a face."""

    eyes: np.ndarray  # (2, 2) float64: x, y of the image-left and the image-right eye, in pixels of the photo
    found: str  # by "channels" or "cascade"; "square" if their usual position is assumed
    note: str | None  # one sentence where they were not found


class FaceFrame(NamedTuple):
    """The face's own axes over a square: the line through the eyes, and the axis of symmetry across it."""

    u: np.ndarray  # (H, W): along the line through the eyes, from the middle between them, in units of their distance
    v: np.ndarray  # (H, W): down the axis of symmetry, the same
    middle: np.ndarray  # (2,), in pixels
    across: np.ndarray  # (2,), unit vector from the image-left to the image-right eye
    iod: float  # distance between the eyes, in pixels

    def turned(self, along, down):
        """x and y of a vector given along u and v."""
        return along * self.across[0] - down * self.across[1], along * self.across[1] + down * self.across[0]

    def mirrored(self, plane: np.ndarray) -> np.ndarray:
        """A plane (H, W), mirrored across the axis of symmetry."""
        flip = np.eye(2) - 2 * np.outer(self.across, self.across)
        centre = self.middle - 0.5  # pixel j of OpenCV is the point j + 0.5 here
        matrix = np.column_stack([flip, centre - flip @ centre])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(plane, matrix, plane.shape[::-1], flags=flags, borderMode=cv2.BORDER_REFLECT_101)


def find_landmarks(model, d: Decomposition) -> Landmarks:
    """The eyes of a decomposed face.

    On 100 CelebA-HQ validation faces, which are aligned, the cascades find both eyes in 90; their standard deviation
    is 0.01 of the square's side.

    Args:
        model: the `Decomposer` behind `d`.
        d: with its photo and box.
    """
    kind = model.config.face[model.domain_index(d.domain)]
    if kind == "human":
        eyes, how = eyes_by_cascade(d.photo, d.box), "cascade"
    elif d.domain == "cat" and model.facts.eyes:
        eyes, how = eyes_by_channels(model, d.photo), "channels"
    else:
        eyes, how = None, None
    if eyes is not None:
        return Landmarks(eyes, how, None)
    crop_like = USUAL_CROP["human" if kind == "human" else "animal"]
    usual = np.array(USUAL.get(d.box.found, crop_like))
    note = f"{d.photo.name}: no pair of eyes was found, so the face is aligned by its square"
    return Landmarks(usual * d.box.side + [d.box.left, d.box.top], "square", note)


def eyes_by_channels(model, photo: Photo) -> np.ndarray | None:
    """A cat's eyes, (2, 2), or None."""
    pair = find_eyes(model, photo)
    return pair.centres if pair.found else None


def eyes_by_cascade(photo: Photo, box: Box) -> np.ndarray | None:
    """A person's eyes, (2, 2), by the first cascade that finds one near each usual position; None if neither does."""
    square = Photo(to_bytes(crop(photo, box, SIDE)))
    usual = np.array(USUAL["human"]) * SIDE
    for cascade in CASCADES:
        boxes, _ = detected(square, cascade, 1.05, 3)  # (n, 4): left, top, side, side
        centres = boxes[:, :2] + boxes[:, 2:] / 2
        if len(centres) < 2:
            continue
        distance = np.hypot(*(centres[None] - usual[:, None]).transpose(2, 0, 1))  # (2, n)
        if (distance.min(axis=1) < REACH * SIDE).all():
            return centres[distance.argmin(axis=1)] * (box.side / SIDE) + [box.left, box.top]
    return None


def in_square(points: np.ndarray, box: Box, size: int) -> np.ndarray:
    """Points (n, 2) of the photo in pixels of the decomposed square."""
    return (points - [box.left, box.top]) * (size / box.side)


def face_frame(eyes: np.ndarray, size: int) -> FaceFrame:
    """The face's axes over a square of `size` pixels; `eyes` (2, 2) in its pixels."""
    middle, along = eyes.mean(axis=0), eyes[1] - eyes[0]
    iod = float(np.hypot(*along))
    x, y = np.meshgrid(*2 * [np.arange(size) + 0.5])
    x, y, (a, b) = x - middle[0], y - middle[1], along / iod
    return FaceFrame((x * a + y * b) / iod, (y * a - x * b) / iod, middle, along / iod, iod)


def face_mask(frame: FaceFrame, scale: float = 1.0) -> np.ndarray:
    """A soft ellipse over the face, or over `scale` of it: (H, W) float32, 1 inside, 0 outside."""
    r = np.hypot(frame.u / RADIUS_X, (frame.v - CENTRE_Y) / RADIUS_Y) / scale
    ramp = np.clip((1 + SOFT / 2 - r) / SOFT, 0, 1)
    return (0.5 - 0.5 * np.cos(np.pi * ramp)).astype(np.float32)

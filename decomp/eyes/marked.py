"""Photos of cats whose eyes are marked: reading them, the error of an answer, and halves that judge each other.

A folder holds `crops.json` and `photos.json`, lists of {"file": path, "eyes": [[x, y], [x, y]]}, image-left eye first,
and perhaps `lids/lids.json`: for each eye of `lids/NAME.jpg` the eyelids' outer and inner corner, top and bottom.
All points are (x, y) in pixels of the photo; pixel j covers [j, j + 1).
"""

import json
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..photos import PhotoError

RIGHT, WRONG = (
    0.15,
    0.3,
)  # IOD: an answer is right if both centres are within the first, wrong if one is beyond the second
CROPPED = 0.3  # a photo whose eyes are this far apart, in units of its longer side, is all face
ARC = 24  # points along one eyelid
HALVES = 2  # of the photos: what one half taught is judged by the other


@dataclass(frozen=True)
class Marked:
    """A photo and its eyes."""

    path: Path
    eyes: np.ndarray  # (2, 2) centres, image-left first
    lids: tuple[np.ndarray, np.ndarray] | None = None  # outlines, (2 ARC - 2, 2) each, where the eyelids are marked
    marked_by: int | None = None  # the half whose networks marked it, see `unmarked.py`; None: a person

    @property
    def half(self) -> int:
        """0 or 1: photos of one series (NAME_NUMBER) are in one half, as they may show the same cat."""
        if self.marked_by is not None:
            return self.marked_by
        series = self.path.stem.rpartition("_")[0] or self.path.stem
        return zlib.crc32(series.encode()) % HALVES

    @property
    def cropped(self) -> bool:
        """Whether the photo is all face."""
        with Image.open(self.path) as photo:
            return iod(self.eyes) > CROPPED * max(photo.size)


def half_of(number: int, item: Marked | Path) -> int:
    """The half of a photo; without marks its number decides."""
    return item.half if isinstance(item, Marked) else number % HALVES


def marked(data: Path, kind: str) -> list[Marked]:
    """The photos of `data/<kind>.json`.

    Raises:
        PhotoError: there is no such list, or it is of another form.
        PhotoError: it is empty.
    """
    path = data / f"{kind}.json"
    accepted = 'accepted: a list of {"file": name, "eyes": [[x, y], [x, y]]}'
    if not path.is_file():
        raise PhotoError(f"{path}: no such file; {accepted}")
    try:
        rows = json.loads(path.read_text())
        listed = [Marked(data / row["file"], np.array(row["eyes"], float).reshape(2, 2)) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PhotoError(f"{path}: does not list marked eyes; {accepted}") from error
    if not listed:
        raise PhotoError(f"{path}: lists no photo; {accepted}")
    return listed


def with_lids(data: Path) -> list[Marked]:
    """The photos of `data/lids/lids.json`; none where there is no such file.

    Raises:
        PhotoError: the list is of another form.
    """
    path = data / "lids" / "lids.json"
    if not path.is_file():
        return []
    try:
        rows = json.loads(path.read_text())
        outlines = {
            name: tuple(outline(np.array(row[side], float)) for side in ("left", "right")) for name, row in rows.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        wanted = '{name: {"left": [outer, inner, top, bottom], "right": ...}}, each [x, y]'
        raise PhotoError(f"{path}: no list of marked eyelids; accepted: {wanted}") from error
    return [
        Marked(path.with_name(f"{name}.jpg"), np.stack([centroid(lid) for lid in lids]), lids)
        for name, lids in outlines.items()
    ]


def outline(points: np.ndarray) -> np.ndarray:
    """The eye between two quadratic arcs from the outer to the inner corner; `points`: outer, inner, top, bottom."""
    outer, inner, top, bottom = points.reshape(4, 2)
    return np.concatenate([_arc(outer, top, inner), _arc(inner, bottom, outer)[1:-1]])


def _arc(start: np.ndarray, middle: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The parabola through three points, the middle one at its chord-length parameter, (ARC, 2)."""
    before, after = np.hypot(*(middle - start)), np.hypot(*(end - middle))
    t, s = before / (before + after), np.linspace(0, 1, ARC)[:, None]
    return start * (s - t) * (s - 1) / t + middle * s * (s - 1) / (t * (t - 1)) + end * s * (s - t) / (1 - t)


def centroid(polygon: np.ndarray) -> np.ndarray:
    """Of the area inside a polygon (n, 2)."""
    x, y = polygon.T
    x1, y1 = np.roll(polygon, -1, axis=0).T
    cross = x * y1 - x1 * y
    return np.array([((x + x1) * cross).sum(), ((y + y1) * cross).sum()]) / (3 * cross.sum())


def filled(polygon: np.ndarray, height: int, width: int) -> np.ndarray:
    """(height, width) bool: the pixels whose middle lies inside a polygon."""
    from skimage.draw import polygon2mask

    return polygon2mask((height, width), polygon[:, ::-1] - 0.5)


def iod(eyes: np.ndarray) -> float:
    """Distance between two eyes (2, 2)."""
    return float(np.hypot(*(eyes[1] - eyes[0])))


def errors(points: np.ndarray, eyes: np.ndarray) -> np.ndarray:
    """Distance of each of two points to its eye, in IOD."""
    return np.hypot(*(points - eyes).T) / iod(eyes)


def iou(mask: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two masks; 0 where both are empty."""
    return float((mask & other).sum() / max(1, (mask | other).sum()))

"""More cats to learn from: photos without marks, marked by networks that learnt from the marked ones.

Few photos have marked eyes, and a network that saw 200 cats has not seen every cat. What it answers surely about others
is nearly always right, and teaches a second network (pseudo-labels; Lee, 2013). The photos are shared out between the
halves, and each half learns from its own marks alone, so that one half still judges the other.
"""

from pathlib import Path

from .. import photos
from ..decomposer import cached
from . import finder
from .marked import Marked, half_of
from .parts import EyeParts

SURE = 0.9  # confidence from which on an answer is taken for a mark
MOST = 1200  # photos


def chosen(folders: list[Path]) -> list[Path]:
    """At most MOST photos of some folders, evenly.

    Raises:
        PhotoError: a folder has no photo.
    """
    found = [path for folder in folders for path in photos.find(folder)]
    return found[:: max(1, -(-len(found) // MOST))]


def mark(name: str, parts: EyeParts, item: tuple[int, Path]) -> Marked | None:
    """The eyes of a photo as the networks of one half see them; None where they are not sure.

    Args:
        parts: of both halves.
        item: number of the photo, which decides its half, and the photo.
    """
    number, path = item
    half = half_of(number, path)
    own = parts.half(1 - half)  # what this half taught
    model, photo = cached(name, rough=True), photos.load(path)
    points = next(finder.proposals(photo, 1, own), None)  # what follows is for harder photos, and slow
    if points is None:
        return None
    pair = finder.second_look(model, photo, points, own, SURE)
    return Marked(path, pair.centres, marked_by=half) if pair.found else None

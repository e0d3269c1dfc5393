"""What `decomp eyes` does to one photo, as an object that travels to other processes, and the model in each of them."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import photos
from ..decomposer import cached

LONGEST_OVERLAY = 1024  # pixels


@dataclass(frozen=True)
class Eyes:
    """Masks, overlay and figures of a cat's eyes; of a photo without eyes the figures alone."""

    model: str
    max_pixels: int = photos.MAX_PIXELS

    def __call__(self, path: Path, made: Path) -> dict:
        from .finder import find_eyes

        photo = photos.load(path, self.max_pixels)
        found = find_eyes(cached(self.model), photo)
        row = figures(found)
        made.mkdir()
        if found.found:
            from PIL import Image

            for name, mask in zip(("left", "right"), found.photo_masks()):
                Image.fromarray(mask).save(made / f"{name}.png")
            overlay(photo, found).save(made / "overlay.jpg", quality=90)
        (made / "eyes.json").write_text(json.dumps(row, indent=2))
        return row


NUMBERS = ("x", "y", "area", "major", "minor")
COLUMNS = [f"{side}_{number}" for side in ("left", "right") for number in NUMBERS]


def figures(s) -> dict:
    """One row: how many eyes, why not two, and of each eye centre, area and axes in pixels of the photo, or None."""
    numbers = [round(n, 2) for e in s.photo_eyes() for n in (e.x, e.y, e.area, *e.axes)] or [None] * len(COLUMNS)
    row = {"eyes": len(s.eyes), "why": s.reason or "", "confidence": round(s.confidence, 4)}
    return row | dict(zip(COLUMNS, numbers))


def row_of(model, source) -> dict:
    """`figures` of whatever `photos.load` accepts, with the same columns for what is no photo."""
    from .finder import find_eyes

    try:
        return figures(find_eyes(model, source))
    except photos.PhotoError as error:
        return {"eyes": 0, "why": str(error), "confidence": 0.0} | dict.fromkeys(COLUMNS)


def overlay(photo, s):
    """The photo, at most 1024 pixels long, with both outlines in green."""
    from PIL import Image
    from skimage.segmentation import find_boundaries

    scale = min(1, LONGEST_OVERLAY / max(photo.pixels.shape[:2]))
    size = [max(1, round(n * scale)) for n in photo.pixels.shape[1::-1]]
    picture = np.array(Image.fromarray(photo.eight_bits).resize(size, Image.Resampling.LANCZOS))
    for mask in s.photo_masks():
        small = np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BILINEAR)) > 127
        picture[find_boundaries(small, mode="outer")] = (0, 255, 0)
    return Image.fromarray(picture)

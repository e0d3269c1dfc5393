"""What `decomp eyes` does to one photo, as an object that travels to other processes."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import photos
from ..decomposer import cached

LONGEST_OVERLAY = 1024  # pixels


@dataclass(frozen=True)
class FindEyes:
    """Masks, overlay and figures of the eyes of up to `most` cats; of a photo without eyes the figures alone."""

    model: str
    max_pixels: int = photos.MAX_PIXELS
    most: int = 1
    certainty: float | None = None  # least confidence that is reported; None: what the calibration set

    def __call__(self, path: Path, made: Path) -> dict:
        from .finder import find_pairs

        photo = photos.load(path, self.max_pixels)
        pairs = find_pairs(cached(self.model, rough=True), photo, self.most, certainty=self.certainty)
        rows = [figures(pair) for pair in pairs]
        made.mkdir()
        if pairs[0].found:
            from PIL import Image

            for number, pair in enumerate(pairs, start=1):
                for name, mask in zip(("left", "right"), pair.masks):
                    Image.fromarray(mask).save(made / f"{name}{'' if number == 1 else f'-{number}'}.png")
            overlay(photo, pairs).save(made / "overlay.jpg", quality=90)
        row = rows[0] | ({"rows": rows} if self.most > 1 else {})
        (made / "eyes.json").write_text(json.dumps(row, indent=2))
        return row


NUMBERS = ("x", "y", "area", "major", "minor")
COLUMNS = [f"{side}_{number}" for side in ("left", "right") for number in NUMBERS]


def figures(pair) -> dict:
    """One row: how many eyes, why not two, and of each eye centre, area and axes in pixels of the photo, or None."""
    eyes = pair.eyes if pair.found else ()
    numbers = [round(n, 2) for e in eyes for n in (e.x, e.y, e.area, *e.axes)] or [None] * len(COLUMNS)
    reason = "" if pair.found else pair.reason
    return {"eyes": len(eyes), "why": reason, "confidence": round(pair.confidence, 4)} | dict(zip(COLUMNS, numbers))


def row_of(model, source) -> dict:
    """`figures` of whatever `photos.load` accepts, with the same columns for what is no photo."""
    from .finder import find_eyes

    try:
        return figures(find_eyes(model, source))
    except photos.PhotoError as error:
        return {"eyes": 0, "why": str(error), "confidence": 0.0} | dict.fromkeys(COLUMNS)


def overlay(photo, pairs):
    """The photo, at most 1024 pixels long, with the outlines in green."""
    import cv2
    from PIL import Image

    scale = min(1, LONGEST_OVERLAY / max(photo.pixels.shape[:2]))
    size = [max(1, round(n * scale)) for n in photo.pixels.shape[1::-1]]
    picture = np.array(Image.fromarray(photo.eight_bits).convert("RGB").resize(size, Image.Resampling.LANCZOS))
    lines = [np.rint(polygon * scale - 0.5).astype(np.int32) for pair in pairs for polygon in pair.polygons]
    cv2.polylines(picture, lines, True, (0, 255, 0), 1, cv2.LINE_AA)
    return Image.fromarray(picture)

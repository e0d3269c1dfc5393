"""What the page keeps of one visitor's photo, and what is done with it. Nothing here knows Gradio."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from .. import faces, photos
from ..choice import Choice
from ..decomposer import Decomposer
from ..decomposition import Base, Decomposition, Picture, Strengths, to_bytes
from ..eyes.segment import Eyes, NoEyes
from ..photos import Photo

VIEW = 512  # pixels, the largest side at which the face is shown
SCENE = 640  # pixels, the longest side at which the whole photo is shown


@dataclass(frozen=True, eq=False)
class Visit:
    """One photo: where its file is, and the layers of its face; 12 MB at 256 x 256 pixels and nine channels."""

    name: str  # of the file
    source: Path | bytes  # the file as it came, for `photos.load`; a decoded photo would be ten times as large
    model: str  # name of the model
    size: tuple[int, int]  # width and height of the upright photo
    own: Decomposition  # every channel as the photo's own class; carries no full-resolution photo
    turned: Decomposition  # every channel as its target class; `picture` is the photo with that change, E kept
    view: np.ndarray  # (V, V, 3) uint8, the face as it is shown
    scene: np.ndarray  # (h, w, 3) uint8, the photo as it is shown
    before: str = ""  # path of `view` as a picture
    sheet: str = ""  # path of `parts`
    scales: tuple[float, ...] = ()  # of `parts`
    shared: bool = False  # an example, which many visitors look at
    eyes: Eyes | NoEyes | None = None  # where they were looked for
    choice: Choice | None = None  # what was found in it and which model suits; None: nobody looked

    @property
    def photo(self) -> Photo:
        """The whole photo, decoded again."""
        return photos.load(self.source, name=self.name)

    def whole(self) -> Decomposition:
        """The layers together with the full-resolution photo, as exports want them."""
        return replace(self.own, photo=self.photo)

    def recompose(self, strengths: Strengths, base: Base) -> Picture:
        """As `Decomposition.recompose`, of the channels in their target classes."""
        return self.turned.recompose(strengths, base)

    def show(self, edited: Picture, base: Base) -> np.ndarray:
        """(V, V, 3) uint8: on the photo, its own fine detail stays; a re-generated picture is shown as it is."""
        if base == "regenerated":
            return to_bytes(enlarged(edited, len(self.view)))
        change = enlarged(edited - self.own.picture, len(self.view))
        return np.clip(self.view + np.rint(change * 127.5), 0, 255).astype(np.uint8)

    def parts(self) -> tuple[np.ndarray, tuple[float, ...]]:
        """What a browser needs to add the layers up by itself, at half the size of `view`.

        Returns:
            (M + 3, V / 2, V / 2, 3) uint8: the photo as it is shown at strengths 1, then R, v_1 .. v_M and E as
            127.5 (1 + layer / scale); and the scale of each, 1 for the photo.
        """
        side, d = len(self.view) // 2, self.turned
        photo = cv2.resize(self.show(d.picture, "photo"), (side, side), interpolation=cv2.INTER_AREA)
        tiles, scales = [photo], [1.0]
        for layer in (d.residual, *d.channels, d.unexplained):
            shrinks = side < len(layer)
            small = cv2.resize(layer, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
            scales.append(max(float(np.abs(small).max()), 1e-3))
            tiles.append(to_bytes(small / np.float32(scales[-1])))
        return np.stack(tiles), tuple(scales)

    def paste(self, edited: Picture) -> Photo:
        """The full-resolution photo with the edit in it."""
        return faces.paste(self.photo, self.own.box, self.own.picture, edited)


def receive(
    model: Decomposer,
    model_name: str,
    source: Path | bytes,
    name: str,
    domain: str,
    size: int,
    box=None,
    photo: Photo | None = None,
) -> Visit:
    """Decompose an uploaded file; PhotoError or ValueError says in one sentence what is wrong.

    Args:
        photo: `source` decoded, where that was done before.
    """
    photo = photo or photos.load(source, name=name)
    d = model.decompose(photo, domain=domain, size=size, box=box)
    height, width = photo.pixels.shape[:2]
    pixels = photo.eight_bits
    side = min(VIEW, max(d.box.side, size))
    scale = min(1, SCENE / max(width, height))
    shown = max(1, round(width * scale)), max(1, round(height * scale))
    own = replace(d, photo=None)
    return Visit(
        name=name,
        source=source,
        model=model_name,
        size=(width, height),
        own=own,
        turned=own,
        view=to_bytes(faces.crop(photo, d.box, side)),
        scene=np.asarray(Image.fromarray(pixels).resize(shown, Image.Resampling.BOX)) if scale < 1 else pixels.copy(),
    )


def turn(visit: Visit, model: Decomposer, targets: Sequence[str]) -> Visit:
    """The same photo with each channel as the class asked for; the branches that change run once more.

    Decomposition keeps E = x - f(x, target), which undoes a change of class. Here E stays that of the photo's own
    class, so that the change shows on the photo and its fine detail stays: x + sum_k (v_k(target) - v_k(own)).
    """
    own = visit.own
    if all(target == own.domain for target in targets):
        return replace(visit, turned=own)
    d = model.transfer(own, list(targets))
    picture = own.picture + (d.channels - own.channels).sum(axis=0)
    return replace(visit, turned=replace(own, picture=picture, channels=d.channels, targets=d.targets))


def centred_box(visit: Visit, across: float, down: float, part: float) -> tuple[int, int, int]:
    """(left, top, side) in the photo's pixels from the centre and the side in per cent of width, height, short side."""
    width, height = visit.size
    side = min(max(round(part / 100 * min(width, height)), min(faces.SMALLEST, width, height)), width, height)
    left = round(across / 100 * width - side / 2)
    top = round(down / 100 * height - side / 2)
    return min(max(left, 0), width - side), min(max(top, 0), height - side), side


def box_in_percent(visit: Visit) -> tuple[float, float, float]:
    """The inverse of `centred_box` for the square that was decomposed."""
    box, (width, height) = visit.own.box, visit.size
    across, down = (box.left + box.side / 2) / width, (box.top + box.side / 2) / height
    return tuple(round(100 * value, 1) for value in (across, down, box.side / min(width, height)))


def enlarged(picture: Picture, side: int) -> Picture:
    """Bicubic to (side, side, 3)."""
    return picture if len(picture) == side else cv2.resize(picture, (side, side), interpolation=cv2.INTER_CUBIC)

"""Pictures for the page: PNG bytes, files in the page's own folder, figures as HTML."""

import base64
import html
import uuid
from pathlib import Path
from urllib.parse import quote

import cv2
import numpy as np
from gradio.utils import get_upload_folder

from .visits import KEPT, folder_in_use

# A slider is waiting: level 6 takes four times as long for 10 % less.
FAST = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE]
SHEET = [cv2.IMWRITE_JPEG_QUALITY, 90, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]


def png(pixels: np.ndarray) -> bytes:
    """(H, W, 3) uint8 RGB, or (H, W) uint8, losslessly."""
    return cv2.imencode(".png", pixels[..., ::-1] if pixels.ndim == 3 else pixels, FAST)[1].tobytes()


def place(name: str, kept: bool = False) -> Path:
    """A new path in the visitor's folder, from which the page may serve it; nobody can guess it.

    With `kept` the file is deleted with the visit, else as soon as room is needed.
    """
    folder = folder_in_use.get() or Path(get_upload_folder()) / "answers"
    folder = folder / (KEPT if kept else "") / uuid.uuid4().hex
    folder.mkdir(parents=True)
    return folder / name


def stored(pixels: np.ndarray, name: str, kept: bool = False) -> Path:
    """A picture as PNG in that folder."""
    path = place(name, kept)
    path.write_bytes(png(pixels))
    return path


def stored_sheet(tiles: np.ndarray) -> Path:
    """Pictures of one size, (n, H, W, 3) uint8 RGB, below each other as a JPEG that stays with the visit."""
    path = place("sheet.jpg", kept=True)
    path.write_bytes(cv2.imencode(".jpg", np.concatenate(tiles)[..., ::-1], SHEET)[1].tobytes())
    return path


def address(path: Path | str) -> str:
    """URL of a stored file, for the page."""
    return f"gradio_api/file={quote(str(path))}"


def img(pixels: np.ndarray, alt: str) -> str:
    """An <img> element that contains the picture; for small ones."""
    data = base64.b64encode(png(pixels)).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{html.escape(alt, quote=True)}">'


def figure(pixels: np.ndarray, title: str, note: str = "", extra: str = "", kind: str = "") -> str:
    """A captioned picture; title and note are plain text, extra is HTML."""
    caption = f"<b>{html.escape(title)}</b>" + (f"<span>{html.escape(note)}</span>" if note else "") + extra
    picture = f'<img src="{address(stored(pixels, "layer.png"))}" alt="{html.escape(title, quote=True)}">'
    return f'<figure class="{kind}">{picture}<figcaption>{caption}</figcaption></figure>'


def refusal(reason: str) -> str:
    """Why something was not done, in plain text, to stay on the page."""
    return f'<p class="says refused" role="alert"><b>Not done:</b> {html.escape(reason, quote=False)}</p>'


def figures(*parts: str, kind: str = "") -> str:
    return f'<div class="figures {kind}">{"".join(parts)}</div>'


def outlined(scene: np.ndarray, left: float, top: float, side: float) -> np.ndarray:
    """The photo with the square drawn and everything outside it dimmed; coordinates as parts of the width."""
    width = scene.shape[1]
    x, y, s = (round(value * width) for value in (left, top, side))
    drawn = (scene * np.float32(0.45)).astype(np.uint8)
    drawn[y : y + s, x : x + s] = scene[y : y + s, x : x + s]
    thick = max(2, width // 200)
    cv2.rectangle(drawn, (x, y), (x + s - 1, y + s - 1), (255, 255, 255), thick)
    return drawn

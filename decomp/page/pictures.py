"""Pictures for the page: PNG bytes, files in the page's own folder, figures as HTML."""

import base64
import html
import uuid
from pathlib import Path

import cv2
import numpy as np
from gradio.utils import get_upload_folder

FAST = [cv2.IMWRITE_PNG_COMPRESSION, 1]  # a slider is waiting; level 6 takes four times as long for 10 % less


def png(pixels: np.ndarray) -> bytes:
    """(H, W, 3) uint8 RGB, or (H, W) uint8, losslessly."""
    return cv2.imencode(".png", pixels[..., ::-1] if pixels.ndim == 3 else pixels, FAST)[1].tobytes()


def place(name: str) -> Path:
    """A new path in the folder that the page may serve and that it empties; nobody can guess it."""
    folder = Path(get_upload_folder()) / uuid.uuid4().hex
    folder.mkdir(parents=True)
    return folder / name


def stored(pixels: np.ndarray, name: str) -> Path:
    """A picture as PNG in that folder."""
    path = place(name)
    path.write_bytes(png(pixels))
    return path


def img(pixels: np.ndarray, alt: str) -> str:
    data = base64.b64encode(png(pixels)).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{html.escape(alt, quote=True)}">'


def figure(pixels: np.ndarray, title: str, note: str = "", extra: str = "", kind: str = "") -> str:
    """A captioned picture; title and note are plain text, extra is HTML."""
    caption = f"<b>{html.escape(title)}</b>" + (f"<span>{html.escape(note)}</span>" if note else "") + extra
    return f'<figure class="{kind}">{img(pixels, title)}<figcaption>{caption}</figcaption></figure>'


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

"""A decomposition as an OpenRaster file: the photo as a stack of layers for Krita, GIMP, MyPaint and the like.

Layer files hold no negative numbers, and OpenRaster has no grain-merge. So each channel is a pair of layers: what it
adds ("svg:plus", ends at 255) and what it takes away ("svg:difference", |below - layer|, which is below - layer as long
as the layer is nowhere above what lies below it). The stack is composited here as such a program does it, in 8 bits
with its rounding and clipping. The topmost pair makes up for the difference to the photo: it holds the unexplained rest
E and all rounding. With every layer visible the stack is the photo, to the last bit.
"""

import io
import re
import zipfile
from os import PathLike
from xml.etree import ElementTree

import cv2
import numpy as np
from PIL import Image

from .decomposition import Decomposition, to_bytes
from .faces import fade
from .files import atomic

LONGEST = 2048  # pixels, the longest side of the canvas; a larger photo is reduced
THUMBNAIL = 256  # pixels
NOT_XML = re.compile(r"[^\x20-\ud7ff\ue000-\ufffd]")


def write_openraster(d: Decomposition, path: str | PathLike, longest: int = LONGEST) -> None:
    """Write the photo as layers: the photo, over it the face as R, then a pair per channel, then the rest.

    Hide a layer, change its opacity, or duplicate it to change a channel's strength. On the rim of the face the
    channels fade out as in `faces.paste`, so that no seam appears. Layers that are empty are left out. Transparency of
    the photo is not kept.

    Args:
        d: with its photo, the canvas is the whole photo; without, the decomposed square.
        longest: a photo with a longer side is reduced to it.
    Raises:
        OSError: the file cannot be written.
    """
    canvas, left, top, side = _canvas(d, longest)
    face = canvas[top : top + side, left : left + side].astype(np.int16)
    layers = [("photo", canvas, "svg:src-over", 0, 0)]  # name, pixels, operator, x, y
    below = to_bytes(_enlarged(d.residual, side)).astype(np.int16)  # the composite so far, (side, side, 3)
    layers.append(("R, the smooth base", below.astype(np.uint8), "svg:src-over", left, top))

    def add(name: str, levels: np.ndarray) -> None:
        nonlocal below
        plus = np.clip(levels, 0, 255 - below)
        minus = np.clip(-levels, 0, below)
        below = below + plus - minus
        for sign, part, operator in (("+", plus, "svg:plus"), ("-", minus, "svg:difference")):
            if part.any():
                layers.append((f"{name} {sign}", part.astype(np.uint8), operator, left, top))

    soft = _rim(d, canvas.shape, left, top, side)
    for channel, v in zip(d.info, d.channels):
        levels = np.rint(_enlarged(v, side) * soft * 127.5)
        add(f"{channel.index} {channel.name}", np.clip(levels, -255, 255).astype(np.int16))
    add("unexplained", face - below)
    _write(path, canvas, layers)


def _canvas(d: Decomposition, longest: int) -> tuple[np.ndarray, int, int, int]:
    """(H, W, 3) uint8 and where the face lies in it: left, top, side."""
    if d.photo is None or d.box is None:
        return to_bytes(d.picture), 0, 0, len(d.picture)
    pixels = d.photo.eight_bits
    height, width = pixels.shape[:2]
    scale = min(1, longest / max(height, width))
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        pixels = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))
    side = max(1, min(round(d.box.side * scale), *pixels.shape[:2]))
    left = min(round(d.box.left * scale), pixels.shape[1] - side)
    top = min(round(d.box.top * scale), pixels.shape[0] - side)
    return pixels, left, top, side


def _enlarged(layer: np.ndarray, side: int) -> np.ndarray:
    if len(layer) == side:
        return layer
    method = cv2.INTER_CUBIC if side > len(layer) else cv2.INTER_AREA
    return cv2.resize(layer, (side, side), interpolation=method)


def _rim(d: Decomposition, shape: tuple, left: int, top: int, side: int) -> np.ndarray:
    """(side, side, 1) weights: 1 inside, falling to 0 where the photo goes on beyond the face."""
    rows = fade(side, top > 0, top + side < shape[0])
    columns = fade(side, left > 0, left + side < shape[1])
    return (rows[:, None] * columns)[..., None]


def _png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 4])[1].tobytes()


def _write(path: str | PathLike, canvas: np.ndarray, layers: list[tuple]) -> None:
    """The file as https://www.openraster.org/baseline/file-layout-spec.html lays it out."""
    height, width = canvas.shape[:2]
    image = ElementTree.Element("image", version="0.0.3", w=str(width), h=str(height), xres="72", yres="72")
    stack = ElementTree.SubElement(image, "stack")
    with atomic(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as file:
        file.writestr("mimetype", "image/openraster")  # must come first and uncompressed
        for k, (name, pixels, operator, x, y) in reversed(list(enumerate(layers))):  # topmost first
            source = f"data/layer{k:02d}.png"
            file.writestr(source, _png(pixels))
            ElementTree.SubElement(
                stack,
                "layer",
                {
                    "name": NOT_XML.sub("?", name),  # names come from the weights' config
                    "src": source,
                    "x": str(x),
                    "y": str(y),
                    "opacity": "1.0",
                    "visibility": "visible",
                    "composite-op": operator,
                },
            )
        thumbnail = Image.fromarray(canvas)
        thumbnail.thumbnail((THUMBNAIL, THUMBNAIL))
        data = io.BytesIO()
        thumbnail.save(data, "PNG")
        file.writestr("Thumbnails/thumbnail.png", data.getvalue())
        file.writestr("mergedimage.png", _png(canvas))
        file.writestr("stack.xml", ElementTree.tostring(image, encoding="UTF-8", xml_declaration=True))

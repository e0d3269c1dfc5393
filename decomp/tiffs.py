"""TIFF layouts that Pillow does not read, or reads wrongly: 16-bit planes, float colour, BigTIFF, grey with alpha."""

import logging
import zlib
from typing import BinaryIO

import numpy as np
import tifffile

GREY, RGB, SEPARATE = 1, 2, 2  # photometric interpretations; planar configuration
UNCOMPRESSED, DEFLATE = 1, (8, 32946)
PREMULTIPLIED, ALPHA = 1, 2  # extra samples

logging.getLogger("tifffile").addFilter(lambda record: False)  # what it says of damaged tags


class Unreadable(Exception):
    """A TIFF of a layout that is not read; the message names the layout."""


def first_page(file: BinaryIO) -> tifffile.TiffPage:
    """The first picture's tags; nothing is decoded. Raises nearly anything on a damaged file."""
    file.seek(0)
    return tifffile.TiffFile(file).pages.first


def layout(page: tifffile.TiffPage) -> str:
    """How the pixels are stored, in words."""
    kinds = {1: "unsigned", 2: "signed", 3: "float"}
    kind = kinds.get(int(page.sampleformat), "unknown")
    planes = ", separate planes" if page.samplesperpixel > 1 and page.planarconfig == SEPARATE else ""
    name = lambda value: getattr(value, "name", str(value)).lower()
    return (
        f"{page.samplesperpixel} x {page.bitspersample} bits {kind}, {name(page.photometric)}, "
        f"compression {name(page.compression)}{planes}"
    )


def read(page: tifffile.TiffPage) -> tuple[np.ndarray, bool]:
    """The pixels of a page whose size was checked, and whether they are multiplied by their alpha.

    Returns:
        (H, W), (H, W, 3) or (H, W, 4): uint8, uint16 or float.
    Raises:
        Unreadable: a layout that is not read. Nearly anything on a damaged file.
    """
    samples, extra = page.samplesperpixel, [int(e) for e in page.extrasamples]
    alpha = extra[:1] in ([PREMULTIPLIED], [ALPHA])
    colours = samples - len(extra)
    known = page.photometric in (GREY, RGB) and colours == (1 if page.photometric == GREY else 3) and len(extra) <= 1
    if not known or page.imagedepth != 1 or page.dtype not in (np.uint8, np.uint16, np.float16, np.float32, np.float64):
        raise Unreadable(layout(page))
    if page.compression in DEFLATE:
        _check_segments(page)
    elif page.compression != UNCOMPRESSED:
        raise Unreadable(layout(page))
    array = page.asarray(maxworkers=1)
    if samples > 1 and page.planarconfig == SEPARATE:
        array = np.moveaxis(array, 0, 2)
    if samples > 1:
        array = array[..., : colours + alpha]
    if colours == 1 and samples > 1:
        array = array[..., [0, 0, 0, 1]] if alpha else array[..., 0]
    return array, extra[:1] == [PREMULTIPLIED]


def _check_segments(page: tifffile.TiffPage) -> None:
    """Refuse a strip or tile that would unpack to more than its place in the picture."""
    rows, columns = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
    rows = min(rows, page.imagelength) if not page.is_tiled else rows
    samples = 1 if page.planarconfig == SEPARATE else page.samplesperpixel
    most = rows * columns * samples * page.dtype.itemsize
    expected = -(-page.imagelength // rows) * -(-page.imagewidth // columns) * (page.samplesperpixel // samples)
    if not 0 < most <= 2**31 or len(page.dataoffsets) != expected:
        raise ValueError("strips or tiles do not cover the picture")
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        page.parent.filehandle.seek(offset)
        unpacked = zlib.decompressobj().decompress(page.parent.filehandle.read(count), most + 1)
        if len(unpacked) > most:
            raise ValueError("a strip or tile unpacks to more than its place in the picture")

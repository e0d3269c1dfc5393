"""Photos as people have them: the one loader and the one writer behind every entrance.

Convention: pixels are upright, RGB, 8 or 16 bits per channel. Alpha, EXIF and the ICC profile travel beside them.
"""

import contextlib
import io
import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, ImageCms
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from .files import atomic

MAX_PIXELS = 40_000_000
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")
SUFFIXES = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".gif": "GIF",
}
ACCEPTED = f"accepted: {', '.join(FORMATS)}"

ORIENTATION, EXIF_IFD, GPS_IFD = 0x0112, 0x8769, 0x8825
# A TIFF keeps its layout and its description in one list of tags; only the description outlives a new layout:
# description, make, model, resolution (3), software, date, artist, copyright, EXIF and GPS.
DESCRIPTIVE = {270, 271, 272, 282, 283, 296, 305, 306, 315, 33432, EXIF_IFD, GPS_IFD}

# What makes an array upright, by EXIF orientation; 1 and anything unknown is left alone.
UPRIGHT = {
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: np.swapaxes(a, 0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.swapaxes(np.rot90(a, 2), 0, 1),
    8: lambda a: np.rot90(a, 1),
}


class PhotoError(ValueError):
    """Something cannot be read as a photo, or a photo cannot be written the way it was asked for."""


@dataclass(frozen=True, eq=False)
class Photo:
    """One upright photo. Treat the arrays as read-only."""

    pixels: np.ndarray  # (H, W, 3) uint8 or uint16
    alpha: np.ndarray | None = None  # (H, W), the dtype of the pixels; 0 is transparent
    name: str = "photo"  # for messages
    exif: bytes | None = None  # without the orientation, as the pixels are upright
    icc: bytes | None = None  # an RGB profile
    format: str = "PNG"  # one of FORMATS, what it was read from; PNG for arrays

    @property
    def rgb(self) -> np.ndarray:
        """(H, W, 3) float32 in [0, 1]."""
        return self.pixels.astype(np.float32) / np.iinfo(self.pixels.dtype).max

    @property
    def eight_bits(self) -> np.ndarray:
        """(H, W, 3) uint8, rounded from 16 bits."""
        return to_eight_bits(self.pixels)


def to_eight_bits(array: np.ndarray) -> np.ndarray:
    """uint8, rounded from uint16; uint8 as it is."""
    return np.rint(array / 257).astype(np.uint8) if array.dtype == np.uint16 else array


def load(
    source: str | os.PathLike | bytes | BinaryIO | Image.Image | np.ndarray,
    max_pixels: int = MAX_PIXELS,
    name: str | None = None,
) -> Photo:
    """Read a photo.

    JPEG, PNG, WebP, TIFF, BMP and GIF (of an animation or a multi-page file the first picture), turned upright. Grey
    becomes RGB; 16-bit grey and RGB keep every bit; CMYK becomes 8-bit sRGB through its own profile where it has one.
    Broken EXIF or a broken profile is dropped, the photo still loads.

    Args:
        source: a path, the bytes of a file, a binary file object, a PIL image (at the depth PIL opened it with), or an
            array of shape (H, W), (H, W, 3) or (H, W, 4): uint8, uint16, or float in [0, 1], which is kept as uint16.
        max_pixels: width times height above this is refused before anything is decoded.
        name: stands in messages; the file's name unless given.
    Raises:
        PhotoError: whatever else it is.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, name or "array", max_pixels)
    if isinstance(source, Image.Image):
        name = name or "image"
        with _pillow(name, max_pixels):
            _check_size(source.width, source.height, name, max_pixels)
            return _decode(source.copy(), None, name, max_pixels)
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        name = name or path.name or str(path)
        if path.is_dir():
            raise PhotoError(f"{name}: is a folder, not a photo; {ACCEPTED}")
        if not path.is_file():
            raise PhotoError(f"{name}: no such file; {ACCEPTED}")
        try:
            file = open(path, "rb")
        except OSError as error:
            raise PhotoError(f"{name}: cannot be opened ({error.strerror}); {ACCEPTED}") from error
        with file:
            return _from_file(file, name, max_pixels)
    if hasattr(source, "read"):
        name = name or os.path.basename(str(getattr(source, "name", "photo")))
        source = source.read()
    name = name or "photo"
    if not isinstance(source, (bytes, bytearray, memoryview)):
        raise PhotoError(f"{name}: {type(source).__name__} is not a photo; {ACCEPTED}, a PIL image or an array")
    return _from_file(io.BytesIO(source), name, max_pixels)


@contextlib.contextmanager
def _pillow(name: str, max_pixels: int) -> Iterator[None]:
    """Run Pillow on hostile input: no warnings, and every exception becomes a PhotoError."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")  # broken metadata; sizes are checked here
            yield
    except PhotoError:
        raise
    except Image.UnidentifiedImageError as error:
        raise PhotoError(f"{name}: is not a photo; {ACCEPTED}") from error
    except Image.DecompressionBombError as error:
        raise PhotoError(f"{name}: has too many pixels; {_limits(max_pixels)}") from error
    except MemoryError as error:
        raise PhotoError(f"{name}: does not fit into memory; {_limits(max_pixels)}") from error
    except Exception as error:  # a damaged file makes Pillow raise nearly anything
        raise PhotoError(f"{name}: is damaged or cut short; {ACCEPTED}, complete") from error


def _limits(max_pixels: int) -> str:
    return f"{ACCEPTED} of at most {max_pixels / 1e6:g} megapixels"


def _check_size(width: int, height: int, name: str, max_pixels: int) -> None:
    if not 0 < width * height <= max_pixels:
        raise PhotoError(f"{name}: has {width} x {height} pixels; {_limits(max_pixels)}")


def _from_file(file: BinaryIO, name: str, max_pixels: int) -> Photo:
    if not file.read(1):
        raise PhotoError(f"{name}: is empty; {ACCEPTED}")
    file.seek(0)
    with _pillow(name, max_pixels), Image.open(file, formats=FORMATS) as image:
        _check_size(image.width, image.height, name, max_pixels)
        return _decode(image, file, name, max_pixels)


def _from_array(array: np.ndarray, name: str, max_pixels: int) -> Photo:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise PhotoError(f"{name}: has shape {array.shape}; accepted: (H, W), (H, W, 3) or (H, W, 4)")
    _check_size(array.shape[1], array.shape[0], name, max_pixels)
    if np.issubdtype(array.dtype, np.floating):
        if not (array.min() >= 0 and array.max() <= 1):  # also catches NaN
            raise PhotoError(f"{name}: has values outside [0, 1]; accepted: float in [0, 1], uint8 or uint16")
        array = np.rint(array.astype(np.float64) * 65535).astype(np.uint16)
    if array.dtype not in (np.uint8, np.uint16):
        raise PhotoError(f"{name}: is an array of {array.dtype}; accepted: float in [0, 1], uint8 or uint16")
    return Photo(*_split(array), name)


def _split(array: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Pixels and alpha, both copies, of a grey, RGB or RGBA array."""
    if array.ndim == 2:
        array = np.repeat(array[:, :, None], 3, axis=2)
    alpha = array[..., 3].copy() if array.shape[2] == 4 else None
    return array[..., :3].copy(), alpha


def _decode(image: Image.Image, file: BinaryIO | None, name: str, max_pixels: int) -> Photo:
    """Pixels and metadata of an opened image; `file` is what it was opened from."""
    format = image.format if image.format in FORMATS else "JPEG" if image.format == "MPO" else "PNG"
    layouts = [str(tile.args) for tile in getattr(image, "tile", [])]
    tags = getattr(image, "tag_v2", {})
    image.load()  # first, as it raises on a file that is cut short; it also turns TIFFs upright
    exif, orientation = _read_exif(image)
    icc = image.info.get("icc_profile")
    if image.mode == "F":
        array, icc = _from_array(np.asarray(image), name, max_pixels).pixels, None
    elif image.mode == "I" or any("I;12" in layout for layout in layouts):
        raise PhotoError(f"{name}: has an unusual number of bits per pixel; {ACCEPTED} of 8 or 16 bits")
    elif image.mode.startswith("I;16"):
        array = _grey16(image, inverted=tags.get(262) == 0)
        icc = _rgb_profile(icc)
    elif format in ("PNG", "TIFF") and image.mode in ("RGB", "RGBA") and any(";16" in layout for layout in layouts):
        array = _colour16(image, file, premultiplied=any("RGBa" in layout for layout in layouts), name=name)
        icc = _rgb_profile(icc)
    else:
        image, icc = _convert(image, icc)
        array = np.asarray(image)
    pixels, alpha = _split(UPRIGHT.get(orientation, np.asarray)(array))
    return Photo(pixels, alpha, name, exif, icc, format)


def _grey16(image: Image.Image, inverted: bool) -> np.ndarray:
    """(H, W) uint16, or (H, W, 4) where one grey level is marked as transparent."""
    grey = np.asarray(image).astype(np.uint16)
    if inverted:  # TIFF's "white is zero", which Pillow inverts at 8 bits only
        grey = 65535 - grey
    if "transparency" not in image.info:
        return grey
    alpha = np.where(grey == image.info["transparency"], 0, 65535).astype(np.uint16)
    return np.stack([grey, grey, grey, alpha], axis=2)


def _colour16(image: Image.Image, file: BinaryIO, premultiplied: bool, name: str) -> np.ndarray:
    """(H, W, 3 or 4) uint16 through OpenCV, as Pillow keeps the high byte of 16-bit colour only."""
    file.seek(0)
    array = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None or array.dtype != np.uint16 or array.shape[:2] != (image.height, image.width) or array.ndim != 3:
        raise PhotoError(f"{name}: this layout of 16-bit pixels cannot be read; {ACCEPTED} of 8 bits")
    array = array[..., [2, 1, 0, 3][: array.shape[2]]]
    if not image.has_transparency_data:  # a fourth channel may also be "unspecified"
        array = array[..., :3]
    elif premultiplied:
        alpha = np.maximum(array[..., 3:], 1)
        array[..., :3] = np.minimum(np.rint(array[..., :3] * (65535 / alpha.astype(np.float64))), 65535)
    return array


def _convert(image: Image.Image, icc: bytes | None) -> tuple[Image.Image, bytes | None]:
    """An 8-bit image as RGB or RGBA, and its profile if that is for RGB. CMYK and grey go through their own."""
    with contextlib.suppress(Exception):  # a profile that is broken or for another colour space is dropped
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        space = profile.profile.xcolor_space.strip()
        if (image.mode, space) in (("CMYK", "CMYK"), ("L", "GRAY")) and not image.has_transparency_data:
            return ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB"), None
    return image.convert("RGBA" if image.has_transparency_data else "RGB"), _rgb_profile(icc)


def _rgb_profile(icc: bytes | None) -> bytes | None:
    """The profile itself if it can be read and is one for RGB."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc)).profile
        return icc if profile.xcolor_space.strip() == "RGB" else None
    except Exception:  # hostile or no input
        return None


def _read_exif(image: Image.Image) -> tuple[bytes | None, int]:
    """EXIF without the orientation, and the orientation; each is dropped if it cannot be read."""
    orientation = 1
    with contextlib.suppress(Exception):  # hostile EXIF makes Pillow raise nearly anything
        exif = image.getexif()
        orientation = exif.get(ORIENTATION, 1)
        orientation = orientation if isinstance(orientation, int) else 1
        for tag in list(exif):
            if tag == ORIENTATION or (image.format == "TIFF" and tag not in DESCRIPTIVE):
                del exif[tag]
        return (exif.tobytes() if len(exif) else None), orientation
    return None, orientation


def save(photo: Photo, path: str | os.PathLike) -> None:
    """Write a photo in the format that the suffix names; the folder is made, and nothing is left half-written.

    PNG and TIFF keep everything: 16 bits, alpha, EXIF and the profile. WebP (quality 95) rounds to 8 bits and keeps the
    rest. JPEG (quality 95, no chroma subsampling) rounds to 8 bits and has no alpha. BMP has pixels only.

    Raises:
        PhotoError: unknown suffix, alpha that is not opaque for a format without alpha, or a photo that the format
            cannot hold (JPEG ends at 65,535 pixels a side, WebP at 16,383).
        OSError: the folder or the disk refuses.
    """
    path = Path(path)
    format = SUFFIXES.get(path.suffix.lower())
    if format in (None, "GIF"):  # a GIF would keep 256 colours of the photo
        raise PhotoError(f"{path.name}: {path.suffix or 'no suffix'} cannot be written; {_writable()}")
    alpha = photo.alpha
    if alpha is not None and format in ("JPEG", "BMP"):
        if (alpha < np.iinfo(alpha.dtype).max).any():
            raise PhotoError(f"{path.name}: {format} cannot keep transparency; accepted: .png, .tif, .tiff, .webp")
        alpha = None
    array = photo.pixels if alpha is None else np.dstack([photo.pixels, alpha])
    if format not in ("PNG", "TIFF"):
        array = to_eight_bits(array)
    try:
        data = _encode(array, format, photo.exif, photo.icc)
    except Exception as error:  # the encoders' own limits
        raise PhotoError(f"{path.name}: cannot be written as {format} ({error}); {_writable()}") from error
    with atomic(path) as temporary:
        temporary.write_bytes(data)


def _writable() -> str:
    return "accepted: " + ", ".join(suffix for suffix, format in SUFFIXES.items() if format != "GIF")


def _encode(array: np.ndarray, format: str, exif: bytes | None, icc: bytes | None) -> bytes:
    if format == "TIFF":
        return _encode_tiff(array, exif, icc)
    if array.dtype == np.uint16:
        return _encode_png16(array, exif, icc)
    options = {
        "PNG": {},
        "JPEG": {"quality": 95, "subsampling": 0},
        "WEBP": {"quality": 95},
        "BMP": {},
    }[format]
    if format != "BMP":
        options |= {key: value for key, value in (("exif", exif), ("icc_profile", icc)) if value}
    file = io.BytesIO()
    Image.fromarray(array).save(file, format, **options)
    return file.getvalue()


def _encode_png16(array: np.ndarray, exif: bytes | None, icc: bytes | None) -> bytes:
    """OpenCV writes the pixels, as Pillow has no 16-bit colour; the metadata goes in behind the header."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    _, data = cv2.imencode(".png", array[..., [2, 1, 0, 3][: array.shape[2]]])
    data = data.tobytes()
    metadata = chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc)) if icc else b""
    metadata += chunk(b"eXIf", exif.removeprefix(b"Exif\0\0")) if exif else b""
    return data[:33] + metadata + data[33:]  # 8 bytes signature, 25 bytes IHDR


def _encode_tiff(array: np.ndarray, exif: bytes | None, icc: bytes | None) -> bytes:
    """One little-endian page, deflated in strips; Pillow has no 16-bit colour and OpenCV no metadata."""
    height, width, channels = array.shape
    rows = 128
    data = [zlib.compress(array[y : y + rows].astype(array.dtype.newbyteorder("<"))) for y in range(0, height, rows)]
    sizes = [len(strip) for strip in data]
    ifd = ImageFileDirectory_v2(prefix=b"II")
    if exif:
        tags = Image.Exif()
        tags.load(exif)
        for tag in DESCRIPTIVE & set(tags):
            ifd[tag] = tags.get_ifd(tag) if tag in (EXIF_IFD, GPS_IFD) else tags[tag]
    ifd[256], ifd[257] = width, height
    ifd[258] = (8 * array.itemsize,) * channels
    ifd[259] = 8  # compression: deflate
    ifd[262] = 2  # photometric: RGB
    ifd[277], ifd[278], ifd[279] = channels, rows, tuple(sizes)
    ifd[273] = tuple(int(offset) for offset in np.cumsum([0] + sizes[:-1]))  # Pillow adds where the data starts
    ifd[284] = 1  # planar configuration: interleaved
    if channels == 4:
        ifd[338] = 2  # extra samples: alpha, not premultiplied
    if icc:
        ifd[34675] = icc
    file = io.BytesIO()
    file.write(b"II" + struct.pack("<HL", 42, 8))
    ifd.save(file)
    file.write(b"".join(data))
    return file.getvalue()


def find(folder: str | os.PathLike) -> list[Path]:
    """Every photo below a folder, by suffix, sorted; hidden files and folders and linked folders are left out.

    Raises:
        PhotoError: there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise PhotoError(f"{folder}: no such folder; accepted: a folder with photos ({', '.join(SUFFIXES)})")
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent, name) for name in files if not name.startswith(".")]
    return sorted(path for path in found if path.suffix.lower() in SUFFIXES)

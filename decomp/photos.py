"""Photos as people have them: the one loader and the one writer behind every entrance.

Convention: pixels are upright, RGB, 8 or 16 bits per channel. Alpha, EXIF and the ICC profile travel beside them.
"""

import contextlib
import ctypes
import hashlib
import io
import os
import re
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

from . import tiffs
from .files import atomic

MAX_PIXELS = 40_000_000
MAX_SCANS = (
    50  # of a progressive JPEG; cameras and programs write 3 to 20, and each costs as much time as a whole photo
)
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "HEIC")
SUFFIXES = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".gif": "GIF",
    ".avif": "AVIF",
    ".heic": "HEIC",
    ".heif": "HEIC",
}
WRITTEN = ("JPEG", "PNG", "WEBP", "TIFF", "BMP")
HEIC_MISSING = "HEIC is read with pillow-heif; install it with: pip install 'decomp[heic]'"
ROWS = 256  # rows that are converted or written at a time, so that a large photo is not held twice
ACCEPTED = f"accepted: {', '.join(FORMATS)}"

ORIENTATION, EXIF_IFD, GPS_IFD, ICC = 0x0112, 0x8769, 0x8825, 0x8773
# How the files begin, for a message that does not call a photo of an unusual layout no photo.
MAGIC = {
    rb"\xff\xd8\xff": "JPEG",
    rb"\x89PNG\r\n": "PNG",
    rb"RIFF....WEBP": "WEBP",
    rb"II[*+]\0|MM\0[*+]": "TIFF",
    rb"BM": "BMP",
    rb"GIF8": "GIF",
    rb"....ftypavi[fs]": "AVIF",
}
MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")  # of a JPEG, but for stuffed bytes, filling and restarts
MAX_SEGMENTS = 10_000  # of a JPEG
# TIFF compressions (fax, JPEG) whose decoders leave memory as it was where a file is damaged, and say nothing.
UNSTEADY = {2, 3, 4, 6, 7}
M_PERTURB = -6  # of glibc's mallopt: fill new memory with this byte
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
    """A file cannot be read as a photo, or a photo cannot be written in the requested format."""


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
    if array.dtype == np.uint8:
        return array
    rounded = np.empty(array.shape, np.uint8)
    for top in range(0, len(array), ROWS):
        rounded[top : top + ROWS] = (array[top : top + ROWS].astype(np.uint32) + 128) // 257
    return rounded


def readable(name: str | os.PathLike) -> str:
    """A file's name for people and for UTF-8 files: what cannot be printed is escaped."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def load(
    source: str | os.PathLike | bytes | BinaryIO | Image.Image | np.ndarray,
    max_pixels: int = MAX_PIXELS,
    name: str | None = None,
) -> Photo:
    """Read a photo.

    JPEG, PNG, WebP, TIFF, BMP, GIF, AVIF and, with pillow-heif, HEIC (of an animation or a multi-page file the first
    picture), turned upright. Grey becomes RGB; 16-bit grey and RGB keep every bit; CMYK becomes 8-bit sRGB through its
    own profile where it has one; AVIF and HEIC are read at 8 bits. Broken EXIF or a broken profile is dropped, the
    photo still loads. A JPEG of more than 50 scans is refused, as each takes as long as a whole photo.

    Args:
        source: a path, the bytes of a file, a binary file object, a PIL image (at the depth PIL opened it with), or an
            array of shape (H, W), (H, W, 3) or (H, W, 4): uint8, uint16, or float in [0, 1], which is kept as uint16.
        max_pixels: width times height above this is refused before anything is decoded.
        name: for messages; default: the file's name.
    Raises:
        PhotoError: `source` is not such a photo.
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
        name = readable(name or path.name or path)
        try:
            if path.is_dir():
                raise PhotoError(f"{name}: is a folder, not a photo; {ACCEPTED}")
            if not path.is_file():  # a pipe or a device would block or never end
                raise PhotoError(f"{name}: {'is no regular file' if path.exists() else 'no such file'}; {ACCEPTED}")
            file = open(path, "rb")
        except OSError as error:
            raise PhotoError(f"{name}: cannot be opened ({error.strerror}); {ACCEPTED}") from error
        with file:
            return _from_file(file, name, max_pixels)
    if hasattr(source, "read"):
        name = name or readable(os.path.basename(str(getattr(source, "name", "photo"))))
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
    except tiffs.Unreadable as error:
        raise PhotoError(f"{name}: TIFF of this layout is not read ({error}); {ACCEPTED} of 8 or 16 bits") from error
    except OSError as error:
        if error.errno:  # the disk's and not the decoder's
            raise PhotoError(f"{name}: cannot be read ({error.strerror}); {ACCEPTED}") from error
        raise PhotoError(f"{name}: is damaged or cut short; {ACCEPTED}, complete") from error
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
    with _pillow(name, max_pixels):
        container = _container(file.read(16), name)
        if container == "JPEG":
            file.seek(0)
            _check_scans(file.read(), name)
        file.seek(0)
        try:
            image = Image.open(file, formats=["AVIF", "HEIF"] if container == "HEIC" else [container])
        except Image.UnidentifiedImageError:
            if container == "TIFF":
                return _tiff(file, name, max_pixels)
            raise PhotoError(f"{name}: is damaged, or {container} of a layout that is not read; {ACCEPTED}") from None
        with image:
            _check_size(image.width, image.height, name, max_pixels)
            return _decode(image, file, name, max_pixels)


def _container(head: bytes, name: str) -> str:
    """The format that a file's first 16 bytes announce."""
    if not head:
        raise PhotoError(f"{name}: is empty; {ACCEPTED}")
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"):
        try:
            import pillow_heif
        except ImportError:
            if head[8:12] in (b"mif1", b"msf1"):  # which may also be AVIF
                return "AVIF"
            raise PhotoError(f"{name}: {HEIC_MISSING}") from None
        pillow_heif.register_heif_opener(thumbnails=False)
        return "HEIC"
    for magic, format in MAGIC.items():
        if re.match(magic, head, re.DOTALL):
            return format
    raise PhotoError(f"{name}: is not a photo; {ACCEPTED}")


def _check_scans(data: bytes, name: str) -> None:
    """Count the SOS markers of a JPEG, but not those of a thumbnail inside a segment or of what follows the end."""
    at, scans = 2, 0
    for _ in range(MAX_SEGMENTS):
        marker = MARKER.search(data, at)
        if not marker or marker[1] == b"\xd9":  # end of image
            return
        at = marker.end()
        if marker[1] != b"\x01":  # this one has no length
            at += max(2, int.from_bytes(data[at : at + 2], "big"))
        scans += marker[1] == b"\xda"
        if scans > MAX_SCANS:
            raise PhotoError(f"{name}: is a progressive JPEG of more than {MAX_SCANS} scans; {ACCEPTED} of fewer")
    raise PhotoError(f"{name}: has more than {MAX_SEGMENTS} segments; {ACCEPTED} of fewer")


def _tiff(file: BinaryIO, name: str, max_pixels: int) -> Photo:
    """A TIFF that Pillow does not open: float, 16-bit grey with alpha, big-endian BigTIFF. Its EXIF is not kept."""
    page = tiffs.first_page(file)
    _check_size(page.imagewidth, page.imagelength, name, max_pixels)
    tag = lambda number: page.tags.valueof(number)
    array = _from_tiff(page, name, max_pixels)
    pixels, alpha = _split(UPRIGHT.get(tag(ORIENTATION), np.asarray)(array))
    return Photo(pixels, alpha, name, None, _rgb_profile(tag(ICC)), "TIFF")


def _from_tiff(page: tiffs.tifffile.TiffPage, name: str, max_pixels: int) -> np.ndarray:
    """(H, W), (H, W, 3) or (H, W, 4), uint8 or uint16, through tifffile."""
    array, premultiplied = tiffs.read(page)
    array = _integers(array, name)
    if page.photometric == 0:
        array = np.iinfo(array.dtype).max - array
    return _divided(array) if premultiplied else array


def _from_array(array: np.ndarray, name: str, max_pixels: int) -> Photo:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise PhotoError(f"{name}: has shape {array.shape}; accepted: (H, W), (H, W, 3) or (H, W, 4)")
    _check_size(array.shape[1], array.shape[0], name, max_pixels)
    return Photo(*_split(_integers(array, name)), name)


def _integers(array: np.ndarray, name: str) -> np.ndarray:
    """uint8 and uint16 as they are, float in [0, 1] as uint16."""
    if array.dtype in (np.uint8, np.uint16):
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise PhotoError(f"{name}: is an array of {array.dtype}; accepted: float in [0, 1], uint8 or uint16")
    if not (array.min() >= 0 and array.max() <= 1):  # also catches NaN
        raise PhotoError(f"{name}: has values outside [0, 1]; accepted: float in [0, 1], uint8 or uint16")
    whole = np.empty(array.shape, np.uint16)
    for top in range(0, len(array), ROWS):
        whole[top : top + ROWS] = np.rint(array[top : top + ROWS].astype(np.float64) * 65535)
    return whole


def _split(array: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Pixels and alpha, both copies, of a grey, RGB or RGBA array."""
    if array.ndim == 2:
        array = np.repeat(array[:, :, None], 3, axis=2)
    alpha = array[..., 3].copy() if array.shape[2] == 4 else None
    return array[..., :3].copy(), alpha


def _decode(image: Image.Image, file: BinaryIO | None, name: str, max_pixels: int) -> Photo:
    """Pixels and metadata of an opened image; `file` is what it was opened from."""
    named = {"MPO": "JPEG", "HEIF": "HEIC"}.get(image.format, image.format)
    format = named if named in FORMATS else "PNG"
    layouts = [str(tile.args) for tile in getattr(image, "tile", [])]
    tags = getattr(image, "tag_v2", {})
    planes = format == "TIFF" and tags.get(284) == tiffs.SEPARATE and max(np.ravel(tags.get(258, 8))) > 8
    inverted = tags.get(262) == 0
    stored_orientation = tags.get(ORIENTATION, 1)
    if file and format == "TIFF" and tags.get(259) in UNSTEADY:
        _check_steady(file, name)
        file.seek(0)
    image.load()  # first, as it raises on a file that is cut short; it also turns TIFFs upright
    exif, orientation = _read_exif(image)
    icc = image.info.get("icc_profile")
    if planes:  # which Pillow and OpenCV take for interleaved
        if not file:
            raise PhotoError(
                f"{name}: is a PIL image of separate 16-bit planes, which PIL reads wrongly; give its file"
            )
        Image.Image.close(image)  # frees its pixels
        array, icc = _from_tiff(tiffs.first_page(file), name, max_pixels), _rgb_profile(icc)
        orientation = stored_orientation
    elif image.mode == "F":
        array, icc = _integers(np.asarray(image), name), None
    elif image.mode == "I" or any("I;12" in layout for layout in layouts):
        raise PhotoError(f"{name}: has an unusual number of bits per pixel; {ACCEPTED} of 8 or 16 bits")
    elif image.mode.startswith("I;16"):
        array = _grey16(image, inverted)
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
    shape, transparent = (image.height, image.width), image.has_transparency_data
    Image.Image.close(image)  # frees its pixels
    file.seek(0)
    array = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None or array.dtype != np.uint16 or array.shape[:2] != shape or array.ndim != 3:
        raise PhotoError(f"{name}: this layout of 16-bit pixels cannot be read; {ACCEPTED} of 8 bits")
    for top in range(0, len(array), ROWS):
        array[top : top + ROWS, :, :3] = array[top : top + ROWS, :, 2::-1].copy()
    if not transparent:  # a fourth channel may also be "unspecified"
        array = array[..., :3]
    return _divided(array) if transparent and premultiplied else array


def _divided(array: np.ndarray) -> np.ndarray:
    """(H, W, 4) with colours that were multiplied by alpha, divided by it, in place."""
    white = np.iinfo(array.dtype).max
    for top in range(0, len(array), ROWS):
        rows = array[top : top + ROWS]
        rows[..., :3] = np.minimum(
            np.rint(rows[..., :3] * (white / np.maximum(rows[..., 3:], 1).astype(np.float64))), white
        )
    return array


def _check_steady(file: BinaryIO, name: str) -> None:
    """Decode twice over memory of different content: a damaged file shows the memory, so that no two loads agree."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None  # glibc has one
    digests = set()
    try:
        for byte in (0x55, 0xAA):
            if mallopt:
                mallopt(M_PERTURB, byte)
            file.seek(0)
            with Image.open(file, formats=["TIFF"]) as again:
                digests.add(hashlib.blake2b(again.tobytes()).digest())
    finally:
        if mallopt:
            mallopt(M_PERTURB, 0)
    if len(digests) > 1:
        raise PhotoError(f"{name}: is damaged, every reading of it differs; {ACCEPTED}, complete")


def _convert(image: Image.Image, icc: bytes | None) -> tuple[Image.Image, bytes | None]:
    """An 8-bit image as RGB or RGBA, and its profile if that is for RGB. CMYK and grey go through their own."""
    with contextlib.suppress(Exception):  # a profile that is broken or for another colour space is dropped
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        space = profile.profile.xcolor_space.strip()
        if (image.mode, space) in (("CMYK", "CMYK"), ("L", "GRAY")) and not image.has_transparency_data:
            return ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB"), None  # type: ignore[return-value]
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


def check_writable(path: str | os.PathLike) -> str:
    """The format that a path's suffix names.

    Raises:
        PhotoError: decomp does not write it.
    """
    format = SUFFIXES.get(Path(path).suffix.lower())
    if format not in WRITTEN:  # a GIF would keep 256 colours of the photo
        suffix = readable(Path(path).suffix) or "no suffix"
        raise PhotoError(f"{readable(Path(path).name)}: {suffix} cannot be written; {_writable()}")
    return format


def save(photo: Photo, path: str | os.PathLike) -> None:
    """Write a photo in the format that the suffix names; the folder is made, and nothing is left half-written.

    PNG and TIFF keep everything: 16 bits, alpha, EXIF and the profile. WebP (quality 95) rounds to 8 bits and keeps the
    rest. JPEG (quality 95, no chroma subsampling) rounds to 8 bits and has no alpha. BMP has pixels only.

    Raises:
        PhotoError: unknown suffix.
        PhotoError: alpha that is not opaque, for a format without alpha.
        PhotoError: too large for the format (JPEG: 65,535 pixels a side, WebP: 16,383).
        OSError: the file cannot be written.
    """
    path, format = Path(path), check_writable(path)
    name, alpha = readable(path.name), photo.alpha
    if alpha is not None and format in ("JPEG", "BMP"):
        if (alpha < np.iinfo(alpha.dtype).max).any():
            raise PhotoError(f"{name}: {format} cannot keep transparency; accepted: .png, .tif, .tiff, .webp")
        alpha = None
    pixels = photo.pixels
    if format not in ("PNG", "TIFF"):
        pixels, alpha = to_eight_bits(pixels), None if alpha is None else to_eight_bits(alpha)
    with atomic(path) as temporary, open(temporary, "wb") as file:
        try:
            _encode(file, pixels, alpha, format, photo.exif, photo.icc)
        except Exception as error:  # the encoders' own limits
            if isinstance(error, OSError) and error.errno:
                raise
            raise PhotoError(f"{name}: cannot be written as {format} ({error}); {_writable()}") from error


def _writable() -> str:
    return "accepted: " + ", ".join(suffix for suffix, format in SUFFIXES.items() if format in WRITTEN)


def _encode(
    file: BinaryIO, pixels: np.ndarray, alpha: np.ndarray | None, format: str, exif: bytes | None, icc: bytes | None
) -> None:
    if format == "TIFF":
        return _encode_tiff(file, pixels, alpha, exif, icc)
    if pixels.dtype == np.uint16:
        return _encode_png16(file, pixels, alpha, exif, icc)
    options: dict = {
        "PNG": {},
        "JPEG": {"quality": 95, "subsampling": 0},
        "WEBP": {"quality": 95},
        "BMP": {},
    }[format]
    if format != "BMP":
        options |= {key: value for key, value in (("exif", exif), ("icc_profile", icc)) if value}
    Image.fromarray(pixels if alpha is None else np.dstack([pixels, alpha])).save(file, format, **options)


def _strips(pixels: np.ndarray, alpha: np.ndarray | None, rows: int) -> Iterator[np.ndarray]:
    """(at most `rows`, W, 3 or 4) at a time."""
    for top in range(0, len(pixels), rows):
        strip = pixels[top : top + rows]
        yield strip if alpha is None else np.dstack([strip, alpha[top : top + rows]])


def _encode_png16(
    file: BinaryIO, pixels: np.ndarray, alpha: np.ndarray | None, exif: bytes | None, icc: bytes | None
) -> None:
    """Pillow has no 16-bit colour, OpenCV no metadata. Rows are stored as differences to the left (filter 1, Sub)."""

    def chunk(kind: bytes, data: bytes) -> None:
        file.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))

    height, width = pixels.shape[:2]
    file.write(b"\x89PNG\r\n\x1a\n")
    chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2 if alpha is None else 6, 0, 0, 0))
    if icc:
        chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc))
    if exif:
        chunk(b"eXIf", exif.removeprefix(b"Exif\0\0"))
    stream = zlib.compressobj(3)
    for strip in _strips(pixels, alpha, ROWS):
        across = 2 * strip.shape[2]  # bytes from one pixel to the next
        raw = np.ascontiguousarray(strip, ">u2").view(np.uint8).reshape(len(strip), -1)
        rows = np.empty((len(raw), raw.shape[1] + 1), np.uint8)
        rows[:, 0] = 1
        rows[:, 1 : across + 1] = raw[:, :across]
        rows[:, across + 1 :] = raw[:, across:] - raw[:, :-across]  # modulo 256
        chunk(b"IDAT", stream.compress(rows))
    chunk(b"IDAT", stream.flush())
    chunk(b"IEND", b"")


def _encode_tiff(
    file: BinaryIO, pixels: np.ndarray, alpha: np.ndarray | None, exif: bytes | None, icc: bytes | None
) -> None:
    """One little-endian page, deflated in strips; Pillow has no 16-bit colour and OpenCV no metadata."""
    height, width = pixels.shape[:2]
    channels, rows = 3 if alpha is None else 4, 128
    little = pixels.dtype.newbyteorder("<")
    data = [zlib.compress(np.ascontiguousarray(strip, little)) for strip in _strips(pixels, alpha, rows)]
    sizes = [len(strip) for strip in data]
    ifd = ImageFileDirectory_v2(prefix=b"II")
    if exif:
        tags = Image.Exif()
        tags.load(exif)
        for tag in DESCRIPTIVE & set(tags):
            ifd[tag] = tags.get_ifd(tag) if tag in (EXIF_IFD, GPS_IFD) else tags[tag]
    ifd[256], ifd[257] = width, height
    ifd[258] = (8 * pixels.itemsize,) * channels
    ifd[259] = 8  # compression: deflate
    ifd[262] = 2  # photometric: RGB
    ifd[277], ifd[278], ifd[279] = channels, rows, tuple(sizes)
    ifd[273] = tuple(int(offset) for offset in np.cumsum([0, *sizes[:-1]]))  # Pillow adds where the data starts
    ifd[284] = 1  # planar configuration: interleaved
    if channels == 4:
        ifd[338] = 2  # extra samples: alpha, not premultiplied
    if icc:
        ifd[34675] = icc
    file.write(b"II" + struct.pack("<HL", 42, 8))
    ifd.save(file)
    file.writelines(data)


def find(folder: str | os.PathLike) -> list[Path]:
    """Every photo below a folder, by suffix, sorted; hidden files and folders and linked folders are left out.

    Raises:
        PhotoError: there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise PhotoError(f"{folder}: no such folder; accepted: a folder with photos ({', '.join(SUFFIXES)})")
    paths = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths += [Path(parent, name) for name in files if not name.startswith(".")]
    return sorted(path for path in paths if path.suffix.lower() in SUFFIXES)

"""Files that were made to be misread. Every one of them is made here; none lies in the repository."""

import io
import os
import struct
import subprocess
import sys
import time
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import tifffile
from PIL import Image

from decomp import photos
from decomp.photos import PhotoError, load

CAT = skimage.data.cat()[:120, :160]
DEEP = np.random.default_rng(0).integers(0, 65536, (40, 50, 4), dtype=np.uint16)
PLANES = {"photometric": "rgb", "planarconfig": "separate"}


def encode(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def tiff(array, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


def refusal(data, name="photo"):
    with pytest.raises(PhotoError) as error:
        load(data, name=name)
    message = str(error.value)
    assert message.startswith(f"{name}: ") and "\n" not in message
    return message


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_planes_of_16_bits_are_read_right(compression, tile):
    """Pillow and OpenCV take them for interleaved; the picture is shuffled then, or differs from load to load."""
    planes = np.moveaxis(DEEP[..., :3], 2, 0)
    photo = load(tiff(planes, **PLANES, compression=compression, tile=tile))
    assert (photo.pixels == DEEP[..., :3]).all() and photo.alpha is None
    photo = load(tiff(np.moveaxis(DEEP, 2, 0), **PLANES, compression=compression, extrasamples=["unassalpha"]))
    assert (photo.pixels == DEEP[..., :3]).all() and (photo.alpha == DEEP[..., 3]).all()


def test_planes_in_a_compression_that_is_not_read():
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(np.moveaxis(DEEP[..., :3], 2, 0), **PLANES, compression="zlib")
    data = bytearray(file.getvalue())
    at = data.index(struct.pack("<HHI", 259, 3, 1))  # the compression's tag
    data[at + 8 : at + 10] = struct.pack("<H", 32773)
    assert "not read (3 x 16 bits unsigned" in refusal(bytes(data)) or "damaged" in refusal(bytes(data))


def test_unusual_layouts_of_tiff_are_read_or_named():
    colour = DEEP[..., :3]
    for options in ({"bigtiff": True, "byteorder": ">"}, {"bigtiff": True}, {"byteorder": ">"}):
        assert (load(tiff(colour, photometric="rgb", **options)).pixels == colour).all()
    for kind in (np.float32, np.float64):
        assert (load(tiff((colour / 65535).astype(kind), photometric="rgb")).pixels == colour).all()
    grey = load(tiff(DEEP[..., [0, 3]], photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"]))
    assert (grey.pixels == DEEP[..., :1]).all() and (grey.alpha == DEEP[..., 3]).all()
    five = np.dstack([DEEP, DEEP[..., 0]])
    five = tiff(five, photometric="rgb", planarconfig="contig", extrasamples=["unassalpha", "unspecified"])
    assert "5 x 16 bits unsigned, rgb" in refusal(five)
    assert "3 x 32 bits unsigned" in refusal(tiff(colour.astype(np.uint32), photometric="rgb"))
    assert "outside [0, 1]" in refusal(tiff(colour.astype(np.float32), photometric="rgb"))
    turned = tiff(colour, photometric="rgb", bigtiff=True, byteorder=">", extratags=[(274, 3, 1, 6, True)])
    assert (load(turned).pixels == np.rot90(colour, -1)).all()


def test_a_strip_that_unpacks_to_gigabytes_is_refused():
    data = tiff(np.zeros((3, 40, 50), np.uint16), **PLANES, compression="zlib")
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        offset, count = file.pages[0].dataoffsets[0], file.pages[0].databytecounts[0]
    bomb = zlib.compress(bytes(50_000_000))
    patched = data.replace(struct.pack("<I", count), struct.pack("<I", len(bomb)), 1)
    patched = patched.replace(struct.pack("<I", offset), struct.pack("<I", len(patched)), 1) + bomb
    tracemalloc.start()
    refusal(patched)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5e6


@pytest.mark.parametrize("compression", ["group3", "group4", "jpeg"])
def test_a_damaged_fax_or_jpeg_tiff_is_the_same_at_every_reading_or_refused(compression):
    """Their decoders skip what they can't read and leave the memory there as it was."""
    image = Image.fromarray(CAT)
    data = encode(image if compression == "jpeg" else image.convert("1"), "TIFF", compression=compression)
    rng = np.random.default_rng(3)
    refused = 0
    for _ in range(40):
        damaged = bytearray(data)
        for at in rng.integers(8, len(data), 4):
            damaged[at] ^= 1 << rng.integers(8)
        readings = set()
        for fill in (b"\x11", b"\xee"):
            leftovers = [fill * n for n in (1000, 20_000, 60_000)]  # freed memory of another content
            del leftovers
            try:
                readings.add(load(bytes(damaged)).pixels.tobytes())
            except PhotoError:
                readings.add(None)
        assert len(readings) == 1
        refused += None in readings
    assert refused > 0 or compression != "group4"


def scans_of(data, count):
    """A progressive JPEG whose last scan is repeated."""
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * count + b"\xff\xd9"


def test_a_jpeg_of_many_scans_is_refused_at_once():
    data = encode(Image.new("RGB", (6000, 6000)), "JPEG", progressive=True)
    started = time.perf_counter()
    assert "more than 50 scans" in refusal(scans_of(data, 500))
    assert time.perf_counter() - started < 0.5
    small = encode(Image.fromarray(CAT), "JPEG", progressive=True)
    assert load(scans_of(small, 30)).pixels.shape == CAT.shape


def test_scans_of_thumbnails_and_of_what_follows_the_photo_are_not_counted():
    thumbnail = encode(Image.fromarray(CAT[::4, ::4]), "JPEG", progressive=True)
    segments = b"".join(b"\xff\xe5" + struct.pack(">H", len(thumbnail) + 2) + thumbnail for _ in range(20))
    plain = encode(Image.fromarray(CAT), "JPEG")
    film = thumbnail * 200
    assert load(plain[:2] + segments + plain[2:] + film).pixels.shape == CAT.shape


def test_a_jpeg_of_endless_segments_is_refused_at_once():
    data = b"\xff\xd8" + b"\xff\xe5\x00\x02" * 2_000_000 + b"\xff\xd9"
    started = time.perf_counter()
    assert "segments" in refusal(data)
    assert time.perf_counter() - started < 0.5


def test_heic_and_avif():
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    exif = Image.Exif()
    exif[271] = "Maker"
    exif[photos.ORIENTATION] = 6
    for format, name in (("HEIF", "HEIC"), ("AVIF", "AVIF")):
        image = Image.fromarray(CAT)
        image.info["exif"] = exif.tobytes()
        photo = load(encode(image, format, quality=95, **({"exif": exif} if format == "AVIF" else {})))
        assert photo.format == name and photo.pixels.shape == (160, 120, 3)
        assert np.abs(photo.pixels.astype(int) - np.rot90(CAT, -1)).mean() < 4
        kept = Image.Exif()
        kept.load(photo.exif)
        assert kept[271] == "Maker" and photos.ORIENTATION not in kept
    data = encode(Image.fromarray(CAT), "HEIF")
    for cut in (20, len(data) // 2, len(data) - 10):
        refusal(data[:cut])


def test_heic_without_its_library_is_named_and_never_skipped(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    head = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    assert "pip install 'decomp[heic]'" in refusal(head)
    (tmp_path / "IMG_1.HEIC").write_bytes(head)
    assert photos.find(tmp_path) == [tmp_path / "IMG_1.HEIC"]


def test_containers_of_layouts_that_are_not_read_are_not_called_no_photo():
    for data in (
        b"\xff\xd8\xff\xe0",
        b"\x89PNG\r\n\x1a\n",
        b"II*\0",
        b"II+\0",
        b"MM\0+",
        b"BM",
        b"GIF89a",
        b"RIFF\0\0\0\0WEBP",
    ):
        assert "is not a photo" not in refusal(data + b"\0" * 40)
    assert "is not a photo" in refusal(b"%PDF-1.4")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused_without_opening_it(tmp_path):
    os.mkfifo(tmp_path / "cat.png")
    with pytest.raises(PhotoError, match=r"cat\.png: is no regular file"):
        load(tmp_path / "cat.png")


@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="names are UTF-8 there")
def test_names_that_are_no_text(tmp_path):
    for name in (b"caf\xe9.png", b"two\nlines.png", "ü".encode() * 120 + b".png"):
        path = Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name)))
        path.write_bytes(encode(Image.fromarray(CAT), "PNG"))
        photo = load(path)
        assert photo.name.isprintable() and photo.name.encode()
        path.write_bytes(b"no photo")
        with pytest.raises(PhotoError) as error:
            load(path)
        assert str(error.value).isprintable() and str(error.value).encode()
    with pytest.raises(PhotoError, match=r"cannot be opened \(File name too long\)"):
        load(tmp_path / ("x" * 300))


def damaged(data, rng):
    """Bits flipped, a piece cut out, doubled or filled, or the end cut off."""
    data = bytearray(data)
    for at in rng.integers(0, len(data), rng.integers(1, 12)):
        data[at] ^= 1 << rng.integers(8)
    start = int(rng.integers(0, len(data)))
    piece = slice(start, start + int(rng.integers(1, 64)))
    match rng.integers(5):
        case 0:
            del data[piece]
        case 1:
            data[piece] = data[piece] * 2
        case 2:
            data[piece] = bytes([rng.choice([0, 255])]) * len(data[piece])
        case 3:
            del data[start:]
    return bytes(data)


def samples():
    image, small = Image.fromarray(CAT), Image.fromarray(CAT[:32, :32])
    made = {f: encode(image, f) for f in ("JPEG", "PNG", "WEBP", "BMP", "GIF", "AVIF")}
    made["progressive"] = encode(image, "JPEG", progressive=True)
    made["cmyk"] = encode(image.convert("CMYK"), "JPEG")
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        made[f"tiff {compression}"] = encode(image, "TIFF", compression=compression)
    for compression in ("group3", "group4"):
        made[f"tiff {compression}"] = encode(image.convert("1"), "TIFF", compression=compression)
    made["planes"] = tiff(np.moveaxis(DEEP[..., :3], 2, 0), **PLANES, compression="zlib")
    made["big"] = tiff(DEEP[..., :3], photometric="rgb", bigtiff=True, byteorder=">")
    made["float"] = tiff((DEEP[..., :3] / 65535).astype(np.float32), photometric="rgb", compression="zlib")
    try:
        import pillow_heif
    except ImportError:
        return made
    pillow_heif.register_heif_opener()
    return made | {"heic": encode(small, "HEIF")}


FUZZ = """
import pathlib, sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from test_files import damaged, samples
from decomp import photos
name, count = sys.argv[2], int(sys.argv[3])
data, rng = samples()[name], np.random.default_rng(abs(hash(name)) % 2**32 if count > 1000 else 7)
accepted = 0
for i in range(count):
    hostile = damaged(data, rng)
    pathlib.Path(sys.argv[4]).write_bytes(hostile)  # what a crash leaves behind
    try:
        accepted += photos.load(hostile, max_pixels=2_000_000).pixels.size > 0
    except photos.PhotoError as error:
        assert chr(10) not in str(error)
print(accepted)
"""


@pytest.mark.slow
@pytest.mark.slow
@pytest.mark.parametrize("name", samples())
def test_damaged_files_are_read_or_refused(name, tmp_path):
    """In a process of its own, as a decoder may crash; DECOMP_FUZZ sets how many files of each kind."""
    count = os.environ.get("DECOMP_FUZZ", "60")
    command = [sys.executable, "-c", FUZZ, str(Path(__file__).parent), name, count, str(tmp_path / "last")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60 + int(count))
    assert run.returncode == 0, run.stderr[-2000:]
    assert 0 <= int(run.stdout) <= int(count)

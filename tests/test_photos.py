"""The loader and the writer, on real photos and on hostile files."""

import io
import struct
import subprocess
import sys
import time
import zlib

import cv2
import numpy as np
import pytest
import skimage.data
from PIL import Image, ImageCms, JpegImagePlugin

from decomp import photos
from decomp.files import atomic
from decomp.photos import PhotoError, find, load, save

CAT = skimage.data.cat()[:200, :300]  # (H, W, 3), not square
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
DEEP = np.random.default_rng(0).integers(0, 65536, (40, 50, 4), dtype=np.uint16)  # 16 bits, every low byte matters


def encode(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(array, colour, *chunks, size=None):
    """A hand-written PNG of 16 bits per channel."""
    width, height = size or (array.shape[1], array.shape[0])
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    body = chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def tiff16(array, **tags):
    """An uncompressed little-endian TIFF, one strip; tags by number as t262=..."""
    height, width = array.shape[:2]
    channels = 1 if array.ndim == 2 else array.shape[2]
    values = {256: width, 257: height, 258: 16, 259: 1, 262: 1 if channels == 1 else 2, 273: 8, 277: channels}
    values |= {278: height, 279: array.nbytes, 284: 1} | {int(key[1:]): value for key, value in tags.items()}
    data = array.astype("<u2").tobytes()
    bits = 8 + len(data)
    extra = struct.pack(f"<{channels}H", *[16] * channels) if channels > 2 else b""
    entries = b""
    for tag, value in sorted(values.items()):
        count, value = (channels, bits) if tag == 258 and extra else (1, value)
        kind = 4 if tag in (273, 279) else 3
        wide = kind == 4 or count > 1
        entries += struct.pack("<HHI", tag, kind, count)
        entries += struct.pack("<I", value) if wide else struct.pack("<HH", value, 0)
    ifd = struct.pack("<H", len(values)) + entries + b"\0\0\0\0"
    return b"II" + struct.pack("<HI", 42, bits + len(extra)) + data + extra + ifd


def oriented(number):
    """The stored array whose upright version, by the EXIF standard, is CAT."""
    turn = Image.Transpose
    inverse = [
        None,
        turn.FLIP_LEFT_RIGHT,
        turn.ROTATE_180,
        turn.FLIP_TOP_BOTTOM,
        turn.TRANSPOSE,
        turn.ROTATE_90,
        turn.TRANSVERSE,
        turn.ROTATE_270,
    ][number - 1]
    exif = Image.Exif()
    exif[photos.ORIENTATION] = number
    exif[271] = "Maker"
    image = Image.fromarray(CAT)
    return image if inverse is None else image.transpose(inverse), exif


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "TIFF", "JPEG", "WEBP"])
def test_orientations(number, format):
    stored, exif = oriented(number)
    options = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}}.get(format, {})
    photo = load(encode(stored, format, exif=exif, **options))
    assert photo.pixels.shape == CAT.shape and photo.format == format
    error = np.abs(photo.pixels.astype(int) - CAT)
    assert error.mean() < 2 if format == "JPEG" else error.max() == 0
    kept = Image.Exif()
    kept.load(photo.exif)
    assert kept[271] == "Maker"
    assert not {photos.ORIENTATION, 256, 273} & set(kept)  # nor a TIFF's layout


@pytest.mark.parametrize("number", range(1, 9))
def test_orientations_of_16_bits(number):
    exif = chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01" + struct.pack(">HHI", number, 0, 0))
    upright = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4))
    deep = np.arange(12, dtype=np.uint16).reshape(3, 4)
    inverse = dict(zip(range(2, 9), [0, 3, 1, 5, 2, 6, 4]))  # PIL's numbers of the transposes above
    stored = np.asarray(upright.transpose(inverse[number]) if number > 1 else upright).astype(np.uint16)
    colour = np.stack([stored * 5001, stored + 7, stored], axis=2)
    expected = np.stack([deep * 5001, deep + 7, deep], axis=2)
    assert (load(png(colour, 2, exif)).pixels == expected).all()
    assert (load(tiff16(colour, t274=number)).pixels == expected).all()
    assert (load(png(stored * 5001, 0, exif)).pixels[..., 0] == expected[..., 0]).all()
    assert (load(tiff16(stored * 5001, t274=number)).pixels[..., 0] == expected[..., 0]).all()


def test_16_bits_are_exact():
    for data in (png(DEEP[..., 0], 0), tiff16(DEEP[..., 0]), tiff16(65535 - DEEP[..., 0], t262=0)):
        photo = load(data)
        assert photo.pixels.dtype == np.uint16 and (photo.pixels == DEEP[..., :1]).all() and photo.alpha is None
    for data in (png(DEEP[..., :3], 2), tiff16(DEEP[..., :3])):
        photo = load(data)
        assert photo.pixels.dtype == np.uint16 and (photo.pixels == DEEP[..., :3]).all() and photo.alpha is None
    for data in (png(DEEP, 6), tiff16(DEEP, t338=2)):
        photo = load(data)
        assert (photo.pixels == DEEP[..., :3]).all() and (photo.alpha == DEEP[..., 3]).all()
    photo = load(png(DEEP[..., 2:], 4))  # grey and alpha
    assert (photo.pixels == DEEP[..., 2:3]).all() and (photo.alpha == DEEP[..., 3]).all()
    assert load(tiff16(DEEP, t338=0)).alpha is None  # a fourth channel that is not alpha


def test_16_bits_transparent_level_and_premultiplied():
    photo = load(png(DEEP[..., 0], 0, chunk(b"tRNS", struct.pack(">H", DEEP[3, 4, 0]))))
    assert (photo.pixels == DEEP[..., :1]).all() and ((photo.alpha == 0) == (DEEP[..., 0] == DEEP[3, 4, 0])).all()
    photo = load(png(DEEP[..., :3], 2, chunk(b"tRNS", DEEP[3, 4, :3].astype(">u2").tobytes())))
    assert (photo.pixels == DEEP[..., :3]).all() and photo.alpha[3, 4] == 0 and (photo.alpha == 0).sum() == 1
    half = np.full((2, 2, 4), (10000, 20000, 30000, 32768), np.uint16)
    photo = load(tiff16(half, t338=1))
    assert np.abs(photo.pixels[0, 0].astype(int) - (20000, 40000, 59999)).max() <= 1


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk(format):
    """JPEG holds CMYK inverted, as Adobe writes it; the colours come out right nevertheless."""
    photo = load(encode(Image.fromarray(CAT).convert("CMYK"), format))
    assert np.abs(photo.pixels.astype(int) - CAT).mean() < 4


def icc_profile(kind, space, connection, **tags):
    """A hand-written ICC profile; `space` and `connection` are its two colour spaces."""
    tags = {"wtpt": b"XYZ \0\0\0\0" + struct.pack(">III", 63190, 65536, 54061)} | tags  # D50
    offset = 128 + 4 + 12 * len(tags)
    table, data = struct.pack(">I", len(tags)), b""
    for name, value in tags.items():
        table += name.encode() + struct.pack(">II", offset + len(data), len(value))
        data += value.ljust(-(-len(value) // 4) * 4, b"\0")
    size = offset + len(data)
    header = struct.pack(">I4sI4s4s4s12x4s", size, b"lcms", 0x02400000, kind, space, connection, b"acsp")
    header += bytes(28) + struct.pack(">III", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + table + data


def linear_grey_profile():
    return icc_profile(b"mntr", b"GRAY", b"XYZ ", kTRC=b"curv\0\0\0\0" + struct.pack(">I", 0))


def black_ink_profile():
    """CMYK of a printer that has no colours: L* = 100 (1 - K)."""
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + struct.pack(">9i", *(65536 * np.eye(3, dtype=int)).ravel())
    table += bytes(range(256)) * 4 + bytes([255, 128, 128, 0, 128, 128]) * 8 + bytes(range(256)) * 3
    return icc_profile(b"prtr", b"CMYK", b"Lab ", A2B0=table)


def test_profiles():
    """Grey and CMYK go through their own profile; a broken one, or one for another colour space, is dropped."""
    grey = Image.fromarray(CAT).convert("L")
    photo = load(encode(grey, "PNG", icc_profile=linear_grey_profile()))
    linear = np.asarray(grey) / 255
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert photo.icc is None and np.abs(photo.rgb[..., 0] - srgb).mean() < 0.005
    inks = Image.fromarray(np.array([[[255, 0, 99, 0], [0, 0, 0, 255]]], np.uint8), "CMYK")
    photo = load(encode(inks, "TIFF", icc_profile=black_ink_profile()))
    assert photo.icc is None and np.abs(photo.pixels.astype(int) - [[[255] * 3, [0] * 3]]).max() < 3
    assert load(encode(Image.fromarray(CAT), "PNG", icc_profile=linear_grey_profile())).icc is None
    assert load(encode(grey, "PNG", icc_profile=SRGB)).icc == SRGB
    assert load(encode(grey, "PNG", icc_profile=b"no profile" * 30)).icc is None
    assert load(encode(grey.convert("CMYK"), "JPEG", icc_profile=SRGB)).icc == SRGB


def test_modes():
    image = Image.fromarray(CAT)
    alpha = np.tile(np.arange(300, dtype=np.uint8), (200, 1))
    image.putalpha(Image.fromarray(alpha))
    for data in (encode(image, "PNG"), encode(image, "TIFF"), encode(image, "WEBP", lossless=True, exact=True)):
        photo = load(data)
        assert (photo.pixels == CAT).all() and (photo.alpha == alpha).all()
    photo = load(encode(image.convert("LA"), "PNG"))
    assert (photo.pixels == np.asarray(image.convert("L"))[..., None]).all() and (photo.alpha == alpha).all()
    stamp = Image.fromarray(np.arange(4, dtype=np.uint8).reshape(2, 2), "P")
    stamp.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    photo = load(encode(stamp, "PNG", transparency=2))
    assert photo.alpha.tolist() == [[255, 255], [0, 255]]
    assert photo.pixels[[0, 0, 1], [0, 1, 1]].tolist() == [[0, 0, 0], [255, 0, 0], [0, 0, 255]]
    bits = Image.fromarray(CAT[..., 0] > 128)
    assert (load(encode(bits, "TIFF")).pixels[..., 0] == (CAT[..., 0] > 128) * 255).all()
    assert (load(encode(Image.fromarray(CAT), "BMP")).pixels == CAT).all()
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    assert load(encode(frames[0], "GIF", save_all=True, append_images=frames[1:])).pixels[0, 0].tolist() == [255, 0, 0]
    photo = load(encode(frames[0], "MPO", save_all=True, append_images=frames[1:]))  # what telephones call JPEG
    assert photo.format == "JPEG" and photo.pixels[0, 0, 0] > 250 and photo.pixels[0, 0, 2] < 5


def test_float_and_integer_tiff():
    values = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    photo = load(encode(Image.fromarray(values), "TIFF"))
    assert photo.pixels.dtype == np.uint16 and np.abs(photo.rgb[..., 0] - values).max() < 1e-5
    with pytest.raises(PhotoError, match="outside"):
        load(encode(Image.fromarray(values * 255), "TIFF"))
    with pytest.raises(PhotoError, match="bits"):
        load(encode(Image.fromarray(np.arange(12, dtype=np.int32).reshape(3, 4)), "TIFF"))


def test_sources(tmp_path):
    data = encode(Image.fromarray(CAT), "PNG")
    path = tmp_path / "Cät 1.png"
    path.write_bytes(data)
    with open(path, "rb") as file:
        from_file = load(file)
    for photo in (load(path), load(str(path)), load(data), from_file, load(Image.fromarray(CAT)), load(CAT)):
        assert (photo.pixels == CAT).all() and photo.pixels.dtype == np.uint8
    assert load(path).name == from_file.name == "Cät 1.png" and load(data, name="upload").name == "upload"
    stored, exif = oriented(6)
    with Image.open(io.BytesIO(encode(stored, "PNG", exif=exif))) as image:
        assert (load(image).pixels == CAT).all()
        assert image.getexif()[photos.ORIENTATION] == 6  # the caller's image is left alone


def test_arrays():
    assert (load(CAT / 255).pixels == CAT.astype(np.uint16) * 257).all()
    assert (load(DEEP).alpha == DEEP[..., 3]).all()
    assert load(CAT[..., 0]).pixels.shape == CAT.shape
    assert load(CAT).rgb.dtype == np.float32 and load(CAT).rgb.max() <= 1
    mine = DEEP.copy()
    photo = load(mine)
    mine[:] = 0
    assert (photo.pixels == DEEP[..., :3]).all() and (photo.alpha == DEEP[..., 3]).all()
    nan = np.full((2, 2), np.nan)
    for bad in (CAT / 200, nan, CAT.astype(int), CAT[..., :2], CAT[0, 0], CAT[:0]):
        with pytest.raises(PhotoError, match="^array: .*accepted"):
            load(bad)


def hostile():
    jpeg, png8 = encode(Image.fromarray(CAT), "JPEG"), encode(Image.fromarray(CAT), "PNG")
    webp, tiff = encode(Image.fromarray(CAT), "WEBP"), encode(Image.fromarray(CAT), "TIFF", compression="tiff_lzw")
    deep = png(DEEP, 6)
    return {
        "cut.jpg": jpeg[: len(jpeg) // 2],
        "cut.png": png8[: len(png8) // 2],
        "cut.webp": webp[: len(webp) // 2],
        "cut.tif": tiff[: len(tiff) // 2],
        "cut16.png": deep[: len(deep) // 2],
        "head.png": png8[:20],
        "flipped.png": png8[:100] + bytes(b ^ 255 for b in png8[100:200]) + png8[200:],
        "text.jpg": b"this is no photo",
        "empty.png": b"",
        "one.png": b"\x89",
        "drawing.svg": b"<svg xmlns='http://www.w3.org/2000/svg' width='4' height='4'/>",
        "paper.pdf": b"%PDF-1.4\n%%EOF",
        "icon.ico": encode(Image.fromarray(CAT[:32, :32]), "ICO"),  # Pillow would open it
        "nothing.png": png(DEEP, 6, size=(0, 0)),
    }


@pytest.mark.parametrize("name", hostile())
def test_hostile_files(tmp_path, name):
    (tmp_path / name).write_bytes(hostile()[name])
    with pytest.raises(PhotoError) as error:
        load(tmp_path / name)
    message = str(error.value)
    assert message.startswith(name + ": ") and ", ".join(photos.FORMATS) in message and "\n" not in message


def test_no_file(tmp_path):
    for source, reason in ((tmp_path, "folder"), (tmp_path / "gone.png", "no such file"), ("a\0b", "no such file")):
        with pytest.raises(PhotoError, match=reason):
            load(source)
    for source in (7, io.StringIO("text"), None):
        with pytest.raises(PhotoError, match="is not a photo; accepted"):
            load(source)


@pytest.mark.parametrize("size", [(20_000, 10_000), (10_000, 10_000), (8_000, 5_001)])
def test_huge_files_are_refused_before_decoding(tmp_path, recwarn, size):
    """200, 100 (where Pillow warns) and 40.008 megapixels."""
    path = tmp_path / "huge.png"
    path.write_bytes(png(np.zeros((1, 1)), 2, size=size))
    start = time.perf_counter()
    with pytest.raises(PhotoError, match="^huge.png: has .*pixels; accepted: JPEG.*40 megapixels"):
        load(path)
    assert time.perf_counter() - start < 0.5 and len(recwarn) == 0


def test_max_pixels():
    assert load(CAT, max_pixels=60_000).pixels.shape == CAT.shape
    for source in (CAT, Image.fromarray(CAT), encode(Image.fromarray(CAT), "WEBP")):
        with pytest.raises(PhotoError, match="300 x 200"):
            load(source, max_pixels=59_999)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("exif", [b"MM\0*\xff\xff\xff\xff", b"garbage", b"II*\0\x08\0\0\0\xff\xff"])
def test_broken_exif_is_dropped(exif):
    exif = b"Exif\0\0" + exif
    assert (load(encode(Image.fromarray(CAT), "PNG", exif=exif)).pixels == CAT).all()
    assert load(encode(Image.fromarray(CAT), "JPEG", exif=exif)).pixels.shape == CAT.shape


def rich(array):
    exif = Image.Exif()
    exif[271] = "Maker"
    exif.get_ifd(photos.EXIF_IFD)[36867] = "2026:11:01 10:00:00"
    exif.get_ifd(photos.GPS_IFD)[1] = "N"
    return photos.Photo(array[..., :3], array[..., 3] if array.shape[2] == 4 else None, exif=exif.tobytes(), icc=SRGB)


def check_metadata(photo):
    exif = Image.Exif()
    exif.load(photo.exif)
    assert exif[271] == "Maker" and exif.get_ifd(photos.EXIF_IFD)[36867] == "2026:11:01 10:00:00"
    assert exif.get_ifd(photos.GPS_IFD)[1] == "N" and photo.icc == SRGB


@pytest.mark.parametrize("suffix", [".png", ".TIF"])
@pytest.mark.parametrize(
    "array", [CAT, (DEEP >> 8).astype(np.uint8), DEEP[..., :3], DEEP], ids=["rgb8", "rgba8", "rgb16", "rgba16"]
)
def test_lossless_round_trip(tmp_path, array, suffix):
    photo = rich(array)
    path = tmp_path / "new" / f"photo{suffix}"
    save(photo, path)
    again = load(path)
    assert again.pixels.dtype == array.dtype and (again.pixels == photo.pixels).all()
    assert again.alpha is None if photo.alpha is None else (again.alpha == photo.alpha).all()
    check_metadata(again)
    twice = tmp_path / f"twice{suffix}"
    save(again, twice)
    assert twice.read_bytes() == path.read_bytes()
    if photo.alpha is None:  # another reader sees the same
        assert (cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[..., ::-1] == array).all()


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_lossy_round_trip(tmp_path, suffix):
    for array in (CAT, CAT.astype(np.uint16) * 257):
        save(rich(array), tmp_path / f"a{suffix}")
        again = load(tmp_path / f"a{suffix}")
        assert np.abs(again.pixels.astype(int) - CAT).mean() < 3
        check_metadata(again)
    if suffix == ".jpg":
        with Image.open(tmp_path / "a.jpg") as image:
            assert JpegImagePlugin.get_sampling(image) == 0  # 4:4:4


def test_a_tall_tiff_of_many_strips(tmp_path):
    array = np.random.default_rng(1).integers(0, 256, (600, 90, 3), dtype=np.uint8)  # strips beyond 65,535 bytes
    save(load(array), tmp_path / "a.tif")
    assert (load(tmp_path / "a.tif").pixels == array).all()


def test_alpha_is_not_dropped_silently(tmp_path):
    clear = np.dstack([CAT, CAT[..., 0]])
    for suffix in (".jpg", ".bmp"):
        with pytest.raises(PhotoError, match=r"accepted: \.png"):
            save(load(clear), tmp_path / f"a{suffix}")
        opaque = np.dstack([CAT, np.full(CAT.shape[:2], 255, np.uint8)])
        save(load(opaque), tmp_path / f"b{suffix}")
        assert load(tmp_path / f"b{suffix}").pixels.shape == CAT.shape
    save(load(clear), tmp_path / "a.webp")
    assert (load(tmp_path / "a.webp").alpha == clear[..., 3]).all()


@pytest.mark.parametrize("name", ["a.gif", "a.heic", "a", "a.png.exe"])
def test_unknown_suffix(tmp_path, name):
    with pytest.raises(PhotoError, match=rf"^{name}: .*accepted: \.jpg, .*\.bmp$"):
        save(load(CAT), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_too_large_for_the_format(tmp_path):
    with pytest.raises(PhotoError, match="^a.webp: .*WEBP"):
        save(load(np.zeros((1, 16_384), np.uint8)), tmp_path / "a.webp")
    assert list(tmp_path.iterdir()) == []


def test_atomic(tmp_path):
    path = tmp_path / "deep" / "report.json"
    with atomic(path) as temporary:
        temporary.write_text("old")
        assert temporary.parent == path.parent and temporary.suffix == ".json" and not path.exists()
    with pytest.raises(RuntimeError), atomic(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and list(path.parent.iterdir()) == [path]


def test_failing_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    save(load(CAT), path)
    before = path.read_bytes()

    def full(image, file, *_, **__):
        file.write(before[: len(before) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="No space"):
        save(load(255 - CAT), path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_find(tmp_path):
    names = ["b.JPG", "a/z.png", "a/.hidden.png", ".git/x.png", "a/notes.txt", "c.TiFf", "d.jpg/e.webp"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert find(tmp_path) == [tmp_path / name for name in ["a/z.png", "b.JPG", "c.TiFf", "d.jpg/e.webp"]]
    with pytest.raises(PhotoError, match="no such folder"):
        find(tmp_path / "gone")


def test_needs_no_torch():
    code = "import sys, decomp.photos; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0

"""Finding, cropping and pasting back, on the real photos that ship with scikit-image."""

import io

import numpy as np
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from decomp.faces import Box, crop, find_face, given_box, paste
from decomp.photos import Photo, load

ASTRONAUT = skimage.data.astronaut()
EYES = [(205, 109), (243, 107)]  # x, y, read off the photo


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("turned", [False, True])
def test_human_face_is_found_and_framed(dtype, turned):
    pixels = ASTRONAUT.astype(dtype) * (257 if dtype == np.uint16 else 1)
    eyes = np.array(EYES)
    if turned:  # the same photo seen in a mirror, on a wider canvas
        pixels = np.pad(pixels[:, ::-1], ((0, 0), (200, 0), (0, 0)), mode="edge")
        eyes = np.array([(711 - x, y) for x, y in EYES])
    box = find_face(load(pixels), "human")
    assert box.found == "human"
    x, y = (eyes.mean(0) - (box.left, box.top)) / box.side
    assert 0.4 < x < 0.6 and 0.35 < y < 0.6
    assert 0.2 < np.ptp(eyes[:, 0]) / box.side < 0.35  # CelebA-HQ: 0.25


def test_no_face_gives_the_centre_square():
    blank = load(np.full((300, 500, 3), 128, np.uint8))
    for kind in ("cat", "human"):
        assert find_face(blank, kind) == Box(100, 0, 300, "centre")
    assert find_face(load(skimage.data.cat()), "cat") == Box(75, 0, 300, "centre")  # half turned: the cascade misses
    assert find_face(load(np.zeros((1, 1), np.uint8)), "cat") == Box(0, 0, 1, "centre")
    with pytest.raises(ValueError, match="'dog'; accepted: 'cat', 'human'"):
        find_face(blank, "dog")


def test_a_finished_crop_is_taken_whole():
    face = load(ASTRONAUT[30:183, 148:301])
    assert find_face(face, "human") == Box(0, 0, 153, "human")
    corner = load(ASTRONAUT[30:183, 148:400])  # wider: all of the height, on the face's side
    box = find_face(corner, "human")
    assert (box.top, box.side, box.found) == (0, 153, "human") and box.left < 20


def test_given_box():
    photo = load(ASTRONAUT[:100, :200], name="a.png")
    assert given_box(photo, 184, 84, 16) == Box(184, 84, 16, "given")
    assert given_box(photo, 100, 0, 100) == Box(100, 0, 100, "given")
    for bad in ((0, 0, 15), (-1, 0, 50), (0, -1, 50), (151, 0, 50), (0, 51, 50), (0, 0, 101)):
        with pytest.raises(ValueError, match="^a.png: .*200 x 100"):
            given_box(photo, *bad)


def test_crop_is_exact_at_its_own_size():
    box = Box(150, 40, 128, "given")
    expected = ASTRONAUT[40:168, 150:278].astype(np.float32) / 255 * 2 - 1
    assert crop(load(ASTRONAUT), box, 128).dtype == np.float32
    assert (crop(load(ASTRONAUT), box, 128) == expected).all()


def test_crop_resamples_without_aliasing_overshoot_or_rounding():
    rng = np.random.default_rng(0)
    noise = load(rng.integers(0, 2, (256, 256, 3), dtype=np.uint8) * 255)
    small, large = crop(noise, Box(0, 0, 256, "given"), 32), crop(noise, Box(0, 0, 40, "given"), 200)
    assert small.shape == (32, 32, 3) and np.abs(small).max() < 0.7  # noise averages out
    assert large.shape == (200, 200, 3) and large.min() == -1 and large.max() == 1
    ramp = np.tile(np.linspace(30_000, 30_200, 64).astype(np.uint16), (64, 1))  # less than one step of 8 bits
    assert len(np.unique(crop(load(ramp), Box(0, 0, 64, "given"), 32)[0, :, 0])) == 32


def smooth_edit(size):
    x = np.linspace(0, np.pi, size, dtype=np.float32)
    return (0.5 * np.outer(np.sin(x), np.sin(x)))[..., None] * np.array([1, -1, 0.5], np.float32)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_paste_changes_nothing_outside_and_is_the_identity_without_an_edit(data):
    height, width = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 60))
    side = data.draw(st.integers(1, min(height, width)))
    box = Box(data.draw(st.integers(0, width - side)), data.draw(st.integers(0, height - side)), side, "given")
    size = data.draw(st.integers(1, 40))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    dtype = data.draw(st.sampled_from([np.uint8, np.uint16]))
    array = rng.integers(0, np.iinfo(dtype).max, (height, width, 4), dtype=dtype, endpoint=True)
    photo = load(array)
    before, after = rng.uniform(-1, 1, (2, size, size, 3)).astype(np.float32)
    assert (paste(photo, box, before, before).pixels == photo.pixels).all()
    edited = paste(photo, box, before, after)
    outside = np.ones((height, width), bool)
    outside[box.top : box.top + side, box.left : box.left + side] = False
    assert edited.pixels.dtype == dtype and (edited.pixels[outside] == photo.pixels[outside]).all()
    rim = ~outside
    rim[box.top + 1 : box.top + side - 1, box.left + 1 : box.left + side - 1] = False
    rows, columns = np.nonzero(rim)
    inner = (rows == box.top) & (box.top > 0) | (columns == box.left) & (box.left > 0)
    inner |= (rows == box.top + side - 1) & (box.top + side < height)
    inner |= (columns == box.left + side - 1) & (box.left + side < width)
    assert (edited.pixels[rows[inner], columns[inner]] == photo.pixels[rows[inner], columns[inner]]).all()
    assert (edited.alpha == photo.alpha).all() and (photo.pixels == array[..., :3]).all()


@pytest.mark.parametrize("scale,dtype", [(1, np.uint8), (257, np.uint16)])
def test_paste_adds_the_edit(scale, dtype):
    photo = load(np.full((400, 400, 3), 128 * scale, dtype))
    box = Box(100, 50, 256, "given")
    before = crop(photo, box, 64)
    change = paste(photo, box, before, before + smooth_edit(64)).pixels.astype(float) / scale - 128
    centre = change[50 + 128, 100 + 128]
    assert np.abs(centre - np.array([63.75, -63.75, 31.9])).max() < 1
    inside = change[50 + 26 : 50 + 230, 100 + 26 : 100 + 230]  # within the soft edge
    assert np.abs(inside - 127.5 * smooth_edit(256)[26:230, 26:230]).max() < 3


def test_paste_is_exact_at_the_size_of_the_box():
    """A crop that covers the whole photo: no soft edge, every pixel takes its edit."""
    photo = load(ASTRONAUT[:64, :64])
    box = Box(0, 0, 64, "centre")
    other = load(ASTRONAUT[200:264, 100:164])
    assert (paste(photo, box, crop(photo, box, 64), crop(other, box, 64)).pixels == other.pixels).all()


def test_paste_fades_only_inside_the_photo():
    photo = load(np.zeros((100, 200, 3), np.uint8))
    before = np.full((50, 50, 3), -1, np.float32)
    row = paste(photo, Box(0, 0, 100, "given"), before, -before).pixels[50, :, 0]
    assert row[0] == 255 and row[91] == 255 and row[99] == 0 and (row[100:] == 0).all()
    assert (np.diff(row[91:100].astype(int)) < 0).all()  # the edge is soft


def test_paste_is_local():
    photo = load(ASTRONAUT)
    before = crop(photo, Box(0, 0, 512, "given"), 128)
    after = before.copy()
    after[:40] += 0.3
    changed = (paste(photo, Box(0, 0, 512, "given"), before, after).pixels != ASTRONAUT).any(axis=(1, 2))
    assert changed[:160].all() and not changed[172:].any()


def test_paste_keeps_metadata_and_refuses_nonsense():
    photo = Photo(ASTRONAUT, name="a.jpg", exif=b"e", icc=b"i", format="JPEG")
    zero = np.zeros((8, 8, 3), np.float32)
    edited = paste(photo, Box(0, 0, 64, "given"), zero, zero + 1)
    assert (edited.name, edited.exif, edited.icc, edited.format) == ("a.jpg", b"e", b"i", "JPEG")
    for bad in (zero[:4], zero[..., 0], zero + np.nan):
        with pytest.raises(ValueError, match="^a.jpg: "):
            paste(photo, Box(0, 0, 64, "given"), zero, bad)


@pytest.mark.parametrize("quality", [60, 75, 95])
@pytest.mark.parametrize("mirrored", [False, True])
def test_recompressing_or_mirroring_a_photo_does_not_move_the_box(quality, mirrored):
    """With fewer agreeing detections the muzzle of this cat was taken for a face in some JPEGs and not in others."""
    file = io.BytesIO()
    pixels = skimage.data.cat()[:, ::-1] if mirrored else skimage.data.cat()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "JPEG", quality=quality)
    assert find_face(load(file.getvalue()), "cat").found == "centre"

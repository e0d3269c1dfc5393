import dataclasses

import numpy as np
import pytest
import skimage

from decomp.faces import Box, crop
from decomp.photos import Photo
from decomp.studio.swap import align, moved, softened, swap


@pytest.fixture
def pair(toy, cat):
    return toy.decompose(cat, "cat"), toy.decompose(cat[:, ::-1].copy(), "cat")


def test_amount_zero_is_the_photo(pair):
    a, b = pair
    assert np.array_equal(swap(a, b, [1, 2, 3], 0), a.picture)


def test_all_layers_of_b_are_b(pair):
    a, b = pair
    np.testing.assert_allclose(swap(a, b, [1, 2, 3, "residual", "unexplained"]), b.picture, atol=1e-5)


def test_each_side_has_its_strength(pair):
    a, b = pair
    expected = a.picture + 0.5 * a.channels[1] - 0.25 * b.channels[1]
    np.testing.assert_allclose(swap(a, b, ["channel 2"], amount=-0.25, keep=1.5), expected, atol=1e-6)


def test_mask_says_where(pair):
    a, b = pair
    mask = np.zeros(a.picture.shape[:2], np.float32)
    mask[:, :16] = 1
    mixed = swap(a, b, [1], mask=mask)
    assert np.array_equal(mixed[:, 16:], a.picture[:, 16:])
    np.testing.assert_allclose(mixed[:, :16], swap(a, b, [1])[:, :16])


@pytest.mark.parametrize(
    "layers, amount, message",
    [
        ([7], 1, "there is no channel 7"),
        ([], 1, "at least one"),
        ([1, "channel 1"], 1, "each once"),
        ([1], float("nan"), "finite"),
    ],
)
def test_bad_input(pair, layers, amount, message):
    with pytest.raises(ValueError, match=message):
        swap(*pair, layers, amount)


def test_sizes_must_agree(toy, cat):
    with pytest.raises(ValueError, match="different sizes"):
        swap(toy.decompose(cat, "cat"), toy.decompose(cat, "cat", size=40), [1])


def test_moved_onto_its_own_eyes_is_the_crop(cat):
    photo, box = Photo(cat), Box(60, 20, 200, "given")
    eyes = np.array([[100.0, 90.0], [180.0, 100.0]])
    square, inside = moved(photo, eyes, eyes, box, 100)
    assert inside.all()
    assert np.abs(square.rgb - (crop(photo, box, 100) + 1) / 2).mean() < 0.01


def test_moved_eyes_lie_on_the_others():
    """Two dots as eyes, turned, scaled and moved."""
    pixels = np.zeros((120, 160, 3), np.uint8)
    eyes = np.array([[50.5, 40.5], [90.5, 60.5]])
    for (x, y), colour in zip(eyes, ([255, 0, 0], [0, 255, 0])):
        pixels[int(y) - 3 : int(y) + 4, int(x) - 3 : int(x) + 4] = colour
    onto = np.array([[130.0, 220.0], [170.0, 200.0]])
    square, inside = moved(Photo(pixels), eyes, onto, Box(100, 150, 100, "given"), 50)
    y, x = np.mgrid[:50, :50] + 0.5
    for k, target in enumerate((onto - [100, 150]) / 2):
        weight = square.pixels[..., k].astype(float)
        assert (x * weight).sum() / weight.sum() == pytest.approx(target[0], abs=0.3)
        assert (y * weight).sum() / weight.sum() == pytest.approx(target[1], abs=0.3)
    assert not inside.all() and inside[25, 25]


def test_soft_border_stays_inside():
    inside = np.ones((64, 64), bool)
    assert softened(inside, 64).min() == 1
    inside[:20] = False
    soft = softened(inside, 64)
    assert soft[:20].max() < 1e-3 and soft[32:].min() > 0.99 and np.diff(soft[:, 30]).max() < 0.4


@pytest.mark.slow
def test_two_photos_of_people(faces):
    """The whole way with real weights: eyes on eyes, A unchanged outside its square, B's colours in A's face."""
    photo = skimage.data.astronaut()
    a = faces.decompose(photo)
    turned = np.asarray(skimage.transform.rotate(photo, 12, mode="edge") * 255, np.uint8)
    b = Photo(np.clip(turned * [0.6, 0.8, 1.2], 0, 255).astype(np.uint8), name="turned.png")
    pair = align(faces, a, b)
    assert pair.notes == ()
    greys = [d.picture[40:100, 40:88].mean(axis=2).ravel() for d in (a, pair.b)]
    assert np.corrcoef(greys)[0, 1] > 0.9  # the same face, laid back onto itself
    mixed = pair.swap(["residual"])
    nearer = lambda x: np.abs((x - a.picture) * pair.mask[..., None]).mean((0, 1))
    assert nearer(mixed)[0] > 0.03
    whole = a.paste(mixed)
    changed = (whole.pixels != photo).any(axis=2)
    box = a.box
    changed[box.top : box.top + box.side, box.left : box.left + box.side] = False
    assert not changed.any() and whole.pixels.shape == photo.shape


@pytest.mark.slow
def test_notes_name_the_face_without_eyes(faces):
    a = faces.decompose(skimage.data.astronaut())
    wall = Photo(np.full((80, 80, 3), 90, np.uint8), name="wall.png")
    pair = align(faces, a, wall)
    assert len(pair.notes) == 1 and pair.notes[0].startswith("wall.png")
    same = dataclasses.replace(pair, mask=np.zeros_like(pair.mask))
    assert np.array_equal(same.swap([1]), a.picture)

from dataclasses import replace

import numpy as np
import pytest

from decomp.decomposition import to_bytes


@pytest.fixture
def d(toy, cat):
    return toy.decompose(cat, domain="cat", keep_phi=True)


def test_layers_add_up_to_the_photo(d):
    total = d.residual + d.channels.sum(axis=0) + d.unexplained
    assert np.abs(total - d.picture).max() <= 1e-5
    assert np.abs(d.residual + d.phi.sum(axis=0) - d.picture).max() <= 1e-5
    assert d.picture.dtype == d.channels.dtype == np.float32


def test_strengths_at_one_give_the_photo_bit_for_bit(d):
    assert np.array_equal(d.recompose(), d.picture)
    assert np.array_equal(d.recompose([1, 1, 1]), d.picture)
    assert np.array_equal(d.recompose(base="regenerated"), d.regenerated)


def test_recompose_is_the_weighted_sum(d):
    s = [0.5, -1, 3]
    by_hand = d.residual + sum(w * v for w, v in zip(s, d.channels)) + d.unexplained
    assert np.allclose(d.recompose(s), by_hand, atol=1e-5)
    assert np.allclose(d.recompose(s, "regenerated"), by_hand - d.unexplained, atol=1e-5)
    assert np.allclose(d.recompose({2: 0, "residual": 0.5}), d.picture - d.channels[1] - 0.5 * d.residual, atol=1e-5)
    assert np.allclose(d.recompose({"unexplained": 0}), d.regenerated, atol=1e-5)
    assert np.array_equal(d.recompose({"channel 2": 0}), d.recompose({2: 0}))


def test_numpy_integers_are_channels(d):
    k = np.int64(2)
    assert np.array_equal(d.recompose({k: 0}), d.recompose({2: 0})) and d.added(k).shape == d.picture.shape


def test_recompose_leaves_the_layers_alone(d):
    before = d.picture.copy(), d.channels.copy()
    d.recompose({1: 5, "residual": -3})
    assert np.array_equal(d.picture, before[0]) and np.array_equal(d.channels, before[1])


@pytest.mark.parametrize(
    "strengths, base, message",
    [
        ({7: 1}, "photo", "no channel 7; the channels are 1 'channel 1'"),
        ({0: 1}, "photo", "no channel 0"),
        ({"fur": 1}, "photo", "no channel 'fur'"),
        ([1, 2], "photo", "2 strengths for 3 channels"),
        ({1: float("nan")}, "photo", "finite"),
        ({1: 5, "channel 1": -3}, "photo", "given twice"),
        ({}, "picture", "accepted: 'photo', 'regenerated'"),
        ({"unexplained": 2}, "regenerated", "use base='photo'"),
    ],
)
def test_bad_strengths(d, strengths, base, message):
    with pytest.raises(ValueError, match=message):
        d.recompose(strengths, base)


def test_sweep(d):
    pictures = d.sweep(2, [0, 1, 2])
    assert pictures.shape == (3, *d.picture.shape)
    assert np.array_equal(pictures[1], d.picture)
    assert np.allclose(pictures[2] - pictures[0], 2 * d.channels[1], atol=1e-5)


def test_separate(d):
    s = d.separate([1], [2, 3])
    assert np.allclose(s.a, d.channels[0]) and np.allclose(s.b, d.channels[1] + d.channels[2])
    assert np.allclose(s.a + s.b + s.rest, d.picture, atol=1e-5)
    with pytest.raises(ValueError, match="both groups"):
        d.separate([1, 2], ["channel 2"])
    with pytest.raises(ValueError, match="every group needs at least one"):
        d.separate([], [1])


def test_raised_and_added(d):
    assert np.abs(d.raised(1)).max() <= 1
    inside = np.abs(d.channels[0]) < 3 * d.info[0].energy
    ratio = d.raised(1)[inside] / d.channels[0][inside]
    assert np.allclose(ratio, 1 / (3 * d.info[0].energy), rtol=1e-3)
    assert np.allclose(d.added(1), d.regenerated + d.channels[0], atol=1e-6)


def test_covariance(d):
    c = d.covariance()
    assert c.shape == (3, 3) and np.allclose(c, c.T)
    assert np.allclose(np.diag(c), d.channels.reshape(3, -1).var(axis=1), rtol=1e-3)


def test_silent_channels_are_told(d):
    quiet = d.channels.copy()
    quiet[2] *= 0.01
    assert [c.active for c in replace(d, channels=quiet).info] == [True, True, False]


def test_paste_of_the_unedited_picture_changes_nothing(d, cat):
    assert np.array_equal(d.paste(d.recompose()).pixels, cat)
    edited = d.paste(d.recompose({"residual": 1.5})).pixels
    assert not np.array_equal(edited, cat)


def test_to_bytes_rounds_and_clips():
    assert to_bytes(np.array([-2, -1, 0, 1, 2], np.float32)).tolist() == [0, 0, 128, 255, 255]


def test_prints_as_one_line(d):
    assert repr(d).startswith("<Decomposition of a cat, 32 x 32 pixels: 1 channel 1 0.")

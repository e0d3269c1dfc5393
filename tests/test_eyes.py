"""The eyes of drawn faces: two blobs and a nose in one channel, their flat insides in another, noise in the third."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from decomp import calibrate, export, eyes
from decomp.config import ModelConfig
from decomp.decomposition import Decomposition
from decomp.eyes import EyeParts, Pose, segment_eyes
from decomp.faces import Box
from decomp.photos import Photo

SIDE = 64


def face(pose: Pose, seed: int, sides=(-1, 1)) -> Decomposition:
    """A drawn face of SIDE x SIDE pixels; the eyes are ellipses 0.15 x 0.11 IOD around the points of the pose."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    c, s = np.cos(pose.tilt) / pose.iod, np.sin(pose.tilt) / pose.iod
    u, v = c * (x - pose.x) + s * (y - pose.y), c * (y - pose.y) - s * (x - pose.x)
    ellipse = lambda a, b, w, h: ((u - a) / w) ** 2 + ((v - b) / h) ** 2 < 1
    eye = sum(ellipse(side / 2, 0, 0.15, 0.11) for side in sides)
    nose = ellipse(0, 0.6, 0.12, 0.1)
    fur = lambda sigma: gaussian_filter(rng.normal(size=(SIDE, SIDE)), sigma) * sigma
    planes = [gaussian_filter(eye + nose * 1.0, 1) + 0.2 * fur(2), eye * 1.0 + 0.1 * fur(3), fur(2)]
    channels = np.repeat(np.stack(planes)[..., None], 3, axis=3).astype(np.float32)
    residual = np.repeat(gaussian_filter(rng.normal(size=(SIDE, SIDE)), 8)[..., None], 3, axis=2).astype(np.float32)
    return Decomposition(residual + channels.sum(0), residual, channels, ("a", "b", "c"), "cat", ("cat",) * 3)


def pose(rng) -> Pose:
    return Pose(*rng.uniform(27, 37, 2), rng.uniform(17, 27), rng.uniform(-0.3, 0.3))


@pytest.fixture(scope="session")
def parts() -> EyeParts:
    rng = np.random.default_rng(0)
    drawn = [(f"{i:02}", p := pose(rng), face(p, i)) for i in range(24)]
    measured, left_out = calibrate.calibrate([calibrate.frame(name, d, p.points() / SIDE) for name, p, d in drawn])
    assert left_out["right"] > 0.9 and left_out["wrong"] == 0
    return measured


def with_parts(d: Decomposition, parts: EyeParts, **more) -> Decomposition:
    return replace(d, eyes=asdict(parts), **more)


def test_both_eyes_are_found_wherever_they_lie(parts):
    rng = np.random.default_rng(1)
    for i in range(100, 106):
        p = pose(rng)
        s = segment_eyes(with_parts(face(p, i), parts))
        assert s.found and s.confidence >= parts.least
        centres = np.array([[e.x, e.y] for e in s.eyes])
        assert calibrate.distance(centres, p.points()) < 0.08
        for eye in s.eyes:
            assert 0.5 < eye.area / (np.pi * 0.15 * 0.11 * p.iod**2) < 2.5
            assert eye.axes[0] >= eye.axes[1] > 0
        assert not (s.left & s.right).any() and s.left.dtype == bool and s.left.shape == (SIDE, SIDE)


def test_nothing_is_guessed(parts):
    rng = np.random.default_rng(2)
    noise = replace(face(pose(rng), 200), channels=rng.normal(size=(3, SIDE, SIDE, 3)).astype(np.float32))
    s = segment_eyes(with_parts(noise, parts))
    assert not s.found and s.eyes == () and s.left is None and "no pair of eyes" in s.reason
    with pytest.raises(ValueError, match="no eyes: "):
        s.photo_masks()


def band(*discs) -> np.ndarray:
    """Discs (u, v, radius) in IOD, as a mask of the band."""
    inside = [np.hypot(eyes.BAND[0] - u, eyes.BAND[1] - v) < r for u, v, r in discs]
    return np.any([np.zeros_like(eyes.NEAREST, bool), *inside], axis=0)


@pytest.mark.parametrize(
    "discs, reason",
    [
        ([(-0.5, 0, 0.15), (0.5, 0.05, 0.13)], None),
        ([(-0.5, 0, 0.15), (0.5, 0.05, 0.13), (0, 0.3, 0.1)], None),  # the nose drops out
        ([(-0.5, 0, 0.15)], "one eye only"),
        ([], "no component at either place"),
        ([(-0.5, 0, 0.15), (0.5, 0.02, 0.075)], "no component pairs: the two differ too much in size"),
        ([(-0.5, -0.2, 0.1), (0.5, 0.2, 0.1)], "no component pairs: the two do not share their rows"),
        ([(-0.5, 0, 0.15), (0.05, 0, 0.15)], "one eye only"),
    ],
)
def test_pairs(discs, reason):
    masks, why = eyes.pair(band(*discs))
    assert why == reason and len(masks) == (0 if reason else 2)
    if not reason:
        assert masks[0][:, : eyes.W // 2].any() and not masks[0][:, eyes.W // 2 :].any()


def test_chan_vese_moves_and_is_oriented(parts):
    """The two traps of skimage's Chan-Vese: it may return its start, and the sign of its result is arbitrary."""
    wanted = band((-0.5, 0, 0.13), (0.5, 0, 0.13))
    surface = np.clip(1 - (eyes.NEAREST / eyes.PLACE) ** 2, -2, 1).astype(np.float32)
    iou = lambda a: (a & wanted).sum() / (a | wanted).sum()
    for sign in (1, -1):
        mask = eyes.chan_vese_mask(np.float32(sign * wanted), surface)
        assert iou(mask) > 0.9 > iou(surface > 0)


def test_an_eye_may_be_darker_or_brighter_than_its_fur(parts):
    p = Pose(32, 30, 24, 0)
    d = face(p, 7)
    image = lambda c: eyes.segmented_image(eyes.upright(np.concatenate([d.residual[None] * 0, c]), p), parts)
    for channels in (d.channels, -d.channels):
        v = image(channels)
        assert v[eyes.NEAREST < 0.08].mean() > v[(eyes.NEAREST > 0.25)].mean() + 0.3


def test_coordinates_of_the_whole_photo(parts):
    p = Pose(32, 30, 24, 0.2)
    photo = Photo(np.zeros((200, 300, 3), np.uint8))
    d = with_parts(face(p, 3), parts, photo=photo, box=Box(40, 20, 128, "given"))
    s = segment_eyes(d)
    for eye, mask, point in zip(s.photo_eyes(), s.photo_masks(), p.points()):
        assert mask.shape == (200, 300)
        y, x = np.argwhere(mask).mean(axis=0) + 0.5
        assert abs(x - eye.x) < 1 and abs(y - eye.y) < 1
        assert np.hypot(eye.x - (40 + 2 * point[0]), eye.y - (20 + 2 * point[1])) < 5
        assert abs(mask.sum() / eye.area - 1) < 0.1


def test_layers_on_disk_are_enough(parts, tmp_path):
    d = with_parts(face(Pose(32, 30, 24, 0), 5), parts)
    export.write_npz(d, tmp_path / "layers.npz")
    again, first = segment_eyes(export.read_npz(tmp_path / "layers.npz")), segment_eyes(d)
    assert np.array_equal(again.left, first.left) and again.confidence == first.confidence


def test_a_model_that_was_not_calibrated_says_so():
    with pytest.raises(ValueError, match="not calibrated for eyes"):
        segment_eyes(face(Pose(32, 30, 24, 0), 5))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"layout": "AAAA"}, "layout is not 6 x 14 x 7 bytes"),
        ({"layout": 3}, "layout is not"),
        ({"surface": [1.0]}, "surface is not 6 finite numbers"),
        ({"flat": [float("nan")] * 4}, "flat is not 4 finite numbers"),
        ({"least": True}, "least is not a finite number"),
        ({"more": 1}, "eyes holds"),
    ],
)
def test_a_config_from_a_hub_is_checked(parts, change, message):
    good = ModelConfig(branches=3, eyes=asdict(parts))
    assert ModelConfig.from_dict(json.loads(json.dumps(good.to_dict()))).eyes["step"] == parts.step
    with pytest.raises(ValueError, match=message):
        ModelConfig(branches=3, eyes=asdict(parts) | change)


def test_writing_keeps_the_rest_of_the_config(parts, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"size": 128, "eyes": {}}))
    calibrate.write(tmp_path, parts)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["size"] == 128 and EyeParts.from_dict(config["eyes"], 3) == parts
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]


def test_squares_cover_the_photo():
    covered = np.zeros((300, 451), bool)
    for left, top, side in eyes.squares(451, 300):
        assert left >= 0 and top >= 0 and left + side <= 451 and top + side <= 300
        covered[top : top + side, left : left + side] = True
    assert covered.all()

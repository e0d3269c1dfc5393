"""The eyes of drawn faces: two blobs and a nose in one channel, their flat insides in another, noise in the third."""

import base64
import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from typer.testing import CliRunner

from decomp import export, faces
from decomp.channels import ChannelFacts
from decomp.cli import app
from decomp.config import ModelConfig
from decomp.decomposer import cached
from decomp.decomposition import Decomposition
from decomp.eyes import calibrate, evaluate, finder, job, places, plots, segment
from decomp.eyes.finder import Look, find_eyes
from decomp.eyes.parts import EyeParts, parts_of
from decomp.eyes.places import Pose
from decomp.eyes.segment import segment_eyes
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
    inside = [np.hypot(segment.BAND[0] - u, segment.BAND[1] - v) < r for u, v, r in discs]
    return np.any([np.zeros_like(segment.NEAREST, bool), *inside], axis=0)


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
    masks, why = segment.pair(band(*discs))
    assert why == reason and len(masks) == (0 if reason else 2)
    if not reason:
        assert masks[0][:, : segment.W // 2].any() and not masks[0][:, segment.W // 2 :].any()


def test_chan_vese_moves_and_is_oriented(parts):
    """The two traps of skimage's Chan-Vese: it may return its start, and the sign of its result is arbitrary."""
    wanted = band((-0.5, 0, 0.13), (0.5, 0, 0.13))
    surface = np.clip(1 - (segment.NEAREST / segment.PLACE) ** 2, -2, 1).astype(np.float32)
    iou = lambda a: (a & wanted).sum() / (a | wanted).sum()
    for sign in (1, -1):
        mask = segment.chan_vese_mask(np.float32(sign * wanted), surface)
        assert iou(mask) > 0.9 > iou(surface > 0)


def test_an_eye_may_be_darker_or_brighter_than_its_fur(parts):
    p = Pose(32, 30, 24, 0)
    d = face(p, 7)
    image = lambda c: segment.segmented_image(segment.upright(np.concatenate([d.residual[None] * 0, c]), p), parts)
    for channels in (d.channels, -d.channels):
        v = image(channels)
        assert v[segment.NEAREST < 0.08].mean() > v[(segment.NEAREST > 0.25)].mean() + 0.3


def test_coordinates_of_the_whole_photo(parts):
    p = Pose(32, 30, 24, 0.2)
    photo = Photo(np.zeros((200, 300, 3), np.uint8))
    d = with_parts(face(p, 3), parts, photo=photo, box=Box(40, 20, 128, "given"))
    s = segment_eyes(d)
    for eye, mask, point in zip(s.photo_eyes(), s.photo_masks(), p.points()):
        assert mask.shape == (200, 300)
        y, x = np.argwhere(mask).mean(axis=0) + 0.5
        assert abs(x - eye.x) < 3 and abs(y - eye.y) < 3
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
        ({"shift": "AAAA"}, "shift is not 2 x 6 x 9 x 9 bytes"),
        ({"surface": [1.0]}, "surface is not 6 finite numbers"),
        ({"flat": [float("nan")] * 4}, "flat is not 4 finite numbers"),
        ({"least": True}, "least is not a finite number"),
        ({"more": 1}, "eyes holds"),
    ],
)
def test_parts_from_a_hub_are_checked(parts, change, message):
    assert parts_of(json.loads(json.dumps(asdict(parts))), 3) == parts
    with pytest.raises(ValueError, match=message):
        parts_of(asdict(parts) | change, 3)


def test_writing_keeps_the_roles(parts, tmp_path):
    ChannelFacts(roles=({"name": "one"},)).write(tmp_path)
    calibrate.write(tmp_path, parts)
    facts = ChannelFacts.read(tmp_path)
    assert facts.roles == ({"name": "one"},) and EyeParts.from_dict(facts.eyes, 3) == parts
    assert [p.name for p in tmp_path.iterdir()] == ["channels.json"]


PHOTO = Photo(np.zeros((200, 300, 3), np.uint8))  # in which no detector finds a cat
TRUE = Pose(150, 100, 48, 0.1)  # pixels of the photo


class Looker:
    """Stands in for a model: in each square the eyes lie where `seen(box)` says, in pixels of the photo."""

    def __init__(self, parts: EyeParts, seen=lambda box: TRUE):
        self.parts, self.seen, self.boxes = parts, seen, []
        self.config = ModelConfig(branches=3, size=SIDE)
        self.facts = ChannelFacts(eyes=asdict(parts))

    def decompose(self, photo, domain, box):
        self.boxes.append(box)
        p, scale = self.seen(box), SIDE / box.side
        drawn = face(Pose((p.x - box.left) * scale, (p.y - box.top) * scale, p.iod * scale, p.tilt), 3)
        return with_parts(drawn, self.parts, photo=photo, box=box)


def confident(parts: EyeParts, confidence: float, least: float = 0.1) -> EyeParts:
    """Whatever is seen has this confidence."""
    return replace(parts, certainty=(0.0, float(np.log(confidence / (1 - confidence)))), least=least)


def centres(s) -> np.ndarray:
    return np.array([[e.x, e.y] for e in s.photo_eyes()])


def test_places_that_two_squares_see_surely_are_enough(parts):
    model = Looker(confident(parts, 0.9))
    s = find_eyes(model, PHOTO)
    assert s.found and calibrate.distance(centres(s), TRUE.points()) < 0.1
    middle, first_of_all, last = model.boxes
    assert middle.side == first_of_all.side == 200
    assert np.abs(np.subtract((last.left, last.top, last.side), (83, 40, 133))).max() < 8


def test_an_unsure_photo_is_searched_all_over(parts):
    model = Looker(confident(parts, 0.1, least=0.05))
    find_eyes(model, PHOTO)
    assert model.boxes[1:-1] == list(finder.everywhere(PHOTO))


def test_squares_cover_the_photo():
    for height, width in ((200, 300), (33, 400), (500, 90), (64, 64)):
        covered = np.zeros((height, width), int)
        for box in finder.everywhere(Photo(np.zeros((height, width, 3), np.uint8))):
            assert 0 <= box.left <= width - box.side and 0 <= box.top <= height - box.side
            covered[box.top : box.top + box.side, box.left : box.left + box.side] += 1
        assert covered.min() >= 1


def test_agreement_counts_for_more_than_one_sure_look():
    nostrils, pair = np.array([[90.0, 90], [100, 90]]), np.array([[70.0, 60], [120, 62]])
    weight, best = finder.supported([Look(0.9, nostrils), Look(0.5, pair), Look(0.6, pair + 3)])
    assert weight == pytest.approx(1.1) and best.confidence == 0.6


def test_the_last_look_must_agree(parts):
    for off, agree in ((0, True), (0.5, False)):
        aside = TRUE._replace(x=TRUE.x + off * TRUE.iod)
        s = find_eyes(Looker(confident(parts, 0.8), lambda box: TRUE if box.side == 200 else aside), PHOTO)
        assert s.found == agree
        if not agree:
            assert s.reason == "two looks at the photo do not agree" and s.eyes == () and s.left is None


def test_a_photo_of_one_pixel_has_no_eyes(parts):
    model = Looker(parts)
    s = find_eyes(model, Photo(np.zeros((1, 1, 3), np.uint8)))
    assert s.reason == "the photo is smaller than 32 pixels" and s.eyes == () and model.boxes == []


def test_possible_cats_are_squares_of_the_photo_that_hold_the_surest_one(cat):
    """Chelsea is half turned: only one detection, which is not enough for `find_face`."""
    boxes = faces.possible_cats(Photo(cat))
    assert boxes and faces.find_face(Photo(cat), "cat").found == "centre"
    assert all(0 <= b.left <= 451 - b.side and 0 <= b.top <= 300 - b.side for b in boxes)
    assert faces.possible_cats(PHOTO) == []


def test_a_place_beside_the_eyes_is_moved_to_them(parts):
    rng = np.random.default_rng(5)
    before, after = [], []
    for i in range(300, 310):
        p = pose(rng)
        m = places.search_maps(face(p, i).channels)
        true = Pose(p.x, p.y, p.iod, p.tilt)
        aside = calibrate.beside(true, 1, (0.06, 0.06, 0.03, 0.03), rng)[0]
        before.append(calibrate.distance(aside.points(), true.points()))
        after.append(calibrate.distance(places.shifted(m, parts.shifts, aside).points(), true.points()))
    assert np.mean(after) < 0.6 * np.mean(before)


def test_every_row_has_the_same_columns(parts, cat):
    found = job.row_of(Looker(confident(parts, 0.9)), PHOTO.pixels)
    left = TRUE.points()[0]
    assert found["eyes"] == 2 and np.hypot(found["left_x"] - left[0], found["left_y"] - left[1]) < 5
    assert found["right_major"] >= found["right_minor"] > 0
    none = job.row_of(Looker(confident(parts, 0.1, least=1.0)), PHOTO.pixels)
    broken = job.row_of(None, b"no photo")
    assert list(found) == list(none) == list(broken) and "is not a photo" in broken["why"]
    assert none["eyes"] == broken["eyes"] == 0 and none["left_x"] is broken["left_x"] is None


# ---------------------------------------------------------------------------------------------------- measuring it


def test_a_row_counts_all_photos_and_refusals():
    found = [np.array(e) for e in ([0.05, 0.1], [0.1, 0.2], [0.4, 0.01])] + [None]
    row = evaluate.row(found)
    assert row["photos"] == 4 and row["two eyes reported"] == 0.75
    assert row["both within 0.15"] == 0.25 and row["one wrong by more than 0.3"] == 0.25
    assert row["the same, of those reported"] == 1 / 3 and row["median error"] == 0.1
    assert evaluate.row([None])["median error"] is None


def test_baselines_and_parts_left_out_find_a_drawn_face(parts):
    p = Pose(32, 30, 24, 0)
    d = with_parts(face(p, 3), parts, photo=Photo(np.zeros((200, 300, 3), np.uint8)), box=Box(40, 20, 128, "given"))
    true = p.points() * 2 + [40, 20]
    case = evaluate.Case(d, Look(0.9, true), segment_eyes(d), d, parts, (0.0, 1.0, 1.0, 0.0))
    errors = {}
    for name, method in evaluate.METHODS.items():
        points = method(case)
        errors[name] = None if points is None else calibrate.distance(points, true)
    assert errors.pop("baseline: fixed places in OpenCV's cat box") is None  # nothing to see in a black photo
    assert errors.pop("fixed places in the square") == pytest.approx(0.15, abs=0.1)
    for name in ("places alone", "no test of the pair", "no proposals: OpenCV's square, looked at once"):
        assert errors[name] < 0.1, name
    refused = replace(case, parts=replace(parts, least=1.0))
    for name in ("places alone", "no last look: places of the best square", "no Chan-Vese: the surface above 0"):
        assert evaluate.METHODS[name](refused) is None, name


def test_plots(tmp_path):
    errors = [{"ours": np.array([0.1, 0.2]), "other": None}, {"ours": None, "other": np.array([0.3, 0.5])}]
    plots.within(tmp_path / "within.png", {"crops": errors, "photos": errors[:1]}, ["ours", "other"])
    plots.confidence(tmp_path / "confidence.png", [(0.2, False), (0.9, True), (0.8, True)])
    plots.confidence(tmp_path / "none.png", [])
    for name in ("within.png", "confidence.png", "none.png"):
        assert np.asarray(Image.open(tmp_path / name)).std() > 10


def test_the_image_may_be_asked_for_without_the_residual():
    """R alone tells the eye from its surroundings here; without it the only channel that does is taken."""
    band = np.random.default_rng(0).normal(0, 0.1, (3, *segment.NEAREST.shape, 3))
    band[0] += 4.0 * (segment.NEAREST < 0.15)[..., None]
    band[2] -= 1.0 * (segment.NEAREST < 0.15)[..., None]
    train = [calibrate.Frame("a", None, band, Pose(32, 32, 20, 0))] * 3
    signs, best = calibrate.fit_flat(train)
    without, less = calibrate.fit_flat(train, first=1)
    assert signs[0] != 0 and without[0] == without[1] == 0 != without[2] and less < best


def test_without_its_test_a_pair_may_be_of_any_size_and_row():
    mask = band((-0.5, -0.2, 0.1), (0.5, 0.2, 0.05))
    assert evaluate.of_pair(mask) is None
    assert np.abs(evaluate.of_nearest(mask) - [[-0.5, -0.2], [0.5, 0.2]]).max() < 0.02


def test_the_whole_square_without_a_layout():
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    discs = (np.hypot(x - 20, y - 30) < 4) | (np.hypot(x - 44, y - 30) < 4)
    points = evaluate.whole_square(discs.astype(np.float32), None)
    assert np.abs(points - [[20, 30], [44, 30]]).max() < 1


@pytest.mark.slow
def test_the_commands_from_end_to_end(toy, folder, tmp_path):
    """The toy knows nothing of eyes; what is tested is that every step fits the next."""
    toy.save_pretrained(tmp_path / "model")
    rows = [{"file": str(folder / name), "eyes": [[180, 100], [270, 110]]} for name in ("cat.png", "cat.jpg")]
    for kind, listed in (("crops", rows[:1]), ("photos", rows[1:])):
        (tmp_path / f"{kind}.json").write_text(json.dumps(listed))
    options = ("--data", tmp_path, "-o", tmp_path / "out", "--model", tmp_path / "model", "--folds", 0)
    call = lambda: CliRunner().invoke(app, ["evaluate-eyes", *map(str, options)])
    refused = call()
    assert refused.exit_code == 2 and "was not calibrated" in refused.output
    made = calibrate.frames(str(tmp_path / "model"), calibrate.marked(tmp_path, "crops"))
    assert next(made).pose.iod == pytest.approx(np.hypot(90, 10) * 64 / 300, rel=1.0)
    branches = toy.config.branches
    half = np.zeros((2 * branches, places.LAYOUT, places.LAYOUT // 2), np.int8)
    half[0, 5, 3] = 100
    layout, ones = base64.b64encode(half.tobytes()).decode(), (1,) * 2 * branches
    still = base64.b64encode(bytes(2 * 2 * branches * places.SHIFT**2)).decode()
    blank = EyeParts(layout, 0.01, still, 1, 0, ones, ones[: branches + 1], (0, 0), 0)
    calibrate.write(tmp_path / "model", blank)
    cached.cache_clear()  # as a second call of the command would start without it
    result = call()
    assert result.exit_code == 0, result.output
    table = json.loads((tmp_path / "out" / "table.json").read_text())
    assert table["crops"]["fixed places in the square"]["photos"] == 1
    assert set(table["photos"]) == {evaluate.OURS, *evaluate.METHODS}
    pictures = {path.name for path in (tmp_path / "out").glob("*.png")}
    assert pictures == {"crops.png", "photos.png", "within.png", "confidence.png"}


def test_one_fold_is_no_evaluation(tmp_path):
    result = CliRunner().invoke(app, ["evaluate-eyes", "--data", str(tmp_path), "-o", str(tmp_path), "--folds", "1"])
    assert result.exit_code == 2 and "accepted: 0, or 2 to 10" in result.output

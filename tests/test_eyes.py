"""The eyes of drawn faces: two blobs and a nose in one channel, their flat insides in another, noise in the third."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from typer.testing import CliRunner

from decomp.batch import folder as batch
from decomp.channels import ChannelFacts
from decomp.cli import app
from decomp.config import ModelConfig
from decomp.decomposer import load
from decomp.decomposition import Decomposition
from decomp.eyes import (
    calibrate,
    confidence,
    evaluate,
    finder,
    fitting,
    job,
    lessons,
    marked,
    outlines,
    places,
    plots,
    unmarked,
    views,
)
from decomp.eyes.marked import Marked, errors, filled, iou
from decomp.eyes.parts import EyeParts, packed, unpacked
from decomp.eyes.places import PairNet, Place, Pose, pose_of
from decomp.eyes.segment import Eyes, NoEyes, layers_of, segment_eyes
from decomp.faces import Box
from decomp.photos import Photo, PhotoError

SIDE = views.CANVAS
W, H = 0.19, 0.13  # IOD: half axes of a drawn eye
trained = pytest.mark.slow  # two networks are trained


def face(pose: Pose, seed: int, shape=(SIDE, SIDE), contrast: float = 1.0) -> Decomposition:
    """A drawn face; the eyes are ellipses around the points of the pose."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    c, s = np.cos(pose.tilt) / pose.iod, np.sin(pose.tilt) / pose.iod
    u, v = c * (x - pose.x) + s * (y - pose.y), c * (y - pose.y) - s * (x - pose.x)
    ellipse = lambda a, b, w, h: ((u - a) / w) ** 2 + ((v - b) / h) ** 2 < 1
    eye = ellipse(-0.5, 0, W, H) * 1.0 + ellipse(0.5, 0, W, H)
    nose = ellipse(0, 0.6, 0.12, 0.1)
    fur = lambda sigma: gaussian_filter(rng.normal(size=shape), sigma) * sigma
    planes = [contrast * (gaussian_filter(eye + nose * 1.0, 1) + 0.2 * fur(2)), contrast * (eye + 0.1 * fur(3)), fur(2)]
    channels = np.repeat(np.stack(planes)[..., None], 3, axis=3).astype(np.float32)
    residual = np.repeat(gaussian_filter(rng.normal(size=shape), 8)[..., None], 3, axis=2).astype(np.float32)
    return Decomposition(residual + channels.sum(0), residual, channels, ("a", "b", "c"), "cat", ("cat",) * 3)


def drawing(d: Decomposition) -> np.ndarray:
    """The first channel as a photo, uint8."""
    return np.uint8(np.clip(d.channels[0] * 160 + 60, 0, 255))


def pose(rng) -> Pose:
    return Pose(*rng.uniform(54, 74, 2), rng.uniform(34, 52), rng.uniform(-0.5, 0.5))


def ellipses(p: Pose) -> tuple[np.ndarray, np.ndarray]:
    """Outlines of the drawn eyes, from the outer corner over the top."""
    t = np.linspace(np.pi, -np.pi, 2 * marked.ARC - 2, endpoint=False)
    u, v = W * np.cos(t), -H * np.sin(t)
    return tuple(
        np.stack(outlines.to_square(u, v, point, seen, side), axis=1) for point, seen, side in outlines.eye_poses(p)
    )


@pytest.fixture(scope="session")
def parts() -> EyeParts:
    """All networks, trained on 32 drawn faces and eight squares of noise; their certainty, on others."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    drawn = [(p := pose(rng), face(p, i)) for i in range(32)]
    listed = [views.View(np.zeros(0), p.points(), 0, ellipses(p)) for p, _ in drawn]
    maps = [layers_of(d).numpy() for _, d in drawn]
    plain = [finder.photo_maps(np.float32(drawing(d)) / 127.5 - 1).numpy() for _, d in drawn]
    for i in range(8):
        listed.append(views.View(np.zeros(0), None, 0))
        maps.append(noise(i, maps[0].shape, (0, 2, 2)))
        plain.append(0.3 * noise(i, plain[0].shape, (0, 2, 2)))
    seen, unseen = lessons.Seen(listed, np.stack(maps)), lessons.Seen(listed, np.stack(plain))
    lens = lessons.mean_lens([Marked(None, p.points(), ellipses(p)) for p, _ in drawn])
    of_photo = fitting.fit_places(PairNet(3), *lessons.place_lessons(unseen, 0), fitting.Course(40))
    pair = fitting.fit_places(PairNet(12), *lessons.place_lessons(seen, 0), fitting.Course(40))
    patches = lessons.outline_lessons(seen, 0, lens, True)
    line = fitting.fit_outlines(patches, patches)
    raw = EyeParts((packed(of_photo),), (packed(pair),), (packed(line),), tuple(lens.ravel().tolist()), (1.0, 0.0), 0.0)
    new = [face(pose(rng), 50 + i) for i in range(4)]
    blank = [replace(d, channels=noise(60 + i, d.channels.shape, (0, 2, 2, 0))) for i, d in enumerate(new)]
    logits = [[logit(segment_eyes(d, raw).confidence) for d in squares] for squares in (new, blank)]
    return replace(raw, certainty=(8.0, -8.0 * float(np.mean(logits))), least=0.5)  # 0.5 between faces and noise


@pytest.fixture(scope="session")
def untrained_parts() -> EyeParts:
    lens = marked.outline(np.array([[-W, 0], [W, 0], [0, -H], [0, H]]))
    networks = (packed(PairNet(3)),), (packed(PairNet(12)),), (packed(outlines.OutlineNet(12)),)
    return EyeParts(*networks, tuple(lens.ravel().tolist()), (1.0, 0.0), 0.5)


def logit(p: float) -> float:
    return float(np.log(p / (1 - p)))


def noise(seed: int, shape, blur) -> np.ndarray:
    return gaussian_filter(np.random.default_rng(seed).normal(size=shape), blur).astype(np.float32)


@trained
def test_both_eyes_are_found_and_outlined(parts):
    rng = np.random.default_rng(1)
    off, overlap = [], []
    for i in range(100, 106):
        p = pose(rng)
        pair = segment_eyes(face(p, i), parts)
        assert pair.found and pair.confidence >= 0.5
        off.append(errors(pair.centres, p.points()).max())
        truth = [filled(line, SIDE, SIDE) for line in ellipses(p)]
        overlap += [iou(mask, true) for mask, true in zip(pair.masks, truth)]
        for eye, mask in zip(pair.eyes, pair.masks):
            assert eye.area == pytest.approx(mask.sum(), rel=0.1) and eye.axes[0] >= eye.axes[1] > 0
        assert not (pair.left & pair.right).any() and pair.left.shape == (SIDE, SIDE)
        assert np.isfinite(pair.surface).sum() == np.isfinite(pair.image).sum() > 200
    assert np.median(off) < 0.06 and max(off) < 0.15
    assert np.mean(overlap) > 0.75


@trained
def test_nothing_is_guessed(parts):
    rng = np.random.default_rng(2)
    d = face(pose(rng), 200)
    pair = segment_eyes(replace(d, channels=noise(2, d.channels.shape, (0, 2, 2, 0))), parts)
    assert not pair.found and "no pair of eyes" in pair.reason
    sure = segment_eyes(face(pose(rng), 201), parts, certainty=1.0)
    assert not sure.found and sure.points.shape == (2, 2)


@trained
def test_a_person_may_say_where_the_eyes_are(parts):
    p = Pose(64, 60, 44, 0.1)
    d = face(p, 300)
    beside = p.points() + [1.5, -1]
    pair = segment_eyes(d, parts, certainty=1.0, points=beside)
    assert pair.found and errors(pair.centres, p.points()).max() < errors(beside, p.points()).max() + 0.06


@trained
def test_faint_faces_count_as_much(parts):
    p = Pose(64, 60, 44, -0.2)
    pair = segment_eyes(face(p, 301, contrast=0.3), parts)
    assert pair.found and errors(pair.centres, p.points()).max() < 0.15


# --------------------------------------------------------------------------------------------------------------- parts


def test_networks_survive_their_text():
    net = PairNet(12)
    again = unpacked(packed(net), PairNet(12))
    for one, other in zip(net.state_dict().values(), again.state_dict().values()):
        assert torch.allclose(one.float(), other.float(), atol=1e-3)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"places": ["AAAA"]}, "places is not .* finite numbers"),
        ({"places": []}, "places is not one or 2 networks"),
        ({"proposals": []}, "proposals is not one or 2 networks"),
        ({"proposals": [packed(PairNet(12))]}, "proposals is not .* finite numbers"),
        ({"outlines": [3]}, "outlines is not .* finite numbers"),
        ({"lens": [1.0]}, "lens is not 92 finite numbers"),
        ({"certainty": [float("nan"), 1.0]}, "certainty is not 2 finite numbers"),
        ({"least": True}, "least is not a finite number"),
        ({"more": 1}, "eyes holds"),
    ],
)
def test_facts_from_a_hub_are_checked(untrained_parts, change, message):
    facts = json.loads(json.dumps(untrained_parts.to_dict()))
    assert EyeParts.from_dict(facts, 3).places == untrained_parts.places
    with pytest.raises(ValueError, match=message):
        EyeParts.from_dict(facts | change, 3)


def test_a_photo_is_judged_by_the_other_half(untrained_parts):
    both = replace(untrained_parts, places=("a", "b"), outlines=("c", "d"), proposals=("e", "f"))
    assert both.half(0).places == ("b",) and both.half(1).outlines == ("c",) and both.half(0).proposals == ("f",)
    assert untrained_parts.half(0) == untrained_parts  # with one network there is no other


def test_writing_keeps_the_rest_of_the_facts(untrained_parts, tmp_path):
    ChannelFacts(({"name": "one"},)).write(tmp_path)
    calibrate.write(tmp_path, untrained_parts)
    facts = ChannelFacts.read(tmp_path)
    assert facts.roles == ({"name": "one"},) and EyeParts.from_dict(facts.eyes, 3).lens == pytest.approx(
        untrained_parts.lens
    )


# -------------------------------------------------------------------------------------------------------- whole photos


class Drawn:
    """Stands in for a model whose photo shows drawn cats, at `poses`."""

    def __init__(self, parts: EyeParts, *poses: Pose):
        self.poses, self.facts, self.boxes = poses, ChannelFacts(eyes=parts.to_dict()), []
        self.config = ModelConfig(branches=3, size=SIDE)

    def domain_index(self, domain: str) -> int:
        return 0

    def layers(self, left: float, top: float, scale: float, shape) -> Decomposition:
        """What the network would see of a part of the photo, `scale` pixels of the photo a pixel."""
        seen = [Pose((p.x - left) / scale, (p.y - top) / scale, p.iod / scale, p.tilt) for p in self.poses]
        drawn = [face(p, k, shape) for k, p in enumerate(seen)]
        return replace(drawn[0], channels=np.max([d.channels for d in drawn], axis=0))

    @property
    def photo(self) -> Photo:
        return Photo(drawing(self.layers(0, 0, 1, (300, 400))))

    def decompose(self, photo, domain, box):
        self.boxes.append(box)
        return replace(self.layers(box.left, box.top, box.side / SIDE, (SIDE, SIDE)), photo=photo, box=box)


BLANK = Photo(np.zeros((300, 400, 3), np.uint8))


@trained
def test_the_eyes_of_a_whole_photo(parts):
    cat = Pose(150, 120, 70, 0.3)
    model = Drawn(parts, cat)
    pair = finder.find_eyes(model, model.photo)
    assert pair.found and errors(pair.centres, cat.points()).max() < 0.12
    assert pair.left.shape == (300, 400) and pair.left[int(cat.points()[0][1]), int(cat.points()[0][0])]
    assert abs(model.boxes[0].side - 70 / finder.FRAME) < 60  # framed on what the first look saw


@trained
def test_several_cats_each_once(parts):
    cats = [Pose(100, 100, 60, 0.0), Pose(290, 180, 70, -0.2)]
    model = Drawn(parts, *cats)
    pairs = finder.find_pairs(model, model.photo, 5)
    centres = sorted((p.centres.mean(axis=0).tolist() for p in pairs if p.found), key=lambda c: c[0])
    assert len(centres) == 2
    for centre, cat in zip(centres, cats):
        assert np.hypot(centre[0] - cat.x, centre[1] - cat.y) < 0.15 * cat.iod
    assert [p.confidence for p in pairs] == sorted((p.confidence for p in pairs), reverse=True)


@trained
def test_a_square_that_is_framed_badly_is_framed_again(parts):
    cat = Pose(150, 120, 70, 0.0)
    model = Drawn(parts, cat)
    pair = finder.second_look(model, BLANK, cat.points() + [45, 0], parts, certainty=0.0)
    assert pair.found and len(model.boxes) == 2 and errors(pair.centres, cat.points()).max() < 0.15


@trained
def test_two_looks_must_agree(parts, monkeypatch):
    monkeypatch.setattr(finder, "LOOKS", 1)
    cat = Pose(150, 120, 70, 0.0)
    far = finder.second_look(Drawn(parts, cat), BLANK, cat.points() + [45, 0], parts, certainty=0.0)
    assert not far.found and far.reason == finder.DISAGREE and far.points.shape == (2, 2)


@trained
def test_the_search_ends_with_the_first_place_that_is_sure(parts, monkeypatch):
    monkeypatch.setattr(finder.faces, "possible_cats", lambda photo: pytest.fail("the next source was asked"))
    model = Drawn(replace(parts, certainty=(0.0, 4.0)), Pose(200, 140, 110, 0.1))  # every place is sure
    assert finder.find_eyes(model, model.photo).found and len(model.boxes) == 1


@trained
def test_the_same_place_is_looked_at_once(parts, monkeypatch):
    places_told = [np.array([[100.0, 100.0], [160.0, 100.0]]) + [k, 0] for k in (0, 2, 100)]
    monkeypatch.setattr(finder, "proposals", lambda *given: iter(places_told))
    looked = []
    look = lambda model, photo, points, *more: looked.append(points) or NoEyes("no", 0.1, points)
    monkeypatch.setattr(finder, "second_look", look)
    assert not finder.find_eyes(Drawn(parts), BLANK).found
    assert [points[0, 0] for points in looked] == [100, 200]


@pytest.mark.parametrize("height, width, reach", [(30, 40, 10), (14, 60, 6)])
def test_windows_are_cut_at_the_rim(height, width, reach):
    planes = torch.rand(1, 2, height, width, dtype=torch.float64)
    means = places.windowed(planes, reach, 2)
    for row in (0, 3, height - 1):
        assert torch.allclose(means[:, :, row], planes[:, :, max(0, row - reach) : row + reach + 1].mean(dim=2))
    assert torch.allclose(places.windowed(planes, reach, 3), places.windowed(planes.mT, reach, 2).mT)


def test_a_photo_of_one_pixel_has_no_eyes(untrained_parts):
    pair = finder.find_eyes(Drawn(untrained_parts, Pose(1, 1, 1, 0)), Photo(np.zeros((1, 1, 3), np.uint8)))
    assert pair.reason == "the photo is smaller than 32 pixels"


def test_a_model_that_was_not_calibrated_says_so(toy):
    with pytest.raises(ValueError, match="not calibrated for eyes"):
        finder.find_eyes(toy, BLANK)


def test_places_that_overlap_are_one():
    near = [Place(2.0, Pose(50, 50, 20, 0)), Place(1.0, Pose(51, 50, 21, 0.1)), Place(1.5, Pose(90, 50, 20, 0))]
    best = places.apart(near, 3)
    assert [p.logit for p in best] == [2.0, 1.5] and 50 < best[0].pose.x < 51
    assert len(places.apart(near, 1)) == 1


@trained
def test_every_row_has_the_same_columns(parts):
    cat = Pose(150, 120, 70, 0.0)
    photo = Drawn(parts, cat).photo.pixels
    found = job.row_of(Drawn(parts, cat), photo)
    assert found["eyes"] == 2 and np.hypot(found["left_x"] - 115, found["left_y"] - 120) < 8
    none = job.row_of(Drawn(replace(parts, least=1.0), cat), photo)
    broken = job.row_of(None, b"no photo")
    assert list(found) == list(none) == list(broken) and "is not a photo" in broken["why"]
    assert none["eyes"] == broken["eyes"] == 0 and none["left_x"] is broken["left_x"] is None


@trained
def test_each_cat_has_its_own_row_and_masks(parts, tmp_path, monkeypatch):
    model = Drawn(parts, Pose(100, 100, 60, 0.0), Pose(290, 180, 70, -0.2))
    monkeypatch.setattr(job, "cached", lambda name, rough: model)
    (tmp_path / "in").mkdir()
    Image.fromarray(model.photo.pixels).save(tmp_path / "in" / "two.png")
    work = job.FindEyes("drawn", most=3)
    assert batch.run(tmp_path / "in", tmp_path / "out", work, folder=".eyes", skip_existing=False) == batch.DONE
    made = {p.name for p in (tmp_path / "out" / "two.png.eyes").iterdir()}
    assert {"left.png", "right.png", "left-2.png", "right-2.png", "overlay.jpg", "eyes.json"} <= made
    lines = (tmp_path / "out" / "report.csv").read_text().splitlines()
    assert len(lines) == 3 and all(line.startswith("two.png,done") for line in lines[1:])


# ----------------------------------------------------------------------------------------------------- marked, measured


def test_lids_are_arcs_through_their_points(tmp_path):
    points = [[10, 20], [40, 22], [24, 10], [26, 30]]
    line = marked.outline(np.array(points, float))
    for point in points:
        assert np.hypot(*(line - point).T).min() < 0.8
    (tmp_path / "lids").mkdir()
    (tmp_path / "lids" / "lids.json").write_text(json.dumps({"cat_1": {"left": points, "right": points, "iod": 9}}))
    (m,) = marked.with_lids(tmp_path)
    assert m.path.name == "cat_1.jpg" and 22 < m.eyes[0][0] < 28 and m.half in (0, 1)
    (tmp_path / "lids" / "lids.json").write_text("[]")
    with pytest.raises(PhotoError, match=r"lids.json: no list of marked eyelids; accepted"):
        marked.with_lids(tmp_path)
    assert marked.with_lids(tmp_path / "lids") == []


def test_a_series_is_in_one_half():
    halves = {name: Marked(tmp, None).half for name in ("a_1", "a_2", "b_1", "c_1", "d_1") if (tmp := _path(name))}
    assert halves["a_1"] == halves["a_2"] and set(halves.values()) == {0, 1}


def _path(name: str):
    from pathlib import Path

    return Path(f"{name}.jpg")


def test_a_disc_of_the_same_area_is_half_the_mark():
    disc = np.hypot(*(np.mgrid[:64, :64] - 32)) < 10
    assert iou(disc, disc) == 1 and iou(disc, ~disc) == 0 and iou(disc & False, disc & False) == 0


def test_views_keep_the_marks_where_the_eyes_are(tmp_path):
    """A black photo with a red and a green dot at the eyes: wherever they are sent, the marks are on them."""
    photo = np.zeros((300, 400, 3), np.uint8)
    y, x = np.mgrid[:300, :400] + 0.5
    eyes = np.array([[150.0, 120.0], [230.0, 130.0]])
    for point in eyes:
        photo[np.hypot(x - point[0], y - point[1]) < 12] = 255
    Image.fromarray(photo).save(tmp_path / "cat_1.png")
    seen = 0
    cat = Marked(tmp_path / "cat_1.png", eyes)
    for view in (view for number in range(8) for view in views.views(cat, number, [])):
        assert view.picture.shape == (SIDE, SIDE, 3) and view.eyes[0, 0] <= view.eyes[1, 0]
        for column, row in view.eyes:
            if 3 < column < SIDE - 3 and 3 < row < SIDE - 3 and view.pose.iod > 16:
                seen += 1
                grey = view.picture.astype(float).mean(axis=2)
                assert grey[int(row), int(column)] > 0.5 * grey.max()
    assert seen > 20


def test_targets_are_where_the_pair_is():
    true = np.array([[30.0, 32.0, 20.0, 0.2]])
    wanted, offsets = lessons.targets(true, np.array([[32.0, 32.0, 18.0, 0.1]]))
    row, column = np.unravel_index(int(wanted[0].argmax()), wanted[0].shape)
    side = places.AROUND
    u = ((column + 0.5) * places.STEP - side / 2) / places.PER_IOD + float(offsets[0, 0, row, column])
    v = ((row + 0.5) * places.STEP - side / 2) / places.PER_IOD + float(offsets[0, 1, row, column])
    assert np.allclose(Pose(32, 32, 18, 0.1).at(u, v), (30, 32), atol=1e-3)
    assert float(offsets[0, 2, row, column]) == pytest.approx(np.log(20 / 18), abs=1e-4)
    none, _ = lessons.targets(np.full((1, 4), np.nan), np.array([[32.0, 32.0, 18.0, 0.1]]))
    assert float(none.max()) == 0


def test_the_certainty_keeps_the_stated_share_of_errors():
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(0)
    logit = rng.normal(0, 2, 400)
    error = np.where(rng.random(400) < 1 / (1 + np.exp(-2 * logit)), 0.05, 0.9)
    told = {"logit": logit, "error": error, "cat": np.ones(400, bool)}
    (a, b), least = confidence.fit(told)
    reported = 1 / (1 + np.exp(-(a * logit + b))) >= least
    assert (reported & (error > 0.3)).mean() <= confidence.MOST_WRONG and reported.mean() > 0.2
    assert 1 < a < 3 and abs(b) < 0.5
    figures = confidence.figures(told, EyeParts((), (), (), (), (a, b), least))
    assert figures["wrong"] <= confidence.MOST_WRONG and figures["photos without a cat"] == 0


def test_few_right_answers_are_given_up_for_photos_without_a_cat():
    sure, right = np.linspace(0, 1, 201), np.full(201, 0.05)
    assert (sure < confidence.least(sure, right)).sum() == int(confidence.LOST * 201)
    wrong = np.where((sure > 0.5) & (sure < 0.55), 0.9, 0.05)  # ten of them
    assert confidence.least(sure, wrong) > 0.5
    assert confidence.least(sure[:1], np.array([np.inf])) > 0


def test_mistakes_are_looked_for_in_photos_without_a_cat_too():
    planes = np.random.default_rng(0).normal(size=(12, 56, 56)).astype(np.float16)
    net = PairNet(12).eval()
    maps, wanted, _ = lessons.whole_lessons(net, [(planes, None)])
    assert len(maps) == 2 * lessons.MISTAKES_WITHOUT and not wanted.any()
    maps, wanted, _ = lessons.whole_lessons(net, [(planes, Pose(28, 28, 12, 0))])
    assert len(maps) > 2 * 6 and wanted.any()


def test_a_row_counts_all_photos_and_refusals():
    found = [np.array(e) for e in ([0.05, 0.1], [0.1, 0.2], [0.4, 0.01])]
    row = evaluate.row([*found, None])
    assert row["photos"] == 4 and row["two eyes reported"] == 0.75
    assert row["both within 0.15"] == 0.25 and row["one wrong by more than 0.3"] == 0.25
    assert row["median error"] == 0.1 and evaluate.row([None])["median error"] is None
    masks = evaluate.mask_row([[0.8, 0.6]], [[1.0, 1.2]], 2)
    assert masks["mean IoU"] == pytest.approx(0.7) and masks["mean IoU, missing = 0"] == pytest.approx(0.35)


@trained
def test_methods_answer_in_pixels_of_the_photo(parts):
    cat = Pose(150, 120, 70, 0.1)
    model = Drawn(parts, cat)
    pair = finder.find_eyes(model, model.photo)
    case = evaluate.Case(model.photo, pair, parts, model)
    case.__dict__["first"] = replace(face(Pose(64, 60, 44, 0), 3), photo=model.photo, box=Box(0, 0, 300, "centre"))
    truth = [filled(line, 300, 400) for line in ellipses(cat)]
    overlap = {}
    for method in evaluate.METHODS:
        answer = method.run(case)
        if answer is not None and method.key != "value":
            assert errors(answer.points, cat.points()).max() < 0.2, method.title
        if answer is not None and answer.masks:
            overlap[method.key] = np.mean([iou(mask, true) for mask, true in zip(answer.masks, truth)])
    assert {"ours", "discs", "mean", "on value", "on residual"} <= set(overlap) and overlap["mean"] > 0.6
    refused = replace(case, pair=NoEyes("no"))
    assert all(m.run(refused) is None for m in evaluate.METHODS if m.key not in ("box", "value"))


@pytest.mark.slow
def test_plots(tmp_path):
    off = [{"ours": np.array([0.1, 0.2]), "box": None}, {"ours": None, "box": np.array([0.3, 0.5])}]
    curves = {"ours": "decomp eyes", "box": "fixed places"}
    plots.within(tmp_path / "within.png", {"crops": off, "photos": off[:1]}, curves)
    plots.confidence(tmp_path / "confidence.png", [(0.2, False), (0.9, True), (0.8, True)])
    plots.confidence(tmp_path / "none.png", [])
    for name in ("within.png", "confidence.png", "none.png"):
        assert np.asarray(Image.open(tmp_path / name)).std() > 10


@pytest.mark.slow
def test_the_commands_from_end_to_end(toy, folder, tmp_path):
    """The toy knows nothing of eyes; what is tested is that every step fits the next."""
    pytest.importorskip("sklearn")
    toy.save_pretrained(tmp_path / "model")
    for kind, name in (("crops", "cat.jpg"), ("photos", "cat.png")):
        (tmp_path / f"{kind}.json").write_text(
            json.dumps([{"file": str(folder / name), "eyes": [[180, 100], [270, 110]]}])
        )
    call = lambda *words: CliRunner().invoke(app, [str(word) for word in words])
    measured = ("evaluate-eyes", "--data", tmp_path, "-o", tmp_path / "out", "--model", tmp_path / "model")
    refused = call(*measured)
    assert refused.exit_code == 2 and "was not calibrated" in refused.output
    (tmp_path / "cats").mkdir()
    (tmp_path / "cats" / "a.jpg").write_bytes((folder / "cat.jpg").read_bytes())
    more = ("--cats", tmp_path / "cats", "--epochs", 1, "--jobs", 2)
    result = call("calibrate-eyes", tmp_path / "model", "--data", tmp_path, *more)
    assert result.exit_code == 0, result.output
    assert '"photos of cats": 1' in result.output
    calibrate.cached.cache_clear()  # as a second command would start
    result = call(*measured, "--folds", 0)
    assert result.exit_code == 0, result.output
    table = json.loads((tmp_path / "out" / "table.json").read_text())
    assert table["crops"]["decomp eyes"]["photos"] == 1
    pictures = {path.name for path in (tmp_path / "out").glob("*.png")}
    assert pictures == {"crops.png", "photos.png", "worst.png", "within.png", "confidence.png"}


@pytest.mark.parametrize("number", [0, 1])
def test_each_half_marks_its_own_photos(folder, number, monkeypatch):
    parts = load("animals").facts.eyes
    parts = EyeParts.from_dict(parts, 9)
    asked, look = [], finder.second_look
    monkeypatch.setattr(finder, "second_look", lambda *args: asked.append(args[3]) or look(*args))
    m = unmarked.mark("animals", parts, (number, folder / "cat.jpg"))
    assert m.half == number and lessons.copies_of(m) == []
    assert asked[0].places == parts.places[number : number + 1] and len(asked[0].outlines) == 1
    assert errors(m.eyes, np.array([[174, 107], [320, 132]])).max() < 0.1  # by hand, the pupils
    assert unmarked.mark("animals", replace(parts, certainty=(1.0, -50.0)), (number, folder / "cat.jpg")) is None


def test_photos_without_marks_are_taken_evenly(folder, monkeypatch):
    monkeypatch.setattr(unmarked, "MOST", 2)
    assert len(unmarked.chosen([folder, folder])) <= 2 and unmarked.chosen([]) == []
    with pytest.raises(PhotoError, match="no"):
        unmarked.chosen([folder / "nowhere"])


def test_one_fold_is_no_evaluation(tmp_path):
    result = CliRunner().invoke(app, ["evaluate-eyes", "--data", str(tmp_path), "-o", str(tmp_path), "--folds", "1"])
    assert result.exit_code == 2 and "accepted: 0 or 2" in result.output


def test_found_and_not_found_are_told_apart():
    assert Eyes.found and not NoEyes("no").found and pose_of(Pose(5, 6, 4, 0.1).points()).tilt == pytest.approx(0.1)

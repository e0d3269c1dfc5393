"""What the networks of the eyes learn from: squares of layers, cut from photos, and what they should answer there.

`PairNet` learns the two eye points of each photo, other places, and photos without a cat, once from the layers and once
from the photo itself; `OutlineNet` the mean eye at those points, then marked eyelids, where there are some.
"""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .. import photos
from ..decomposer import Decomposer, cached
from . import finder, outlines, places
from .marked import HALVES, Marked, half_of, outline
from .places import PairNet, Pose
from .views import CANVAS, View, backgrounds, views

MISTAKES, MISTAKES_WITHOUT = 7, 3  # of a network, in a copy of a photo with and without a cat, that it learns from
WITHOUT_LIDS = outline(np.array([[-0.2, 0.03], [0.2, -0.03], [0, -0.16], [0, 0.16]]))  # the mean eye if none is marked


@dataclass(frozen=True)
class Seen:
    """Views and their maps."""

    views: list[View]
    maps: np.ndarray  # (n, planes, CANVAS / 2, CANVAS / 2) float16


Sample = tuple[np.ndarray, Pose, Pose]  # maps as PairNet sees them, the eyes in them, the pose they are cut around


def scenes() -> list[Path]:
    """Photos and textures without animals that scikit-image and scikit-learn bring along."""
    import skimage

    folders = [Path(skimage.__file__).parent / "data"]
    try:
        import sklearn.datasets

        folders.append(Path(sklearn.datasets.__file__).parent / "images")
    except ImportError:
        pass
    cats = {"chelsea.png"}
    found = [
        p for folder in folders for p in sorted(folder.glob("*")) if p.suffix in photos.SUFFIXES and p.name not in cats
    ]
    return [p for p in found if _large(p)]


def _large(path: Path) -> bool:
    try:
        return min(photos.load(path).pixels.shape[:2]) >= CANVAS
    except photos.PhotoError:
        return False


def seen(model: Decomposer, listed: list[View], batch: int = 8) -> Seen:
    """Run the network on views."""
    side = CANVAS // 2
    maps = np.empty((len(listed), 3 * (model.config.branches + 1), side, side), np.float16)
    for i in range(0, len(listed), batch):
        pictures = np.stack([view.picture for view in listed[i : i + batch]]).astype(np.float32) / 127.5 - 1
        maps[i : i + batch] = finder.network_maps(model, torch.from_numpy(pictures).permute(0, 3, 1, 2)).numpy()
    return Seen(listed, maps)


def seen_plainly(listed: list[View]) -> Seen:
    """The same for the views themselves, without the network."""
    pictures = (view.picture.astype(np.float32) / 127.5 - 1 for view in listed)
    return Seen(listed, np.stack([finder.photo_maps(picture).half().numpy() for picture in pictures]))


class Lessons(NamedTuple):
    """Training samples for the networks of one half."""

    proposals: tuple[np.ndarray, Tensor, Tensor]  # see `place_lessons`; without the network
    copies: list[tuple[np.ndarray, Pose | None]]  # maps of copies of whole photos, float16, likewise; the eyes in them
    places: tuple[np.ndarray, Tensor, Tensor]
    whole: list[tuple[np.ndarray, Pose | None]]  # maps of copies of whole photos
    mean_eyes: tuple[Tensor, Tensor]  # see `outline_lessons`
    lids: tuple[Tensor, Tensor]

    @classmethod
    def joined(cls, parts: list["Lessons"]) -> "Lessons":
        columns = zip(*parts)
        return cls(*(list(itertools.chain(*of)) if isinstance(of[0], list) else joined(of) for of in columns))


def joined(parts: Iterable[tuple]) -> tuple:
    """Tuples of arrays or of tensors, each joined along its first axis."""
    return tuple((np.concatenate if isinstance(of[0], np.ndarray) else torch.cat)(of) for of in zip(*parts))


def lessons(
    name: str, others: tuple[Path, ...], lens: np.ndarray, chunk: list[tuple[int, Marked | Path]]
) -> list[Lessons]:
    """Training samples from some photos, for each half.

    Args:
        others: photos without a cat's eyes, some of which faces are laid on.
        chunk: photos and their numbers, see `views`.
    """
    model, behind, seed = cached(name, rough=True), backgrounds(others), chunk[0][0]
    listed = [view for number, item in chunk for view in views(item, number, behind)]
    plain, of = seen_plainly(listed), seen(model, listed)
    told = []
    for half in range(HALVES):
        own = [copies_of(item) for number, item in chunk if half_of(number, item) == half]
        copies = [(finder.photo_maps(small).half().numpy(), eyes) for each in own for small, eyes in each]
        whole = [(finder.whole_maps(model, small).half().numpy(), eyes) for each in own for small, eyes in each[:-1]]
        outlined = [outline_lessons(of, half, lens, lids, seed) for lids in (False, True)]
        told.append(Lessons(place_lessons(plain, half, seed), copies, place_lessons(of, half, seed), whole, *outlined))
    return told


def copies_of(item: Marked | Path) -> list[tuple[np.ndarray, Pose | None]]:
    """The copies of a photo that are searched, and that a network learns from; in each the eyes, if it is a cat."""
    cat = isinstance(item, Marked)
    if cat and item.marked_by is not None:
        return []
    photo, copies = photos.load(item.path if cat else item), []
    for longest in finder.COPIES if cat and not item.cropped else finder.COPIES[:2]:
        small, scale = finder.small_copy(photo, longest)
        copies.append((small, places.pose_of(item.eyes / (2 * scale)) if cat else None))
    return copies


# ------------------------------------------------------------------------------------------------------------ places


def place_lessons(of: Seen, half: int, seed: int = 0) -> tuple[np.ndarray, Tensor, Tensor]:
    """Upright maps (n, planes, AROUND, AROUND) float16 near eyes and elsewhere, their targets and offsets."""
    rng = np.random.default_rng((seed, half))
    chosen: list[Sample] = []
    for view, planes in zip(of.views, of.maps):
        if view.half != half:
            continue
        planes, side = torch.from_numpy(planes.astype(np.float32)), CANVAS / 2
        eyes = view.pose and view.pose.scaled(0.5)
        clear = eyes is not None and 0 < eyes.x < side and 0 < eyes.y < side
        starts = [beside(eyes, rng), misjudged(eyes, rng)] if clear else [_random(side, rng)]
        chosen += samples(planes, eyes, starts)
    return taught(chosen, of.maps.shape[1])


def samples(planes: Tensor, eyes: Pose | None, starts: list[Pose]) -> list[Sample]:
    """What PairNet sees around some poses, where the eyes are (nan: nowhere), and the poses."""
    true = eyes or Pose(np.nan, np.nan, np.nan, np.nan)
    cut = lambda pose: places.upright(planes, pose, places.AROUND, places.AROUND)[0].half().numpy()
    return [(cut(pose), true, pose) for pose in starts]


def taught(chosen: list[Sample], planes: int) -> tuple[np.ndarray, Tensor, Tensor]:
    """Samples as arrays: maps (n, planes, AROUND, AROUND), and their `targets`."""
    maps, true, poses = zip(*chosen) if chosen else ((), (), ())
    upright = np.array(maps, np.float16).reshape(-1, planes, places.AROUND, places.AROUND)
    return upright, *targets(np.array(true).reshape(-1, 4), np.array(poses).reshape(-1, 4))


def beside(eyes: Pose, rng) -> Pose:
    x, y = eyes.at(*rng.normal(0, 0.4, 2))
    return Pose(x, y, eyes.iod * np.exp(rng.normal(0, 0.15)), eyes.tilt + rng.normal(0, 0.2))


def misjudged(eyes: Pose, rng) -> Pose:
    """A pose of the wrong size: a network must learn that the pair is not there."""
    x, y = eyes.at(*rng.normal(0, 0.8, 2))
    return Pose(x, y, eyes.iod * np.exp(rng.choice([-1, 1]) * rng.uniform(0.3, 1)), rng.normal(0, 0.5))


def _random(side: float, rng) -> Pose:
    x, y = rng.uniform(0.25, 0.75, 2) * side
    distance = np.exp(rng.uniform(np.log(0.7 * places.IODS[0]), np.log(places.IODS[-1])))
    return Pose(x, y, distance, rng.choice(places.UPRIGHT + places.TILTED) + rng.normal(0, 0.1))


def targets(true: np.ndarray, poses: np.ndarray) -> tuple[Tensor, Tensor]:
    """What PairNet should answer, (n, g, g) from 0 to 1 and (n, 4, g, g), for upright maps around `poses` (n, 4)."""
    side = places.AROUND // places.STEP
    a = ((np.arange(side) + 0.5) * places.STEP - places.AROUND / 2) / places.PER_IOD
    u, v = np.meshgrid(a, a)
    dx, dy = ((true - poses)[:, :2] / poses[:, 2:3]).T
    c, s = np.cos(poses[:, 3]), np.sin(poses[:, 3])
    across, down = c * dx + s * dy, c * dy - s * dx
    grow, turn = np.log(true[:, 2] / poses[:, 2]), true[:, 3] - poses[:, 3]
    offsets = [across[:, None, None] - u, down[:, None, None] - v]
    offsets += [np.broadcast_to(a[:, None, None], offsets[0].shape) for a in (grow, turn)]
    of_size = np.exp(grow)[:, None, None]
    far = (
        (offsets[0] ** 2 + offsets[1] ** 2) / (0.15 * of_size) ** 2 + (offsets[2] / 0.22) ** 2 + (offsets[3] / 0.3) ** 2
    )
    wanted = np.nan_to_num(np.exp(-far / 2), nan=0.0)
    return torch.from_numpy(np.float32(wanted)), torch.from_numpy(np.float32(np.nan_to_num(np.stack(offsets, axis=1))))


def whole_lessons(net: PairNet, whole: list[tuple[np.ndarray, Pose | None]], seed: int = 0) -> tuple:
    """As `place_lessons`, from whole photos: the eyes, and what this network mistakes for eyes there."""
    rng = np.random.default_rng((seed, 1))
    chosen: list[Sample] = []
    for planes, eyes in whole:
        planes = torch.from_numpy(planes.astype(np.float32))
        width = planes.shape[2]
        for mirrored in (False, True):  # the channels of a mirrored photo are nearly mirrored channels
            if mirrored:
                planes, eyes = planes.flip(2), eyes and eyes._replace(x=width - eyes.x, tilt=-eyes.tilt)
            starts = [beside(eyes, rng) for _ in range(4)] + [misjudged(eyes, rng) for _ in range(2)] if eyes else []
            tilts = places.UPRIGHT if mirrored else places.TILTED
            found = [p.pose for p in places.search([net], planes, 8, tilts)]
            wrong = [pose for pose in found if not (eyes and places.near(pose, eyes))]
            wrong = wrong[: MISTAKES if eyes else MISTAKES_WITHOUT]
            starts += [anew._replace(x=anew.x + rng.normal(0, 0.3 * anew.iod)) for anew in wrong]
            chosen += samples(planes, eyes, starts)
    return taught(chosen, next(net.parameters()).shape[1])


# ---------------------------------------------------------------------------------------------------------- outlines


def mean_lens(cats: list[Marked]) -> np.ndarray:
    """Outline of the mean marked eye, (2 ARC - 2, 2) in IOD from its centre, outer corner left."""
    lenses = []
    for m in cats:
        pose = places.pose_of(m.eyes)
        for (point, seen_in, side), lid in zip(outlines.eye_poses(pose), m.lids or ()):
            lenses.append(outlines.in_patch(lid, point, seen_in, side))
    return np.mean(lenses, axis=0) if lenses else WITHOUT_LIDS


def outline_lessons(of: Seen, half: int, lens: np.ndarray, lids: bool, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Patches (n, planes, SIDE, SIDE) around the eyes, a little beside them, and masks (n, SIDE, SIDE) from 0 to 1.

    Args:
        lids: take the marked eyelids, of views that have some; else the mean eye, laid at the marked points.
    """
    rng = np.random.default_rng((seed, half))
    patches, masks = [torch.zeros(0, of.maps.shape[1], outlines.SIDE, outlines.SIDE)], []
    for view, planes in zip(of.views, of.maps):
        if view.half != half or view.eyes is None or lids != bool(view.lids) or not _framed(view):
            continue
        planes, pose = torch.from_numpy(planes.astype(np.float32)), view.pose.scaled(0.5)
        for k, (point, _, side) in enumerate(outlines.eye_poses(pose)):
            for _ in range(3 if lids else 1):
                across, down, grow, turn = rng.normal(0, (0.05, 0.05, 0.07, 0.11))
                at = point + pose.iod * np.array([across, down])
                aside = pose._replace(iod=pose.iod * np.exp(grow), tilt=pose.tilt + turn)
                if lids:
                    polygon = outlines.in_patch(view.lids[k] / 2, at, aside, side)
                else:
                    square = np.stack(outlines.to_square(*lens.T, point, pose, side), axis=1)
                    polygon = outlines.in_patch(square, at, aside, side)
                patches.append(outlines.patch(planes, at, aside, side)[None])
                masks.append(outlines.drawn(polygon))
    wanted = torch.from_numpy(np.array(masks, np.float32).reshape(-1, 1, *[outlines.SIDE * outlines.FINE] * 2))
    return torch.cat(patches), F.avg_pool2d(wanted, outlines.FINE)[:, 0]


def _framed(view: View) -> bool:
    """Whether the eyes are inside, and as large as a second look sees them."""
    return bool(view.pose.iod > 30 and ((view.eyes > 6) & (view.eyes < CANVAS - 6)).all())

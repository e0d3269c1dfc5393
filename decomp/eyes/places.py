"""Where the layers of a photo look like a pair of eyes: one small convolutional network, at several sizes and tilts.

The network ("PairNet") only ever sees a pair upright and PER_IOD points apart: the maps are resized and turned, once
for each size and tilt that is searched. At every second point it says how much the place looks like the middle of a
pair of eyes, and how far beside it that pair lies. Contrast is normalised within about one face, so that a black cat
counts as much as a white one.

Convention: x right, y down, in pixels; pixel j covers [j, j + 1). "Left" is image-left. IOD: distance of the eyes.
*Maps* are R and the channels, (3 (M + 1), h, w) float32, the mean of 2 x 2 pixels of what the network gave.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

PER_IOD = 10  # points of a map between two eyes when PairNet sees them
STEP = 2  # points from one answer of PairNet to the next
UPRIGHT, TILTED = (0.0,), (-0.6, 0.6)  # radians: tilts that are searched; PairNet corrects what lies between
IODS = 6.3 * 1.4 ** np.arange(5)  # that are searched, in points of the maps; PairNet corrects likewise
WINDOW = 21  # points: contrast is measured within this window
FROM_EACH = 12  # best answers of each size and tilt that are compared
SAME = 0.7  # IOD: two pairs are not closer


class Pose(NamedTuple):
    """Where a pair of eyes may be: its middle, its distance and its tilt (radians, clockwise on the screen)."""

    x: float
    y: float
    iod: float
    tilt: float

    def points(self) -> np.ndarray:
        """The two eyes, (2, 2), image-left first."""
        middle = np.array([self.x, self.y])
        half = self.iod / 2 * np.array([np.cos(self.tilt), np.sin(self.tilt)])
        return np.stack([middle - half, middle + half])

    def at(self, u, v):
        """Pixels of points given in IOD from the middle, along and across the line through the eyes."""
        c, s = self.iod * np.cos(self.tilt), self.iod * np.sin(self.tilt)
        return self.x + c * u - s * v, self.y + s * u + c * v

    def scaled(self, factor: float, left: float = 0.0, top: float = 0.0) -> "Pose":
        """The pose in pixels of another size, moved."""
        return Pose(self.x * factor + left, self.y * factor + top, self.iod * factor, self.tilt)


def pose_of(points: np.ndarray) -> Pose:
    """The pose of two points (2, 2)."""
    (x0, y0), (x1, y1) = points
    return Pose((x0 + x1) / 2, (y0 + y1) / 2, float(np.hypot(x1 - x0, y1 - y0)), float(np.arctan2(y1 - y0, x1 - x0)))


def maps_of(layers: Float[Tensor, "b layers 3 h w"]) -> Float[Tensor, "b planes h2 w2"]:
    """Means of 2 x 2 pixels, R first; an odd last row or column is left out."""
    return F.avg_pool2d(layers.flatten(1, 2), 2)


class PairNet(nn.Module):
    """Normalised upright maps to a logit of "middle of a pair of eyes", and where that pair is, every STEP points.

    Answers: logits (b, h / STEP, w / STEP); offsets (b, 4, ...): of the middle across and down in IOD, of the logarithm
    of the distance, of the tilt.
    """

    def __init__(self, planes: int):
        super().__init__()

        def conv(i: int, o: int, stride: int = 1, gap: int = 1) -> nn.Module:
            layer = nn.Conv2d(i, o, 3, stride, gap, dilation=gap, bias=False)
            return nn.Sequential(layer, nn.BatchNorm2d(o), nn.ReLU())

        shallow = [nn.Dropout2d(0.1), conv(planes, 16), conv(16, 24, STEP), conv(24, 24), conv(24, 32, 1, 2)]
        self.layers = nn.Sequential(*shallow, nn.Dropout2d(0.1), conv(32, 32, 1, 2), nn.Conv2d(32, 5, 1))
        nn.init.constant_(self.layers[-1].bias[:1], -3)  # most places are none

    def forward(self, maps: Float[Tensor, "b planes h w"]):
        answer = self.layers(maps)
        return answer[:, 0], answer[:, 1:] / 2


def normalised(maps: Float[Tensor, "b planes h w"]) -> Float[Tensor, "b planes h w"]:
    """Each layer in units of its own contrast, 70 % of it measured near by and 30 % everywhere."""
    u = maps.unflatten(1, (-1, 3))
    u = u - u.mean(dim=(3, 4), keepdim=True)
    energy = u.square().mean(dim=2)
    reach = (min(WINDOW, *maps.shape[2:]) - 1) // 2
    near = windowed(windowed(energy, reach, 2), reach, 3)  # one after the other: the mean of a square
    contrast = (0.7 * near + 0.3 * energy.mean(dim=(2, 3), keepdim=True)).sqrt() + 2e-3
    return u.div_(contrast[:, :, None]).clamp_(-4, 4).flatten(1, 2).contiguous(memory_format=torch.channels_last)


def windowed(planes: Float[Tensor, "b c h w"], reach: int, dim: int) -> Float[Tensor, "b c h w"]:
    """Means of `reach` points to each side along one axis, of fewer at its ends: differences of sums from the start."""
    n = planes.shape[dim]
    at = torch.arange(n)
    first, last = (at - reach).clamp(min=0), (at + reach).clamp(max=n - 1)
    sums = planes.cumsum(dim)
    inside = sums.index_select(dim, last) - sums.index_select(dim, first) + planes.index_select(dim, first)
    return inside / (last - first + 1).view([-1 if k == dim else 1 for k in range(planes.ndim)])


class Place(NamedTuple):
    """A pair of eyes that the maps may show."""

    logit: float
    pose: Pose  # in pixels of the maps


def upright(maps: Tensor, pose: Pose, width: int, height: int) -> Float[Tensor, "1 planes height width"]:
    """The maps turned and resized around a pose: PER_IOD points an IOD, the pose in the middle, borders repeated.

    Args:
        maps: (planes, h, w).
    """
    h, w = maps.shape[1:]
    u, v = np.meshgrid((np.arange(width) + 0.5 - width / 2) / PER_IOD, (np.arange(height) + 0.5 - height / 2) / PER_IOD)
    x, y = pose.at(u, v)
    where = np.stack([x / w * 2 - 1, y / h * 2 - 1], axis=-1)[None].astype(np.float32)
    shrink = max(1, round(pose.iod / PER_IOD))  # against aliasing
    planes = F.avg_pool2d(maps[None], shrink) if shrink > 1 and min(h, w) >= shrink else maps[None]
    seen = F.grid_sample(planes, torch.from_numpy(where), padding_mode="border", align_corners=False)
    return normalised(seen)


def answers(nets: list[PairNet], maps: Tensor, pose: Pose, width: int, height: int, count: int) -> list[Place]:
    """The best `count` places in the upright maps around a pose; the networks' answers are averaged."""
    seen = upright(maps, pose, width, height)
    answered = [net(seen) for net in nets]
    logits, offsets = (torch.stack([a[k] for a in answered]).mean(dim=0)[0].numpy() for k in (0, 1))
    found = []
    for at in np.argsort(-logits, axis=None)[:count]:
        row, column = np.unravel_index(at, logits.shape)
        across, down, grow, turn = offsets[:, row, column]
        u = ((column + 0.5) * STEP - width / 2) / PER_IOD + across
        v = ((row + 0.5) * STEP - height / 2) / PER_IOD + down
        x, y = pose.at(u, v)
        moved = Pose(float(x), float(y), float(pose.iod * np.exp(np.clip(grow, -0.5, 0.5))), float(pose.tilt + turn))
        found.append(Place(float(logits[row, column]), moved))
    return found


@torch.inference_mode()
def search(
    nets: list[PairNet],
    maps: Float[Tensor, "planes h w"],
    most: int,
    tilts: tuple[float, ...] = UPRIGHT + TILTED,
    iods: Sequence[float] = tuple(IODS),
) -> list[Place]:
    """The best places anywhere in the maps that do not overlap, best first; at most `most`, perhaps none."""
    h, w = maps.shape[1:]
    found = []
    for iod in iods:
        if iod > max(h, w) or min(h, w) * PER_IOD / iod < STEP:
            continue
        for tilt in tilts:
            c, s, k = abs(np.cos(tilt)), abs(np.sin(tilt)), PER_IOD / iod
            width, height = (max(8, int(np.ceil(k * n / STEP)) * STEP) for n in (c * w + s * h, s * w + c * h))
            middle = Pose(w / 2, h / 2, float(iod), float(tilt))
            found += answers(nets, maps, middle, width, height, FROM_EACH)
    return apart([p for p in found if 0 < p.pose.x < w and 0 < p.pose.y < h], most)


def apart(places: list[Place], most: int) -> list[Place]:
    """The best places of which no two overlap; the pose is the mean of the answers that agree with the best one."""
    left, best = sorted(places, key=lambda p: -p.logit), []
    while left and len(best) < most:
        first = left[0]
        agree = [p for p in left if near(p.pose, first.pose)]
        weights = np.exp([p.logit - first.logit for p in agree])
        best.append(Place(first.logit, Pose(*map(float, np.average([p.pose for p in agree], axis=0, weights=weights)))))
        clear = lambda p, a=first.pose: np.hypot(p.x - a.x, p.y - a.y) > SAME * max(p.iod, a.iod)
        left = [p for p in left if clear(p.pose)]
    return best


def near(a: Pose, b: Pose) -> bool:
    beside = np.hypot(a.x - b.x, a.y - b.y) < 0.2 * b.iod
    return bool(beside and abs(np.log(a.iod / b.iod)) < 0.25 and abs(a.tilt - b.tilt) < 0.35)


AROUND = 28  # points: side of the upright maps that a second look sees


@torch.inference_mode()
def look_again(nets: list[PairNet], maps: Float[Tensor, "planes h w"], pose: Pose) -> Place:
    """The best place near a pose, which is seen upright; twice, the second time from where the first saw it."""
    for _ in range(2):
        place = apart(answers(nets, maps, pose, AROUND, AROUND, FROM_EACH), 1)[0]
        pose = place.pose
    return place

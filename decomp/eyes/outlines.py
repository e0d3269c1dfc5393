"""The outline of each eye: Chan-Vese on an evidence image around each of two places.

The *surface* that Chan-Vese starts from is the mean shape of marked eyes ("lens"), as large and as tilted as the place
says. The *image* that is segmented is the logit of a small network, fitted to be positive inside an eye and negative
outside. It sees R and the channels around the place, each minus its median and divided by its contrast there. A
multiple of the surface is added, which keeps the contour near the shape of an eye where the channels show nothing.
Appendix F of the paper takes V of the channels that are constant inside the eye; `decomp evaluate-eyes` measures both.

Convention: a patch is (SIDE, SIDE), upright, the place in its middle, image-right eyes mirrored, so that the outer
corner is left; `PER_IOD` pixels are one IOD. Level sets are positive inside.
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .marked import filled
from .places import Pose, pose_of

PER_IOD, SIDE, FINE = 24, 20, 3  # the network's patch; the contour lives on a patch FINE times as fine
RADIUS = SIDE / 2 / PER_IOD  # IOD from the middle to a side of the patch
AREA = 0.1  # IOD squared: of the mean lens
LENS_WEIGHT, LARGEST_LOGIT = 30.0, 2.0  # per IOD from the lens's outline; the image's bound, alike inside and outside
ITERATIONS, SMOOTHING = 5, 2  # of the morphological Chan-Vese; more change nothing
ROUNDS = 2  # in which the pose is centred on the evidence before the outlines are taken


def _grid(side: int) -> list[np.ndarray]:
    """u and v, in IOD from the place, of a patch's pixels."""
    a = (np.arange(side) + 0.5) / side * 2 * RADIUS - RADIUS
    return np.meshgrid(a, a)


GRID = _grid(SIDE)


class OutlineNet(nn.Module):
    """Logit of "inside the eye" for each pixel of a patch: 1x1, three 3x3 with gaps of 1, 2, 4, and 1x1."""

    def __init__(self, planes: int, width: int = 16):
        super().__init__()
        layers = [nn.Dropout2d(0.15), nn.Conv2d(planes + 3, width, 1)]
        for gap in (1, 2, 4):
            conv = nn.Conv2d(width, width, 3, padding=gap, dilation=gap, bias=False)
            layers += [conv, nn.BatchNorm2d(width), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, 1, 1))

    def forward(self, patches: Float[Tensor, "n planes side side"]) -> Float[Tensor, "n side side"]:
        x = patches.unflatten(1, (-1, 3))
        x = x - x.flatten(3).median(dim=3)[0][..., None, None]
        x = (x / (x.square().mean(dim=(2, 3, 4), keepdim=True).sqrt() + 2e-3)).clamp(-3, 3).flatten(1, 2)
        u, v = (torch.from_numpy(np.float32(a)) for a in GRID)
        where = torch.stack([u / 0.2, v / 0.2, (u**2 + v**2) / 0.04 - 1]).expand(len(x), -1, -1, -1)
        return self.layers(torch.cat([x, where], dim=1))[:, 0]


def eye_poses(pose: Pose) -> list[tuple[np.ndarray, Pose, int]]:
    """Of the image-left and the image-right eye: where it is, the pose it is seen in, and 1, or -1 for mirrored."""
    return [(point, pose, side) for point, side in zip(pose.points(), (1, -1))]


def patch(maps: Float[Tensor, "planes h w"], centre: np.ndarray, pose: Pose, side: int) -> Float[Tensor, "planes s s"]:
    """The maps around one place, which lies at `centre`; both in pixels of the maps."""
    h, w = maps.shape[1:]
    x, y = to_square(*GRID, centre, pose, side)
    where = np.stack([x / w * 2 - 1, y / h * 2 - 1], axis=-1)[None].astype(np.float32)
    return F.grid_sample(maps[None], torch.from_numpy(where), padding_mode="border", align_corners=False)[0]


def to_square(u, v, centre: np.ndarray, pose: Pose, side: int):
    """Pixels of points given in IOD from the place."""
    c, s = pose.iod * np.cos(pose.tilt), pose.iod * np.sin(pose.tilt)
    return centre[0] + c * side * u - s * v, centre[1] + s * side * u + c * v


def in_patch(polygon: np.ndarray, centre: np.ndarray, pose: Pose, side: int) -> np.ndarray:
    """A polygon of the square, (n, 2), in IOD from the place."""
    c, s = np.cos(pose.tilt) / pose.iod, np.sin(pose.tilt) / pose.iod
    x, y = (polygon - centre).T
    return np.stack([side * (c * x + s * y), c * y - s * x], axis=1)


def drawn(polygon: np.ndarray) -> np.ndarray:
    """A polygon in IOD from the place as a mask of the fine patch, bool."""
    return filled((polygon + RADIUS) * PER_IOD * FINE, SIDE * FINE, SIDE * FINE)


class Outline(NamedTuple):
    """One eye, in pixels of the square."""

    polygon: np.ndarray  # (n, 2), closed
    centre: np.ndarray  # (2,) where the evidence is centred
    surface: np.ndarray  # (FINE SIDE, FINE SIDE) float32: level set that Chan-Vese starts from
    image: np.ndarray  # likewise: what it segments
    eye: tuple[np.ndarray, Pose, int]  # where the patch lies, see `eye_poses`


def lens_surface(lens: np.ndarray, centre: np.ndarray, grow: float = 1.0) -> np.ndarray:
    """Signed distance in IOD from the outline of the mean eye (n, 2), laid at `centre` (IOD), positive inside."""
    from scipy.ndimage import distance_transform_edt

    inside = drawn(lens * grow + centre)
    return np.float32(distance_transform_edt(inside) - distance_transform_edt(~inside)) / (PER_IOD * FINE)


def contour(logits: np.ndarray, lens: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Morphological Chan-Vese from the lens on the evidence of one patch (SIDE, SIDE).

    Returns:
        mask, bool, surface and image of the fine patch.
    """
    from skimage.segmentation import morphological_chan_vese

    fine = F.interpolate(torch.from_numpy(logits)[None, None], scale_factor=FINE, mode="bicubic")[0, 0].numpy()
    surface = lens_surface(lens, centre_of(fine))
    image = np.clip(fine + LENS_WEIGHT * surface, -LARGEST_LOGIT, LARGEST_LOGIT)
    mask = morphological_chan_vese(image, ITERATIONS, init_level_set=surface > 0, smoothing=SMOOTHING) > 0
    if not mask[surface > 0].mean() > 0.3:  # it left the place: the surface is the better answer
        mask = surface > 0
    return one_piece(mask, surface), surface, image


def one_piece(mask: np.ndarray, surface: np.ndarray) -> np.ndarray:
    """The component that shares most pixels with the surface, without holes."""
    from scipy.ndimage import binary_fill_holes
    from skimage.measure import label

    labels = label(mask, connectivity=1)
    counts = np.bincount(labels[surface > 0], minlength=2)
    counts[0] = 0
    return binary_fill_holes(labels == counts.argmax())


@torch.inference_mode()
def outlines(maps: Tensor, pose: Pose, nets: list[OutlineNet], lens: np.ndarray) -> list[Outline]:
    """Both eyes of a pose; the networks' logits are averaged.

    Args:
        maps: R and the channels, (3 (M + 1), h, w), at about PER_IOD pixels an IOD.
        pose: in pixels of the maps.
    """
    at = lambda uv, point, seen, side: np.stack(to_square(*uv.T, point, seen, side), axis=1)
    centres = []
    for _ in range(ROUNDS):
        centres.append([at(centre_of(evidence(maps, eye, nets))[None], *eye)[0] for eye in eye_poses(pose)])
        pose = pose_of(np.array(centres[-1]))
    eyes = []
    for eye, centre in zip(eye_poses(pose), centres[0]):  # the first centres are the more accurate ones
        mask, surface, image = contour(evidence(maps, eye, nets), lens)
        eyes.append(Outline(at(outline_of(mask), *eye), centre, surface, image, eye))
    return eyes


def evidence(maps: Tensor, eye: tuple[np.ndarray, Pose, int], nets: list[OutlineNet]) -> np.ndarray:
    """Logits of "inside the eye" around one of `eye_poses`, (SIDE, SIDE)."""
    here = patch(maps, *eye)[None]
    return torch.stack([net(here)[0] for net in nets]).mean(dim=0).numpy()


def centre_of(logits: np.ndarray) -> np.ndarray:
    """Where the evidence of a patch is centred, in IOD from its middle."""
    inside = 1 / (1 + np.exp(-logits))
    return np.array([(inside * a).sum() for a in _grid(len(logits))]) / inside.sum()


def outline_of(mask: np.ndarray) -> np.ndarray:
    """The longest outline of a fine patch's mask, smoothed by a pixel, (n, 2) in IOD from the place."""
    from skimage.filters import gaussian
    from skimage.measure import find_contours

    lines = find_contours(np.pad(gaussian(mask, 1), 1), 0.5)
    return (max(lines, key=len)[:, ::-1] - 0.5) / (PER_IOD * FINE) - RADIUS  # a pad of 1, and pixel centres

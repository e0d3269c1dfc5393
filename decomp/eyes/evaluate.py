"""How well a cat's eyes are found, against marked eyes: our procedure, baselines, and it with parts changed.

Every method gets the same photos and answers with two points, two masks, both or nothing. By default each photo is
judged by the networks that were trained on the other half (see `parts.EyeParts`).
"""

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from .. import export, faces, photos
from ..batch.pool import each
from ..decomposer import cached
from ..decomposition import Decomposition
from ..files import atomic
from ..photos import Photo
from . import finder, outlines, plots
from .marked import RIGHT, WRONG, Marked, errors, filled, iod, iou, marked, with_lids
from .parts import EyeParts, parts_of
from .places import pose_of
from .segment import Eyes, NoEyes

FIXED = np.array([[0.277, 0.397], [0.734, 0.397]])  # where the eyes lie in OpenCV's cat box
DISC = 0.18  # IOD: radius of the disc that an outline has to beat
MU, DT, TOL, LONGEST_RUN = 0.1, 0.5, 1e-4, 100  # of skimage's Chan-Vese; its own tol stops after one iteration
ITERATIONS = 15  # of the morphological Chan-Vese on other images than ours, on which it takes longer to settle


class Answer(NamedTuple):
    """The answer of one method to one photo, in its pixels."""

    points: np.ndarray  # (2, 2)
    masks: tuple[np.ndarray, np.ndarray] | None = None  # (height, width) bool


@dataclass(frozen=True, eq=False)
class Case:
    """A photo, and the answer of our procedure."""

    photo: Photo
    pair: Eyes | NoEyes
    parts: EyeParts
    model: object

    @functools.cached_property
    def first(self) -> Decomposition:
        """OpenCV's square, or the photo's middle."""
        return self.model.decompose(self.photo, "cat")

    @functools.cached_property
    def framed(self) -> Decomposition:
        """The square that the eyes are reported from."""
        return self.model.decompose(self.photo, "cat", box=self.pair.box)


# -------------------------------------------------------------------------------------------------------------- methods


def ours(case: Case) -> Answer | None:
    return Answer(case.pair.centres, case.pair.masks) if case.pair.found else None


def fixed_in_box(case: Case) -> Answer | None:
    """Fixed fractions of OpenCV's cat box; None where it finds no cat."""
    framing = faces.FRAMINGS["cat"]
    boxes, weights = faces.detected(case.photo, framing.cascade, framing.scale, framing.neighbours)
    if not len(boxes):
        return None
    left, top, side = boxes[np.argmax(weights)][:3]
    return Answer(np.array([left, top]) + FIXED * side)


def value_of_photo(case: Case) -> Answer | None:
    """Chan-Vese on the photo's own V, no channels anywhere; the pair of components that share their rows."""
    d = case.first
    points = whole_square(d.picture.max(axis=-1))
    return points if points is None else Answer(points * (d.box.side / len(d.picture)) + [d.box.left, d.box.top])


def whole_square(image: np.ndarray) -> np.ndarray | None:
    """Chan-Vese over a square (H, W); the most level, most equal pair of components that share rows, (2, 2)."""
    from skimage.measure import label, regionprops
    from skimage.segmentation import chan_vese

    mask = chan_vese(np.float32(image), mu=MU, tol=TOL, max_num_iter=LONGEST_RUN, dt=DT)
    side, best = len(image), None
    for phase in (mask, ~mask):  # nobody knows which phase the eyes are in
        regions = [(r.area, r.centroid, r.bbox) for r in regionprops(label(phase, connectivity=1))]
        regions = [r for r in regions if 0.001 < r[0] / side**2 < 0.05]
        for area_a, a, box_a in regions:
            for area_b, b, box_b in regions:
                shared = min(box_a[2], box_b[2]) - max(box_a[0], box_b[0])
                least = 0.3 * min(box_a[2] - box_a[0], box_b[2] - box_b[0])
                if not (0.2 < (b[1] - a[1]) / side < 0.57 and shared > least):
                    continue
                unlike = abs(np.log(area_a / area_b)) + abs(a[0] - b[0]) / side * 5
                if best is None or unlike < best[0]:
                    best = unlike, a, b
    return None if best is None else np.array([[c[1] + 0.5, c[0] + 0.5] for c in best[1:]])


def first_look(case: Case) -> Answer | None:
    """The best place of the smallest copy of the photo, not looked at by the channels."""
    points = next(finder.proposals(case.photo, 1, case.parts), None)
    return Answer(points) if points is not None and case.pair.found else None


def places_alone(case: Case) -> Answer | None:
    """Where PairNet says the eyes are, before the outlines move them, with discs."""
    return _with_discs(case, case.pair.points) if case.pair.found else None


def discs(case: Case) -> Answer | None:
    """A disc around each of our centres."""
    return _with_discs(case, case.pair.centres) if case.pair.found else None


def _with_discs(case: Case, points: np.ndarray) -> Answer:
    y, x = np.mgrid[: case.pair.shape[0], : case.pair.shape[1]] + 0.5
    radius = DISC * iod(points)
    return Answer(points, tuple(np.hypot(x - a, y - b) < radius for a, b in points))


def mean_eye(case: Case) -> Answer | None:
    """The mean marked eye at our centres, as large and tilted as they say."""
    if not case.pair.found:
        return None
    pose = pose_of(case.pair.centres)
    masks = []
    for point, _, side in outlines.eye_poses(pose):
        u, v = case.parts.lens_polygon.T
        masks.append(filled(np.stack(outlines.to_square(u, v, point, pose, side), axis=1), *case.pair.shape))
    return Answer(case.pair.centres, tuple(masks))


def chan_vese_on_value(case: Case) -> Answer | None:
    """From the same surface, but on V of the photo around each place."""
    return _from_lens(case, case.framed.picture.max(axis=-1)) if case.pair.found else None


def chan_vese_on_residual(case: Case) -> Answer | None:
    """From the same surface, but on V of R, the flattest layer."""
    return _from_lens(case, case.framed.residual.max(axis=-1)) if case.pair.found else None


def _from_lens(case: Case, plane: np.ndarray) -> Answer:
    """Morphological Chan-Vese around each of our centres on a plane (side, side) of the square."""
    import torch
    from skimage.segmentation import morphological_chan_vese

    box, maps = case.pair.box, torch.from_numpy(np.ascontiguousarray(plane))[None]
    scale = box.side / len(plane)
    pose = pose_of((case.pair.centres - [box.left, box.top]) / scale)
    masks = []
    for point, seen_in, side in outlines.eye_poses(pose):
        image = outlines.patch(maps, point, seen_in, side)[0].numpy()
        image = cv2.resize(image, None, fx=outlines.FINE, fy=outlines.FINE, interpolation=cv2.INTER_CUBIC)
        surface = outlines.lens_surface(case.parts.lens_polygon, np.zeros(2))
        start = surface > 0
        mask = morphological_chan_vese(image, ITERATIONS, init_level_set=start, smoothing=outlines.SMOOTHING)
        polygon = outlines.outline_of(outlines.one_piece(mask > 0, surface))
        square = np.stack(outlines.to_square(*polygon.T, point, seen_in, side), axis=1)
        masks.append(filled(square * scale + [box.left, box.top], *case.pair.shape))
    return Answer(case.pair.centres, tuple(masks))


@dataclass(frozen=True)
class Method:
    """A way to find the eyes: `run` takes a `Case`."""

    key: str
    title: str
    run: Callable[[Case], Answer | None]
    plotted: bool = False


METHODS = (
    Method("ours", "decomp eyes", ours, plotted=True),
    Method("box", "fixed places in OpenCV's cat box", fixed_in_box, plotted=True),
    Method("value", "Chan-Vese on V of the photo, whole square", value_of_photo, plotted=True),
    Method("first", "the first proposal alone", first_look, plotted=True),
    Method("places", "places before the outlines, a disc of 0.18 IOD", places_alone),
    Method("discs", "our centres, a disc of 0.18 IOD", discs),
    Method("mean", "our centres, the mean marked eye", mean_eye),
    Method("on value", "our centres, Chan-Vese from the mean eye on V of the photo", chan_vese_on_value),
    Method("on residual", "our centres, Chan-Vese from the mean eye on V of R", chan_vese_on_residual),
)


# -------------------------------------------------------------------------------------------------------------- table


@dataclass(frozen=True, eq=False)
class Judged:
    """The results for one photo."""

    stem: str
    errors: dict[str, np.ndarray | None]  # of each method's two eyes, in IOD
    ious: dict[str, list[float]]  # of each method's two masks, where eyelids are marked and it answers
    areas: dict[str, list[float]]  # area of its masks over the marked ones
    confidence: float
    reason: str
    picture: np.ndarray = field(repr=False)


def judge(name: str, halved: bool, m: Marked) -> Judged:
    """Every method on one photo."""
    model = cached(name, rough=True)
    parts, photo = parts_of(model.facts.eyes, model.config.branches), photos.load(m.path)
    parts = parts.half(m.half) if halved else parts
    pair = finder.find_eyes(model, photo, parts)
    case = Case(photo, pair, parts, model)
    drawn = [filled(lid, *photo.pixels.shape[:2]) for lid in m.lids or ()]
    off, ious, areas = {}, {}, {}
    for method in METHODS:
        answer = method.run(case)
        off[method.key] = None if answer is None else errors(answer.points, m.eyes)
        if drawn and answer and answer.masks:
            ious[method.key] = [iou(mask, lid) for mask, lid in zip(answer.masks, drawn)]
            areas[method.key] = [float(mask.sum() / lid.sum()) for mask, lid in zip(answer.masks, drawn)]
    reason = "" if pair.found else pair.reason
    return Judged(m.path.stem, off, ious, areas, pair.confidence, reason, picture_of(photo, pair, m))


def row(off: list[np.ndarray | None]) -> dict:
    """The figures of one method: shares of all photos; errors of those that were reported."""
    n, e = len(off), np.array([f for f in off if f is not None]).reshape(-1, 2)
    wrong = int((e.max(axis=1, initial=0) > WRONG).sum())
    return {
        "photos": n,
        "two eyes reported": len(e) / n,
        f"both within {RIGHT}": float((e.max(axis=1, initial=0) < RIGHT).sum() / n),
        f"one wrong by more than {WRONG}": wrong / n,
        "median error": float(np.median(e)) if len(e) else None,
    }


def mask_row(ious: list[list[float]], areas: list[list[float]], photos_in_all: int) -> dict:
    """Figures of the masks of one method; `ious`: two for each photo with an answer."""
    values, ratios = np.ravel(ious), np.ravel(areas)
    return {
        "photos": photos_in_all,
        "masks": len(values),
        "mean IoU": float(values.mean()) if len(values) else None,
        "mean IoU, missing = 0": float(values.sum() / (2 * photos_in_all)),
        "area ratio, median": float(np.median(ratios)) if len(ratios) else None,
        "area ratio, 10 %": float(np.quantile(ratios, 0.1)) if len(ratios) else None,
        "area ratio, 90 %": float(np.quantile(ratios, 0.9)) if len(ratios) else None,
    }


def evaluate(name: str, data: Path, out: Path, halved: bool = True, processes: int = 1) -> str:
    """Write table.json, table.md, plots and sheets into `out`; returns the tables as text.

    Args:
        name: a calibrated model.
        data: a folder of marked photos, see `marked.py`.
        halved: judge each photo by the networks of the other half; False: by all, for photos that none of them saw.
    Raises:
        PhotoError: a list or a photo cannot be read.
        ValueError: no such model.
        ValueError: it was never calibrated.
    """
    model = cached(name, rough=True)
    parts_of(model.facts.eyes, model.config.branches)
    kinds = {kind: marked(data, kind) for kind in ("crops", "photos")} | {"lids": with_lids(data)}
    kinds = {kind: listed for kind, listed in kinds.items() if listed}
    everything = [m for listed in kinds.values() for m in listed]
    work = functools.partial(judge, name, halved)
    every = iter(list(tqdm(each(work, everything, processes), "photos", len(everything))))
    judged = {kind: [next(every) for _ in listed] for kind, listed in kinds.items()}
    table = {
        kind: {m.title: row([one.errors[m.key] for one in of]) for m in METHODS if any(m.key in o.errors for o in of)}
        for kind, of in judged.items()
    }
    if "lids" in judged:
        of = judged["lids"]
        table["masks"] = {
            m.title: mask_row(
                *([getattr(o, what)[m.key] for o in of if m.key in o.ious] for what in ("ious", "areas")), len(of)
            )
            for m in METHODS
            if any(m.key in o.ious for o in of)
        }
    out.mkdir(parents=True, exist_ok=True)
    for kind, of in judged.items():
        sheet(of).save(out / f"{kind}.png")
    worst(judged).save(out / "worst.png")
    curves = {m.key: m.title for m in METHODS if m.plotted}
    plots.within(out / "within.png", {kind: [one.errors for one in of] for kind, of in judged.items()}, curves)
    told = [(o.confidence, o.errors["ours"]) for of in judged.values() for o in of]
    plots.confidence(out / "confidence.png", [(c, e.max() < RIGHT) for c, e in told if e is not None])
    text = as_text(table)
    with atomic(out / "table.json") as temporary:
        temporary.write_text(json.dumps(table, indent=2))
    with atomic(out / "table.md") as temporary:
        temporary.write_text(text)
    return text


def as_text(table: dict) -> str:
    lines = []
    for kind, rows in table.items():
        columns = list(next(iter(rows.values())))
        lines += [f"| {kind} | " + " | ".join(columns) + " |", "| --- " * (len(columns) + 1) + "|"]
        for name, figures in rows.items():
            cells = ["none" if v is None else str(v) if isinstance(v, int) else f"{v:.3f}" for v in figures.values()]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def picture_of(photo: Photo, pair: Eyes | NoEyes, m: Marked) -> np.ndarray:
    """Around the marked eyes: outlines (green), marks and marked lids (red), (352, 352, 3) in [-1, 1].

    Where the answer lies elsewhere, the picture shows the whole photo.
    """
    height, width = photo.pixels.shape[:2]
    box = finder.square_around(m.eyes, width, height)
    astray = pair.found and errors(pair.centres, m.eyes).max() > 2 * WRONG
    left, top, side = (0, 0, max(height, width)) if astray else (box.left, box.top, box.side)
    size = 352
    part = np.float32(photo.rgb[top : top + side, left : left + side])
    shape = max(1, round(part.shape[1] / side * size)), max(1, round(part.shape[0] / side * size))
    picture = np.zeros((size, size, 3), np.float32)
    picture[: shape[1], : shape[0]] = cv2.resize(part, shape, interpolation=cv2.INTER_AREA) * 2 - 1
    at = lambda points: np.rint((np.asarray(points) - [left, top]) / side * size).astype(np.int32)
    if m.lids:
        cv2.polylines(picture, [at(lid) for lid in m.lids], True, (1, -1, -1), 1)
    if pair.found:
        cv2.polylines(picture, [at(p) for p in pair.polygons], True, (-1, 1, -1), 1)
    for x, y in at(m.eyes):
        cv2.drawMarker(picture, (int(x), int(y)), (1, -1, -1), cv2.MARKER_CROSS, 10, 1)
    return picture


def worst(judged: dict[str, list[Judged]]) -> Image.Image:
    """The ten worst places of all photos and the ten worst masks, with their figures."""
    off = [(float(o.errors["ours"].max()), o) for of in judged.values() for o in of if o.errors["ours"] is not None]
    rows = [[(f"{o.stem}: error {e:.2f}", o.picture) for e, o in sorted(off, key=lambda one: -one[0])[:10]]]
    masks = [(float(np.mean(o.ious["ours"])), o) for of in judged.values() for o in of if "ours" in o.ious]
    rows.append([(f"{o.stem}: IoU {i:.2f}", o.picture) for i, o in sorted(masks, key=lambda one: one[0])[:10]])
    return export.tiles([r for r in rows if r] or [[("no eyes reported", np.zeros((352, 352, 3), np.float32))]])


def sheet(judged: list[Judged]) -> Image.Image:
    """Rows of eight: the best, the median, two of the worst cases, and some that were refused."""
    reported = sorted((o for o in judged if o.errors["ours"] is not None), key=lambda o: o.errors["ours"].max())
    tiles = [(f"{o.stem}: {o.errors['ours'].max():.3f}", o.picture) for o in reported]
    middle = max(0, len(tiles) // 2 - 4)
    refused = [(f"{o.stem}: refused", o.picture) for o in judged if o.errors["ours"] is None]
    rows = [tiles[:8], tiles[middle : middle + 8], tiles[-16:-8], tiles[-8:], refused[:8]]
    return export.tiles([r for r in rows if r])

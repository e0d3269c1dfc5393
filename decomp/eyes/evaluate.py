"""How well a cat's eyes are found, against marked eye points: our procedure, its baselines, and it with parts left out.

Every method gets the same photos and answers with two points, or with none. By default no photo is judged by a
calibration that saw it: the names are cut into blocks, and each block is judged by what the other blocks gave.
"""

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

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
from . import finder, plots, segment
from . import places as eye_places
from .calibrate import RIGHT, WRONG, Marked, calibrate, folds, frames, marked
from .parts import EyeParts, parts_of
from .segment import BAND_X, BAND_Y, IOD, EyeSegmentation

FIXED = np.array([[0.277, 0.397], [0.734, 0.397]])  # where the eyes lie in OpenCV's cat box
CENTRED = np.array([[0.32, 0.45], [0.68, 0.45]])  # where they lie in the 256-pixel crops, cut around the eyes


@dataclass(frozen=True, eq=False)
class Case:
    """A photo, and all that our procedure and those it is compared with look at."""

    first: Decomposition  # of OpenCV's square, or of the photo's middle
    best: finder.Look  # of the proposed squares
    s: EyeSegmentation  # what is reported
    d: Decomposition  # of the square that it is reported from
    parts: EyeParts
    without_residual: tuple[float, ...]  # what else `EyeParts.flat` might have been

    @property
    def certain(self) -> bool:
        """Whether the places, before anything is segmented, are good enough to be reported."""
        return self.s.confidence >= self.parts.least and self.s.reason != finder.DISAGREE

    @functools.cached_property
    def layers(self) -> np.ndarray:
        """R, v_1 .. v_M in the band around the places, (M + 1, band H, band W, 3)."""
        return segment.upright(np.concatenate([self.d.residual[None], self.d.channels]), self.s.pose)

    @functools.cached_property
    def surface(self) -> np.ndarray:
        return segment.initial_surface(self.layers[1:], self.parts)

    @functools.cached_property
    def mask(self) -> np.ndarray:
        return segment.chan_vese_mask(segment.segmented_image(self.layers, self.parts), self.surface)


def in_photo(d: Decomposition, points: np.ndarray) -> np.ndarray:
    """Points of a square, (2, 2), in pixels of the photo."""
    return points * (d.box.side / len(d.picture)) + [d.box.left, d.box.top]


# ------------------------------------------------------------------------------ methods: a case in, two points out


def fixed_in_box(case: Case) -> np.ndarray | None:
    """Baseline: fixed fractions of OpenCV's cat box; None where it finds no cat."""
    box = cat_box(case.d.photo)
    return None if box is None else box[:2] + FIXED * box[2]


def fixed_in_square(case: Case) -> np.ndarray:
    """Not a method, a warning: the same two points of every square. On crops cut around the eyes it is hard to beat."""
    return in_photo(case.first, CENTRED * len(case.first.picture))


def value_of_photo(case: Case) -> np.ndarray | None:
    """Baseline: Chan-Vese on the photo's own V, no channels anywhere; the pair of components that share their rows."""
    points = whole_square(segment.value(case.first.picture), None)
    return None if points is None else in_photo(case.first, points)


def components_only(case: Case) -> np.ndarray | None:
    """Without the layout: surface, Chan-Vese and pairing over the whole square, as the paper has them."""
    d = case.first
    layers = np.concatenate([d.residual[None], d.channels])
    s = np.tensordot(np.float32(case.parts.surface), segment.surface_maps(d.channels), 1)
    energy = np.sqrt(np.square(layers).mean(axis=(1, 2, 3), keepdims=True)) + 1e-6
    image = segment.value(np.tensordot(np.float32(case.parts.flat), layers / energy, 1))
    points = whole_square(image, (s - np.quantile(s, 0.93)).astype(np.float32))
    return None if points is None else in_photo(d, points)


def one_square(case: Case) -> np.ndarray | None:
    """Without proposals and without a last look: `segment_eyes` on OpenCV's square."""
    s = segment.segment_eyes(case.first, case.parts)
    return np.array([[e.x, e.y] for e in s.photo_eyes()]) if s.found else None


def whole_square(image: np.ndarray, surface: np.ndarray | None) -> np.ndarray | None:
    """Chan-Vese over a square and the most level, most equal pair of components that share their rows."""
    from skimage.measure import label, regionprops
    from skimage.segmentation import chan_vese

    start = "checkerboard" if surface is None else surface
    mask = chan_vese(
        np.float32(image), mu=segment.MU, tol=segment.TOL, max_num_iter=100, dt=segment.DT, init_level_set=start
    )
    if surface is not None and mask[surface > 0].mean() < mask[surface <= 0].mean():
        mask = ~mask
    side = len(image)
    masks = [mask, ~mask] if surface is None else [mask]  # without a surface nobody knows which phase the eyes are in
    best = None
    for regions in (regionprops(label(m, connectivity=1)) for m in masks):
        regions = [(r.area, r.centroid, r.bbox) for r in regions if 0.001 < r.area / side**2 < 0.05]
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


def cat_box(photo: Photo) -> np.ndarray | None:
    """Left, top and side of OpenCV's own cat box, before `find_face` frames it."""
    framing = faces.FRAMINGS["cat"]
    boxes, weights = faces.detected(photo, framing.cascade, framing.scale, framing.neighbours)
    return boxes[np.argmax(weights)][:3] if len(boxes) else None


def changed(change: Callable[[Case], np.ndarray | None]) -> Callable:
    """Our procedure with its last step changed; `change` answers with two points of the band, in IOD."""

    def method(case: Case) -> np.ndarray | None:
        points = change(case) if case.certain else None
        return None if points is None else in_photo(case.d, np.stack(case.s.pose.at(*points.T), axis=1))

    return method


def of_pair(mask: np.ndarray) -> np.ndarray | None:
    """Centres of the pair of components in a band, in IOD; None if there is no pair."""
    masks, reason = segment.pair(mask)
    centres = [np.argwhere(m).mean(axis=0)[::-1] + 0.5 for m in masks]
    return None if reason else np.stack(centres) / IOD - [BAND_X, BAND_Y]


def of_nearest(mask: np.ndarray) -> np.ndarray | None:
    """Without the pair's test: the component nearest to each place, whatever its size and rows."""
    from skimage.measure import label, regionprops

    centres = np.array([r.centroid for r in regionprops(label(mask, connectivity=1))]).reshape(-1, 2)
    centres = (centres[:, ::-1] + 0.5) / IOD - [BAND_X, BAND_Y]
    places = np.array([[-0.5, 0], [0.5, 0]])
    return np.stack([min(centres, key=lambda c: np.hypot(*(c - p))) for p in places]) if len(centres) else None


def of_discs(case: Case) -> np.ndarray | None:
    discs = np.clip(1 - (segment.NEAREST / segment.PLACE) ** 2, -2, 1).astype(np.float32)
    return of_pair(segment.chan_vese_mask(segment.segmented_image(case.layers, case.parts), discs))


def of_photo(case: Case) -> np.ndarray | None:
    picture = segment.upright(case.d.picture, case.s.pose)[None]
    return of_pair(
        segment.chan_vese_mask(segment.segmented_image(picture, replace(case.parts, flat=(1.0,))), case.surface)
    )


def of_channels(case: Case) -> np.ndarray | None:
    parts = replace(case.parts, flat=case.without_residual)
    return of_pair(segment.chan_vese_mask(segment.segmented_image(case.layers, parts), case.surface))


def unshifted(case: Case) -> np.ndarray | None:
    """The places as the layout alone names them."""
    if not case.certain:
        return None
    _, pose = eye_places.best_place(eye_places.search_maps(case.d.channels), case.parts.template, case.parts.spectra)
    return in_photo(case.d, pose.points() * len(case.d.picture) / eye_places.GRID)


PLACES = np.array([[-0.5, 0], [0.5, 0]])
METHODS = {
    "baseline: fixed places in OpenCV's cat box": fixed_in_box,
    "baseline: Chan-Vese on V of the photo": value_of_photo,
    "fixed places in the square": fixed_in_square,
    "no layout: components over the whole square": components_only,
    "no proposals: OpenCV's square, looked at once": one_square,
    "no last look: places of the best square": lambda case: case.best.points if case.certain else None,
    "no surface: starts from two discs": changed(of_discs),
    "no Chan-Vese: the surface above 0": changed(lambda case: of_pair(case.surface > 0)),
    "no R in the image: V of the flattest channels": changed(of_channels),
    "no layers in the image: V of the photo": changed(of_photo),
    "no test of the pair": changed(lambda case: of_nearest(case.mask)),
    "places alone": changed(lambda case: PLACES),
    "places alone, not shifted": unshifted,
}
OURS = "decomp eyes"
PLOTTED = [OURS, *list(METHODS)[:2], "no proposals: OpenCV's square, looked at once"]


# -------------------------------------------------------------------------------------------------------------- table


def errors(points: np.ndarray, m: Marked) -> np.ndarray:
    """Distance of each eye to the marked one, in IOD."""
    return np.hypot(*(points - m.eyes).T) / np.hypot(*(m.eyes[1] - m.eyes[0]))


def row(found: list[np.ndarray | None]) -> dict:
    """The figures of one method: shares of all photos; errors of those that were reported."""
    n, e = len(found), np.array([f for f in found if f is not None]).reshape(-1, 2)
    wrong = int((e.max(axis=1, initial=0) > WRONG).sum())
    return {
        "photos": n,
        "two eyes reported": len(e) / n,
        f"both within {RIGHT}": float((e.max(axis=1, initial=0) < RIGHT).sum() / n),
        f"one wrong by more than {WRONG}": wrong / n,
        "the same, of those reported": wrong / max(1, len(e)),
        "median error": float(np.median(e)) if len(e) else None,
        "median error, left": float(np.median(e[:, 0])) if len(e) else None,
        "median error, right": float(np.median(e[:, 1])) if len(e) else None,
    }


@dataclass(frozen=True, eq=False)
class Judged:
    """What became of one photo."""

    errors: dict[str, np.ndarray | None]  # of each method's two eyes, in IOD
    confidence: float
    picture: np.ndarray
    ious: list[float]  # with masks that somebody drew


def judge(name: str, masks: Path | None, given: tuple[Marked, EyeParts, tuple]) -> Judged:
    """Every method on one photo."""
    m, parts, without_residual = given
    model, photo = cached(name), photos.load(m.path)
    best = finder.best_look(model, photo, parts)
    s = finder.confirmed(model, photo, best, parts)
    d = model.decompose(photo, "cat", box=s.box)
    case = Case(model.decompose(photo, "cat"), best, s, d, parts, without_residual)
    ours = np.array([[e.x, e.y] for e in s.photo_eyes()]) if s.found else None
    answers = {OURS: ours} | {title: method(case) for title, method in METHODS.items()}
    found = {title: None if points is None else errors(points, m) for title, points in answers.items()}
    drawn = {side: masks / f"{m.stem}.{side}.png" for side in ("left", "right")} if masks and s.found else {}
    ious = [iou(mask, path) for mask, path in zip(s.photo_masks(), drawn.values()) if path.is_file()] if drawn else []
    return Judged(found, s.confidence, picture_of(photo, s, m), ious)


def evaluate(name: str, data: Path, out: Path, count: int, masks: Path | None = None, processes: int = 1) -> str:
    """Write table.json, table.md, plots and a sheet for each kind of photo into `out`; returns the table as text.

    Args:
        name: the model.
        data: a folder with crops.json and photos.json, see `calibrate.marked`.
        count: blocks, each judged by a calibration on the others; 0: the model's own calibration judges all.
        masks: a folder with NAME.left.png and NAME.right.png, masks that somebody drew.
    Raises:
        PhotoError: a list or a photo cannot be read. ValueError: no such model, or uncalibrated with `count` 0.
    """
    kinds = {kind: marked(data, kind) for kind in ("crops", "photos")}
    everything = [m for listed in kinds.values() for m in listed]
    if count:
        seen = list(frames(name, everything, processes))
        blocks = folds([m.stem for m in everything], count)
        trained = each(calibrate, [[f for f in seen if f.stem not in block] for block in blocks], processes)
        by_block = [(block, parts, tuple(more["image without R"])) for block, (parts, more) in zip(blocks, trained)]
        given = [(m, parts, flat) for block, parts, flat in by_block for m in everything if m.stem in block]
    else:
        model = cached(name)
        branches = model.config.branches
        parts = parts_of(model.facts.eyes, branches)
        given = [(m, parts, (0.0,) + (1.0,) * branches) for m in everything]  # without R: all channels
    judging = tqdm(each(functools.partial(judge, name, masks), given, processes), "photos", len(given))
    judged = {m.path: told for (m, *_), told in zip(given, judging)}
    by_kind = {kind: [judged[m.path] for m in listed] for kind, listed in kinds.items()}
    table = {
        kind: {title: row([one.errors[title] for one in of]) for title in [OURS, *METHODS]}
        for kind, of in by_kind.items()
    }
    out.mkdir(parents=True, exist_ok=True)
    for kind, listed in kinds.items():
        tiles = [(m.stem, judged[m.path].errors[OURS], judged[m.path].picture) for m in listed]
        sheet(tiles).save(out / f"{kind}.png")
    plots.within(out / "within.png", {kind: [one.errors for one in of] for kind, of in by_kind.items()}, PLOTTED)
    sure = [(one.confidence, one.errors["places alone"]) for one in judged.values()]
    plots.confidence(out / "confidence.png", [(c, e.max() < RIGHT) for c, e in sure if e is not None])
    ious = [i for one in judged.values() for i in one.ious]
    more = {"iou": float(np.mean(ious)), "masks": len(ious)} if ious else {}
    text = as_text(table) + (f"\nmean IoU over {len(ious)} masks: {more['iou']:.3f}\n" if ious else "")
    with atomic(out / "table.json") as temporary:
        temporary.write_text(json.dumps(table | more, indent=2))
    with atomic(out / "table.md") as temporary:
        temporary.write_text(text)
    return text


def iou(mask: np.ndarray, path: Path) -> float:
    """Intersection over union with a mask of the whole photo that somebody drew, where it is not black."""
    drawn = photos.load(path).pixels[..., 0] > 0
    return float((mask & drawn).sum() / max(1, (mask | drawn).sum()))


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


def picture_of(photo: Photo, s: EyeSegmentation, m: Marked) -> np.ndarray:
    """The surroundings of the marked eyes with the outlines (green) and the marks (red), (352, 352, 3) in [-1, 1]."""
    from skimage.segmentation import find_boundaries

    size = 352, 352
    box = finder.square_around(m.eyes, *photo.pixels.shape[1::-1])
    left, top, side = box.left, box.top, box.side
    cut = lambda a: cv2.resize(np.float32(a[top : top + side, left : left + side]), size, interpolation=cv2.INTER_AREA)
    picture = cut(photo.rgb) * 2 - 1
    if s.found:
        for mask in s.photo_masks():
            picture[find_boundaries(cut(mask) > 0.5)] = (-1, 1, -1)
    for x, y in (m.eyes - [left, top]) / side * size[0]:
        cv2.drawMarker(picture, (round(x), round(y)), (1, -1, -1), cv2.MARKER_CROSS, 14, 2)
    return picture


def sheet(judged: list[tuple[str, np.ndarray | None, np.ndarray]]) -> Image.Image:
    """Rows of eight: the best, the median, two of the worst cases, and some that were refused."""
    reported = sorted((float(e.max()), stem, picture) for stem, e, picture in judged if e is not None)
    tiles = [(f"{stem}: {worse:.3f}", picture) for worse, stem, picture in reported]
    middle = max(0, len(tiles) // 2 - 4)
    refused = [(f"{stem}: refused", picture) for stem, e, picture in judged if e is None]
    rows = [tiles[:8], tiles[middle : middle + 8], tiles[-16:-8], tiles[-8:], refused[:8]]
    return export.tiles([r for r in rows if r])

"""A film, or a folder of frames, with the strength of each channel changed in the face.

Two passes over the film. The first finds the face in every fifth frame and smooths its path. The second changes each
frame: only the branches whose strength or class differs run, and the change, not the picture, is averaged over time
where nothing moves. Results are written in segments, so that a stopped run can be resumed; sound is copied.
"""

import contextlib
import hashlib
import json
import math
import shutil
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d, median_filter, uniform_filter
from tqdm import tqdm

from . import photos
from .decomposer import Decomposer
from .decomposition import layer_key
from .faces import Box, crop, paste
from .files import atomic
from .photos import Photo, PhotoError

FILMS = (".mp4", ".mov", ".mkv", ".m4v")
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts"  # accepted films; no playlists of other files
SETTINGS = "settings.json"  # in the folder of segments: what they were made from
SEGMENT = 120  # frames
EVERY = 5  # frames from one search for the face to the next
CLASSIFIED = 8  # searches that vote on the class
SMOOTH = 2.0  # searches, the standard deviation of the smoothing of the face's path
STILL = 0.03  # of the box's side; smaller movements are ignored
MEMORY = 0.85  # share of the change that a still pixel keeps from frame to frame
NOISE = 0.05  # mean difference of two frames, in [-1, 1], up to which a pixel counts as still
WARM = 12  # frames before a segment from which its average over time starts


class Frame(NamedTuple):
    """One frame of a film; its time is in units of the film's time base."""

    number: int  # from 0
    photo: Photo
    time: int


@dataclass(frozen=True)
class Edit:
    """The edit of every frame.

    Attributes:
        strengths: layer (channel 1 .. M or its name, "residual", "unexplained") -> number; the others stay at 1.
        target: as for `Decomposer.decompose`; channels of another class replace those of the film's own class.
        domain: class of the film's face, or "auto".
        size: side of the decomposed square in pixels; None: the size the model was trained at.
        steady: average the change over time.
    """

    strengths: Mapping[int | str, float]
    target: str | Mapping[int | str, str] | None = None
    domain: str = "auto"
    size: int | None = None
    steady: bool = True


class Change:
    """How an edit changes the squares of a face, called for one frame after the other.

        change = sum_k (s_k v_k(target) - v_k(own)) + (s_R - 1) R + (s_E - 1) E,
        E = x - R - sum_k v_k(own)

    Only branches with a factor other than 0 run.

    Args:
        domain: class of the face, which `own` stands for.
    Raises:
        ValueError: unknown layer or class.
        ValueError: a layer is given twice.
        ValueError: a strength that is not finite.
    """

    def __init__(self, model: Decomposer, edit: Edit, domain: str):
        given = {layer_key(model.names, layer): float(s) for layer, s in edit.strengths.items()}
        if len(given) < len(edit.strengths) or not all(map(math.isfinite, given.values())):
            raise ValueError(f"strengths are {dict(edit.strengths)!r}; accepted: one finite number for each layer")
        s = np.array([given.get(k, 1) for k in range(model.config.branches)], np.float32)
        e = given.get("unexplained", 1) - 1
        own, target = (np.array(model.target_indices(t, domain)) for t in (None, edit.target))
        self.model, self.steady, self.source = model, edit.steady, torch.tensor([model.domain_index(domain)])
        self.of_photo, self.of_residual = e, given.get("residual", 1) - 1 - e
        # class of each branch and its factor, in two passes
        self.passes = [(own, np.where(own == target, s - 1, -1) - e), (target, np.where(own == target, 0, s))]
        self.before: tuple[np.ndarray, np.ndarray] | None = None  # the last square and its change

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """(S, S, 3) in [-1, 1] to its change, (S, S, 3)."""
        x = torch.from_numpy(picture).permute(2, 0, 1)[None]
        change = self.of_photo * x
        for i, (classes, factors) in enumerate(self.passes):
            which = np.flatnonzero(factors).tolist()
            if i and not which:
                continue
            output = self.model.runtime(x, torch.from_numpy(classes)[None], which, self.source)
            change = change + torch.einsum("m,bmchw->bchw", torch.tensor(factors[which]).float(), output.channels.cpu())
            if not i:
                change = change + self.of_residual * output.residual.cpu()
        pixels = change[0].permute(1, 2, 0).numpy()
        return self._steadied(picture, pixels) if self.steady else pixels

    def _steadied(self, picture: np.ndarray, change: np.ndarray) -> np.ndarray:
        """An average over time, with a short memory where the picture moves and a long one where it is only noisy."""
        if self.before is not None and self.before[0].shape == picture.shape:
            old, average = self.before
            moved = uniform_filter(np.abs(picture - old).mean(axis=2), 9)
            keep = MEMORY * np.exp(-np.square(moved / NOISE))[..., None].astype(np.float32)
            change = keep * average + (1 - keep) * change
        self.before = picture, change
        return change


class Track:
    """Where the face is in each frame, as boxes that move smoothly and rest when the face does."""

    def __init__(self, boxes: list[Box | None], frames: int, width: int, height: int):
        """From every EVERY-th frame: a box, or None if no face was found."""
        self.shape = width, height
        short = min(width, height)
        found = [i for i, box in enumerate(boxes) if box]
        if not found:
            self.ways = np.tile([width / 2, height / 2, short], (frames, 1))
            return
        known = np.array([[b.left + b.side / 2, b.top + b.side / 2, b.side] for b in boxes if b], float)
        known = median_filter(known, (min(5, len(known)), 1), mode="nearest")  # single false faces
        looks = np.array([np.interp(range(len(boxes)), found, column) for column in known.T])
        looks = gaussian_filter1d(looks, SMOOTH, axis=1, mode="nearest")
        at = np.arange(frames) / EVERY
        self.ways = np.stack([np.interp(at, range(len(boxes)), column) for column in looks], axis=1)
        for i in range(1, frames):
            if np.abs(self.ways[i] - self.ways[i - 1]).max() < STILL * self.ways[i - 1, 2]:
                self.ways[i] = self.ways[i - 1]

    def __getitem__(self, frame: int) -> Box:
        return square(self.ways[min(frame, len(self.ways) - 1)], *self.shape)


def elected(domains: Iterable[str], votes: Iterable[Mapping[str, float]]) -> str:
    """The class with the largest sum of probabilities."""
    votes = list(votes)
    return max(domains, key=lambda name: sum(vote[name] for vote in votes))


def square(way: np.ndarray, width: int, height: int) -> Box:
    """The box inside a picture that lies best on a centre and a side (x, y, side), in pixels."""
    x, y, side = way
    side = int(min(max(round(side), 16), width, height))
    left, top = (int(min(max(round(c - side / 2), 0), room - side)) for c, room in ((x, width), (y, height)))
    return Box(left, top, side, "given")


class Film:
    """A film that is read frame by frame and written in segments, which lie in `out`.parts until it is whole."""

    def __init__(self, path: Path, out: Path):
        if out.suffix.lower() not in FILMS:
            raise PhotoError(f"{out.name}: is no film's name; accepted: {', '.join(FILMS)}")
        if out.exists() and out.samefile(path):
            raise PhotoError(f"{out}: is the film itself; the result needs another name")
        self.path, self.out, self.parts = path, out, out.with_name(out.name + ".parts")
        with self.opened() as container:
            if not container.streams.video:
                raise PhotoError(f"{path.name}: holds no film")
            stream = container.streams.video[0]
            self.time_base, self.rate = stream.time_base, stream.average_rate or Fraction(25)
            if stream.width * stream.height > photos.MAX_PIXELS:
                raise PhotoError(f"{path.name}: frames of {stream.width} x {stream.height} pixels are too large")

    @contextlib.contextmanager
    def opened(self):
        import av

        try:
            with av.open(str(self.path.resolve()), options={"format_whitelist": CONTAINERS}) as container:
                yield container
        except av.FFmpegError as error:
            raise PhotoError(f"{self.path.name}: is not a film that can be read: {error.strerror}") from error

    def __iter__(self) -> Iterator[Frame]:
        with self.opened() as container:
            for i, frame in enumerate(container.decode(video=0)):
                pixels = frame.to_ndarray(format="rgb24")
                pixels = np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))
                time = round(i / self.rate / self.time_base) if frame.pts is None else frame.pts
                yield Frame(i, Photo(pixels, name=f"frame {i} of {self.path.name}"), time)

    def clear(self) -> None:
        """Before another edit: remove the segments of an earlier one."""
        if self.parts.exists() and not (self.parts / SETTINGS).exists():
            raise PhotoError(f"{self.parts}: was not made by decomp and is left alone; choose another --out")
        shutil.rmtree(self.parts, ignore_errors=True)

    def _part(self, start: int) -> Path:
        return self.parts / f"{start:08}.mp4"

    def done(self, start: int, stop: int) -> bool:
        return self._part(start).exists()

    def write(self, start: int, frames: Iterator[Frame]) -> None:
        """One segment as H.264 of high quality, from time 0; the frames' true times lie beside it."""
        import av

        times = []
        with atomic(self._part(start)) as temporary:
            with av.open(str(temporary), "w") as container:
                stream = None
                for frame in frames:
                    # 4:2:0 knows no odd sides
                    height, width = (side // 2 * 2 for side in frame.photo.pixels.shape[:2])
                    pixels = np.ascontiguousarray(frame.photo.pixels[:height, :width])
                    if stream is None:
                        stream = container.add_stream("libx264", rate=self.rate, options={"crf": "17", "bf": "0"})
                        stream.height, stream.width = height, width
                        stream.pix_fmt, stream.time_base = "yuv420p", self.time_base
                        stream.codec_context.time_base = self.time_base
                    times.append(frame.time)
                    picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                    picture.pts, picture.time_base = frame.time - times[0], self.time_base
                    container.mux(stream.encode(picture))
                container.mux(stream.encode())
            write_json(self._part(start).with_suffix(".json"), times)

    def finish(self, starts: Iterable[int]) -> None:
        """The segments one after the other, each frame at its time in the original, and the original's sound."""
        import av

        with atomic(self.out) as temporary, self.opened() as original, av.open(str(temporary), "w") as container:
            sound = [(stream, container.add_stream_from_template(stream)) for stream in original.streams.audio]
            film = None
            for start in starts:
                times = read_json(self._part(start).with_suffix(".json"))
                with av.open(str(self._part(start))) as part:
                    if film is None:
                        film = container.add_stream_from_template(part.streams.video[0])
                    packets = [p for p in part.demux(video=0) if p.pts is not None]
                    for packet, time in zip(packets, times, strict=True):
                        packet.stream, packet.time_base = film, self.time_base
                        packet.pts = packet.dts = time
                        container.mux(packet)
            places = {stream.index: copied for stream, copied in sound}
            for packet in original.demux(*(stream for stream, _ in sound)) if sound else ():
                if packet.dts is not None:
                    packet.stream = places[packet.stream.index]
                    container.mux(packet)
        shutil.rmtree(self.parts)


class Folder:
    """Frames as photos in a folder, in the order of their names; the results have the same names, as PNG."""

    def __init__(self, path: Path, out: Path):
        self.files, self.out, self.parts = photos.find(path), out, out / ".decomp-video"
        if not self.files:
            raise PhotoError(f"{path}: no photos below this folder; accepted: {', '.join(sorted(photos.SUFFIXES))}")
        if out.resolve() == path.resolve():
            raise PhotoError(f"{out}: is the folder with the frames; results need another one")
        self.results = [out / file.relative_to(path).with_suffix(".png") for file in self.files]
        if len(set(self.results)) < len(self.results):
            raise PhotoError(f"{path}: two frames have one name but for its ending")

    def __iter__(self) -> Iterator[Frame]:
        for i, file in enumerate(self.files):
            yield Frame(i, photos.load(file), i)

    def clear(self) -> None:
        """Before another edit: the folder must hold no results, as their origin is unknown."""
        for result in self.results:
            if result.exists():
                raise PhotoError(f"{result}: is already there; choose another --out")
        shutil.rmtree(self.parts, ignore_errors=True)

    def done(self, start: int, stop: int) -> bool:
        return all(result.exists() for result in self.results[start:stop])

    def write(self, start: int, frames: Iterator[Frame]) -> None:
        for frame in frames:
            result = self.results[frame.number]
            result.parent.mkdir(parents=True, exist_ok=True)
            photos.save(frame.photo, result)

    def finish(self, starts: Iterable[int]) -> None:
        shutil.rmtree(self.parts)


def edit_film(model: Decomposer, source: Path, out: Path, edit: Edit) -> dict:
    """Write a film, or a folder of frames, with an edit in the face. The same call resumes a stopped run.

    Returns:
        number of "frames", of searches for the face ("looks"), of these with a face ("faces"); its class ("domain").
    Raises:
        PhotoError: `source` is not a film.
        PhotoError: `out` has a suffix that is not a film's.
        ValueError: an edit that this model can't do.
        OSError: `out` can't be written.
    """
    film = Folder(source, out) if source.is_dir() else Film(source, out)
    settings = {"edit": asdict(edit), "weights": fingerprint(model.generator), "source": stamp(source)}
    if read_json(film.parts / SETTINGS) != json.loads(json.dumps(settings)):
        film.clear()
        write_json(film.parts / SETTINGS, settings)
    way = read_json(film.parts / "way.json")
    if way is None:
        way = look(model, film, edit)
        write_json(film.parts / "way.json", way)
    Change(model, edit, way["domain"])  # errors of the edit are raised before the first frame
    boxes = [Box(left=b[0], top=b[1], side=b[2], found="given") if b else None for b in way["boxes"]]
    track = Track(boxes, way["frames"], *way["shape"])
    size = edit.size or model.config.size
    recent: deque[np.ndarray] = deque(maxlen=WARM)

    def changed(frames: Iterator[Frame]) -> Iterator[Frame]:
        """Every segment starts from the squares before it, so that it is the same whenever it is made."""
        change = Change(model, edit, way["domain"])
        for square in recent:
            change(square)
        for frame in frames:
            box = track[frame.number]
            square = crop(frame.photo, box, size)
            recent.append(square)
            yield frame._replace(photo=paste(frame.photo, box, square, square + change(square)))

    def segment(frame: Frame) -> int:
        return frame.number // SEGMENT * SEGMENT

    for start, frames in groupby(tqdm(film, "frames", total=way["frames"], disable=None), segment):
        if film.done(start, start + SEGMENT):
            recent.extend(crop(frame.photo, track[frame.number], size) for frame in frames)
        else:
            film.write(start, changed(frames))
    film.finish(range(0, way["frames"], SEGMENT))
    faces = sum(box is not None for box in way["boxes"])
    return {"frames": way["frames"], "looks": len(way["boxes"]), "faces": faces, "domain": way["domain"]}


def look(model: Decomposer, film: Film | Folder, edit: Edit) -> dict:
    """The first pass: where the face is in every fifth frame, and its class."""
    boxes: list[list[int] | None] = []
    probabilities: list[dict[str, float]] = []
    count, shape = 0, (0, 0)
    for frame in tqdm(film, "faces", disable=None):
        height, width = frame.photo.pixels.shape[:2]
        if count and (width, height) != shape:
            raise PhotoError(
                f"{frame.photo.name}: is {width} x {height} pixels; the frames before are {shape[0]} x {shape[1]}"
            )
        count, shape = count + 1, (width, height)
        if frame.number % EVERY:
            continue
        found = [box for box in model.find_faces(frame.photo).values() if box.found != "centre"]
        boxes.append([found[0].left, found[0].top, found[0].side] if found else None)
        if edit.domain == "auto" and len(probabilities) < CLASSIFIED:
            probabilities.append(model.classify(frame.photo, found[:1] or None))
    if not count:
        raise PhotoError("the film has no frames")
    domain = edit.domain
    if domain == "auto":
        domain = elected(model.config.domains, probabilities)
    model.domain_index(domain)
    return {"frames": count, "shape": shape, "boxes": boxes, "domain": domain}


def fingerprint(network: torch.nn.Module) -> str:
    """SHA-256 of a network's weights."""
    sha = hashlib.sha256()
    for name, weight in network.state_dict().items():
        sha.update(name.encode() + weight.float().contiguous().numpy().tobytes())
    return sha.hexdigest()


def stamp(source: Path) -> list:
    """Path, size and time of change, to notice another film or folder."""
    files = photos.find(source) if source.is_dir() else [source]
    return [[str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns] for f in files]


def read_json(path: Path):
    """None if there is none."""
    return json.loads(path.read_text()) if path.exists() else None


def write_json(path: Path, value) -> None:
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value))

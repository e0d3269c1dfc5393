"""Checks a data set: counts, sizes, unreadable photos, duplicates, and photos in both train and val."""

import hashlib
import os
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

import numpy as np
from tqdm import tqdm

from .. import photos
from ..batch.pool import each
from ..photos import PhotoError

SPLITS = ("train", "val")


@dataclass(frozen=True)
class Domain:
    """One class in one split; sides are the short sides of its readable photos in pixels."""

    split: str
    domain: str
    photos: int
    smallest: int | None
    median: float | None
    largest: int | None


@dataclass
class Report:
    """The result of `check`. Photos are named by their path below the root, "/" between folders."""

    root: str
    domains: list[Domain] = field(default_factory=list)
    not_looked_at: dict[str, int] = field(default_factory=dict)  # suffix -> files that training ignores; not a problem
    # from here on, each list that is not empty is a problem
    unreadable: list[str] = field(default_factory=list)  # sentences that name the file
    leaks: list[list[str]] = field(default_factory=list)  # same pixels, in train and in val
    contradictions: list[list[str]] = field(default_factory=list)  # same pixels, in several classes
    duplicates: list[list[str]] = field(default_factory=list)  # same pixels, in one split and class
    small: list[str] = field(default_factory=list)  # sentences
    one_split: list[str] = field(default_factory=list)  # sentences: classes with a folder in one split only
    empty: list[str] = field(default_factory=list)  # sentences: folders without a readable photo

    PROBLEMS = ("unreadable", "leaks", "contradictions", "duplicates", "small", "one_split", "empty")

    @property
    def clean(self) -> bool:
        return not any(getattr(self, name) for name in self.PROBLEMS)

    def to_dict(self) -> dict:
        return {"clean": self.clean} | asdict(self)


def check(root: str | os.PathLike, size: int | None = None, jobs: int = 1) -> Report:
    """Read every photo of `root/{train,val}/{domain}/`, the layout of AFHQ and StarGAN-v2.

    Photos are duplicates if their pixels are the same, upright and at 8 bits, whatever the file format and metadata;
    alpha is ignored. A resized or recompressed photo counts as another photo.

    Args:
        size: pixels; photos with a shorter short side are reported. None: not checked.
        jobs: number of processes.
    Raises:
        ValueError: there are no such folders.
    """
    root = Path(root)
    # a linked folder counts, as the trainer reads it too
    folders = {(split, f.name): f for split in SPLITS for f in _visible(root / split) if f.is_dir()}
    if not folders:
        raise ValueError(
            f"{root}: holds no folders train/CLASS and val/CLASS with photos, as AFHQ does; "
            "`decomp data prepare` makes them"
        )
    report = Report(str(root))
    sides, same = defaultdict(list), defaultdict(list)
    files = [path for folder in folders.values() for path in photos.find(folder)]
    names = [path.relative_to(root).as_posix() for path in files]
    for name, look in zip(names, tqdm(each(_look, zip(files, names), jobs), total=len(files), unit="photo")):
        if isinstance(look, str):
            report.unreadable.append(look)
            continue
        width, height, digest = look
        split, domain, _ = name.split("/", 2)
        sides[split, domain].append(min(width, height))
        same[digest].append(name)
        if size is not None and min(width, height) < size:
            report.small.append(f"{name}: has {width} x {height} pixels, less than {size}")

    for group in same.values():
        if len(group) > 1:
            splits, domains, _ = zip(*(name.split("/", 2) for name in group))
            if len(set(splits)) > 1:
                report.leaks.append(group)
            if len(set(domains)) > 1:
                report.contradictions.append(group)
            if len(set(splits)) == len(set(domains)) == 1:
                report.duplicates.append(group)
    for split, domain in folders:
        short = sides[split, domain]
        figures = (min(short), median(short), max(short)) if short else (None, None, None)
        report.domains.append(Domain(split, domain, len(short), *figures))
        if not short:
            report.empty.append(f"{split}/{domain}: holds no photo that can be read")
        if not all((s, domain) in folders for s in SPLITS):
            report.one_split.append(f"{domain}: has a folder in {split} only")
    known = set(files)
    others = [p for split in SPLITS for p in (root / split).rglob("*") if p.is_file() and p not in known]
    report.not_looked_at = dict(Counter(p.suffix.lower() or p.name for p in others))
    return report


def _visible(folder: Path) -> list[Path]:
    return sorted(f for f in folder.glob("*") if not f.name.startswith("."))


def _look(photo: tuple[Path, str]) -> tuple[int, int, bytes] | str:
    """Width, height and a hash of the pixels; or why it can't be read."""
    path, name = photo
    try:
        pixels = photos.load(path, name=name).eight_bits  # rounded as the trainer does
    except (PhotoError, OSError) as error:
        return str(error)
    height, width = pixels.shape[:2]
    digest = hashlib.blake2b(f"{width}x{height}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels))
    return width, height, digest.digest()

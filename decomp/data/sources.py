"""Downloaded data sets: which photos there are, of which class, for training or for validation.

Three kinds, each a folder or a zip: AFHQ, CelebA-HQ with its list of attributes, and any photos with a CSV.
"""

import csv
import os
import unicodedata
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath

from .. import photos
from ..photos import PhotoError

SPLITS = ("train", "val", "test")  # AFHQ's second version says test where the first says val
# How CelebAMask-HQ and CelebA call the list of attributes, and how CelebAMask-HQ calls the folder of photos.
ATTRIBUTE_FILES = ("CelebAMask-HQ-attribute-anno.txt", "list_attr_celeba.txt")
CELEBA_PHOTOS = "CelebA-HQ-img"
LARGEST = 256 * 2**20  # bytes of one photo in a zip; the most pixels that the loader takes are 240 MB at 16 bits
# A few bytes of bzip2 or LZMA can unfold to gigabytes, whatever size is declared: github.com/python/cpython/pull/156362
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@dataclass(frozen=True)
class Entry:
    """One photo of a data set, or one that is listed there but missing."""

    photo: str  # its name in the data set
    domain: str = ""
    split: str | None = None  # one of SPLITS; None: not given
    below: str = ""  # path below the folder of its class
    key: str | None = None  # for `read` of the folder or archive
    status: str | None = None  # "failed" or "missing" where there is nothing to read
    reason: str | None = None


class Folder:
    """The photos below a folder, without those below `out`."""

    def __init__(self, path: Path, out: Path):
        paths = photos.find(path)
        if out.resolve().is_relative_to(path.resolve()):
            paths = [photo for photo in paths if not photo.resolve().is_relative_to(out.resolve())]
        self.path, self.names = path, {photo.relative_to(path).as_posix() for photo in paths}

    def read(self, name: str) -> Path:
        return self.path / name


class Archive:
    """The photos in a zip, which is never extracted: `read` gives bytes, and names become paths in `entries` only."""

    def __init__(self, path: Path):
        self.path, self.names = path, {}
        try:
            self.zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise PhotoError(f"{path}: is no zip, or a damaged one; accepted: a folder or a zip") from error
        for info in self.zip.infolist():
            name = info.filename.removeprefix("./")
            hidden = any(p == "__MACOSX" or (p.startswith(".") and not p.startswith("..")) for p in name.split("/"))
            if not hidden and PurePosixPath(name).suffix.lower() in photos.SUFFIXES:
                self.names[name] = None if name in self.names else info

    def read(self, name: str) -> bytes:
        """The bytes of one photo; a PhotoError says in one sentence why there are none."""
        info = self.names[name]
        if info is None:
            raise PhotoError(f"{name}: is in the zip twice")
        if info.file_size > LARGEST:
            raise PhotoError(f"{name}: declares {info.file_size / 2**20:,.0f} MiB; accepted: {LARGEST / 2**20:.0f}")
        if info.compress_type not in COMPRESSIONS:
            raise PhotoError(f"{name}: is compressed in an unusual way; accepted: stored or deflated, as usual")
        try:
            with self.zip.open(info) as file:
                return file.read(info.file_size)
        except Exception as error:  # a damaged zip makes zipfile raise nearly anything
            raise PhotoError(f"{name}: is damaged in the zip, or encrypted ({error})") from error


def from_afhq(source: Folder | Archive) -> list[Entry]:
    """Photos at [any folder/]{train,val,test}/{domain}/; others are passed over.

    Raises:
        ValueError: there are none.
        ValueError: there are several such data sets in it.
    """
    entries, tops = [], set()
    for name in sorted(source.names):
        if reason := refused(name):
            entries.append(Entry(name, status="failed", reason=f"{shown(name)}: {reason}"))
            continue
        parts = name.split("/")
        at = next((i for i, part in enumerate(parts[:-2]) if part in SPLITS), None)
        if at is not None:
            tops.add("/".join(parts[:at]))
            entries.append(Entry(name, parts[at + 1], parts[at], "/".join(parts[at + 2 :]), name))
    if not tops:
        raise ValueError(
            f"{source.path}: holds no photos at train/CLASS/ and val/CLASS/ or test/CLASS/, as AFHQ does; for photos "
            "that lie otherwise name the classes with --csv or --attribute"
        )
    if len(tops) > 1:
        raise ValueError(f"{source.path}: holds {len(tops)} data sets, {', '.join(sorted(tops)[:3])}; name one of them")
    return entries


def from_csv(source: Folder | Archive, table: Path) -> list[Entry]:
    """Photos named in a table with the columns file, domain and, if wanted, split.

    Raises:
        ValueError: it is not such a table.
    """
    locate = locator(source.names)
    with _text(table) as file:
        try:
            reader = csv.DictReader(file)
            columns = [(column or "").strip().lower() for column in reader.fieldnames or []]
            if not {"file", "domain"} <= set(columns):
                raise ValueError(f"{table.name}: has the columns {columns}; needed: file, domain and, if wanted, split")
            reader.fieldnames = columns
            rows = [{c: (row[c] or "").strip() for c in columns if c} for row in reader]
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{table.name}: is no CSV in UTF-8 ({error})") from error
    if not rows:
        raise ValueError(f"{table.name}: names no photos")
    entries = []
    for number, row in enumerate(rows, start=1):
        split = row.get("split")
        entry = Entry(row["file"], row["domain"], split, below=row["file"])
        if not entry.photo or not entry.domain:
            reason = f"{table.name}: row {number} has no {'domain' if entry.photo else 'file'}"
            entry = replace(entry, status="failed", reason=reason)
        elif split is not None and split not in SPLITS:
            reason = f"{entry.photo}: its split in {table.name} is {split!r}; accepted: {', '.join(SPLITS)}"
            entry = replace(entry, status="failed", reason=reason)
        entries.append(locate(entry))
    return entries


def from_attributes(source: Folder | Archive, table: Path, attribute: str) -> list[Entry]:
    """Photos of CelebA-HQ or CelebAMask-HQ, whose classes are given by an attribute.

    Args:
        table: first line the number of photos, second the names of the attributes, then a file and 1 or -1 for each.
        attribute: "Male" makes the classes male and not-male, "Male=men,women" men and women.
    Raises:
        ValueError: it is not such a table.
        ValueError: it has no such attribute.
    """
    wanted, _, domains = attribute.partition("=")
    domains = [d.strip() for d in domains.split(",")] if domains else [wanted.lower(), f"not-{wanted.lower()}"]
    if len(domains) != 2 or len({d.casefold() for d in domains}) < 2 or not all(domains):
        raise ValueError(f"attribute is {attribute!r}; accepted: NAME, or NAME=CLASS,CLASS for photos with and without")
    with _text(table) as file:
        try:
            lines = file.read().splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"{table.name}: is no text in UTF-8 ({error})") from error
    rows = [line.split() for line in lines[2:] if line.strip()]
    if len(lines) < 2 or lines[0].split() != [str(len(rows))]:
        raise ValueError(
            f"{table.name}: is no list of attributes, or is cut short; needed: the number of photos, a line with the "
            "names of the attributes, then a line for each photo with its file and 1 or -1 for each attribute"
        )
    names = lines[1].split()
    if wanted not in names:
        raise ValueError(f"{table.name}: has no attribute {wanted!r}; accepted: {', '.join(names)}")
    # CelebAMask-HQ holds 400,000 masks beside its photos
    inside = {name for name in source.names if CELEBA_PHOTOS in name.split("/")[:-1]}
    locate = locator(inside or source.names)
    entries = []
    for number, (photo, *values) in enumerate(rows, start=3):
        if len(values) != len(names) or not set(values) <= {"1", "-1"}:
            raise ValueError(f"{table.name}: line {number} is not a file and {len(names)} values, each 1 or -1")
        domain = domains[0] if values[names.index(wanted)] == "1" else domains[1]
        entries.append(locate(Entry(photo, domain, below=photo)))
    return entries


def attribute_file(source: Path) -> Path:
    """The list of attributes that lies in a folder under one of its published names; a ValueError if there is none."""
    for name in ATTRIBUTE_FILES:
        if (source / name).is_file():
            return source / name
    raise ValueError(f"{source}: holds no {' or '.join(ATTRIBUTE_FILES)}; name the list with --attributes")


def locator(names: Iterable[str]) -> Callable[[Entry], Entry]:
    """Fills in where a photo of a table lies: at its path, else where its name or, in another format, its stem is."""
    names, elsewhere = set(names), defaultdict(list)
    for name in names:
        path = PurePosixPath(name)
        elsewhere[path.name].append(name)
        if path.stem != path.name:
            elsewhere[path.stem].append(name)

    def locate(entry: Entry) -> Entry:
        if entry.status:
            return entry
        reason = refused(f"{entry.domain}/{entry.below}") or ("/" in entry.domain and "its class is no folder's name")
        if reason:
            return replace(entry, status="failed", reason=f"{shown(entry.photo)}: {reason}")
        if entry.photo in names:
            return replace(entry, key=entry.photo)
        path = PurePosixPath(entry.photo)
        candidates = [] if len(path.parts) > 1 else elsewhere.get(path.name) or elsewhere.get(path.stem, [])
        if not candidates:
            return replace(entry, status="missing", reason=f"{entry.photo}: no such photo")
        if len(candidates) > 1:
            reason = f"{entry.photo}: {len(candidates)} photos have this name, {' and '.join(sorted(candidates)[:2])}"
            return replace(entry, status="failed", reason=reason)
        return replace(entry, key=candidates[0])

    return locate


def refused(name: str) -> str | None:
    """Why a name from a zip or a table is refused as a path, or None. It must stay below its folder, not hidden."""
    if not set(map(unicodedata.category, name)).isdisjoint({"Cc", "Cs"}):
        return "its name holds control characters"
    if "\\" in name or PureWindowsPath(name).drive or any(not p or p.startswith(".") for p in name.split("/")):
        return "its name leads out of its folder or is hidden"
    return None


def shown(name: str) -> str:
    """A name that is safe to print in a terminal."""
    return "".join("?" if unicodedata.category(c) in ("Cc", "Cs") else c for c in name)


def _text(path: str | os.PathLike):
    try:
        return open(path, encoding="utf-8-sig", newline="")
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error

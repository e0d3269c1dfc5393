"""A downloaded data set -> square crops in `root/{train,val}/{domain}/`, ready for training."""

import hashlib
import json
import os
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from .. import photos
from ..batch.pool import each
from ..config import FACES
from ..decomposition import to_bytes
from ..faces import crop, find_face
from ..files import atomic
from ..photos import Photo, PhotoError
from . import sources
from .sources import Archive, Entry, Folder

RECORD = "prepared.json"
STATUSES = ("done", "skipped", "no face", "left out", "missing", "failed")
SHARE = 0.1  # part of the photos for validation, where the data set names none


def prepare(
    source: str | os.PathLike,
    out: str | os.PathLike,
    *,
    size: int = 256,
    face: str = "centre",
    val: float | None = None,
    csv: str | os.PathLike | None = None,
    attribute: str | None = None,
    attributes: str | os.PathLike | None = None,
    jobs: int = 1,
) -> dict:
    """Crop each photo of a data set to `out/{train,val}/{domain}/{full name}.png`; returns what `prepared.json` holds.

    Crops are 8-bit RGB without metadata, by Lanczos; a box of exactly `size` pixels is kept as it is, alpha is
    ignored. Full names are kept, so `a.jpg` and `a.png` never collide. Each crop appears whole or not at all, and
    those that exist are skipped: a run that was stopped is resumed by the same call. Photos that can't be read are
    reported, and the run goes on.

    Args:
        source: a folder, or a zip, which is read without being extracted. Without `csv` or `attribute` it is laid out
            as AFHQ: train/{domain}/ with val/ (or, as in version 2, test/) beside it, inside another folder or not.
        size: side of the crops in pixels.
        face: "cat" or "human" finds the face, and photos without one are left out; "centre" takes the centre square.
        val: part of the photos for validation, in [0, 1), chosen by a hash of the file's name so that it stays the same
            when photos are added. Only for sources that name no validation photos; None is 0.1 for these.
        csv: a table with the columns file, domain and, if wanted, split (train, val, test).
        attribute: one of CelebA's attributes: "Male" makes the classes male and not-male, "Male=men,women" men and
            women.
        attributes: the list of attributes; looked for in `source` under its published names unless given.
        jobs: number of processes.
    Returns:
        "options"; a number of photos for each of STATUSES and for "not reached"; "enlarged", how many of the crops come
        from less than `size` pixels; "foreign", the photos below `out` that are no crop of this source, such as those
        of photos that were removed from it; "photos", a row for each.
    Raises:
        ValueError: the source has none of these layouts.
        ValueError: options contradict each other.
        ValueError: `out` holds something else.
        OSError: `out` cannot be written to.
    """
    source, out = Path(source), Path(out)
    if csv is not None and (attribute is not None or attributes is not None):
        raise ValueError("a CSV and an attribute both name the classes; give one of them")
    if attributes is not None and attribute is None:
        raise ValueError(f"{attributes}: which attribute makes the classes? (--attribute)")
    if face not in FACES:
        raise ValueError(f"kind of face is {face!r}; accepted: {', '.join(map(repr, FACES))}")
    if val is not None and not 0 <= val < 1:
        raise ValueError(f"share of validation photos is {val}; accepted: at least 0, less than 1")
    options = {"source": source, "csv": csv, "attributes": attributes}
    options = {name: path and str(Path(path).resolve()) for name, path in options.items()}
    options |= {"attribute": attribute, "size": size, "face": face, "val": val}
    earlier = _earlier(out, options)

    listing = Archive(source) if source.is_file() else Folder(source, out)
    if csv is not None:
        entries = sources.from_csv(listing, Path(csv))
    elif attribute is not None:
        table = Path(attributes) if attributes is not None else sources.attribute_file(source)
        entries = sources.from_attributes(listing, table, attribute)
    else:
        entries = sources.from_afhq(listing)
    held_out = next((split for split in ("val", "test") if any(e.split == split for e in entries)), None)
    if held_out and val is not None:
        raise ValueError(f"{source}: names its own validation photos; a share of them is for sources that name none")

    rows: list[dict | None] = []  # the result of each entry; None: not yet reached
    todo, taken, results = [], set(), set()
    for entry in entries:
        # two names that differ in case only are one file on many systems
        name = unicodedata.normalize("NFC", entry.key or entry.photo).casefold()
        result = _result(entry, held_out, SHARE if val is None else val)
        row = {"photo": entry.photo}
        if entry.status:
            row |= {"status": entry.status, "reason": entry.reason}
        elif name in taken:
            reason = f"{entry.photo}: another photo has this name, upper and lower case being one"
            row |= {"status": "failed", "reason": reason}
        elif result is None:
            row |= {"status": "left out", "reason": f"{entry.photo}: is for testing"}
        elif (out / result).exists():
            row |= {"status": "skipped", "result": result}
            row |= {"box": earlier[entry.photo]["box"]} if "box" in earlier.get(entry.photo, {}) else {}
        else:
            todo.append((len(rows), entry, result))
            row = None
        taken.add(name)
        if row is None or row["status"] == "skipped":
            results.add(result)
        rows.append(row)

    _write(out, {"options": options, "photos": list(earlier.values())})
    for row in rows:
        _report(row)
    foreign = [name for name in (p.relative_to(out).as_posix() for p in photos.find(out)) if name not in results]
    tasks = _tasks(listing, out, size, face, todo)
    try:
        with tqdm(total=len(todo), unit="photo") as bar:
            for row, (number, entry, result) in zip(each(_make, tasks, jobs), todo):
                rows[number] = {"photo": entry.photo} | row
                if row["status"] == "done":
                    rows[number]["result"] = result
                _report(rows[number])
                bar.update()
    finally:
        record = _record(options, rows, foreign)
        _write(out, record)
    return record


def _earlier(out: Path, options: dict) -> dict[str, dict]:
    """The rows of an earlier run into the same folder, by photo; a ValueError if that folder holds anything else."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return {}
    try:
        record = json.loads((out / RECORD).read_text())
        before, rows = record["options"], {row["photo"]: row for row in record["photos"]}
        changed = [name for name in options if before[name] != options[name]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"is not empty and holds no {RECORD}, so it is left alone; choose another folder"
        raise ValueError(f"{out}: {reason}") from error
    if changed:
        was = ", ".join(f"{name} {before[name]}" for name in changed)
        raise ValueError(f"{out}: was prepared with {was}; give the same, or choose another folder")
    return rows


def _result(entry: Entry, held_out: str | None, share: float) -> str | None:
    """Path of the crop below the root; None for test photos where others are for validation."""
    if held_out is None:
        digest = hashlib.sha256(entry.below.rpartition("/")[2].encode(errors="surrogateescape")).digest()
        split = "val" if int.from_bytes(digest[:8]) < share * 2**64 else "train"
    else:
        split = {"train": "train", held_out: "val"}.get(entry.split)
    return split and f"{split}/{entry.domain}/{entry.below}.png"


class _Task(NamedTuple):
    photo: str
    source: Path | bytes | PhotoError
    result: Path
    size: int
    face: str


def _tasks(listing: Folder | Archive, out: Path, size: int, face: str, todo: list) -> Iterator[_Task]:
    """A zip is read here, one photo after the other, as its list of names is too long for every process."""
    for _, entry, result in todo:
        try:
            source = listing.read(entry.key)
        except PhotoError as error:
            source = error
        yield _Task(entry.photo, source, out / result, size, face)


def _make(task: _Task) -> dict:
    """Write one crop; returns its row of the record."""
    try:
        if isinstance(task.source, PhotoError):
            raise task.source
        photo = photos.load(task.source, name=task.photo)
        box = find_face(photo, task.face)
        if box.found != task.face:
            return {"status": "no face", "reason": f"{task.photo}: no {task.face} face was found"}
        photos.save(Photo(to_bytes(crop(photo, box, task.size))), task.result)
    except (PhotoError, OSError) as error:
        return {"status": "failed", "reason": str(error)}
    except MemoryError:
        return {"status": "failed", "reason": f"{task.photo}: does not fit into memory"}
    return {"status": "done", "box": [box.left, box.top, box.side]}


def _report(row: dict | None) -> None:
    if row and row["status"] == "failed":
        tqdm.write(row["reason"], file=sys.stderr)


def _record(options: dict, rows: list[dict | None], foreign: list[str]) -> dict:
    reached = [row for row in rows if row]
    return {
        "options": options,
        **{status: sum(row["status"] == status for row in reached) for status in STATUSES},
        "not reached": len(rows) - len(reached),
        "enlarged": sum(row["box"][2] < options["size"] for row in reached if "box" in row),
        "foreign": foreign,
        "photos": reached,
    }


def _write(out: Path, record: dict) -> None:
    with atomic(out / RECORD) as temporary:
        temporary.write_text(json.dumps(record, indent=2))

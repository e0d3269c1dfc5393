"""One photo or a folder of thousands: mirrored tree, atomic results, a report, and an exit code."""

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from . import photos
from .photos import PhotoError

DONE, SOME_FAILED = 0, 1  # exit codes; 2 is a usage error
MARK = ".decomp"  # lies in every folder written here; a folder without it is somebody else's and is never replaced


def run(
    source: Path, out: Path, work: Callable[[Path, Path], dict | None], *, folder: str | None, skip_existing: bool
) -> int:
    """Apply `work(photo, result)` to a photo, or to every photo below a folder; returns the exit code.

    The result of `source/a/b.jpg` is `out/a/b.jpg`: full names are kept, so `b.jpg` and `b.png` never collide. `work`
    writes to a temporary place beside it that is renamed when complete, so a result is either whole or absent. A photo
    that can't be done is reported and the run goes on. For a folder, `out/report.json` lists every photo with "done",
    "skipped" or "failed" and the reason; it is also written when the run is stopped.

    Args:
        folder: if not None, results are folders named as the photo and this ending; a single photo's result lies in
            `out` too. None: results are pictures, and a single photo's result is `out` itself.
        skip_existing: leave results that are already there.
    Raises:
        PhotoError: `source` holds no photos, or `out` is `source`. OSError: `out` cannot be written to.
    """
    if not source.is_dir():
        result = out if folder is None else out / (source.name + folder)
        row = _one(source, result, work, folder is not None, skip_existing)
        print(row.get("reason") or row["result"], file=sys.stderr if row["status"] == "failed" else sys.stdout)
        return SOME_FAILED if row["status"] == "failed" else DONE

    if out.resolve() == source.resolve():
        raise PhotoError(f"{out}: is the folder with the photos; results need another one")
    # a second run that writes into a folder below the photos finds the first one's results: those are no input
    inside = out.resolve().is_relative_to(source.resolve())
    found = [p for p in photos.find(source) if not (inside and p.resolve().is_relative_to(out.resolve()))]
    if not found:
        raise PhotoError(f"{source}: no photos below this folder; accepted: {', '.join(sorted(photos.SUFFIXES))}")
    out.mkdir(parents=True, exist_ok=True)
    rows, taken = [], set()
    try:
        for path in tqdm(found, unit="photo"):
            relative = path.relative_to(source)
            result = out / (str(relative) + (folder or ""))
            if folder is None and result.suffix.lower() == ".gif":  # which would keep 256 colours of a picture
                result = result.with_name(result.name + ".png")
            if result in taken:
                row = {"status": "failed", "reason": f"{path.name}: another photo's result is already {result.name}"}
            else:
                row = _one(path, result, work, folder is not None, skip_existing)
            taken.add(result)
            rows.append({"photo": str(relative)} | row)
            if "reason" in row:
                tqdm.write(row["reason"], file=sys.stderr)
    finally:
        counts = {status: sum(row["status"] == status for row in rows) for status in ("done", "skipped", "failed")}
        with photos.atomic(out / "report.json") as temporary:
            temporary.write_text(json.dumps(counts | {"not reached": len(found) - len(rows), "photos": rows}, indent=2))
        print(", ".join(f"{n} {status}" for status, n in counts.items()) + f"; see {out / 'report.json'}")
    return SOME_FAILED if counts["failed"] else DONE


def _one(path: Path, result: Path, work: Callable, folder: bool, skip_existing: bool) -> dict:
    """What became of one photo, as a row of the report."""
    try:
        if result.exists() and not _ours(path, result, folder):
            raise PhotoError(f"{result}: is not a result of decomp and is left alone; choose another --out")
        if skip_existing and result.exists():
            return {"status": "skipped", "result": str(result)}
        result.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".decomp-", dir=result.parent, ignore_cleanup_errors=True) as temporary:
            made = Path(temporary) / result.name
            details = work(path, made) or {}
            if folder:
                (made / MARK).touch()
            _put(made, result, Path(temporary) / "previous")
    except (PhotoError, OSError) as error:
        return {"status": "failed", "reason": str(error)}
    except MemoryError:
        return {"status": "failed", "reason": f"{path.name}: does not fit into memory at this size"}
    return {"status": "done", "result": str(result)} | details


def _ours(path: Path, result: Path, folder: bool) -> bool:
    """Whether what is there may be replaced: a marked or empty folder, a file that is not the photo itself."""
    if folder:
        return result.is_dir() and ((result / MARK).exists() or not any(result.iterdir()))
    return result.is_file() and not result.samefile(path)


def _put(made: Path, result: Path, previous: Path) -> None:
    """Rename `made` onto `result`; a folder can't be renamed onto another, so the old one steps aside."""
    if not result.is_dir():
        made.replace(result)
        return
    result.replace(previous)
    try:
        made.replace(result)
    except OSError:
        previous.replace(result)
        raise

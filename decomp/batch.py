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


def run(source: Path, out: Path, work: Callable[[Path, Path], dict | None], *, folder: bool, skip_existing: bool) -> int:
    """Apply `work(photo, result)` to a photo, or to every photo below a folder; returns the exit code.

    The result of `source/a/b.jpg` is `out/a/b.jpg`, a folder or a file: full names are kept, so `b.jpg` and `b.png`
    never collide. `work` writes to a temporary place beside it that is renamed when complete, so a result is either
    whole or absent. A photo that can't be done is reported and the run goes on. `out/report.json` lists every photo
    with "done", "skipped" or "failed" and the reason; it is also written when the run is stopped.

    Args:
        folder: results are folders; a single photo's result is then `out` / its name too. Otherwise results are
            pictures, and a single photo's result is `out` itself.
        skip_existing: leave results that are already there.
    """
    if not source.is_dir():
        row = _one(source, out / source.name if folder else out, work, skip_existing)
        print(row.get("reason") or row["result"], file=sys.stderr if row["status"] == "failed" else sys.stdout)
        return SOME_FAILED if row["status"] == "failed" else DONE

    # a second run writes into the folder that holds the first one's results: those are no input
    found = [p for p in photos.find(source) if not p.resolve().is_relative_to(out.resolve())]
    if not found:
        raise PhotoError(f"{source}: no photos below this folder; accepted: {', '.join(sorted(photos.SUFFIXES))}")
    rows = []
    try:
        for path in tqdm(found, unit="photo"):
            relative = path.relative_to(source)
            result = out / relative
            if not folder and result.suffix.lower() == ".gif":  # which would keep 256 colours of a picture
                result = result.with_name(result.name + ".png")
            rows.append({"photo": str(relative)} | _one(path, result, work, skip_existing))
            if "reason" in rows[-1]:
                tqdm.write(rows[-1]["reason"], file=sys.stderr)
    finally:
        counts = {status: sum(row["status"] == status for row in rows) for status in ("done", "skipped", "failed")}
        with photos.atomic(out / "report.json") as temporary:
            temporary.write_text(json.dumps(counts | {"not reached": len(found) - len(rows), "photos": rows}, indent=2))
        print(", ".join(f"{n} {status}" for status, n in counts.items()) + f"; see {out / 'report.json'}")
    return SOME_FAILED if counts["failed"] else DONE


def _one(path: Path, result: Path, work: Callable[[Path, Path], dict | None], skip_existing: bool) -> dict:
    """What became of one photo, as a row of the report."""
    if skip_existing and result.exists():
        return {"status": "skipped", "result": str(result)}
    try:
        result.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".decomp-", dir=result.parent, ignore_cleanup_errors=True) as temporary:
            made = Path(temporary) / result.name
            details = work(path, made) or {}
            if made.is_dir() and result.is_dir():  # a folder can't be renamed onto another
                result.replace(Path(temporary) / "previous")
            made.replace(result)
    except (PhotoError, OSError) as error:
        return {"status": "failed", "reason": str(error)}
    return {"status": "done", "result": str(result)} | details

"""One photo or a folder of thousands: mirrored tree, atomic results, a report, and an exit code."""

import json
import shutil
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
    with "done", "skipped" or "failed" and the reason.

    Args:
        folder: results are folders; a single photo's result is then `out` / its name too. Otherwise results are
            files, and a single photo's result is `out` itself.
        skip_existing: leave results that are already there.
    """
    single = not source.is_dir()
    found = [source] if single else photos.find(source)
    # a second run writes into the folder that holds the first one's results: those are no input
    found = [p for p in found if single or not p.resolve().is_relative_to(out.resolve())]
    if not found:
        raise PhotoError(f"{source}: no photos below this folder; accepted: {', '.join(sorted(photos.SUFFIXES))}")
    rows = []
    for path in tqdm(found, unit="photo", disable=single):
        relative = Path(path.name) if single else path.relative_to(source)
        result = out if single and not folder else out / relative
        if not folder and not single and result.suffix.lower() == ".gif":  # a GIF would keep 256 colours of a picture
            result = result.with_name(result.name + ".png")
        row = {"photo": str(relative), "result": str(result)}
        if skip_existing and result.exists():
            rows.append(row | {"status": "skipped"})
            continue
        try:
            rows.append(row | {"status": "done"} | (_whole(work, path, result) or {}))
        except PhotoError as error:
            rows.append({"photo": str(relative), "status": "failed", "reason": str(error)})
            tqdm.write(str(error), file=sys.stderr)
    counts = {s: sum(row["status"] == s for row in rows) for s in ("done", "skipped", "failed")}
    if single:
        if not counts["failed"]:
            print(rows[0]["result"])
    else:
        out.mkdir(parents=True, exist_ok=True)
        with photos.atomic(out / "report.json") as temporary:
            temporary.write_text(json.dumps(counts | {"photos": rows}, indent=2))
        tqdm.write(", ".join(f"{n} {status}" for status, n in counts.items()) + f"; see {out / 'report.json'}")
    return SOME_FAILED if counts["failed"] else DONE


def _whole(work: Callable[[Path, Path], dict | None], path: Path, result: Path) -> dict | None:
    """Run `work` into a temporary place beside `result`, then put it there in one rename."""
    result.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".decomp-", dir=result.parent, ignore_cleanup_errors=True) as temporary:
        made = Path(temporary) / result.name
        row = work(path, made)
        if made.is_dir() and result.is_dir():  # a folder can't be renamed onto another
            shutil.move(result, Path(temporary) / "previous")
        made.replace(result)
    return row

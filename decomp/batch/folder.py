"""One photo or a folder of thousands: mirrored tree, atomic results, a report, and an exit code."""

import contextlib
import csv
import functools
import json
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, wait
from pathlib import Path

from tqdm import tqdm

from .. import photos
from ..files import atomic
from ..photos import PhotoError
from .pool import spawned

DONE, SOME_FAILED = 0, 1  # exit codes; 2 is a usage error
MARK = ".decomp"  # lies in every folder written here; a folder without it is somebody else's and is never replaced
PREFIX = f".decomp-{socket.gethostname()}-"  # of temporary places; then the process
Work = Callable[[Path, Path], dict | None]


def run(
    source: Path,
    out: Path,
    work: Work,
    *,
    folder: str | None,
    skip_existing: bool,
    jobs: int = 1,
    shard: tuple[int, int] = (1, 1),
) -> int:
    """Apply `work(photo, result)` to a photo, or to every photo below a folder; returns the exit code.

    The result of `source/a/b.jpg` is `out/a/b.jpg`: full names are kept, so `b.jpg` and `b.png` never collide. `work`
    writes to a temporary place beside it that is renamed when complete, so a result is either whole or absent. A photo
    that can't be done is reported and the run goes on. For a folder, `out/report.json` and `out/report.csv` list every
    photo with "done", "skipped" or "failed", the reason, and what `work` told of it; of a skipped folder, what was told
    when it was made. Both are also written when the run is stopped with Ctrl-C.

    Args:
        folder: if not None, results are folders named as the photo and this ending; a single photo's result lies in
            `out` too. None: results are pictures, and a single photo's result is `out` itself.
        skip_existing: leave results that are already there, so that a run that was stopped or killed goes on.
        jobs: processes. With more than one, `work` is pickled and torch has one thread in each.
        shard: (i, n) does every n-th photo from the i-th on, 1 <= i <= n: several machines share `source` and `out`.
            The report is then `report-i-of-n`.
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
    number, shards = shard
    tasks = _tasks(found, source, out, work, folder, skip_existing)[number - 1 :: shards]
    report = out / ("report" if shards == 1 else f"report-{number}-of-{shards}")
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    try:
        with contextlib.closing(_all(tasks, jobs)) as done:
            for path, row in tqdm(done, total=len(tasks), unit="photo"):
                rows.append({"photo": str(path.relative_to(source))} | row)
                if "reason" in row:
                    tqdm.write(row["reason"], file=sys.stderr)
    finally:
        counts = _report(report, rows, len(tasks) - len(rows))
        print(", ".join(f"{n} {status}" for status, n in counts.items()) + f"; see {report}.json")
    return SOME_FAILED if counts["failed"] else DONE


def _tasks(
    found: list[Path], source: Path, out: Path, work: Work, folder: str | None, skip_existing: bool
) -> list[tuple]:
    """The arguments of `_one` for each photo; where two photos have one result, the second has none."""
    tasks, taken = [], set()
    for path in found:
        result = out / (str(path.relative_to(source)) + (folder or ""))
        if folder is None and result.suffix.lower() == ".gif":  # which would keep 256 colours of a picture
            result = result.with_name(result.name + ".png")
        tasks.append((path, None if result in taken else result, work, folder is not None, skip_existing))
        taken.add(result)
    return tasks


def _all(tasks: list[tuple], jobs: int) -> Iterator[tuple[Path, dict]]:
    """Each photo and its row, in the order in which they are done."""
    if jobs == 1:
        for task in tasks:
            yield task[0], _one(*task)
        return
    waiting, running, pool = iter(tasks), {}, spawned(jobs)
    try:
        while True:
            # two for each process: none waits for its next photo, and memory does not grow with the folder
            while len(running) < 2 * jobs and (task := next(waiting, None)):
                running[pool.submit(_one, *task)] = task[0]
            if not running:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            if any(isinstance(future.exception(), BrokenExecutor) for future in done):
                done = list(running)  # a process was killed, most likely for memory; nobody knows which photo it had
                pool.shutdown()
                pool = spawned(jobs)
            for future in done:
                path = running.pop(future)
                lost = {"status": "failed", "reason": f"{path.name}: a process was killed while this photo was at work"}
                yield path, lost if isinstance(future.exception(), BrokenExecutor) else future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _report(path: Path, rows: list[dict], left: int) -> dict[str, int]:
    """Write `path.json` and `path.csv`; returns how many are done, skipped and failed."""
    counts = {status: sum(row["status"] == status for row in rows) for status in ("done", "skipped", "failed")}
    rows = sorted(rows, key=lambda row: row["photo"])  # several processes end in any order
    with atomic(path.with_name(path.name + ".json")) as temporary:
        temporary.write_text(json.dumps(counts | {"not reached": left, "photos": rows}, indent=2))
    with atomic(path.with_name(path.name + ".csv")) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)
    return counts


def _one(path: Path, result: Path | None, work: Work, folder: bool, skip_existing: bool) -> dict:
    """What became of one photo, as a row of the report."""
    try:
        if result is None:
            raise PhotoError(f"{path.name}: another photo's result already has its name")
        if result.exists() and not _ours(path, result, folder):
            raise PhotoError(f"{result}: is not a result of decomp and is left alone; choose another --out")
        if skip_existing and result.exists():
            return {"status": "skipped", "result": str(result)} | (_told(result) if folder else {})
        result.parent.mkdir(parents=True, exist_ok=True)
        _tidy(result.parent)
        prefix = f"{PREFIX}{os.getpid()}-"
        with tempfile.TemporaryDirectory(prefix=prefix, dir=result.parent, ignore_cleanup_errors=True) as temporary:
            made = Path(temporary) / result.name
            details = work(path, made) or {}
            if folder:
                (made / MARK).write_text(json.dumps(details))
            _put(made, result, Path(temporary) / "previous")
    except (PhotoError, OSError) as error:
        return {"status": "failed", "reason": str(error)}
    except MemoryError:
        return {"status": "failed", "reason": f"{path.name}: does not fit into memory at this size"}
    except Exception as error:  # one photo that shows a mistake in the program must not end a night's run
        return {"status": "failed", "reason": f"{path.name}: {type(error).__name__}: {error}"}
    return {"status": "done", "result": str(result)} | details


def _told(result: Path) -> dict:
    """What `work` told of a result folder that is already there."""
    try:
        return dict(json.loads((result / MARK).read_text()))
    except (OSError, ValueError):  # the mark was empty in earlier versions
        return {}


@functools.cache
def _tidy(parent: Path) -> None:
    """Take away, once for each folder, what processes of this machine left there when they were killed."""
    for left in parent.glob(f"{PREFIX}*"):
        process = left.name.removeprefix(PREFIX).partition("-")[0]
        if process.isdecimal() and not _alive(int(process)):
            for previous in left.glob("previous"):  # killed between two renames: this is the only whole result
                original = parent / next((p.name for p in left.iterdir() if p.name != "previous"), "")
                if not original.exists():
                    previous.replace(original)
            shutil.rmtree(left, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


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

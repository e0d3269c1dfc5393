"""One photo or a folder of thousands: mirrored tree, atomic results, a report, and an exit code."""

import contextlib
import csv
import functools
import hashlib
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, wait
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from .. import photos
from ..files import atomic
from ..photos import PhotoError, readable
from .pool import spawned

DONE, SOME_FAILED = 0, 1  # exit codes; 2 is a usage error
MARK = ".decomp"  # lies in every folder written here; a folder without it is never replaced
PREFIX = f".decomp-{socket.gethostname()}-"  # of temporary places; then the process
LONGEST_NAME = 255  # bytes, of nearly every file system
NATIVE_LINES = 5  # of what a library writes about one photo
Work = Callable[[Path, Path], dict | None]


class Task(NamedTuple):
    """One photo, as it is passed to another process."""

    path: Path
    result: Path | None  # None: another photo's result has that name
    work: Work
    folder: bool  # whether the result is a folder
    skip_existing: bool
    overwrite: bool


def run(
    source: Path,
    out: Path,
    work: Work,
    *,
    folder: str | None,
    skip_existing: bool,
    overwrite: bool = False,
    jobs: int = 1,
    shard: tuple[int, int] = (1, 1),
) -> int:
    """Apply `work(photo, result)` to a photo, or to every photo below a folder; returns the exit code.

    The result of `source/a/b.jpg` is `out/a/b.jpg`: full names are kept, so `b.jpg` and `b.png` never collide. `work`
    writes to a temporary place beside it that is renamed when complete, so a result is either whole or absent. A photo
    that can't be done is reported and the run goes on. For a folder, `out/report.json` and `out/report.csv` list every
    photo with "done", "skipped" or "failed", the reason, and the dictionary that `work` returned; of a skipped folder
    the one returned when it was made. "notes" are lines that native libraries wrote about it. Both files are written
    when the run is stopped with Ctrl-C or SIGTERM too; photos in progress in other processes are finished and counted.

    Nothing that decomp did not write is replaced. Its own folders and reports are recognised by their content, pictures
    are not: an existing picture is kept and its photo fails, unless `overwrite`.

    Args:
        folder: if not None, results are folders named as the photo and this ending; a single photo's result lies in
            `out` too. None: results are pictures, and a single photo's result is `out` itself.
        skip_existing: keep existing results, so that a stopped or killed run is resumed.
        overwrite: replace existing pictures and reports, also those not written by decomp; never a folder that is not
            decomp's, never a photo by its own edit.
        jobs: number of processes. With more than one, `work` is pickled and torch has one thread in each.
        shard: (i, n) does every n-th photo from the i-th on, 1 <= i <= n: several machines share `source` and `out`.
            The report is then `report-i-of-n`.
    Raises:
        PhotoError: `source` holds no photos.
        PhotoError: `out` is `source`.
        OSError: `out` cannot be written to.
    """
    if not source.is_dir():
        result = out
        if folder is not None:
            result = _named(out / source.name, folder)
        with _stoppable():
            row = _one(Task(source, result, work, folder is not None, skip_existing, overwrite))
        for note in row.get("notes", "").splitlines():
            print(f"{readable(source.name)}: {note}", file=sys.stderr)
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
    tasks = _tasks(found, source, out, work, folder, skip_existing, overwrite)[number - 1 :: shards]
    report = out / ("report" if shards == 1 else f"report-{number}-of-{shards}")
    if not overwrite:
        _check_report(report)
    out.mkdir(parents=True, exist_ok=True)
    rows, late = [], []
    with _stoppable():
        try:
            with contextlib.closing(_all(tasks, jobs, late)) as done:
                for path, row in tqdm(done, total=len(tasks), unit="photo", miniters=1):
                    rows.append((path, row))
                    if "reason" in row:
                        tqdm.write(row["reason"], file=sys.stderr)
        finally:
            named = [{"photo": readable(path.relative_to(source))} | row for path, row in rows + late]
            counts = _report(report, named, len(tasks) - len(named))
            print(", ".join(f"{n} {status}" for status, n in counts.items()) + f"; see {readable(report)}.json")
    return SOME_FAILED if counts["failed"] else DONE


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM unwinds the stack as Ctrl-C does, so that reports are written and temporary places removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_):
        raise SystemExit(128 + signal.SIGTERM)

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _check_report(report: Path) -> None:
    """Raise PhotoError if a file that decomp did not write has the report's name."""
    for suffix in (".json", ".csv"):
        path = report.with_name(report.name + suffix)
        if not path.exists():
            continue
        try:
            with open(path, encoding="utf-8") as file:
                ours = file.readline().startswith("photo,status") if suffix == ".csv" else "photos" in json.load(file)
        except (OSError, ValueError, TypeError):
            ours = suffix == ".csv" and path.stat().st_size == 0
        if not ours:
            raise PhotoError(f"{readable(path)}: is not a report of decomp and is left alone; choose another --out")


def _named(path: Path, ending: str) -> Path:
    """The path with an ending; a name that is too long with it is cut and gets a digest."""
    name = os.fsencode(path.name)
    if len(name) + len(ending) <= LONGEST_NAME:
        return path.with_name(path.name + ending)
    digest = hashlib.blake2b(name, digest_size=6).hexdigest()
    kept = name[: LONGEST_NAME - len(ending) - len(digest) - 1].decode(errors="ignore")
    return path.with_name(f"{kept}~{digest}{ending}")


def _tasks(
    found: list[Path], source: Path, out: Path, work: Work, folder: str | None, skip_existing: bool, overwrite: bool
) -> list[Task]:
    """One for each photo; if two photos have the same result, the second has none."""
    tasks, taken = [], set()
    for path in found:
        unwritten = photos.SUFFIXES[path.suffix.lower()] not in photos.WRITTEN  # such as GIF, which keeps 256 colours
        result = _named(out / path.relative_to(source), folder if folder is not None else ".png" if unwritten else "")
        free = None if result in taken else result
        tasks.append(Task(path, free, work, folder is not None, skip_existing, overwrite))
        taken.add(result)
    return tasks


def _all(tasks: list[Task], jobs: int, late: list) -> Iterator[tuple[Path, dict]]:
    """Each photo and its row, in the order in which they are done; `late` gets those that end after a stop."""
    if jobs == 1:
        for task in tasks:
            yield task.path, _one(task)
        return
    waiting, running, pool = iter(tasks), {}, spawned(jobs)
    try:
        while True:
            # two for each process: none waits for its next photo, and memory does not grow with the folder
            while len(running) < 2 * jobs and (task := next(waiting, None)):
                running[pool.submit(_in_process, task)] = task
            if not running:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            killed = any(isinstance(future.exception(), BrokenExecutor) for future in done)
            if killed:
                done, _ = wait(running)
                pool.shutdown()
            again = []
            for future in done:
                task = running.pop(future)
                if isinstance(future.exception(), BrokenExecutor):
                    again.append(task)
                    if task.result:
                        _tidy.__wrapped__(task.result.parent)
                else:
                    yield task.path, future.result()
            if killed:
                yield from _one_by_one(again)
                pool = spawned(jobs)
    finally:
        pool.shutdown(cancel_futures=True)  # waits for the photos at work
        late += [(t.path, f.result()) for f, t in running.items() if not f.cancelled() and not f.exception()]


def _one_by_one(tasks: list[Task]) -> Iterator[tuple[Path, dict]]:
    """After a process was killed, most likely for lack of memory: each photo alone. One that kills again has failed."""
    alone = spawned(1)
    try:
        for task in tasks:
            try:
                yield task.path, alone.submit(_in_process, task).result()
            except BrokenExecutor:
                alone.shutdown()
                alone = spawned(1)
                if task.result:
                    _tidy.__wrapped__(task.result.parent)
                reason = f"{readable(task.path.name)}: its process was killed, most likely for lack of memory"
                yield task.path, {"status": "failed", "reason": reason}
    finally:
        alone.shutdown(cancel_futures=True)


def _in_process(task: Task) -> dict:
    """`_one`; after SIGTERM the process ends, where it would go on waiting for work."""
    try:
        return _one(task)
    except SystemExit as stop:
        os._exit(stop.code)


def _report(path: Path, rows: list[dict], left: int) -> dict[str, int]:
    """Write `path.json` and `path.csv`; returns how many are done, skipped and failed."""
    counts = {status: sum(row["status"] == status for row in rows) for status in ("done", "skipped", "failed")}
    rows = sorted(rows, key=lambda row: row["photo"])  # several processes end in any order
    with atomic(path.with_name(path.name + ".json")) as temporary:
        temporary.write_text(json.dumps(counts | {"not reached": left, "photos": rows}, indent=2), encoding="utf-8")
    with (
        atomic(path.with_name(path.name + ".csv")) as temporary,
        open(temporary, "w", newline="", encoding="utf-8") as file,
    ):
        lines = [line for row in rows for line in _lines(row)]
        columns = dict.fromkeys(["photo", "status", *(key for line in lines for key in line)])
        writer = csv.DictWriter(file, list(columns))
        writer.writeheader()
        writer.writerows(lines)
    return counts


def _lines(row: dict) -> list[dict]:
    """The lines of the CSV for one photo: one for each of its "rows", where `work` returned some."""
    own = {key: value for key, value in row.items() if key != "rows"}
    return [own | one for one in row.get("rows") or [{}]]


def _one(task: Task) -> dict:
    """Process one photo; returns its row of the report."""
    path, result, work, folder, skip_existing, _ = task
    name = readable(path.name)
    notes = []
    try:
        if result is None:
            raise PhotoError(f"{name}: another photo's result already has its name")
        if os.path.lexists(result):
            if skip_existing and (result.is_file() or _ours(result)):
                return {"status": "skipped", "result": readable(result)} | (_told(result) if folder else {})
            _check_replaceable(task)
        result.parent.mkdir(parents=True, exist_ok=True)
        _tidy(result.parent)
        prefix = f"{PREFIX}{os.getpid()}-"
        with tempfile.TemporaryDirectory(prefix=prefix, dir=result.parent, ignore_cleanup_errors=True) as temporary:
            made = Path(temporary) / result.name
            with _native_lines(notes):
                details = work(path, made) or {}
            if folder:
                (made / MARK).write_text(json.dumps(details))
            _put(made, result, Path(temporary) / "previous")
        row = {"status": "done", "result": readable(result)} | details
    except PhotoError as error:
        row = {"status": "failed", "reason": str(error)}
    except OSError as error:
        row = {"status": "failed", "reason": f"{name}: {error.strerror or error}"}
    except MemoryError:
        row = {"status": "failed", "reason": f"{name}: does not fit into memory at this size"}
    except Exception as error:  # one photo that shows a mistake in the program must not end a night's run
        row = {"status": "failed", "reason": f"{name}: {type(error).__name__}: {error}"}
    return row | ({"notes": "\n".join(notes)} if notes else {})


@contextlib.contextmanager
def _native_lines(lines: list[str]) -> Iterator[None]:
    """Collect what libtiff, libpng and the like write past Python to standard error, which would not name the photo."""
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(tempfile.TemporaryFile())
            saved = os.dup(2)
        except OSError:  # no standard error, or no room
            yield
            return
        sys.stderr.flush()
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
            file.seek(0)
            text = file.read(65536).decode(errors="backslashreplace")
            lines += list(dict.fromkeys(filter(None, map(str.strip, text.splitlines()))))[:NATIVE_LINES]


def _told(result: Path) -> dict:
    """What `work` returned for an existing result folder."""
    try:
        return dict(json.loads((result / MARK).read_text()))
    except (OSError, ValueError):  # the mark was empty in earlier versions
        return {}


@functools.cache
def _tidy(parent: Path) -> None:
    """Remove, once for each folder, the temporary files of killed processes of this machine."""
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


def _ours(result: Path) -> bool:
    """Whether a folder was made here: it is marked, or empty."""
    return result.is_dir() and ((result / MARK).exists() or not any(result.iterdir()))


def _check_replaceable(task: Task) -> None:
    """Raise PhotoError if the existing result must not be replaced."""
    result = task.result
    if task.folder and _ours(result):
        return
    if task.folder or not result.is_file():
        raise PhotoError(f"{readable(result)}: is not a result of decomp and is left alone; choose another --out")
    if result.samefile(task.path):
        raise PhotoError(f"{readable(result)}: is the photo itself and is left alone; choose another --out")
    if not task.overwrite:
        raise PhotoError(f"{readable(result)}: is already there; --overwrite replaces it, --skip-existing leaves it")


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

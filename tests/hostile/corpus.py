"""Run every file of a folder through the loader, in child processes that may crash, hang or eat memory.

    python tests/hostile/corpus.py FOLDER [--jobs 2] [--seconds 60] [--gigabytes 4]

Prints one row for each folder directly below FOLDER, then names each file that is not simply accepted or refused.
"other" is an exception that is no PhotoError; "unsteady" a file whose second reading differs from its first. A file
counts in "> 5 s" and "> 1 GB" (above the idle process) besides its outcome. Exit code 1 if there is any of these.
"""

import argparse
import hashlib
import json
import resource
import select
import subprocess
import sys
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SLOW, LARGE = 5.0, 2**30  # seconds of processor time, bytes
OUTCOMES = ("accepted", "refused", "other", "unsteady", "crash", "timeout")
COLUMNS = (*OUTCOMES, "> 5 s", "> 1 GB")


def resident(field: str) -> int:
    """Bytes of VmRSS (now) or VmHWM (peak) of this process."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split(f"{field}:")[1].split()[0])


def child(gigabytes: float) -> None:
    """Read a path a line, answer with a line of JSON."""
    from decomp import photos

    limit = int(gigabytes * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    digest = lambda photo: hashlib.blake2b(photo.pixels.tobytes()).hexdigest()
    print("ready", flush=True)
    for line in sys.stdin:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        idle, started, path = resident("VmRSS"), time.process_time(), Path(json.loads(line))
        try:
            photo = photos.load(path)
            seconds, peak = time.process_time() - started, resident("VmHWM") - idle
            first = digest(photo)
            del photo
            outcome = "accepted" if digest(photos.load(path)) == first else "unsteady"
            reason = ""
        except photos.PhotoError as error:
            seconds, peak = time.process_time() - started, resident("VmHWM") - idle
            outcome, reason = "refused", str(error)
        except BaseException as error:
            seconds, peak = time.process_time() - started, resident("VmHWM") - idle
            outcome, reason = "other", f"{type(error).__name__}: {error}"
        print(json.dumps({"outcome": outcome, "reason": reason, "seconds": seconds, "peak": peak}), flush=True)


class Child:
    """A process that is started again whenever a file ends it."""

    def __init__(self, gigabytes: float, seconds: float):
        self.gigabytes, self.seconds, self.process = gigabytes, seconds, None

    def start(self) -> None:
        command = [sys.executable, __file__, "--child", str(self.gigabytes)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        if self.process.stdout.readline() != "ready\n":
            raise SystemExit("the child process does not start: is decomp installed?")

    def load(self, path: Path) -> dict:
        if not self.process:
            self.start()
        self.process.stdin.write(json.dumps(str(path)) + "\n")
        self.process.stdin.flush()
        answered, _, _ = select.select([self.process.stdout], [], [], 2 * self.seconds)  # it loads twice
        line = self.process.stdout.readline() if answered else ""
        if line:
            return json.loads(line)
        self.process.kill()
        code = self.process.wait()
        self.process = None
        if not answered:
            return {
                "outcome": "timeout",
                "reason": f"more than {2 * self.seconds:g} s",
                "seconds": 2 * self.seconds,
                "peak": 0,
            }
        return {"outcome": "crash", "reason": f"the process ended with {code}", "seconds": 0.0, "peak": 0}

    def end(self) -> None:
        if self.process:
            self.process.stdin.close()
            self.process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60, help="longest time for one reading")
    parser.add_argument("--gigabytes", type=float, default=4, help="address space of a child process")
    options = parser.parse_args()
    files = sorted(path for path in options.folder.rglob("*") if path.is_file())
    if not files:
        parser.error(f"{options.folder} holds no files")

    def part(number: int) -> list[tuple[Path, dict]]:
        process = Child(options.gigabytes, options.seconds)
        rows = [(path, process.load(path)) for path in files[number :: options.jobs]]
        process.end()
        return rows

    with ThreadPoolExecutor(options.jobs) as threads:
        rows = [row for rows in threads.map(part, range(options.jobs)) for row in rows]

    counts = defaultdict(Counter)
    for path, row in rows:
        below = path.relative_to(options.folder).parts
        for name in (below[0] if len(below) > 1 else ".", "all"):
            counts[name].update([row["outcome"], "files"])
            counts[name].update({"> 5 s": row["seconds"] > SLOW, "> 1 GB": row["peak"] > LARGE})
    width = max(map(len, counts))
    print(f"{'':{width}}", *(f"{column:>9}" for column in ("files", *COLUMNS)))
    for name in (*sorted(set(counts) - {"all"}), "all"):
        print(f"{name:{width}}", *(f"{counts[name][column]:>9}" for column in ("files", *COLUMNS)))
    for path, row in rows:
        if row["outcome"] not in ("accepted", "refused") or row["seconds"] > SLOW or row["peak"] > LARGE:
            told = f"{row['outcome']}, {row['seconds']:.1f} s, {row['peak'] / 2**20:.0f} MB"
            print(
                f"{path.relative_to(options.folder)}: {told} {row['reason']}".encode(errors="backslashreplace").decode()
            )
    slowest, largest = max(row["seconds"] for _, row in rows), max(row["peak"] for _, row in rows)
    print(f"slowest {slowest:.1f} s, largest {largest / 2**20:.0f} MB above idle")
    return int(any(counts["all"][column] for column in COLUMNS[2:]))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(float(sys.argv[2]))
    else:
        sys.exit(main())

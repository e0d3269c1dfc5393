"""Photos per second of `decomp eyes` with one and two processes, and where the time of one goes.

`python tests/benchmarks/eyes.py PHOTOS` prints one JSON object. PHOTOS is a folder of cats; its first 60 are taken.
"""

import json
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import cv2
import torch

from decomp import photos
from decomp.batch import folder as batch
from decomp.decomposer import cached
from decomp.eyes import job, places, segment
from decomp.generator import BranchedGenerator

COUNT = 60
PARTS = {  # what is timed; none of these is called by another one
    "files": [(photos, "load"), (job, "overlay")],
    "network": [(BranchedGenerator, "forward")],
    "search for the places": [(places, "search"), (places, "look_again")],
    "outlines": [(segment, "outlined")],
}


def timed(spent: dict) -> None:
    """Replace the functions of PARTS by some that add their seconds to `spent`."""
    for part, functions in PARTS.items():
        for owner, name in functions:
            setattr(owner, name, _timing(getattr(owner, name), part, spent))


def _timing(function, part: str, spent: dict):
    def call(*args, **kwargs):
        started = time.perf_counter()
        result = function(*args, **kwargs)
        spent[part] += time.perf_counter() - started
        return result

    return call


def run(source: Path, processes: int) -> float:
    """Seconds for the whole folder, processes started included."""
    with tempfile.TemporaryDirectory() as out:
        started = time.perf_counter()
        batch.run(source, Path(out), job.FindEyes("animals"), folder=".eyes", skip_existing=False, jobs=processes)
        return time.perf_counter() - started


def main() -> None:
    torch.set_num_threads(1)  # as in each of several processes
    cv2.setNumThreads(1)
    found = photos.find(Path(sys.argv[1]))[:COUNT]
    with tempfile.TemporaryDirectory() as folder:
        for path in found:
            shutil.copy(path, folder)
        cached("animals")
        rates = {processes: len(found) / run(Path(folder), processes) for processes in (1, 2)}
        spent = defaultdict(float)
        timed(spent)
        total = run(Path(folder), 1)
    spent["the rest, writing included"] = total - sum(spent.values())
    shares = {part: round(seconds / total, 3) for part, seconds in spent.items()}
    told = {"photos": len(found), "photos a second, by processes": rates, "shares of the time of one": shares}
    print(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()

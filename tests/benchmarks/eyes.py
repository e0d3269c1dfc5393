"""Photos a second of `decomp eyes`, where the time goes, and the ratio to Chan-Vese of scikit-image on the whole photo.

`python tests/benchmarks/eyes.py PHOTOS [COUNT]` prints one JSON object. PHOTOS is a folder of cats; COUNT (60) of them,
evenly, are taken. Rates are what further photos cost: start-up and the first photo of each process are measured apart.
Where other programs compute too, only the seconds of CPU can be compared, so every figure comes in both.
"""

import json
import resource
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch

from decomp import faces, photos
from decomp.batch import folder as batch
from decomp.decomposer import cached
from decomp.eyes import evaluate, finder, job, places, segment
from decomp.generator import BranchedGenerator

COUNT = 60
PARTS = {  # what is timed; none of these is called by another one
    "files": [(photos, "load"), (job, "overlay")],
    "network": [(BranchedGenerator, "forward")],
    "search for the places": [(places, "search"), (places, "look_again")],
    "OpenCV's cat detectors": [(faces, "possible_cats")],
    "outlines": [(segment, "outlined")],
}


class Seconds(NamedTuple):
    wall: float
    cpu: float  # of this process and of its children that have ended

    def __sub__(self, other: "Seconds") -> "Seconds":
        return Seconds(self.wall - other.wall, self.cpu - other.cpu)

    def rates(self, count: int) -> dict[str, float]:
        return {"photos a second": round(count / self.wall, 2), "ms of CPU a photo": round(1000 * self.cpu / count)}


def now() -> Seconds:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Seconds(time.perf_counter(), time.process_time() + children.ru_utime + children.ru_stime)


def timed(spent: dict) -> None:
    """Replace the functions of PARTS by some that add their seconds of CPU to `spent`."""
    for part, functions in PARTS.items():
        for owner, name in functions:
            setattr(owner, name, _timing(getattr(owner, name), part, spent))


def _timing(function, part: str, spent: dict):
    def call(*args, **kwargs):
        started = time.process_time()
        result = function(*args, **kwargs)
        spent[part] += time.process_time() - started
        return result

    return call


def run(found: list[Path], processes: int) -> Seconds:
    """For some photos, processes started included."""
    with tempfile.TemporaryDirectory() as source, tempfile.TemporaryDirectory() as out:
        for number, path in enumerate(found):
            shutil.copy(path, Path(source) / f"{number}{path.suffix}")
        started = now()
        work = job.FindEyes("animals")
        batch.run(Path(source), Path(out), work, folder=".eyes", skip_existing=False, jobs=processes)
        return now() - started


def chan_vese(found: list[Path]) -> Seconds:
    """Chan-Vese on V of a copy of each photo, the second one that the network sees, and the pair that it shows."""
    started = now()
    for path in found:
        copy, _ = finder.small_copy(photos.load(path), finder.COPIES[1])
        evaluate.whole_square(np.max(copy, axis=2))
    return now() - started


def main() -> None:
    torch.set_num_threads(1)  # as in each of several processes
    cv2.setNumThreads(1)
    everything = photos.find(Path(sys.argv[1]))
    count = int(sys.argv[2]) if len(sys.argv) > 2 else COUNT
    found = everything[:: max(1, len(everything) // count)][:count]
    few, rest = found[:2], len(found) - 2
    cached("animals", rough=True)
    run(few, 1)  # compiled, and in memory
    starts = {n: run(few, n) for n in (1, 2)}
    rates = {n: (run(found, n) - starts[n]).rates(rest) for n in (1, 2)}
    peer = chan_vese(found).rates(len(found))
    spent: dict[str, float] = defaultdict(float)
    timed(spent)
    total = run(found, 1)
    spent["the rest, masks and writing included"] = total.cpu - sum(spent.values())
    told = {
        "photos": len(found),
        "decomp eyes, by processes": rates,
        "skimage chan_vese on V of the photo": peer,
        "chan_vese over decomp eyes, CPU": round(peer["ms of CPU a photo"] / rates[1]["ms of CPU a photo"], 2),
        "ms of CPU a photo, by parts": {part: round(1000 * s / len(found), 1) for part, s in spent.items()},
    }
    print(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()

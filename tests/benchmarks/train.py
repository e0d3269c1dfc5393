"""Training speed and peak memory of our step against one of a full-width StarGAN-v2, and against earlier code.

`python tests/benchmarks/train.py [CONFIG] [--before CHECKOUT]` prints one JSON object. The peer is a generator and a
discriminator of StarGAN-v2's widths for the same picture size (2^14 / size, doubling up to 512, log2(size) - 4
halvings), trained by the same step on the same pictures. With CHECKOUT, a folder with another version of this project,
its code does the same job too, and all leave out the settings that it does not know.

Each has a process of its own, and they take turns, step by step; terms have their weights of the end of the run. A step
is the mean of eight, one of which has the R1 penalty, after two that do not count. Processor time, so that a machine
that does other things as well tells the same; on a GPU the time that passes.
"""

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import skimage
import torch
from PIL import Image

STEPS, BEFORE = 8, 2


def photos(root: Path, domains: list[str]) -> None:
    for split in ("train", "val"):
        for domain in domains:
            (root / split / domain).mkdir(parents=True)
            for i, picture in enumerate((skimage.data.cat(), skimage.data.astronaut())):
                Image.fromarray(picture).save(root / split / domain / f"{i}.png")


def work(job: dict) -> None:
    """One process: a step for each line that it reads, and the seconds it took."""
    from decomp.config import ModelConfig
    from decomp.training.trainer import TrainConfig, Trainer

    device = "cuda" if torch.cuda.is_available() else "cpu"
    clock = time.perf_counter if device == "cuda" else time.process_time
    with tempfile.TemporaryDirectory() as folder:
        photos(Path(folder), job["model"]["domains"])
        model, training = ModelConfig.from_dict(job["model"]), TrainConfig.from_dict(job["training"])
        trainer = Trainer(model, training, Path(folder), Path(folder) / "run", device)
        trainer.images = training.images
        views = 2 if getattr(trainer, "twins", False) else 1
        samples = [trainer.photos[i] for i in range(training.batch // views)]
        x, y, target = torch.stack([s[0] for s in samples]), *torch.tensor([s[1:] for s in samples]).T
        for _ in sys.stdin:
            started = clock()
            float(trainer.step(x, y, target)["g"])  # waits for a GPU
            print(clock() - started, flush=True)
    found = {
        "peak_memory_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "parameters": [sum(p.numel() for p in network.parameters()) for network in (trainer.g, trainer.d)],
    }
    if device == "cuda":
        found["gpu_peak_memory_mib"] = round(torch.cuda.max_memory_allocated() / 2**20)
    print(json.dumps(found))


class Worker:
    """A process with the code of `checkout`."""

    def __init__(self, checkout: Path, model: dict, training: dict):
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--work", json.dumps({"model": model, "training": training})],
            env=os.environ | {"PYTHONPATH": str(checkout), "TQDM_DISABLE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.batch, self.seconds = training["batch"], []

    def step(self) -> None:
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.seconds.append(float(self.process.stdout.readline()))

    def told(self) -> dict:
        self.process.stdin.close()
        speed = self.batch * STEPS / sum(self.seconds[BEFORE:])
        return {"photos_a_second": round(speed, 2)} | json.loads(self.process.stdout.read())


def known(checkout: Path) -> list[str]:
    """Settings of the training that the code in `checkout` has."""
    ask = (
        "import dataclasses, decomp.training.trainer as t; print(*[f.name for f in dataclasses.fields(t.TrainConfig)])"
    )
    done = subprocess.run([sys.executable, "-c", ask], cwd=checkout, capture_output=True, text=True, check=True)
    return done.stdout.split()


def main(config: str, before: Path | None) -> None:
    from decomp.cli.training import read_options
    from decomp.training.trainer import SCHEDULES

    options, _, _ = read_options(config)
    model, training = options["model"], {"batch": 8} | options["training"]
    here = Path(__file__).parents[2]
    width = 2**14 // model["size"]
    full = {"branches": 1, "base": width, "cap": 512, "downs": int(math.log2(model["size"])) - 4}
    full |= {"patch": 1, "split": "gaussian"}
    wide = {"critic_base": width, "critic_cap": 512}
    knots = lambda name, value: [[0, value]] if name in SCHEDULES and isinstance(value, int | float) else value
    same = {k: knots(k, v) for k, v in training.items() if before is None or k in known(before)}
    # what has no gradient any more is part of how we train
    ours = same | {k: training[k] for k in ("settled",) if k in training}
    workers = {"ours": Worker(here, model, ours)}
    if before is None:
        workers["peer"] = Worker(here, model | full, training | wide)
    else:
        workers["before"] = Worker(before.resolve(), model, same)
    for _ in range(BEFORE + STEPS):
        for worker in workers.values():
            worker.step()
    found = {name: worker.told() for name, worker in workers.items()}
    speeds = [each["photos_a_second"] for each in found.values()]
    print(
        json.dumps({"threads": torch.get_num_threads()} | found | {"ratio": round(speeds[0] / speeds[1], 2)}, indent=2)
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", default="animals", help="a bundled configuration, or a .toml file")
    parser.add_argument("--before", type=Path, help="a folder with another version of this project")
    parser.add_argument("--work", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        work(given.work)
    else:
        main(given.config, given.before)

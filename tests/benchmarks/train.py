"""Training speed and peak memory of our step against one of a full-width StarGAN-v2.

`python tests/benchmarks/train.py [CONFIG]` prints one JSON object. The peer is a generator and a discriminator of
StarGAN-v2's widths for the same picture size (2^14 / size, doubling up to 512, log2(size) - 4 halvings), trained by the
same step on the same pictures. Each runs in a process of its own, whose peak memory is told; medians, without the
first step. The step with the R1 penalty is one in eight, here as there.
"""

import json
import math
import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

import skimage
import torch
from PIL import Image

from decomp.cli.training import read_options
from decomp.config import ModelConfig
from decomp.training.trainer import TrainConfig, Trainer

OURS, PEERS = 9, 3  # steps


def photos(root: Path, domains: tuple[str, ...]) -> None:
    for split in ("train", "val"):
        for domain in domains:
            (root / split / domain).mkdir(parents=True)
            for i, picture in enumerate((skimage.data.cat(), skimage.data.astronaut())):
                Image.fromarray(picture).save(root / split / domain / f"{i}.png")


def measure(model: ModelConfig, training: TrainConfig, device: str, steps: int, queue) -> None:
    with tempfile.TemporaryDirectory() as folder:
        photos(Path(folder), model.domains)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        trainer = Trainer(model, training, Path(folder), Path(folder) / "run", device)
        samples = [trainer.photos[i] for i in range(training.batch)]
        x, y, target = torch.stack([s[0] for s in samples]), *torch.tensor([s[1:] for s in samples]).T
        times = []
        for _ in range(steps + 1):
            started = time.perf_counter()
            float(trainer.step(x, y, target)["g"])  # waits for a GPU
            times.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    queue.put(
        {
            "images_per_second": training.batch / statistics.median(times[1:]),
            "peak_memory_mib": round(peak / 1024),
            "of_it_before_the_networks_mib": round(before / 1024),
            "gpu_peak_memory_mib": round(torch.cuda.max_memory_allocated() / 2**20) if device == "cuda" else None,
            "parameters": [sum(p.numel() for p in network.parameters()) for network in (trainer.g, trainer.d)],
        }
    )


def main(config: str = "animals") -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    options, _, _ = read_options(config)
    model, training = ModelConfig.from_dict(options["model"]), TrainConfig.from_dict(options["training"])
    width = 2**14 // model.size
    full = {
        "branches": 1,
        "base": width,
        "cap": 512,
        "downs": int(math.log2(model.size)) - 4,
        "patch": 1,
        "split": "gaussian",
    }
    peer = ModelConfig.from_dict(model.to_dict() | full)
    peer_training = TrainConfig(**(vars(training) | {"critic_base": width, "critic_cap": 512}))
    found = {}
    for name, *job in (("ours", model, training, device, OURS), ("peer", peer, peer_training, device, PEERS)):
        queue = multiprocessing.get_context("spawn").Queue()
        process = multiprocessing.get_context("spawn").Process(target=measure, args=(*job, queue))
        process.start()
        found[name] = queue.get()
        process.join()
    found["ratio"] = found["ours"]["images_per_second"] / found["peer"]["images_per_second"]
    print(
        json.dumps({"size": model.size, "batch": training.batch, "threads": torch.get_num_threads()} | found, indent=2)
    )


if __name__ == "__main__":
    main(*sys.argv[1:])

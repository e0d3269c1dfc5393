"""How fast a photo is decomposed and changed, against one pass of StarGAN-v2's generator in the same run.

`python tests/benchmarks/decompose.py` prints the README's table, in about a minute on two quiet cores; `--json FILE`
also writes every figure. All rows of a size take turns in one process, so that whatever else the machine does meets
them all; a figure is the median over the turns, a ratio the median of the turns' ratios.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

import skimage
import torch
from stargan import STYLE, StarGAN2

import decomp
from decomp.video import Change, Edit

ROUNDS = 9
COLD = """
import decomp, resource, skimage
decomp.load('{}', '{}').decompose(skimage.data.cat(), 'cat', box=(75, 0, 300))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def seconds(call) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def rows(name: str, size: int) -> dict:
    """What is timed at one size, by what it is called in the table; the peer first."""
    photo, box = skimage.data.cat(), (75, 0, 300)
    eager, fast = decomp.load(name, "torch"), decomp.load(name)
    domain, other = eager.config.domains[:2]
    x, own = torch.rand(1, 3, size, size) * 2 - 1, torch.zeros(1, eager.config.branches, dtype=torch.long)
    peer, style = StarGAN2(size).eval().to(memory_format=torch.channels_last), torch.randn(1, STYLE)
    x_last = x.to(memory_format=torch.channels_last)
    d = fast.decompose(photo, domain, size=size, box=box, keep_phi=True)
    film = Change(fast, Edit({3: 2.0}), domain)
    compiled = type(fast.runtime).__name__ != "Runtime"
    return {
        "StarGAN-v2's generator, torch": torch.inference_mode()(lambda: peer(x_last, style)),
        "our network, torch": lambda: eager.runtime(x, own),
        **({"our network, OpenVINO": lambda: fast.runtime(x, own)} if compiled else {}),
        "of it the diffusion": torch.inference_mode()(lambda: eager.generator.split(x)),
        "`decompose`, face searched": lambda: fast.decompose(photo, domain, size=size),
        "`decompose`, face given": lambda: fast.decompose(photo, domain, size=size, box=box),
        "another class for one channel": lambda: fast.transfer(d, {3: other}),
        "a film's frame, one channel changed": lambda: film(d.picture),
        "two sliders moved": lambda: d.recompose({1: 0.5, 2: 2}),
    }


def measure(name: str, size: int) -> dict:
    calls = rows(name, size)
    with torch.inference_mode():
        for call in calls.values():
            call(), call()  # shapes that are new to OpenVINO take time once
    turns = [{what: seconds(call) for what, call in calls.items()} for _ in range(ROUNDS)]
    peer = next(iter(calls))
    return {
        what: {
            "ms": 1000 * statistics.median(turn[what] for turn in turns),
            "times_faster": statistics.median(turn[peer] / turn[what] for turn in turns),
        }
        for what in calls
    }


def cold(name: str, runtime: str) -> dict:
    """A process that imports, loads and decomposes one photo: its seconds and its memory at most, in MiB."""
    started = time.perf_counter()
    told = subprocess.run(
        [sys.executable, "-c", COLD.format(name, runtime)], check=True, capture_output=True, text=True
    )
    return {"s": time.perf_counter() - started, "peak_mib": int(told.stdout)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="animals")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    sizes = {size: measure(options.model, size) for size in (128, 256)}
    parameters = sum(p.numel() for p in StarGAN2(256).parameters()) / 1e6
    print(f"{options.model}, {torch.get_num_threads()} threads; the peer has {parameters:.1f} M parameters at 256\n")
    print("| one photo | 128 px | 256 px |\n| --- | --- | --- |")
    for what in sizes[128]:
        cells = [f"{sizes[size][what]['ms']:.3g} ms, {sizes[size][what]['times_faster']:.3g} x" for size in sizes]
        print(f"| {what} | {' | '.join(cells)} |")
    starts = {runtime: cold(options.model, runtime) for runtime in ("torch", "auto")}
    for runtime, start in starts.items():
        print(f"\nA new process's first photo, runtime {runtime}: {start['s']:.1f} s, {start['peak_mib']} MiB")
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"threads": torch.get_num_threads(), "sizes": sizes, "cold": starts}, file, indent=2)


if __name__ == "__main__":
    main()

"""Time of one decompose against one pass of a full-width StarGAN-v2 generator, and of one recompose.

`python tests/benchmarks/decompose.py` prints one JSON object. Both run in the same process, taking turns; medians.
The peer is this library's own branch at StarGAN-v2's widths: base 64, cap 512, four halvings, 33.9 M parameters.
"""

import json
import statistics
import time

import skimage
import torch

from decomp.config import ModelConfig
from decomp.decomposer import load
from decomp.generator import Branch
from decomp.weights import bundled

ROUNDS = 9


def seconds(call) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def main() -> None:
    photo = skimage.data.cat()
    full = Branch(ModelConfig(base=64, cap=512, downs=4)).eval()
    y = torch.tensor([0])
    rows = []
    for name in bundled():
        model = load(name)
        for size in (128, 256):
            x = torch.rand(1, 3, size, size) * 2 - 1
            with torch.inference_mode():
                ours = lambda: model.decompose(photo, model.config.domains[0], size=size)
                framed = lambda: model.decompose(photo, model.config.domains[0], size=size, box=(75, 0, 300))
                peer = lambda: full(x, y)
                ours(), framed(), peer()  # warm up
                turns = [(seconds(ours), seconds(framed), seconds(peer)) for _ in range(ROUNDS)]
            d = ours()
            recompose = [seconds(lambda: d.recompose({1: 0.5, 2: 2})) for _ in range(50)]
            rows.append(
                {
                    "model": name,
                    "size": size,
                    "decompose_s": statistics.median(a for a, _, _ in turns),
                    "decompose_box_given_s": statistics.median(b for _, b, _ in turns),
                    "peer_s": statistics.median(c for _, _, c in turns),
                    "ratio": statistics.median(a / c for a, _, c in turns),
                    "ratio_box_given": statistics.median(b / c for _, b, c in turns),
                    "recompose_two_sliders_s": statistics.median(recompose),
                }
            )
    parameters = sum(p.numel() for p in full.parameters())
    print(json.dumps({"threads": torch.get_num_threads(), "peer_parameters": parameters, "rows": rows}, indent=2))


if __name__ == "__main__":
    main()

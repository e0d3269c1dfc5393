"""Photos for training: `root/{train,val}/{domain}/*`, in any format that `photos.load` reads.

Sample number i of a run is a pure function of (seed, i): which photo, how it is augmented, which class it is turned
into. A run is therefore the same whether it is resumed, spread over processes or loaded by workers.
"""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2
from tqdm import tqdm

from .. import photos
from ..decomposition import to_bytes
from ..faces import crop, find_face

TRIES = 100  # photos that are drawn for one sample, where they can't be read


def domains_of(root: Path) -> tuple[str, ...]:
    """Class names: the folders below `root/train`, sorted.

    Raises:
        ValueError: there are none.
    """
    names = sorted(p.name for p in (root / "train").glob("*") if p.is_dir() and not p.name.startswith("."))
    if not names:
        raise ValueError(f"{root}: has no folders train/CLASS with photos; see `decomp data prepare`")
    return tuple(names)


def square(path: Path, size: int) -> np.ndarray:
    """The centre square of a photo, (size, size, 3) float32 in [-1, 1]."""
    photo = photos.load(path)
    return crop(photo, find_face(photo, "centre"), size)


class Photos(Dataset):
    """The photos of one split, the domains drawn equally often.

    Item i is `(x, y, target)`: an augmented photo (3, side, side) in [-1, 1], side = size + margin, its class, and the
    class to turn it into: its own for even i, any other one for odd i, or for all.

    Args:
        memory: GiB. Photos are kept as uint8, a quarter larger than `size`, if all fit; else each is read when needed.
        limit: at most so many photos of each domain.
        margin: pixels that items are larger than `size`, to cut shifted squares from.
        turned: all items are to be turned into another class.
    Raises:
        ValueError: a domain without photos that can be read.

    A photo that can't be read is named once on standard error and left out; another is drawn for it.
    """

    def __init__(
        self,
        root: Path,
        split: str,
        domains: tuple[str, ...],
        size: int,
        seed: int = 0,
        memory: float = 4.0,
        limit: int | None = None,
        margin: int = 0,
        turned: bool = False,
    ):
        self.size, self.kept, self.seed, self.turned = size, size * 5 // 4, seed, turned
        self.files = [photos.find(root / split / domain)[:limit] for domain in domains]
        for domain, files in zip(domains, self.files):
            if not files:
                raise ValueError(f"{root / split / domain} holds no photos")
        count = sum(map(len, self.files))
        self.in_memory = count * self.kept**2 * 3 <= memory * 2**30
        self.unreadable = set()  # files
        self.stacks = []
        if self.in_memory:
            self.stacks = [self._read(files, f"{split}/{d}") for d, files in zip(domains, self.files)]
            self.files = [[file for file in files if file not in self.unreadable] for files in self.files]
        for domain, files in zip(domains, self.files):
            if not files:
                raise ValueError(f"{root / split / domain} holds no photos that can be read")
        # StarGAN-v2's augmentation: half the time a random resized crop, always a random flip
        self.augment = v2.Compose(
            [
                v2.RandomApply([v2.RandomResizedCrop(self.kept, scale=(0.8, 1), ratio=(0.9, 1.1))], p=0.5),
                v2.RandomHorizontalFlip(),
                v2.Resize(size + margin),
            ]
        )

    def _square(self, path: Path) -> UInt8[Tensor, "3 k k"]:
        try:
            return torch.from_numpy(to_bytes(square(path, self.kept))).permute(2, 0, 1)
        except photos.PhotoError as error:
            if path not in self.unreadable:
                tqdm.write(f"left out: {path.parent.name}/{error}", file=sys.stderr)
            self.unreadable.add(path)
            raise

    def _read(self, files: list[Path], label: str) -> UInt8[Tensor, "n 3 k k"]:
        stack = torch.empty((len(files), 3, self.kept, self.kept), dtype=torch.uint8)
        read = 0
        for file in tqdm(files, label, leave=False):
            with contextlib.suppress(photos.PhotoError):
                stack[read] = self._square(file)
                read += 1
        return stack[:read]

    def photo(self, domain: int, n: int) -> UInt8[Tensor, "3 k k"]:
        """The n-th photo of a domain, from memory or from its file."""
        return self.stacks[domain][n] if self.in_memory else self._square(self.files[domain][n])

    def _drawn(self, domain: int) -> UInt8[Tensor, "3 k k"]:
        """A photo at random; for one that can't be read another."""
        for _ in range(TRIES):
            with contextlib.suppress(photos.PhotoError):
                return self.photo(domain, int(torch.randint(len(self.files[domain]), ())))
        raise ValueError(
            f"{self.files[domain][0].parent}: {TRIES} photos in turn can't be read; see `decomp data check`"
        )

    def __getitem__(self, i: int) -> tuple[Float[Tensor, "3 s s"], int, int]:
        with torch.random.fork_rng(devices=[]):
            mixed = np.random.SeedSequence([self.seed, i]).generate_state(1, np.uint64)[0]
            torch.default_generator.manual_seed(int(mixed >> 1))
            classes = len(self.files)
            y = int(torch.randint(classes, ()))
            other = (y + int(torch.randint(1, max(classes, 2), ()))) % classes
            x = self.augment(self._drawn(y))
        return x.float() / 127.5 - 1, y, other if i % 2 or self.turned else y

    def fixed(self, per_domain: int) -> tuple[Float[Tensor, "n 3 s s"], Int[Tensor, "n"]]:
        """The first photos of each domain, not augmented, and their classes."""
        chosen = [(d, n) for d, files in enumerate(self.files) for n in range(min(per_domain, len(files)))]
        x = torch.stack([v2.functional.resize(self.photo(d, n), [self.size]) for d, n in chosen])
        return x.float() / 127.5 - 1, torch.tensor([d for d, _ in chosen])


class Turns:
    """Numbers of the samples that one of `world` processes takes: of each batch its own contiguous part."""

    def __init__(self, start: int, stop: int, batch: int, rank: int = 0, world: int = 1):
        self.start, self.stop, self.batch, self.rank, self.part = start, stop, batch, rank, batch // world

    def __iter__(self) -> Iterator[list[int]]:
        for first in range(self.start, self.stop, self.batch):
            mine = first + self.rank * self.part
            yield list(range(mine, mine + self.part))

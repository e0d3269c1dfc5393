"""The photos of the study: their layers computed once, so that a perturbation costs one weighted sum."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from ... import photos
from ...faces import crop, find_face

SIDE = 48  # pixels that the classifier sees
BATCH = 8


@dataclass(frozen=True, eq=False)
class Pool:
    """Training photos as layers, and the photos to test on."""

    layers: np.ndarray  # (N, M + 2, 3, SIDE, SIDE) float16, memory-mapped: R, v_1 .. v_M, E; their sum is the photo
    labels: Tensor  # (N,) int64
    tuning: tuple[Tensor, Tensor]  # photos (n, 3, SIDE, SIDE) in [-1, 1] and labels, for choosing settings
    test: tuple[Tensor, Tensor]  # the same, for the table


def listed(data: Path, split: str, domain: str) -> list[Path]:
    """The photos of one class, in an order that is the same everywhere and mixed."""
    paths = sorted(path for path in (data / split / domain).iterdir() if path.suffix.lower() in photos.SUFFIXES)
    return [paths[i] for i in np.random.default_rng(0).permutation(len(paths))]


def mixed(lists: list[list[Path]]) -> list[tuple[Path, int]]:
    """(path, label) of several classes in a random order."""
    every = [(path, label) for label, paths in enumerate(lists) for path in paths]
    return [every[i] for i in np.random.default_rng(1).permutation(len(every))]


def picture(path: Path, side: int) -> Tensor:
    """A finished square photo, (3, side, side) in [-1, 1]."""
    photo = photos.load(path)
    return torch.from_numpy(crop(photo, find_face(photo, "centre"), side)).permute(2, 0, 1)


def gather(data: Path, model, weights: str | None, out: Path, share: float, tuning: int) -> Pool:
    """Read `share` of the training photos and decompose them. A stopped run resumes after its last batch.

    Args:
        data: folder with {train,val}/CLASS/*.jpg, square photos.
        model: a `Decomposer` with these classes.
        weights: its fingerprint; layers in `out` of other weights are refused.
        out: folder that keeps the layers.
        share: part of every class's training photos that goes into the pool.
        tuning: photos of each class, from those left over, for choosing settings.
    Raises:
        ValueError: a class has no photos.
        ValueError: `out` holds the layers of another pool.
    """
    domains = model.config.domains
    for split in ("train", "val"):
        missing = [d for d in domains if not (data / split / d).is_dir() or not listed(data, split, d)]
        if missing:
            raise ValueError(
                f"{data}/{split} has no photos of {', '.join(missing)}; every class of the model is needed"
            )
    train = [listed(data, "train", d) for d in domains]
    chosen = mixed([paths[: round(share * len(paths))] for paths in train])
    left = mixed([paths[round(share * len(paths)) :][:tuning] for paths in train])
    judged = mixed([listed(data, "val", d) for d in domains])
    return Pool(
        decomposed(chosen, model, weights, out),
        torch.tensor([label for _, label in chosen]),
        whole(left, model.config.size),
        whole(judged, model.config.size),
    )


def shrunk(x: Tensor) -> Tensor:
    """(..., H, W) to (..., SIDE, SIDE), the mean over areas; the same for layers and for photos."""
    return F.interpolate(x, size=(SIDE, SIDE), mode="area")


def whole(chosen: list[tuple[Path, int]], side: int) -> tuple[Tensor, Tensor]:
    """Photos as the classifier sees them, and their labels."""
    x = torch.cat([shrunk(picture(path, side)[None]) for path, _ in tqdm(chosen, desc="photos", disable=None)])
    return x, torch.tensor([label for _, label in chosen])


def decomposed(chosen: list[tuple[Path, int]], model, weights: str | None, out: Path) -> np.ndarray:
    """Layers of every photo, computed at the model's size and shrunk (the mean over squares of pixels)."""
    out.mkdir(parents=True, exist_ok=True)
    file, progress = out / "layers.npy", out / "layers.json"
    shape = (len(chosen), model.config.branches + 2, 3, SIDE, SIDE)
    facts = {"weights": weights, "shape": list(shape), "photos": [path.name for path, _ in chosen]}
    state = json.loads(progress.read_text()) if progress.is_file() and file.is_file() else {"done": 0} | facts
    if {key: state.get(key) for key in facts} != facts:
        raise ValueError(f"{out} holds the layers of other photos or weights; give another folder")
    layers = np.lib.format.open_memmap(file, "r+" if state["done"] else "w+", np.float16, shape)
    for start in tqdm(range(state["done"], len(chosen), BATCH), desc="layers", unit="batch", disable=None):
        batch = chosen[start : start + BATCH]
        x = torch.stack([picture(path, model.config.size) for path, _ in batch]).to(model.device)
        with torch.inference_mode():
            output = model.generator(x, torch.tensor([label for _, label in batch], device=model.device))
            rest = x - output.image
            every = torch.cat([output.residual[:, None], output.channels, rest[:, None]], dim=1)
        small = shrunk(every.flatten(1, 2)).unflatten(1, every.shape[1:3])
        layers[start : start + len(batch)] = small.cpu().numpy()
        layers.flush()
        progress.write_text(json.dumps({"done": start + len(batch)} | facts))
    return layers

"""A run's folder and what is written there to watch it: options, figures, pictures."""

import json
import os
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ..decomposition import to_bytes
from ..files import atomic

OPTIONS, STATS = "options.json", "stats.jsonl"


def new_run(runs: Path, name: str) -> Path:
    """Make the next numbered folder, `runs/00003-name`."""
    taken = [int(p.name[:5]) for p in runs.glob("[0-9][0-9][0-9][0-9][0-9]-*")]
    folder = runs / f"{max(taken, default=-1) + 1:05d}-{name}"
    folder.mkdir(parents=True)
    return folder


def _reached(line: str, images: int) -> bool:
    """Whether a line is complete and belongs to a tick at or before `images`."""
    try:
        return json.loads(line)["images"] <= images
    except (ValueError, KeyError, TypeError):
        return False


class Record:
    """Writes `stats.jsonl`, `samples/*.png`, and both to TensorBoard where it is installed.

    Args:
        images: where the run resumes. A line is written before the state of its tick. Lines of later ticks, whose state
            was not saved, are removed: these ticks are repeated.
    """

    def __init__(self, folder: Path, images: int = 0):
        self.folder = folder
        if (folder / STATS).is_file():
            with atomic(folder / STATS) as temporary:
                kept = [line for line in (folder / STATS).read_text().splitlines() if _reached(line, images)]
                temporary.write_text("".join(line + "\n" for line in kept))
        (folder / "samples").mkdir(exist_ok=True)
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:  # an extra: pip install 'decomp[train]'
            self.board = None
        else:
            self.board = SummaryWriter(folder / "tensorboard")

    def stats(self, images: int, figures: dict) -> None:
        """One line a tick; a number or a list of one number a channel each."""
        with (self.folder / STATS).open("a") as file:
            file.write(json.dumps({"images": images} | figures) + "\n")
            file.flush()
            os.fsync(file.fileno())
        if self.board:
            for name, value in figures.items():
                values = enumerate(value, start=1) if isinstance(value, list) else [("", value)]
                for k, number in values:
                    self.board.add_scalar(f"{name}/{k}" if k else name, number, images)

    def sample(self, images: int, columns: Float[Tensor, "rows columns 3 h w"]) -> None:
        """A picture with one row a photo."""
        picture = to_bytes(columns.permute(0, 3, 1, 4, 2).flatten(0, 1).flatten(1, 2).cpu().numpy())
        Image.fromarray(picture).save(self.folder / "samples" / f"{images:08d}.png")
        if self.board:
            self.board.add_image("samples", torch.from_numpy(picture), images, dataformats="HWC")

    def close(self) -> None:
        if self.board:
            self.board.close()

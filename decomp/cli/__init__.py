"""The `decomp` command: one file of commands for each kind of user."""

from . import data, evaluate, eyes, lab, pictures, relief, swap, training, ui, video
from .app import app

__all__ = ["app", "data", "evaluate", "eyes", "lab", "pictures", "relief", "swap", "training", "ui", "video"]

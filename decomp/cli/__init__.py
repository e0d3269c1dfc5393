"""The `decomp` command: one file of commands for each kind of user."""

from . import pictures
from .app import app

__all__ = ["app", "pictures"]

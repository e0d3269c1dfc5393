"""`python -m decomp`, and `torchrun -m decomp train ...`."""

from .cli import app

app()

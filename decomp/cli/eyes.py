"""Commands around a cat's eyes: eyes, calibrate-eyes, evaluate-eyes."""

from pathlib import Path
from typing import Annotated

import typer

from .app import app, usage
from .folders import Input, Jobs, Model, Out, Shard, Skip, over, shard_of

Data = Annotated[Path, typer.Option(help="folder with crops.json and photos.json: photos and their eyes", exists=True)]


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


@app.command()
def eyes(
    source: Input,
    out: Out = Path("out"),
    model: Model = "animals",
    jobs: Jobs = 1,
    shard: Shard = "1/1",
    skip_existing: Skip = False,
):
    """Segment the eyes of cats: masks, an overlay and figures for each photo, and one table for all of them."""
    from ..eyes.job import Eyes

    shard_of(shard)
    calibrated(model)
    over(source, out, Eyes(model), ".eyes", skip_existing, jobs, shard)


@app.command()
def calibrate_eyes(
    weights: Annotated[Path, typer.Argument(help="model folder; its channels.json is rewritten", exists=True)],
    data: Data,
    jobs: Jobs = 1,
):
    """Measure which channels find a cat's eyes, on photos whose eyes are marked."""
    import json

    from .. import decomposer
    from ..eyes import calibrate
    from ..photos import PhotoError

    try:
        decomposer.load(weights).domain_index("cat")
        listed = calibrate.marked(data, "crops") + calibrate.marked(data, "photos")
        parts, left_out = calibrate.calibrate(list(calibrate.frames(str(weights), listed, jobs)))
    except (PhotoError, ValueError) as error:
        usage(str(error))
    calibrate.write(weights, parts)
    layers = ["R", *(f"v{k}" for k in range(1, len(parts.flat)))]
    flat = " ".join("+-"[sign < 0] + layer for sign, layer in zip(parts.flat, layers) if sign)
    typer.echo(f"segmented image: V of {flat}; least confidence {parts.least:.2f}")
    typer.echo("places of the eyes, on squares that this calibration did not see: " + json.dumps(left_out, indent=2))


@app.command()
def evaluate_eyes(
    data: Data,
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for table.json, table.md and the sheets")],
    model: Model = "animals",
    folds: Annotated[
        int, typer.Option(min=0, max=10, help="each photo is judged by a calibration that did not see it; 0: as it is")
    ] = 2,
    masks: Annotated[
        Path | None, typer.Option(help="folder with NAME.left.png and NAME.right.png, for IoU", exists=True)
    ] = None,
    jobs: Jobs = 1,
):
    """Measure the segmentation and its baselines against marked eyes."""
    from .. import decomposer
    from ..eyes import evaluate as evaluate_eyes
    from ..photos import PhotoError

    if folds == 1:
        usage("--folds is 1; accepted: 0, or 2 to 10")
    try:
        decomposer.load(model).domain_index("cat") if folds else calibrated(model)
        typer.echo(evaluate_eyes.evaluate(model, data, out, folds, masks, jobs))
    except (PhotoError, ValueError) as error:
        usage(str(error))

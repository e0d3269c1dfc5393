"""Commands for those who train: evaluate, release."""

from pathlib import Path
from typing import Annotated

import typer

from .app import app, usage

Data = Annotated[Path, typer.Option(help="folder with {train,val}/CLASS/*", exists=True, file_okay=False)]
Against = Annotated[
    str | None, typer.Option(help="second model, trained from another seed, to compare the channels with")
]
Eyes = Annotated[
    Path | None,
    typer.Option(help="folder with photos of cats, their eyes marked in crops.json", exists=True, file_okay=False),
]

Other = Annotated[
    list[Path] | None,
    typer.Option(help="folder with photos of other things than the classes, repeatable", exists=True, file_okay=False),
]


def given_model(name: str | None):
    """A model on the GPU if there is one; a usage error if there is no such model."""
    import torch

    from ..decomposer import load

    try:
        return load(name).to("cuda" if torch.cuda.is_available() else "cpu") if name else None
    except ValueError as error:
        usage(str(error))


def photos_of(folders: list[Path] | None) -> list[Path]:
    from .. import photos

    return [path for folder in folders or [] for path in photos.find(folder)]


def known_as(model: str | None) -> str | None:
    """A model's name for the report; a folder's is its last part."""
    return Path(model).resolve().name if model and Path(model).is_dir() else model


@app.command()
def evaluate(
    weights: Annotated[str, typer.Argument(help="bundled model, folder, or hub id; see `decomp models`")],
    data: Data,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="folder for figures.json and report.html; default: print", file_okay=False),
    ] = None,
    per_domain: Annotated[int | None, typer.Option(min=2, help="photos of each class; default: all")] = None,
    against: Against = None,
    eyes: Eyes = None,
    fid: Annotated[bool, typer.Option("--fid", help="also FID; may download Inception's weights")] = False,
    size: Annotated[
        int | None, typer.Option(min=32, help="side of the squares in pixels; default: the model's")
    ] = None,
    other: Other = None,
):
    """Measure a model on validation photos: fidelity, class transfer, and what its channels are worth."""
    import json

    from ..evaluation import report
    from ..evaluation.evaluate import EvaluationError, labelled
    from ..evaluation.evaluate import evaluate as measured
    from ..photos import PhotoError
    from ..weights import fingerprint

    model, second = given_model(weights), given_model(against)
    try:
        if out:
            out.mkdir(parents=True, exist_ok=True)
        figures = {"weights": known_as(weights), "sha256": fingerprint(weights), "against": known_as(against)}
        figures |= measured(model, data, per_domain, second, eyes, fid, size, photos_of(other))
        if out:
            report.write(out, figures, report.pictures(model, labelled(data, "val", model.config.domains, per_domain)))
    except (PhotoError, EvaluationError, OSError) as error:
        usage(str(error))
    typer.echo(out / "report.html" if out else json.dumps(figures, indent=2))


@app.command()
def release(
    run: Annotated[Path, typer.Argument(help="run folder of `decomp train`", exists=True, file_okay=False)],
    data: Data,
    out: Annotated[Path, typer.Option("--out", "-o", help="model folder to write", file_okay=False)],
    epochs: Annotated[int, typer.Option(min=0, help="epochs of the classifier; 0 keeps the one in --out")] = 20,
    against: Against = None,
    eyes: Eyes = None,
    other: Other = None,
    licence: Annotated[
        str | None, typer.Option(help="licence of the weights, for a new card, such as cc-by-nc-4.0")
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(help="tag for a new card, repeatable")] = None,
):
    """Make a model folder from a training run: weights in half precision, named channels, figures, model card."""
    import torch

    from ..evaluation.release import release as write

    try:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        write(run, data, out, epochs, eyes, given_model(against), device, photos_of(other), licence, tag or ())
    except (ValueError, OSError) as error:
        usage(str(error))
    typer.echo(out)


@app.command()
def calibrate_classes(
    weights: Annotated[Path, typer.Argument(help="model folder; its classes.safetensors is rewritten", exists=True)],
    data: Data,
    other: Other = None,
):
    """Fit and calibrate the probabilities of the classes, with photos of anything else as one more outcome."""
    from ..decomposer import load
    from ..evaluation.release import learnt_from, train_classifier

    try:
        model = load(weights)
        train_classifier(model, data, 0, learnt_from(photos_of(other)))
        model.classifier.recognition.write(weights)
    except (ValueError, OSError) as error:
        usage(str(error))
    typer.echo(weights)

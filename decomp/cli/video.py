"""The command for films: video."""

from pathlib import Path
from typing import Annotated

import typer

from .app import app, usage
from .folders import Model
from .pictures import Domain, Run, Size, Strength, Target, assignments, number


@app.command()
def video(
    source: Annotated[Path, typer.Argument(help="a film, or a folder of frames", exists=True)],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="film to write (.mp4, .mov, .mkv); for a folder of frames, a folder")
    ],
    strength: Strength = None,
    model: Model = "animals",
    domain: Domain = "auto",
    target: Target = None,
    size: Size = None,
    steady: Annotated[
        bool, typer.Option("--steady/--no-steady", help="average the change over time where nothing moves")
    ] = True,
):
    """Change the channels of a face in a whole film. Sound is kept. The same call resumes a stopped run."""
    from ..photos import PhotoError

    strengths = {name: number(value) for name, value in assignments(strength, "LAYER=NUMBER").items()}
    run = Run(model, domain, target, size, None, 40)
    run.known(*strengths)
    try:
        from .. import video as films

        edit = films.Edit(strengths, run.target, domain, size, steady)
        done = films.edit_film(run.model, source, out, edit)
    except ModuleNotFoundError as error:
        if error.name != "av":
            raise
        usage("films need PyAV; install it with: pip install 'decomp[video]'")
    except (PhotoError, OSError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    searches = f"face found in {done['faces']} of {done['looks']} searches"
    typer.echo(f"{out}: {done['frames']} frames of a {done['domain']}, {searches}")

"""`decomp swap`: another photo's light, fur or hue."""

from pathlib import Path
from typing import Annotated

import typer

from .app import app, usage
from .folders import Model, PictureOut, Skip, over
from .pictures import BoxOption, Domain, MaxPixels, Run, Size, number


@app.command()
def swap(
    source: Annotated[Path, typer.Argument(metavar="A", help="a photo, or a folder of photos, to edit", exists=True)],
    giver: Annotated[
        Path, typer.Argument(metavar="B", help="the photo whose channels are taken", exists=True, dir_okay=False)
    ],
    out: PictureOut,
    channel: Annotated[
        list[str],
        typer.Option(
            "--channel",
            "-c",
            help="number, name, residual, or a kind: light, hue, fine, contour, eyes, mouth; repeatable",
        ),
    ],
    amount: Annotated[float, typer.Option(help="strength of B's channels")] = 1.0,
    keep: Annotated[float | None, typer.Option(help="strength of A's own; default: 1 - amount")] = None,
    model: Model = "animals",
    domain: Domain = "auto",
    giver_domain: Annotated[str, typer.Option(help="class of B, or auto")] = "auto",
    size: Size = None,
    box: BoxOption = None,
    max_megapixels: MaxPixels = 40,
    skip_existing: Skip = False,
):
    """Replace channels of A by those of B. The faces are aligned by their eyes; the result is pasted back into A.

    If no eyes are found, the faces are aligned by their squares, and a note is printed. Coat and complexion lie in
    `residual`, which can be swapped like a channel.
    """
    from .. import photos
    from ..kinds import layers_of
    from ..studio.swap import align

    amount, keep = number(str(amount)), None if keep is None else number(str(keep))
    run = Run(model, domain, None, size, box, max_megapixels)
    try:
        layers = layers_of(run.model, channel)
        if giver_domain != "auto":
            run.model.domain_index(giver_domain)
        other = photos.load(giver, run.max_pixels)
    except ValueError as error:
        usage(str(error))

    def work(path: Path, made: Path) -> dict:
        a = run.decompose(path)
        pair = align(run.model, a, other, giver_domain)
        for note in pair.notes:
            typer.echo(note, err=True)
        photos.save(a.paste(pair.swap(layers, amount, keep)), made)
        return {"aligned": "square" if pair.notes else "eyes"}

    over(source, out, work, None, skip_existing)

"""`decomp relief`: a face in relief, from the channels that carry light."""

import functools
import math
from pathlib import Path
from typing import Annotated

import typer

from .app import app, usage
from .folders import Input, Jobs, Model, Out, Shard, Skip, over
from .pictures import BoxOption, Domain, MaxPixels, Run, Size


@app.command()
def relief(
    source: Input,
    out: Out = Path("out"),
    channel: Annotated[
        list[str] | None,
        typer.Option("--channel", "-c", help="number or name, repeatable; default: those that carry light"),
    ] = None,
    depth: Annotated[float, typer.Option(help="scale of the height, which one photo does not fix")] = 1.0,
    light: Annotated[
        str | None,
        typer.Option(
            help="also write the photo lit from AZIMUTH,ELEVATION in degrees: 0,45 is from above, 90,45 from the right"
        ),
    ] = None,
    model: Model = "faces",
    domain: Domain = "auto",
    size: Size = None,
    box: BoxOption = None,
    max_megapixels: MaxPixels = 40,
    jobs: Jobs = 1,
    shard: Shard = "1/1",
    skip_existing: Skip = False,
):
    """Write the relief of a face: height.png, normals.png, relief.glb textured with the photo, turning.webp, sheet.png.

    It is a plausible bas-relief, not a measurement: the face is assumed to be symmetric and lit from above.
    """
    from ..kinds import layers_of

    if not 0 < depth <= 100:
        usage(f"depth is {depth:g}; accepted: above 0, up to 100")
    run = Run(model, domain, None, size, box, max_megapixels)
    try:
        import trimesh  # noqa: F401
    except ModuleNotFoundError:
        usage("the 3-D model is written with trimesh; install it with: pip install 'decomp[relief]'")
    try:
        channels = layers_of(run.model, channel or ["light"])
    except ValueError as error:
        usage(f"{error}. --channel names others" if channel is None else str(error))
    if not all(isinstance(layer, int) for layer in channels):
        usage("a relief is computed from channels; residual and unexplained are not channels")
    work = functools.partial(write_relief, run, channels, depth, direction(light))
    over(source, out, work, ".relief", skip_existing, jobs, shard)


def direction(text: str | None) -> tuple[float, float] | None:
    """(azimuth, elevation) of "90,45"."""
    if text is None:
        return None
    try:
        azimuth, elevation = map(float, text.split(","))
    except ValueError:
        azimuth = elevation = math.nan
    if not (abs(azimuth) <= 360 and 0 <= elevation <= 90):
        usage(f"{text!r} is not AZIMUTH,ELEVATION in degrees, such as 90,45")
    return azimuth, elevation


def write_relief(
    run: Run, channels: list[int], depth: float, light: tuple[float, float] | None, path: Path, folder: Path
) -> dict:
    from ..photos import save
    from ..studio import mesh
    from ..studio.landmarks import find_landmarks
    from ..studio.relief import relief

    d = run.decompose(path)
    landmarks = find_landmarks(run.model, d)
    if landmarks.note:
        typer.echo(landmarks.note, err=True)
    r = relief(d, landmarks.eyes, channels, depth)
    folder.mkdir()
    mesh.write_folder(r, d, folder)
    if light is not None:
        save(d.paste(r.relight(d.picture, *light)), folder / "relit.png")
    return {"light": [round(part, 3) for part in r.light], "aligned": landmarks.found}

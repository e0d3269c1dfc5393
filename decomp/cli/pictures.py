"""Commands over photos: decompose, recompose, sweep, separate, models."""

import functools
import math
import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from .app import app, usage
from .folders import Input, Jobs, Model, Out, Overwrite, PictureOut, Shard, Skip, over

EXAMPLE = Path(__file__).parents[1] / "examples" / "cat.png"
LARGEST_STRENGTH = 1000.0
LARGEST_SIZE = 2048  # pixels
LARGEST_CAP = 178  # megapixels; above, Pillow itself refuses

Domain = Annotated[str, typer.Option(help="class of the photo, or auto")]
Target = Annotated[
    list[str] | None,
    typer.Option(help="class to turn the photo into: NAME for all channels, or CHANNEL=NAME for one, repeatable"),
]
Size = Annotated[int | None, typer.Option(help="side of the decomposed square in pixels; default: the model's")]
BoxOption = Annotated[
    str | None, typer.Option("--box", help="square of the face: LEFT,TOP,SIDE in pixels; default: found automatically")
]
MaxPixels = Annotated[float, typer.Option("--max-megapixels", help="refuse larger photos")]
Base = Annotated[
    str | None,
    typer.Option(
        help="what is edited: photo (keeps the unexplained rest E) or regenerated; "
        "default: photo, or regenerated with --target"
    ),
]
Strength = Annotated[
    list[str] | None, typer.Option("--strength", "-s", help="LAYER=NUMBER, repeatable; 1 leaves a layer as it is")
]


def assignments(options: list[str] | None, what: str) -> dict[str, str]:
    pairs = {}
    for option in options or []:
        key, equals, value = option.rpartition("=")
        if not equals or not key:
            usage(f"{option!r} is not {what}")
        if key in pairs:
            usage(f"{key!r} is given twice")
        pairs[key] = value
    return pairs


def number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= LARGEST_STRENGTH:
        usage(f"{text!r} is not a number between -{LARGEST_STRENGTH:g} and {LARGEST_STRENGTH:g}")
    return value


def chosen_base(base: str | None, target: list[str] | None, *layers: str) -> str:
    """The base that is edited; with a target not the photo, as E = x - f(x, target) would cancel the change."""
    base = base or ("regenerated" if target else "photo")
    if base not in ("photo", "regenerated"):
        usage(f"base is {base!r}; accepted: photo, regenerated")
    if base == "regenerated" and "unexplained" in layers:
        usage("'unexplained' is not part of the re-generated picture; use --base photo")
    return base


class Run:
    """How each photo is decomposed. It can be pickled; each process loads the model once."""

    def __init__(self, model, domain, target, size, box, max_megapixels):
        try:
            self.name = model
            if domain != "auto":
                self.model.domain_index(domain)
            plain = [t for t in target or [] if "=" not in t]
            if len(plain) > 1 or (plain and len(target) > 1):
                usage("give either one target class or a list of CHANNEL=CLASS")
            self.target = plain[0] if plain else assignments(target, "CHANNEL=CLASS") or None
            self.model.target_indices(self.target, self.model.config.domains[0])
        except ValueError as error:
            usage(str(error))
        smallest = 2 * self.model.config.stride
        if size is not None and not smallest <= size <= LARGEST_SIZE:
            usage(f"size is {size}; accepted: {smallest} to {LARGEST_SIZE}")
        if not 0 < max_megapixels <= LARGEST_CAP:
            usage(f"--max-megapixels is {max_megapixels:g}; accepted: above 0, up to {LARGEST_CAP}")
        self.domain, self.size, self.max_pixels = domain, size, round(max_megapixels * 1e6)
        sides = box.split(",") if box else []
        if box and not (len(sides) == 3 and all(n.strip().isdecimal() for n in sides)):
            usage(f"{box!r} is not LEFT,TOP,SIDE in pixels")
        self.box = tuple(map(int, sides)) or None

    @property
    def model(self):
        from ..decomposer import cached as model

        return model(self.name)

    def decompose(self, path: Path):
        from .. import photos

        photo = photos.load(path, self.max_pixels)
        try:
            d = self.model.decompose(photo, self.domain, self.target, self.size, self.box)
        except ValueError as error:  # a box that does not fit the photo
            raise photos.PhotoError(str(error)) from error
        if d.stated is None:
            print(self.doubt(photo), file=sys.stderr)  # of a folder it becomes a note in the report
        return d

    def doubt(self, photo) -> str:
        """One sentence about a photo whose class is uncertain, and the option that sets it."""
        from ..choice import choose

        choice = choose(photo)
        if choice.model not in (None, self.name):
            return f"looks like a {choice.stated} ({choice.confidence:.0%}); better: --model {choice.model}"
        return f"the class is uncertain, so none is stated; --domain sets it: {', '.join(self.model.config.domains)}"

    def known(self, *layers: str) -> None:
        """End with a usage error if the model has no such layer, or if two of them are the same one."""
        from ..decomposition import OTHER_LAYERS, layer_key

        try:
            keys = [layer_key(self.model.names, layer) for layer in layers]
        except ValueError as error:
            usage(f"{error}, {', '.join(map(repr, OTHER_LAYERS))}")
        if len(set(keys)) < len(keys):
            usage(f"a layer is given twice, by number and by name: {', '.join(layers)}")


@app.command()
def decompose(
    source: Annotated[Path | None, typer.Argument(help="a photo, or a folder of photos", exists=True)] = None,
    out: Out = Path("out"),
    model: Model = "animals",
    domain: Domain = "auto",
    target: Target = None,
    size: Size = None,
    box: BoxOption = None,
    max_megapixels: MaxPixels = 40,
    jobs: Jobs = 1,
    shard: Shard = "1/1",
    skip_existing: Skip = False,
    example: Annotated[bool, typer.Option("--example", help="decompose the bundled photo of a cat")] = False,
):
    """Decompose each photo: a contact sheet, every layer as PNG, all layers without loss as .npz and TIFF."""
    if (source is None) != example:
        usage("give a photo or a folder of photos, or --example")
    run = Run(model, domain, target, size, box, max_megapixels)
    over(source or EXAMPLE, out, functools.partial(write_layers, run), "", skip_existing, jobs, shard)


def write_layers(run: Run, path: Path, folder: Path) -> dict:
    from .. import export

    d = run.decompose(path)
    export.write_folder(d, folder)
    return {"domain": d.stated or "", "face": d.box.found}


@app.command()
def recompose(
    source: Annotated[Path, typer.Argument(help="a photo, a folder of photos, or a layers.npz", exists=True)],
    out: PictureOut,
    strength: Strength = None,
    base: Base = None,
    crop: Annotated[bool, typer.Option("--crop", help="write the square only, not the whole photo")] = False,
    model: Model = "animals",
    domain: Domain = "auto",
    target: Target = None,
    size: Size = None,
    box: BoxOption = None,
    max_megapixels: MaxPixels = 40,
    skip_existing: Skip = False,
    overwrite: Overwrite = False,
):
    """Recompose photos with the given strengths. The edit is pasted back into the whole photo.

    In a PNG or TIFF no bit outside the face changes; JPEG and WebP are compressed again.
    """
    from .. import export, photos
    from ..decomposition import to_bytes

    strengths = {name: number(value) for name, value in assignments(strength, "LAYER=NUMBER").items()}
    base = chosen_base(base, target, *strengths)

    def check_out() -> None:
        try:
            source.is_dir() or photos.check_writable(out)
        except photos.PhotoError as error:
            usage(str(error))

    def edit(d, path: Path) -> None:
        edited = d.recompose(strengths, base)
        whole = d.photo is not None and not crop
        photos.save(d.paste(edited) if whole else photos.load(to_bytes(edited), name=path.name), path)

    if source.suffix.lower() == ".npz":
        given = {"--target": target, "--size": size, "--box": box, "--domain": domain != "auto", "--crop": crop}
        if any(given.values()):
            usage(f"{next(o for o in given if given[o])} needs a photo; {source.name} is already decomposed")

        def from_layers(path: Path, made: Path) -> None:
            try:
                edit(export.read_npz(path), made)
            except ValueError as error:
                raise photos.PhotoError(str(error)) from error

        check_out()
        over(source, out, from_layers, None, skip_existing, overwrite=overwrite)

    run = Run(model, domain, target, size, box, max_megapixels)
    run.known(*strengths)
    check_out()
    over(source, out, lambda path, made: edit(run.decompose(path), made), None, skip_existing, overwrite=overwrite)


@app.command()
def sweep(
    source: Input,
    channel: Annotated[str, typer.Option("--channel", "-c", help="number or name of a channel")],
    out: Out = Path("out"),
    start: Annotated[float, typer.Option("--from", help="first strength")] = -1.0,
    stop: Annotated[float, typer.Option("--to", help="last strength")] = 3.0,
    steps: Annotated[int, typer.Option(min=2, max=101, help="number of strengths")] = 9,
    gif: Annotated[bool, typer.Option("--gif", help="animate as GIF instead of WebP")] = False,
    base: Base = None,
    model: Model = "animals",
    domain: Domain = "auto",
    target: Target = None,
    size: Size = None,
    box: BoxOption = None,
    max_megapixels: MaxPixels = 40,
    jobs: Jobs = 1,
    shard: Shard = "1/1",
    skip_existing: Skip = False,
):
    """Show one channel at several strengths: a strip as PNG and an animation."""
    import numpy as np

    base = chosen_base(base, target, channel)
    start, stop = number(str(start)), number(str(stop))
    run = Run(model, domain, target, size, box, max_megapixels)
    run.known(channel)
    values = np.linspace(start, stop, steps).tolist()
    animation = "animation.gif" if gif else "animation.webp"
    ending = re.sub(r"[^A-Za-z0-9]+", "-", channel).strip("-")
    work = functools.partial(write_sweep, run, channel, values, base, animation)
    over(source, out, work, f".sweep-{ending}", skip_existing, jobs, shard)


def write_sweep(
    run: Run, channel: str, values: list[float], base: str, animation: str, path: Path, folder: Path
) -> None:
    from .. import export

    pictures = run.decompose(path).sweep(channel, values, base)
    folder.mkdir()
    export.strip(pictures, values).save(folder / "strip.png")
    export.animation(pictures, folder / animation)


@app.command()
def separate(
    source: Input,
    a: Annotated[str, typer.Option("--a", help="channels of the first texture: 1,4,orange hue")],
    b: Annotated[str, typer.Option("--b", help="channels of the second texture")],
    out: Out = Path("out"),
    model: Model = "animals",
    domain: Domain = "auto",
    size: Size = None,
    box: BoxOption = None,
    max_megapixels: MaxPixels = 40,
    skip_existing: Skip = False,
):
    """Separate two textures: the sums of two groups of channels, and the rest."""
    from PIL import Image

    from .. import export
    from ..decomposition import channel_groups, to_bytes

    run = Run(model, domain, None, size, box, max_megapixels)
    groups = [[name.strip() for name in group.split(",") if name.strip()] for group in (a, b)]
    try:
        channel_groups(run.model.names, *groups)
    except ValueError as error:
        usage(str(error))

    def work(path: Path, folder: Path) -> None:
        d = run.decompose(path)
        s = d.separate(*groups)
        folder.mkdir()
        apart = [("photo", d.picture), (f"texture a: {a}", s.a), (f"texture b: {b}", s.b), ("neither", s.rest)]
        without = [("photo without b", s.a + s.rest), ("photo without a", s.b + s.rest)]
        export.tiles([apart + without]).save(folder / "sheet.png")
        for name, picture in s._asdict().items():
            Image.fromarray(to_bytes(picture)).save(folder / f"{name}.png")

    over(source, out, work, ".separate", skip_existing)


@app.command()
def models():
    """List the bundled models, their classes and channels."""
    import json

    from ..channels import ChannelFacts
    from ..weights import WEIGHTS, bundled

    for name in bundled():
        config = json.loads((WEIGHTS / name / "config.json").read_text())
        typer.echo(f"{name}: {', '.join(config['domains'])}, trained at {config['size']} x {config['size']} pixels")
        facts = ChannelFacts.read(WEIGHTS / name)
        for k, role in enumerate(facts.roles, start=1):
            typer.echo(f"  {k} {role['name']}{f' (asked for: {facts.asked_for[k - 1]})' if facts.asked_for else ''}")

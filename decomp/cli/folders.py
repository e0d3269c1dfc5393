"""The options and the exit code of all commands over a photo or a folder of photos."""

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from .app import usage

Input = Annotated[Path, typer.Argument(help="a photo, or a folder of photos", exists=True)]
Out = Annotated[Path, typer.Option("--out", "-o", help="folder for the results")]
PictureOut = Annotated[Path, typer.Option("--out", "-o", help="picture to write; for a folder of photos, a folder")]
Model = Annotated[str, typer.Option(help="bundled model, folder, or hub id; see `decomp models`")]
Skip = Annotated[bool, typer.Option("--skip-existing", help="keep existing results")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="replace existing files, also those not written by decomp")
]
Jobs = Annotated[int, typer.Option(min=1, max=256, help="number of processes")]
Shard = Annotated[
    str, typer.Option(help="I/N: only every N-th photo from the I-th on, to share a folder among machines")
]


def shard_of(text: str) -> tuple[int, int]:
    """(i, n) of "i/n"."""
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        usage(f"{text!r} is not I/N with 1 <= I <= N, such as 2/4")
    return int(number), int(count)


def over(
    source: Path,
    out: Path,
    work,
    folder: str | None,
    skip_existing: bool,
    jobs: int = 1,
    shard: str = "1/1",
    overwrite: bool = False,
) -> NoReturn:
    """`batch.run`, which ends the command with its exit code."""
    from ..batch import folder as batch
    from ..photos import PhotoError

    part = shard_of(shard)
    try:
        code = batch.run(
            source, out, work, folder=folder, skip_existing=skip_existing, overwrite=overwrite, jobs=jobs, shard=part
        )
    except (PhotoError, OSError) as error:
        usage(str(error))
    raise typer.Exit(code)

"""`decomp data`: prepare a data set for training, and check it."""

import os
from pathlib import Path
from typing import Annotated

import typer

from ..files import atomic
from .app import app, usage

data = typer.Typer(help="Prepare photos for training, and check a data set.", no_args_is_help=True)
app.add_typer(data, name="data")

SHOWN = 10  # problems of one kind on the screen
HEADINGS = {
    "unreadable": "cannot be read",
    "leaks": "same pixels in train and in val",
    "contradictions": "same pixels in several classes",
    "duplicates": "same pixels twice",
    "small": "too small",
    "one_split": "classes in one split only",
    "empty": "empty classes",
}

Jobs = Annotated[int | None, typer.Option(min=1, max=256, help="number of processes; default: one for each core")]


@data.command()
def check(
    root: Annotated[Path, typer.Argument(help="folder with train/CLASS/ and val/CLASS/")],
    size: Annotated[int | None, typer.Option(min=1, help="report photos whose shorter side has fewer pixels")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="write all figures and problems here")] = None,
    jobs: Jobs = None,
):
    """Count the photos of a data set; find unreadable and small ones, duplicates, and photos in both train and val.

    The exit code is 0 for a clean data set, 1 if there are problems.
    """
    import json

    from ..data import check

    report = work(check.check, root, size, jobs or os.cpu_count() or 1)
    typer.echo(table(report.domains))
    if report.not_looked_at:
        others = ", ".join(f"{n:,} {suffix}" for suffix, n in sorted(report.not_looked_at.items())[:SHOWN])
        typer.echo(f"ignored files: {others}")
    for name, heading in HEADINGS.items():
        problems = getattr(report, name)
        if problems:
            typer.echo(f"{heading}: {len(problems):,}")
        for problem in problems[:SHOWN]:
            typer.echo(f"  {problem if isinstance(problem, str) else ' = '.join(problem)}")
        if len(problems) > SHOWN:
            typer.echo(f"  and {len(problems) - SHOWN:,} more" + ("" if json_file else "; --json FILE lists all"))
    if json_file:
        try:
            with atomic(json_file) as temporary:
                temporary.write_text(json.dumps(report.to_dict(), indent=2))
        except OSError as error:
            usage(f"{json_file}: cannot be written ({error.strerror})")
    typer.echo("clean" if report.clean else "not clean")
    raise typer.Exit(0 if report.clean else 1)


@data.command()
def prepare(
    source: Annotated[Path, typer.Argument(help="AFHQ, CelebA-HQ, or photos with a CSV; folder or zip", exists=True)],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for the data set")],
    size: Annotated[int, typer.Option(min=8, max=2048, help="side of the crops, pixels")] = 256,
    face: Annotated[
        str, typer.Option(help="centre, or cat or human: find the face, and leave out photos without one")
    ] = "centre",
    val: Annotated[
        float | None, typer.Option(help="share of photos for validation, if the source has none; default: 0.1")
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="table with the columns file, domain and optionally split")] = None,
    attribute: Annotated[
        str | None, typer.Option(help="CelebA attribute that defines the classes: NAME, or NAME=CLASS,CLASS")
    ] = None,
    attributes: Annotated[
        Path | None, typer.Option(help="CelebA's list of attributes; default: the one in SOURCE")
    ] = None,
    jobs: Jobs = None,
):
    """Cut photos to square crops, OUT/train/CLASS/ and OUT/val/CLASS/. The same call resumes a stopped run.

    OUT/prepared.json lists the result of each photo. The exit code is 1 if some photos failed or were missing.
    """
    from ..data import prepare

    options = {"size": size, "face": face, "val": val, "csv": csv, "attribute": attribute, "attributes": attributes}
    record = work(prepare.prepare, source, out, **options, jobs=jobs or os.cpu_count() or 1)
    typer.echo(", ".join(f"{record[s]:,} {s}" for s in prepare.STATUSES if record[s]) + f"; see {out / prepare.RECORD}")
    missing = next((row["reason"] for row in record["photos"] if row["status"] == "missing"), None)
    if missing:
        typer.echo(f"{missing}; in all, {record['missing']:,} photos of the table are missing", err=True)
    if record["enlarged"]:
        typer.echo(f"{record['enlarged']:,} crops are enlarged, from less than {size} pixels", err=True)
    if record["foreign"]:
        listed = ", ".join(record["foreign"][:SHOWN])
        typer.echo(
            f"{len(record['foreign']):,} photos in {out} do not come from this source; remove them? {listed}", err=True
        )
    good = record["done"] or record["skipped"]
    raise typer.Exit(0 if good and not (record["failed"] or record["missing"] or record["foreign"]) else 1)


def work(function, *args, **options):
    """Call the function; an error ends the command with one sentence."""
    from concurrent.futures.process import BrokenProcessPool

    try:
        return function(*args, **options)
    except (ValueError, OSError) as error:
        usage(str(error))
    except BrokenProcessPool:
        typer.echo("decomp: a process was killed, perhaps for lack of memory; try fewer --jobs", err=True)
        raise typer.Exit(1) from None


def table(domains) -> str:
    """Counts and short sides, one line for each class of each split."""
    head = ("split", "class", "photos", "short side: smallest", "median", "largest")
    rows = [(d.split, d.domain, d.photos, d.smallest, d.median, d.largest) for d in domains]
    cells = [head, *([c if isinstance(c, str) else "-" if c is None else f"{c:,.10g}" for c in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells)]
    return "\n".join(
        "  ".join(c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))) for row in cells
    )

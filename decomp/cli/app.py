"""What all commands hang on. Heavy imports stay inside the commands, so that --help and --version answer at once."""

import importlib.metadata
from typing import Annotated, NoReturn

import typer

app = typer.Typer(
    help="Take a photo of a face apart into channels, and put it together again.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def usage(message: str) -> NoReturn:
    """End with exit code 2 and one sentence."""
    typer.echo(f"decomp: {message}", err=True)
    raise typer.Exit(2)


def show_version(wanted: bool):
    if wanted:
        typer.echo(f"decomp {importlib.metadata.version('decomp')}")
        raise typer.Exit()


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="show version")
    ] = False,
):
    pass

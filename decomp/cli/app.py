"""The application that commands register with. Heavy imports stay inside the commands, so that --help is quick."""

import importlib.metadata
import os
from typing import Annotated, NoReturn

import typer

app = typer.Typer(
    help="Decompose a photo of a face into channels, change their strengths, and recompose the photo.",
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


def choose_runtime(name: str | None) -> str | None:
    """Kept in the environment, so that it reaches the processes of --jobs too; `decomp.load` reads it."""
    if name is not None:
        accepted = ("auto", "torch", "openvino")
        if name not in accepted:
            usage(f"runtime is {name!r}; accepted: {', '.join(accepted)}")
        os.environ["DECOMP_RUNTIME"] = name
    return name


def limit_threads(count: int | None) -> int | None:
    """Read by torch and OpenCV when they are imported; OpenVINO takes torch's number."""
    if count is not None:
        os.environ["OMP_NUM_THREADS"] = os.environ["OPENCV_FOR_THREADS_NUM"] = str(count)
    return count


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="show version")
    ] = False,
    runtime: Annotated[
        str | None, typer.Option(callback=choose_runtime, help="runtime of the network: auto, torch or openvino")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(callback=limit_threads, min=1, max=256, help="processor threads; default: all cores")
    ] = None,
):
    pass

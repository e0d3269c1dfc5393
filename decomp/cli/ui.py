"""The command that opens the web page."""

from typing import Annotated

import typer

from .app import app, usage


@app.command()
def ui(
    model: Annotated[
        list[str] | None, typer.Option(help="model to offer, repeatable; default: all bundled ones")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="port; default: the first free one from 7860 on")
    ] = None,
    mcp: Annotated[bool, typer.Option("--mcp", help="offer every action as an MCP tool as well")] = False,
    host: Annotated[str, typer.Option(help="address to serve at; the default is this machine only")] = "127.0.0.1",
    known_as: Annotated[
        list[str] | None, typer.Option(help="host name under which other machines reach the page, repeatable")
    ] = None,
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="open the page in a browser")] = True,
):
    """Open the web page: upload a photo, see its channels, change their strengths. Served to this machine only."""
    try:
        from ..page import launch
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        usage("the web page needs gradio; install it with: pip install 'decomp[ui]'")
    try:
        launch(model, port, mcp, host, known_as, inbrowser=open_browser)
    except (ValueError, OSError) as error:
        usage(str(error))

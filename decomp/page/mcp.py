"""The actions as MCP tools (`decomp ui --mcp`), at /gradio_api/mcp.

Made with the protocol's own library. Gradio's server would hand a dict among the arguments to a client inside this
process, which opens the path in it; and it returns JSON as Python's repr.
"""

import base64
import binascii
import contextlib
import functools
import inspect
import re
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import anyio
from mcp.server.fastmcp import FastMCP, Image
from mcp.server.transport_security import TransportSecuritySettings
from starlette.routing import Mount

from . import uploads
from .actions import Actions
from .api import documented
from .guard import LARGEST_BODY, MCP
from .uploads import LARGEST_FILE, Upload

PHOTO = """    photo: a photo as text: the path that /gradio_api/upload gave, the URL of a file of this server, or
data:image/...;base64,...
        Accepted: JPEG, PNG, WebP, TIFF, BMP or GIF of at most 25 MB."""
INSTRUCTIONS = """decomp takes a photo of a face (cat, dog, wild animal, person) apart into channels and puts it
together with other strengths.
Upload a photo with: curl -F files=@cat.jpg SERVER/gradio_api/upload. The answer holds the path that the tools take as
`photo`; the URL of any
result of another tool is taken too. No other address is ever fetched. list_models names the models, their channels
and presets."""
LARGEST_IMAGE = 4 * 2**20  # bytes; a larger picture comes back as its URL alone
PICTURES = (".png", ".jpg", ".webp")


def mounted(models: dict) -> dict:
    """What the app needs for it: a route, and the time in which it runs."""
    mcp = server(models)
    app = mcp.streamable_http_app()

    @contextlib.asynccontextmanager
    async def running(_):
        async with mcp.session_manager.run():
            yield

    return {"routes": [Mount(MCP, app=app)], "lifespan": running}


def server(models: dict) -> FastMCP:
    """A server with one tool an action. Who may call it is checked before (guard.py)."""
    mcp = FastMCP(
        "decomp",
        INSTRUCTIONS,
        stateless_http=True,
        json_response=True,
        streamable_http_path="/",
        max_request_body_size=LARGEST_BODY[MCP],
        log_level="WARNING",
        transport_security=TransportSecuritySettings(
            enable_dns_rebinding_protection=False
        ),  # guard.py has checked both
    )
    actions = Actions(models)
    one = anyio.CapacityLimiter(1)
    for action in (
        actions.decompose,
        actions.recompose,
        actions.sweep_channel,
        actions.separate,
        actions.eyes,
        actions.swap,
        actions.relief,
        actions.take_away,
    ):
        mcp.add_tool(_tool(mcp, action, one), structured_output=False)
    mcp.add_tool(actions.list_models, structured_output=False)
    return mcp


def _tool(mcp: FastMCP, action, one: anyio.CapacityLimiter):
    """The action with the photo as text, its files as pictures or URLs, run apart from the event loop."""

    parameters = list(inspect.signature(action).parameters.values())
    photos = [p.name for p in parameters if p.annotation is Upload]

    @functools.wraps(action)
    async def tool(**arguments):
        base = str(mcp.get_context().request_context.request.base_url).split("/gradio_api/")[0].rstrip("/")
        result = await anyio.to_thread.run_sync(
            lambda: action(**{k: taken(v) if k in photos else v for k, v in arguments.items()}), limiter=one
        )
        parts = result if isinstance(result, (tuple, list)) else [result]
        return [content for part in parts if part is not None for content in _contents(part, base)]

    parameters = [p.replace(annotation=str) if p.name in photos else p for p in parameters]
    tool.__signature__ = inspect.Signature(parameters)
    tool.__annotations__ = {p.name: p.annotation for p in parameters}
    tool.__doc__ = documented(action, PHOTO)
    del tool.__wrapped__
    return tool


def _contents(part: Path | dict, base: str) -> list:
    if not isinstance(part, Path):
        return [part]
    url = f"{base}/gradio_api/file={quote(str(part))}"
    if part.suffix in PICTURES and part.stat().st_size <= LARGEST_IMAGE:
        return [Image(path=part), url]
    return [url]


def taken(photo: str) -> Upload:
    """The photo that a text stands for.

    Raises:
        ValueError: it is no upload, no file of this server and no picture in base64.
    """
    if embedded := re.match(r"data:image/([a-z]{2,5});base64,", photo):
        if len(photo) > LARGEST_FILE * 4 // 3 + 100:
            raise ValueError(f"photo: is larger than {LARGEST_FILE // 2**20} MB")
        try:
            return Upload(base64.b64decode(photo[embedded.end() :], validate=True), f"photo.{embedded[1]}")
        except binascii.Error:
            raise ValueError("photo: is not base64; accepted: data:image/...;base64,...") from None
    if photo.startswith(("http://", "https://")):  # taken for its path alone; nothing is fetched
        photo = unquote(urlsplit(photo).path.partition("/gradio_api/file=")[2])
    return uploads.read(uploads.photo({"path": photo}))

"""What every request passes before Gradio sees it, and what every answer carries."""

import re
from collections.abc import Callable
from urllib.parse import urlsplit

from anyio import to_thread
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import uploads

API = "/gradio_api"
UPLOAD, MCP = f"{API}/upload", f"{API}/mcp"
LIVE = f"{API}/live"  # pictures of a camera
LARGEST_BODY = {UPLOAD: uploads.LARGEST_FILE + 2**16, MCP: 3 * uploads.LARGEST_FILE // 2}  # bytes
LARGEST_CALL = 2**18  # bytes of any other request
# Gradio's routes that this page has no use for: they fetch from other machines, write files or show what others do
CLOSED = re.compile(
    rf"({API})?/(proxy=|process_recording|component_server|deep_link|vibe|monitoring|log(in|out)|(run_)?history|dev/|custom_component|stream/)"
)
FILE = re.compile(rf"(?:{API})?/file[=/](.*)", re.DOTALL)
# Gradio's page carries its configuration inline and compiles the small functions that run in the browser
PAGE_POLICY = "; ".join(
    [
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' blob:",
        "worker-src 'self' blob:",
        "font-src 'self' data:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    ]
)
FILE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox; frame-ancestors 'none'"
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
}


def middleware(hosts: list[str], full: Callable[[], bool]) -> list[Middleware]:
    """For the names under which the page may be reached: a site that points its own name to this machine is refused.

    `full` says whether there is no room for another upload.
    """
    return [Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False), Middleware(Guard, full)]


class Guard:
    """Requests of other sites, bodies that are too large and files outside the page's folder end here."""

    def __init__(self, app: ASGIApp, full: Callable[[], bool]):
        self.app, self.full = app, full

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        file = FILE.fullmatch(scope["path"])

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers["Content-Security-Policy"] = FILE_POLICY if file else PAGE_POLICY
            await send(message)

        refused = refusal(scope) or (file and _no_file(file[1]))
        if not refused and scope["path"].startswith(UPLOAD) and await to_thread.run_sync(self.full):
            refused = 507, "there is no room for another photo at the moment; please try again in some minutes"
        await (PlainTextResponse(refused[1], refused[0]) if refused else self.app)(scope, receive, guarded)


def refusal(scope: Scope) -> tuple[int, str] | None:
    """Status and sentence for a request that goes no further."""
    headers, path = Headers(scope=scope), scope["path"]
    changes = scope["method"] not in ("GET", "HEAD", "OPTIONS")
    origin = headers.get("origin")
    if (
        origin is not None
        and (changes or path.startswith(MCP))
        and urlsplit(origin).netloc.lower() != headers.get("host", "").lower()
    ):
        return 403, "this request comes from a page of another site"
    if CLOSED.match(path):
        return 404, "there is no such page"
    if changes:
        length = headers.get("content-length", "")
        if not length.isdecimal():
            return 411, "the length of the request is not given"
        if int(length) > LARGEST_BODY.get(path.rstrip("/"), LARGEST_CALL):
            return 413, f"the request is too large; accepted: one photo of at most {uploads.LARGEST_FILE // 2**20} MB"
    return None


def _no_file(path: str) -> tuple[int, str] | None:
    """The same answer for a file of somebody else, one that does not exist, a folder and an address elsewhere."""
    try:
        uploads.exists(path)
    except ValueError:
        return 403, "there is no such file here"
    return None

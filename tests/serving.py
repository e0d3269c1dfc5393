"""`decomp ui` in a process of its own, for the tests that speak to it over HTTP."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx


@dataclass
class Server:
    url: str
    process: subprocess.Popen
    log: Path
    temp: Path  # the TMPDIR it was given
    http: httpx.Client

    def folder(self) -> Path:
        """Where the page keeps its files."""
        (folder,) = self.temp.glob("decomp-page-*")
        return folder

    def call(self, action: str, data: list) -> tuple[str, str]:
        """An action of the API as `curl` asks for it: the last event of its answer (complete or error), its data."""
        answer = self.http.post(f"{self.url}/gradio_api/call/{action}", json={"data": data})
        if answer.status_code != 200:
            return str(answer.status_code), answer.text
        lines = self.http.get(f"{self.url}/gradio_api/call/{action}/{answer.json()['event_id']}").text.splitlines()
        event = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")][-1]
        return event, [line.removeprefix("data: ") for line in lines if line.startswith("data: ")][-1]

    def tool(self, name: str, **arguments) -> dict:
        """The result of an MCP tool."""
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": arguments}}
        accepted = {"Accept": "application/json, text/event-stream"}
        answer = self.http.post(f"{self.url}/gradio_api/mcp/", json=body, headers=accepted)
        assert answer.status_code == 200, answer.text
        return answer.json()["result"]

    def upload(self, data: bytes, name: str = "cat.png") -> str:
        """The path under which the server keeps a file."""
        answer = self.http.post(f"{self.url}/gradio_api/upload", files={"files": (name, data)})
        assert answer.status_code == 200, answer.text
        return answer.json()[0]


@contextlib.contextmanager
def serve(temp: Path, *options: str) -> Iterator[Server]:
    """The command itself, on a free port, with its temporary files below `temp`."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    command = [
        sys.executable,
        "-c",
        "from decomp.cli import app; app()",
        "ui",
        "--no-open",
        "--port",
        str(port),
        *options,
    ]
    temp.mkdir(exist_ok=True)
    log = temp / "log"
    with open(log, "w") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, env=os.environ | {"TMPDIR": str(temp)}
        )
    server = Server(f"http://127.0.0.1:{port}", process, log, temp, httpx.Client(timeout=120))
    try:
        for _ in range(3000):  # a busy machine
            time.sleep(0.2)
            assert process.poll() is None, log.read_text()
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(server.url, timeout=5).status_code == 200:
                    break
        yield server
    finally:
        server.http.close()
        process.terminate()
        process.wait(120)

"""Other sites cannot speak to the page through a visitor's browser, and nothing of it runs in theirs."""

import pytest
from serving import Server

pytest.importorskip("gradio")
pytestmark = pytest.mark.slow
CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
ACCEPT = {"Accept": "application/json, text/event-stream"}
ROUTES = ["/", "/config", "/gradio_api/info", "/gradio_api/queue/status", "/theme.css"]


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", "localhost.evil.example", ""]
)
def test_a_name_that_points_here_is_refused(server: Server, host):
    """DNS rebinding: the browser believes that the page is the other site's, and tells its name."""
    for route in ROUTES:
        assert server.http.get(server.url + route, headers={"Host": host}).status_code == 400
    assert (
        server.http.post(f"{server.url}/gradio_api/mcp/", json=CALL, headers=ACCEPT | {"Host": host}).status_code == 400
    )
    assert (
        server.http.post(f"{server.url}/gradio_api/upload", files={"files": b"x"}, headers={"Host": host}).status_code
        == 400
    )


def test_the_pages_own_names_are_trusted(server: Server):
    port = server.url.rpartition(":")[2]
    for host in ("127.0.0.1", "localhost", f"localhost:{port}", "LOCALHOST"):
        assert server.http.get(f"{server.url}/config", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://localhost.evil.example", "file://"]
)
def test_another_sites_requests_are_refused(server: Server, origin):
    headers = {"Origin": origin}
    body = {"data": [None, "animals", "auto", 0, ""]}
    for route in (
        "call/decompose",
        "run/decompose",
        "api/decompose",
        "call/v2/decompose",
        "queue/join",
        "cancel",
        "reset",
    ):
        assert server.http.post(f"{server.url}/gradio_api/{route}", json=body, headers=headers).status_code == 403
    assert (
        server.http.post(f"{server.url}/gradio_api/upload", files={"files": b"x"}, headers=headers).status_code == 403
    )
    assert server.http.post(f"{server.url}/gradio_api/mcp/", json=CALL, headers=ACCEPT | headers).status_code == 403
    assert server.http.get(f"{server.url}/gradio_api/mcp/", headers=ACCEPT | headers).status_code == 403


def test_its_own_requests_are_not(server: Server):
    headers = {"Origin": server.url}
    assert server.http.post(f"{server.url}/gradio_api/mcp/", json=CALL, headers=ACCEPT | headers).status_code == 200
    assert (
        server.http.post(f"{server.url}/gradio_api/call/models", json={"data": []}, headers=headers).status_code == 200
    )


def test_every_answer_carries_the_headers(server: Server, cat):
    path = server.upload(b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", "x.svg")
    for route in (*ROUTES, "/nowhere", f"/gradio_api/file={path}", "/gradio_api/file=/etc/passwd"):
        headers = server.http.get(server.url + route).headers
        assert headers["x-content-type-options"] == "nosniff", route
        assert headers["x-frame-options"] == "DENY" and "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["cross-origin-resource-policy"] == "same-origin"
    answer = server.http.get(f"{server.url}/gradio_api/file={path}")
    assert answer.headers["content-disposition"].startswith("attachment")
    assert (
        "sandbox" in answer.headers["content-security-policy"]
        and "script" not in answer.headers["content-security-policy"]
    )


def test_a_request_that_is_too_large(server: Server):
    huge = {"data": ["x" * 2**19, "animals", "auto", 0, ""]}
    assert server.http.post(f"{server.url}/gradio_api/call/decompose", json=huge).status_code == 413
    many = [("files", (f"{i}.png", bytes(2**20))) for i in range(27)]  # each is small enough
    answer = server.http.post(f"{server.url}/gradio_api/upload", files=many)
    assert answer.status_code == 413 and "at most 25 MB" in answer.text

    def unending():
        yield b"{"

    assert server.http.post(f"{server.url}/gradio_api/call/decompose", content=unending()).status_code == 411


def test_what_the_browser_and_the_queue_are_not_asked(server: Server, cat):
    """Values of the wrong kind end in a sentence, never in a traceback (the fixture looks at the log)."""
    for data in ([3, "animals", "auto", 0, ""], [None, "animals", "auto", 0, ""], [[], {}, [], "x", None]):
        event, answer = server.call("decompose", data)
        assert event == "error" and len(answer) < 400

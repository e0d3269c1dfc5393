"""Nothing on the server's disk is read for a visitor but what was uploaded: each attack over HTTP."""

import io
import json
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
from PIL import Image
from serving import Server

pytest.importorskip("gradio")
pytestmark = pytest.mark.slow
META = {"meta": {"_type": "gradio.FileData"}}
COMMON = ["animals", "auto", 0, ""]
ACTIONS = {
    "decompose": COMMON,
    "recompose": ["", "photo", "", False, *COMMON],
    "sweep_channel": ["1", -1, 3, 2, "photo", *COMMON],
    "separate": ["1", "2", *COMMON],
    "eyes": COMMON,
    "swap": [None, "residual", 1, 0, *COMMON],
    "relief": ["1", 1, *COMMON],
    "take_away": ["ora", *COMMON],
}
NO_UPLOAD = "there is no such upload here"


@pytest.fixture(scope="module")
def private(tmp_path_factory):
    """A picture of somebody who does not use the page."""
    path = tmp_path_factory.mktemp("home") / "private.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def photo(cat):
    file = io.BytesIO()
    Image.fromarray(cat).save(file, "PNG")
    return file.getvalue()


def own_event(server: Server, value) -> str:
    """The page's own upload event through the queue; the whole answer."""
    config = server.http.get(f"{server.url}/config").json()
    event = next(
        d["id"] for d in config["dependencies"] if len(d["inputs"]) == 3 and len(d["outputs"]) > 40 and d["queue"]
    )
    session = os.urandom(4).hex()
    body = {"data": ["animals", 128, value], "fn_index": event, "session_hash": session}
    assert server.http.post(f"{server.url}/gradio_api/queue/join", json=body).status_code == 200
    with server.http.stream("GET", f"{server.url}/gradio_api/queue/data", params={"session_hash": session}) as lines:
        return next(line for line in lines.iter_lines() if "process_completed" in line)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(
    "extra",
    [{}, META, {"meta": {"_type": "x"}}, {"url": "http://127.0.0.1:1/x.png"}],
    ids=["bare", "meta", "other-meta", "url"],
)
def test_a_foreign_path_in_an_action(server, private, action, extra):
    event, answer = server.call(action, [{"path": str(private), **extra}, *ACTIONS[action]])
    assert event == "error" and NO_UPLOAD in answer


def test_a_foreign_path_as_the_second_photo(server, photo, private):
    own = server.upload(photo)
    for extra in ({}, META):
        answer = server.call("swap", [{"path": own}, {"path": str(private), **extra}, "residual", 1, 0, *COMMON])
        assert answer[0] == "error" and NO_UPLOAD in answer[1]
    result = server.tool("swap", photo=own, giver=str(private))
    assert result["isError"] and "image" not in {part["type"] for part in result["content"]}


@pytest.mark.parametrize("extra", [{}, META])
def test_a_foreign_path_in_the_pages_own_event(server, private, extra):
    answer = own_event(server, {"path": str(private), **extra})
    assert '"success":false' in answer and NO_UPLOAD in answer


@pytest.mark.parametrize("route", ["run/take_away", "api/take_away"])
def test_a_foreign_path_past_the_queue(server, private, route):
    answer = server.http.post(
        f"{server.url}/gradio_api/{route}", json={"data": [{"path": str(private)}, *ACTIONS["take_away"]]}
    )
    assert answer.status_code == 500 and NO_UPLOAD in answer.text


def test_a_foreign_path_by_name(server, private):
    answer = server.http.post(
        f"{server.url}/gradio_api/call/v2/take_away", json={"photo": {"path": str(private)}, "kind": "ora"}
    )
    assert answer.status_code == 200
    answer = server.http.get(f"{server.url}/gradio_api/call/v2/take_away/{answer.json()['event_id']}")
    assert NO_UPLOAD in answer.text and "complete" not in answer.text


def test_a_path_hidden_in_another_argument(server, photo, private):
    path = {"path": server.upload(photo)}
    hidden = {"path": str(private), **META}
    for value in (hidden, [hidden], [[hidden]]):
        event, answer = server.call("recompose", [path, value, *ACTIONS["recompose"][1:]])
        assert event == "error" and "is no number, no list and no text" in answer


def shapes_of(private, server: Server) -> dict:
    inside = server.folder()
    return {
        "relative": os.path.relpath(private, "/"),
        "from the folder": f"{inside}/../../../../../../../../{str(private)[1:]}",
        "file URL": f"file://{private}",
        "doubled slash": f"/{private}",
        "dots": str(private.parent / "." / private.name),
        "the folder itself": str(inside),
        "above": str(inside.parent),
        "sibling with the same beginning": f"{inside}-other/private.png",
        "NUL": f"{inside}/a\0.png",
        "device": "/dev/zero",
        "process": "/proc/self/environ",
        "empty": "",
        "number": 3,
        "list": [str(private)],
        "nothing": None,
    }


def test_every_other_way_to_write_it(server, private):
    for shape, path in shapes_of(private, server).items():
        event, answer = server.call("take_away", [{"path": path, **META}, *ACTIONS["take_away"]])
        assert event == "error" and NO_UPLOAD in answer, shape
    event, answer = server.call("take_away", [str(private), *ACTIONS["take_away"]])
    assert event == "error" and NO_UPLOAD in answer


def test_the_answer_does_not_tell_what_exists(server, private):
    """Word for word the same for a picture, a text, a folder, a FIFO, a file without permission and nothing at all."""
    fifo, closed = private.parent / "fifo", private.parent / "closed.png"
    os.mkfifo(fifo)
    closed.write_bytes(private.read_bytes())
    closed.chmod(0)
    answers, files = set(), set()
    for path in (
        private,
        "/etc/passwd",
        private.parent,
        fifo,
        closed,
        private.parent / "nothing.png",
        "/nowhere/at/all.png",
    ):
        answer = json.loads(server.call("decompose", [{"path": str(path)}, *COMMON])[1])
        answers.add(answer["error"])
        file = server.http.get(f"{server.url}/gradio_api/file={path}")
        files.add((file.status_code, file.text))
        assert (
            server.tool("decompose", photo=str(path))["content"]
            == server.tool("decompose", photo="/nowhere.png")["content"]
        )
    assert len(answers) == len(files) == 1


def test_a_link_out_of_the_folder(server, private):
    link = server.folder() / "link.png"
    link.symlink_to(private)
    linked = server.folder() / "linked"
    linked.symlink_to(private.parent)
    for path in (link, linked / private.name):
        assert NO_UPLOAD in server.call("decompose", [{"path": str(path)}, *COMMON])[1]
        assert server.http.get(f"{server.url}/gradio_api/file={path}").status_code == 403
    link.unlink(), linked.unlink()


def test_a_fifo_does_not_block_the_queue(server, photo):
    """Not even one in the upload folder itself, where none can come from."""
    fifo = server.folder() / "fifo.png"
    os.mkfifo(fifo)
    started = time.monotonic()
    event, answer = server.call("decompose", [{"path": str(fifo)}, *COMMON])
    assert event == "error" and NO_UPLOAD in answer
    assert server.http.get(f"{server.url}/gradio_api/file={fifo}").status_code == 403
    fifo.unlink()
    event, _ = server.call("decompose", [{"path": server.upload(photo)}, *COMMON])
    assert event == "complete" and time.monotonic() - started < 60


def test_a_sparse_file_is_not_read(server):
    """1.5 GB on paper, nothing on disk: refused by its size."""
    sparse = server.folder() / "sparse.png"
    with open(sparse, "wb") as file:
        file.truncate(1500 * 2**20)
    before = memory(server)
    event, answer = server.call("decompose", [{"path": str(sparse)}, *COMMON])
    assert event == "error" and "is larger than 25 MB" in answer
    assert "is larger than 25 MB" in str(server.tool("decompose", photo=str(sparse)))
    assert memory(server) - before < 100
    sparse.unlink()


def memory(server: Server) -> float:
    """Resident memory of the server in MB, or 0 where /proc does not tell."""
    try:
        with open(f"/proc/{server.process.pid}/status") as status:
            return int(next(line for line in status if line.startswith("VmRSS")).split()[1]) / 1024
    except FileNotFoundError:
        return 0


def test_no_address_is_fetched(server):
    """Neither for an action, nor for MCP, nor as a proxy: a listener on this machine hears nothing."""
    heard = []

    class Listener(BaseHTTPRequestHandler):
        def do_GET(self):
            heard.append(self.path)
            self.send_error(404)

        do_HEAD = do_POST = do_GET

    with HTTPServer(("127.0.0.1", 0), Listener) as listener:
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{listener.server_port}/x.png"
        for value in ({"path": url, **META}, {"path": url}, {"path": "x.png", "url": url, **META}):
            assert NO_UPLOAD in server.call("decompose", [value, *COMMON])[1]
        assert NO_UPLOAD in str(server.tool("decompose", photo=url))
        for route in (f"/gradio_api/file={url}", f"/gradio_api/proxy={url}", f"/proxy={url}", f"/file={url}"):
            assert server.http.get(server.url + route).status_code in (403, 404)
        listener.shutdown()
    assert heard == []


def test_mcp_takes_no_path_and_no_dict(server, private):
    """Gradio's own MCP server would upload the file itself."""
    dictionary = {"path": str(private), **META}
    for arguments in (
        {"photo": str(private)},
        {"photo": f"file://{private}"},
        {"photo": dictionary},
        {"photo": str(private), "strengths": dictionary},
    ):
        result = server.tool("recompose", **arguments)
        assert result["isError"] and "image" not in {part["type"] for part in result["content"]}
    url = f"{server.url}/gradio_api/file={private}"
    assert NO_UPLOAD in str(server.tool("recompose", photo=url))


@pytest.mark.parametrize(
    "route", ["/component_server", "/process_recording", "/deep_link", "/monitoring", "/login", "/vibe-edit"]
)
def test_routes_that_the_page_does_not_use(server, route):
    for prefix in ("", "/gradio_api"):
        assert server.http.post(server.url + prefix + route, json={}).status_code == 404
        assert server.http.get(server.url + prefix + route).status_code == 404


@pytest.mark.parametrize(
    "name",
    ["../../../evil.png", "/etc/evil.png", "a" * 300 + ".png", "x\0y.png", "..", ".", "a\nb.png", "CON.png", "<b>.png"],
)
def test_the_name_of_an_upload_leads_nowhere(server, photo, name):
    body = (
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="'
        + name.encode()
        + b'"\r\n\r\n'
        + photo
        + b"\r\n--x--\r\n"
    )
    answer = server.http.post(
        f"{server.url}/gradio_api/upload", content=body, headers={"Content-Type": "multipart/form-data; boundary=x"}
    )
    if answer.status_code == 200:
        (path,) = answer.json()
        assert os.path.realpath(path).startswith(str(server.folder()) + "/")
        event, answer = server.call("take_away", [{"path": path, "orig_name": name}, "npz", *COMMON])
        assert event == "complete", answer
        result = json.loads(answer)[0]
        assert os.path.realpath(result["path"]).startswith(str(server.folder()) + "/")


def test_an_honest_upload_still_works(server, photo, cat):
    path = server.upload(photo)
    event, answer = server.call("recompose", [{"path": path}, *ACTIONS["recompose"]])
    assert event == "complete"
    edited = server.http.get(json.loads(answer)[0]["url"])
    with Image.open(io.BytesIO(edited.content)) as image:
        assert np.array_equal(np.asarray(image.convert("RGB")), cat)
    assert server.http.get(f"{server.url}/gradio_api/file={path}").content == photo

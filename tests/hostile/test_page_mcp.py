"""The MCP tools as their own text says: photos by upload, by URL of this server, in base64; pictures and JSON back."""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image
from serving import Server

pytest.importorskip("gradio")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def photo(cat) -> bytes:
    file = io.BytesIO()
    Image.fromarray(cat).save(file, "PNG")
    return file.getvalue()


def parts(result: dict) -> tuple[list[np.ndarray], list[str]]:
    """Pictures and texts of a result."""
    assert not result["isError"], result
    pictures = [part for part in result["content"] if part["type"] == "image"]
    for part in pictures:
        assert re.fullmatch("image/(png|jpeg|webp)", part["mimeType"])
    decoded = [np.asarray(Image.open(io.BytesIO(base64.b64decode(part["data"]))).convert("RGB")) for part in pictures]
    return decoded, [part["text"] for part in result["content"] if part["type"] == "text"]


def test_the_tools_describe_themselves(server: Server):
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    accepted = {"Accept": "application/json, text/event-stream"}
    tools = server.http.post(f"{server.url}/gradio_api/mcp", json=body, headers=accepted, follow_redirects=True).json()
    tools = {tool["name"]: tool for tool in tools["result"]["tools"]}
    actions = {
        "decompose",
        "recompose",
        "sweep_channel",
        "separate",
        "eyes",
        "swap",
        "relief",
        "take_away",
        "list_models",
    }
    assert set(tools) == actions
    schema = tools["recompose"]["inputSchema"]
    assert schema["properties"]["photo"]["type"] == "string" and schema["required"] == ["photo"]
    assert (
        "/gradio_api/upload" in tools["recompose"]["description"] or "data:image" in tools["recompose"]["description"]
    )


def test_facts_are_json(server: Server, photo):
    _, texts = parts(server.tool("list_models"))
    assert json.loads(texts[0])["animals"]["classes"] == ["cat", "dog", "wild"]
    (sheet,), texts = parts(server.tool("decompose", photo=server.upload(photo)))
    assert sheet.shape[1] > 1000
    facts = json.loads(next(text for text in texts if text.startswith("{")))
    assert facts["domain"] == "cat" and len(facts["channels"]) == 9


def test_two_photos_and_a_relief(server: Server, photo):
    own = server.upload(photo)
    (mixed,), texts = parts(server.tool("swap", photo=own, giver=own, layers="residual"))
    assert mixed.shape == (300, 451, 3) and json.loads(next(t for t in texts if t.startswith("{")))["notes"] == []
    _, texts = parts(server.tool("relief", photo=own, channels="4"))
    assert any(text.endswith("relief.glb") for text in texts)


@pytest.mark.parametrize("way", ["path", "URL", "base64", "result"])
def test_every_way_to_name_a_photo(server: Server, photo, cat, way):
    path = server.upload(photo)
    if way == "result":
        _, (given,) = parts(server.tool("recompose", photo=path, strengths="3=1"))
    else:
        given = {
            "path": path,
            "URL": f"{server.url}/gradio_api/file={path}",
            "base64": "data:image/png;base64," + base64.b64encode(photo).decode(),
        }[way]
    (edited,), (url,) = parts(server.tool("recompose", photo=given, strengths=""))
    assert np.array_equal(edited, cat)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(server.http.get(url).content)).convert("RGB")), cat)


def test_files_that_are_no_pictures_come_as_their_url(server: Server, photo):
    pictures, (url,) = parts(server.tool("take_away", photo=server.upload(photo), kind="npz"))
    assert pictures == []
    with np.load(io.BytesIO(server.http.get(url).content)) as arrays:
        assert len(arrays["channels"]) == 9


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        ({"strengths": "3"}, "names no layer"),
        ({"strengths": "3=1e30"}, "accepted: a number from -100 to 100"),
        ({"model": "mammals"}, "there is no model 'mammals'"),
        ({"photo": "cat.png"}, "there is no such upload here"),
        ({"photo": "data:image/png;base64,%%%"}, "is not base64"),
        ({"photo": "data:image/png;base64,AAAA"}, "is not a photo"),
    ],
)
def test_a_wrong_call_is_one_sentence(server: Server, photo, arguments, sentence):
    result = server.tool("recompose", **{"photo": server.upload(photo)} | arguments)
    text = result["content"][0]["text"]
    assert result["isError"] and sentence in text and "\n" not in text and "Traceback" not in text

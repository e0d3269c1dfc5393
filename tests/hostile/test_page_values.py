"""Numbers, words and half-filled fields: one sentence each, over HTTP."""

import io
import json

import pytest
from PIL import Image
from serving import Server

pytest.importorskip("gradio")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def photo(server: Server, cat):
    file = io.BytesIO()
    Image.fromarray(cat).save(file, "PNG")
    return {"path": server.upload(file.getvalue())}


def said(server: Server, action: str, data: list) -> str:
    event, answer = server.call(action, data)
    assert event == "error", answer
    return json.loads(answer)["error"]


@pytest.mark.parametrize(
    "strengths, sentence",
    [
        ("3", "names no layer; accepted: LAYER=NUMBER"),
        ("3=1e30", "strength of '3' is '1e30'; accepted: a number from -100 to 100"),
        ("3=nan", "accepted: a number from -100 to 100"),
        ("3=inf", "accepted: a number from -100 to 100"),
        ("3=", "strength of '3' is empty"),
        ("3=two", "strength of '3' is 'two'"),
        ("3=1,3=2", "names '3' twice"),
        ("12=1", "there is no channel '12'"),
        ("x" * 3000, "is no number, no list and no text of at most 2000 characters"),
    ],
)
def test_strengths(server, photo, strengths, sentence):
    assert sentence in said(server, "recompose", [photo, strengths, "photo", "", False, "animals", "auto", 0, ""])


@pytest.mark.parametrize(
    "values, sentence",
    [
        ([-1, 3, 10**6], "steps is 1000000; accepted: a number from 2 to 25"),
        ([-1, 3, 2.5], "steps is 2.5; accepted: a whole number"),
        ([-1, 3, None], "steps is empty"),
        ([1e30, 3, 5], "first is 1e+30"),
        ([-1, None, 5], "last is empty"),
        ([-1, True, 5], "last is True"),
    ],
)
def test_a_sweep(server, photo, values, sentence):
    assert sentence in said(server, "sweep_channel", [photo, "1", *values, "photo", "animals", "auto", 0, ""])


@pytest.mark.parametrize(
    "common, sentence",
    [
        (["mammals", "auto", 0, ""], "there is no model 'mammals' here"),
        (["animals", "cow", 0, ""], "there is no class 'cow'"),
        (["animals", "auto", 10**9, ""], "size is 1000000000; accepted"),
        (["animals", "auto", -1, ""], "size is -1"),
        (["animals", "auto", "big", ""], "size is 'big'"),
        (["animals", "auto", 0, "1,2"], "is not LEFT,TOP,SIDE"),
        (["animals", "auto", 0, "1,2," + "9" * 400], "is not LEFT,TOP,SIDE"),
        (["animals", "auto", 0, "0,0,9999"], "inside the photo"),
        ([True, "auto", 0, ""], "model is not text"),
    ],
)
def test_what_all_actions_take(server, photo, common, sentence):
    assert sentence in said(server, "decompose", [photo, *common])


def test_no_photo(server):
    assert "no photo is given" in said(server, "decompose", [None, "animals", "auto", 0, ""])


@pytest.fixture(scope="module")
def session(server):
    config = server.http.get(f"{server.url}/config").json()
    load = next(d["id"] for d in config["dependencies"] if any(t[1] == "load" for t in d["targets"]))
    answer = server.http.post(
        f"{server.url}/gradio_api/run/predict", json={"data": [""], "fn_index": load, "session_hash": "a visitor"}
    )
    assert answer.status_code == 200, answer.text
    return "a visitor"


class TestTheSliders:
    """The page's own event, as a number typed beside a slider sends it."""

    def moved(self, server: Server, session: str | None, **changed) -> str:
        values = [1.0] * 11
        for k, value in changed.items():
            values[int(k[1:])] = value
        body = {"data": ["photo", *values], "session_hash": session}
        return server.http.post(f"{server.url}/gradio_api/run/page_sliders", json=body)

    def test_a_move(self, server, session):
        assert self.moved(server, session, s3=2).status_code == 200

    @pytest.mark.parametrize(
        "value, sentence",
        [
            (99, "channel 3 is 99"),
            (None, "channel 3 is empty"),
            ("x", "channel 3 is 'x'"),
            (1e30, "channel 3 is 1e+30"),
        ],
    )
    def test_a_refused_move_says_why(self, server, session, value, sentence):
        """The picture stays as it is; the reason is what stands below it."""
        answer = self.moved(server, session, s3=value)
        assert answer.status_code == 200 and "edited.png" not in answer.text
        assert sentence in answer.text and "from -2 to 4" in answer.text

    def test_a_visit_that_is_over(self, server):
        assert "Your photo is no longer here" in self.moved(server, "nobody").text
        assert "names no session" in self.moved(server, None).text

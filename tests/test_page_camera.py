"""The page's tab Live: its arithmetic, its address, and a camera in a browser."""

import io
import json
import shutil

import cv2
import numpy as np
import pytest
import skimage
from PIL import Image

gr = pytest.importorskip("gradio")

from serving import serve

from decomp.faces import Box
from decomp.page.live import Live
from decomp.photos import Photo

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SLOW = 180_000  # milliseconds; a busy machine


@pytest.fixture
def photo(cat) -> Photo:
    return Photo(cv2.resize(cat, (320, 214), interpolation=cv2.INTER_AREA))


def test_strengths_of_one_give_the_picture_back(toy, photo):
    assert np.array_equal(Live(toy)(photo, {1: 1.0, "residual": 1.0}), photo.pixels)


def test_an_edit_is_that_of_a_decomposition(toy, photo):
    """At once and in every picture of a face that stands still."""
    live = Live(toy)
    live.votes.append({"cat": 1.0, "dog": 0.0})
    toy.classify = lambda *_: {"cat": 1.0, "dog": 0.0}
    strengths = {1: 3.0, "residual": 0.8}
    d = toy.decompose(photo, "cat", box=toy.find_faces(photo)["centre"])
    expected = d.paste(d.recompose(strengths)).pixels.astype(int)
    assert np.abs(expected - photo.pixels).mean() > 0.3
    for _ in range(7):
        assert np.abs(live(photo, strengths) - expected).max() <= 1
    assert np.abs(live(photo, {1: 1.0, "residual": 1.0}) - photo.pixels.astype(int)).max() == 0


def test_the_box_follows_the_face_and_stands_still_with_it(toy, photo, monkeypatch):
    face = [100, 60, 100]
    monkeypatch.setattr(toy, "find_faces", lambda photo: {"cat": Box(*face, "cat")})
    live = Live(toy)
    for k in range(40):
        face[0] = 100 + k % 2  # the detector is never quite sure
        live(photo, {1: 1.0})
        assert live._box() == Box(100, 60, 100, "given")
    way = []
    face[0] = 160
    for _ in range(60):
        live(photo, {1: 1.0})
        way.append(live._box().left)
    assert way[0] < 110 and way[-1] >= 155 and max(np.diff(way)) < 40  # it goes there, and does not jump
    face[:] = [20, 10, 90]
    live(Photo(np.zeros((120, 160, 3), np.uint8)), {1: 1.0})  # another camera
    assert live.count == 1


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
class TestInTheBrowser:
    def browser(self, p, *options):
        return p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", *options])

    def page(self, browser, server):
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.set_default_timeout(SLOW)
        page.errors = []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.goto(server.url)
        page.wait_for_function("() => document.querySelector('#says .says')")
        page.get_by_role("tab", name="Live").click()
        return page

    def test_a_camera(self, tmp_path):
        """The cat in front of the camera comes back; a slider that moves changes it; no file is written for it."""
        from playwright.sync_api import sync_playwright

        film = tmp_path / "cat.mjpeg"
        cat = Image.fromarray(skimage.data.cat()).crop((25, 0, 425, 300)).resize((320, 240))
        frame = io.BytesIO()
        cat.save(frame, "JPEG", quality=95)
        film.write_bytes(frame.getvalue() * 30)
        camera = [
            "--use-fake-device-for-media-stream",
            "--use-fake-ui-for-media-stream",
            f"--use-file-for-fake-video-capture={film}",
        ]
        with serve(tmp_path / "server") as server, sync_playwright() as p:
            browser = self.browser(p, *camera)
            page = self.page(browser, server)
            page.locator("#live-start").click()
            page.wait_for_function(
                "() => /^\\d+ pictures a second/.test(document.querySelector('#live-says').innerText)"
            )
            files = lambda: {path for path in server.folder().rglob("*") if path.is_file()}
            before = files()
            plain = self.shown(page)
            wide = [round(side * 320 / max(plain.shape[:2])) for side in plain.shape[:2]]
            assert np.abs(cv2.resize(np.asarray(cat), wide[::-1]) - plain.astype(float)).mean() < 20
            page.locator("#live-3 input[type=number]").fill("4")
            page.wait_for_function("() => decomp.asked?.[4] === 4")
            page.wait_for_timeout(3000)
            changed = np.abs(self.shown(page).astype(float) - plain).mean(axis=2)
            assert changed.mean() > 1
            assert {path.name for path in files() - before} <= {"edited.png"}  # of the slider in the tab Strengths
            page.locator("#live-stop").click()
            page.wait_for_timeout(1000)
            assert page.evaluate("() => decomp.live.stream") is None and page.errors == []
            browser.close()
            assert "/decomp/" not in server.log.read_text()

            browser = self.browser(p)  # and where there is no camera, one sentence
            page = self.page(browser, server)
            page.locator("#live-start").click()
            page.wait_for_function("() => document.querySelector('#live-says').innerText")
            said = page.locator("#live-says").inner_text()
            assert said.count(".") == 1 and ("No camera was found" in said or "allow it beside the address" in said)
            browser.close()

    def shown(self, page) -> np.ndarray:
        """What the canvas shows."""
        data = page.evaluate(
            """() => { const c = document.querySelector('#live-picture');
            return [c.width, c.height, Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)]; }"""
        )
        return np.array(data[2], np.uint8).reshape(data[1], data[0], 4)[..., :3]


@pytest.mark.slow
def test_what_may_be_sent_to_it(tmp_path, cat):
    """A small JPEG of somebody who is here, and settings that can be; else one sentence, and nothing on disk."""
    frame = io.BytesIO()
    Image.fromarray(cat).resize((320, 240)).save(frame, "JPEG")
    settings = json.dumps(["photo", 1.0, 2.0, *[1.0] * 9])
    with serve(tmp_path / "server") as server:
        config = server.http.get(f"{server.url}/config").json()
        load = next(d["id"] for d in config["dependencies"] if any(t[1] == "load" for t in d["targets"]))

        def come(session):
            body = {"data": [""], "fn_index": load, "session_hash": session}
            assert server.http.post(f"{server.url}/gradio_api/run/predict", json=body).status_code == 200

        def sent(data=None, session="anna", settings=settings, **headers):
            headers |= {"X-Session": session, "X-Settings": settings}
            return server.http.post(f"{server.url}/gradio_api/live", content=data or frame.getvalue(), headers=headers)

        people = [f"visitor {k}" for k in range(4)]
        for name in ("anna", *people):
            come(name)
        files = set(server.folder().rglob("*"))
        answer = sent()
        assert answer.status_code == 200 and answer.headers["content-type"] == "image/jpeg"
        assert answer.headers["permissions-policy"].startswith("camera=(self)")
        with Image.open(io.BytesIO(answer.content)) as image:
            assert image.size == (320, 240)
        big, png = io.BytesIO(), io.BytesIO()
        Image.fromarray(np.zeros((700, 700), np.uint8)).save(big, "JPEG")
        Image.fromarray(cat).save(png, "PNG")
        refused = [
            (sent(session="nobody"), 403, "Your photo is no longer here"),
            (sent(png.getvalue()), 400, "the picture is no JPEG"),
            (sent(frame.getvalue()[:200]), 400, "the camera's picture: "),
            (sent(big.getvalue()), 400, "the camera's picture: "),
            (sent(bytes(2**18 + 1)), 413, "the request is too large"),
            (sent(Origin="http://elsewhere.example"), 403, "a page of another site"),
            (sent(settings="[1"), 400, "the settings are no list"),
            (sent(settings='{"a": 1}'), 400, "0 strengths are given; accepted: 11"),
            (sent(settings="7"), 400, "the settings are no list"),
            (sent(settings=json.dumps(["photo", *[1.0] * 10, 99])), 400, "accepted: a number from -2 to 4"),
            (sent(settings=json.dumps(["x", *[1.0] * 11])), 400, "what to work on is 'x'"),
        ]
        for answer, status, sentence in refused:
            assert (answer.status_code, sentence in answer.text) == (status, True), (sentence, answer.text)
        answers = [sent(session=name) for name in ("anna", *people, "anna")]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 400, 200]
        assert "4 people use the live picture" in answers[4].text  # those who are at it go on
        written = {path for path in set(server.folder().rglob("*")) - files if path.is_file()}
        assert not written

"""The page's tabs Swap and Relief: their arithmetic, their actions, and both in a browser."""

import json
import shutil
import zipfile

import numpy as np
import pytest
import skimage
from PIL import Image

gr = pytest.importorskip("gradio")
pytest.importorskip("trimesh")

from decomp import photos
from decomp.channels import ChannelFacts
from decomp.page import relief, swap
from decomp.page.actions import Actions
from decomp.page.uploads import Upload
from decomp.page.visit import Visit, receive

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "page"))


@pytest.fixture
def model(toy):
    toy.facts = ChannelFacts(roles=tuple({"name": kind, "kind": kind} for kind in ("light", "hue", "contour")))
    return toy


@pytest.fixture
def visit(model, folder) -> Visit:
    return receive(model, "toy", (folder / "cat.png").read_bytes(), "cat.png", "cat", 32, (100, 50, 200))


@pytest.fixture
def giver(folder) -> Upload:
    return Upload((folder / "sub" / "cat.jpg").read_bytes(), "astronaut.jpg")


def test_taken_layers_are_those_of_the_pair(model, visit, giver):
    pair = swap.aligned(model, visit, giver)
    kept = swap.keep_pair(pair)
    expected = pair.swap([1, "residual"], 0.8, 0.3)
    np.testing.assert_allclose(swap.mixed(visit, kept, [1, "residual"], 0.8, 0.3), expected, atol=1e-6)
    assert np.array_equal(swap.mixed(visit, kept, [], 1, 0), visit.own.picture)
    assert "astronaut.jpg: no pair of eyes was found" in swap.told(pair)


@pytest.mark.parametrize(
    "layers, amount, message",
    [
        ([9], 1, "there is no channel 9"),
        ([1], 9, "strength is 9"),
        ([1], None, "strength is empty"),
        ("1", 1, "not a list"),
        ([1, "light"], 1, "each once"),
    ],
)
def test_what_a_visitor_may_send_wrong(model, visit, giver, layers, amount, message):
    kept = swap.keep_pair(swap.aligned(model, visit, giver))
    with pytest.raises(ValueError, match=message):
        swap.mixed(visit, kept, layers, amount, 0)


def test_a_giver_that_has_gone_is_asked_for_again(model, visit, giver):
    kept = swap.keep_pair(swap.aligned(model, visit, giver))
    kept.layers.unlink()
    with pytest.raises(ValueError, match="add it again"):
        swap.mixed(visit, kept, [1], 1, 0)


def test_a_giver_that_is_no_photo(model, visit):
    with pytest.raises(ValueError, match="nonsense.jpg: is not a photo"):
        swap.aligned(model, visit, Upload(b"nonsense", "nonsense.jpg"))


def test_light_is_offered_first_and_the_base_where_no_channel_has_a_kind(toy, visit):
    assert swap.offered(toy) == [1]
    toy.facts = ChannelFacts()
    assert swap.offered(toy) == ["residual"] and relief.light_of(toy) == []


def test_relief_and_its_light(model, visit):
    r, note = relief.made(model, visit, [1], 1.0)
    assert note.startswith("cat.png: no pair of eyes")
    kept = relief.keep(r)
    assert np.allclose(relief.lit(visit, kept, 60, 40, 0), np.clip(visit.own.picture, -1, 1), atol=1e-6)
    left, right = (relief.lit(visit, kept, azimuth, 30, 1) for azimuth in (-90, 90))
    assert (right - left)[:, 20:28].mean() > 0.01 > -0.01 > (right - left)[:, 4:12].mean()
    with pytest.raises(ValueError, match="direction is 1000"):
        relief.lit(visit, kept, 1000, 40, 1)
    kept.arrays.unlink()
    with pytest.raises(ValueError, match="make it again"):
        relief.lit(visit, kept, 60, 40, 1)


def test_files_of_the_relief(model, visit):
    folder = relief.written(visit, relief.made(model, visit, [1, 2], 2.0)[0])
    assert (folder / "relief.glb").read_bytes()[:4] == b"glTF"
    with zipfile.ZipFile(folder / "relief.zip") as file:
        assert {"height.png", "normals.png", "relief.glb", "relief.json", "sheet.png", "turning.webp"} == set(
            file.namelist()
        )


def test_relief_needs_channels(model, visit):
    for channels in ([], None, "1"):
        with pytest.raises(ValueError, match="no channel is chosen"):
            relief.made(model, visit, channels, 1)


def test_actions(model, giver, folder):
    photo = Upload((folder / "cat.jpg").read_bytes(), "cat.jpg")
    actions = Actions({"toy": model})
    path, facts = actions.swap(photo, giver, "light, 3", 0.5, 0.5, domain="cat")
    assert facts["layers"] == [1, 3] and len(facts["notes"]) == 2
    assert photos.load(path).pixels.shape == (300, 451, 3) and path.suffix == ".jpg"
    json.dumps(facts)
    glb, everything = actions.relief(photo, depth=1.5, domain="cat")
    assert glb.suffix == ".glb" and zipfile.is_zipfile(everything)
    with pytest.raises(ValueError, match="carries eyes"):
        actions.swap(photo, giver, "eyes")
    with pytest.raises(ValueError, match="are not channels"):
        actions.relief(photo, "residual")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_in_the_browser(tmp_path):
    """A second photo changes the face, a choice changes it again, it is saved; a relief is made and taken away."""
    from playwright.sync_api import sync_playwright
    from serving import serve

    Image.fromarray(skimage.data.astronaut()[:, ::-1] // 2 + 60).save(tmp_path / "other.png")
    with serve(tmp_path / "server") as server, sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--enable-unsafe-swiftshader"])
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.set_default_timeout(180_000)
        outside, errors = [], []
        own = (server.url, "data:", "blob:")
        page.on("request", lambda r: None if r.url.startswith(own) else outside.append(r.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(server.url)
        page.wait_for_function("() => document.querySelector('#says .says')")
        says = "document.querySelector('#says .says').innerText"
        before = page.evaluate(says)
        page.get_by_role("button", name="Astronaut").click()
        page.wait_for_function(f"before => {says} !== before", arg=before)

        page.get_by_role("tab", name="Swap").click()
        page.set_input_files("#giver input[type=file]", tmp_path / "other.png")
        page.wait_for_selector("#swapped .over")
        address = "() => document.querySelector('#swapped .over').src"
        first = page.evaluate(address)
        page.get_by_label("R, the smooth base: colours of coat and skin").check()
        page.wait_for_function(f"before => ({address})() !== before", arg=first)
        with page.expect_download() as download:
            page.locator("#save-swap").click()
        saved = photos.load(download.value.path())
        assert saved.pixels.shape == (512, 512, 3) and (saved.pixels != skimage.data.astronaut()).any()

        page.get_by_role("tab", name="Relief").click()
        page.locator("#relief-channels input").first.check()
        page.get_by_role("button", name="Make the relief").click()
        page.wait_for_selector("#relit .over")
        page.wait_for_selector("#relief img")
        with page.expect_download() as download:
            page.locator("#relief-files").click()
        assert zipfile.is_zipfile(download.value.path())
        assert outside == [] and errors == []
        browser.close()
        assert "/decomp/" not in server.log.read_text()

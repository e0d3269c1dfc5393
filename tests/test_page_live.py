"""The page as people meet it: `decomp ui` with the bundled models, in headless Chromium and through `gradio_client`.

Needs a Chromium on the machine (`apt-get install chromium`); nothing is downloaded, and no request may leave the
machine.
"""

import base64
import io
import json
import os
import re
import shutil
import time
import urllib.error
import urllib.request

import numpy as np
import pytest
import skimage
from PIL import Image
from serving import serve

from decomp.decomposer import load
from decomp.page.photo import EXAMPLES

gradio_client = pytest.importorskip("gradio_client")
playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]
pytestmark = pytest.mark.slow  # a browser and a server
TABS = ["Strengths", "Channels", "Sweep", "Textures", "Eyes", "Swap", "Relief", "Live", "Export"]
SLOW = 180_000  # milliseconds; a busy machine
# Text with less contrast than 4.5 to what lies behind it (WCAG AA), of what is shown and large enough to be read.
FAINT = """() => {
  const channels = (text) => text.match(/[\\d.]+/g).map(Number);
  const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = (rgb) => [0.2126, 0.7152, 0.0722].reduce((sum, weight, i) => sum + weight * linear(rgb[i] / 255), 0);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const [r, g, b, a = 1] = channels(getComputedStyle(e).backgroundColor);
      if (a > 0.5) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const faint = [];
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    const style = getComputedStyle(e);
    if (!own || !e.offsetParent || style.visibility === 'hidden') continue;
    if (e.closest('[disabled], [aria-disabled=true], footer, .unseen')) continue;
    const [a, b] = [light(channels(style.color)), light(behind(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) faint.push(`${e.textContent.trim().slice(0, 40)}: ${ratio.toFixed(2)}`);
  }
  return faint;
}"""
# Captions and labels whose text does not fit into their box
CLIPPED = """() => [...document.querySelectorAll('figcaption b, figcaption span, .desk label, .tab-container button')]
  .filter(e => e.offsetParent && e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== 'inline')
  .map(e => e.textContent.trim().slice(0, 60))"""


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """The command itself, on a free port."""
    pytest.importorskip("gradio")
    with serve(tmp_path_factory.mktemp("server")) as running:
        yield running.url
        assert "/decomp/" not in running.log.read_text(), running.log.read_text()  # no traceback leads here


@pytest.fixture(scope="module")  # its event loop would be in the way of another module's
def browser():
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


def opened(browser, server, **options):
    """A visitor of their own; `outside` collects what is asked of other machines, `errors` what goes wrong."""
    page = browser.new_context(viewport={"width": 1400, "height": 900}, **options).new_page()
    page.set_default_timeout(SLOW)
    page.outside, page.errors = [], []
    page.on("request", lambda r: None if r.url.startswith((server, "data:", "blob:")) else page.outside.append(r.url))
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.goto(server)
    page.wait_for_selector(".compare .over")
    page.wait_for_function("() => document.querySelector('#says .says')")
    return page


@pytest.fixture(scope="module")
def page(browser, server):
    page = opened(browser, server)
    yield page
    assert page.outside == [] and page.errors == []
    page.context.close()


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """A JPEG with EXIF and a name of its own: the astronaut, mirrored, 1,024 pixels wide."""
    exif = Image.Exif()
    exif[271] = "a camera"
    path = tmp_path_factory.mktemp("photo") / "me & my helmet.jpg"
    Image.fromarray(skimage.data.astronaut()[:, ::-1]).resize((1024, 1024)).save(path, exif=exif, quality=95)
    return path


def tab(page, name):
    page.get_by_role("tab", name=name).click()


def told(page) -> str:
    """What the page says about the photo and its face."""
    return page.locator("#says .says").inner_text()


def told_something_new(page, act) -> str:
    before = told(page)
    act()
    page.wait_for_function("before => document.querySelector('#says .says').innerText !== before", arg=before)
    return told(page)


def new_picture(page, selector, act):
    """An answer that brings another picture; an earlier one may still stand there."""
    before = page.evaluate("selector => document.querySelector(selector)?.src", selector)
    act()
    loaded = "([selector, before]) => (i => i && i.src !== before && i.complete)(document.querySelector(selector))"
    page.wait_for_function(loaded, arg=[selector, before])


def upload(page, path):
    told_something_new(page, lambda: page.set_input_files("#photo input[type=file]", str(path)))


def settled(page) -> str:
    """Address of the edited picture, once no other one comes for a second: a button may move many sliders."""
    last, since = None, time.time()
    while time.time() - since < 1:
        shown = page.locator(".compare .over").evaluate("image => image.src")
        if shown != last:
            last, since = shown, time.time()
        page.wait_for_timeout(100)
    return last


def after(page) -> np.ndarray:
    """The edited picture that the before/after slider shows."""
    return pixels(io.BytesIO(page.request.get(settled(page)).body())).astype(int)


def changed(page, act) -> np.ndarray:
    """Do something and wait until another picture is shown."""
    before = settled(page)
    act()
    page.wait_for_function("before => document.querySelector('.compare .over').src !== before", arg=before)
    return after(page)


def values(page) -> list[float]:
    return [float(v) for v in page.locator(".desk input[type=range]").evaluate_all("all => all.map(s => s.value)")]


def downloaded(page, act):
    with page.expect_download() as download:
        act()
    return download.value.suggested_filename, download.value.path().read_bytes()


@needs_chromium
class TestInTheBrowser:
    def test_an_example_is_there_at_once(self, page):
        assert page.title() == "decomp"
        assert "cat" in told(page)
        tab(page, "Channels")
        assert page.locator("#cards figure").count() == 4 + 9 + 1
        silent = [role for role in load("animals").facts.roles if not role["active"]]
        assert page.locator("#cards .silent").count() == len(silent)

    def test_views_of_the_channels(self, page):
        first = page.locator("#cards figure img").nth(4)
        raw = first.get_attribute("src")
        page.get_by_label("contrast raised").check()
        page.wait_for_function("src => document.querySelectorAll('#cards figure img')[4].src !== src", arg=raw)
        raised = first.get_attribute("src")
        page.get_by_label("at their own contrast").check()
        page.wait_for_function("src => document.querySelectorAll('#cards figure img')[4].src !== src", arg=raised)
        page.wait_for_function(
            "() => [...document.querySelectorAll('#cards img')].every(i => i.complete && i.naturalWidth > 0)"
        )

    def test_sliders(self, page):
        tab(page, "Strengths")
        photo = after(page)
        slider = page.locator("#strength-1 input[type=range]")
        slider.focus()
        moved = changed(page, lambda: [slider.press("ArrowRight") for _ in range(10)])  # by keyboard
        assert values(page)[0] == pytest.approx(1.5) and np.abs(moved - photo).mean() > 1
        assert np.array_equal(changed(page, lambda: page.locator("#reset").click()), photo)
        assert values(page) == [1] * 11

    def test_while_a_slider_is_dragged_the_browser_adds_up(self, page):
        """The server is asked when the slider is let go, and only then; what was shown before was close to it."""
        tab(page, "Strengths")
        photo = after(page)
        track = page.locator("#strength-3 input[type=range]")
        track.scroll_into_view_if_needed()
        box = track.bounding_box()
        asked = []
        page.on("request", lambda request: asked.append(request.url) if request.method == "POST" else None)
        at = lambda part: (box["x"] + part * box["width"], box["y"] + box["height"] / 2)
        page.mouse.move(*at(0.5))
        page.mouse.down()
        for part in np.linspace(0.5, 0.9, 9):
            page.mouse.move(*at(part))
        page.wait_for_function("() => document.querySelector('.compare .over').src.startsWith('data:')")
        page.wait_for_timeout(1500)
        assert asked == []
        preview = page.locator(".compare .over").evaluate("image => image.src")
        page.mouse.up()
        page.wait_for_function("() => !document.querySelector('.compare .over').src.startsWith('data:')")
        exact = after(page)
        assert len(asked) == 1 and values(page)[2] > 2 and np.abs(exact - photo).mean() > 1
        small = pixels(io.BytesIO(base64.b64decode(preview.partition(",")[2]))).astype(float)
        side = len(small)
        half = lambda picture: picture[: 2 * side, : 2 * side].reshape(side, 2, side, 2, 3).mean(axis=(1, 3))
        assert np.abs(small - half(exact)).mean() < min(4, np.abs(small - half(photo)).mean())
        changed(page, page.locator("#reset").click)

    def test_solo_and_mute_toggle(self, page):
        tab(page, "Strengths")
        page.locator("#strength-1 input[type=number]").fill("1.5")
        moved = after(page)
        mute, solo = page.locator("#mute-1"), page.locator("#solo-2")
        muted = changed(page, mute.click)
        assert values(page)[0] == 0 and np.abs(muted - moved).mean() > 1
        assert mute.get_attribute("aria-pressed") == "true"
        assert np.array_equal(changed(page, mute.click), moved)
        assert values(page)[0] == 1.5 and mute.get_attribute("aria-pressed") == "false"
        changed(page, solo.click)
        assert values(page) == [0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0] and solo.get_attribute("aria-pressed") == "true"
        assert np.array_equal(changed(page, solo.click), moved)
        assert values(page) == [1.5] + [1] * 10
        changed(page, page.locator("#reset").click)

    def test_undo_and_redo(self, page):
        tab(page, "Strengths")
        photo = after(page)
        one = changed(page, lambda: page.locator("#strength-4 input[type=number]").fill("2"))
        two = changed(page, lambda: page.locator("#strength-5 input[type=number]").fill("0"))
        assert np.array_equal(changed(page, page.locator("#undo").click), one) and values(page)[4] == 1
        assert np.array_equal(changed(page, page.locator("#undo").click), photo)
        assert np.array_equal(changed(page, page.locator("#redo").click), one)
        assert np.array_equal(changed(page, page.locator("#redo").click), two)
        changed(page, page.locator("#reset").click)
        assert np.array_equal(changed(page, page.locator("#undo").click), two)  # a reset can be undone, too
        changed(page, page.locator("#reset").click)

    def test_the_presets_mark_goes_with_the_preset(self, page):
        tab(page, "Strengths")
        changed(page, page.get_by_label("Under-painting").check)
        assert page.locator("#presets input:checked").count() == 1
        changed(page, lambda: page.locator("#strength-3 input[type=number]").fill("1.25"))
        page.wait_for_function("() => !document.querySelector('#presets input:checked')")
        changed(page, page.get_by_label("Under-painting").check)
        changed(page, page.locator("#reset").click)
        assert page.locator("#presets input:checked").count() == 0

    def test_a_typed_number_that_is_refused(self, page):
        tab(page, "Strengths")
        before = settled(page)
        page.locator("#strength-3 input[type=number]").fill("99")
        page.get_by_text("the strength of channel 3 is 99; accepted: a number from -2 to 4").first.wait_for()
        assert settled(page) == before
        page.locator("#reset").click()
        page.wait_for_timeout(1000)

    def test_a_link_carries_the_settings(self, browser, server, page):
        tab(page, "Strengths")
        edited = changed(page, lambda: page.locator("#strength-3 input[type=number]").fill("2.5"))
        page.wait_for_function("() => location.search.includes('strengths=3:2.5')")
        other = opened(browser, page.url)
        other.wait_for_function("() => document.querySelector('#strength-3 input[type=number]').value === '2.5'")
        assert np.array_equal(after(other), edited)
        label = "#strength-3 label"
        assert other.locator(label).first.inner_text() == page.locator(label).first.inner_text() != "channel 3"
        other.context.close()
        changed(page, page.locator("#reset").click)
        page.wait_for_function("() => !location.search.includes('strengths')")
        bad = opened(browser, server + "/?strengths=3:1e99,x:2,4:2&model=<b>&base=7")
        bad.wait_for_function("() => document.querySelector('#strength-4 input[type=number]').value === '2'")
        assert bad.errors == [] and values(bad)[2] == 1
        bad.context.close()

    def test_a_link_carries_model_size_and_class(self, browser, server):
        page = opened(browser, server + "/?model=animals&size=256&class=dog&as=wild&strengths=3:2")
        page.get_by_text("as you chose").wait_for()
        shown = "() => ({...document.querySelector('.result .compare').dataset})"
        page.wait_for_function(f"() => ({shown})().size === '256'")
        data = page.evaluate(shown)
        assert (data["model"], data["size"], data["class"], data["as"]) == ("animals", "256", "dog", "wild")
        edited = after(page)
        assert values(page)[2] == 2
        told_something_new(page, page.get_by_label("faces: female, male").check)
        link = f"model=faces&size={load('faces').config.size}&strengths=3:2"
        page.wait_for_function("link => location.search.includes(link)", arg=link)
        assert "class=" not in page.url and "as=" not in page.url
        page.context.close()
        again = opened(browser, server + "/?model=animals&size=256&class=dog&as=wild&strengths=3:2")
        again.get_by_text("as you chose").wait_for()
        assert np.array_equal(after(again), edited)
        again.context.close()
        odd = opened(browser, server + "/?model=<b>&size=77&class=cow&as=cow")
        assert odd.errors == [] and "Looks like a cat" in told(odd)
        odd.context.close()

    def test_before_and_after_by_keyboard(self, page):
        tab(page, "Strengths")
        assert all("The face" in alt for alt in page.locator(".compare img").evaluate_all("all => all.map(i => i.alt)"))
        handle = page.locator(".compare input")
        handle.focus()
        clip = "getComputedStyle(document.querySelector('.compare .over')).clipPath"
        middle = page.evaluate(clip)
        handle.press("ArrowRight")
        assert page.evaluate(clip) != middle and page.evaluate("document.activeElement.type") == "range"

    def test_presets_and_the_regenerated_picture(self, page):
        tab(page, "Strengths")
        photo = changed(page, lambda: page.get_by_label("Under-painting").check())
        assert 0 in values(page)
        changed(page, lambda: page.locator("#reset").click())
        regenerated = changed(page, lambda: page.get_by_label("the re-generated picture").first.check())
        assert np.abs(regenerated - photo).mean() > 1
        changed(page, lambda: page.get_by_label("the photo", exact=True).first.check())

    def test_another_class(self, page):
        tab(page, "Strengths")
        photo = after(page)
        page.get_by_text("Another class (an experiment)").click()
        box = page.locator("#classes").get_by_label("All channels")
        box.click()
        wild = changed(page, lambda: page.get_by_role("option", name="wild").click())
        assert np.abs(wild - photo).mean() > 1
        channel = page.locator("#classes").get_by_label("1 ")
        page.wait_for_function("box => box.value === 'wild'", arg=channel.element_handle())
        channel.click()
        mixed = changed(page, lambda: page.get_by_role("option", name="dog").click())
        assert 0 < np.abs(mixed - wild).mean() < np.abs(wild - photo).mean()
        page.wait_for_function("box => box.value === ''", arg=box.element_handle())  # channels differ
        box.click()
        assert np.array_equal(changed(page, lambda: page.get_by_role("option", name="as it is").click()), photo)

    def test_sweep(self, page):
        tab(page, "Sweep")
        page.locator("#sweep").click()
        page.wait_for_selector(".frames figure")
        assert page.locator(".frames figure").count() == 9
        name, data = downloaded(page, lambda: page.get_by_role("button", name="Download the strip").click())
        assert name == "strip.png" and pixels(io.BytesIO(data)).shape[1] > 1500
        name, data = downloaded(page, lambda: page.get_by_role("button", name="Download the animation").click())
        assert name == "animation.webp" and frames(io.BytesIO(data)) == 16

    def test_textures(self, page):
        tab(page, "Textures")
        first = page.locator("#textures img").first
        fine = first.get_attribute("src")
        page.get_by_label("Dark | bright").check()
        page.wait_for_function("src => document.querySelector('#textures img').src !== src", arg=fine)
        assert page.locator("#textures figure").count() == 6
        page.locator("#texture-b input").first.uncheck() if page.locator(
            "#texture-a input"
        ).first.is_checked() else None
        for group in ("#texture-a", "#texture-b"):
            page.locator(f"{group} input").nth(2).check()
        page.get_by_text("is in both groups").wait_for()

    def test_eyes(self, page):
        """Marked, or one sentence that says why not; which of the two is the weights' matter."""
        tab(page, "Eyes")
        page.locator("#find-eyes").click()
        page.wait_for_selector("#eyes-say .says")
        said = page.locator("#eyes-say .says").inner_text()
        if "Two eyes" not in said:
            assert "No pair of eyes" in said or "not calibrated" in said
            return
        assert page.locator("#eye-steps figure").count() == 2
        name, data = downloaded(page, lambda: page.locator("#masks").click())
        assert name == "cat.eyes.zip" and data[:2] == b"PK"

    def test_the_places_of_the_eyes_are_moved(self, page):
        """By the mouse and by the keyboard; each time the outlines are found again from there."""
        tab(page, "Eyes")
        left = page.locator(".places button").first
        anew = lambda act: new_picture(page, ".places img", act)

        def dragged():
            at = left.bounding_box()
            x, y = at["x"] + at["width"] / 2, at["y"] + at["height"] / 2
            page.mouse.move(x, y)
            page.mouse.down()
            page.mouse.move(x + 12, y + 6, steps=4)
            page.mouse.up()

        anew(page.locator("#find-eyes").click)
        anew(dragged)
        before = float(left.get_attribute("data-x"))
        anew(lambda: left.press("ArrowLeft"))
        once = float(left.get_attribute("data-x"))
        page.wait_for_function("() => document.activeElement.matches('.places button')")
        anew(lambda: page.keyboard.press("ArrowLeft"))
        assert float(left.get_attribute("data-x")) < once < before and not page.errors

    def test_take_away(self, page):
        tab(page, "Export")
        page.locator("#make").click()
        page.wait_for_selector("#take", state="visible")
        name, data = downloaded(page, lambda: page.locator("#take").click())
        assert name == "cat.ora" and b"mimetypeimage/openraster" in data[:100]

    def test_the_model_is_picked_by_what_is_found(self, browser, server, tmp_path):
        """Whatever was chosen before; the person sees it, and may change it."""
        page = opened(browser, server)
        for name, model, word in (("astronaut", "faces", "person"), ("cat", "animals", "cat")):
            shutil.copy(EXAMPLES / f"{name}.png", tmp_path / "photo.png")
            upload(page, tmp_path / "photo.png")
            assert re.match(rf"Looks like a {word} \(\d+% sure\), so the model {model} was picked", told(page))
            page.wait_for_function("model => document.querySelector('#model input:checked').value === model", arg=model)
            assert "male" not in told(page)
        said = told_something_new(page, page.get_by_label("faces: female, male").check)
        assert "for which the model animals is made; you chose faces" in said
        gradient = np.tile(np.linspace(0, 255, 300, dtype=np.uint8)[:, None], (1, 300))
        Image.fromarray(gradient).save(tmp_path / "grey.png")
        upload(page, tmp_path / "grey.png")
        assert "no class is sure; choose the model and the class yourself" in told(page)
        page.context.close()

    def test_upload_and_the_edit_in_the_whole_photo(self, page, photo, tmp_path):
        told_something_new(page, page.get_by_label("faces: female, male").check)
        upload(page, photo)
        assert "found by the face detector" in told(page)
        assert "1024 x 1024" in told(page)
        tab(page, "Strengths")
        assert values(page) == [1] * 11
        slider = page.locator("#strength-4 input[type=range]")
        slider.focus()
        changed(page, lambda: [slider.press("ArrowRight") for _ in range(10)])
        name, data = downloaded(page, page.locator("#save").click)
        assert name == "me & my helmet.edited.jpg"
        with Image.open(io.BytesIO(data)) as image:
            assert image.size == (1024, 1024) and image.getexif()[271] == "a camera"
        tab(page, "Export")
        assert downloaded(page, page.locator("#save-here").click) == (name, data)
        tab(page, "Strengths")
        kept = values(page)  # the strengths stay for the next photo
        under = page.evaluate("document.querySelector('.compare .under').src")
        told_something_new(page, page.get_by_role("button", name="Astronaut").click)
        page.wait_for_function("old => document.querySelector('.compare .under').src !== old", arg=under)
        assert values(page) == kept
        photo_of_it = changed(page, page.locator("#reset").click)
        assert np.abs(photo_of_it - after(page)).max() == 0
        upload(page, photo)

    def test_the_square_is_moved_by_a_click_and_by_sliders(self, page):
        page.locator("#scene img").click(position={"x": 60, "y": 60})
        page.get_by_text("where you put it").wait_for()
        page.get_by_text("Class, size, square").click()
        page.get_by_label("range slider for Side").fill("50")
        use = page.get_by_role("button", name="Use this square")
        assert "512 of 1024" in told_something_new(page, use.click)
        page.get_by_role("button", name="Find the face again").click()
        page.get_by_text("found by the face detector").wait_for()

    def test_a_file_that_is_no_photo(self, page, tmp_path):
        bad = tmp_path / "<b>notes.jpg"
        bad.write_text("this is not a photo")
        settled(page)
        picture = after(page)
        reason = told_something_new(page, lambda: page.set_input_files("#photo input[type=file]", str(bad)))
        assert "is not a photo; accepted: JPEG, PNG" in reason and len(reason) < 250
        page.wait_for_timeout(6000)  # longer than a toast
        assert told(page) == reason and np.array_equal(after(page), picture)
        assert page.locator("#photo img").count() == 0  # no broken picture, but the place for another photo
        broken = "() => [...document.querySelectorAll('img')].filter(i => i.complete && !i.naturalWidth).length"
        assert page.evaluate(broken) == 0

    def test_a_file_that_is_too_large(self, page, tmp_path):
        huge = tmp_path / "huge.jpg"
        huge.write_bytes(bytes(26 * 2**20))
        page.set_input_files("#photo input[type=file]", str(huge))
        page.get_by_text(re.compile("exceed the maximum allowed size")).first.wait_for()

    def test_the_webcam(self, browser, server):
        page = opened(browser, server, permissions=["camera"])
        page.get_by_label("Capture from camera").click()
        page.get_by_text("Click to Access Webcam").click()
        # a photo taken before the first picture has come is empty, and nothing happens
        page.wait_for_function("[...document.querySelectorAll('video')].some(v => v.videoWidth && v.currentTime > 0.5)")
        told_something_new(page, page.get_by_label("capture photo").click)
        page.context.close()

    def test_two_people_do_not_see_each_other(self, browser, server, photo):
        anna, ben = opened(browser, server), opened(browser, server)
        for page in (anna, ben):
            tab(page, "Channels")
        cat = ben.locator("#cards").inner_html()
        upload(anna, photo)
        anna.wait_for_function("cat => document.querySelector('#cards').innerHTML !== cat", arg=cat)
        ben.wait_for_timeout(1500)
        assert ben.locator("#cards").inner_html() == cat
        tab(ben, "Strengths")
        ben.get_by_role("button", name="Mute 1", exact=True).click()
        ben.wait_for_timeout(1500)
        assert "me & my helmet" not in ben.content()
        assert downloaded(ben, ben.locator("#save").click)[0] == "cat.edited.png"
        assert anna.outside == ben.outside == []
        for page in (anna, ben):
            page.context.close()

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    @pytest.mark.parametrize("width", [1280, 768, 390])
    def test_at_every_width(self, browser, server, scheme, width):
        phone = {"has_touch": True, "is_mobile": True} if width == 390 else {}
        page = opened(browser, server, color_scheme=scheme, **phone)
        page.set_viewport_size({"width": width, "height": 844})
        assert page.evaluate("() => document.body.classList.contains('dark')") == (scheme == "dark")
        for name in TABS:
            assert page.get_by_role("tab", name=name).is_visible()
            tab(page, name)
            page.wait_for_timeout(300)
            assert page.evaluate("() => document.documentElement.scrollWidth") <= width, name
            assert page.evaluate(FAINT) == [], name
            assert page.evaluate(CLIPPED) == [], name
        tab(page, "Strengths")
        for k in (1, 6, 9):
            page.locator(f"#strength-{k}").scroll_into_view_if_needed()
            page.wait_for_timeout(300)
            box = page.locator(".compare").bounding_box()
            assert (
                box["y"] > -2 and box["y"] + box["height"] <= 844
            )  # the picture stays in sight while the sliders move
            assert box["height"] > 200
        page.context.close()

    def test_everything_has_a_name(self, page):
        """Each control can be told apart by a screen reader, and each picture says what it is."""
        unnamed = page.evaluate("""() => [...document.querySelectorAll('input, button, select, textarea')].filter(e => {
            if (e.offsetParent === null || e.type === 'file' || e.type === 'hidden') return false;
            const labelled = e.getAttribute('aria-label') || e.title || e.innerText || e.getAttribute('placeholder')
                || e.querySelector('img[alt]')?.alt
                || (e.labels && e.labels.length && e.labels[0].innerText) || e.closest('label')?.innerText;
            return !labelled?.trim();
        }).map(e => e.outerHTML.slice(0, 200))""")
        assert unnamed == []
        assert page.evaluate("() => [...document.querySelectorAll('.figures img')].every(i => i.alt)")


def pixels(file) -> np.ndarray:
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


def frames(file) -> int:
    with Image.open(file) as image:
        return image.n_frames


def request(url, body=None):
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, {"Content-Type": "application/json"})) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@pytest.fixture(scope="module")
def client(server, tmp_path_factory):
    return gradio_client.Client(server, verbose=False, download_files=tmp_path_factory.mktemp("answers"))


@pytest.fixture(scope="module")
def cat_photo(folder):
    return gradio_client.handle_file(folder / "cat.png")


class TestThroughTheApi:
    def test_the_actions_are_documented(self, client):
        api = client.view_api(return_format="dict")["named_endpoints"]
        actions = (
            "decompose",
            "recompose",
            "sweep_channel",
            "separate",
            "eyes",
            "swap",
            "relief",
            "take_away",
            "models",
        )
        assert set(api) == {f"/{name}" for name in actions}
        assert [p["parameter_name"] for p in api["/recompose"]["parameters"]][:4] == [
            "photo",
            "strengths",
            "base",
            "target",
        ]

    def test_models(self, client):
        models = client.predict(api_name="/models")
        assert models["animals"]["classes"] == ["cat", "dog", "wild"] and len(models["faces"]["channels"]) == 9

    def test_decompose(self, client, cat_photo):
        sheet, facts = client.predict(cat_photo, api_name="/decompose")
        assert facts["domain"] == "cat" and len(facts["channels"]) == 9
        assert pixels(sheet).shape[1] > 1000

    def test_recompose(self, client, cat_photo, folder):
        original = pixels(folder / "cat.png")
        assert np.array_equal(pixels(client.predict(cat_photo, api_name="/recompose")), original)
        edited = client.predict(
            cat_photo, "1=2, residual=0.9", target="4=dog, 5=wild", box="100,50,200", api_name="/recompose"
        )
        changed = (pixels(edited) != original).any(axis=2)
        assert changed[60:240, 110:290].mean() > 0.9 and not changed[:, :100].any()

    def test_sweep_and_separate_and_take_away(self, client, cat_photo):
        _, moving = client.predict(cat_photo, "4", steps=3, api_name="/sweep_channel")
        assert frames(moving) == 4
        assert len(client.predict(cat_photo, "1,2", "4", api_name="/separate")) == 6
        with np.load(client.predict(cat_photo, "npz", size=64, api_name="/take_away")) as arrays:
            assert arrays["channels"].shape == (9, 64, 64, 3)

    @pytest.mark.parametrize(
        "arguments, message",
        [
            ({"model": "mammals"}, "there is no model 'mammals' here; accepted: auto, animals, asked, faces"),
            ({"domain": "cow"}, "there is no class 'cow' in this model; accepted: cat, dog, wild"),
            ({"size": 9999}, "size is 9999; accepted: a number from 8 to 512"),
            ({"box": "1,2"}, "'1,2' is not LEFT,TOP,SIDE"),
            ({"box": "0,0,9999"}, "inside the photo of 451 x 300"),
        ],
    )
    def test_a_wrong_call(self, client, cat_photo, arguments, message):
        with pytest.raises(Exception, match=re.escape(message)):
            client.predict(cat_photo, **arguments, api_name="/decompose")

    def test_nothing_outside_the_uploads_can_be_read(self, server):
        for path in ("/etc/passwd", __file__, os.path.join(os.path.dirname(__file__), "..", "pyproject.toml")):
            assert request(f"{server}/gradio_api/file={path}")[0] in (403, 404)
            photo = {"path": path, "meta": {"_type": "gradio.FileData"}}
            status, answer = request(f"{server}/gradio_api/call/decompose", {"data": [photo, "animals", "auto", 0, ""]})
            if status == 200:
                answer = request(f"{server}/gradio_api/call/decompose/{json.loads(answer)['event_id']}")[1]
            assert b"error" in answer and b"root:" not in answer and b"complete" not in answer

    def test_events_of_the_page_are_no_endpoints(self, server):
        info = json.loads(request(f"{server}/gradio_api/info")[1])
        assert len(info["named_endpoints"]) == 9 and info["unnamed_endpoints"] == {}

"""The page's own arithmetic, without a server and without a browser."""

import asyncio
import shutil
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

gr = pytest.importorskip("gradio")

from decomp import photos, presets
from decomp.channels import ChannelFacts
from decomp.cli import app
from decomp.decomposer import Decomposer, cached
from decomp.faces import Box
from decomp.page import Page, channels, eyes, takeaway, textures, uploads
from decomp.page.photo import EXAMPLES, Column, taken_for
from decomp.page.pictures import outlined
from decomp.page.strengths import Mixer, pasted
from decomp.page.sweep import swept
from decomp.page.values import number, pairs, size_of, whole
from decomp.page.visit import Visit, box_in_percent, centred_box, receive, turn
from decomp.page.visits import Visits
from decomp.weights import bundled


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "page"))


@pytest.fixture
def visit(toy, folder) -> Visit:
    return receive(toy, "toy", (folder / "cat.png").read_bytes(), "cat.png", "cat", 32, (100, 50, 200))


def in_a_page(build):
    """A part of the page, made while an event loop runs: elsewhere Gradio opens one that nobody closes."""

    async def inside():
        with gr.Blocks():
            return build()

    return asyncio.run(inside())


@pytest.fixture
def column(toy, config, tmp_path):
    """The photo's column over two models, and what their classifiers shall say; a photo is uploaded to it."""

    def upload(of_animals, of_faces, chosen="animals"):
        toy.classifier.recognition, faces.classifier.recognition = Known(*of_animals), Known(*of_faces)
        file = tmp_path / "page" / ("a" * 64) / "me<b>.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(EXAMPLES / "cat.png", file)
        visit = column.upload(chosen, 32, uploads.photo({"path": str(file)}))
        return visit, taken_for(visit, models[visit.model])

    faces = Decomposer(replace(config, domains=("female", "male"), face=("human", "human")))
    models = {"animals": toy, "faces": faces}
    (tmp_path / "page").mkdir()
    column = in_a_page(lambda: Column(Page(models, Visits(tmp_path / "page"))))
    column.receive = upload
    return column


class Known:
    """Says the same of every photo."""

    def __init__(self, *probabilities):
        self.outcomes = torch.tensor(probabilities)

    def __call__(self, features):
        return self.outcomes.expand(len(features), -1)


def test_the_model_is_picked_by_what_is_found(column):
    visit, sentence = column.receive((0.9, 0.05, 0.05), (0.1, 0.1, 0.8), chosen="faces")
    assert visit.model == "animals" and "<b>cat</b> (90% sure), so the model <b>animals</b> was picked" in sentence
    visit, sentence = column.receive((0.1, 0.1, 0.8), (0.3, 0.6, 0.1))
    assert visit.model == "faces" and "<b>person</b> (90% sure), so the model <b>faces</b> was picked" in sentence
    assert "male" not in sentence
    changed = column.change_model(visit, "animals")  # the person knows better, and nothing is found anew
    assert taken_for(changed, column.page.models["animals"]).endswith("model faces is made; you chose animals.")
    own = column.change_options(visit, "faces", "female", 32)
    assert taken_for(own, column.page.models["faces"]) == "Class <b>female</b>, as you chose."


@pytest.mark.parametrize("animals, faces", [((0.5, 0.2, 0.3), (0.3, 0.3, 0.4)), ((0.9, 0.0, 0.1), (0.4, 0.5, 0.1))])
def test_nothing_is_stated_that_is_not_sure(column, animals, faces):
    """Also where both models are sure; the choice is offered, and the model stays as it was."""
    visit, sentence = column.receive(animals, faces, chosen="faces")
    assert visit.model == "faces" and "choose the model and the class yourself" in sentence and "%" not in sentence
    assert "me&lt;b&gt;" in sentence and "male" not in sentence


def test_no_list_tells_what_a_person_was_taken_for(column):
    visit, _ = column.receive((0.1, 0.1, 0.8), (0.3, 0.6, 0.1))
    mixer = in_a_page(lambda: Mixer(column.page))
    assert mixer.refresh(visit)[mixer.everything]["choices"] == ["as it is", "female", "male"]


def test_all_strengths_at_one_show_the_photo(visit):
    assert np.array_equal(visit.show(visit.recompose({1: 1.0}, "photo"), "photo"), visit.view)
    assert visit.view.shape == (200, 200, 3)  # the face in its own pixels, though 32 x 32 were decomposed


def test_an_edit_keeps_the_fine_detail(visit):
    edited = visit.recompose({1: 1.5}, "photo")
    change = visit.show(edited, "photo").astype(float) - visit.view
    assert 0.5 < np.abs(change).mean() < 60
    coarse = lambda a: a.reshape(25, 8, 25, 8, 3).mean(axis=(1, 3), keepdims=True)
    fine = lambda a: a - np.broadcast_to(coarse(a), (25, 8, 25, 8, 3)).reshape(a.shape)
    assert np.corrcoef(fine(visit.view + change).ravel(), fine(visit.view.astype(float)).ravel())[0, 1] > 0.5


@pytest.mark.parametrize("base", ["photo", "regenerated"])
def test_the_parts_for_the_browser_add_up_to_the_picture(visit, toy, base):
    """At half its size, also with another class; as page.js adds them up."""
    for shown in (visit, turn(visit, toy, ["cat", "dog", "cat"])):
        tiles, scales = shown.parts()
        assert tiles.shape == (3 + 3, 100, 100, 3) and len(scales) == 6
        layers = (tiles[1:].astype(float) - 127.5) * np.array(scales[1:])[:, None, None, None]
        strengths = {"residual": 0.9, 1: 1.3, 2: 0.6, 3: 0.0} | ({"unexplained": 0.5} if base == "photo" else {})
        weights = np.array([0.9, 1.3, 0.6, 0, 0.5 if base == "photo" else 0.0])
        start = tiles[0] if base == "photo" else 127.5
        weights -= base == "photo"
        added = np.clip(start + np.tensordot(weights, layers, 1), 0, 255)
        exact = shown.show(shown.recompose(strengths, base), base)
        half = exact.reshape(100, 2, 100, 2, 3).mean(axis=(1, 3))
        assert np.abs(half - exact[::2, ::2]).mean() > 0.1 and np.abs(added - half).mean() < 2


def test_pasted_at_one_is_the_photo_bit_for_bit(visit, folder):
    path, _ = pasted(visit, visit.recompose({}, "photo"), None)
    assert path.name == "cat.edited.png"
    assert np.array_equal(photos.load(path).pixels, photos.load(folder / "cat.png").pixels)


def test_pasted_keeps_format_and_exif(toy, cat, tmp_path):
    exif = Image.Exif()
    exif[271] = "a camera"
    Image.fromarray(cat).save(tmp_path / "a.jpg", exif=exif)
    visit = receive(toy, "toy", (tmp_path / "a.jpg").read_bytes(), "a.jpg", "cat", 32)
    for suffix, name in ((None, "a.edited.jpg"), (".tif", "a.edited.tif")):
        path, _ = pasted(visit, visit.recompose({2: 0}, "photo"), suffix)
        assert path.name == name
        with Image.open(path) as image:
            assert image.getexif()[271] == "a camera"


def test_another_class_keeps_what_is_unexplained(visit, toy):
    assert turn(visit, toy, ["cat"] * 3).turned is visit.own
    turned = turn(visit, toy, ["cat", "dog", "cat"])
    change = turned.turned.channels - visit.own.channels
    assert np.abs(change[1]).max() > 1e-3 and np.abs(change[[0, 2]]).max() < 1e-5
    assert np.allclose(turned.recompose({}, "photo"), visit.own.picture + change[1], atol=1e-5)
    assert np.allclose(turned.turned.unexplained, visit.own.unexplained, atol=1e-5)
    assert not np.array_equal(turned.show(turned.recompose({}, "photo"), "photo"), visit.view)


def test_the_square_by_hand(visit):
    assert centred_box(visit, *box_in_percent(visit)) == (100, 50, 200)
    width, height = visit.size
    for percent in ((0, 0, 100), (100, 100, 5), (50, 0, 50), (0, 100, 0)):
        left, top, side = centred_box(visit, *percent)
        assert left >= 0 and top >= 0 and left + side <= width and top + side <= height and side >= 16
    drawn = outlined(visit.scene, 100 / width, 50 / width, 200 / width)
    assert np.array_equal(drawn[100:200, 150:250], visit.scene[100:200, 150:250])
    assert drawn[:40].mean() < 0.6 * visit.scene[:40].mean()


def test_a_visit_is_small(visit):
    layers = visit.own.channels.nbytes + visit.own.picture.nbytes + visit.own.residual.nbytes
    assert visit.own.photo is None and visit.turned is visit.own
    assert layers == 11 // 2 * 32 * 32 * 3 * 4


def test_sweep_is_recompose(visit):
    shown, values, strip, moving = swept(visit, 2, -1, 3, 5, "photo")
    assert values == [-1, 0, 1, 2, 3]
    assert np.array_equal(shown[2], visit.view) and np.array_equal(
        shown[3], visit.show(visit.recompose({2: 2}, "photo"), "photo")
    )
    with Image.open(moving) as image:
        assert image.n_frames == 8  # there and back again
    with Image.open(strip) as image:
        assert image.width > 5 * 100


def test_textures_add_up(visit):
    shown = textures.separated(visit, [1], [2, 3])
    a, b, both = (shown[name].astype(float) for name in ("first texture", "second texture", "their sum"))
    unclipped = np.all([(p > 0) & (p < 255) for p in (a, b, both)], axis=0)
    assert unclipped.mean() > 0.5 and np.abs(a + b - 127.5 - both)[unclipped].max() <= 1.5
    assert np.array_equal(
        shown["photo without both"], visit.show(visit.recompose({1: 0, 2: 0, 3: 0}, "photo"), "photo")
    )
    assert "in both groups" in textures.cards(visit, [1, 2], [2])
    assert "at least one channel" in textures.cards(visit, [], [2])


def test_cards_name_every_layer_and_escape(visit):
    hostile = replace(visit, own=replace(visit.own, names=("<script>x</script>", "b", "c")))
    for view in ("raised", "raw", "added"):
        cards = channels.channel_cards(hostile, view)
        assert cards.count("<figure") == 4 + 3 + 1
        assert "<script" not in cards and "&lt;script&gt;" in cards
        assert cards.count(" times") == (2 + 3 if view == "raised" else 2)


@pytest.mark.parametrize("kind", ["ora", "zip", "tif16", "tif", "npz"])
def test_take_away(visit, kind):
    path = takeaway.write(visit, kind)
    assert path.suffix == f".{kind.removesuffix('16')}" and path.stat().st_size > 1000
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_16_bit_layers_open_in_pillow_and_add_up(visit):
    with Image.open(takeaway.write(visit, "tif16")) as image:
        assert image.n_frames == 1 + 1 + 3 + 1
        pages = []
        for page in range(image.n_frames):
            image.seek(page)
            pages.append(np.asarray(image.convert("RGB")).astype(float) / 127.5 - 1)
    photo, layers = pages[0], pages[1:]
    inside = np.all([np.abs(page) < 0.95 for page in pages], axis=0)
    assert inside.mean() > 0.3 and np.abs(sum(layers) - photo)[inside].max() < 0.06


def test_take_away_of_an_unknown_kind(visit):
    with pytest.raises(ValueError, match="kind of file is 'exe'; accepted: ora, zip, tif16, tif, npz"):
        takeaway.write(visit, "exe")


def test_places_of_eyes_that_a_person_moved():
    box = Box(100, 50, 200, "given")
    assert np.allclose(eyes.placed("0.75,0.5,0.25,0.4", box), [[150, 130], [250, 150]])
    for places, says in {
        "0.2,0.5,2,0.5": "a place is '2'; accepted: a number from 0 to 1",
        "0.2,0.5,0.8": "places has 3 numbers; accepted: x and y of two places",
        "0.2,0.5,0.21,0.5": "both places are at the same eye",
        "nan,0,0,0": "a place is 'nan'",
        None: "places has 0 numbers",
    }.items():
        with pytest.raises(ValueError, match=says):
            eyes.placed(places, box)


def with_roles(model, roles) -> SimpleNamespace:
    """What the presets look at, with other roles."""
    return SimpleNamespace(config=model.config, facts=ChannelFacts(roles=tuple(roles)))


def test_presets_follow_the_roles_and_not_the_numbers():
    """The same channels in another order give the same presets, renumbered."""
    for name in bundled():
        model = cached(name)
        order = [3, 8, 0, 5, 1, 7, 2, 6, 4]
        moved = with_roles(model, [model.facts.roles[k] for k in order])
        number = {old + 1: new for new, old in enumerate(order, start=1)}
        expected = {
            p: {number.get(k, k): s for k, s in values.items()} for p, values in presets.strengths(model).items()
        }
        assert presets.strengths(moved) == expected and len(expected) >= 8
        groups = {
            p: tuple(sorted(number[k] for k in group) for group in pair) for p, pair in presets.textures(model).items()
        }
        assert presets.textures(moved) == groups


def test_presets_are_offered_only_where_they_mean_something(faces):
    unmeasured = with_roles(faces, [])
    assert presets.strengths(unmeasured) == {} and presets.textures(unmeasured) == {}
    assert "Softer skin" in presets.strengths(faces) and "Softer fur" not in presets.strengths(faces)
    grey = with_roles(faces, [role | {"lightness": 1.0} for role in faces.facts.roles])
    assert "More colour" not in presets.strengths(grey)


def test_presets_are_strengths_that_recompose_takes(animals, cat):
    d = animals.decompose(cat)
    for values in presets.strengths(animals).values():
        assert np.isfinite(d.recompose(values)).all()


def test_one_sentence_for_what_a_visitor_may_do_wrong():
    def refuse(visit):
        raise photos.PhotoError("a<b>.jpg: is not a photo")

    with pytest.raises(gr.Error) as caught:
        Page.plainly(refuse)("a visit")
    assert caught.value.message == "a&lt;b&gt;.jpg: is not a photo" and not caught.value.print_exception
    assert Page.plainly(refuse, lambda reason: reason.upper())("a visit") == "A<B>.JPG: IS NOT A PHOTO"


def test_what_people_type():
    assert number("2.5", "x", 0, 4) == 2.5 and whole(3.0, "x", 0, 4) == 3 and whole("3", "x", 0, 4) == 3
    for value in (None, "", "x", 5, -1, "nan", "inf", 1e400, True, [1], {}, 10**400):
        with pytest.raises(ValueError, match="^x is .*; accepted: a number from 0 to 4$"):
            number(value, "x", 0, 4)
    with pytest.raises(ValueError, match="a whole number from 0 to 4"):
        whole(2.5, "x", 0, 4)
    assert pairs("3=2, residual = 0.5", "x") == {"3": "2", "residual": "0.5"} and pairs("dog", "x") == {"": "dog"}
    for value in ("3=1,3=2", ["3=1"], {"3": 1}, True):
        with pytest.raises(ValueError, match="^x "):
            pairs(value, "x")


@pytest.mark.parametrize(
    "count, text", [(1, "1 bytes"), (999, "999 bytes"), (38_400, "38 kB"), (999_499, "999 kB"), (1_240_000, "1.2 MB")]
)
def test_sizes_as_people_read_them(tmp_path, count, text):
    with open(tmp_path / "file", "wb") as file:
        file.truncate(count)
    assert size_of(tmp_path / "file") == text


@pytest.mark.parametrize(
    "name, kept",
    [
        ("cat.png", "cat.png"),
        ("/etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("..", "photo"),
        ("", "photo"),
        ("a\nb\0.png", "ab.png"),
        ("x" * 300 + ".jpeg", "x" * 74 + ".jpeg"),
        (None, "None"),
    ],
)
def test_names_of_uploads(name, kept):
    assert uploads.file_name(name) == kept


def test_without_gradio_one_sentence(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("decomp.page")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "gradio", None)
    result = CliRunner().invoke(app, ["ui"])
    assert result.exit_code == 2 and "pip install 'decomp[ui]'" in result.output


def test_a_model_that_does_not_exist():
    result = CliRunner().invoke(app, ["ui", "--model", "mammals"])
    assert result.exit_code == 2 and "there is no model 'mammals'" in result.output

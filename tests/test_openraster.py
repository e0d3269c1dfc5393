"""The layered file, composited back by the rules of the format."""

import io
import zipfile
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from decomp.openraster import write_openraster


@pytest.fixture
def d(toy, cat):
    return toy.decompose(cat, domain="cat", box=(120, 40, 200))


def composite(path, without=()) -> np.ndarray:
    """What a program shows: layers from the last to the first, 8 bits, clipped after each."""
    with zipfile.ZipFile(path) as file:
        image = ElementTree.fromstring(file.read("stack.xml"))
        result = np.zeros((int(image.get("h")), int(image.get("w")), 3), np.int16)
        for layer in reversed(image.find("stack")):
            if layer.get("name").startswith(without):
                continue
            pixels = np.asarray(Image.open(io.BytesIO(file.read(layer.get("src"))))).astype(np.int16)
            x, y = int(layer.get("x")), int(layer.get("y"))
            below = result[y : y + pixels.shape[0], x : x + pixels.shape[1]]
            below[:] = {
                "svg:src-over": pixels,
                "svg:plus": np.minimum(below + pixels, 255),
                "svg:difference": np.abs(below - pixels),
            }[layer.get("composite-op")]
    return result


def test_the_stack_is_the_photo(d, cat, tmp_path):
    write_openraster(d, tmp_path / "a.ora")
    assert np.array_equal(composite(tmp_path / "a.ora"), cat)


def test_without_its_photo_the_stack_is_the_square(d, tmp_path):
    write_openraster(replace(d, photo=None), tmp_path / "a.ora")
    assert composite(tmp_path / "a.ora").shape == (32, 32, 3)
    assert np.abs(composite(tmp_path / "a.ora") - (d.picture + 1) * 127.5).max() <= 0.51


def test_hiding_a_channel_is_strength_zero(d, cat, tmp_path):
    """Away from the rim and from clipping the layers are the channel itself, rounded."""
    mild = replace(d, channels=d.channels * 0.05)
    write_openraster(mild, tmp_path / "a.ora")
    hidden = composite(tmp_path / "a.ora", without="2 ").astype(float)
    expected = mild.paste(mild.recompose({2: 0})).pixels.astype(float)
    inside = slice(70, 210), slice(150, 290)
    change = expected[inside] - cat[inside]
    assert np.abs(change).max() > 3
    assert np.abs(hidden[inside] - expected[inside]).max() <= 2.5
    outside = np.ones(cat.shape[:2], bool)
    outside[40:240, 120:320] = False
    assert np.array_equal(hidden[outside], cat[outside])


def test_a_large_photo_is_reduced(toy, cat, tmp_path):
    d = toy.decompose(np.kron(cat, np.ones((4, 4, 1), np.uint8)), domain="cat", box=(1, 3, 1196))
    write_openraster(d, tmp_path / "a.ora", longest=500)
    with zipfile.ZipFile(tmp_path / "a.ora") as file:
        merged = np.asarray(Image.open(io.BytesIO(file.read("mergedimage.png"))))
    assert merged.shape == (333, 500, 3)
    assert np.array_equal(composite(tmp_path / "a.ora"), merged)


def test_the_file_is_laid_out_as_the_format_says(d, tmp_path):
    write_openraster(replace(d, names=("a", "<b> & \x00", "c")), tmp_path / "a.ora")
    with zipfile.ZipFile(tmp_path / "a.ora") as file:
        first = file.infolist()[0]
        assert first.filename == "mimetype" and first.compress_type == zipfile.ZIP_STORED
        assert file.read("mimetype") == b"image/openraster"
        assert max(Image.open(io.BytesIO(file.read("Thumbnails/thumbnail.png"))).size) <= 256
        names = [layer.get("name") for layer in ElementTree.fromstring(file.read("stack.xml")).find("stack")]
    assert names[-1] == "photo"
    assert "2 <b> & ? +" in names and names[0].startswith("unexplained")
    assert not list(tmp_path.glob(".*"))


def test_sixteen_bits_and_a_photo_that_is_all_face(toy, cat, tmp_path):
    square = cat[:, 75:375].astype(np.uint16) * 257
    write_openraster(toy.decompose(square, domain="cat"), tmp_path / "a.ora")
    assert np.array_equal(composite(tmp_path / "a.ora"), cat[:, 75:375])
